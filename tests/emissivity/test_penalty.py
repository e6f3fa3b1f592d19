"""The penalty of a concentration has one meaning in all its forms."""

import numpy as np
import pytest
import torch

from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.settings import ModelConfig

CONFIGURATIONS = {
    "version 1": ({"version": 1}, 0, 1),
    "version 2": ({"version": 2}, 0, 1),
    "bounded": ({"version": 1, "bounded": True}, 0, 1),
    "bounded with a hump": ({"version": 2, "bounded": True}, 0, 500),
    "late epoch": ({"version": 2, "false_ice_error": ((0, 0.05), (3, 0.01))}, 4, 1),
    "divided by the observations": ({"version": 2, "sea_ice_error": 0.1}, 0, 20_000),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_cost_gradient_pieces_and_minimiser_agree(name):
    options, epoch, size = CONFIGURATIONS[name]
    config = ModelConfig(**options)
    strengths = penalty.strengths(config, epoch, size)
    low, high = (0.0, 1.0) if config.bounded else (-0.4, 1.4)
    sea_ice = torch.linspace(low, high, 20_001, dtype=torch.float64, requires_grad=True)

    # the cost is as Geer (2024) writes it, in units of the errors
    cost = penalty.cost(sea_ice, strengths)
    x = sea_ice.detach()
    parabola, cap = torch.minimum(x, 0.3 - x) ** 2, 0.15 * 0.025 - 0.2 * (0.15 - x) ** 2
    hump = torch.where((x > 0.025) & (x < 0.275), cap, parabola).where((x > 0) & (x < 0.3), 0)
    hump_errors = [error for first, error in config.false_ice_error if first <= epoch]
    expected = ((x - x.clamp(0, 1)) / config.sea_ice_error) ** 2
    if hump_errors:
        expected += hump / hump_errors[-1] ** 2
    scale = expected.max().item()
    torch.testing.assert_close(cost.detach(), expected / size, rtol=1e-12, atol=1e-12 * scale)

    # the compiled gradient is its derivative, also in single precision
    cost.sum().backward()
    gradient = np.array([penalty.gradient(float(value), tuple(strengths)) for value in x])
    np.testing.assert_allclose(gradient, sea_ice.grad, rtol=1e-9, atol=1e-12 * scale)
    single = [np.float32(constant) for constant in penalty.SHAPE]
    value = penalty.gradient(np.float32(0.1), (np.float32(0), np.float32(1)), tuple(single))
    assert value == pytest.approx(penalty.gradient(0.1, (0.0, 1.0)), rel=1e-6)

    # the pieces follow each other without a jump of the cost or of its derivative
    table = penalty.pieces(strengths)
    for left, right in zip(table[:-1], table[1:], strict=True):
        assert left.end == right.start
        costs, slopes = [], []
        for piece in (left, right):
            away = left.end - piece.centre
            costs.append(piece.strength / 2 * away**2 + piece.constant)
            slopes.append(piece.strength * away)
        assert costs[0] == pytest.approx(costs[1], abs=1e-12 * scale)
        assert slopes[0] == pytest.approx(slopes[1], abs=1e-12 * scale)

    # no concentration costs less than the minimum, with observations that say much or little
    rng = torch.Generator().manual_seed(1)
    curvature = 10 ** (6 * torch.rand(200, generator=rng, dtype=torch.float64))
    centre = 1.6 * torch.rand(200, generator=rng, dtype=torch.float64) - 0.3

    def total(values):
        return curvature * (values - centre) ** 2 + penalty.cost(values, strengths)

    minimum = penalty.minimise(curvature, curvature * centre, strengths)
    assert (minimum >= low).all() and (minimum <= high).all()
    every = torch.stack([total(value.expand(200)) for value in x[::4]])
    assert (total(minimum) <= every.min(0).values + 1e-9 * scale).all()
