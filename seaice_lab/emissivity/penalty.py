"""Concentrations where the departures, linearised, and their own cost together are cheapest.

The cost of a concentration by itself (bounds, and the hump of a little ice) has corners and bends
in both directions, but it is quadratic on pieces, and so it is minimised exactly.
"""

import torch

from seaice_lab.emissivity.lazy_adam import HUMP_END, HUMP_SLOPE, HUMP_TOP
from seaice_lab.emissivity.model import HUMP_SIDE

LARGEST_MOVE = 0.4  # of a concentration in one step
STILL = 1e-4  # curvature that keeps a cell in place which nothing determines
SWEEPS = 12


def move_sea_ice(model, sea_ice, curvature, lean, first_guess, hold):
    """Concentrations that minimise the quadratic model of the data plus their own cost.

    Days are tied by the mixture at the observation; every second day is minimised exactly with
    the others held, in turns. ``curvature`` and ``lean`` (step, point) are those of the
    concentration at the observation.
    """
    weights, lags = model.lag_weights.tolist(), model.lags
    days = len(curvature)
    curvature = curvature.clip(0)
    own, right = torch.full_like(sea_ice, STILL), STILL * sea_ice
    for lag, weight in enumerate(weights):
        there = slice(lags - lag, lags - lag + days)
        own[there] += weight**2 * curvature
        right[there] += weight * lean
    beside = weights[0] * weights[1] * curvature if lags else None

    def others(x):
        """What the days before and after contribute to the slope of a day."""
        total = torch.zeros_like(x)
        if lags:
            total[1:] += beside * x[:-1]
            total[:-1] += beside * x[1:]
        return total

    right = right + (own - STILL) * sea_ice + others(sea_ice)
    if hold:
        own, right = own + hold, right + hold * first_guess
    new = sea_ice.clone()
    for _ in range(SWEEPS if lags else 1):
        for first in range(1 + lags):
            slope = right - others(new)
            half = slice(first, None, 1 + lags)
            best = cheapest(model, own[half], slope[half])
            new[half] = new[half] + (best - new[half]).clip(-LARGEST_MOVE, LARGEST_MOVE)
    return new


def cheapest(model, curvature, slope):
    """Minimum over s of curvature s^2 - 2 slope s plus the cost of a concentration s.

    That cost is quadratic on pieces: the minimum of each piece is a candidate.
    """
    config = model.config
    error, weight = model.false_ice_error(), 1 / config.sea_ice_error**2
    # (from, to, quadratic, linear) of the cost q s^2 - 2 l s on each piece
    pieces = [(0.0, 1.0, 0.0, 0.0)]
    if error:
        low = 1 / error**2
        pieces = [
            (0.0, HUMP_SIDE, low, 0.0),
            (HUMP_SIDE, HUMP_END - HUMP_SIDE, -low * HUMP_SLOPE, -low * HUMP_SLOPE * HUMP_TOP),
            (HUMP_END - HUMP_SIDE, HUMP_END, low, low * HUMP_END),
            (HUMP_END, 1.0, 0.0, 0.0),
        ]
    if not config.bounded:
        pieces += [(-1.0, 0.0, weight, 0.0), (1.0, 2.0, weight, weight)]
    best = cost = None
    for low, high, quadratic, linear in pieces:
        whole = curvature + quadratic
        flat = (slope + linear) / torch.where(whole > 0, whole, 1.0)
        # a piece that bends downwards is cheapest at one of its ends, which its neighbours have
        candidate = torch.where(whole > 0, flat, low).clamp(low, high)
        price = curvature * candidate**2 - 2 * slope * candidate
        price = price + model.sea_ice_cost(candidate)
        better = price < cost if cost is not None else torch.ones_like(price, dtype=torch.bool)
        best = torch.where(better, candidate, best) if best is not None else candidate
        cost = torch.where(better, price, cost) if cost is not None else price
    return best
