"""Minimise the cost: by L-BFGS-B, or in incremental form by conjugate gradients."""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.sparse.linalg import LinearOperator, cg

from seaice_lab.assimilation.cost import cost, hessian_product
from seaice_lab.errors import InputError


class Minimum(NamedTuple):
    """Where a minimisation ended, and why.

    ``history`` has J at each evaluation.
    """

    control: np.ndarray
    history: np.ndarray
    iterations: int
    reason: str


# Reason of an end without convergence.
NO_LOWER_COST = "no lower cost was found along the last direction: limit of precision, or a kink"


class Stopping(NamedTuple):
    """When L-BFGS stops, whichever comes first.

    ``gradient``: the largest component of the projected gradient is at most this share of that at
    the start, or at most ``floor``. ``decrease``: an iteration lowers J by less than this share of
    J, which rounding in a float32 network causes too. ``iterations``: the largest number of
    iterations.
    """

    gradient: float = 1e-4
    floor: float = 0.0
    decrease: float = 1e-6
    iterations: int = 100


STOPPING = Stopping()


def minimise(function, start, limits=None, stopping=STOPPING):
    """Minimise a function by L-BFGS-B in float64 (Byrd et al. 1995, doi 10.1137/0916069).

    Parameters
    ----------
    function : callable
        ``function(control)`` returns a :class:`~seaice_lab.assimilation.cost.Cost`.
    start : ndarray, any shape
    limits : ndarray (2, ...), optional
        Lower and upper bounds of the control, of the shape of the start.
    stopping : Stopping

    Returns
    -------
    Minimum
        With the control in the shape of the start.

    Raises
    ------
    InputError
        If J is not finite at the start. A step to a point where J is not finite is halved.
    """
    low, high = (-np.inf, np.inf) if limits is None else np.reshape(limits, (2, -1))
    first_control, history = np.clip(start.ravel(), low, high), []
    first = function(first_control)
    lowest = first.total, first.gradient.ravel()
    _check_finite(first.total)
    first_gradient = _largest(first_control, lowest[1], low, high)

    def evaluate(control):
        nonlocal lowest
        # The minimiser begins at the start, whose gradient the stopping rule has already.
        terms = function(control) if history else first
        value, gradient = terms.total, terms.gradient.ravel()
        history.append(value)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            # The line search fits a polynomial to the values and slopes at both ends of the step.
            # With an earlier value and the opposite gradient, it continues in the middle.
            return lowest[0], -lowest[1]
        if value <= lowest[0]:
            lowest = value, gradient
        return value, gradient

    small_gradient = max(stopping.gradient * first_gradient, stopping.floor)
    result = optimize.minimize(
        evaluate,
        first_control,
        jac=True,
        method="L-BFGS-B",
        bounds=optimize.Bounds(low, high),
        options={
            "gtol": small_gradient,
            "ftol": stopping.decrease,
            "maxiter": stopping.iterations,
            "maxfun": 20 * stopping.iterations,
        },
    )
    last_gradient = _largest(result.x, result.jac, low, high)
    reason = {
        0: f"the last iteration lowered the cost by less than {stopping.decrease:g} of it",
        1: f"the limit of {stopping.iterations} iterations was reached",
    }.get(result.status, NO_LOWER_COST)
    if last_gradient <= small_gradient:
        reason = f"the gradient fell from {first_gradient:.3g} to {last_gradient:.3g}"
    return Minimum(result.x.reshape(start.shape), np.array(history), result.nit, reason)


def _largest(control, gradient, low, high):
    """Largest component of the gradient, projected: a step against it stays within the bounds."""
    return float(np.abs(np.clip(control - gradient, low, high) - control).max())


def _check_finite(value):
    if not np.isfinite(value):
        raise InputError(
            "the cost is not finite: the forecast of the window grows to infinity; use a "
            "shorter window or a network trained longer"
        )


def lbfgs(problem, limits=None, stopping=STOPPING):
    """Minimise the cost of a problem from its background by L-BFGS-B.

    Windows of a batch are minimised together, by the sum of their costs. As they do not depend on
    each other, the minimum of the sum is that of each. The stopping rules hold for all together:
    the gradient is compared with the largest one of all windows, so that a window with much
    smaller gradients than others needs a smaller ``stopping.gradient``.

    Parameters
    ----------
    problem : Problem
    limits : ndarray (2, batch, entry), optional
        Bounds of the control in the direct form, from
        :func:`~seaice_lab.assimilation.bounds.control_limits`.
    stopping : Stopping

    Returns
    -------
    Minimum
        With the control (batch, entry).
    """
    return minimise(partial(cost, problem), np.zeros(problem.shape), limits, stopping)


def incremental(problem, outer=3, inner=30, tolerance=1e-2):
    """Minimise the cost in incremental form: linear problems that conjugate gradients solve.

    Each outer iteration linearises the model along the present state and solves
    (I + B^(T/2) M'^T H'^T R^-1 H' M' B^(1/2)) dv = -grad J (Courtier et al. 1994). The step is
    halved until J falls, because the linear problem does not know bounds.

    Parameters
    ----------
    problem : Problem
    outer, inner : int
        Numbers of outer iterations, and of iterations of the conjugate gradients in each.
    tolerance : float
        The conjugate gradients stop at this share of their first residual; the outer iterations
        stop when the gradient is at most tolerance**2 times the first gradient.

    Returns
    -------
    Minimum
        With the control (batch, entry).
    """
    control = np.zeros(problem.shape)
    present = cost(problem, control)
    _check_finite(present.total)
    history, iterations, first = [present.total], 0, np.abs(present.gradient).max()
    while iterations < outer and np.abs(present.gradient).max() > tolerance**2 * first:
        hessian = _hessian(problem, control)
        step, _ = cg(hessian, -present.gradient.ravel(), rtol=tolerance, maxiter=inner)
        for fraction in (1, 0.5, 0.25, 0.125):
            changed = control + fraction * step.reshape(problem.shape)
            trial = cost(problem, changed)
            history.append(trial.total)
            if trial.total < present.total:
                break
        else:
            return Minimum(control, np.array(history), iterations, NO_LOWER_COST)
        control, present, iterations = changed, trial, iterations + 1
    last = np.abs(present.gradient).max()
    reason = f"the limit of {outer} outer iterations was reached"
    if last <= tolerance**2 * first:
        reason = f"the gradient fell from {first:.3g} to {last:.3g}"
    return Minimum(control, np.array(history), iterations, reason)


def signal(problem, control, probes, seed=0):
    """Degrees of freedom for signal, tr(HK): number of quantities that observations determine.

    tr(HK) = tr(1 - A^-1) with the Hessian A = 1 + B^(T/2) M'^T H'^T R^-1 H' M' B^(1/2), estimated
    as the mean of z'(1 - A^-1) z over random vectors z with the entries 1 and -1 (Girard 1989,
    doi 10.1007/BF01395775). If all assumed errors are right, 2 J_b is near it (Talagrand 1999).

    Parameters
    ----------
    problem : Problem
    control : ndarray (batch, entry)
        The minimum.
    probes : int
        Number of random vectors; each requires the solution of a linear system with A.
    seed : int

    Returns
    -------
    float
    """
    rng, hessian = np.random.default_rng(seed), _hessian(problem, control)
    vectors = rng.choice([-1.0, 1.0], (probes, control.size))
    return float(np.mean([z @ (z - cg(hessian, z, rtol=1e-2, maxiter=100)[0]) for z in vectors]))


def _hessian(problem, control):
    """The Gauss-Newton Hessian of the cost as a linear operator."""
    return LinearOperator(
        (control.size, control.size),
        lambda direction: hessian_product(problem, control, direction).ravel(),
        dtype=float,
    )
