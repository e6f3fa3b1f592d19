"""The published 4D-Var (Durand et al. 2025): numbers that its code computed, in float64."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from keras_weights import published_network

from seaice_lab.assimilation.background import eof_decomposition
from seaice_lab.assimilation.cost import cell_positions, observations, weighted_cells
from seaice_lab.assimilation.minimise import Stopping
from seaice_lab.assimilation.model import WindowModel, adjoint, states, tangent, to_image, to_vector
from seaice_lab.assimilation.published import (
    PUBLISHED_STOPPING,
    published_cost,
    published_direct,
    published_eof,
    published_forcing,
    published_minimum,
    published_observed,
    published_run,
    published_step,
)

DATA = Path(__file__).parents[1] / "data" / "assimilation"


class Case(NamedTuple):
    """Arrays of a case, its step, forcing and mask, and its windows."""

    arrays: dict
    step: object
    forcing: torch.Tensor
    ocean: torch.Tensor
    steps: int  # of a window
    every: int  # steps between two observations


@cache
def case(name):
    with np.load(DATA / f"case_{name}.npz") as file:
        arrays = dict(file)
    network = published_network("UNet3", arrays).eval().requires_grad_(False)
    step = published_step(network, arrays["constants"].tolist(), relu=name == "A")
    patterns = arrays["forcing_patterns"]
    forcing = np.einsum("tcm,myx->tcyx", arrays["forcing_coefficients"], patterns)
    ocean = torch.from_numpy(arrays["mask"]) > 0
    lengths = (32, 4) if name == "A" else (16, 16)
    return Case(arrays, step, torch.from_numpy(forcing)[:, None], ocean, *lengths)


def error(ours, reference):
    """Largest difference over the largest value of the reference."""
    return np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max()


def observed(data, model, window, form):
    """Observations of one window, of all cells or those of a form."""
    arrays, count = data.arrays, data.steps // data.every
    cells = {
        "weekly_Region": arrays.get("region_index"),
        "weekly_single": arrays["single_index"].reshape(1),
        "weekly_ten": arrays["single_index"] + np.arange(10),
    }.get(form, np.arange(int(data.ocean.sum())))
    is_constant = form in ("weekly_single", "weekly_ten")
    sigma = np.full(len(cells), 0.4) if is_constant else arrays["R_std"][cells]
    rows = arrays["observations"][window * count + 1 : (window + 1) * count + 1, cells]
    values, sigma = rows.reshape(1, -1), np.tile(sigma, count)[None]
    if form == "eof_published":
        operator = published_observed(data.ocean, count)
        return observations(model, (data.every,), operator, values, sigma)
    positions = torch.cat([cell_positions(data.ocean, number)[cells] for number in range(count)])
    operator = weighted_cells(positions[:, None], torch.ones(len(positions), 1).double())
    steps = range(data.every, data.steps + 1, data.every)
    return observations(model, steps, operator, values, sigma)


def published_form(data, form, window=0, background=None):
    """One of the forms of the README of the numbers."""
    forcing = data.forcing[window * data.steps : (window + 1) * data.steps]
    if form.endswith("_published"):
        forcing = published_forcing(data.forcing[: data.steps], data.every)
    model = WindowModel(data.step, forcing, data.ocean, segment=0)
    values = observed(data, model, window, form)
    if form.startswith("direct"):
        background = data.arrays["x_b"] if background is None else background
        return published_direct(model, values, background, 0.8, data.arrays["constants"][4])
    inflation = 10.0 if form == "weekly_inflation10" else 1.0
    arrays = data.arrays
    return published_eof(model, values, arrays["eof_mean"], arrays["eof_vectors"], inflation)


@pytest.mark.parametrize("name", "AB")
def test_states_tangent_and_adjoint(name):
    data = case(name)
    arrays, ocean = data.arrays, data.ocean
    model = WindowModel(data.step, data.forcing[:8], ocean)
    background, direction, weights = (
        torch.from_numpy(arrays[key])[None] for key in ("x_b", "tangent/dx", "adjoint/w")
    )
    with torch.no_grad():
        window = states(model, to_image(background, ocean), range(1, 9))
    assert error(window[0, :, 0, ocean], arrays["step/states"]) < 1e-10

    def four_steps(vector):
        return to_vector(states(model, to_image(vector, ocean), (4,))[:, 0], ocean)

    pushed = tangent(four_steps, background, direction)
    pulled = adjoint(four_steps, background, weights)
    assert error(pushed[0], arrays["tangent/M_dx"]) < 1e-10
    assert error(pulled[0], arrays["adjoint/MT_w"]) < 1e-10
    left, right = (pushed * weights).sum().item(), (direction * pulled).sum().item()
    assert left == pytest.approx(right, rel=1e-12)
    np.testing.assert_allclose([left, right], arrays["dot_products"], rtol=1e-10)


@pytest.mark.parametrize("name", "AB")
def test_patterns_and_projections(name):
    arrays = case(name).arrays
    vectors = arrays["eof_vectors"]
    mean, singular_values, ours = eof_decomposition(arrays["eof_fields"], vectors.shape[1])
    assert error(mean, arrays["eof_mean"]) < 1e-10
    assert error(singular_values, arrays["eof_singular_values"]) < 1e-9
    projected = (arrays["x_b"] - mean) @ ours  # up to the sign of each pattern
    assert error(np.abs(projected), np.abs(arrays["eof/projection_of_x_b"])) < 1e-7
    spaces = (v @ (v.T @ arrays["x_b"]) for v in (ours, vectors))
    assert error(*spaces) < 1e-10


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("A", form) for form in ("direct", "direct_published", "eof", "eof_published")),
        *(("B", f"weekly_{form}") for form in ("multi", "Region", "single", "ten")),
    ],
)
def test_cost_and_gradient_of_every_form(name, form):
    data = case(name)
    arrays, problem = data.arrays, published_form(data, form)
    # The last point has both terms; in the first one the background term is 0.
    terms = published_cost(problem, arrays[f"{form}/points"][-1])
    for ours, key in ((terms.total, "J"), (terms.background, "Jb"), (terms.observations, "Jo")):
        np.testing.assert_allclose(ours, arrays[f"{form}/{key}"][-1], rtol=1e-10, err_msg=key)
    assert error(terms.gradient, arrays[f"{form}/gradient"][-1]) < 1e-9


def test_the_minimisation_begins_as_the_published_one_within_its_bounds():
    data = case("A")
    problem = published_form(data, "direct")
    few = PUBLISHED_STOPPING._replace(iterations=2)
    minimum = published_minimum(problem, data.arrays["x_b"], few)
    history = data.arrays["direct/cycle/J_all_evaluations"][: len(minimum.history)]
    np.testing.assert_allclose(minimum.history, history, rtol=1e-8)
    assert minimum.control.min() >= data.arrays["constants"][4]


def test_inflation_scales_the_background_term():
    data = case("B")
    problem = published_form(data, "weekly_inflation10")
    start = data.arrays["eof/published_first_guess"]
    minimum = published_minimum(problem, start, Stopping(floor=1e-4, iterations=2))
    history = data.arrays["weekly_inflation10/published/J_history"][: len(minimum.history)]
    np.testing.assert_allclose(minimum.history, history, rtol=1e-8)


def test_two_windows_in_cycle():
    data, form = case("B"), "weekly_multi"
    arrays, start = data.arrays, data.arrays["eof/published_first_guess"]
    for window in (0, 1):
        problem = published_form(data, form, window)
        minimum = published_minimum(problem, start)
        assert error(minimum.control, arrays[f"{form}/cycle/analysis"][window]) < 1e-5
        if window == 0:
            assert minimum.history[-1] == pytest.approx(float(arrays[f"{form}/tight/J"]), rel=1e-3)
        run = published_run(problem, minimum.control, range(data.steps))
        steps = arrays[f"{form}/cycle/trajectory_steps"]
        assert error(run[steps], arrays[f"{form}/cycle/trajectory"][window]) < 1e-5
        # The published cycle goes on from the state one step before the end of the window.
        assert error(run[-1], arrays[f"{form}/cycle/next_first_guess"][window]) < 1e-5
        start = arrays["eof_vectors"].T @ (run[-1] - arrays["eof_mean"])
