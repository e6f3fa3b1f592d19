"""Lazy Adam: skipped updates applied later give the same as Adam that updates every cell."""

import numpy as np
import pytest
import torch

from seaice_lab.emissivity.lazy_adam import NO_PENALTY, LazyMap, StepCounter
from seaice_lab.emissivity.penalty import HUMP_END, HUMP_SLOPE, HUMP_TOP, Strengths

CELLS = 300


def dense_adam(values, steps, rate, strengths, bounded=False):
    """Adam written out, on the whole map at every step."""
    w, m, v = values.copy(), np.zeros_like(values), np.zeros_like(values)
    for step, (rows, gradient) in enumerate(steps, 1):
        g = np.zeros_like(w)
        np.add.at(g, rows, gradient)
        g += strengths.outside * (w - np.clip(w, 0, 1))
        slope = np.maximum(np.minimum(w, HUMP_SLOPE * (HUMP_TOP - w)), w - HUMP_END)
        g += strengths.hump * np.where((w > 0) & (w < HUMP_END), slope, 0)
        m += 0.1 * (g - m)
        v += 0.001 * (g**2 - v)
        w -= rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
        w = np.clip(w, 0, 1) if bounded else w
    return w


def lazy_adam(values, steps, rate, strengths, is_concentration=True):
    parameter = torch.nn.Parameter(torch.from_numpy(values.copy()))
    lazy_map, counter = LazyMap(parameter, is_concentration), StepCounter(rate)
    for number, (rows, gradient) in enumerate(steps):
        if number % 7 == 0:  # reading without a step changes nothing
            lazy_map.read((rows + 1) % CELLS, counter.steps, strengths)
        _, reading = lazy_map.read(rows, counter.steps, strengths)
        counter.advance()
        lazy_map.take_step(gradient, reading, counter.steps, strengths)
    lazy_map.catch_up(counter.steps, strengths)
    return parameter.detach().numpy()


def make_steps(count, width, size=1.0, kind="float64"):
    """Rows and gradients; a step reads few cells, sometimes one of them twice."""
    rng = np.random.default_rng(0)
    steps = []
    for _ in range(count):
        rows, gradient = rng.integers(0, CELLS, 5), size * rng.standard_normal((5, width))
        steps.append((rows, gradient.astype(kind)))
    return steps


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-9])  # down to gradients below Adam's epsilon
def test_cells_without_a_penalty_are_right_to_double_precision(size):
    steps = make_steps(900, 3, size)
    values = np.random.default_rng(1).standard_normal((CELLS, 3))
    expected = dense_adam(values, steps, 1e-3, NO_PENALTY)
    result = lazy_adam(values, steps, 1e-3, NO_PENALTY, is_concentration=False)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-12)
    assert np.abs(expected - values).max() > 1e-5


@pytest.mark.parametrize("hump", [0.0, 0.3])
def test_cells_with_a_penalty_are_right_to_double_precision(hump):
    steps, strengths = make_steps(900, 1, 1e-2), Strengths(0.5, hump)
    values = np.random.default_rng(1).uniform(-0.1, 1.1, (CELLS, 1))
    expected = dense_adam(values, steps, 1e-2, strengths)
    result = lazy_adam(values, steps, 1e-2, strengths)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10)
    assert np.abs(expected - values).max() > 0.1


# with a hump at a rate at which no cell jumps over it in the steps that it skips
@pytest.mark.parametrize(("hump", "rate"), [(0.0, 0.05), (0.3, 0.01)])
def test_bounded_cells_stay_between_zero_and_one(hump, rate):
    steps, strengths = make_steps(400, 1), Strengths(0.0, hump)
    values = np.random.default_rng(1).uniform(0, 1, (CELLS, 1))
    result = lazy_adam(values, steps, rate, strengths)
    assert result.min() == 0 and result.max() == 1
    expected = dense_adam(values, steps, rate, strengths, bounded=True)
    np.testing.assert_allclose(result, expected, atol=1e-10)


def test_single_precision_stays_at_rounding():
    steps, strengths = make_steps(900, 1, 1e-2, "float32"), Strengths(0.5, 0.3)
    values = np.random.default_rng(1).uniform(0.4, 0.9, (CELLS, 1))
    result = lazy_adam(values.astype("float32"), steps, 1e-3, strengths)
    expected = dense_adam(values, steps, 1e-3, strengths)
    np.testing.assert_allclose(result, expected, atol=2e-6)


def test_the_map_of_the_model_is_a_view_of_the_values():
    parameter = torch.nn.Parameter(torch.rand(CELLS, 2))
    lazy_map = LazyMap(parameter)
    lazy_map.table[7, 1] = 0.25
    assert parameter[7, 1].item() == 0.25
    with torch.no_grad():
        parameter.copy_(torch.zeros(CELLS, 2))
    assert not lazy_map.table[:, :2].any()
