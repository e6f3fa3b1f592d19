"""The cost of 4D-Var and its gradient in the control.

J(v) = v'v / 2 + sum of d'd / 2, d = (y - H(M(x_0))) / sigma, x_0 = x_b + B^(1/2) v (Le Dimet and
Talagrand 1986, doi 10.3402/tellusa.v38i2.11706; Courtier, Thepaut and Hollingsworth 1994,
doi 10.1002/qj.49712051912). With a weak constraint, the control also has the model errors eta of
intervals of the window, x_(i+1) = M(x_i) + eta (Tremolet 2006, doi 10.1256/qj.05.224). The network
computes in its own precision, all else in float64.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator

from seaice_lab.assimilation.model import WindowModel, adjoint, states, to_image, with_errors
from seaice_lab.errors import InputError, listed


class Observations(NamedTuple):
    """Observations of a batch of windows, made by :func:`observations`.

    ``operator`` maps the states (batch, step, channel, y, x) after ``steps`` to what is observed,
    (batch, observation). Errors are independent. Beyond ``huber`` standard deviations, the cost
    grows linearly with the departure (Huber norm), so that outliers count less.
    """

    steps: tuple[int, ...]
    operator: Callable
    values: torch.Tensor
    sigma: torch.Tensor
    huber: float = np.inf


def observations(model, steps, operator, values, sigma, huber=np.inf):
    """Check observations and bring them to the device of the model.

    Parameters
    ----------
    model : WindowModel
    steps : sequence of int
        Steps of the window after which the state is observed, ascending.
    operator : callable
        Differentiable, such as :func:`weighted_cells`.
    values, sigma : array_like (batch, observation)
        Observed values and the standard deviations of their errors, in the units of the state. An
        infinite sigma means no observation; it fills up windows that have fewer than others.
    huber : float
        Departure in standard deviations up to which the cost is quadratic, for example 2; infinite
        for a cost that is quadratic everywhere (Tavolato and Isaksen 2015, doi 10.1002/qj.2440).

    Returns
    -------
    Observations

    Raises
    ------
    InputError
        If a step is outside the window, a standard deviation is not positive, or a value is
        missing.
    """
    last, steps = len(model.forcing), tuple(map(int, steps))
    wrong = [step for step in steps if not 0 <= step <= last]
    if wrong or list(steps) != sorted(set(steps)):
        raise InputError(
            f"observations: found steps {listed(wrong or steps)}, expected ascending steps from 0 "
            f"to {last}, the length of the window; leave out observations at other times"
        )
    values, sigma = np.broadcast_arrays(np.asarray(values, float), np.asarray(sigma, float))
    is_used = np.isfinite(sigma)
    if not (sigma > 0).all() or not np.isfinite(values[is_used]).all():
        raise InputError(
            "observations: a value is missing, or the standard deviation of its error is missing "
            "or not positive; leave this observation out or state its error"
        )
    tensors = [torch.from_numpy(a.copy()) for a in (np.where(is_used, values, 0), sigma)]
    return Observations(steps, operator, *(t.to(model.forcing.device) for t in tensors), huber)


def weighted_cells(positions, weights):
    """Observation operator that is a weighted sum of cells, such as a mean over a week or a track.

    Parameters
    ----------
    positions : torch.Tensor of int ([batch,] observation, cell)
        Positions in the flattened array (step, channel, y, x) of observed states, for example from
        :func:`cell_positions`.
    weights : torch.Tensor ([batch,] observation, cell)

    Returns
    -------
    callable
    """

    def operator(fields):
        shape = len(fields), *positions.shape[-2:]
        cells = positions.expand(shape).flatten(1)
        return (fields.flatten(1).gather(1, cells).reshape(shape) * weights).sum(-1)

    return operator


def cell_positions(ocean, step, channel=0, channels=1):
    """Positions of all ocean cells of one channel at one of the observed steps.

    Parameters
    ----------
    ocean : torch.Tensor of bool (y, x)
    step : int
        Number of the step among the observed ones, from 0.
    channel, channels : int
        Channel of the state, and number of channels.

    Returns
    -------
    torch.Tensor of int (cell,)
    """
    return (step * channels + channel) * ocean.numel() + ocean.flatten().nonzero()[:, 0]


class Problem(NamedTuple):
    """Model, background, B, observations and bounds of an analysis, from :func:`problem_of`."""

    model: WindowModel
    background: torch.Tensor
    root: LinearOperator
    observations: Observations
    combine: Callable
    variables: tuple[int, ...]
    intervals: int = 0

    @property
    def shape(self):
        """Shape of the control: (batch, entry)."""
        return len(self.background), self.root.shape[1]


def problem_of(
    model, background, root, observations, combine=torch.add, variables=None, intervals=0
):
    """Put together a problem whose parts belong to the same state.

    Parameters
    ----------
    model : WindowModel
    background : torch.Tensor (batch, channel, y, x)
        Initial state x_b of each window in the units of the model, finite on land too.
    root : LinearOperator
        Square root of B, of increments of the present variables.
    observations : Observations
    combine : callable
        Adds an increment to the background, such as one of
        :mod:`~seaice_lab.assimilation.bounds`; by default without bounds.
    variables : sequence of int, optional
        For each channel of the state the number of its variable; by default each channel is a
        variable of its own. An increment moves a past state like the present one, so that the
        change over a step, which the network reads, stays that of the background.
    intervals : int
        Number of intervals of the window with a constant model error (weak constraint); 0 if the
        model has no errors. The increments of ``root`` at the start are followed by the errors of
        each interval: :func:`~seaice_lab.assimilation.background.block_diagonal`.

    Returns
    -------
    Problem

    Raises
    ------
    InputError
        If the background is not finite, or sizes differ.
    """
    batch, channels = background.shape[:2]
    variables = tuple(range(channels) if variables is None else variables)
    count, cells = max(variables) + 1, int(model.ocean.sum())
    if not torch.isfinite(background).all():
        raise InputError("background: a value is missing or infinite, expected finite values")
    if len(variables) != channels or root.shape[0] != (1 + intervals) * count * cells:
        of_intervals = f", for the start and {intervals} intervals" if intervals else ""
        raise InputError(
            f"background errors: found increments of {root.shape[0]} values for a state of "
            f"{channels} channels, expected {count} variable(s) of {cells} cells"
            f"{of_intervals}; make B for the variables and the ocean cells of the network"
        )
    batches = {"forcing": model.forcing.shape[1], "background": batch}
    if observations.steps:
        batches["observations"] = len(observations.values)
    if len(set(batches.values())) > 1:
        counts = ", ".join(f"{count} of {name}" for name, count in batches.items())
        raise InputError(f"windows: found {counts}, expected equal numbers of windows")
    return Problem(model, background.double(), root, observations, combine, variables, intervals)


def increment_of(problem, control):
    """The increment for a control, B^(1/2) v, on the device of the model.

    Parameters
    ----------
    problem : Problem
    control : ndarray, any shape with batch * entry values

    Returns
    -------
    torch.Tensor (batch, variable * cell), float64
        In units of the state; with a weak constraint followed by the model errors of each interval.
    """
    increment = problem.root @ np.reshape(control, problem.shape).astype(float).T
    return torch.from_numpy(increment.T).to(problem.background.device)


def window_states(problem, increment, steps):
    """States of the window for an increment, with the model errors of a weak constraint.

    Parameters
    ----------
    problem : Problem
    increment : torch.Tensor
        As from :func:`increment_of`.
    steps : sequence of int
        As in :func:`~seaice_lab.assimilation.model.states`.

    Returns
    -------
    torch.Tensor (batch, step, channel, y, x)
        In the precision of the model.
    """
    model, count = problem.model, max(problem.variables) + 1
    fields = to_image(increment, model.ocean)
    if problem.intervals:
        errors = fields[:, count:].unflatten(1, (problem.intervals, count))
        model = with_errors(model, errors, problem.combine)
    initial = problem.combine(problem.background, fields[:, list(problem.variables)])
    return states(model, initial, steps)


def simulate(problem, increment):
    """What the observations would be for an increment, H(M(x_0)).

    Parameters
    ----------
    problem, increment
        As in :func:`window_states`.

    Returns
    -------
    torch.Tensor (batch, observation), float64
    """
    window = window_states(problem, increment, problem.observations.steps)
    return problem.observations.operator(window.double())


def _departures(problem, increment):
    """Departures of the observations, in standard deviations of their errors."""
    observed = problem.observations
    return (observed.values - simulate(problem, increment)) / observed.sigma


class Cost(NamedTuple):
    """Background and observation cost of each window (batch,), gradient of J (batch, entry)."""

    background: np.ndarray
    observations: np.ndarray
    gradient: np.ndarray

    @property
    def total(self):
        """J, the sum over both terms and all windows."""
        return float(self.background.sum() + self.observations.sum())


def cost(problem, control):
    """The cost and its gradient, v - B^(T/2) M'^T H'^T R^-1 d.

    Parameters
    ----------
    problem : Problem
    control : ndarray, any shape with batch * entry values

    Returns
    -------
    Cost
        Its values are not finite if the forecast of the window grows to infinity.

    Raises
    ------
    InputError
        If the observations do not depend on the initial state.
    """
    control = np.asarray(control, float).reshape(problem.shape)
    background = 0.5 * (control**2).sum(-1)
    if not problem.observations.steps:
        return Cost(background, np.zeros(len(control)), control)
    # The square root of B is known with its adjoint, so torch differentiates only from the
    # increment on: the adjoint gives dJ_o/dx = -M'^T H'^T R^-1 d, and B^(T/2) leads to the control.
    increment = increment_of(problem, control).requires_grad_()
    departures = _departures(problem, increment).abs()
    # With the limit c of the Huber norm: d^2 / 2 for |d| <= c, beyond it c |d| - c^2 / 2.
    quadratic = departures.clamp(max=problem.observations.huber)
    terms = (quadratic * (departures - quadratic / 2)).sum(-1)
    if not terms.requires_grad:
        raise InputError(
            "the observations do not depend on the initial state through differentiable "
            "operations; check the operator and the model"
        )
    (sensitivity,) = torch.autograd.grad(terms.sum(), increment)
    gradient = control + (problem.root.H @ sensitivity.T.cpu().numpy()).T
    return Cost(background, terms.detach().cpu().numpy(), gradient)


def hessian_product(problem, control, direction):
    """Product of the Gauss-Newton Hessian I + B^(T/2) M'^T H'^T R^-1 H' M' B^(1/2) and a vector.

    Parameters
    ----------
    problem : Problem
    control, direction : ndarray, any shape with batch * entry values
        The point of linearisation, and the vector.

    Returns
    -------
    ndarray (batch, entry)
    """
    direction = np.asarray(direction, float).reshape(problem.shape)
    point, departures = increment_of(problem, control), partial(_departures, problem)
    value, change = torch.func.jvp(departures, (point,), (increment_of(problem, direction),))
    # The second derivative of the Huber norm is 1 within its limit, and 0 beyond.
    change = (change * (value.abs() <= problem.observations.huber)).detach()
    return direction + (problem.root.H @ adjoint(departures, point, change).T.cpu().numpy()).T
