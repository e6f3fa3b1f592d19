"""Errors of the first guess and spread of the properties, estimated from the observations.

The errors of a first guess persist from day to day, and differ from source to source: a climatology
may be off by 0.3 at the edge of the ice, an analysis by 0.05. Each iteration takes the state that
is most probable for the last estimate of the errors. The mean of its squared difference from the
first guess, plus its posterior variance, is the next estimate of the error variance. This is the
expectation-maximisation algorithm (Dempster et al. 1977; Shumway and Stoffer 1982 for time series).
"""

from typing import NamedTuple

import torch

from seaice_lab.emissivity.autoregression import autoregressive_precision
from seaice_lab.emissivity.gauss_newton_step import tridiagonal
from seaice_lab.emissivity.normal_equations import assemble, ice_fraction
from seaice_lab.emissivity.posterior import eliminate_properties, inverse_tridiagonal

# Concentrations that separate the classes of the first guess, with one standard deviation each.
CLASS_ENDS = (0.02, 0.15, 0.5, 0.95)
LOWEST_ERROR, LOWEST_SPREAD, HIGHEST_MEMORY = 0.02, 0.05, 0.97
LOWEST_ICE = 0.3  # concentration of a cell that counts for the spread of the properties


class Errors(NamedTuple):
    """Error statistics of the first guess and of the properties.

    Attributes
    ----------
    first_guess : Tensor (class,)
        Standard deviation of the errors, by class of the concentration.
    memory : float
        Correlation of the errors of the first guess from one day to the next.
    properties : float
        Standard deviation of the properties.
    property_memory : float
        Correlation of the properties from one day to the next.
    """

    first_guess: torch.Tensor
    memory: float
    properties: float
    property_memory: float = 0.0


def initial_errors(property_error):
    """Initial error statistics of the estimation, large so that the observations dominate.

    Parameters
    ----------
    property_error : float
        As in SolveConfig.

    Returns
    -------
    Errors
    """
    return Errors(torch.tensor([0.3, 0.3, 0.3, 0.3, 0.15]), 0.8, property_error)


def with_errors(problem, errors):
    """Replace the background error statistics of a Problem.

    Parameters
    ----------
    problem : Problem
    errors : Errors or None
        None: the problem stays unchanged.

    Returns
    -------
    Problem
    """
    if errors is None:
        return problem
    error = errors.first_guess.to(problem.first_guess.dtype)[_classes(problem.first_guess)]
    weight, coupling = autoregressive_precision(error, errors.memory)
    return problem._replace(
        prior_weight=weight,
        prior_coupling=coupling,
        property_weight=errors.properties**-2,
        property_memory=errors.property_memory,
    )


def update(problem, state, errors):
    """Update the error statistics by one iteration of expectation-maximisation.

    Parameters
    ----------
    problem : Problem
        With ``errors`` (:func:`with_errors`).
    state : State
        Minimum of the cost of ``problem``.
    errors : Errors

    Returns
    -------
    Errors
        Classes without observations keep their standard deviation.
    """
    normal = assemble(problem, state)
    reduced = eliminate_properties(problem, normal)
    variance, covariance = inverse_tridiagonal(reduced.diagonal, reduced.off_diagonal)
    seen = reduced.curvature > 0
    lag_weights = problem.model.lag_weights.tolist()
    days = tridiagonal(lag_weights, seen.double(), 0.0)[0] > 0  # observed, alone or in a mixture

    change = (state.sea_ice - problem.first_guess).double()
    squared, product = change**2 + variance, change[1:] * change[:-1] + covariance
    classes, first_guess = _classes(problem.first_guess), errors.first_guess.clone()
    for number in classes[days].unique():
        mean = squared[days & (classes == number)].mean()
        first_guess[number] = mean.sqrt().clip(LOWEST_ERROR)
    error, pairs = first_guess[classes].double(), days[1:] & days[:-1]
    relative = squared / error**2
    power = (relative[1:] + relative[:-1])[pairs].sum() / 2
    memory = (product / (error[1:] * error[:-1]))[pairs].sum() / power
    memory = float(memory.nan_to_num(0.0).clip(0, HIGHEST_MEMORY))

    of_ice = seen.flatten() & (ice_fraction(problem, state.sea_ice)[:, 0] > LOWEST_ICE)
    properties = errors.properties
    if of_ice.any() and state.properties.shape[1]:
        # variance at a fixed concentration, plus the effect of the variance of the concentration
        mixture = mixture_variance(lag_weights, variance, covariance).flatten()
        spread = reduced.inverse.diagonal(dim1=1, dim2=2)
        spread = spread + reduced.per_ice**2 * mixture[:, None] + state.properties.double() ** 2
        properties = max(LOWEST_SPREAD, float(spread[of_ice].mean().sqrt()))
    return errors._replace(first_guess=first_guess, memory=memory, properties=properties)


def mixture_variance(lag_weights, variance, covariance):
    """Variance of the weighted mean of two successive days, which is what is observed.

    Parameters
    ----------
    lag_weights : list of float
        Weights of the day and of the day before.
    variance, covariance : Tensor (lag + step, point), (lag + step - 1, point)
        Variance of the concentration of each day, and covariance of successive days.

    Returns
    -------
    Tensor (step, point)
    """
    if len(lag_weights) == 1:
        return lag_weights[0] ** 2 * variance
    today, before = lag_weights
    mixture = today**2 * variance[1:] + before**2 * variance[:-1]
    return mixture + 2 * today * before * covariance


def _classes(first_guess):
    return torch.bucketize(first_guess, torch.tensor(CLASS_ENDS, dtype=first_guess.dtype))
