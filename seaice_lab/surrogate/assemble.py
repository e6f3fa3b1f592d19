"""Assembly: state, forcing, mask, segments and splits as one lazy dataset on the model grid."""

import xarray as xr

from seaice_lab import names
from seaice_lab.errors import InputError, listed
from seaice_lab.surrogate import records, sources
from seaice_lab.surrogate.coarsen import block_mean, coarse_coordinates
from seaice_lab.surrogate.regrid import is_on, regrid
from seaice_lab.surrogate.time_axis import (
    SPLIT_ATTRS,
    TIME_COORDINATES,
    beyond_state,
    segments,
    splits,
)
from seaice_lab.times import time_text


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
    whole_grid = state[["latitude", "longitude", "ocean"]]
    state = crop(state, config)
    for name in config.variables:
        state[name] = records.on_ocean(state[name], state.ocean, config.state)
    check_sample(state[list(config.variables)], config.state)
    state = state.assign_coords(
        segment=("time", segments(state, config), {"long_name": "windows never cross a segment"}),
        split=("time", splits(state, config), SPLIT_ATTRS),
    )
    if config.forcing_beyond_state:
        state = beyond_state(state, forcing, config)
    forcing = crop(on_grid(forcing, whole_grid, config), config)
    forcing = at_times(forcing, state, config)
    converted = [n for n in config.forcing_variables if "units_in_file" in forcing[n].attrs]
    if converted:
        check_sample(forcing[converted], config.forcing or config.state)
    fields = {name: state[name] for name in config.variables}
    fields |= {name: forcing[name] for name in config.forcing_variables}
    fields = {name: coarsen(field, state.ocean, config) for name, field in fields.items()}
    result = xr.Dataset(fields).assign_coords(coarse_coordinates(state, config.coarsen))
    for name in fields:
        # A selection of nearest points splits large grids, but a chunk of the store is a frame.
        field = result[name].astype("float32").chunk({"y": -1, "x": -1})
        field.attrs = names.attributes(name)
        result[name] = field
    result.ocean.attrs = state.ocean.attrs
    if not result.ocean.values.any():
        raise InputError(
            f"{config.state}: has no ocean cell in the crop {config.crop}; choose another crop or "
            "correct the mask"
        )
    time_axis = [name for name in TIME_COORDINATES if name in state.coords]
    return result.assign_coords({name: state[name].variable for name in time_axis})


def check_sample(fields, name):
    """Read a few records from the whole period, so that a frequent fault is refused at once.

    Parameters
    ----------
    fields : xarray.Dataset (time, y, x)
    name : str
        The dataset in the message.

    Raises
    ------
    InputError
        If a record lacks values, or values contradict their unit.
    """
    for field in fields.isel(time=records.sample_records(fields.sizes["time"])).compute().values():
        records.check_unit(field, name)


def on_grid(forcing, grid, config):
    """Forcing on the grid of the state, with wind along its axes if the configuration says so.

    Parameters
    ----------
    forcing : xarray.Dataset
        From :func:`seaice_lab.surrogate.sources.open_forcing`.
    grid : xarray.Dataset
        Has ``latitude``, ``longitude`` and ``ocean`` (y, x) of the state, without a crop: the axes
        of a cell follow from its neighbours.
    config : PrepareConfig

    Returns
    -------
    xarray.Dataset
        The fields (time, y, x).

    Raises
    ------
    InputError
        If the forcing does not cover the ocean of the state.
    """
    name = config.forcing or config.state
    if not is_on(forcing, grid):
        # Axes of another grid mean nothing here: its vectors are turned before they are moved.
        forcing = sources.turn(forcing, "geographic", name)
        needed = grid.ocean.values.copy()
        if config.crop is not None:
            first_row, end_row, first_column, end_column = config.crop
            needed[:first_row] = needed[end_row:] = False
            needed[:, :first_column] = needed[:, end_column:] = False
        is_regular = forcing.latitude.ndim == 1
        forcing, convergence = regrid(forcing, grid, needed, name)
        if not is_regular:
            # Near the pole the next point of a curvilinear grid has another north. On a regular
            # grid it is on nearly the same meridian, and published forcing neglects the difference.
            forcing = sources.move(forcing, convergence, name)
    return sources.turn(forcing, "grid", name, grid) if config.rotate_winds else forcing


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
    if forcing.get_index("time").equals(state.get_index("time")):
        return forcing
    times = forcing.get_index("time")
    if times.has_duplicates:
        raise InputError(
            f"{config.forcing}: has the time {times[times.duplicated()][0]} twice; keep "
            "each record once"
        )
    index = times.get_indexer(state.get_index("time"))
    if (index < 0).any():
        missing = state.time.values[index < 0]
        raise InputError(
            f"{config.forcing}: has no record at {time_text(missing[0])} ({len(missing)} of "
            f"{state.sizes['time']} times of {config.state} are missing); its records are at "
            f"{listed(map(time_text, times))}, those of {config.state} at "
            f"{listed(map(time_text, state.time.values))}; supply forcing at the times of the "
            "model output"
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
