"""Grids, parallels, meridians and land in the plane of a hemisphere, for all maps; in km."""

from typing import NamedTuple

import numpy as np

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.grid import PLANES, coastline, hemisphere_of, project
from seaice_lab.land import land_polygons

LAND, MISSING, OUTSIDE, COAST, LINES = "#cfcbc4", "#ffffff", "#b4bec5", "#3c3a37", "#7d8a93"
MARGIN = 0.03  # around the ocean, as a share of its larger side
PARALLELS, MERIDIANS = np.arange(40, 90, 10), np.arange(-180, 180, 45)


class MapGrid(NamedTuple):
    """A grid in the plane of its hemisphere (EPSG:3413 or EPSG:3976), lengths in km.

    ``x`` and ``y`` are the cell centres: axes (x,) and (y,) if the grid follows the plane, else
    (y, x) each. ``coast`` are the segments of the coastline (n, 2, 2); ``extent`` is what a map
    shows: west, east, south, north; ``hemisphere`` is "north" or "south".
    """

    x: np.ndarray
    y: np.ndarray
    ocean: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]
    hemisphere: str


def grid_on_plane(field, ocean):
    """The grid of a field in the plane of its hemisphere.

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
        If the field has no usable coordinates or cells on both sides of the equator, or the mask
        has another shape or no ocean.
    """
    _check_shapes(field, ocean)
    hemisphere = hemisphere_of_field(field)
    x, y = (np.asarray(axis, dtype=float) / 1000 for axis in _positions(field, hemisphere))
    ocean = ocean.transpose("y", "x").values
    cell_x, cell_y = np.meshgrid(x, y) if x.ndim == 1 else (x, y)
    sea_x, sea_y = cell_x[ocean], cell_y[ocean]
    margin = MARGIN * max(np.ptp(sea_x), np.ptp(sea_y))
    west, east = sea_x.min() - margin, sea_x.max() + margin
    south, north = sea_y.min() - margin, sea_y.max() + margin
    return MapGrid(x, y, ocean, coastline(ocean, x, y), (west, east, south, north), hemisphere)


def _check_shapes(field, ocean):
    sizes = {name: field.sizes[name] for name in ("y", "x") if name in field.dims}
    if len(sizes) < 2 or min(sizes.values()) < 2 or dict(ocean.sizes) != sizes:
        raise InputError(
            f"the field has the dimensions {dict(field.sizes)} and the ocean mask "
            f"{dict(ocean.sizes)}, expected (y, x) of the same grid, at least 2 x 2 cells"
        )
    if not ocean.any():
        raise InputError("the ocean mask has no ocean cell, expected true where there is sea")


def hemisphere_of_field(field):
    """The hemisphere of a field: "north" or "south".

    Parameters
    ----------
    field : DataArray (..., y, x)
        Without the coordinate latitude, x and y are those of EPSG:3413 in the north.

    Raises
    ------
    InputError
        If the field has cells on both sides of the equator.
    """
    return hemisphere_of(field["latitude"]) if "latitude" in field.coords else "north"


def hemispheres_with_points(latitude):
    """Names of the hemispheres that contain some of the positions.

    Parameters
    ----------
    latitude : ndarray
        Degrees north.

    Returns
    -------
    list of "north" and "south"
    """
    return [name for name in PLANES if _is_in(name, latitude).any()]


def points_of(latitude, hemisphere):
    """Numbers of the grid points in a hemisphere.

    Parameters
    ----------
    latitude : ndarray (point,)
        Degrees north.
    hemisphere : "north" or "south"

    Returns
    -------
    ndarray of int

    Raises
    ------
    InputError
        If there are none.
    """
    points = np.flatnonzero(_is_in(hemisphere, latitude)) if hemisphere in PLANES else []
    if not len(points):
        raise InputError(
            f"hemisphere is {hemisphere!r}, expected north or south with points in it; the "
            f"latitudes are {np.nanmin(latitude):.1f} to {np.nanmax(latitude):.1f} degrees north"
        )
    return points


def _is_in(hemisphere, latitude):
    return latitude >= 0 if hemisphere == "north" else latitude < 0


def _positions(field, hemisphere):
    """Cell centres in metres of the plane; axes (x,) and (y,) if the grid follows the plane."""
    coords = field.coords
    axes = None
    if {"x", "y"} <= set(coords) and names.canonical_units(
        coords["x"].attrs.get("units", "")
    ) == "m":
        axes = coords["x"].values, coords["y"].values
    if not {"latitude", "longitude"} <= set(coords):
        if axes is None:
            raise InputError(
                f"the field has the coordinates {', '.join(map(str, coords)) or 'none'}, expected "
                "latitude and longitude (y, x), or x and y with units m in the EPSG:3413 plane; "
                "assign them from the prepared store"
            )
        return axes
    shape = {name: field.sizes[name] for name in ("y", "x")}
    latitude, longitude = coords["latitude"], coords["longitude"]
    if dict(latitude.sizes) != shape or dict(longitude.sizes) != shape:
        raise InputError(
            f"latitude has the dimensions {latitude.dims} and longitude {longitude.dims}, expected "
            "(y, x) each; expand 1-D axes with xarray.broadcast"
        )
    latitude, longitude = (axis.transpose("y", "x").values for axis in (latitude, longitude))
    x_m, y_m = project(latitude, longitude, hemisphere)
    has_position = np.isfinite(x_m) & np.isfinite(y_m)  # some files have no positions on land
    if axes is not None and has_position.any():
        # The axes may belong to another projection: compare them with latitude and longitude.
        distance = np.hypot(x_m - axes[0], y_m - axes[1][:, None])[has_position].max()
        if distance < 0.1 * np.abs(np.diff(axes[0])).min():
            return axes
    if not has_position.all():
        raise InputError(
            f"latitude and longitude are not finite in {(~has_position).sum()} cells; give all "
            "cells a position, those on land too"
        )
    return x_m, y_m


def graticule(hemisphere):
    """Parallels and meridians of a hemisphere as lines (point, 2) in km."""
    sign = 1 if hemisphere == "north" else -1
    around, along = np.arange(0, 361, 2.0), sign * np.linspace(PARALLELS[0], 90, 2)
    positions = [(np.full_like(around, sign * latitude), around) for latitude in PARALLELS]
    positions += [(along, np.full_like(along, longitude)) for longitude in MERIDIANS]
    return [np.stack(project(*line, hemisphere), axis=-1) / 1000 for line in positions]


def land_rings(extent, hemisphere):
    """Outlines of the land that may be inside an extent.

    Parameters
    ----------
    extent : (float, float, float, float)
        West, east, south, north in km.
    hemisphere : "north" or "south"

    Returns
    -------
    list of ndarray (point, 2)
        Closed rings in km whose bounding box overlaps the extent.
    """
    west, east, south, north = extent

    def overlaps(ring):
        (left, bottom), (right, top) = ring.min(axis=0), ring.max(axis=0)
        return left < east and right > west and bottom < north and top > south

    return [ring for ring in (ring / 1000 for ring in land_polygons(hemisphere)) if overlaps(ring)]
