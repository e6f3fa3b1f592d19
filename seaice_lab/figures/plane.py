"""Grids, parallels and meridians in the EPSG:3413 plane, for all kinds of maps; lengths in km."""

from typing import NamedTuple

import numpy as np

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.grid import coastline, land_polygons, project

MARGIN = 0.03  # around the ocean, as a share of its larger side
PARALLELS, MERIDIANS = np.arange(40, 90, 10), np.arange(-180, 180, 45)


class MapGrid(NamedTuple):
    """A grid in the EPSG:3413 plane, lengths in km.

    ``x`` and ``y`` are the cell centres: axes (x,) and (y,) if the grid follows the plane, else
    (y, x) each. ``coast`` are the segments of the coastline (n, 2, 2); ``extent`` is what a map
    shows: west, east, south, north.
    """

    x: np.ndarray
    y: np.ndarray
    ocean: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]


def grid_on_plane(field, ocean):
    """The grid of a field in the EPSG:3413 plane.

    Parameters
    ----------
    field : DataArray (..., y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    MapGrid

    Raises
    ------
    InputError
        If the field has no usable coordinates.
    """
    x, y = (np.asarray(position, dtype=float) / 1000 for position in _positions(field))
    ocean = ocean.transpose("y", "x").values
    cell_x, cell_y = np.meshgrid(x, y) if x.ndim == 1 else (x, y)
    sea_x, sea_y = cell_x[ocean], cell_y[ocean]
    margin = MARGIN * max(np.ptp(sea_x), np.ptp(sea_y))
    west, east = sea_x.min() - margin, sea_x.max() + margin
    south, north = sea_y.min() - margin, sea_y.max() + margin
    return MapGrid(x, y, ocean, coastline(ocean, x, y), (west, east, south, north))


def _positions(field):
    """Cell centres in metres of EPSG:3413; axes (x,) and (y,) if the grid follows the plane."""
    coords = field.coords
    axes = None
    if {"x", "y"} <= set(coords) and coords["x"].attrs.get("units") in names.UNIT_ALIASES["m"]:
        axes = coords["x"].values, coords["y"].values
    if not {"latitude", "longitude"} <= set(coords):
        if axes is None:
            raise InputError(
                f"the field has the coordinates {', '.join(map(str, coords)) or 'none'}, expected "
                "latitude and longitude (y, x), or x and y with units m in the EPSG:3413 plane; "
                "assign them from the prepared store"
            )
        return axes
    x_m, y_m = project(coords["latitude"].values, coords["longitude"].values)
    if axes is not None:
        # The axes may belong to another projection: compare them with latitude and longitude.
        distance = np.hypot(x_m - axes[0], y_m - axes[1][:, None]).max()
        if distance < 0.1 * np.abs(np.diff(axes[0])).min():
            return axes
    return x_m, y_m


def graticule():
    """Parallels and meridians as lines (point, 2) in km."""
    around, along = np.arange(0, 361, 2.0), np.linspace(PARALLELS[0], 90, 2)
    lines = [project(np.full_like(around, latitude), around) for latitude in PARALLELS]
    lines += [project(along, np.full_like(along, longitude)) for longitude in MERIDIANS]
    return [np.stack(line, axis=-1) / 1000 for line in lines]


def land_rings(extent):
    """Rings (point, 2) of the land in km whose bounding box overlaps west, east, south, north."""
    west, east, south, north = extent

    def overlaps(ring):
        (left, bottom), (right, top) = ring.min(axis=0), ring.max(axis=0)
        return left < east and right > west and bottom < north and top > south

    return [ring for ring in (ring / 1000 for ring in land_polygons()) if overlaps(ring)]
