"""The penalty of a concentration: what a value costs by itself, whatever the observations say.

Concentrations beyond 0 and 1 cost the square of their distance from that range. Version 2 adds a
hump between 0 and 0.3, highest at 0.15, so that a cell has either no ice or a clear amount of it
(Geer 2024, section 2). The penalty is smooth to its first derivative and quadratic on pieces. Adam
on a CPU needs its gradient as compiled scalar code (:func:`gradient`); everything else follows from
the pieces.
"""

from typing import NamedTuple

import torch
from numba import njit

# Numba's cache of lazy_kernels.py holds these constants and `gradient` as they were when it was
# compiled: after a change here, delete seaice_lab/emissivity/__pycache__.
HUMP_END, HUMP_TOP, HUMP_SLOPE = 0.3, 0.15, 0.2
# The rising parabola s^2 meets the hump's cap, which bends down with HUMP_SLOPE, where both have
# the same slope: s = HUMP_SLOPE (HUMP_TOP - s). The falling side mirrors the rising one.
HUMP_SIDE = HUMP_SLOPE * HUMP_TOP / (1 + HUMP_SLOPE)
SHAPE = (0.0, 1.0, HUMP_END, HUMP_TOP, HUMP_SLOPE)
LOWEST, HIGHEST = -1.0, 2.0  # concentrations that the minimiser considers


class Strengths(NamedTuple):
    """Second derivatives of the penalty, as of a spring.

    Attributes
    ----------
    outside : float
        Below 0 and above 1; 0 if concentrations are kept between them.
    hump : float
        Between 0 and 0.3; 0 without a hump.
    """

    outside: float
    hump: float

    @property
    def bounded(self):
        """Whether concentrations are kept between 0 and 1 instead of paying for leaving them."""
        return self.outside == 0


class Piece(NamedTuple):
    """An interval on which the penalty is ``strength / 2 (s - centre)^2 + constant``."""

    start: float
    end: float
    strength: float
    centre: float
    constant: float


def strengths(config, epoch, size=1):
    """Strengths of the penalty in an epoch.

    Parameters
    ----------
    config : ModelConfig
        Gives the errors: a distance of one error costs 1.
    epoch : float
        The error of the hump may change with the epoch.
    size : int
        Number of observations by which the cost is divided.

    Returns
    -------
    Strengths
    """
    hump_errors = [error for first, error in config.false_ice_error if first <= epoch]
    outside = 0.0 if config.bounded else 2 / config.sea_ice_error**2 / size
    return Strengths(outside, 2 / hump_errors[-1] ** 2 / size if hump_errors else 0.0)


def pieces(strengths):
    """The quadratic pieces of the penalty.

    Parameters
    ----------
    strengths : Strengths

    Returns
    -------
    list of Piece
        In ascending order, between 0 and 1 only if the concentrations are bounded.
    """
    outside, hump = strengths
    inside = [Piece(0.0, 1.0, 0.0, 0.0, 0.0)]
    if hump:
        cap_end, cap_top = HUMP_END - HUMP_SIDE, hump / 2 * HUMP_TOP * HUMP_SIDE
        inside = [
            Piece(0.0, HUMP_SIDE, hump, 0.0, 0.0),
            Piece(HUMP_SIDE, cap_end, -hump * HUMP_SLOPE, HUMP_TOP, cap_top),
            Piece(cap_end, HUMP_END, hump, HUMP_END, 0.0),
            Piece(HUMP_END, 1.0, 0.0, 0.0, 0.0),
        ]
    if strengths.bounded:
        return inside
    below = Piece(LOWEST, 0.0, outside, 0.0, 0.0)
    return [below, *inside, Piece(1.0, HIGHEST, outside, 1.0, 0.0)]


def cost(sea_ice, strengths):
    """Penalty of each concentration.

    Parameters
    ----------
    sea_ice : Tensor
        Concentrations, any shape.
    strengths : Strengths

    Returns
    -------
    Tensor
        Of the same shape.
    """
    # the first piece also serves what is below it, the last one what is above it
    first, *others = pieces(strengths)
    total = _value(first, sea_ice)
    for piece in others:
        total = torch.where(sea_ice > piece.start, _value(piece, sea_ice), total)
    return total


def _value(piece, sea_ice):
    return piece.strength / 2 * (sea_ice - piece.centre) ** 2 + piece.constant


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def gradient(value, strengths, shape=SHAPE):
    """Derivative of the penalty at one concentration, for compiled code.

    Parameters
    ----------
    value : float
    strengths : tuple of (outside, hump)
        As in Strengths.
    shape : tuple of float
        SHAPE in the precision of ``value``, so that single precision stays single.

    Returns
    -------
    float
    """
    outside, hump = strengths
    zero, one, hump_end, hump_top, hump_slope = shape
    # the rising side, the cap and the falling side: the middle one of three straight lines
    slope = max(min(value, hump_slope * (hump_top - value)), value - hump_end)
    # without branches, so that cells can be computed side by side
    result = outside * (value - min(max(value, zero), one))
    return result + hump * (slope if (value > zero) & (value < hump_end) else zero)


def minimise(curvature, rhs, strengths):
    """Minimum over s of ``curvature s^2 - 2 rhs s`` plus the penalty of s.

    The sum is quadratic on each piece of the penalty, so that the minimum of each piece is a
    candidate, and the cheapest candidate is exact.

    Parameters
    ----------
    curvature, rhs : Tensor
        Coefficients of the cost of the observations in each cell; ``curvature`` is half its second
        derivative.
    strengths : Strengths

    Returns
    -------
    Tensor
        Concentration of each cell, of the same shape.
    """
    best = lowest_cost = None
    for piece in pieces(strengths):
        # the sum is total_curvature s^2 - 2 total_rhs s + constant on this piece
        total_curvature = curvature + piece.strength / 2
        total_rhs = rhs + piece.strength / 2 * piece.centre
        bends_up = total_curvature > 0
        vertex = total_rhs / torch.where(bends_up, total_curvature, 1.0)
        # a piece that bends down has its minimum at an end, which its neighbour has as well
        candidate = torch.where(bends_up, vertex, piece.start).clamp(piece.start, piece.end)
        cost_there = curvature * candidate**2 - 2 * rhs * candidate + _value(piece, candidate)
        if best is None:
            best, lowest_cost = candidate, cost_there
        else:
            better = cost_there < lowest_cost
            best = torch.where(better, candidate, best)
            lowest_cost = torch.where(better, cost_there, lowest_cost)
    return best
