"""Normal equations of the least-squares problem, as blocks of cells coupled by the weights.

With the Jacobian J of the simulated observations and the residual r, both in units of the
observation error, a Gauss-Newton step solves J^T J change = J^T r (Nocedal and Wright 2006, section
10.3). An observation touches one cell, so that J^T J has one small block for each cell and a border
of the weights.
"""

from typing import NamedTuple

import torch

from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.autoregression import beside
from seaice_lab.emissivity.jacobian import linearise
from seaice_lab.emissivity.least_squares import network_of, property_precision
from seaice_lab.emissivity.marginal import determinant_by_weights, log_determinant

# Observations whose Jacobian is in memory at the same time. With the columns of the weights it is
# large, and fewer observations stay in the cache of a processor.
OBSERVATIONS_AT_ONCE, WITH_WEIGHTS_AT_ONCE = 5_000, 1_000
LOWEST_FRACTION = 0.01  # of ice; below, the determinant hardly changes with it


class NormalEquations(NamedTuple):
    """Cost, and the blocks of J^T J and J^T r after each observation's properties are eliminated.

    A cell has n = 1 + K unknowns, the concentration at the observation and K properties; there are
    p weights and Q properties of an observation.

    Attributes
    ----------
    cost : Tensor (point,)
    curvature, rhs : Tensor (cell, n, n), (cell, n)
        Block of each cell, and its right-hand side.
    cross : Tensor (cell, n, p) or None
        Coupling of cells and weights; None if the weights are held.
    weight_curvature, weight_rhs : Tensor (p, p), (p,) or None
    back_substitution : Tensor (observation, Q, n + p + 1) or None
        An observation's properties change by the last column minus the others times the changes of
        cell and weights.
    observation_covariance : Tensor (observation, Q, Q) or None
        Of an observation's properties, for fixed cell and weights.
    """

    cost: torch.Tensor
    curvature: torch.Tensor
    rhs: torch.Tensor
    cross: torch.Tensor | None = None
    weight_curvature: torch.Tensor | None = None
    weight_rhs: torch.Tensor | None = None
    back_substitution: torch.Tensor | None = None
    observation_covariance: torch.Tensor | None = None


def assemble(problem, state, with_weights=False, squares=None):
    """Cost and normal equations at a state, with the integral over the properties if there is one.

    Parameters
    ----------
    problem : Problem
    state : State
    with_weights : bool
        Whether the weights are unknowns as well.
    squares : Tensor, optional
        From :func:`sums_of_squares` with the weights of the state, of a bilinear problem. Then the
        observations are not read.

    Returns
    -------
    NormalEquations
    """
    if squares is None:
        normal = _from_observations(problem, state, with_weights)
    else:
        normal = _from_squares(problem, state, squares)
    # In a step the properties of other days are held; this keeps the block of each cell separate.
    diagonal, off_diagonal = property_precision(problem)
    properties = state.properties.unflatten(0, (len(diagonal), problem.points))
    by_property = diagonal[..., None] * properties + beside(off_diagonal[..., None], properties)
    background = diagonal.expand(-1, problem.points).reshape(-1, 1)
    normal.curvature.diagonal(dim1=1, dim2=2)[:, 1:] += background
    normal.rhs[:, 1:] -= by_property.flatten(0, 1)
    cost = normal.cost + (properties * by_property).sum((0, 2))
    if problem.integrates_properties:
        determinant, determined, covariance = log_determinant(problem, normal, background)
        cost += determinant.reshape(-1, problem.points).sum(0)
        # The limit of the emissivity, which does not depend on the fraction, is counted like the
        # channels; towards a fraction of 0 this derivative vanishes, as that of the channels does.
        fraction = ice_fraction(problem, state.sea_ice)[:, 0]
        normal.rhs[:, 0] -= determined * fraction / (fraction**2).clip(LOWEST_FRACTION**2)
        if with_weights:
            chunks = _chunks(problem, WITH_WEIGHTS_AT_ONCE)
            gradient, curvature = determinant_by_weights(problem, state, normal, covariance, chunks)
            of_network = slice(len(gradient))
            normal.weight_rhs[of_network] -= gradient
            normal.weight_curvature[of_network, of_network] += curvature
    cost += penalty.cost(state.sea_ice, problem.strengths).sum(0)
    change = state.sea_ice - problem.first_guess
    cost += (problem.prior_weight * change**2).sum(0)
    cost += 2 * (problem.prior_coupling * change[1:] * change[:-1]).sum(0)
    return normal._replace(cost=cost)


def _from_observations(problem, state, with_weights):
    """Normal equations without the terms of the state alone, one chunk after another."""
    n, q = 1 + state.properties.shape[1], state.observation_properties.shape[1]
    p = len(state.weights) if with_weights else 0
    cost = torch.zeros(problem.points)
    # columns of all three: (a cell's unknowns,) weights, right-hand side
    cells = torch.zeros(len(state.properties), n, n + p + 1)
    weights = torch.zeros(p, p + 1, dtype=torch.float64)
    back_substitution = torch.zeros(len(problem.index), q, n + p + 1)
    observation_covariance = torch.zeros(len(problem.index), q, q) if q else None
    network = network_of(problem.model, state.weights)
    size = WITH_WEIGHTS_AT_ONCE if with_weights else OBSERVATIONS_AT_ONCE
    for rows in _chunks(problem, size):
        cell, jacobian = linearise(problem, state, network, rows, with_weights)
        # J^T [J, r] of each observation, without the rows of the weights
        product = jacobian[..., : q + n].mT @ jacobian
        squared = (jacobian[..., -1] ** 2).sum(1)
        by_weight = jacobian[..., q + n :].flatten(0, 1)
        weights += by_weight[:, :-1].T @ by_weight
        if q:
            # The properties z of an observation appear in no other observation. With the blocks
            # D = J_z^T J_z + background and B = J_z^T J_other, z = D^-1 (rhs - B other) is
            # eliminated at once; the Schur complement B^T D^-1 B is subtracted from the others.
            properties = state.observation_properties[rows]
            squared += problem.property_weight * (properties**2).sum(1)
            product[:, :q, -1] -= problem.property_weight * properties
            block = product[:, :q, :q] + problem.property_weight * torch.eye(q)
            observation_covariance[rows] = torch.linalg.inv(block)
            solution = observation_covariance[rows] @ product[:, :q, q:]
            back_substitution[rows] = solution
            to_weights = product[:, :q, q + n : -1].flatten(0, 1)
            weights -= to_weights.T @ solution[..., n:].flatten(0, 1)
            product = product[:, q:, q:] - product[:, q:, :q] @ solution
        cells.index_add_(0, cell, product)
        cost.index_add_(0, cell % problem.points, squared)
    blocks = (cells[..., n:-1], weights[:, :-1], weights[:, -1]) if with_weights else (None,) * 3
    equations = (cost, cells[..., :n], cells[..., -1], *blocks)
    return NormalEquations(*equations, back_substitution, observation_covariance)


def is_bilinear(model):
    """Whether departures are linear in a cell's concentration s and in s times its properties.

    This is so with a linear network of gridded properties without a limit of the emissivity.
    """
    config = model.config
    return (
        config.network == "linear" and model.anchor is None and not config.n_observation_properties
    )


def sums_of_squares(problem, state):
    """Matrices Q of a bilinear problem: the squared departures of a cell sum up to v . Q v.

    With held weights, v = (1, s, s p) of the concentration s at the observation and properties p.

    Parameters
    ----------
    problem : Problem
    state : State
        Only its weights count.

    Returns
    -------
    Tensor (cell, K + 2, K + 2)
    """
    cells, width = len(state.properties), 2 + state.properties.shape[1]
    # departures and their derivatives at s = 1 and p = 0 hold all coefficients
    sea_ice = torch.full_like(state.sea_ice, 1 / problem.model.lag_weights.sum().item())
    state = state._replace(sea_ice=sea_ice, properties=torch.zeros_like(state.properties))
    squares = torch.zeros(cells, width, width)
    network = network_of(problem.model, state.weights)
    for rows in _chunks(problem, OBSERVATIONS_AT_ONCE):
        cell, jacobian = linearise(problem, state, network, rows, with_weights=False)
        residual, by_cell = jacobian[..., -1:], jacobian[..., :-1]
        coefficients = torch.cat([residual + by_cell[..., :1], -by_cell], 2)
        squares.index_add_(0, cell, coefficients.mT @ coefficients)
    return squares


def _from_squares(problem, state, squares):
    """The same from the matrices of :func:`sums_of_squares`, with held weights."""
    fraction = ice_fraction(problem, state.sea_ice)
    cells, n = len(fraction), 1 + state.properties.shape[1]
    v = torch.cat([torch.ones_like(fraction), fraction, fraction * state.properties], 1)
    # derivatives of v by s and by p
    by_state = torch.zeros(cells, n + 1, n)
    by_state[:, 1, 0] = 1
    by_state[:, 2:, 0] = state.properties
    by_state[:, range(2, n + 1), range(1, n)] = fraction
    # half the gradient of v . Q v is v' . Q v, half its Gauss-Newton curvature v' . Q v'
    product = squares @ torch.cat([by_state, v[..., None]], 2)
    curvature = by_state.mT @ product
    cost = (v * product[..., -1]).sum(1).reshape(-1, problem.points).sum(0)
    return NormalEquations(cost, curvature[..., :-1].contiguous(), -curvature[..., -1])


def ice_fraction(problem, sea_ice):
    """Concentration at the observations of each cell, from those of the days.

    Parameters
    ----------
    problem : Problem
    sea_ice : Tensor (lag + step, point)

    Returns
    -------
    Tensor (cell, 1)
    """
    lags = problem.model.lags
    days = len(sea_ice) - lags
    lagged = [sea_ice[lags - lag :][:days].flatten() for lag in range(lags + 1)]
    return problem.model.mixture(torch.stack(lagged, 1))


def _chunks(problem, size):
    """Slices of at most ``size`` observations."""
    return [slice(first, first + size) for first in range(0, len(problem.index), size)]
