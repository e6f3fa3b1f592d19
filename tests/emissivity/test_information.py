"""Fisher information of the weights, and less ice that looks like another emissivity."""

import numpy as np
import pytest
import torch

from seaice_lab.emissivity import information
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.gauss_newton_step import PRIOR_CURVATURE
from seaice_lab.emissivity.jacobian import linearise
from seaice_lab.emissivity.least_squares import (
    build_problem,
    get_state,
    network_of,
    split_weights,
    weight_background,
)
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.run import initial_state
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig, SolveConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.errors import InputError

SETTINGS = SolveConfig(starts=1, network_steps=5, state_steps=2)


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ice")
    case = SimulateConfig(size=16, days=2, sensors=("amsr2",), observations=(300,))
    simulate(case, folder, show=False)
    return prepare(EmissivityConfig(data=str(folder)), folder / "columns", show=False)


@pytest.fixture(scope="module", params=[1, 2])
def model(request, observations):
    config = EmissivityConfig(data="none", model={"version": request.param})
    model = initial_state(config, observations)
    solve(model, observations, SETTINGS, show=False)
    return model


def test_the_eigenvalues_are_those_of_one_matrix_of_all_unknowns(model, observations):
    """The Schur complement of the weights, computed without an elimination cell by cell."""
    config = SETTINGS.model_copy(update={"integrate_properties": False})
    problem, state = build_problem(model, observations, config), get_state(model)
    network = network_of(model, state.weights)
    cell, jacobian = linearise(problem, state, network, slice(None), with_weights=True)
    jacobian = jacobian[..., :-1].double()
    q, n = state.observation_properties.shape[1], 1 + state.properties.shape[1]
    p, rows = len(state.weights), torch.arange(len(cell))
    first_cell, first_weight = q * len(rows), q * len(rows) + n * len(state.properties)
    dense = torch.zeros(*jacobian.shape[:2], first_weight + p, dtype=torch.float64)
    curvature = torch.full((first_weight + p,), problem.property_weight, dtype=torch.float64)
    curvature[first_cell:first_weight:n] = PRIOR_CURVATURE  # concentrations have no background
    curvature[first_weight:] = 0
    for column in range(q):
        dense[rows, :, rows * q + column] = jacobian[..., column]
    for column in range(n):
        dense[rows, :, first_cell + cell * n + column] = jacobian[..., q + column]
    dense[..., first_weight:] = jacobian[..., q + n :]
    dense = dense.flatten(0, 1)
    normal = dense.T @ dense + torch.diag(curvature)
    cells, border = normal[:first_weight, :first_weight], normal[:first_weight, first_weight:]
    weights = normal[first_weight:, first_weight:] - border.T @ torch.linalg.solve(cells, border)
    background = weight_background(problem, state.weights)[0]
    split_weights(model, background.diagonal())[1][:] = information.WIND_ERROR**-2
    root = torch.linalg.inv(torch.linalg.cholesky(background))
    expected = torch.linalg.eigvalsh(root @ weights @ root.T).flip(0)
    table = information.unconstrained_direction(model, observations, SETTINGS)
    # normal equations are in single precision
    np.testing.assert_allclose(table.information, expected, rtol=2e-3, atol=0.03)


def test_less_ice_and_another_emissivity_look_alike(model, observations):
    table = information.unconstrained_direction(model, observations, SETTINGS, less_ice=0.05)
    of_ice = table.effect.sel(term="concentration", channel="10h").item()
    assert -9 < of_ice < -4  # 5 % of the contrast of ice and water
    assert (np.abs(table.effect.sum("term")) < 0.1).all()
    assert (table.error_of_sum < 0.2 * table.error.sel(term="emissivity")).sel(channel="10h")
    assert 0.005 < table.concentration_error < 0.5
    twice = information.unconstrained_direction(model, observations, SETTINGS, less_ice=0.1)
    np.testing.assert_allclose(twice.effect, 2 * table.effect, atol=1e-9)


def test_a_concentration_may_be_given_and_open_water_is_refused(model, observations):
    ice = observations.sea_ice_first_guess
    given = information.unconstrained_direction(model, observations, SETTINGS, sea_ice=ice)
    assert given.sizes["direction"] == len(get_state(model).weights)
    with pytest.raises(InputError, match="no observed ice has a concentration above 0.95"):
        information.unconstrained_direction(
            model, observations, SETTINGS, sea_ice=np.zeros_like(ice)
        )
