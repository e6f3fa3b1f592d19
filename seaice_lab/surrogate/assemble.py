"""Assembly: state, forcing, mask, segments and splits as one lazy dataset on the model grid.

Its cells may be merged: every block of factor x factor cells becomes one cell.
"""

import numpy as np
import xarray as xr

from seaice_lab import names
from seaice_lab.errors import InputError, listed
from seaice_lab.grid import geographic_coordinates
from seaice_lab.surrogate import records, sources, time_axis
from seaice_lab.surrogate.regrid import is_on, regrid
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
    segments, splits = time_axis.segments(state, config), time_axis.splits(state, config)
    state = state.assign_coords(
        segment=("time", segments, {"long_name": "windows never cross a segment"}),
        split=("time", splits, time_axis.SPLIT_ATTRS),
    )
    if config.forcing_beyond_state:
        state = time_axis.beyond_state(state, forcing, config)
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
    of_time = [name for name in time_axis.TIME_COORDINATES if name in state.coords]
    return result.assign_coords({name: state[name].variable for name in of_time})


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
    coords = geographic_coordinates(
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
