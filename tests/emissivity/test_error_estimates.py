"""Errors that the observations show: of the first guess and of the observations."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr

from seaice_lab.emissivity import error_estimates, evaluation, infer, posterior
from seaice_lab.emissivity.autoregression import autoregressive_precision
from seaice_lab.emissivity.gauss_newton import estimate_errors, solve
from seaice_lab.emissivity.least_squares import build_problem, get_state
from seaice_lab.emissivity.normal_equations import assemble
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.run import initial_state
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig, SolveConfig
from seaice_lab.emissivity.simulate import simulate

SOLVE = {"starts": 1, "network_steps": 15, "sample": 6000}


@pytest.fixture(scope="module", params=["climatology", "good"])
def case(request, tmp_path_factory):
    """Name of the first guess, truth, observations, solved model and errors of a small case."""
    folder = tmp_path_factory.mktemp(request.param)
    config = SimulateConfig(
        layout="year",
        sensors=("amsr2",),
        observations=(9000,),
        size=20,
        days=6,
        first_guess=request.param,
        first_guess_error=0.03,
    )
    simulate(config, folder, show=False)
    truth = xr.load_dataset(folder / "truth.nc")
    config = EmissivityConfig(
        data=str(folder), sensors=("amsr2",), model={"version": 1}, solve=SOLVE
    )
    observations = prepare(config, folder / "columns", show=False)
    model = initial_state(config, observations)
    _, errors = solve(model, observations, config.solve, show=False)
    return request.param, truth.sic.values, observations, model, errors


def test_the_errors_of_a_first_guess_are_found(case):
    name, truth, observations, _, errors = case
    first_guess = observations.sea_ice_first_guess
    for number, (low, high) in enumerate(zip((0.15, 0.5), (0.5, 0.95), strict=True), start=2):
        there = (first_guess > low) & (first_guess <= high)
        true = np.sqrt(np.mean((first_guess - truth)[there] ** 2))
        found = float(errors.first_guess[number])
        assert 0.6 * true < found < 1.8 * true + 0.03, (name, number, true, found)
    assert errors.properties == 1 and errors.property_memory > 0.3
    if name == "climatology":  # the errors of the other one are near the lowest
        change = (first_guess - truth)[((truth > 0.15) & (truth < 0.95)).all(1)]
        true = np.mean(change[:, 1:] * change[:, :-1]) / np.mean(change**2)
        assert errors.memory == pytest.approx(true, abs=0.25)
    assert estimate_errors(None, None, SolveConfig(estimate_errors=False)) is None
    assert estimate_errors(None, None, SolveConfig(hold_first_guess=False)) is None


def test_the_spread_of_the_properties_follows_a_given_network(case):
    _, _, observations, model, _ = case
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        scaled.network.weight[1:].mul_(5)  # so the properties are a fifth
    _, errors = infer.infer(scaled, observations, show=False)
    assert 0.1 < errors.properties < 0.4


def test_properties_that_persist_cost_less_if_they_are_equal_on_all_days(case):
    _, _, observations, model, _ = case
    config = SolveConfig(integrate_properties=False)
    problem, state = build_problem(model, observations, config), get_state(model)
    lag = torch.arange(model.days)
    correlation = 0.8 ** (lag[:, None] - lag).abs().double()
    precision = problem.property_weight * torch.linalg.inv(correlation)
    away = precision - problem.property_weight * torch.eye(model.days)
    independent, correlated = (
        assemble(problem._replace(property_memory=memory), state) for memory in (0.0, 0.8)
    )
    properties = state.properties.double().reshape(model.days, model.points, -1)
    of_days = torch.einsum("de,epk->dpk", away, properties)
    cost = (properties * of_days).sum((0, 2))
    torch.testing.assert_close(
        (correlated.cost - independent.cost).double(), cost, rtol=1e-3, atol=1e-3
    )
    change = (independent.rhs - correlated.rhs)[:, 1:].double()
    torch.testing.assert_close(change, of_days.flatten(0, 1), rtol=1e-3, atol=1e-2)


def test_the_stated_deviation_is_true(case):
    name, truth, observations, model, errors = case
    maps = evaluation.sea_ice_maps(model)
    first_guess = observations.sea_ice_first_guess
    rmse, before = (np.sqrt(np.mean((x - truth) ** 2)) for x in (maps, first_guess))
    assert rmse < before * (0.5 if name == "climatology" else 1)
    deviation = infer.uncertainty(model, observations, errors=errors)[0].T.numpy()
    there = (truth > 0.15) & (truth < 0.95)
    errors = (np.abs(maps - truth) / deviation)[there]
    assert 0.3 < (errors < 1).mean() < 0.9 and (errors < 2).mean() > 0.6


def test_the_precision_is_the_inverse_of_the_autoregressive_covariance():
    error = 0.1 + torch.rand(7, 2, generator=torch.Generator().manual_seed(0)).double()
    lag = torch.arange(7)
    for memory in (0.0, 0.9):
        diagonal, beside = autoregressive_precision(error, memory)
        for point in range(2):
            matrix = torch.diag(diagonal[:, point]) + torch.diag(beside[:, point], 1)
            matrix += torch.diag(beside[:, point], -1)
            correlation = torch.tensor(memory, dtype=torch.float64) ** (lag[:, None] - lag).abs()
            covariance = error[:, point, None] * correlation * error[:, point]
            torch.testing.assert_close(matrix @ covariance, torch.eye(7).double())
    single, _ = autoregressive_precision(error[:1], 0.9)
    torch.testing.assert_close(single, error[:1] ** -2)


@pytest.mark.parametrize("noise", [1.0, 0.2])
def test_the_variance_is_that_of_the_dense_equations(case, noise):
    _, _, observations, model, _ = case
    problem, state = build_problem(model, observations, SolveConfig()), get_state(model)
    errors = error_estimates.initial_errors(0.7)
    problem = error_estimates.with_errors(problem, errors)
    normal = assemble(problem, state)
    reduced = posterior.eliminate_properties(problem, normal)
    variance = posterior.concentration_variance(problem, reduced, noise)
    days, n = model.days, normal.curvature.shape[1]
    blocks = normal.curvature.double().reshape(days, model.points, n, n)
    most = int(reduced.curvature.sum(0).argmax())
    size = days + 1 + days * (n - 1)  # concentrations, then the properties of each day
    observed, background = torch.zeros(2, size, size, dtype=torch.float64)
    background[range(days + 1, size), range(days + 1, size)] = problem.property_weight
    prior = torch.diag(problem.prior_weight[:, most]) + torch.diag(
        problem.prior_coupling[:, most], 1
    )
    background[: days + 1, : days + 1] = prior + torch.diag(problem.prior_coupling[:, most], -1)
    for day in range(days):
        reads = torch.zeros(n, size, dtype=torch.float64)
        reads[0, day + 1], reads[0, day] = 0.6, 0.4
        first = days + 1 + day * (n - 1)
        reads[range(1, n), range(first, first + n - 1)] = 1
        block = blocks[day, most].clone()
        block[range(1, n), range(1, n)] -= problem.property_weight
        observed += reads.T @ block @ reads
    inverse = torch.linalg.inv(observed + background)
    expected = (inverse @ (noise * observed + background) @ inverse).diagonal()[: days + 1]
    torch.testing.assert_close(variance[:, most], expected, rtol=1e-3, atol=0)


def test_tridiagonal_matrices_are_inverted():
    rng = torch.Generator().manual_seed(0)
    diagonal, beside = 3 + torch.rand(6, 1, generator=rng), torch.rand(5, 1, generator=rng)
    matrix = torch.diag(diagonal[:, 0]) + torch.diag(beside[:, 0], 1)
    matrix += torch.diag(beside[:, 0], -1)
    on, off = posterior.inverse_tridiagonal(diagonal, beside)
    inverse = torch.linalg.inv(matrix)
    torch.testing.assert_close(on[:, 0], inverse.diagonal())
    torch.testing.assert_close(off[:, 0], inverse.diagonal(1))


def test_deviations_are_cut_off_at_the_bounds():
    mode = torch.tensor([-0.1, 1.0, 0.5, 0.3]).double()
    deviation = torch.tensor([0.01, 0.01, 0.01, 100.0]).double()
    expected = torch.tensor([0.006028, 0.006028, 0.01, 12**-0.5]).double()
    found = posterior.truncated_deviation(mode, deviation)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=0)
