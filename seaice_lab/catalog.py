"""The data catalogue: which datasets exist, where their files are, and what they must contain.

``data_catalog.yaml`` lists them. Files are searched in the folder of the environment variable
SEAICE_DATA, then in ``data/`` next to the catalogue.
"""

import os
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import Literal

import dask
import numpy as np
import xarray as xr

from seaice_lab import flags, formats, names, positions, progress, recognise
from seaice_lab.config import Config, SplitRule, read_yaml
from seaice_lab.errors import InputError
from seaice_lab.times import time_text

CATALOGUE = "data_catalog.yaml"
FORMATS = Literal["nextsim", "nextsimdg", "era5", "nsidc0051"]


class Generator(Config):
    """Parameters of the synthetic Arctic or Antarctic that generates the files of a dataset."""

    size: int = 128
    days: int = 365
    step_h: int = 6
    start: str = "2001-01-01"
    seed: int = 0
    hemisphere: Literal["north", "south"] = "north"


class MaskRule(Config):
    """Which variable of the files is the mask, and which of its values are ocean."""

    variable: str
    ocean: float | tuple[float, ...]


class Entry(Config):
    """One dataset: its files, their variables, their origin and their licence.

    ``paths`` are globs relative to the data folder. ``variables`` maps the short names of the
    project to the names in the files. ``select`` chooses one value of each further dimension of
    the files, such as a member. With ``separate_runs`` each file is a separate run with its own
    times. ``vectors`` says whether wind and drift are along the axes of the grid or east
    and north, and ``mask`` where the sea is; both are needed only where the attributes of the
    files do not say it.
    """

    title: str
    format: FORMATS
    paths: tuple[str, ...]
    variables: dict[str, str]
    select: dict[str, int | float | str] = {}
    grid: str
    shape: tuple[int, int] | None = None
    period: tuple[str, str] | None = None
    step_h: float
    vectors: Literal["grid", "geographic"] | None = None
    mask: MaskRule | None = None
    separate_runs: bool = False
    splits: dict[Literal["train", "validation", "test"], SplitRule] | None = None
    generator: Generator | None = None
    licence: str
    source: str
    doi: str | None = None
    name: str = ""


def catalogue_path():
    """Path of the catalogue in the working folder, else of the one of the project.

    Raises
    ------
    InputError
        If there is neither.
    """
    for folder in (Path.cwd(), Path(__file__).parents[1]):
        if (folder / CATALOGUE).exists():
            return folder / CATALOGUE
    raise InputError(f"{CATALOGUE}: not found here; run the command in the project's folder")


def load():
    """Read the catalogue at :func:`catalogue_path`.

    Returns
    -------
    dict of str to Entry

    Raises
    ------
    InputError
        If the file is not valid, or an entry has an unknown key (the message lists the keys).
    """
    path = catalogue_path()
    return {
        name: Entry.parse(values, f"{path}, entry {name}").model_copy(update={"name": name})
        for name, values in read_yaml(path).items()
    }


def find(name):
    """Find an entry of the catalogue by its name; an entry itself is returned as it is.

    Raises
    ------
    InputError
        If there is no entry of this name; the message lists the entries.
    """
    if isinstance(name, Entry):
        return name
    entries = load()
    if name not in entries:
        raise InputError(
            f"dataset {name!r} is not in the catalogue; it has {', '.join(entries)}; add an entry "
            f"to {CATALOGUE} for your own data"
        )
    return entries[name]


def data_folders():
    """Folders in which files are searched, in this order."""
    folder = os.environ.get("SEAICE_DATA")
    folders = [Path(folder).expanduser()] if folder else []
    return [*folders, catalogue_path().parent / "data"]


def files(entry):
    """Find the files of an entry.

    Parameters
    ----------
    entry : Entry

    Returns
    -------
    list of Path
        Sorted.

    Raises
    ------
    InputError
        If there are none; the message names the folders and says how to get the files.
    """
    folders = data_folders()
    for folder in folders:
        matches = {path for pattern in entry.paths for path in glob(pattern, root_dir=folder)}
        paths = sorted(folder / path for path in matches)
        if paths:
            return paths
    if entry.generator is not None:
        advice = f"make them with `seaice-lab data make {entry.name}`"
    else:
        origin = f"{entry.source} (doi {entry.doi})" if entry.doi else entry.source
        advice = f"get them from {origin} and set SEAICE_DATA to their folder"
    raise InputError(
        f"{entry.name}: no file matches {', '.join(entry.paths)} in "
        f"{' or '.join(map(str, folders))}; {advice}"
    )


def open(name, variables=None):
    """Open a dataset lazily in one convention, with the names of its files, checked by its entry.

    Parameters
    ----------
    name : str
        Entry of the catalogue.
    variables : sequence of str, optional
        Short names of the variables that are wanted; by default all of the entry.

    Returns
    -------
    xarray.Dataset
        All files along ``time`` (dask). The fields have the names of the files, the units of
        :mod:`seaice_lab.names` and the dimensions (time, y, x), or (time, latitude, longitude) on a
        regular grid. The coordinate ``run(time)`` is the stem of the file name for separate runs,
        else the name of the entry.

    Raises
    ------
    InputError
        If a file is unreadable, lacks a variable, or has another grid, or if its units, its time
        or its positions are not understood.
    """
    entry = find(name)
    name = entry.name
    shorts = tuple(variables or entry.variables)
    paths = files(entry)
    opened = {path: open_file(path, entry, shorts) for path in paths}
    datasets = {path: dataset for path, dataset in opened.items() if dataset is not None}
    _refuse_missing(entry, shorts, datasets, opened)
    notes = [note for dataset in datasets.values() for note in dataset.attrs["notes"]]
    if len(datasets) < len(opened):
        count = len(opened) - len(datasets)
        notes.append(f"files that hold none of {', '.join(shorts)} are left out: {count}")
    for note in dict.fromkeys(notes):
        progress.note(f"{name}: {note}")
    if entry.separate_runs:
        return _concatenated(entry, datasets)
    return _series(entry, [entry.variables[short] for short in shorts], datasets)


def _refuse_missing(entry, shorts, datasets, opened):
    """Refuse variables that are in no file."""
    wanted = [entry.variables[short] for short in shorts]
    held = [name for name in wanted if any(name in dataset for dataset in datasets.values())]
    missing = [name for name in wanted if name not in held]
    if missing:
        raise InputError(
            f"{entry.name}: none of its files holds {', '.join(missing)} (they hold "
            f"{', '.join(held) or 'other variables'}; the first is {next(iter(opened))}); supply "
            f"files with it, or correct 'variables' in {CATALOGUE}"
        )


def _series(entry, variables, datasets):
    """The files of one series along time, whatever variables each of them holds."""
    groups = {}
    for variable in variables:
        paths = tuple(path for path, dataset in datasets.items() if variable in dataset)
        groups.setdefault(paths, []).append(variable)
    parts = []
    for paths, held in groups.items():
        # Other variables on the grid, such as a mask, come with the first group.
        drop = [variable for variable in variables if variable not in held]
        ordered = sorted(paths, key=lambda path: datasets[path].time.values[0])
        _refuse_overlap(ordered, datasets)
        part = {path: datasets[path].drop_vars(drop, errors="ignore") for path in ordered}
        part = _concatenated(entry, part)
        parts.append(part if not parts else part[held])
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
    """Files along time; what has no time is that of the first file."""
    options = dict(
        data_vars="minimal", coords="minimal", compat="override", combine_attrs="override"
    )
    paths = list(datasets)
    # The positions of the first file are compared with those of every other one.
    grid = datasets[paths[0]]
    grid = grid.assign_coords({name: grid[name].compute() for name in positions.UNITS_OF})
    parts = [_on_grid(datasets[path], grid, path, paths[0]) for path in paths]
    differing = _differing(dict(zip(paths, parts, strict=True)))
    try:
        joined = xr.concat(parts, dim="time", join="override", **options)
        return joined.assign_attrs(differing=differing)
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
        if axis not in grid.coords or axis not in dataset.coords or grid.sizes[axis] < 2:
            continue
        axes = [np.sort(source[axis].values.astype("f8")) for source in (dataset, grid)]
        # Axes in single and double precision differ by much less than a thousandth of a cell.
        if np.abs(axes[0] - axes[1]).max() > 1e-3 * np.abs(np.diff(axes[1])).min():
            raise InputError(
                f"{path}: its {axis} runs from {axes[0][0]:g} to {axes[0][-1]:g}, that of {first} "
                f"from {axes[1][0]:g} to {axes[1][-1]:g}; they must share a grid"
            )
        orders = [np.argsort(source[axis].values) for source in (dataset, grid)]
        if not np.array_equal(*orders):
            dataset = dataset.isel({axis: orders[0][np.argsort(orders[1])]})
    if grid.latitude.ndim == 2:
        positions.check_same(dataset, grid, path, first)
    return dataset


def _differing(datasets):
    """Names of the fields without time that differ between the files, with a file that differs.

    They may be masks: :mod:`seaice_lab.surrogate.masks` refuses a mask that differs.
    """
    (_, first), *others = datasets.items()
    constant = [name for name, field in first.data_vars.items() if "time" not in field.dims]
    grid = first[constant].compute() if others else first
    differing = {}
    for path, dataset in others:
        for name in set(constant) - set(differing):
            # To read all values at once is faster than a lazy comparison.
            if name in dataset and not dataset[name].variable.compute().equals(grid[name].variable):
                differing[name] = str(path)
    return differing


def open_file(path, entry, shorts=None):
    """Open one file lazily in the convention, and check it against its entry.

    Parameters
    ----------
    path : Path
        NetCDF file or Zarr folder.
    entry : Entry
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
    # Coordinates are read by one thread, since the NetCDF library is not safe in threads.
    with formats.closing_files(), dask.config.set(scheduler="synchronous"):
        return _recognised(formats.open_raw(path, list(wanted.values())), path, entry, wanted)


def _recognised(raw, path, entry, wanted):
    """A dataset as in its file, in the convention; None if it holds nothing that is wanted."""
    present = {short: name for short, name in wanted.items() if name in raw}
    if not present and entry.format == "era5" and not entry.separate_runs:
        return None
    if not present or (entry.separate_runs and len(present) < len(wanted)):
        raise _lacks(path, entry, raw, wanted.values())
    raw = raw.assign({name: flags.unpacked(raw[name], str(path)) for name in present.values()})
    dataset = recognise.to_convention(raw, list(present.values()), str(path), entry.select)
    dataset = _converted(dataset, present, path)
    if entry.format == "era5":
        dataset = positions.ascending(dataset)
    _check_shape(dataset, path, entry)
    run = path.stem if entry.separate_runs else entry.name
    return dataset.assign_coords(run=("time", [run] * dataset.sizes["time"]))


def _lacks(path, entry, dataset, wanted):
    missing = [name for name in wanted if name not in dataset]
    return InputError(
        f"{path}: lacks {', '.join(missing)} (it has {', '.join(map(str, dataset.data_vars))}), "
        f"expected by the entry {entry.name}; correct 'variables' in {CATALOGUE} or use other files"
    )


def _converted(dataset, present, path):
    """Fields in the units of the project."""
    for short, name in present.items():
        field = dataset[name]
        units = field.attrs.get("units")
        factor, offset = names.conversion(short, units, str(path))
        expected = names.variable(short).units
        if units is None and expected != "1":
            dataset.attrs["notes"].append(f"{short} has no units, {expected!r} is assumed")
        if (factor, offset) != (1, 0):
            dataset.attrs["notes"].append(f"{short} is converted from {units!r} to {expected!r}")
            converted = field * factor + offset
            attrs = flags.scaled(field.attrs, factor, offset)
            dataset[name] = converted.assign_attrs(attrs | {"units": expected})
    return dataset


def _check_shape(dataset, path, entry):
    rows, columns = (
        dataset.sizes[a if a in dataset.dims else b]
        for a, b in (("y", "latitude"), ("x", "longitude"))
    )
    if entry.shape is not None and (rows, columns) != entry.shape:
        raise InputError(
            f"{path}: its grid is {rows} x {columns}, but the entry {entry.name} says "
            f"{entry.shape[0]} x {entry.shape[1]}; correct the entry or use other files"
        )
