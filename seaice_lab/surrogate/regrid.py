"""Forcing on the model grid: the nearest source point, where the source covers the ocean."""

import numpy as np
import xarray as xr
from scipy import ndimage
from scipy.spatial import cKDTree

from seaice_lab import grid
from seaice_lab.errors import InputError

# An inner point is within half a diagonal of a source cell. The last row of a Gaussian grid is 0.77
# spacings from the pole: the ratio of the first zero of the Bessel function J0 (2.405) to the
# distance to its second one (3.115).
REACH = 0.8
ELLIPSOID_A_KM = 6378.137  # WGS 84
ELLIPSOID_E2 = 0.00669437999014
SAME_PLACE_KM = 0.1  # float32 longitudes are rounded to less than 2 m


def regrid(forcing, state, needed, name):
    """Forcing at the nearest source point of every grid cell, on the sphere (Durand et al. 2024).

    Parameters
    ----------
    forcing : xarray.Dataset
        With 1-D or 2-D ``latitude`` and ``longitude``, degrees; points without a position are
        left out.
    state : xarray.Dataset
        With ``latitude`` and ``longitude`` (y, x), degrees.
    needed : ndarray of bool (y, x)
        Cells that the forcing must cover: the ocean.
    name : str
        Name of the forcing in the message.

    Returns
    -------
    fields : xarray.Dataset
        (time, y, x); their only coordinate is time.
    convergence : ndarray (y, x)
        Angle between the meridians of the cell and of its source point, radians.

    Raises
    ------
    InputError
        If a needed cell is farther from the nearest source point than the source points are apart.
    """
    target = [np.nan_to_num(state[axis].values) for axis in ("latitude", "longitude")]
    points, index = nearest_points(forcing, *target, name)
    count, missing, farthest = coverage(*points, index, needed, *target)
    if count:
        raise InputError(
            f"{name}: does not cover {count} of {needed.sum()} ocean cells{missing}; the cell at "
            f"{farthest}; supply forcing of a larger region, or crop the grid"
        )
    flat = forcing.drop_vars(set(forcing.coords) - {"time"})
    flat = flat.stack(point=_point_dims(forcing), create_index=False)
    away = (target[1] - points[1].ravel()[index] + 180) % 360 - 180
    convergence = np.radians(away) * np.sin(np.radians(target[0]))
    return flat.isel(point=xr.DataArray(index, dims=("y", "x"))), convergence


def is_on(forcing, state):
    """Whether the forcing is on the grid of the state: the same positions but for rounding.

    Parameters
    ----------
    forcing, state : xarray.Dataset
        With ``latitude`` and ``longitude``, degrees.

    Returns
    -------
    bool
    """
    if forcing.latitude.ndim != 2 or forcing.latitude.shape != state.latitude.shape:
        return False
    source = forcing.latitude.values, forcing.longitude.values
    target = state.latitude.values, state.longitude.values
    distance = grid.great_circle_km(*source, *target)
    # Cells without a position in either are land.
    return bool((np.isnan(distance) | (distance < SAME_PLACE_KM)).all())


def fill_positions(state, name):
    """Positions of land cells that have none, from those of the other cells.

    Every cell needs a position, because areas and axes follow from neighbours. The positions are a
    smooth function of row and column: a cubic polynomial for each component of the unit vector,
    plus its error at the nearest cell with a position.

    Parameters
    ----------
    state : xarray.Dataset
        With ``latitude`` and ``longitude`` (y, x), and ``ocean`` (y, x) for a state.
    name : str
        The dataset in the message.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If an ocean cell has no position.
    """
    latitude, longitude = state.latitude.values.astype("f8"), state.longitude.values.astype("f8")
    # NEMO writes 0, 0 for the parts of the grid that are land only.
    zero = (latitude == 0) & (longitude == 0)
    missing = ~np.isfinite(latitude + longitude) | (zero if zero.sum() > 1 else False)
    if not missing.any():
        return state
    lost = (missing & state.ocean.values).sum() if "ocean" in state.coords else 0
    if lost:
        raise InputError(
            f"{name}: {lost} cells have no latitude and longitude but are sea by the mask "
            f"({state.ocean.attrs.get('comment', 'ocean')}); correct the positions, or add a mask "
            "to the files"
        )
    axes = (np.linspace(-1, 1, count) for count in missing.shape)
    row, column = np.meshgrid(*axes, indexing="ij", sparse=True)
    terms = np.stack([row**i * column**j for i in range(4) for j in range(4 - i)], axis=-1)
    phi, lam = np.radians(latitude), np.radians(longitude)
    unit = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)
    fit = terms @ np.linalg.lstsq(terms[~missing], unit[~missing], rcond=None)[0]
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    x, y, z = np.moveaxis(fit + (unit - fit)[tuple(nearest)], -1, 0)
    positions = {
        "latitude": np.degrees(np.arctan2(z, np.hypot(x, y))),
        "longitude": np.degrees(np.arctan2(y, x)),
    }
    return state.assign_coords(
        {axis: state[axis].copy(data=np.where(missing, values, state[axis]))
         for axis, values in positions.items()}
    )  # fmt: skip


def _point_dims(dataset):
    return list(dict.fromkeys([*dataset.latitude.dims, *dataset.longitude.dims]))


def nearest_points(dataset, latitude, longitude, name):
    """The point of a dataset that is nearest to each of some cells.

    Parameters
    ----------
    dataset : xarray.Dataset
        With 1-D or 2-D ``latitude`` and ``longitude``, degrees.
    latitude, longitude : ndarray (y, x)
        Cells, degrees.
    name : str
        The dataset in the message.

    Returns
    -------
    points : tuple of ndarray (n, m)
        Latitude and longitude of all points of the dataset, degrees.
    index : ndarray of int (y, x)
        Position of the nearest point in the flattened (C order) points.

    Raises
    ------
    InputError
        If no point has a position.
    """
    both = xr.broadcast(dataset.latitude, dataset.longitude)
    points = tuple(axis.transpose(*_point_dims(dataset)).values for axis in both)
    has_position = np.flatnonzero(np.isfinite(points[0]) & np.isfinite(points[1]))
    if not has_position.size:
        raise InputError(f"{name}: no point has a latitude and a longitude; correct its positions")
    source = (degrees.ravel()[has_position] for degrees in points)
    return points, has_position[nearest_neighbour(*source, latitude, longitude)]


def nearest_neighbour(source_latitude, source_longitude, latitude, longitude):
    """Find the source point nearest to each target point, by the distance through the Earth.

    Parameters
    ----------
    source_latitude, source_longitude : array_like
        Degrees, equal shapes, finite.
    latitude, longitude : array_like
        Degrees, equal shapes, finite.

    Returns
    -------
    ndarray of int, shape of `latitude`
        Index into the flattened (C order) source.

    Notes
    -----
    Positions are on the WGS 84 ellipsoid and one neighbour is used, as Durand et al. (2024) do.
    """
    source = _positions_km(source_latitude, source_longitude)
    target = _positions_km(latitude, longitude)
    _, index = cKDTree(source.reshape(-1, 3)).query(target.reshape(-1, 3))
    return index.reshape(target.shape[:-1])


def _positions_km(latitude, longitude):
    """Positions on the WGS 84 ellipsoid, (..., 3), in an Earth-centred frame."""
    phi, lam = np.radians(np.asarray(latitude, float)), np.radians(np.asarray(longitude, float))
    # Radius of curvature in the prime vertical.
    radius = ELLIPSOID_A_KM / np.sqrt(1 - ELLIPSOID_E2 * np.sin(phi) ** 2)
    unit = [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi) * (1 - ELLIPSOID_E2)]
    return radius[..., None] * np.stack(unit, axis=-1)


def coverage(latitude, longitude, index, needed, cell_latitude, cell_longitude):
    """Measure whether source points reach all needed cells.

    Parameters
    ----------
    latitude, longitude : ndarray (n, m)
        Source points, degrees.
    index : ndarray of int (y, x)
        The nearest source point of each cell, a position in the flattened source.
    needed : ndarray of bool (y, x)
        Cells that must be covered.
    cell_latitude, cell_longitude : ndarray (y, x)
        Degrees.

    Returns
    -------
    count : int
        Cells that are farther from the nearest source point than source points are apart.
    missing : str
        ", because ... are missing", or empty.
    farthest : str
        How far the farthest cell is.
    """
    spacing = local_spacing_km(latitude, longitude).ravel()[index]
    nearest = latitude.ravel()[index], longitude.ravel()[index]
    distance = grid.great_circle_km(*nearest, cell_latitude, cell_longitude)
    beyond = needed & (distance > np.maximum(REACH * spacing, SAME_PLACE_KM))
    cells = cell_latitude[beyond], cell_longitude[beyond]
    missing = missing_region(latitude, longitude, *cells) if beyond.any() else ""
    excess = np.where(needed, distance - REACH * spacing, -np.inf)
    at = np.unravel_index(np.argmax(excess), distance.shape)
    place = _text(cell_latitude[at], cell_longitude[at])
    farthest = (
        f"{place} is {distance[at]:.0f} km from the nearest point, where a cell of the forcing "
        f"measures {spacing[at]:.0f} km"
    )
    return int(beyond.sum()), missing, farthest


def local_spacing_km(latitude, longitude):
    """Diagonal of the source cell at each source point.

    Parameters
    ----------
    latitude, longitude : ndarray (n, m)
        Degrees.

    Returns
    -------
    ndarray (n, m)
        Kilometres. Along each axis the nearer of the two neighbours counts, so that a gap in the
        source is no spacing; a neighbour at the same position (the pole, a seam) does not count.
    """
    squares = 0.0
    for axis in (0, 1):
        first, second = np.arange(latitude.shape[axis] - 1), np.arange(1, latitude.shape[axis])
        ends = [values.take(at, axis) for at in (first, second) for values in (latitude, longitude)]
        step = grid.great_circle_km(*ends)
        step = np.where(step > SAME_PLACE_KM, step, np.inf)  # also where a position is missing
        edge = np.full_like(latitude.take([0], axis), np.inf, dtype=float)
        side = np.minimum(np.concatenate([step, edge], axis), np.concatenate([edge, step], axis))
        squares = squares + np.where(np.isfinite(side), side, 0) ** 2
    return np.sqrt(squares)


def missing_region(latitude, longitude, cell_latitude, cell_longitude):
    """The part of the sphere that source points leave out, in words.

    Parameters
    ----------
    latitude, longitude : ndarray
        Source points, degrees.
    cell_latitude, cell_longitude : ndarray (n,)
        Cells that are not covered, degrees.

    Returns
    -------
    str
        ", because ... are missing", or empty where it is neither latitudes nor a sector.
    """
    south, north = np.nanmin(latitude), np.nanmax(latitude)
    parts = []
    if cell_latitude.max() > north:
        parts.append(f"latitudes north of {_text(north)}")
    if cell_latitude.min() < south:
        parts.append(f"latitudes south of {_text(south)}")
    degrees = np.unique(np.mod(longitude[np.isfinite(longitude)], 360))
    step = np.diff(degrees, append=degrees[0] + 360)
    start, width = degrees[np.argmax(step)], step.max()
    # A few points have wide gaps everywhere: the sector must hold the cells that are not covered,
    # apart from those at other latitudes.
    inside = np.mod(cell_longitude - start, 360) < width
    between = (cell_latitude >= south) & (cell_latitude <= north)
    inside = inside[between] if between.any() else inside
    if width > max(3 * np.median(step), 1) and inside.mean() > 0.75:
        west, east = (_text(longitude=end) for end in (start, start + width))
        parts.append(f"longitudes from {west} eastward to {east}")
    return f", because {' and '.join(parts)} are missing" if parts else ""


def _text(latitude=None, longitude=None):
    """A position as text, such as "75.0 N 20.5 W"."""
    parts = []
    if latitude is not None:
        parts.append(f"{abs(latitude):.1f} {'N' if latitude >= 0 else 'S'}")
    if longitude is not None:
        degrees = (longitude + 180) % 360 - 180
        parts.append(f"{abs(degrees):.1f} {'E' if degrees >= 0 else 'W'}")
    return " ".join(parts)
