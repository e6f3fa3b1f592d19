"""Samples of grid points and months: enough to fit a network, or to estimate errors."""

import torch

from seaice_lab.emissivity.least_squares import FIRST_GUESS_ERROR, State

MONTH_DAYS = 31
# While a network is fitted: limits of open water and closed ice in the first guess. Both have a
# normal distribution as background, with its mode this far below 0 or above 1 and this standard
# deviation. Within the bounds its mode is the bound, and its mean is 0.03 away from it.
OPEN_WATER, CLOSED_ICE, BEYOND_BOUND, CERTAIN_ERROR = 0.15, 0.85, 0.05, 0.06
WRONG = 0.12  # closed ice or open water of which the solution is farther away is wrong


def subsample_months(problem, state, sample, generator, month_days=MONTH_DAYS, certain=True):
    """Draw a random sample of months of grid points.

    Parameters
    ----------
    problem : Problem
    state : State
    sample : int
        Approximate number of observations; the sample has at least those of one month.
    generator : torch.Generator
    month_days : int
        Length of a month.
    certain : bool
        Whether the sample gets the background of :func:`certain_background`, if there is one.

    Returns
    -------
    problem : Problem
        Each month of the sample counts as one grid point.
    state : State
    """
    lags, points = problem.model.lags, problem.points
    days = len(state.sea_ice) - lags
    length = min(month_days, days)
    month = problem.index[:, 1].long() // length * points + problem.index[:, 0]
    share = sample / len(month)
    selected = torch.rand(-(-days // length) * points, generator=generator) < share
    selected[month[torch.randint(len(month), (1,), generator=generator)]] = True
    rows = torch.nonzero(selected[month])[:, 0]
    index = problem.index[rows]
    index[:, 0] = (torch.cumsum(selected, 0) - 1)[month[rows]].to(index.dtype)
    index[:, 1] %= length
    months = torch.nonzero(selected)[:, 0]
    first_day, point = months // points * length, months % points
    # the last month may be shorter: its last day is repeated, without observations
    day = (first_day + torch.arange(lags + length)[:, None]).clip(max=lags + days - 1)
    first_guess = problem.first_guess[day, point]
    prior_weight, has_background = problem.prior_weight[day, point], problem.prior_weight.any()
    if certain and has_background:
        first_guess, prior_weight = certain_background(first_guess)
    subset = problem._replace(
        index=index,
        scalars=problem.scalars[rows],
        channels=problem.channels[rows],
        points=len(months),
        prior_weight=prior_weight,
        first_guess=first_guess,
        prior_coupling=torch.zeros_like(first_guess[1:]),
        share=len(rows) / len(problem.index),
    )
    cell = (day[lags:] - lags) * points + point
    return subset, State(
        state.sea_ice[day, point],
        state.properties[cell.flatten()],
        state.observation_properties[rows],
        state.weights,
    )


def certain_background(first_guess):
    """Background of the concentration while a network is fitted, from a first guess.

    Brightness temperatures alone do not separate a higher emissivity of ice or water from a higher
    concentration. So the concentration is nearly fixed where the first guess has closed ice or open
    water, and this determines the emissivity of both. Most closed ice has a concentration of 1, and
    some has leads. A background around the mean of all of it makes the ice too bright: within
    bounds, noise can lower a concentration of 1 but not raise it. So the background has its mode at
    the bound and a tail for leads, and the same for open water.

    Parameters
    ----------
    first_guess : Tensor (lag + step, point)

    Returns
    -------
    background, inverse squared error : Tensor (lag + step, point)
    """
    water, closed = first_guess < OPEN_WATER, first_guess > CLOSED_ICE
    background = torch.where(water, -BEYOND_BOUND, first_guess)
    background = torch.where(closed, 1 + BEYOND_BOUND, background)
    return background, torch.where(water | closed, CERTAIN_ERROR, FIRST_GUESS_ERROR) ** -2.0


def release_contradicted(problem, state):
    """Weaken the background of :func:`certain_background` where the state is far from it.

    A first guess whose ice edge is displaced has closed ice in open water, or the opposite. A
    network that is fitted with such a background makes ice look like water. This is the background
    check of observations in data assimilation (Andersson and Jarvinen 1999), applied to the
    background.

    Parameters
    ----------
    problem : Problem
        Sample from :func:`subsample_months`.
    state : State
        Fitted to it with a first network.

    Returns
    -------
    Problem
        Where the concentration is more than 0.12 away from 1 in closed ice, or from 0 in open
        water, the background is 1 or 0 with a standard deviation of 0.15.
    """
    weak = FIRST_GUESS_ERROR**-2.0
    first_guess = problem.first_guess.clip(0, 1)
    wrong = (state.sea_ice - first_guess).abs() > WRONG
    wrong &= problem.prior_weight > weak
    return problem._replace(
        first_guess=torch.where(wrong, first_guess, problem.first_guess),
        prior_weight=torch.where(wrong, weak, problem.prior_weight),
    )
