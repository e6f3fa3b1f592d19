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


@pytest.fixture
def stand_in(monkeypatch):
    """What a graph's stand-in shares with its test: the calls of ``losses`` and the replays.

    It repeats the recorded work on the tensors of the recording. While ``short`` is set, the memory
    of the device is too small for a recording.
    """
    shared = SimpleNamespace(calls=[], replays=[], short=False)
    shared.parameter = torch.nn.Parameter(torch.tensor(2.0))

    class Graph:
        def replay(self):
            shared.replays.append(self)
            fixed, value, grad = self.tensors
            value.copy_((fixed * shared.parameter.detach()).sum())
            grad.copy_(fixed.sum())

    @contextmanager
    def graph(new, **options):
        assert options["capture_error_mode"] == "thread_local"
        yield
        if shared.short:
            raise torch.OutOfMemoryError("CUDA out of memory")
        new.tensors = shared.calls[-1][1], shared.calls[-1][2]["loss"], shared.parameter.grad

    def losses(batch, form):
        values = {"loss": (batch[0] * shared.parameter).sum()}
        shared.calls.append((form, batch[0], values))
        return values

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, replacement in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": nullcontext,
        "graph_pool_handle": tuple,
        "CUDAGraph": Graph,
        "graph": graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    monkeypatch.setattr(torch, "empty_like", lambda x, device: torch.full_like(x, torch.nan))
    shared.process = SimpleNamespace(device=torch.device("cuda"), world=1)
    shared.losses = losses
    return shared


def test_a_graph_is_recorded_once_for_each_form_and_reads_each_new_batch(stand_in):
    parameter = stand_in.parameter
    gradients = with_gradients(stand_in.losses, [parameter], stand_in.process, range(2))
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
    assert len(stand_in.calls) == 2 * WARM_UPS + 2 and len(stand_in.replays) == 5
    assert len({id(each) for each in stand_in.replays}) == 2


def test_a_recording_without_enough_memory_is_an_error_and_leaves_no_graph(stand_in):
    parameter = stand_in.parameter
    gradients = with_gradients(stand_in.losses, [parameter], stand_in.process, [0])
    for _ in range(WARM_UPS):
        gradients((X,), 0)
        parameter.grad = None
    stand_in.short = True
    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        gradients((X,), 0)
    assert not stand_in.replays
    parameter.grad, stand_in.short = None, False
    assert gradients((X + 1,), 0)["loss"].item() == 18 and parameter.grad.item() == 9
    assert len(stand_in.replays) == 1
