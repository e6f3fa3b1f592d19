"""Weights of cells and steps, with which states are interpolated to observations."""

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from seaice_lab import grid

# Largest offset of a point from the nearest centre, in cells. A point beyond a cell at the edge of
# the grid is outside. In a skewed grid, the nearest centre may be that of a neighbouring cell.
WITHIN_EDGE, WITHIN_MIDDLE = 0.6, 1.5
WITHIN_FILTER = 3.0  # radius of a Gaussian filter in standard deviations
LEAST_FILTER = 0.5  # standard deviation of a filter in cells, below which it changes nothing
AT_ONCE = 2_000_000  # weights, which limits the memory of making a matrix


def cell_weights(latitude, longitude, store, smoothing_m=None):
    """Weights of ocean cells: bilinear, or those of a Gaussian filter for values of smooth maps.

    The weights of land cells are set to 0, and the others scaled to the sum 1, so that a value at
    the coast is that of the sea beside it. Where all four are land or have the weight 0, the
    nearest cell has the weight 1.

    Parameters
    ----------
    latitude, longitude : ndarray (observation,)
        Degrees.
    store : xarray.Dataset
        With ``latitude``, ``longitude`` and ``ocean`` (y, x).
    smoothing_m : ndarray (observation,), optional
        Standard deviation of the filter in metres; 0 or NaN for bilinear weights.

    Returns
    -------
    cells : ndarray of int (observation, cell)
        Positions in the flattened grid: the nearest cell, then three neighbours, or for a smooth
        map as many of the nearest cells as a circle of three standard deviations has.
    weights : ndarray (observation, cell)
    reason : ndarray of str (observation,)
        "outside_grid", "on_land" where the nearest cell is land, else "used".
    """
    return _weights(latitude, longitude, store, smoothing_m, *_centres(store))


def _centres(store):
    """Centres of all cells in the projection plane (y, x, 2), and a tree to search them."""
    hemisphere = grid.hemisphere_of(store.latitude)
    centres = np.stack(grid.project(store.latitude, store.longitude, hemisphere), -1)
    return centres, cKDTree(centres.reshape(-1, 2))


def _weights(latitude, longitude, store, smoothing_m, centres, tree):
    """Cells, weights and reason of :func:`cell_weights`."""
    hemisphere, ocean = grid.hemisphere_of(store.latitude), store.ocean.values
    points = np.stack(grid.project(latitude, longitude, hemisphere), -1)
    is_on_plane = np.isfinite(points).all(-1, keepdims=True)  # the other pole is not
    points = np.where(is_on_plane, points, 1e9)
    nearest = tree.query(points)[1]
    index = np.stack(np.unravel_index(nearest, ocean.shape), -1)
    # The plane is conformal, so offsets in cells follow from the local derivatives of its x and y
    # along rows and columns.
    derivatives = np.stack(np.gradient(centres, axis=(0, 1)), -1)[tuple(index.T)]
    offset = np.linalg.solve(derivatives, (points - centres[tuple(index.T)])[..., None])[..., 0]
    is_edge = (index == 0) | (index == np.array(ocean.shape) - 1)
    is_inside = (np.abs(offset) < np.where(is_edge, WITHIN_EDGE, WITHIN_MIDDLE)).all(-1)
    corner = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    neighbours = index[:, None] + corner * np.where(offset < 0, -1, 1)[:, None]
    share = np.clip(np.abs(offset), 0, 1)[:, None]
    weights = np.where(corner, share, 1 - share).prod(-1)
    in_grid = ((neighbours >= 0) & (neighbours < ocean.shape)).all(-1)
    cells = np.ravel_multi_index(tuple(np.moveaxis(neighbours, -1, 0)), ocean.shape, mode="clip")
    weights = weights * (in_grid & ocean.ravel()[cells])
    is_sea = ocean.ravel()[nearest]
    weights[is_sea & (weights.sum(-1) == 0), 0] = 1  # the first is the nearest
    weights /= np.where(is_sea, weights.sum(-1), 1)[:, None]
    reason = np.select([~is_inside, ~is_sea], ["outside_grid", "on_land"], "used")
    std = np.nan_to_num(0.0 if smoothing_m is None else smoothing_m / grid.spacing_m(store))
    is_smooth = (std > LEAST_FILTER) & (reason == "used")
    if is_smooth.any():
        # Unfiltered points keep their four cells, followed by others of weight 0.
        count = _filter_size(std)[:, None]
        distance, around = tree.query(points, min(count.max(), ocean.size))
        scale = np.where(is_smooth, smoothing_m, np.inf)[:, None]
        gauss = np.exp(-0.5 * (distance / scale) ** 2) * ocean.ravel()[around]
        gauss *= np.arange(around.shape[1]) < count
        gauss /= gauss.sum(-1, keepdims=True)
        added = (0, 0), (0, around.shape[1] - 4)
        cells = np.where(is_smooth[:, None], around, np.pad(cells, added))
        weights = np.where(is_smooth[:, None], gauss, np.pad(weights, added))
    return cells, weights, reason


def _filter_size(std):
    """Number of cells of a filter, from its standard deviation in cells."""
    return 4 + (np.pi * (WITHIN_FILTER * std) ** 2).astype(int)


def cell_matrix(latitude, longitude, store, smoothing_m):
    """Weights of cells as a sparse matrix, which holds only those above 0.

    Parameters
    ----------
    latitude, longitude, store, smoothing_m
        As in :func:`cell_weights`; no point is on land or outside of the grid.

    Returns
    -------
    scipy.sparse.csr_matrix (observation, cell)
        ``matrix @ field.ravel()`` has the values of a field at the observations.
    """
    std, size, blocks = np.nan_to_num(smoothing_m / grid.spacing_m(store)), store.ocean.size, []
    centres_and_tree = _centres(store)
    length = max(AT_ONCE // min(_filter_size(std.max(initial=0.0)), size), 1)
    for first in range(0, max(len(std), 1), length):
        part = slice(first, first + length)
        places = latitude[part], longitude[part], store, smoothing_m[part]
        cells, weights, _ = _weights(*places, *centres_and_tree)
        ends = np.arange(len(cells) + 1) * cells.shape[1]
        block = sparse.csr_matrix((weights.ravel(), cells.ravel(), ends), (len(cells), size))
        block.eliminate_zeros()
        blocks.append(block)
    return sparse.vstack(blocks, "csr")


def step_weights(table, times):
    """Weights of the steps of a window, between which states are linear in time.

    Parameters
    ----------
    table : xarray.Dataset
        Observations within the window.
    times : ndarray of datetime64 (step,)
        Regular times.

    Returns
    -------
    ndarray (observation, step)
        The sum over the steps is 1.
    """
    step = times[1] - times[0]
    start, end = ((table[name].values - times[0]) / step for name in ("time_start", "time_end"))
    # Position relative to each step. The state of a step has the weight 1 - |u| at a time.
    first, last = (np.clip(t[:, None] - np.arange(len(times)), -1, 1) for t in (start, end))
    # Its integral is u - u |u| / 2, which gives the mean over a period.
    integral = (last - last * np.abs(last) / 2) - (first - first * np.abs(first) / 2)
    length = (end - start)[:, None]
    return np.where(length > 0, integral / np.where(length > 0, length, 1), 1 - np.abs(first))
