"""Missed steps taken later: the same as Adam that moves every cell at every step."""

import numpy as np
import pytest
import torch

from seaice_lab.emissivity.lazy_adam import Clock, ReplayedMap
from seaice_lab.emissivity.penalty import HUMP_END, HUMP_SLOPE, HUMP_TOP

CELLS = 300


def dense(values, visits, rate, outside, low, bounded=False):
    """Adam written out, on the whole map at every step."""
    w, m, v = values.copy(), np.zeros_like(values), np.zeros_like(values)
    for step, (rows, grads) in enumerate(visits, 1):
        g = np.zeros_like(w)
        np.add.at(g, rows, grads)
        g += outside * (w - np.clip(w, 0, 1))
        slope = np.maximum(np.minimum(w, HUMP_SLOPE * (HUMP_TOP - w)), w - HUMP_END)
        g += low * np.where((w > 0) & (w < HUMP_END), slope, 0)
        m += 0.1 * (g - m)
        v += 0.001 * (g**2 - v)
        w -= rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
        w = np.clip(w, 0, 1) if bounded else w
    return w


def make_visits(steps, width, size=1.0, seed=0):
    """Some cells a step, now and then the same one twice; most are not seen for long."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(0, CELLS, 5), size * rng.standard_normal((5, width)))
            for _ in range(steps)]  # fmt: skip


def replayed(values, visits, rate, pull, bounded=False):
    part = ReplayedMap(torch.from_numpy(values.copy()), lambda: pull, bounded)
    clock = Clock(rate)
    for number, (rows, grads) in enumerate(visits):
        if number % 7 == 0:  # what is read without a step is put back
            part.read((rows + 1) % CELLS, clock, np.empty_like(grads))
            part.lead_back(grads)
        part.read(rows, clock, np.empty_like(grads))
        part.lead_back(grads)
        clock.tick()
        part.step(clock)
    part.catch_up_all(clock)
    return part.value.numpy()


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e-9])  # down to gradients below Adam's epsilon
def test_cells_without_a_penalty_come_out_as_in_double_precision(size):
    visits = make_visits(900, 3, size)
    values = np.random.default_rng(1).standard_normal((CELLS, 3))
    expected = dense(values, visits, 1e-3, 0, 0)
    np.testing.assert_allclose(
        replayed(values, visits, 1e-3, (0.0, 0.0)), expected, rtol=0, atol=2e-12
    )
    assert np.abs(expected - values).max() > 1e-5


@pytest.mark.parametrize("low", [0.0, 0.3])
def test_cells_with_a_penalty_come_out_as_in_double_precision(low):
    visits = make_visits(900, 1, 1e-2)
    values = np.random.default_rng(1).uniform(-0.1, 1.1, (CELLS, 1))
    expected = dense(values, visits, 1e-2, 0.5, low)
    found = replayed(values, visits, 1e-2, (0.5, low))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    assert np.abs(expected - values).max() > 0.1


# with a hump at a rate at which no cell jumps over it in the steps that it waits
@pytest.mark.parametrize(("low", "rate"), [(0.0, 0.05), (0.3, 0.01)])
def test_bounded_cells_stay_between_zero_and_one(low, rate):
    visits = make_visits(400, 1, 1.0)
    values = np.random.default_rng(1).uniform(0, 1, (CELLS, 1))
    found = replayed(values, visits, rate, (0.0, low), bounded=True)
    assert found.min() == 0 and found.max() == 1
    np.testing.assert_allclose(found, dense(values, visits, rate, 0, low, True), atol=1e-10)


def test_single_precision_stays_at_rounding():
    visits = make_visits(900, 1, 1e-2)
    values = np.random.default_rng(1).uniform(0.4, 0.9, (CELLS, 1))
    single = replayed(values.astype("float32"),
                      [(rows, grads.astype("float32")) for rows, grads in visits],
                      1e-3, (0.5, 0.3))  # fmt: skip
    np.testing.assert_allclose(single, dense(values, visits, 1e-3, 0.5, 0.3), atol=2e-6)
