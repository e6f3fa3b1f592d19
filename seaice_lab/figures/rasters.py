"""Fields of a grid as pictures in the EPSG:3413 plane, no finer than a screen can show."""

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from seaice_lab import grid
from seaice_lab.figures import maps

ALONE_KM = 25.0  # size of a grid point without neighbours
PIXELS = 400  # along each side of a picture that is sent: about what a map covers of a screen


class Raster(NamedTuple):
    """A grid as a picture in the EPSG:3413 plane; lengths in km.

    ``x`` and ``y`` are the centres of the picture's cells, both rising; ``source`` (y, x) says
    which cell of the grid each shows, -1 for none; ``coast`` holds the coast's segments and
    ``extent`` west, east, south, north of what is worth seeing.
    """

    x: np.ndarray
    y: np.ndarray
    source: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]


def raster_of(field, ocean):
    """How to show the fields of a grid as pictures.

    Parameters
    ----------
    field : DataArray (y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    Raster
        A grid that does not follow the plane is shown by its nearest cells.

    Raises
    ------
    InputError
        If the field has no usable coordinates.
    """
    scene = maps.scene_of(field, ocean)
    cells = np.where(scene.ocean, np.arange(scene.ocean.size).reshape(scene.ocean.shape), -1)
    if scene.x.ndim == 1:
        flip_y, flip_x = scene.y[0] > scene.y[-1], scene.x[0] > scene.x[-1]
        cells = cells[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        return Raster(np.sort(scene.x), np.sort(scene.y), cells, scene.coast, scene.extent)
    x, y, cells = nearest_cells(scene.x, scene.y, cells)
    return Raster(x, y, cells, scene.coast, scene.extent)


def raster_of_points(latitude, longitude):
    """As :func:`raster_of`, for values at single grid points, (point,) degrees each."""
    x, y = (part / 1e3 for part in grid.project(np.asarray(latitude), np.asarray(longitude)))
    columns, rows, cells = nearest_cells(x, y, np.arange(len(x)))
    side = columns[1] - columns[0]
    extent = (columns[0] - side, columns[-1] + side, rows[0] - side, rows[-1] + side)
    return Raster(columns, rows, cells, np.empty((0, 2, 2)), extent)


def nearest_cells(x, y, cells):
    """Columns, rows and the nearest of ``cells`` on axes that follow the plane."""
    points = np.stack([x.ravel(), y.ravel()], 1)
    tree = cKDTree(points)
    some = points[:: max(len(points) // 2000, 1)]
    side = float(np.median(tree.query(some, 2)[0][:, 1])) if len(points) > 1 else ALONE_KM
    columns, rows = (_axis(points[:, axis], side) for axis in (0, 1))
    wanted = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    distance, index = tree.query(wanted, distance_upper_bound=0.8 * side)
    found = np.where(np.isfinite(distance), cells.ravel()[np.minimum(index, cells.size - 1)], -1)
    return columns, rows, found.reshape(len(rows), len(columns))


def _axis(places, side):
    """Cells that cover some places, two at least."""
    axis = np.arange(places.min(), places.max() + side / 2, side)
    return axis if len(axis) > 1 else axis[0] + side * np.arange(2)


def picture(raster, values, window=None, pixels=PIXELS):
    """The part of a field that a window shows, no finer than a screen can.

    Parameters
    ----------
    raster : Raster
    values : ndarray
        Of the grid, any shape with as many cells.
    window : (float, float, float, float), optional
        West, east, south, north in km; the extent of the raster by default.
    pixels : int
        The picture has at most so many along each side; cells beyond are averaged over the sea.

    Returns
    -------
    dict
        Columns for the source of `seaice_lab.figures.linked_maps.polar_map`: one image, float32,
        NaN on land and outside the grid.
    """
    columns, west, width, column_block = _visible(raster.x, window and window[:2], pixels)
    rows, south, height, row_block = _visible(raster.y, window and window[2:], pixels)
    cells = raster.source[rows, columns]
    image = np.append(values.astype("float32", copy=False), np.float32(np.nan))[cells]  # -1: last
    if row_block > 1 or column_block > 1:
        image = _block_mean(image, row_block, column_block)
    return {"image": [image], "x": [west], "y": [south], "dw": [width], "dh": [height]}


def _visible(centres, limits, pixels):
    """Slice, start and length of the centres within limits, and how many share a pixel."""
    side, first, last = centres[1] - centres[0], 0, len(centres)
    if limits is not None and last > pixels:  # a small grid is sent whole, wherever one looks
        first = int(np.clip((limits[0] - centres[0]) // side - 1, 0, last - 1))
        last = int(np.clip((limits[1] - centres[0]) // side + 3, first + 1, last))
    block = -(-(last - first) // pixels)
    first -= first % block  # blocks stay where they are while the map is dragged
    last = min(-(-last // block) * block, len(centres))
    width = -(-(last - first) // block) * block * side  # the last block may reach over the edge
    return slice(first, last), centres[first] - side / 2, width, block


def _block_mean(image, rows, columns):
    """Means of the values there are in each block; the last ones may be cut."""
    cut = (-image.shape[0] % rows, -image.shape[1] % columns)
    if any(cut):
        image = np.pad(image, ((0, cut[0]), (0, cut[1])), constant_values=np.nan)
    there = ~np.isnan(image)
    total = _block_sum(np.where(there, image, np.float32(0)), rows, columns)
    with np.errstate(invalid="ignore"):
        return total / _block_sum(there, rows, columns)


def _block_sum(values, rows, columns):
    """Sums over blocks; slices of the whole are added, which is much faster than an axis each."""
    values = sum((values[k::rows] for k in range(1, rows)), values[::rows].astype("float32"))
    return sum((values[:, k::columns] for k in range(1, columns)), values[:, ::columns])
