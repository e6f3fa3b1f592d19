"""What the observations tell about the unknowns, from the curvature of the cost.

The Fisher information of a least-squares problem is J^T J, with the Jacobian J of the simulated
observations in units of their errors (Rodgers 2000, chapter 2).
"""

import torch
import xarray as xr

from seaice_lab.emissivity.gauss_newton import check_model
from seaice_lab.emissivity.gauss_newton_step import PRIOR_CURVATURE
from seaice_lab.emissivity.jacobian import linearise
from seaice_lab.emissivity.least_squares import (
    build_problem,
    get_state,
    network_of,
    split_weights,
    weight_background,
)
from seaice_lab.emissivity.normal_equations import assemble, ice_fraction
from seaice_lab.emissivity.sampling import subsample_months
from seaice_lab.emissivity.settings import SolveConfig
from seaice_lab.errors import InputError

CLOSED = 0.95  # concentration of closed ice
SAMPLE = 1_000  # observations of closed ice, for the mean change of their brightness temperatures
WIND_ERROR = 1e-3  # s m-1, of the wind dependence of the sea's emissivity, which has no background
TERMS = ("concentration", "emissivity", "bias")  # the last one with the wind dependence


@torch.no_grad()
def unconstrained_direction(model, observations, config=None, sea_ice=None, less_ice=0.05):
    """Fisher information about the weights, and changes that compensate less closed ice.

    The weights are the unknowns that all cells share: network, wind dependence and biases. The
    concentrations have no background here; properties and weights have those of the solver.

    Parameters
    ----------
    model : EmpiricalState
        Derivatives are taken at its state, on a sample of the cells like that of the solver.
    observations : Observations
    config : SolveConfig, optional
        Backgrounds, and ``sample`` and ``seed``.
    sea_ice : ndarray (grid, lag + step), optional
        Concentration at which derivatives are taken, such as the truth; by default that of the
        model.
    less_ice : float
        Decrease of the mean concentration of closed ice.

    Returns
    -------
    xarray.Dataset
        ``information`` (direction): eigenvalues of the Fisher information of the weights in units
        of their backgrounds, with the state of the cells unknown. Where one is below 1, the
        background determines that combination of weights rather than the observations.
        ``concentration_error``: the standard deviation of the mean concentration of closed ice
        that the uncertain weights cause. ``effect`` (term, channel), K: how each kind of unknown
        changes the mean brightness temperature of closed ice if the concentration decreases by
        ``less_ice`` and all others change as is most probable then. ``error`` (term, channel), K:
        the standard deviation of each of these, and ``error_of_sum`` (channel) that of their sum.

    Raises
    ------
    InputError
        If the solver does not support the model, or no observed ice is closed.
    """
    check_model(model.config)
    config, state = config or SolveConfig(), get_state(model)
    if sea_ice is not None:
        state = state._replace(sea_ice=torch.tensor(sea_ice.T, dtype=state.sea_ice.dtype))
    generator = torch.Generator().manual_seed(config.seed)
    problem = build_problem(model, observations, config)
    problem = problem._replace(integrates_properties=False)  # only what the observations tell
    problem, state = subsample_months(problem, state, config.sample, generator)
    normal = assemble(problem, state, with_weights=True)
    closed = (ice_fraction(problem, state.sea_ice)[:, 0] > CLOSED) & (normal.curvature[:, 0, 0] > 0)
    if not closed.any():
        raise InputError(
            f"unconstrained_direction: no observed ice has a concentration above {CLOSED}; use "
            "days and regions with closed ice"
        )
    # The unknowns of the cells adjust to a change of the weights. The Schur complement is the
    # information about the weights that remains after this adjustment.
    identity = torch.eye(normal.curvature.shape[1], dtype=torch.float64)
    cross = normal.cross.double()
    response = -torch.linalg.solve(normal.curvature.double() + PRIOR_CURVATURE * identity, cross)
    information = normal.weight_curvature + (cross.mT @ response).sum(0)
    background = weight_background(problem, state.weights)[0]
    split_weights(model, background.diagonal())[1][:] = WIND_ERROR**-2
    root = torch.linalg.inv(torch.linalg.cholesky(background))
    covariance = torch.linalg.inv(information + background)
    # The mean concentration is a . weights; its variance is a . C a, and the most probable change
    # of the weights that comes with a change of it is along C a.
    mean = response[closed, 0].mean(0)
    variance = mean @ covariance @ mean
    weights = -less_ice / variance * (covariance @ mean)
    by_weight = _sensitivity(problem, state, normal, closed, response)
    in_units = root @ information @ root.T
    kelvin, dims = {"units": "K"}, ("term", "channel")

    def error(sensitivity):
        return ((sensitivity @ covariance) * sensitivity).sum(-1).clip(0).sqrt().numpy()

    return xr.Dataset(
        {
            "information": ("direction", torch.linalg.eigvalsh(in_units).flip(0).clip(0).numpy()),
            "concentration_error": float(variance.sqrt()),
            "effect": (dims, (by_weight @ weights).numpy(), kelvin),
            "error": (dims, error(by_weight), kelvin),
            "error_of_sum": ("channel", error(by_weight.sum(0)), kelvin),
        },
        coords={"term": list(TERMS), "channel": list(model.channels)},
    )


def _sensitivity(problem, state, normal, closed, response):
    """Mean derivatives of the brightness temperatures of closed ice by weight, K, in TERMS.

    Those of concentration and emissivity include the adjustment of cells and observations.
    """
    model, (n, p) = problem.model, response.shape[1:]
    cell = problem.index[:, 1].long() * problem.points + problem.index[:, 0].long()
    rows = torch.nonzero(closed[cell])[:, 0]
    rows = rows[:: -(-len(rows) // SAMPLE)]
    network = network_of(model, state.weights)
    cell, jacobian = linearise(problem, state, network, rows, with_weights=True)
    error_k = 1 / model.inverse_error[problem.index[rows, 2].long()]
    # without the row of the lower limit of the emissivity and without the column of the residual
    jacobian = (jacobian[:, : len(model.channels), :-1] * error_k[..., None]).double()
    q = state.observation_properties.shape[1]
    of_state, of_cell = jacobian[..., q + 1 : q + n], response[cell]
    emissivity = of_state @ of_cell[:, 1:]
    if q:  # the properties of an observation adjust to cell and weights
        solution = normal.back_substitution[rows].double()
        emissivity -= jacobian[..., :q] @ (solution[..., :n] @ of_cell + solution[..., n:-1])
    of_weights, of_network = jacobian[..., q + n :], torch.zeros(p, dtype=torch.float64)
    split_weights(model, of_network)[0][:] = 1
    concentration = jacobian[..., q, None] * of_cell[:, None, 0]
    emissivity = emissivity + of_weights * of_network
    terms = torch.stack([concentration, emissivity, of_weights * (1 - of_network)])
    return terms.sum(1) / problem.channels[rows, 0].isfinite().sum(0)[:, None]
