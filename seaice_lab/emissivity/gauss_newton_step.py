"""A Gauss-Newton step: solve the normal equations for weights, concentrations and properties.

The unknowns are eliminated from the inside out. The properties of an observation are gone already
(:mod:`~seaice_lab.emissivity.normal_equations`); the cells are eliminated from the equations of the
weights, then the properties of each cell from that of its concentration. Back-substitution gives
all of them in the opposite order.
"""

import torch

from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.autoregression import beside
from seaice_lab.emissivity.least_squares import State, weight_background
from seaice_lab.emissivity.normal_equations import ice_fraction

LARGEST_CHANGE = 0.4  # of a concentration in one step
# Added to every curvature, so that an unknown without observations keeps its value.
PRIOR_CURVATURE = 1e-4
FIXED = 1e6  # curvature of a concentration that cannot change
DAMPING_FLOOR = 1e-3  # share of the mean curvature that damps weights of small curvature
SWEEPS = 12  # over even and odd days


def step(problem, state, normal, damping):
    """The state after a Gauss-Newton step, of the weights as well if ``normal`` has them.

    Parameters
    ----------
    problem : Problem
    state : State
    normal : NormalEquations
    damping : Tensor (point,)
        Share of each curvature that is added to it (Levenberg damping); the same for all points if
        ``normal`` has weights.

    Returns
    -------
    State
    """
    days = len(state.properties) // problem.points
    added = damping.repeat(days)[:, None] * normal.curvature.diagonal(dim1=1, dim2=2)
    curvature, rhs = normal.curvature + torch.diag_embed(added + PRIOR_CURVATURE), normal.rhs
    weights, weight_change = state.weights, None
    if normal.cross is not None:
        weight_change = solve_weights(problem, state, normal, curvature, damping[0])
        weights = weights + weight_change
        rhs = rhs - normal.cross @ weight_change  # of the cells, with the weights known

    # The properties of a cell follow its concentration:
    # change = at_fixed_ice - per_ice * ice_change.
    # Their elimination leaves a scalar Schur complement for the concentration at the observation.
    coupling = curvature[:, 1:, 0]
    inverse = torch.linalg.inv(curvature[:, 1:, 1:])
    per_ice, at_fixed_ice = (inverse @ torch.stack([coupling, rhs[:, 1:]], 2)).unbind(2)
    ice_curvature = curvature[:, 0, 0] - (coupling * per_ice).sum(1)
    ice_rhs = rhs[:, 0] - (coupling * at_fixed_ice).sum(1)
    shape = (days, problem.points)
    sea_ice = solve_concentration(
        problem, state.sea_ice, ice_curvature.reshape(shape), ice_rhs.reshape(shape)
    )

    # back-substitution: properties of the cell, then those of each observation
    ice_change = ice_fraction(problem, sea_ice - state.sea_ice)
    change = at_fixed_ice - ice_change * per_ice
    if weight_change is None:  # accepted even if the cost rises, and limited for this reason
        change = change.clip(-1, 1)
    observation_properties = state.observation_properties
    if observation_properties.shape[1]:
        n, solution = 1 + change.shape[1], normal.back_substitution
        cell = problem.index[:, 1].long() * problem.points + problem.index[:, 0].long()
        cell_change = torch.cat([ice_change, change], 1)[cell]
        of_cell = (solution[..., :n] @ cell_change[..., None])[..., 0]
        observation_change = solution[..., -1] - of_cell
        if weight_change is not None:
            observation_change = observation_change - solution[..., n:-1] @ weight_change
        observation_properties = observation_properties + observation_change.clip(-1, 1)
    return State(sea_ice, state.properties + change, observation_properties, weights)


def solve_weights(problem, state, normal, curvature, damping):
    """Change of the weights in a joint step, with the cells eliminated.

    The normal equations are an arrow: blocks A of the cells on the diagonal, their coupling C with
    the weights, and the block W of the weights. With A x + C w = b and C^T x + W w = c, the Schur
    complement gives (W - C^T A^-1 C) w = c - C^T A^-1 b: this is variable projection.

    Parameters
    ----------
    problem : Problem
    state : State
    normal : NormalEquations
    curvature : Tensor (cell, n, n)
        The damped blocks A.
    damping : float

    Returns
    -------
    Tensor (weight,)
    """
    weights = state.weights
    background_curvature, background_rhs, _ = weight_background(problem, weights)
    # Concentrations must be eliminated with their backgrounds and bounds, or the steps of the
    # weights would treat these as free. The error of a mixture of days follows from that of a day.
    lag_weights, lags = problem.model.lag_weights, problem.model.lags
    fraction, mean = (
        ice_fraction(problem, sea_ice)[:, 0] for sea_ice in (state.sea_ice, problem.first_guess)
    )
    held = (problem.prior_weight[lags:] / (lag_weights**2).sum()).flatten()
    rhs = normal.rhs.clone()
    rhs[:, 0] += held * (mean - fraction)
    if problem.strengths.bounded:  # at a bound that it would cross, a concentration cannot change
        at_0, at_1 = fraction <= 0, fraction >= lag_weights.sum() * (1 - 1e-6)
        crosses = (at_0 & (rhs[:, 0] < 0)) | (at_1 & (rhs[:, 0] > 0))
        held = torch.where(crosses, FIXED, held)
    curvature = curvature.clone()
    curvature[:, 0, 0] += held
    solved = torch.linalg.inv(curvature) @ torch.cat([normal.cross, rhs[..., None]], 2)
    cross = normal.cross.flatten(0, 1).double()
    block = normal.weight_curvature + background_curvature
    diagonal = block.diagonal()
    block = block + torch.diag(damping * (diagonal + DAMPING_FLOOR * diagonal.mean()))
    block = block - cross.T @ solved[..., :-1].flatten(0, 1).double()
    rhs = normal.weight_rhs + background_rhs - cross.T @ solved[..., -1].flatten().double()
    return torch.linalg.solve(block, rhs).to(weights.dtype)


def solve_concentration(problem, sea_ice, curvature, rhs):
    """Concentrations that minimise the quadratic cost of the observations plus the penalty.

    An observation sees a mixture of two days, so that the normal equations over the days of a grid
    point are tridiagonal. The penalty has several minima; hence even and odd days are minimised
    exactly in turns, each with its neighbours held (red-black Gauss-Seidel).

    Parameters
    ----------
    problem : Problem
    sea_ice : Tensor (lag + step, point)
    curvature, rhs : Tensor (step, point)
        Of the change of the concentration at the observation.

    Returns
    -------
    Tensor (lag + step, point)
    """
    lag_weights, lags = problem.model.lag_weights.tolist(), problem.model.lags
    diagonal, off_diagonal = tridiagonal(lag_weights, curvature.clip(0), PRIOR_CURVATURE)

    # the equations of the new concentrations instead of their change
    total = diagonal * sea_ice + beside(off_diagonal, sea_ice)
    for lag, weight in enumerate(lag_weights):
        total[lags - lag : lags - lag + len(rhs)] += weight * rhs
    # the background of the concentration, of weight 0 if there is none
    diagonal = diagonal + problem.prior_weight
    total = total + problem.prior_weight * problem.first_guess
    total = total + beside(problem.prior_coupling, problem.first_guess)
    off_diagonal = off_diagonal + problem.prior_coupling
    new = sea_ice.clone()
    coupled = 1 + bool(off_diagonal.any())
    for _ in range(SWEEPS if coupled > 1 else 1):
        for first in range(coupled):
            days = slice(first, None, coupled)
            right = (total - beside(off_diagonal, new))[days]
            best = penalty.minimise(diagonal[days], right, problem.strengths)
            new[days] += (best - new[days]).clip(-LARGEST_CHANGE, LARGEST_CHANGE)
    return new


def tridiagonal(lag_weights, curvature, prior):
    """Curvature of the concentrations of all days of a point, from that at the observations.

    With the mixture M of the days, M^T diag(curvature) M + prior. It is tridiagonal for two lag
    weights and diagonal for one.

    Parameters
    ----------
    lag_weights : list of float
        Shares of today and of the day before.
    curvature : Tensor (step, point)
    prior : float or Tensor (lag + step, point)

    Returns
    -------
    diagonal : Tensor (lag + step, point)
    off_diagonal : Tensor (lag + step - 1, point)
    """
    days, lags = len(curvature), len(lag_weights) - 1
    diagonal = curvature.new_zeros((lags + days, *curvature.shape[1:])) + prior
    for lag, weight in enumerate(lag_weights):
        diagonal[lags - lag : lags - lag + days] += weight**2 * curvature
    if not lags:
        return diagonal, torch.zeros_like(curvature[1:])
    return diagonal, lag_weights[0] * lag_weights[1] * curvature
