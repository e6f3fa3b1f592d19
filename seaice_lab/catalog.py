"""The data catalogue: which datasets exist, where their files are, and what they must contain.

``data_catalog.yaml`` lists them. Files are searched in the folder of the environment variable
SEAICE_DATA, then in ``data/`` next to the catalogue.
"""

import os
from pathlib import Path
from typing import Literal

import xarray as xr

from seaice_lab import names
from seaice_lab.config import Config, SplitRule, read_yaml
from seaice_lab.errors import InputError

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
    project to the names in the files. With ``separate_runs`` each file is a separate run with
    its own times. ``vectors`` says whether wind and drift are along the axes of the grid or east
    and north, and ``mask`` where the sea is; both are needed only where the attributes of the
    files do not say it.
    """

    title: str
    format: FORMATS
    paths: tuple[str, ...]
    variables: dict[str, str]
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
    """Find an entry of the catalogue.

    Raises
    ------
    InputError
        If there is no entry of this name; the message lists the entries.
    """
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
    folders = [Path(folder)] if folder else []
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
        paths = sorted({path for pattern in entry.paths for path in folder.glob(pattern)})
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


def open(name):
    """Open a dataset lazily, with the names of its files, after a check against its entry.

    Parameters
    ----------
    name : str
        Entry of the catalogue.

    Returns
    -------
    xarray.Dataset
        All files along ``time`` (dask), with the coordinate ``run(time)``: the stem of the file
        name for separate runs, else the name of the entry.

    Raises
    ------
    InputError
        If a file is unreadable, lacks a variable, or has another unit or another grid.
    """
    entry = find(name)
    datasets = [open_file(path, entry) for path in files(entry)]
    # Variables without time are those of the first file.
    first = dict(data_vars="minimal", coords="minimal", compat="override", combine_attrs="override")
    try:
        if entry.separate_runs:
            return xr.concat(datasets, dim="time", join="exact", **first)
        return xr.combine_by_coords(datasets, join="outer", **first)
    except ValueError as error:
        raise InputError(
            f"{name}: its files do not fit together ({str(error).splitlines()[0]}); check that "
            "they share one grid and do not overlap in time"
        ) from None


def open_file(path, entry):
    """Open one file lazily and check it against its entry.

    Parameters
    ----------
    path : Path
        NetCDF file.
    entry : Entry

    Returns
    -------
    xarray.Dataset
        With the dimension ``time`` and the coordinate ``run(time)``.

    Raises
    ------
    InputError
        If the file is unreadable, lacks a variable or the time, or has another unit or another
        grid.
    """
    try:
        dataset = xr.open_dataset(path, chunks={}, engine="netcdf4")
    except Exception as error:  # the NetCDF library raises many kinds for a damaged file
        raise InputError(
            f"{path}: cannot be read as NetCDF ({type(error).__name__}: {error}); the file may be "
            "cut short, copy or download it again"
        ) from None
    if "valid_time" in dataset.dims:
        dataset = dataset.rename(valid_time="time")
    present = _check_variables(dataset, path, entry)
    if "time" not in dataset.dims:
        if "time" not in dataset.coords:
            raise InputError(f"{path}: has no time; add a time coordinate to the file")
        dataset = dataset.assign({name: dataset[name].expand_dims("time") for name in present})
    run = path.stem if entry.separate_runs else entry.name
    return dataset.assign_coords(run=("time", [run] * dataset.sizes["time"]))


def _check_variables(dataset, path, entry):
    """Check the variables of a file, their units and their grid; return their names in the file."""
    present = [name for name in entry.variables.values() if name in dataset]
    missing = [name for name in entry.variables.values() if name not in dataset]
    # Each file of ERA5 may hold one variable; any other file must hold all of them.
    one_is_enough = entry.format == "era5" and not entry.separate_runs
    if missing and not (one_is_enough and present):
        raise InputError(
            f"{path}: lacks {', '.join(missing)} (it has {', '.join(dataset.data_vars)}), expected "
            f"by the entry {entry.name}; correct 'variables' in {CATALOGUE} or use other files"
        )
    for short, name in entry.variables.items():
        if name in present:
            names.check_units(short, dataset[name].attrs.get("units"), str(path))
    shape = dataset[present[0]].shape[-2:]
    if entry.shape is not None and shape != entry.shape:
        raise InputError(
            f"{path}: its grid is {shape[0]} x {shape[1]}, but the entry {entry.name} says "
            f"{entry.shape[0]} x {entry.shape[1]}; correct the entry or use other files"
        )
    return present
