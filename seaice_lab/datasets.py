"""Datasets: all files of an entry of the catalogue as one lazy dataset in one convention."""

from itertools import pairwise

import dask
import numpy as np
import xarray as xr

from seaice_lab import catalog, flags, formats, names, positions, progress, recognise
from seaice_lab.errors import InputError
from seaice_lab.times import time_text


def open(name, variables=None):
    """Open a dataset lazily in one convention, with the names of its files, checked by its entry.

    Parameters
    ----------
    name : str or seaice_lab.catalog.Entry
        Entry of the catalogue.
    variables : sequence of str, optional
        Short names of the variables that are wanted; by default all of the entry.

    Returns
    -------
    xarray.Dataset
        All files along ``time`` (dask). The fields have the names of the files, the units of
        :mod:`seaice_lab.names` and the dimensions (time, y, x), or (time, latitude, longitude) on a
        regular grid. The coordinate ``run(time)`` is the stem of the file name for separate runs,
        else the name of the entry. Fields without time, such as a mask, are those of the first
        file; the attribute ``differing`` names a file with other values for each of them.

    Raises
    ------
    InputError
        If a file is unreadable, lacks a variable, or has another grid, or if its units, its time
        or its positions are not understood.
    """
    entry = catalog.find(name)
    shorts = tuple(variables or entry.variables)
    wanted = [entry.variables[short] for short in shorts]
    paths = catalog.files(entry)
    datasets, constants, differing = _open_all(paths, entry, shorts)
    held = [name for name in wanted if any(name in dataset for dataset in datasets.values())]
    missing = [name for name in wanted if name not in held]
    if missing:
        raise InputError(
            f"{entry.name}: none of its files holds {', '.join(missing)} (they hold "
            f"{', '.join(held) or 'other variables'}; the first is {paths[0]}); supply files with "
            f"it, or correct 'variables' in {catalog.CATALOGUE}"
        )
    notes = [note for dataset in datasets.values() for note in dataset.attrs["notes"]]
    if len(datasets) < len(paths):
        count = len(paths) - len(datasets)
        notes.append(f"files that hold none of {', '.join(shorts)} are left out: {count}")
    for note in dict.fromkeys(notes):
        progress.note(f"{entry.name}: {note}")
    if entry.separate_runs:
        joined = _concatenated(entry, list(datasets.values()))
    else:
        joined = _series(entry, wanted, datasets)
    for field in wanted:
        # The files may contradict each other: all that they state is kept.
        stated = [d[field].attrs.get("standard_name") for d in datasets.values() if field in d]
        if any(stated):
            joined[field].attrs["standard_name"] = " ".join(dict.fromkeys(filter(None, stated)))
    # All files have the grid of the first one.
    attrs = next(iter(datasets.values())).attrs | {"differing": differing}
    return joined.assign(constants).assign_attrs(attrs)


def _open_all(paths, entry, shorts):
    """The files by path on the grid of the first one, and what they hold without time."""
    datasets, constants, differing = {}, {}, {}
    for path in paths:
        # Each file is opened once, by one thread: the NetCDF library is not safe in threads.
        with formats.closing_files(), dask.config.set(scheduler="synchronous"):
            dataset = open_file(path, entry, shorts)
            if dataset is None:
                continue
            grid = dataset
            if datasets:
                first, grid = next(iter(datasets.items()))
                dataset = _on_grid(dataset, grid, path, first)
            # In memory once: the positions of the other files are the same but for rounding.
            dataset = dataset.assign_coords(
                {n: grid[n].variable.load() for n in positions.UNITS_OF}
            )
            timeless = [n for n, field in dataset.data_vars.items() if "time" not in field.dims]
            for name in timeless:
                values = dataset[name].variable.load()
                if not constants.setdefault(name, values).equals(values):
                    differing.setdefault(name, str(path))
        datasets[path] = dataset.drop_vars(timeless)
    return datasets, constants, differing


def _series(entry, variables, datasets):
    """The files of one series along time, whatever variables each of them holds."""
    groups = {}
    for variable in variables:
        paths = tuple(path for path, dataset in datasets.items() if variable in dataset)
        groups.setdefault(paths, []).append(variable)
    parts = []
    for paths, held in groups.items():
        ordered = sorted(paths, key=lambda path: datasets[path].time.values[0])
        _refuse_overlap(ordered, datasets)
        drop = set(variables) - set(held)
        fields = [datasets[path].drop_vars(drop, errors="ignore") for path in ordered]
        fields = _concatenated(entry, fields)
        # Other variables along time, such as a mask, come with the first group.
        parts.append(fields if not parts else fields[held])
    if entry.format != "era5" and any(not part.time.equals(parts[0].time) for part in parts):
        lacking = [path for path in datasets if not set(variables) <= datasets[path].keys()]
        raise _lacks(lacking[0], entry, datasets[lacking[0]], variables)
    return parts[0] if len(parts) == 1 else xr.merge(parts, join="inner", compat="override")


def _refuse_overlap(paths, datasets):
    for path, following in pairwise(paths):
        end, start = datasets[path].time.values[-1], datasets[following].time.values[0]
        if start <= end:
            raise InputError(
                f"{following}: starts at {time_text(start)}, before {path} ends "
                f"({time_text(end)}); a time may be in one file only, leave one of them out of "
                "'paths' in the catalogue"
            )


def _concatenated(entry, datasets):
    """Files along time, with the positions of the first one."""
    try:
        first = {"coords": "minimal", "compat": "override", "join": "override"}
        return xr.concat(datasets, "time", data_vars="minimal", **first)
    except ValueError as error:
        raise InputError(
            f"{entry.name}: its files do not fit together ({str(error).splitlines()[0]}); check "
            "that they hold the same variables on one grid"
        ) from None


def _on_grid(dataset, grid, path, first):
    """A dataset with its rows and columns in the order of the first file."""
    for axis in [dim for dim in grid.dims if dim != "time"]:
        if dataset.sizes.get(axis) != grid.sizes[axis]:
            raise InputError(
                f"{path}: has {dataset.sizes.get(axis, 'no')} cells along {axis}, but {first} has "
                f"{grid.sizes[axis]}; the files of one entry must share one grid"
            )
        if axis in grid.coords and axis in dataset.coords:
            orders = [np.argsort(source[axis].values) for source in (dataset, grid)]
            if not np.array_equal(*orders):
                dataset = dataset.isel({axis: orders[0][np.argsort(orders[1])]})
    positions.check_same(dataset, grid, path, first)
    return dataset


def open_file(path, entry, shorts=None):
    """Open one file lazily in the convention, and check it against its entry.

    Parameters
    ----------
    path : Path
        NetCDF file or Zarr folder.
    entry : seaice_lab.catalog.Entry
    shorts : sequence of str, optional
        Short names of the variables that are wanted; by default all of the entry.

    Returns
    -------
    xarray.Dataset or None
        With the dimension ``time`` and the coordinate ``run(time)``. None if the file holds nothing
        that is wanted, and the entry is a series of ERA5, whose files may hold one variable each.

    Raises
    ------
    InputError
        If the file is unreadable, lacks a variable, or has another grid, or if its units, its time
        or its positions are not understood.
    """
    wanted = {short: entry.variables[short] for short in shorts or entry.variables}
    raw = formats.open_raw(path, list(wanted.values()))
    present = {short: name for short, name in wanted.items() if name in raw}
    if not present and entry.format == "era5" and not entry.separate_runs:
        return None
    if not present or (entry.separate_runs and len(present) < len(wanted)):
        raise _lacks(path, entry, raw, wanted.values())
    raw = raw.assign({name: flags.unpacked(raw[name], str(path)) for name in present.values()})
    dataset = recognise.to_convention(raw, list(present.values()), str(path), entry.select)
    for short, name in present.items():
        dataset[name] = _converted(dataset[name], short, path, dataset.attrs["notes"])
    if entry.format == "era5":
        dataset = positions.ascending(dataset)
    shape = tuple(dataset[name].shape[1:])
    if entry.shape not in (None, shape):
        raise InputError(
            f"{path}: its grid is {shape[0]} x {shape[1]}, but the entry {entry.name} says "
            f"{entry.shape[0]} x {entry.shape[1]}; correct the entry or use other files"
        )
    run = path.stem if entry.separate_runs else entry.name
    return dataset.assign_coords(run=("time", [run] * dataset.sizes["time"]))


def _lacks(path, entry, dataset, wanted):
    missing = [name for name in wanted if name not in dataset]
    return InputError(
        f"{path}: lacks {', '.join(missing)} (it has {', '.join(map(str, dataset.data_vars))}), "
        f"expected by the entry {entry.name}; correct 'variables' in {catalog.CATALOGUE} or use "
        "other files"
    )


def _converted(field, short, path, notes):
    """A field in the unit of the project; if it was converted, with the attribute units_in_file."""
    units, expected = field.attrs.get("units"), names.variable(short).units
    factor, offset = names.conversion(short, units, str(path))
    if units is None and expected != "1":
        notes.append(f"{short} has no units, {expected!r} is assumed")
    if (factor, offset) == (1, 0):
        return field
    notes.append(f"{short} is converted from {units!r} to {expected!r}")
    attrs = flags.scaled(field.attrs, factor, offset) | {"units": expected, "units_in_file": units}
    return (field * factor + offset).assign_attrs(attrs)
