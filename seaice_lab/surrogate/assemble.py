"""Assembly: state, forcing, mask, segments and splits as one lazy dataset on the model grid."""

import numpy as np
import xarray as xr

from seaice_lab import grid, names
from seaice_lab.errors import InputError
from seaice_lab.surrogate import sources
from seaice_lab.surrogate.coarsen import block_mean, coarse_coordinates
from seaice_lab.surrogate.time_axis import (
    SPLIT_ATTRS,
    TIME_COORDINATES,
    beyond_state,
    segments,
    splits,
    time_text,
)


def assemble(config):
    """The prepared fields as a lazy dataset: state, forcing, mask, segments and splits.

    Parameters
    ----------
    config : PrepareConfig

    Returns
    -------
    xarray.Dataset
        ``<variable>(time, y, x)``, float32 and dask, with the coordinates ``ocean(y, x)``,
        ``latitude(y, x)``, ``longitude(y, x)``, ``segment(time)`` and ``split(time)``; with forcing
        beyond the state also ``has_state(time)``.

    Raises
    ------
    InputError
        See :func:`seaice_lab.surrogate.prepare.prepare`.
    """
    state = sources.open_state(config.state, config.variables)
    forcing = sources.open_forcing(config.forcing or config.state, config.forcing_variables)
    state = state.assign_coords(
        segment=("time", segments(state, config), {"long_name": "windows never cross a segment"}),
        split=("time", splits(state, config), SPLIT_ATTRS),
    )
    if config.forcing_beyond_state:
        state = beyond_state(state, forcing, config)
    if forcing.latitude.ndim == 1 or forcing.latitude.shape != state.latitude.shape:
        forcing = regrid(forcing, state.latitude, state.longitude)
    forcing = at_times(forcing, state, config)
    if config.rotate_winds and forcing.attrs["wind_axes"] == "east_north":
        winds = forcing.u10.data, forcing.v10.data
        u10, v10 = grid.rotate_to_grid(*winds, state.latitude.values, state.longitude.values)
        forcing = forcing.assign(u10=forcing.u10.copy(data=u10), v10=forcing.v10.copy(data=v10))
    state, forcing = crop(state, config), crop(forcing, config)
    fields = {name: state[name].where(state.ocean) for name in config.variables}
    fields |= {name: forcing[name] for name in config.forcing_variables}
    fields = {name: coarsen(field, state.ocean, config) for name, field in fields.items()}
    result = xr.Dataset(fields).assign_coords(coarse_coordinates(state, config.coarsen))
    for name in fields:
        # A selection of nearest points splits large grids, but a chunk of the store is a frame.
        field = result[name].astype("float32").chunk({"y": -1, "x": -1})
        result[name] = field.assign_attrs(names.attributes(name))
    if not result.ocean.values.any():
        raise InputError(
            f"{config.state}: has no ocean cell in the crop {config.crop}; choose another crop or "
            "correct the mask"
        )
    time_axis = [name for name in TIME_COORDINATES if name in state.coords]
    return result.assign_coords({name: state[name].variable for name in time_axis})


def regrid(forcing, latitude, longitude):
    """Forcing at the nearest source point of every grid cell, on the sphere (Durand et al. 2024).

    Parameters
    ----------
    forcing : xarray.Dataset
        With 1-D or 2-D ``latitude`` and ``longitude``, degrees.
    latitude, longitude : xarray.DataArray (y, x)
        Degrees.

    Returns
    -------
    xarray.Dataset
        The fields (time, y, x); their only coordinate is time.

    Raises
    ------
    InputError
        If the forcing does not cover the grid (nearest point over 5 source cells away).
    """
    source_latitude, source_longitude = forcing.latitude.values, forcing.longitude.values
    if source_latitude.ndim == 1:
        source_longitude, source_latitude = np.meshgrid(source_longitude, source_latitude)
    index = grid.nearest_neighbour(source_latitude, source_longitude, latitude, longitude)
    distance = np.abs(source_latitude.ravel()[index] - latitude.values).max()
    spacing = np.abs(np.diff(np.unique(source_latitude))).max() if source_latitude.size > 1 else 0
    if distance > 5 * spacing + 0.5:
        raise InputError(
            f"the forcing covers {source_latitude.min():.1f} to {source_latitude.max():.1f} N, not "
            f"{latitude.values.min():.1f} to {latitude.values.max():.1f} N; use a larger domain"
        )
    nearest = xr.DataArray(index, dims=("y", "x"))
    spatial = [dim for dim in forcing[next(iter(forcing))].dims if dim != "time"]
    flat = forcing.drop_vars(set(forcing.coords) - {"time"})
    return flat.stack(point=spatial, create_index=False).isel(point=nearest)


def at_times(forcing, state, config):
    """Forcing at exactly the times of the state.

    Parameters
    ----------
    forcing, state : xarray.Dataset
        If their time axes are equal (also where runs share dates), nothing is selected.
    config : PrepareConfig

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the forcing lacks one of the times, or has a time twice.
    """
    if forcing.time.equals(state.time.drop_vars(TIME_COORDINATES[1:], errors="ignore")):
        return forcing
    times = forcing.get_index("time")
    if times.has_duplicates:
        raise InputError(
            f"{config.forcing}: has the time {times[times.duplicated()][0]} twice; remove the "
            "doubled file or record"
        )
    index = times.get_indexer(state.get_index("time"))
    if (index < 0).any():
        missing = state.time.values[index < 0]
        raise InputError(
            f"{config.forcing}: has no record at {time_text(missing[0])} ({len(missing)} times of "
            f"{config.state} are missing); supply forcing at the times of the model output"
        )
    return forcing.isel(time=index)


def crop(dataset, config):
    """Select the rows and columns of ``config.crop``.

    Parameters
    ----------
    dataset : xarray.Dataset
        With the dimensions y and x.
    config : PrepareConfig

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the crop is not within the grid.
    """
    if config.crop is None:
        return dataset
    first_row, end_row, first_column, end_column = config.crop
    rows, columns = dataset.sizes["y"], dataset.sizes["x"]
    if not (0 <= first_row < end_row <= rows and 0 <= first_column < end_column <= columns):
        raise InputError(
            f"crop {config.crop} does not fit the {rows} x {columns} grid of {config.state}; give "
            "first row, end row, first column, end column within it"
        )
    return dataset.isel(y=slice(first_row, end_row), x=slice(first_column, end_column))


def coarsen(field, ocean, config):
    """Merge ``config.coarsen`` x ``config.coarsen`` cells by the configured rule.

    Parameters
    ----------
    field : xarray.DataArray (time, y, x)
        A field of the state or of the forcing, recognised by its name.
    ocean : xarray.DataArray of bool (y, x)
        True where sea.
    config : PrepareConfig

    Returns
    -------
    xarray.DataArray (time, y / coarsen, x / coarsen)
        Its only coordinate is time.

    Raises
    ------
    InputError
        If the grid cannot be divided.
    """
    field, ocean = field.drop_vars(set(field.coords) - {"time"}), ocean.drop_vars(ocean.coords)
    if config.coarsen == 1:
        return field
    if field.name not in config.variables:
        return block_mean(field, config.coarsen)
    if config.coarsen_rule == "published":
        return block_mean(field.where(ocean, 0), config.coarsen)
    return block_mean(field, config.coarsen, ocean)
