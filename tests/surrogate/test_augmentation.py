"""Quarter turns: turning the kernels is turning the map."""

import pytest
import torch

from seaice_lab.surrogate.augmentation import Turn, turned_kernels
from seaice_lab.surrogate.networks import UNet
from seaice_lab.surrogate.wrappers import Transport

CHANNELS = [("sit", 0.0), ("u10", 0.0), ("v10", 0.0), ("t2m", 0.0), ("u10", 6.0), ("v10", 6.0)]
SCALES = [
    {"mean": mean, "std": std}
    for mean, std in [(1.0, 0.5), (0.3, 5.0), (-0.2, 4.0), (250.0, 9.0), (0.1, 6.0), (0.4, 3.0)]
]


def normalise(physical):
    mean, std = (
        torch.tensor([s[key] for s in SCALES], dtype=torch.float64)[:, None, None]
        for key in ("mean", "std")
    )
    return (physical - mean) / std


def turned_map(physical, turns):
    """The physical map turned: cells move, and vectors turn with them."""
    for _ in range(turns):
        physical = torch.rot90(physical, -1, (2, 3))
        sit, u, v, t, u6, v6 = physical.unbind(1)
        physical = torch.stack([sit, -v, u, t, -v6, u6], 1)
    return physical


@pytest.mark.parametrize("transport", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_kernels_see_the_map_as_the_network_sees_the_turned_map(turns, transport):
    torch.manual_seed(0)
    ocean = torch.rand(16, 16) > 0.3
    physical = torch.randn(2, 6, 16, 16, dtype=torch.float64)
    torch.set_default_dtype(torch.float64)
    try:
        network, there = (
            UNet(mask, 6, 1 + 2 * transport, width=2).eval()
            for mask in (ocean, torch.rot90(ocean, -turns))
        )
        torch.nn.init.normal_(network.head.weight)
        if transport:
            carried = [(0, 0, 2.0, 20.0)]
            network, there = Transport(network, carried), Transport(there, carried)
    finally:
        torch.set_default_dtype(torch.float32)
    there.load_state_dict(network.state_dict())
    expected = there(normalise(turned_map(physical, turns)))
    x = Turn(CHANNELS, SCALES)(normalise(physical), turns)
    output = torch.func.functional_call(network, turned_kernels(network, turns), x)
    torch.testing.assert_close(
        torch.rot90(output, -turns, (2, 3)), expected, rtol=1e-10, atol=1e-12
    )
    gradients = torch.autograd.grad(output.sum(), list(network.parameters()))
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_whirl_keeps_its_sense():
    """A quarter turn of the divergence operator is the divergence operator, and so for the curl."""
    along_x = torch.tensor([[0, 0, 0], [-1, 0, 1], [0, 0, 0]]).double()
    kernels = {
        "divergence": torch.stack([along_x, along_x.T])[None],
        "curl": torch.stack([-along_x.T, along_x])[None],
    }
    wind = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    turn = Turn([("u10", 0), ("v10", 0)], [{"mean": 0.5, "std": 2.0}, {"mean": -0.1, "std": 3.0}])
    scale = torch.tensor([2.0, 3.0], dtype=torch.float64)[:, None, None]
    mean = torch.tensor([0.5, -0.1], dtype=torch.float64)[:, None, None]
    turned = turn((wind - mean) / scale, 1) * scale + mean
    for kernel in kernels.values():
        network = torch.nn.Conv2d(2, 1, 3, bias=False, dtype=torch.float64)
        network.weight.data = kernel
        weight = turned_kernels(network, 1)["weight"]
        torch.testing.assert_close(
            torch.nn.functional.conv2d(turned, weight), torch.nn.functional.conv2d(wind, kernel)
        )


def test_a_lone_component_and_a_scalar_stay():
    turn = Turn([("sit", 0), ("u10", 0), ("v10", 6)], [{"mean": 0.0, "std": 1.0}] * 3)
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(turn(x, 3), x)
