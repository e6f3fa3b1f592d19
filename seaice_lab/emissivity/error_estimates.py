"""Errors of the first guess and spread of the properties, estimated from the observations.

The errors of a first guess persist from day to day, and differ from source to source: a climatology
may be off by 0.3 at the edge of the ice, an analysis by 0.05. With the state that is most probable
for some errors, its mean squared change from the first guess plus its variance is the next estimate
of their variance. Repeated, this is the expectation-maximisation algorithm (Dempster et al. 1977;
Shumway and Stoffer 1982 for series).
"""

from typing import NamedTuple

import torch

from seaice_lab.emissivity.gauss_newton_step import tridiagonal
from seaice_lab.emissivity.normal_equations import assemble, ice_fraction
from seaice_lab.emissivity.posterior import eliminate_properties, inverse_tridiagonal

# Classes of the first guess, with an error each: up to each of these concentrations, and above.
CLASS_ENDS = (0.02, 0.15, 0.5, 0.95)
LOWEST_ERROR, HIGHEST_MEMORY = 0.02, 0.97
ICE = 0.3  # concentration from which a cell tells something about the properties of ice


class Errors(NamedTuple):
    """Errors with which a state is found.

    Attributes
    ----------
    first_guess : Tensor (class,)
        Standard deviation of the first guess by class of its concentration.
    memory : float
        Correlation of its errors from one day to the next.
    properties : float
        Standard deviation of the properties.
    """

    first_guess: torch.Tensor
    memory: float
    properties: float


def initial_errors(property_error):
    """Errors from which the estimation starts, wide so that the observations decide.

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
    """A Problem whose backgrounds have other errors.

    Parameters
    ----------
    problem : Problem
    errors : Errors or None
        None changes nothing.

    Returns
    -------
    Problem
    """
    if errors is None:
        return problem
    error = errors.first_guess.to(problem.first_guess.dtype)[_classes(problem.first_guess)]
    weight, coupling = autoregressive_precision(error, errors.memory)
    return problem._replace(
        prior_weight=weight, prior_coupling=coupling, property_weight=errors.properties**-2
    )


def autoregressive_precision(error, memory):
    """Inverse covariance of errors that follow a first-order autoregressive process over the days.

    Parameters
    ----------
    error : Tensor (day, point)
        Standard deviations.
    memory : float
        Correlation of the errors of successive days, below 1.

    Returns
    -------
    diagonal, off_diagonal : Tensor (day, point), (day - 1, point)
        The matrix is tridiagonal over the days.
    """
    scale = 1 / (1 - memory**2)
    inner = error.new_full((len(error), 1), scale * (1 + memory**2))
    inner[0] = inner[-1] = scale if len(error) > 1 else 1.0
    return inner / error**2, -memory * scale / (error[1:] * error[:-1])


def update(problem, state, errors):
    """The next estimate of the errors, from the state that is most probable for the last one.

    Parameters
    ----------
    problem : Problem
        With ``errors`` (:func:`with_errors`).
    state : State
        Minimum of its cost.
    errors : Errors

    Returns
    -------
    Errors
        Classes that were not observed keep their error. The spread of the properties only grows:
        the network is fitted with the first one, and ice of a kind that it does not know needs all
        of it.
    """
    normal = assemble(problem, state)
    reduced = eliminate_properties(problem, normal)
    variance, covariance = inverse_tridiagonal(reduced.diagonal, reduced.off_diagonal)
    seen = reduced.curvature > 0
    lag_weights = problem.model.lag_weights.tolist()
    days = tridiagonal(lag_weights, seen.double(), 0.0)[0] > 0  # seen alone or in a mixture

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

    of_ice = seen.flatten() & (ice_fraction(problem, state.sea_ice)[:, 0] > ICE)
    properties = errors.properties
    if of_ice.any() and state.properties.shape[1]:
        # with the concentration known, and what its own variance adds
        mixture = mixture_variance(lag_weights, variance, covariance).flatten()
        spread = reduced.inverse.diagonal(dim1=1, dim2=2)
        spread = spread + reduced.per_ice**2 * mixture[:, None] + state.properties.double() ** 2
        properties = max(properties, float(spread[of_ice].mean().sqrt()))
    return Errors(first_guess, memory, properties)


def mixture_variance(lag_weights, variance, covariance):
    """Variance of the mixtures of days that observations see.

    Parameters
    ----------
    lag_weights : list of float
        Shares of today and of the day before.
    variance, covariance : Tensor (lag + step, point), (lag + step - 1, point)
        Of the days, and of successive days.

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
