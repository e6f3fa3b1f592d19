"""The published 4D-Var of Durand et al. (2025, doi 10.5194/tc-19-5613-2025), for comparison.

All states are normalised thickness, z = (SIT - mu) / sigma. The published scripts have two faults
that change the cost; :func:`published_forcing` and :func:`published_observed` reproduce them.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import aslinearoperator

from seaice_lab.assimilation.background import diagonal
from seaice_lab.assimilation.bounds import control_limits
from seaice_lab.assimilation.cost import Problem, cost, increment_of, problem_of, window_states
from seaice_lab.assimilation.minimise import Stopping, minimise
from seaice_lab.assimilation.model import to_image

PUBLISHED_STOPPING = Stopping(gradient=0.0, floor=1e-4, decrease=1e-6, iterations=15_000)


def published_step(network, constants, relu=True):
    """The published forecast step in normalised units, z' = z_min + relu(z + increment).

    Parameters
    ----------
    network : torch.nn.Module
        Maps (batch, channel, y, x) of normalised thickness and forcing to (batch, 1, y, x).
    constants : sequence of float
        Mean mu and standard deviation sigma of the thickness, mean and standard deviation of its
        increment (metres), and the normalised thickness z_min of open water.
    relu : bool
        False for the published wrapper without bound, z' = z + increment.

    Returns
    -------
    callable
        ``step(state, forcing)``. The relu cuts at z = 0 and not at z_min, as published; the bias of
        the head of a trained network makes up for it.
    """
    _, std, increment_mean, increment_std, minimum = constants

    def step(state, forcing):
        increment = network(torch.cat([state, forcing], 1)) * increment_std + increment_mean
        later = state + increment / std
        return minimum + torch.relu(later) if relu else later

    return step


class PublishedForm(NamedTuple):
    """A problem in the published control c = centre + scale v, with the limits of c."""

    problem: Problem
    scale: float
    centre: np.ndarray | float = 0.0
    limits: np.ndarray | None = None


def published_direct(model, observations, background, std=1.0, minimum=-np.inf):
    """The direct form: the control is the state, J_b = sum of (x - x_b)^2 / (2 s^2), x >= z_min.

    Parameters
    ----------
    model : WindowModel
    observations : Observations
    background : ndarray (cell,)
        Normalised thickness x_b.
    std : float
        Background error s; the published s^2 is 1 times the inflation.
    minimum : float
        Smallest value of the control.

    Returns
    -------
    PublishedForm
    """
    root = diagonal(np.full(background.size, float(std)))
    problem = problem_of(model, _image(background, model), root, observations)
    limits = control_limits(np.zeros(background.size), 1.0, minimum, np.inf)
    return PublishedForm(problem, std, background, limits)


def published_eof(model, observations, mean, vectors, inflation=1.0):
    """The EOF form: x = mean + E u, J_b = u'u / (2 inflation), without variances of the patterns.

    Parameters
    ----------
    model : WindowModel
    observations : Observations
    mean : ndarray (cell,)
    vectors : ndarray (cell, pattern)
        E, from :func:`~seaice_lab.assimilation.background.eof_decomposition`.
    inflation : float

    Returns
    -------
    PublishedForm
    """
    scale = np.sqrt(inflation)
    problem = problem_of(
        model, _image(mean, model), aslinearoperator(scale * vectors), observations
    )
    return PublishedForm(problem, scale)


def published_cost(form, control):
    """Cost and gradient in the published control.

    Parameters
    ----------
    form : PublishedForm
    control : ndarray (entry,)

    Returns
    -------
    Cost
        With the gradient (entry,).
    """
    terms = cost(form.problem, (control - form.centre) / form.scale)
    return terms._replace(gradient=terms.gradient[0] / form.scale)


def published_minimum(form, start, stopping=PUBLISHED_STOPPING):
    """Minimise a published form in its control, from a first guess.

    Parameters
    ----------
    form : PublishedForm
    start : ndarray (entry,)
    stopping : Stopping

    Returns
    -------
    Minimum
    """
    return minimise(partial(published_cost, form), start, form.limits, stopping)


def published_run(form, control, steps):
    """States of a window after its analysis.

    Parameters
    ----------
    form : PublishedForm
    control : ndarray (entry,)
    steps : sequence of int
        The published next background is the state after all steps but one, one step too early.

    Returns
    -------
    ndarray (step, cell)
    """
    increment = increment_of(form.problem, (control - form.centre) / form.scale)
    with torch.no_grad():
        window = window_states(form.problem, increment, steps)
    return window[0, :, 0, form.problem.model.ocean].cpu().numpy()


def published_forcing(forcing, every):
    """The published fault that all intervals between observations use the forcing of the first one.

    Parameters
    ----------
    forcing : torch.Tensor (step, batch, channel, y, x)
        From the first step of the data set on.
    every : int
        Steps between two observations.

    Returns
    -------
    torch.Tensor, of the shape of ``forcing``
    """
    return forcing[torch.arange(len(forcing)) % every]


def published_observed(ocean, count):
    """The published fault that the EOF form compares all observations with the same forecast.

    Parameters
    ----------
    ocean : torch.Tensor of bool (y, x)
    count : int
        Number of observations of each cell in the window.

    Returns
    -------
    callable
        Observation operator of the only observed step, which repeats the ocean cells.
    """
    return lambda fields: fields[:, 0, 0, ocean].repeat(1, count)


def _image(vector, model):
    return to_image(torch.from_numpy(vector)[None].to(model.ocean.device), model.ocean)
