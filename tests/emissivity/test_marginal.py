"""The cost with the properties integrated out, against dense matrices and numerical derivatives."""

import pytest
import torch
import xarray as xr
from published import build, observations

from seaice_lab.emissivity import evaluation
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.jacobian import linearise
from seaice_lab.emissivity.least_squares import build_problem, get_state, network_of
from seaice_lab.emissivity.marginal import determinant_by_weights
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.normal_equations import assemble
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.settings import (
    PUBLISHED_COST,
    ModelConfig,
    ObservationsConfig,
    SimulateConfig,
    SolveConfig,
)
from seaice_lab.emissivity.simulate import simulate

CASES = ["v1_linear", "v2_imagers"]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make_problems(case, folder):
    """A published case of ice and open water: without and with the integral, and the state."""
    seen = observations(case, folder)
    model = build(case, seen, "pert").double()
    problem = build_problem(model, seen, SolveConfig(**PUBLISHED_COST, property_error=0.7))
    problem = problem._replace(
        index=problem.index.clone(),
        scalars=problem.scalars.double(),
        channels=problem.channels.double(),
        first_guess=problem.first_guess.double(),
        prior_weight=problem.prior_weight.double(),
        prior_coupling=problem.prior_coupling.double(),
        emissivity_limit_weight=0.0,
    )
    state = get_state(model)
    sea_ice = state.sea_ice.clamp(0.2, 0.9)
    sea_ice[:, ::5] = 0.0
    state = state._replace(sea_ice=sea_ice)
    return problem, problem._replace(integrates_properties=True), state


@pytest.mark.parametrize("case", CASES)
def test_the_determinant_is_that_of_the_covariance_of_the_departures(case, tmp_path, double):
    plain, integrated, state = make_problems(case, tmp_path)
    rows, network = slice(0, len(plain.index)), network_of(plain.model, state.weights)
    cell, jacobian = linearise(plain, state, network, rows, False)
    q, n = state.observation_properties.shape[1], 1 + state.properties.shape[1]
    expected = 0.0
    for number in cell.unique():
        seen = torch.nonzero(cell == number)[:, 0]
        of_cell = jacobian[seen, :, q + 1 : q + n].flatten(0, 1)
        of_observations = torch.block_diag(*jacobian[seen, :, :q])
        both = torch.cat([of_cell, of_observations], 1)
        # the covariance of the departures, in units of their errors, without the properties
        covariance = torch.eye(len(both)) + both @ both.T / plain.property_weight
        expected += float(torch.logdet(covariance))
    difference = assemble(integrated, state).cost - assemble(plain, state).cost
    assert float(difference.sum()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_its_derivatives_by_concentrations_and_weights(case, tmp_path, double):
    plain, integrated, state = make_problems(case, tmp_path)
    before, after = (assemble(each, state, with_weights=True) for each in (plain, integrated))
    step = 1e-6

    def numeric(direction):
        """Derivative of the difference of both costs."""
        costs = []
        for size in (step, -step):
            moved = state._replace(
                **{name: getattr(state, name) + size * by for name, by in direction.items()}
            )
            costs.append((assemble(integrated, moved).cost - assemble(plain, moved).cost).sum())
        return float(costs[0] - costs[1]) / (2 * step)

    by_ice = 2 * float((before.rhs - after.rhs)[:, 0].sum())
    sea_ice = torch.ones_like(state.sea_ice)
    assert by_ice > 0
    assert numeric({"sea_ice": sea_ice}) == pytest.approx(by_ice, rel=1e-6)
    weights = torch.randn(len(state.weights), generator=torch.Generator().manual_seed(0))
    by_weights = 2 * float((before.weight_rhs - after.weight_rhs) @ weights)
    assert numeric({"weights": weights}) == pytest.approx(by_weights, rel=1e-6)


def test_the_curvature_by_the_weights_of_a_linear_network(tmp_path, double):
    _, problem, state = make_problems("v1_linear", tmp_path)
    normal = assemble(problem, state, with_weights=True)
    rows, of_cells = slice(0, len(problem.index)), torch.linalg.inv(normal.curvature[:, 1:, 1:])
    gradient, curvature = determinant_by_weights(problem, state, normal, of_cells, [rows])
    # with the covariances held, the sum is quadratic and without a linear term: c . w = g . w
    weights = state.weights[: len(gradient)]
    assert float(weights @ curvature @ weights) == pytest.approx(float(gradient @ weights), rel=0.2)
    assert torch.linalg.eigvalsh(curvature)[0] > -1e-9 * curvature.diagonal().max()


def test_mixed_cells_have_less_bias(tmp_path):
    settings = SimulateConfig(
        layout="year", sensors=("amsr2",), observations=(8000,), size=24, days=5
    )
    simulate(settings, tmp_path / "ice", show=False)
    config = ObservationsConfig(data=str(tmp_path / "ice"), sensors=("amsr2",))
    seen = prepare(config, tmp_path / "columns", show=False)
    with xr.open_dataset(tmp_path / "ice" / "truth.nc") as file:
        truth = file.sic.values
    biases = []
    for integrate_properties in (False, True):
        model = EmpiricalState(ModelConfig(version=1), seen)
        solve(model, seen, SolveConfig(integrate_properties=integrate_properties), show=False)
        estimate = evaluation.sea_ice_maps(model)
        mixed = (truth > 0.3) & (truth < 0.95)
        biases.append(float((estimate - truth)[mixed].mean()))
    assert biases[0] > 0.02 and abs(biases[1]) < biases[0] / 2
