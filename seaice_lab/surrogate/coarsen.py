"""Coarsening: every block of factor x factor cells of a grid becomes one cell."""

import numpy as np

from seaice_lab import grid
from seaice_lab.errors import InputError


def block_mean(field, factor, ocean=None):
    """Mean of each block, over its ocean cells or over all of its cells.

    Parameters
    ----------
    field : xarray.DataArray (..., y, x)
        Values, in memory or dask. A NaN in a cell that counts makes the mean NaN.
    factor : int
        Cells merged along each axis; must divide both sizes.
    ocean : xarray.DataArray of bool (y, x), optional
        The cells that count, so that land does not dilute the coast. Without it all cells count.

    Returns
    -------
    xarray.DataArray (..., y / factor, x / factor)
        NaN where no cell counts.

    Raises
    ------
    InputError
        If the grid cannot be divided.
    """
    # reduce(np.sum) keeps NaN; the methods .sum() and .mean() of xarray would skip it.
    if ocean is None:
        return _blocks(field, factor).reduce(np.mean)
    total = _blocks(field.where(ocean, 0), factor).reduce(np.sum)
    count = _blocks(ocean, factor).reduce(np.sum).astype(field.dtype)
    return total / count.where(count > 0)


def coarse_ocean(ocean, factor):
    """Ocean mask of the coarse grid: a block is ocean if any of its cells is.

    Parameters
    ----------
    ocean : xarray.DataArray of bool (y, x)
        True where sea.
    factor : int
        Cells merged along each axis; must divide both sizes.

    Returns
    -------
    xarray.DataArray of bool (y / factor, x / factor)

    Raises
    ------
    InputError
        If the grid cannot be divided.
    """
    return _blocks(ocean, factor).reduce(np.any)


def coarse_coordinates(dataset, factor):
    """Coordinates of the coarse grid: centres of the blocks, and the ocean mask.

    Parameters
    ----------
    dataset : xarray.Dataset
        Has ``latitude``, ``longitude``, ``ocean`` (y, x) and possibly ``x`` and ``y``.
    factor : int
        Cells merged along each axis; must divide both sizes.

    Returns
    -------
    dict
        The same coordinates of the coarse grid, for ``assign_coords``.

    Raises
    ------
    InputError
        If the grid cannot be divided.
    """
    longitude, latitude = np.radians(dataset.longitude), np.radians(dataset.latitude)
    # The mean is over unit vectors, not degrees, because longitudes jump at the date line.
    east = block_mean(np.cos(latitude) * np.cos(longitude), factor)
    north = block_mean(np.cos(latitude) * np.sin(longitude), factor)
    up = block_mean(np.sin(latitude), factor)
    coords = grid.geographic_coordinates(
        np.degrees(np.arctan2(up, np.hypot(east, north))).values,
        np.degrees(np.arctan2(north, east)).values,
        coarse_ocean(dataset.ocean, factor).values,
    )
    for axis in {"y", "x"} & set(dataset.coords):
        coords[axis] = dataset[axis].coarsen({axis: factor}).mean()
    return coords


def _blocks(field, factor):
    rows, columns = field.sizes["y"], field.sizes["x"]
    if factor < 1 or rows % factor or columns % factor:
        raise InputError(
            f"a grid of {rows} x {columns} cells cannot be coarsened by {factor}; "
            "crop it to a multiple, or choose a factor that divides both sizes"
        )
    return field.coarsen(y=factor, x=factor)
