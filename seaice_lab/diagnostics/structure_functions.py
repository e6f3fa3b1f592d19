"""How do increments of a field grow with distance? Structure functions and the exponents zeta(q).

For thickness and damage. A mask costs almost nothing. On real fields zeta(2) does not give the
spectral exponent, and the other way round: compute both.
"""

import numpy as np

from seaice_lab.diagnostics.frames import reduce_frames
from seaice_lab.diagnostics.moments import ORDERS, power_sums, scaling_exponents
from seaice_lab.errors import InputError

DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24)  # cells
FITTED_CELLS = (2, 16)  # distances of the fit
STEPS = {"x": (0, 1), "y": (1, 0), "diagonal_up": (1, 1), "diagonal_down": (-1, 1)}


def structure_sums(field, mask, dx_m, q=ORDERS, distances=DISTANCES, directions=("x", "y")):
    """Sums of powers of increments between cells at several distances, for every frame.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Finite inside the mask.
    mask : DataArray of bool (..., y, x)
        Cells that count. Both ends of a pair count, and the middle of second increments.
    dx_m : float
        Distance between cells, m.
    q : sequence of float
        Orders of the moments.
    distances : sequence of int
        Distances r in cells along each step.
    directions : sequence of {"x", "y", "diagonal_up", "diagonal_down"}
        Pooled by `structure_exponents`. A step along a diagonal is sqrt(2) cells long, so do not
        pool it with x or y.

    Returns
    -------
    Dataset
        ``moment`` (..., increment, q, scale): sums of |h(x + r) - h(x)|^q (increment 1) and of
        |h(x + r) - 2 h(x) + h(x - r)|^q (increment 2); ``count`` and ``length`` (sum of the
        distances, km), each (..., increment, scale).

    Raises
    ------
    InputError
        If a direction is unknown or diagonals are pooled with axes.
    """
    diagonal = {direction.startswith("diagonal") for direction in directions}
    if not set(directions) <= set(STEPS) or len(diagonal) != 1:
        raise InputError(
            f"directions: {tuple(directions)}, expected x and y, or diagonal_up and diagonal_down"
        )
    unit_km = dx_m / 1e3 * (np.sqrt(2) if diagonal == {True} else 1)
    shape = len(distances), len(q)

    def of_frames(values, valid):
        moment, count = np.zeros((len(valid), 2, *shape)), np.zeros((len(valid), 2, shape[0]))
        for position, distance in enumerate(distances):
            for direction in directions:
                steps = [distance * step for step in STEPS[direction]]
                increments, both = values[0], valid
                for order in range(2):  # second increments are increments of the first ones
                    increments, both = _increments(increments, both, *steps)
                    size = np.where(both, abs(increments), 0.0).reshape(len(valid), -1)
                    moment[:, order, position] += power_sums(size, q)
                    count[:, order, position] += both.sum(axis=(-2, -1))
        return np.swapaxes(moment, -1, -2), count, count * unit_km * np.array(distances)

    sizes = {"increment": 2, "scale": shape[0]}
    outputs = {"moment": {"increment": 2, "q": shape[1], "scale": shape[0]}}
    sums = reduce_frames(of_frames, [field], mask, outputs | {"count": sizes, "length": sizes})
    coords = {"q": list(map(float, q)), "scale": list(distances), "increment": [1, 2]}
    return sums.assign_coords(coords).assign_attrs(directions=" ".join(directions))


def _increments(values, valid, dy, dx):
    """Differences of cells that are dy rows and dx columns apart, and where both are valid."""
    rows, columns = values.shape[-2:]
    down, up = max(-dy, 0), max(dy, 0)
    start = ..., slice(down, max(rows - up, 0)), slice(0, max(columns - dx, 0))
    end = ..., slice(up, max(rows - down, 0)), slice(dx, columns)
    return values[end] - values[start], valid[end] & valid[start]


def structure_exponents(sums, over=None, length_km=None):
    """Exponents zeta(q) of structure functions, with the concavity of zeta(q).

    Parameters
    ----------
    sums : Dataset
        From `structure_sums`.
    over : sequence of str, optional
        Dimensions to pool; by default all but increment, q and scale.
    length_km : (float, float), optional
        Range of the fit; by default 2 to 16 cells, which suits about four cells to a quarter of
        the width of the ice.

    Returns
    -------
    Dataset
        As from `scaling_exponents`: ``exponent`` (..., increment, q) is zeta(q), positive if
        increments grow with distance. ``concavity`` (..., increment) is 2 zeta(1) - zeta(2), zero
        for a monofractal field. First increments cannot exceed zeta(1) = 1, second ones 2: prefer
        second increments where zeta(1) > 0.7.

    Raises
    ------
    InputError
        If fewer than four distances have pairs.
    """
    if length_km is None:
        fitted = (sums.scale >= FITTED_CELLS[0]) & (sums.scale <= FITTED_CELLS[1])
        sums = sums.isel(scale=fitted.values)
    exponents = scaling_exponents(sums, over, length_km, sign=1)
    if {1.0, 2.0} <= set(sums.q.values):
        zeta = exponents.exponent
        exponents["concavity"] = 2 * zeta.sel(q=1, drop=True) - zeta.sel(q=2, drop=True)
    return exponents
