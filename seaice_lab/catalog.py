"""The data catalogue: which datasets exist, where their files are, and a check of what they hold.

``data_catalog.yaml`` lists them. Files are looked for under the folder that the environment
variable SEAICE_DATA names, then under ``data/`` beside the catalogue.
"""

import os
from pathlib import Path
from typing import Literal

import xarray as xr

from seaice_lab import names
from seaice_lab.config import Config, read_yaml
from seaice_lab.errors import InputError

CATALOGUE = "data_catalog.yaml"
FORMATS = Literal["nextsim", "nextsimdg", "era5", "nsidc0051"]


class SplitRule(Config):
    """Which part of a dataset a split takes: whole runs by file name, or a period of time."""

    files: tuple[str, ...] = ()
    period: tuple[str, str] | None = None


class Generator(Config):
    """Parameters of the synthetic Arctic that makes a dataset's files."""

    size: int = 128
    days: int = 365
    step_h: int = 6
    start: str = "2001-01-01"
    seed: int = 0


class Entry(Config):
    """One dataset: its files, what they hold, where they come from and under which licence.

    ``paths`` are globs relative to the data folder. ``variables`` maps our short names to the
    names in the files. With ``separate_runs`` each file is a run of its own, with its own times.
    """

    title: str
    format: FORMATS
    paths: tuple[str, ...]
    variables: dict[str, str]
    grid: str
    shape: tuple[int, int] | None = None
    period: tuple[str, str] | None = None
    step_h: float
    separate_runs: bool = False
    splits: dict[Literal["train", "validation", "test"], SplitRule] | None = None
    generator: Generator | None = None
    licence: str
    source: str
    doi: str | None = None
    name: str = ""


def catalogue_path():
    """The catalogue in the working folder, else the one beside the package.

    Raises
    ------
    InputError
        If there is neither.
    """
    for folder in (Path.cwd(), Path(__file__).parents[1]):
        if (folder / CATALOGUE).exists():
            return folder / CATALOGUE
    raise InputError(f"{CATALOGUE}: not found here; run the command in the project's folder")


def load(path=None):
    """Read the catalogue.

    Parameters
    ----------
    path : str or Path, optional
        By default :func:`catalogue_path`.

    Returns
    -------
    dict of str to Entry

    Raises
    ------
    InputError
        If the file is not valid, or an entry has a wrong key (the known ones are listed).
    """
    path = Path(path or catalogue_path())
    entries = read_yaml(path)
    if not isinstance(entries, dict):
        raise InputError(f"{path}: expected 'name: entry' pairs; see the bundled catalogue")
    return {
        name: Entry.parse({**values, "name": name}, f"{path}, entry {name}")
        if isinstance(values, dict)
        else Entry.parse(values, f"{path}, entry {name}")
        for name, values in entries.items()
    }


def find(name):
    """An entry of the catalogue.

    Raises
    ------
    InputError
        If there is none of this name; the sentence lists those there are.
    """
    entries = load()
    if name not in entries:
        raise InputError(
            f"dataset {name!r} is not in the catalogue; it has {', '.join(entries)}; add an entry "
            f"to {CATALOGUE} for your own data"
        )
    return entries[name]


def data_folders():
    """Folders in which files are looked for, in this order."""
    chosen = os.environ.get("SEAICE_DATA")
    folders = [Path(chosen)] if chosen else []
    return [*folders, catalogue_path().parent / "data"]


def files(entry):
    """The files of an entry, sorted.

    Raises
    ------
    InputError
        If there are none; the sentence says where they were looked for and how to get them.
    """
    folders = data_folders()
    for folder in folders:
        found = sorted({path for pattern in entry.paths for path in folder.glob(pattern)})
        if found:
            return found
    if entry.generator is not None:
        mend = f"make them with `seaice-lab data make {entry.name}`"
    else:
        origin = f"{entry.source}" + (f" (doi {entry.doi})" if entry.doi else "")
        mend = f"get them from {origin} and set SEAICE_DATA to their folder"
    raise InputError(
        f"{entry.name}: no file matches {', '.join(entry.paths)} in "
        f"{' or '.join(map(str, folders))}; {mend}"
    )


def open(name):  # noqa: A001  (catalog.open reads as what it is)
    """Open a dataset lazily, as it is in its files, after checking them against the entry.

    Parameters
    ----------
    name : str
        Entry of the catalogue.

    Returns
    -------
    xarray.Dataset
        All files along ``time`` (dask), with the coordinate ``run(time)``: the file's stem for
        separate runs, else the entry's name.

    Raises
    ------
    InputError
        If a file is unreadable, lacks a variable, has another unit or another grid.
    """
    entry = find(name)
    pieces = [open_file(path, entry) for path in files(entry)]
    try:
        if entry.separate_runs:
            return xr.concat(pieces, dim="time", data_vars="minimal", coords="minimal",
                             compat="override", join="exact", combine_attrs="override")  # fmt: skip
        return xr.combine_by_coords(pieces, data_vars="minimal", coords="minimal",
                                    compat="override", join="outer",
                                    combine_attrs="override")  # fmt: skip
    except ValueError as error:
        raise InputError(
            f"{name}: its files do not fit together ({str(error).splitlines()[0]}); check that "
            "they share one grid and do not overlap in time"
        ) from None


def open_file(path, entry):
    """Open and check one file lazily.

    Raises
    ------
    InputError
        See :func:`open`.
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
    wanted = [own for own in entry.variables.values() if own in dataset]
    # A set of files may hold one variable each; only a file with none of them is wrong by itself.
    missing = [own for own in entry.variables.values() if own not in dataset]
    if missing and (entry.separate_runs or entry.format != "era5" or not wanted):
        raise InputError(
            f"{path}: lacks {', '.join(missing)} (it has {', '.join(dataset.data_vars)}), expected "
            f"by the entry {entry.name}; correct 'variables' in {CATALOGUE} or use other files"
        )
    for short, own in entry.variables.items():
        if own in wanted:
            names.check_units(short, dataset[own].attrs.get("units"), str(path))
    shape = dataset[wanted[0]].shape[-2:]
    if entry.shape is not None and shape != entry.shape:
        raise InputError(
            f"{path}: its grid is {shape[0]} x {shape[1]}, but the entry {entry.name} says "
            f"{entry.shape[0]} x {entry.shape[1]}; correct the entry or use other files"
        )
    if "time" not in dataset.dims:
        if "time" not in dataset.coords:
            raise InputError(f"{path}: has no time; add a time coordinate to the file")
        dataset = dataset.map(
            lambda field: field.expand_dims("time") if field.name in wanted else field
        )
    run = path.stem if entry.separate_runs else entry.name
    return dataset.assign_coords(run=("time", [run] * dataset.sizes["time"]))
