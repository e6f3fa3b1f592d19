"""The land of the Earth, and grids around the poles with the real coastline."""

from functools import cache
from pathlib import Path

import numpy as np
import shapely
import xarray as xr
from scipy import ndimage

from seaice_lab import grid
from seaice_lab.errors import InputError

FOLDER = Path(__file__).parent / "data"
LAND_LIMIT_DEG = 30.0  # degrees from the equator at which the polygons end
DOMAIN_WIDTH_M = {"north": 5.2e6, "south": 8.0e6}  # side of the square domain around the pole


@cache
def land_polygons(hemisphere="north"):
    """Natural Earth land (1:50 million) poleward of 30 degrees in the plane of a hemisphere.

    Parameters
    ----------
    hemisphere : "north" or "south"
        The southern land has no ice shelves; they are a separate layer of Natural Earth.

    Returns
    -------
    list of ndarray (n, 2), float64
        Closed rings without holes, x and y in metres. The list is read once and shared: do not
        change it.
    """
    with np.load(FOLDER / f"land_{hemisphere}.npz") as file:
        points = np.cumsum(file["steps"], axis=0) * file["step_m"]
        return np.split(points, file["starts"][1:])


def on_land(x, y, hemisphere="north"):
    """Whether points are on land.

    Parameters
    ----------
    x, y : ndarray
        Points in the plane of the hemisphere, m.
    hemisphere : "north" or "south"

    Returns
    -------
    ndarray of bool
        With the shape of ``x``.
    """
    land = np.zeros(np.shape(x), bool)
    box = shapely.box(np.min(x), np.min(y), np.max(x), np.max(y))
    for ring in land_polygons(hemisphere):
        polygon = shapely.polygons(ring)
        if polygon.intersects(box):
            shapely.prepare(polygon)
            land |= shapely.contains_xy(polygon, x, y)
    return land


@cache
def coastlines(hemisphere="north"):
    """Coastlines of the land of :func:`land_polygons`, without edges that are no coast.

    The polygons end at a latitude of 30 degrees, and they are cut through lakes and inland seas.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    shapely.MultiLineString
        In metres of the plane of the hemisphere.
    """
    land = shapely.coverage_union_all([shapely.Polygon(ring) for ring in land_polygons(hemisphere)])
    radius = np.hypot(*grid.project(LAND_LIMIT_DEG + 0.1, 0.0, "north"))
    return shapely.intersection(land.boundary, shapely.Point(0, 0).buffer(radius))


def polar_grid(size, hemisphere="north"):
    """Square grid around a pole with the real coastline.

    Parameters
    ----------
    size : int
        Cells along each side of the domain, which is 5200 km wide in the north and 8000 km in the
        south.
    hemisphere : "north" or "south"

    Returns
    -------
    xarray.Dataset
        ``x``, ``y`` (m, in the plane of the hemisphere), ``latitude``, ``longitude``, ``ocean``
        (y, x). Only the largest connected sea is ocean; the cells on the edge of the domain are
        land.

    Raises
    ------
    InputError
        If the size is less than 16.
    """
    if size < 16:
        raise InputError(f"size is {size}; expected at least 16 cells along each side")
    centre = (np.arange(size) - (size - 1) / 2) * DOMAIN_WIDTH_M[hemisphere] / size
    x, y = np.meshgrid(centre, centre)
    sea = ~on_land(x, y, hemisphere)
    sea[[0, -1]] = sea[:, [0, -1]] = False
    basins, _ = ndimage.label(sea)
    ocean = basins == np.bincount(basins[sea]).argmax()
    latitude, longitude = grid.unproject(x, y, hemisphere)
    return xr.Dataset(
        coords={
            "x": ("x", centre, {"standard_name": "projection_x_coordinate", "units": "m"}),
            "y": ("y", centre, {"standard_name": "projection_y_coordinate", "units": "m"}),
            **grid.geographic_coordinates(latitude, longitude, ocean),
        }
    )
