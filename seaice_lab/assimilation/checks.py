"""Tests of tangent, adjoint and gradient for any trained network."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from seaice_lab import grid
from seaice_lab.assimilation.bounds import clipped
from seaice_lab.assimilation.cost import cost, increment_of, observations, problem_of, simulate
from seaice_lab.assimilation.cycle import background_root
from seaice_lab.assimilation.model import adjoint, open_window, states, tangent, to_vector
from seaice_lab.assimilation.settings import BackgroundConfig
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import bounds, scales

SIZES = tuple(10.0 ** -np.arange(1, 6))  # of the perturbations of a Taylor test


class Check(NamedTuple):
    """Result of one test: what was tested, its value, and the range in which it passes."""

    name: str
    value: float
    low: float
    high: float

    @property
    def passed(self):
        """Whether the value is within the range; NaN is not."""
        return self.low <= self.value <= self.high


def dot_product_error(apply, transposed, direction):
    """Relative error of <A x, w> = <x, A' w>, which is 0 for an exact adjoint.

    Parameters
    ----------
    apply, transposed : callable
        A and A', of ndarrays.
    direction : ndarray
        x; w is the image of x plus random numbers.

    Returns
    -------
    float
    """
    image = apply(direction)
    # Random numbers of the same size as the image, so that the product is not near 0.
    noise = np.random.default_rng(0).standard_normal(image.shape)
    weights = image + noise * np.sqrt((image**2).mean())
    left, right = (image * weights).sum(), (direction * transposed(weights)).sum()
    return float(abs(left - right) / abs(left))


def taylor_slope(function, derivative, point, direction):
    """Exponent with which |F(x + a h) - F(x) - a F'h| falls with the size a of a perturbation.

    Parameters
    ----------
    function : callable
        F, of an ndarray; its value is a number or an ndarray.
    derivative : float or ndarray
        F'h.
    point, direction : ndarray
        x and h.

    Returns
    -------
    float
        2 for a correct derivative, 1 for a wrong one; 2 also for a function that is so close to
        linear that rounding hides the exponent, if the derivative is correct to 1e-6.
    """
    first = function(point)
    # Cells that cross a kink of the model (a bound, the maximum of a pooling) are in proportion to
    # a, and so are their remainders. The sum of absolute values therefore still falls as a^2, while
    # the root of the sum of squares would fall as a^1.5.
    remainders = np.array(
        [np.abs(function(point + a * direction) - first - a * derivative).sum() for a in SIZES]
    )
    if remainders[0] <= 1e-6 * SIZES[0] * np.abs(derivative).sum():
        return 2.0
    # Rounding errors of F do not fall with a, so remainders of their size tell nothing.
    is_used = remainders > 1e3 * np.finfo(float).eps * np.abs(first).sum()
    if is_used.sum() < 2:
        return np.nan
    # The median of the slopes between successive sizes, as the largest may be beyond a^2.
    logarithms = np.log(np.array(SIZES)[is_used]), np.log(remainders[is_used])
    return float(np.median(np.diff(logarithms[1]) / np.diff(logarithms[0])))


def check(problem):
    """Test square root, model and observation operator, and the gradient of the cost.

    Parameters
    ----------
    problem : Problem
        The perturbations are those of its background errors. States at a bound lower the slopes,
        because the model has no derivative there.

    Yields
    ------
    Check
        Errors of the dot products of B^(1/2), of the model with the observation operator, and of
        the entire chain. For a network in float64 also the slopes of the Taylor tests of the model
        and of the cost, which the rounding of float32 would hide.
    """
    rng = np.random.default_rng(0)
    control, direction = rng.standard_normal((2, *problem.shape))
    control *= 0.1
    base = increment_of(problem, control)
    increment = increment_of(problem, direction).numpy(force=True)
    is_double = problem.model.forcing.dtype == torch.float64
    observe, limit = partial(simulate, problem), 1e-12 if is_double else 1e-5

    def spread(v):
        return (problem.root @ v.T).T

    def gather(x):
        return (problem.root.H @ x.T).T

    def tangent_of(x):
        return tangent(observe, base, torch.as_tensor(x).to(base)).numpy(force=True)

    def adjoint_of(weights):
        return adjoint(observe, base, torch.as_tensor(weights).to(base)).numpy(force=True)

    chain = (lambda v: tangent_of(spread(v))), (lambda w: gather(adjoint_of(w)))
    for name, apply, transposed, point in (
        ("the square root of B", spread, gather, direction),
        ("model and observation operator", tangent_of, adjoint_of, increment),
        ("the entire chain", *chain, direction),
    ):
        yield Check(f"adjoint of {name}", dot_product_error(apply, transposed, point), 0, limit)
    if not is_double:
        return

    def observed(x):
        with torch.no_grad():
            return observe(torch.as_tensor(x).to(base)).numpy(force=True)

    # Maxima of nearly equal cells lower the slope of the model a little; a wrong derivative has 1.
    point, change = base.numpy(force=True), tangent_of(increment)
    slope = taylor_slope(observed, change, point, increment)
    yield Check("Taylor test of model and observation operator", slope, 1.7, 2.1)
    change = (cost(problem, control).gradient * direction).sum()
    slope = taylor_slope(lambda v: cost(problem, v).total, change, control, direction)
    yield Check("Taylor test of the cost", slope, 1.9, 2.1)


STD = 0.1  # background errors of a check, in standard deviations of each variable
LENGTH_CELLS = 3.0  # their correlation length


def check_run(run, config, device=None):
    """Test tangent, adjoint and gradient of a trained network, in float64.

    The background is halfway between the state at the start and the mean of the training data, away
    from bounds such as 0 m, where a model has no derivative. Its errors are correlated around land.
    All ocean cells are observed after the last step: the forecast plus random numbers.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate.
    config : ForecastConfig
        As in :func:`~seaice_lab.assimilation.model.open_window`.
    device : str, optional
        A GPU by default, if there is one.

    Yields
    ------
    Check
        As from :func:`check`, each when it is ready.
    """
    source, model, initial = open_window(run, config, device=device, dtype=torch.float64)
    window, normalisation = source.surrogate.window, source.surrogate.normalisation
    names, count = [name for name, _ in window.state], len(window.variables)
    mean, std = scales([normalisation[name] for name in names], initial)
    background = zero_on_land((initial + mean) / 2, model.ocean)

    def operator(fields):
        return to_vector(fields[:, 0, :count], model.ocean)

    with torch.no_grad():
        forecast = operator(states(model, background, (config.steps,))).cpu().numpy()
    sigma = operator((STD * std).expand_as(background)[:, None]).cpu().numpy()
    values = forecast + sigma * np.random.default_rng(0).standard_normal(forecast.shape)
    observed = observations(model, (config.steps,), operator, values, sigma)
    length_km = LENGTH_CELLS * grid.spacing_m(source.store) / 1e3
    errors = BackgroundConfig(std=STD, length_km=length_km, normalisation_probes=20)
    root, combine = background_root(source, errors), clipped(*bounds(names, background))
    yield from check(problem_of(model, background, root, observed, combine, source.variables))
