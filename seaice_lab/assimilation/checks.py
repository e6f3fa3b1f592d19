"""Tests of tangent, adjoint and gradient that every user can run on a network of his own."""

from typing import NamedTuple

import numpy as np
import torch

from seaice_lab.assimilation.cost import cost, simulate
from seaice_lab.assimilation.model import adjoint, tangent

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


def dot_product_error(apply, transposed, direction, seed=0):
    """Relative error of <A x, w> = <x, A' w>, which is 0 for an exact adjoint.

    Parameters
    ----------
    apply, transposed : callable
        A and A', of ndarrays.
    direction : ndarray
        x.
    seed : int
        Of the random part of w.

    Returns
    -------
    float
    """
    image = apply(direction)
    # w is the image plus random numbers of the same size, so that the product is not near 0.
    noise = np.random.default_rng(seed).standard_normal(image.shape)
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
    remainders = np.array(
        [np.linalg.norm(function(point + a * direction) - first - a * derivative) for a in SIZES]
    )
    if remainders[0] <= 1e-6 * SIZES[0] * np.linalg.norm(derivative):
        return 2.0
    # Rounding errors of F do not fall with a, so remainders of their size tell nothing.
    is_used = remainders > 1e3 * np.finfo(float).eps * np.linalg.norm(first)
    if is_used.sum() < 2:
        return np.nan
    # The median of the slopes between successive sizes: large perturbations may cross a kink of the
    # model (a bound, a maximum), where it has no derivative.
    logarithms = np.log(np.array(SIZES)[is_used]), np.log(remainders[is_used])
    return float(np.median(np.diff(logarithms[1]) / np.diff(logarithms[0])))


def check(problem, seed=0):
    """Test square root, model and observation operator, and the gradient of the cost.

    Parameters
    ----------
    problem : Problem
        The perturbations are those of its background errors. States at a bound lower the slopes,
        because the model has no derivative there.
    seed : int
        Of the perturbations.

    Returns
    -------
    list of Check
        Errors of the dot products of B^(1/2), of the model with the observation operator, and of
        the entire chain. For a network in float64 also the slopes of the Taylor tests of the model
        and of the cost, which the rounding of float32 would hide.
    """
    rng, root = np.random.default_rng(seed), problem.root
    control, direction = rng.standard_normal((2, *problem.shape))
    control *= 0.1
    device = problem.background.device
    base = root.apply(control)
    point = torch.from_numpy(base).to(device)

    def observed(increment):
        with torch.no_grad():
            return simulate(problem, torch.from_numpy(increment).to(device)).cpu().numpy()

    def pushed(increment):
        change = tangent(lambda x: simulate(problem, x), point, _like(increment, point))
        return change.cpu().numpy()

    def pulled(weights):
        return adjoint(lambda x: simulate(problem, x), point, _like(weights, point)).cpu().numpy()

    is_double = problem.model.forcing.dtype == torch.float64
    increment, limit = root.apply(direction), 1e-12 if is_double else 1e-5
    products = {
        "the square root of B": (root.apply, root.adjoint, direction, 1e-12),
        "model and observation operator": (pushed, pulled, increment, limit),
        "the entire chain": (
            lambda v: pushed(root.apply(v)),
            lambda w: root.adjoint(pulled(w)),
            direction,
            limit,
        ),
    }
    checks = [
        Check(f"adjoint of {name}", dot_product_error(*terms_of, seed), 0, bound)
        for name, (*terms_of, bound) in products.items()
    ]
    if not is_double:
        return checks
    terms = cost(problem, control)
    slopes = {
        "model and observation operator": (observed, pushed(increment), base, increment),
        "the cost": (
            lambda v: cost(problem, v).total,
            (terms.gradient * direction).sum(),
            control,
            direction,
        ),
    }
    return checks + [
        Check(f"Taylor test of {name}", taylor_slope(*terms_of), 1.9, 2.1)
        for name, terms_of in slopes.items()
    ]


def _like(array, tensor):
    return torch.from_numpy(np.ascontiguousarray(array)).to(tensor.device)
