"""A training step must not wait for a GPU: operations that would, found on a CPU."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from seaice_lab.compute import _kept_constant, constant
from seaice_lab.surrogate.model import build, scales
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.train import batch_losses

# A number read from the device, the number of True values, new numbers from Python.
WAITING = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "bincount",
    "lift_fresh",
    "is_nonzero",
)
OCEAN = torch.ones(16, 24, dtype=torch.bool)
OCEAN[:4, :6] = False


class Operations(TorchDispatchMode):
    """Counts the operations that wait, by name."""

    def __init__(self):
        super().__init__()
        self.waiting = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1])
        if name in WAITING or by_mask:
            self.waiting.append(name)
        return function(*args, **kwargs or {})


@pytest.mark.parametrize(
    "settings",
    [
        {"symmetry": "quarter_turns", "window": "full_state"},
        {"window": "past_state", "rollout_steps": 3},
        {"loss": "crps", "start_from": "x", "spectral_weight": 0.1, "rollout_steps": 2},
    ],
)
def test_after_the_first_steps_nothing_waits(settings):
    config = TrainConfig(store="x", width=2, network="UNet2", **settings)
    window = window_of(config)
    normalisation = {name: {"mean": 0.1, "std": 2.0} for name, _ in window.inputs}
    normalisation["increments"] = [{"mean": 0.0, "std": 0.5}] * len(window.targets)
    network = build(config, OCEAN, normalisation)
    losses = batch_losses(config, normalisation, OCEAN, torch.ones(OCEAN.shape))
    steps = config.rollout_steps
    x = torch.randn(2, steps, len(window.inputs), *OCEAN.shape) * OCEAN
    y = torch.randn(2, steps, len(window.targets), *OCEAN.shape) * OCEAN

    def step(turns):
        losses(network, (x, y), turns)["loss"].backward()

    for turns in range(4):
        step(turns)
    with Operations() as operations:
        for turns in range(4):
            step(turns)
    assert operations.waiting == []


def test_the_count_sees_what_waits():
    with Operations() as operations:
        x = torch.tensor([1.0, 2.0])
        x[x > 1].sum().item()
    assert operations.waiting == ["lift_fresh", "index", "_local_scalar_dense"]


def test_constants_are_shared_and_serve_training_after_inference():
    values = ((0.1, 0.25), (3.0, 4.0))
    with torch.inference_mode():
        first = constant(values, torch.float64, "cpu")
    weight = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    (weight * first).sum().backward()
    assert constant([[0.1, 0.25], [3, 4]], torch.float64, torch.device("cpu")) is first
    assert torch.equal(weight.grad, torch.tensor(values, dtype=torch.float64))
    assert constant(values, torch.float32, "cpu").dtype == torch.float32


def test_constants_made_in_a_transform_serve_outside_it():
    def scaled(x):
        return x * constant([0.6, 0.7], x.dtype, x.device)

    _kept_constant.cache_clear()
    torch.func.jvp(scaled, (torch.ones(2),), (torch.ones(2),))
    kept = constant([0.6, 0.7], torch.float32, "cpu")
    assert kept.data_ptr()  # a wrapper of the transform has no memory of its own
    assert torch.equal(copy.deepcopy(kept), torch.tensor([0.6, 0.7]))


def test_constants_of_an_exported_program_stay_in_it():
    entries = [{"mean": 0.7, "std": 1.3}]

    class Scaled(torch.nn.Module):
        def forward(self, x):
            mean, std = scales(entries, x)
            return x * std + mean

    x = torch.randn(2, 1, 3, 3)
    program = torch.export.export(Scaled(), (x,)).module()
    mean, std = scales(entries, x)
    assert type(mean) is torch.Tensor
    assert torch.equal(program(x), x * std + mean)
    assert torch.equal(program(x), x * torch.tensor(1.3) + torch.tensor(0.7))


def test_a_network_is_compiled_once_for_all_turns_and_steps():
    options = {"symmetry": "quarter_turns", "rollout_steps": 3, "loss": "crps", "start_from": "x"}
    config = TrainConfig(store="x", width=2, network="UNet2", **options)
    window, compiled = window_of(config), []
    normalisation = {name: {"mean": 0.1, "std": 2.0} for name, _ in window.inputs}
    normalisation["increments"] = [{"mean": 0.0, "std": 0.5}]
    network = build(config, OCEAN, normalisation).to(memory_format=torch.channels_last)

    def backend(graph, example_inputs):
        compiled.append(graph)
        return graph.forward

    forward = torch.compile(network, backend=backend)
    losses = batch_losses(config, normalisation, OCEAN, torch.ones(OCEAN.shape))
    x = torch.randn(2, 3, len(window.inputs), *OCEAN.shape) * OCEAN
    y = torch.randn(2, 3, 1, *OCEAN.shape) * OCEAN
    for turns in range(4):
        losses(forward, (x, y), turns)["loss"].backward()
    assert len(compiled) == 1
