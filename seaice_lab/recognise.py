"""Recognition: what the dimensions and coordinates of a file mean, whatever their names and order.

Meaning comes from CF attributes (with cf-xarray), else from the usual names. The result is one
convention: fields ``(time, y, x)`` with 2-D ``latitude`` and ``longitude``, or ``(time, latitude,
longitude)`` on a regular grid with 1-D axes. Everything else is dropped or refused by name.
"""

import numpy as np
import xarray as xr

from seaice_lab import positions, times
from seaice_lab.errors import InputError, listed

CONVENTION = ("time", "latitude", "longitude", "x", "y", "run")


def to_convention(dataset, variables, where, select=None, has_time=True):
    """Bring the fields of one file, and the other variables on their grid, to the convention.

    Parameters
    ----------
    dataset : xarray.Dataset
        As in the file; times are not decoded.
    variables : sequence of str
        Names in the file of the fields that are wanted.
    where : str
        File to name in messages.
    select : dict, optional
        For each further dimension the value of its coordinate, or the position if it has none.
    has_time : bool
        False for a file of constants, such as a mask: it becomes one record of an unknown time.

    Returns
    -------
    xarray.Dataset
        The fields ``(time, y, x)`` or ``(time, latitude, longitude)`` with their names in the file;
        every other variable of the same grid, such as a mask; the coordinates ``time``,
        ``latitude``, ``longitude``, and ``x``, ``y`` in metres if the file has them. The attribute
        ``notes`` lists what the user should know, ``descending`` the axes "x", "y" that decrease
        with the index of the cells; ``ordered`` is false where only the order of the dimensions
        tells rows from columns.

    Raises
    ------
    InputError
        If time, positions or a further dimension cannot be recognised for certain.
    """
    notes = []
    _refuse_empty(dataset, variables, where)
    dataset = dataset.set_coords([name for name in dataset.data_vars if name not in variables])
    dataset.encoding.pop("coordinates", None)
    dataset = _selected(dataset, variables, select or {}, where)
    dataset = _one_version(dataset)
    grid_positions = positions.find(dataset, variables[0], where)
    grid = (grid_positions.y_dim, grid_positions.x_dim)
    dataset = dataset.squeeze(
        [dim for dim, n in dataset.sizes.items() if n == 1 and dim not in grid]
    )
    stamps = xr.DataArray(np.datetime64("1970-01-01", "ns"))
    if has_time:
        stamps = times.valid_times(dataset, variables[0], where, notes)
    _refuse_further_dimensions(dataset, variables, (*grid, *stamps.dims), where)
    if stamps.ndim > 1:
        dataset, stamps = _one_time_axis(dataset, stamps, where)
    result = _renamed(dataset, variables, grid_positions, stamps)
    return _in_time_order(result, where, notes).assign_attrs(notes=notes)


def _refuse_empty(dataset, variables, where):
    for dim in dataset[list(variables)].dims:
        if dataset.sizes[dim] == 0:
            raise InputError(
                f"{where}: holds no records (its dimension {dim!r} has length 0); write the file "
                "again, or leave it out of 'paths' in the catalogue"
            )


def _selected(dataset, variables, select, where):
    """Select the chosen value of every dimension that `select` names."""
    for dim, value in select.items():
        if dim not in dataset.dims:
            present = dataset.coords.get(dim)
            if present is None or present.ndim or present.item() != value:
                raise InputError(
                    f"{where}: has no dimension {dim!r}, which 'select' names; its dimensions are "
                    f"{', '.join(map(str, dataset[list(variables)].dims))}"
                )
            continue
        labels = dataset[dim].values if dim in dataset.coords else np.arange(dataset.sizes[dim])
        matching = np.flatnonzero(labels == value)
        if matching.size != 1:
            raise InputError(
                f"{where}: {dim} has no value {value!r} (it has {listed(labels)}); correct "
                "'select' in the catalogue"
            )
        dataset = dataset.isel({dim: int(matching[0])})
    return dataset


def _one_version(dataset):
    """Join the versions of ERA5, if they are a dimension: the first that has a value counts."""
    if "expver" not in dataset.dims:
        return dataset
    # Version 1 is final, version 5 preliminary: the final value is used where both exist.
    versions = dataset.sortby("expver") if "expver" in dataset.coords else dataset
    fields = [name for name in versions.data_vars if "expver" in versions[name].dims]
    final = versions.isel(expver=0)
    for number in range(1, versions.sizes["expver"]):
        final = final.assign(
            {name: final[name].fillna(versions[name].isel(expver=number)) for name in fields}
        )
    return final.drop_vars("expver", errors="ignore")


def _refuse_further_dimensions(dataset, variables, dims, where):
    """Refuse a field with a dimension that is neither time, y nor x, or without one of them."""
    for name in variables:
        further = [dim for dim in dataset[name].dims if dim not in dims]
        missing = [dim for dim in dims if dim not in dataset[name].dims]
        if missing:
            raise InputError(
                f"{where}: {name} has the dimensions {', '.join(map(str, dataset[name].dims))}, "
                f"but {variables[0]} has {', '.join(map(str, dims))}; put both on one grid first"
            )
        if further:
            dim = further[0]
            labels = dataset[dim].values if dim in dataset.coords else range(dataset.sizes[dim])
            raise InputError(
                f"{where}: {name} has the further dimension {dim!r} with the values "
                f"{listed(labels)}; choose one in the catalogue entry, such as "
                f"`select: {{{dim}: {np.asarray(labels).flat[0]}}}`"
            )


def _one_time_axis(dataset, stamps, where):
    """Starts and steps of forecasts along one time axis."""
    if len(np.unique(stamps)) < stamps.size:
        dim = stamps.dims[-1]
        raise InputError(
            f"{where}: its forecasts overlap: several of {', '.join(map(str, stamps.dims))} give "
            f"the same time; choose one {dim} in the catalogue entry, such as "
            f"`select: {{{dim}: {listed(dataset[dim].values[:1])}}}`"
        )
    dims = {"records": stamps.dims}
    return dataset.stack(dims, create_index=False), stamps.stack(dims, create_index=False)


def _renamed(dataset, variables, grid_positions, stamps):
    """A new dataset with the names and the order of dimensions of the convention."""
    y, x = ("latitude", "longitude") if grid_positions.regular else ("y", "x")
    new = {grid_positions.y_dim: y, grid_positions.x_dim: x} | dict.fromkeys(stamps.dims, "time")

    def convert(array):
        further = [dim for dim in array.dims if dim not in new]
        order = (*stamps.dims, *further, grid_positions.y_dim, grid_positions.x_dim)
        variable = array.variable.transpose(*[dim for dim in order if dim in array.dims])
        dims = [new.get(dim, dim) for dim in variable.dims]
        return xr.Variable(dims, variable.data, variable.attrs, variable.encoding)

    # A mask may have further dimensions; its reader decides about them.
    on_grid = [
        name
        for name, coordinate in dataset.coords.items()
        if {grid_positions.y_dim, grid_positions.x_dim} <= set(coordinate.dims)
        and not set(CONVENTION) & (set(coordinate.dims) - set(new))
        and name not in (*CONVENTION, grid_positions.latitude.name, grid_positions.longitude.name)
    ]
    fields = {name: convert(dataset[name]) for name in (*variables, *on_grid)}
    if not stamps.dims:
        fields |= {name: fields[name].expand_dims("time") for name in variables}
    coords = {
        "time": ("time", np.atleast_1d(stamps.values), stamps.attrs),
        "latitude": convert(grid_positions.latitude),
        "longitude": convert(grid_positions.longitude),
    }
    if "expver" in dataset.coords and dataset.expver.dims == stamps.dims != ():
        coords["expver"] = ("time", dataset.expver.values)
    attrs = {"ordered": grid_positions.ordered, "descending": []}
    if not grid_positions.regular:
        axes, attrs["descending"] = positions.plane_axes(dataset, grid_positions)
        coords |= axes
    return xr.Dataset(fields, coords, dataset.attrs | attrs)


def _in_time_order(dataset, where, notes):
    """Records sorted by time, each time once."""
    stamps = dataset.get_index("time")
    if not stamps.is_monotonic_increasing:
        notes.append("records were not in the order of time and were sorted")
        dataset = dataset.sortby("time")
    if "expver" in dataset.coords:
        # The final value of ERA5 (version 1) is used where a preliminary one (5) exists too.
        dataset = dataset.sortby(["time", "expver"])
        stamps, versions = dataset.get_index("time"), dataset.expver.to_series()
        preliminary = stamps.duplicated() & ~versions.reset_index().duplicated().values
        dataset = dataset.isel(time=~preliminary).drop_vars("expver")
    stamps = dataset.get_index("time")
    if stamps.has_duplicates:
        raise InputError(
            f"{where}: time repeats {times.time_text(stamps[stamps.duplicated()][0])}; keep one "
            "record of each time"
        )
    return dataset
