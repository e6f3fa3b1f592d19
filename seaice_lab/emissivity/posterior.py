"""Posterior variances of the state from the normal equations, with fixed network weights.

The posterior covariance of a least-squares problem is the inverse of its curvature (Rodgers 2000,
section 2.3). Here the properties of each cell are eliminated first; the remaining matrix is
tridiagonal over the days of a grid point, because an observation sees a mixture of two days.
"""

import math
from typing import NamedTuple

import torch

from seaice_lab.emissivity.gauss_newton_step import PRIOR_CURVATURE, tridiagonal


class Reduced(NamedTuple):
    """Normal equations of the concentration, with the properties of the cells eliminated.

    Attributes
    ----------
    curvature : Tensor (step, point)
        Of the concentration at the observations.
    per_ice : Tensor (cell, property)
        Minus the change of the properties when that concentration increases by 1.
    inverse : Tensor (cell, property, property)
        Inverse curvature of the properties.
    diagonal, off_diagonal : Tensor (lag + step, point), (lag + step - 1, point)
        Curvature of the concentrations of the days, with the background.
    """

    curvature: torch.Tensor
    per_ice: torch.Tensor
    inverse: torch.Tensor
    diagonal: torch.Tensor
    off_diagonal: torch.Tensor


def eliminate_properties(problem, normal):
    """Eliminate the properties from the normal equations of a Problem, in double precision.

    Parameters
    ----------
    problem : Problem
    normal : NormalEquations

    Returns
    -------
    Reduced
    """
    blocks = normal.curvature.double()
    inverse = torch.linalg.inv(blocks[:, 1:, 1:])
    coupling = blocks[:, 1:, 0]
    per_ice = (inverse @ coupling[..., None])[..., 0]
    curvature = (blocks[:, 0, 0] - (coupling * per_ice).sum(1)).clip(0)
    curvature = curvature.reshape(-1, problem.points)
    prior = problem.prior_weight.double().clip(PRIOR_CURVATURE)
    diagonal, off_diagonal = tridiagonal(problem.model.lag_weights.tolist(), curvature, prior)
    return Reduced(curvature, per_ice, inverse, diagonal, off_diagonal + problem.prior_coupling)


def inverse_tridiagonal(diagonal, off_diagonal):
    """Diagonal and first off-diagonal of the inverse of symmetric tridiagonal matrices.

    Each row is eliminated once from the first row down (pivot f) and once from the last row up
    (pivot b). With the diagonal entry d, the diagonal of the inverse is 1 / (f + b - d) (Meurant
    1992). Nothing is changed in place, so that torch.func can differentiate it.

    Parameters
    ----------
    diagonal : Tensor (row, matrix)
    off_diagonal : Tensor (row - 1, matrix)

    Returns
    -------
    diagonal, off_diagonal : Tensor
        Of the same shapes.
    """
    forward, backward = [diagonal[0]], [diagonal[-1]]
    for row in range(1, len(diagonal)):
        forward.append(diagonal[row] - off_diagonal[row - 1] ** 2 / forward[-1])
    for row in range(len(diagonal) - 2, -1, -1):
        backward.insert(0, diagonal[row] - off_diagonal[row] ** 2 / backward[0])
    forward = torch.stack(forward)
    inverse = 1 / (forward + torch.stack(backward) - diagonal)
    return inverse, -off_diagonal / forward[:-1] * inverse[1:]


def concentration_variance(problem, reduced, noise):
    """Posterior variance of the concentrations if the assigned observation errors are wrong.

    The state minimises a cost with the assigned errors. If the variances of the true errors are
    ``noise`` times as large, the covariance is H^-1 T H^-1. H is the curvature, and T is H with the
    contribution of the observations multiplied by ``noise``. This covariance is minus the
    derivative of (H + t T)^-1 with respect to t at t = 0.

    Parameters
    ----------
    problem : Problem
    reduced : Reduced
    noise : float
        True variance of the observation errors divided by the assigned one.

    Returns
    -------
    Tensor (lag + step, point)
    """
    # Without a background of the concentration, the variance of its estimate in a cell is
    # 1 / curvature; the background of the properties contributes this share of it.
    share = problem.property_weight * (reduced.per_ice**2).sum(1)
    share = (share.reshape(reduced.curvature.shape) / reduced.curvature).nan_to_num(0.0)
    excess = (noise - 1) * (1 - share.clip(max=1)) * reduced.curvature
    lag_weights = problem.model.lag_weights.tolist()
    on, beside = tridiagonal(lag_weights, excess, 0.0)
    at = (reduced.diagonal, reduced.off_diagonal)
    along = (reduced.diagonal + on, reduced.off_diagonal + beside)
    return -torch.func.jvp(lambda *matrix: inverse_tridiagonal(*matrix)[0], at, along)[1]


def truncated_deviation(mode, deviation):
    """Standard deviation of normal distributions that are truncated at 0 and 1.

    Parameters
    ----------
    mode : Tensor
        Values outside 0 to 1 count as the nearest bound.
    deviation : Tensor
        Before the truncation, of the same shape.

    Returns
    -------
    Tensor
    """
    mode = mode.clip(0, 1)
    low, high = -mode / deviation, (1 - mode) / deviation
    share = torch.special.ndtr(high) - torch.special.ndtr(low)
    at_low, at_high = (torch.exp(-(at**2) / 2) / (2 * math.pi) ** 0.5 for at in (low, high))
    mean = (at_low - at_high) / share
    variance = 1 + (low * at_low - high * at_high) / share - mean**2
    return deviation * variance.clip(0).sqrt()
