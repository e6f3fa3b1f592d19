"""Fields of a grid as pictures in the plane of their hemisphere, as fine as a screen can show."""

from typing import NamedTuple

import numpy as np
from contourpy import contour_generator
from scipy.spatial import cKDTree

from seaice_lab import grid
from seaice_lab.figures.plane import grid_on_plane, points_of

SINGLE_POINT_KM = 25.0  # size of a grid point without neighbours
PIXELS = 400  # along each side of a picture, about the size of a map on a screen
LINE_PIXELS = 256  # along each side of a picture from which a line is drawn
NO_CELL, LAND_CELL = -1, -2  # in place of the index of an ocean cell


class Raster(NamedTuple):
    """A grid as a picture in the plane of its hemisphere (EPSG:3413 or EPSG:3976); lengths in km.

    ``x`` and ``y`` are the centres of the cells of the picture, both increasing. ``source`` (y, x)
    is the index of the ocean cell that each shows, `LAND_CELL` on land and `NO_CELL` outside the
    grid. ``coast`` are the segments of the coastline (n, 2, 2), ``extent`` is the part with data:
    west, east, south, north; ``hemisphere`` is "north" or "south".
    """

    x: np.ndarray
    y: np.ndarray
    source: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]
    hemisphere: str


def raster_of(field, ocean):
    """The picture of a grid.

    Parameters
    ----------
    field : DataArray (y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    Raster
        If the grid does not follow the plane, each cell of the picture shows the nearest cell of
        the grid.

    Raises
    ------
    InputError
        If the field has no usable coordinates, or cells on both sides of the equator.
    """
    x, y, is_ocean, coast, extent, hemisphere = grid_on_plane(field, ocean)
    cells = np.where(is_ocean, np.arange(is_ocean.size).reshape(is_ocean.shape), LAND_CELL)
    if x.ndim == 2:
        return Raster(*nearest_cells(x, y, cells), coast, extent, hemisphere)
    cells = cells[:: -1 if y[0] > y[-1] else 1, :: -1 if x[0] > x[-1] else 1]
    return Raster(np.sort(x), np.sort(y), cells, coast, extent, hemisphere)


def raster_of_points(latitude, longitude, hemisphere=None):
    """The picture of values at single grid points.

    Parameters
    ----------
    latitude, longitude : array (point,)
        Degrees.
    hemisphere : "north" or "south", optional
        The points of this hemisphere are shown. By default, all points are in one.

    Returns
    -------
    Raster
        As from :func:`raster_of`, without a coast.

    Raises
    ------
    InputError
        If the hemisphere is not given and there are points on both sides of the equator, or if it
        has no points.
    """
    latitude, longitude = np.asarray(latitude), np.asarray(longitude)
    hemisphere = hemisphere or grid.hemisphere_of(latitude)
    points = points_of(latitude, hemisphere)
    x, y = np.divide(grid.project(latitude[points], longitude[points], hemisphere), 1e3)
    columns, rows, cells = nearest_cells(x, y, points)
    side = columns[1] - columns[0]
    extent = (columns[0] - side, columns[-1] + side, rows[0] - side, rows[-1] + side)
    return Raster(columns, rows, cells, np.empty((0, 2, 2)), extent, hemisphere)


def nearest_cells(x, y, cells):
    """Axes that follow the plane, and the nearest grid cell at each position.

    Parameters
    ----------
    x, y : ndarray
        Positions of the grid cells in km, any shape.
    cells : ndarray of int
        Index of each grid cell, same shape.

    Returns
    -------
    columns : ndarray (column,)
        Centres of the cells of the picture in km; their side is the median distance of neighbours.
    rows : ndarray (row,)
    nearest : ndarray of int (row, column)
        Index of the nearest grid cell, `NO_CELL` if it is too far.
    """
    points = np.stack([x.ravel(), y.ravel()], 1)
    tree = cKDTree(points)
    sample = points[:: max(len(points) // 2000, 1)]
    side = float(np.median(tree.query(sample, 2)[0][:, 1])) if len(points) > 1 else SINGLE_POINT_KM
    columns, rows = (_axis(points[:, axis], side) for axis in (0, 1))
    positions = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    reach = np.full(x.shape, 0.8 * side)
    if x.ndim == 2:  # cells that are larger than most others also touch their neighbours
        sides = (np.gradient(axis, axis=(0, 1)) for axis in (x, y))
        reach = np.maximum(reach, 0.8 / np.sqrt(2) * np.linalg.norm(list(sides), axis=(0, 1)))
    # The tree gives an infinite distance and an index past the end where no cell is near.
    distance, index = tree.query(positions, distance_upper_bound=reach.max())
    index = np.minimum(index, cells.size - 1)
    nearest = np.where(distance < reach.ravel()[index], cells.ravel()[index], NO_CELL)
    return columns, rows, nearest.reshape(len(rows), len(columns))


def _axis(positions, side):
    """Centres of cells that cover the positions, at least two."""
    axis = np.arange(positions.min(), positions.max() + side / 2, side)
    return axis if len(axis) > 1 else axis[0] + side * np.arange(2)


def picture(raster, values, window=None, pixels=PIXELS):
    """The part of a field inside a window, as fine as a screen can show.

    Parameters
    ----------
    raster : Raster
    values : ndarray
        Values of the grid cells, any shape.
    window : (float, float, float, float), optional
        West, east, south, north in km; the extent of the raster by default.
    pixels : int
        Largest number along each side. If the window has more cells, blocks of cells are averaged
        over the sea.

    Returns
    -------
    dict
        Columns for the source of `seaice_lab.figures.linked_maps.polar_map`: one image, float32,
        NaN on land and outside the grid.
    """
    columns, west, width, column_block = _visible(raster.x, window and window[:2], pixels)
    rows, south, height, row_block = _visible(raster.y, window and window[2:], pixels)
    cells = raster.source[rows, columns]
    # NO_CELL and LAND_CELL take the two NaN at the end.
    image = np.append(values.astype("float32", copy=False), np.full(2, np.nan, "float32"))[cells]
    if row_block > 1 or column_block > 1:
        image = _block_mean(image, row_block, column_block)
    return {"image": [image], "x": [west], "y": [south], "dw": [width], "dh": [height]}


def _visible(centres, limits, pixels):
    """Slice, start and length of the centres within limits, and how many of them are averaged."""
    side, first, last = centres[1] - centres[0], 0, len(centres)
    if limits is not None and last > pixels:  # a small grid is always sent completely
        first = int(np.clip((limits[0] - centres[0]) // side - 1, 0, last - 1))
        last = int(np.clip((limits[1] - centres[0]) // side + 3, first + 1, last))
    block = -(-(last - first) // pixels)
    first -= first % block  # so that the blocks are the same while the user drags the map
    last = min(-(-last // block) * block, len(centres))
    width = -(-(last - first) // block) * block * side  # the last block may extend past the edge
    return slice(first, last), centres[first] - side / 2, width, block


def _block_mean(image, rows, columns):
    """Mean of each block without its missing values; blocks at the edge may be incomplete."""
    cut = (-image.shape[0] % rows, -image.shape[1] % columns)
    if any(cut):
        image = np.pad(image, ((0, cut[0]), (0, cut[1])), constant_values=np.nan)
    is_valid = ~np.isnan(image)
    total = _block_sum(np.where(is_valid, image, np.float32(0)), rows, columns)
    with np.errstate(invalid="ignore"):
        return total / _block_sum(is_valid, rows, columns)


def _block_sum(values, rows, columns):
    """Sums over blocks. Adding slices is much faster than summing over two axes of a block."""
    values = sum((values[k::rows] for k in range(1, rows)), values[::rows].astype("float32"))
    return sum((values[:, k::columns] for k in range(1, columns)), values[:, ::columns])


def contour(drawn, level):
    """Lines along which a picture has a value, such as the ice edge.

    Parameters
    ----------
    drawn : dict
        From :func:`picture`.
    level : float

    Returns
    -------
    dict
        Columns x and y in km, float32; NaN separates the lines.
    """
    rows, columns = drawn["image"][0].shape
    step = -(-max(rows, columns) // LINE_PIXELS)
    image = drawn["image"][0][::step, ::step]
    x = drawn["x"][0] + drawn["dw"][0] * (np.arange(0, columns, step) + 0.5) / columns
    y = drawn["y"][0] + drawn["dh"][0] * (np.arange(0, rows, step) + 0.5) / rows
    if min(image.shape) < 2:
        return {"x": np.empty(0, "float32"), "y": np.empty(0, "float32")}
    lines = contour_generator(x, y, image, line_type="ChunkCombinedNan").lines(level)[0][0]
    lines = np.empty((0, 2)) if lines is None else lines
    return {"x": lines[:, 0].astype("float32"), "y": lines[:, 1].astype("float32")}
