"""Gradients with and without CUDA graphs; a stand-in records and repeats where there is no GPU."""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from seaice_lab.cuda_graphs import WARM_UPS, with_gradients

X = torch.tensor([1.0, 2.0, 3.0])


def power_loss(parameter):
    def losses(batch, form):
        return {"loss": (batch[0] * parameter ** (form + 1)).sum(), "size": batch[0].sum()}

    return losses


@pytest.mark.parametrize(("device", "world"), [("cpu", 1), ("cuda", 2)])
def test_without_a_gpu_of_its_own_every_call_computes_losses_and_gradient(device, world):
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    process = SimpleNamespace(device=torch.device(device), world=world)
    gradients = with_gradients(power_loss(parameter), [parameter], process, range(2))
    for form, expected in ((0, 6.0), (1, 24.0)):
        parameter.grad = None
        values = gradients((X,), form)
        assert values["loss"].item() == 6 * 2 ** (form + 1) and values["size"].item() == 6
        assert not values["loss"].requires_grad and parameter.grad.item() == expected


def test_a_graph_is_recorded_once_for_each_form_and_reads_each_new_batch(monkeypatch):
    """The stand-in of a graph repeats the recorded work on the tensors of the recording."""
    parameter, calls = torch.nn.Parameter(torch.tensor(2.0)), []
    recordings = []

    class Graph:
        def replay(self):
            recordings.append(self)
            fixed, value, grad = self.tensors
            value.copy_((fixed * parameter.detach()).sum())
            grad.copy_(fixed.sum())

    @contextmanager
    def graph(new, **options):
        assert options["capture_error_mode"] == "thread_local"
        yield
        new.tensors = calls[-1][1], calls[-1][2]["loss"], parameter.grad

    def losses(batch, form):
        values = {"loss": (batch[0] * parameter).sum()}
        calls.append((form, batch[0], values))
        return values

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": nullcontext,
        "graph_pool_handle": tuple,
        "CUDAGraph": Graph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch, "empty_like", lambda x, device: torch.full_like(x, torch.nan))

    process = SimpleNamespace(device=torch.device("cuda"), world=1)
    gradients = with_gradients(losses, [parameter], process, range(2))
    forms = [0] * WARM_UPS + [1] * WARM_UPS + [0, 1, 0, 0, 1]
    results = []
    for number, form in enumerate(forms):
        values = gradients((X + number,), form)
        results.append(values["loss"])
        assert parameter.grad.item() == 6 + 3 * number
        parameter.grad = None
        with torch.no_grad():
            parameter += 1
    # Values of earlier steps stay as they were.
    assert [v.item() for v in results] == [(2 + n) * (6 + 3 * n) for n in range(len(forms))]
    assert len(calls) == 2 * WARM_UPS + 2 and len(recordings) == 5
    assert len({id(each) for each in recordings}) == 2
