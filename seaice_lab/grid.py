"""Geometry of polar grids: projection, cell area, axes of vectors, coastlines.

A grid is described by the 2-D latitude and longitude of its cell centres, so any curvilinear grid
works. Maps use the polar stereographic planes of NSIDC on WGS 84: EPSG:3413 in the north (true
scale at 70 N, 45 W points down) and EPSG:3976 in the south (true scale at 70 S, 0 E points up).
"""

from functools import cache

import numpy as np
import xarray as xr
from pyproj import Transformer

from seaice_lab.errors import InputError

PLANES = {"north": "EPSG:3413", "south": "EPSG:3976"}

EARTH_RADIUS_M = 6.371e6  # mean radius of the sphere on which areas are measured


@cache
def _transformer(source, target):
    return Transformer.from_crs(source, target, always_xy=True)


def hemisphere_of(latitude):
    """The hemisphere that contains some positions.

    Parameters
    ----------
    latitude : array_like
        Degrees north; NaN is ignored.

    Returns
    -------
    "north" or "south"
        "north" if all positions are on the equator.

    Raises
    ------
    InputError
        If there are positions on both sides of the equator.
    """
    latitude = np.asarray(latitude)
    if not (latitude < 0).any():
        return "north"
    if not (latitude > 0).any():
        return "south"
    raise InputError(
        f"the latitudes extend from {np.nanmin(latitude):.1f} to {np.nanmax(latitude):.1f} degrees "
        "north, expected one hemisphere; select the cells north or south of the equator"
    )


def project(latitude, longitude, hemisphere=None):
    """Project geographic positions to the plane of their hemisphere.

    Parameters
    ----------
    latitude, longitude : array_like
        Degrees north and east, any (equal) shape.
    hemisphere : "north" or "south", optional
        Plane: EPSG:3413 or EPSG:3976. By default that of the latitudes.

    Returns
    -------
    x_m, y_m : float or ndarray
        Metres, same shape.

    Raises
    ------
    InputError
        If the hemisphere is not given and there are positions on both sides of the equator.
    """
    plane = PLANES[hemisphere or hemisphere_of(latitude)]
    return _transformer("EPSG:4326", plane).transform(longitude, latitude)


def unproject(x_m, y_m, hemisphere="north"):
    """Convert points of the plane of a hemisphere to geographic positions; inverse of `project`.

    Parameters
    ----------
    x_m, y_m : array_like
        Metres, any (equal) shape.
    hemisphere : "north" or "south"
        Plane: EPSG:3413 or EPSG:3976.

    Returns
    -------
    latitude, longitude : float or ndarray
        Degrees north and east (-180 to 180), same shape as the input.
    """
    longitude, latitude = _transformer(PLANES[hemisphere], "EPSG:4326").transform(x_m, y_m)
    return latitude, longitude


def cell_area(dataset):
    """Area of the cells of a grid, from the positions of their centres.

    The area is |dr/di x dr/dj|, with r the position on a sphere of radius 6371 km and its
    derivatives by central differences (one-sided on the edge of the domain).

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
        Has ``latitude`` and ``longitude`` (y, x) in degrees.

    Returns
    -------
    xarray.DataArray (y, x), float64
        Square metres.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    along_y, along_x = _tangents(dataset["latitude"], dataset["longitude"])
    area = EARTH_RADIUS_M**2 * np.linalg.norm(np.cross(along_y, along_x), axis=-1)
    attrs = {"standard_name": "cell_area", "long_name": "Area of grid cells", "units": "m2"}
    return xr.DataArray(area, dims=("y", "x"), attrs=attrs)


def spacing_m(dataset, ocean=None):
    """Distance between the centres of neighbouring cells: the square root of the mean cell area.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataArray
        Has ``latitude`` and ``longitude`` (y, x) in degrees.
    ocean : xarray.DataArray of bool (y, x), optional
        The mean is over the cells where this is true; over all cells without it.

    Returns
    -------
    float
        Metres.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    area = cell_area(dataset)
    return float(np.sqrt((area if ocean is None else area.where(ocean)).mean()))


def cell_sides(latitude, longitude):
    """Distances between the centres of neighbouring cells.

    Parameters
    ----------
    latitude, longitude : array_like (y, x)
        Degrees.

    Returns
    -------
    along_x, along_y : ndarray (y, x)
        Metres.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    along_y, along_x = _tangents(latitude, longitude)
    return tuple(EARTH_RADIUS_M * np.linalg.norm(along, axis=-1) for along in (along_x, along_y))


def great_circle_km(latitude_1, longitude_1, latitude_2, longitude_2):
    """Distance on the sphere by the haversine formula, which is exact for small distances too.

    Parameters
    ----------
    latitude_1, longitude_1, latitude_2, longitude_2 : array_like
        Degrees.

    Returns
    -------
    ndarray
        Kilometres; NaN where a position is NaN.
    """
    phi_1, lam_1, phi_2, lam_2 = (
        np.radians(np.asarray(degrees, float))
        for degrees in (latitude_1, longitude_1, latitude_2, longitude_2)
    )
    half = np.sin((phi_2 - phi_1) / 2) ** 2
    half = half + np.cos(phi_1) * np.cos(phi_2) * np.sin((lam_2 - lam_1) / 2) ** 2
    return 2 * EARTH_RADIUS_M / 1e3 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def is_right_handed(latitude, longitude):
    """Whether the y axis points to the left of the x axis, seen from above.

    Parameters
    ----------
    latitude, longitude : array_like (y, x)
        Degrees.

    Returns
    -------
    ndarray of bool (y, x)
        False where rows run towards decreasing y.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    along_y, along_x = _tangents(latitude, longitude)
    up = _unit_vectors(np.radians(latitude), np.radians(longitude))
    return (np.cross(along_x, along_y) * up).sum(-1) > 0


def rotate_to_grid(u_east, v_north, latitude, longitude):
    """Convert east and north components to components along the axes of the grid.

    The x axis is the direction of growing column index at each cell; the y axis is perpendicular
    to it, on the side of growing row index. The length of the vector does not change.

    Parameters
    ----------
    u_east, v_north : array_like (..., y, x)
        Vector components, any unit.
    latitude, longitude : array_like (y, x)
        Degrees.

    Returns
    -------
    u_x, v_y : ndarray (..., y, x)
        In the unit and precision of the input.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    cosine, sine, side = _axes_of_grid(latitude, longitude, np.result_type(u_east, v_north))
    return cosine * u_east + sine * v_north, side * (cosine * v_north - sine * u_east)


def rotate_to_geographic(u_x, v_y, latitude, longitude):
    """Convert components along the axes of the grid to east and north; see `rotate_to_grid`.

    Parameters
    ----------
    u_x, v_y : array_like (..., y, x)
        Vector components, any unit.
    latitude, longitude : array_like (y, x)
        Degrees.

    Returns
    -------
    u_east, v_north : ndarray (..., y, x)
        In the unit and precision of the input.

    Raises
    ------
    InputError
        If the coordinates are not two equal 2-D arrays of at least 2 x 2 finite values.
    """
    cosine, sine, side = _axes_of_grid(latitude, longitude, np.result_type(u_x, v_y))
    v_left = side * v_y
    return cosine * u_x - sine * v_left, sine * u_x + cosine * v_left


def _axes_of_grid(latitude, longitude, dtype):
    """Cosine and sine of the angle from east to the x axis; 1 where y is left of x, else -1."""
    along_y, along_x = _tangents(latitude, longitude)
    phi, lam = np.radians(latitude), np.radians(longitude)
    # Unit vectors towards east and north at each cell, in the frame of the 3-D positions.
    east = np.stack([-np.sin(lam), np.cos(lam), np.zeros_like(lam)], axis=-1)
    north = np.stack([-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)], axis=-1)
    x_east, x_north = (along_x * east).sum(-1), (along_x * north).sum(-1)
    length = np.hypot(x_east, x_north)
    cosine, sine = x_east / length, x_north / length
    # Rows that run towards decreasing y (as in NSIDC files) make the axes left-handed.
    side = np.sign(cosine * (along_y * north).sum(-1) - sine * (along_y * east).sum(-1))
    return cosine.astype(dtype), sine.astype(dtype), side.astype(dtype)


def coastline(ocean, x, y):
    """Line segments between ocean cells and land cells.

    Parameters
    ----------
    ocean : array_like of bool (y, x)
        True where sea. The edge of the domain is not a coast.
    x, y : array_like (x,) and (y,), or both (y, x)
        Cell centres in any plane, for example projected metres; at least two in each direction.

    Returns
    -------
    ndarray (n, 2, 2), float64
        Start and end (second axis) as x, y (third axis), in the unit of x and y.

    Raises
    ------
    InputError
        If the shape of the centres is not that of the mask.
    """
    ocean = np.asarray(ocean, dtype=bool)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.ndim == 1 and y.ndim == 1:
        x, y = np.meshgrid(x, y)
    if x.shape != ocean.shape or y.shape != ocean.shape or min(ocean.shape) < 2:
        raise InputError(
            f"coastline: the mask is {ocean.shape} but x gives {x.shape} and y {y.shape}; "
            "pass the centres of the same grid, at least 2 x 2 cells"
        )
    corner = np.stack([_corners(x), _corners(y)], axis=-1)
    # Where the mask changes from one column to the next, the side between the two cells is coast.
    row, column = np.nonzero(ocean[:, 1:] != ocean[:, :-1])
    along_y = np.stack([corner[row, column + 1], corner[row + 1, column + 1]], axis=1)
    row, column = np.nonzero(ocean[1:] != ocean[:-1])
    along_x = np.stack([corner[row + 1, column], corner[row + 1, column + 1]], axis=1)
    return np.concatenate([along_y, along_x])


def geographic_coordinates(latitude, longitude, ocean):
    """Coordinates of a grid with their CF attributes.

    Parameters
    ----------
    latitude, longitude : ndarray (y, x)
        Degrees north and east.
    ocean : ndarray of bool (y, x)
        True where sea.

    Returns
    -------
    dict of str to tuple
        ``latitude``, ``longitude`` and ``ocean``, for ``assign_coords``.
    """
    dims = ("y", "x")
    return {
        "latitude": (dims, latitude, {"standard_name": "latitude", "units": "degrees_north"}),
        "longitude": (dims, longitude, {"standard_name": "longitude", "units": "degrees_east"}),
        "ocean": (dims, ocean, {"long_name": "ocean mask, true where sea"}),
    }


def _unit_vectors(phi, lam):
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)


def _tangents(latitude, longitude):
    """Derivatives of the unit position vector along y and x, each (y, x, 3)."""
    phi, lam = (np.radians(np.asarray(degrees, float)) for degrees in (latitude, longitude))
    has_values = np.isfinite(phi).all() and np.isfinite(lam).all()
    if phi.shape != lam.shape or phi.ndim != 2 or min(phi.shape) < 2 or not has_values:
        raise InputError(
            f"latitude {phi.shape} and longitude {lam.shape} must have equal shapes (y, x) of at "
            "least 2 x 2 cells, and finite values; expand 1-D axes with numpy.meshgrid, crop cells "
            "without a position"
        )
    return np.gradient(_unit_vectors(phi, lam), axis=(0, 1))


def _corners(centre):
    """Corners (y + 1, x + 1) halfway between centres, extrapolated at the edge of the domain."""
    padded = np.pad(centre, 1, mode="reflect", reflect_type="odd")
    return (padded[1:, 1:] + padded[1:, :-1] + padded[:-1, 1:] + padded[:-1, :-1]) / 4
