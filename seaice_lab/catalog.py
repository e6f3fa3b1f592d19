"""The data catalogue: which datasets exist, where their files are, and what they must contain.

``data_catalog.yaml`` lists them. Files are searched in the folder of the environment variable
SEAICE_DATA, then in ``data/`` next to the catalogue. This module does not import xarray, so that
a list of the datasets is printed at once; :mod:`seaice_lab.datasets` opens the files.
"""

import os
from datetime import date
from glob import escape, glob
from os.path import join, normpath
from pathlib import Path
from typing import Literal

from seaice_lab.config import Config, SplitRule, read_yaml
from seaice_lab.errors import InputError

CATALOGUE = "data_catalog.yaml"
Selection = dict[str, int | float | str]  # the chosen value of each further dimension


class Generator(Config):
    """Parameters of the synthetic Arctic or Antarctic that generates the files of a dataset."""

    size: int = 128
    days: int = 365
    step_h: int = 6
    start: str = "2001-01-01"
    seed: int = 0
    hemisphere: Literal["north", "south"] = "north"


class MaskRule(Config):
    """Which variable is the mask, and which of its values are ocean.

    ``file`` is a path relative to the data folder, if the mask is not in the files of the dataset;
    ``select`` chooses one value of each further dimension of that file. Without ``ocean`` the
    attributes of the mask, else the ice, say which values are ocean.
    """

    variable: str
    ocean: float | tuple[float, ...] | None = None
    file: str | None = None
    select: Selection = {}


class DailyFiles(Config):
    """Address of the file of each day, with the codes of strftime, and the days that it has."""

    url: str
    since: date
    until: date | None = None


class FetchRule(Config):
    """How ``seaice-lab data fetch`` gets the files of a dataset, and what it makes of them.

    ``file`` is the path of the file of a month below the data folder, with the codes of strftime,
    or the folder of an archive. The files of a month are joined: ``variables`` maps each name in
    the joined file to the names in the files of the server, of which the first one that a file has
    counts, and ``attributes`` are added where the server's files have none of that name. Without
    ``variables`` the server makes the file of a month itself. ``urls`` belong to the way "urls".
    ``dataset`` and ``request`` are arguments of the client; of "zenodo", ``dataset`` is the address
    of the record. ``names`` is a pattern of the file names of a month, and ``account`` the page
    where to create a key.
    """

    way: Literal["urls", "zenodo", "cds", "earthdata", "copernicusmarine"]
    file: str
    urls: tuple[DailyFiles, ...] = ()
    dataset: str | None = None
    request: dict = {}
    names: str = ""
    variables: dict[str, tuple[str, ...]] = {}
    attributes: dict[str, dict[str, str]] = {}
    account: str = ""


class Entry(Config):
    """One dataset: its files, their variables, their origin and their licence.

    ``paths`` are globs relative to the data folder. ``variables`` maps the short names of the
    project to the names in the files. ``select`` chooses one value of each further dimension of
    the files, such as a member. With ``separate_runs`` each file is a separate run with its own
    times. ``vectors`` says whether wind and drift are along the axes of the grid or east
    and north, and ``mask`` where the sea is; both are needed only where the attributes of the
    files do not say it. With ``missing_is_no_ice`` a missing value of the ice in the ocean is 0;
    the ocean must then come from a mask. With ``has_gaps`` the dataset consists of observations,
    and ``seaice-lab data check`` counts the missing values instead of refusing them.
    """

    title: str
    format: Literal["nextsim", "nextsimdg", "era5", "nsidc0051", "emissivity"]
    paths: tuple[str, ...]
    variables: dict[str, str]
    select: Selection = {}
    grid: str
    shape: tuple[int, int] | None = None
    period: tuple[str, str | None] | None = None
    step_h: float
    vectors: Literal["grid", "geographic"] | None = None
    mask: MaskRule | None = None
    missing_is_no_ice: bool = False
    has_gaps: bool = False
    separate_runs: bool = False
    splits: dict[Literal["train", "validation", "test"], SplitRule] | None = None
    generator: Generator | None = None
    fetch: FetchRule | None = None
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


def files(entry, patterns=None):
    """Find the files of an entry.

    Parameters
    ----------
    entry : Entry
    patterns : sequence of str, optional
        Globs relative to the data folder; by default ``entry.paths``.

    Returns
    -------
    list of Path
        Sorted; all of the first data folder that has any.

    Raises
    ------
    InputError
        If there are none; the message names the folders and says how to get the files.
    """
    folders, patterns = data_folders(), patterns or entry.paths
    for folder in folders:
        if folder.is_dir():
            matches = {
                folder / path
                for one in patterns
                for path in glob(one, root_dir=folder, recursive=True)
            }
        else:  # "../file" names a file even where the data folder does not exist
            inside = escape(str(folder))
            matches = {Path(path) for one in patterns for path in glob(normpath(join(inside, one)))}
        if matches:
            return sorted(matches)
    if entry.generator is not None:
        advice = f"make them with `seaice-lab data make {entry.name}`"
    elif entry.fetch is not None:
        years = "" if entry.fetch.way == "zenodo" else " --years YYYY"
        advice = f"fetch them with `seaice-lab data fetch {entry.name}{years}`, or set SEAICE_DATA"
    else:
        origin = f"{entry.source} (doi {entry.doi})" if entry.doi else entry.source
        advice = f"get them from {origin} and set SEAICE_DATA to their folder"
    raise InputError(
        f"{entry.name}: no file matches {', '.join(patterns)} in "
        f"{' or '.join(map(str, folders))}; {advice}"
    )


def input_files(entry):
    """All files that an entry is read from: its own, and that of its mask.

    Parameters
    ----------
    entry : Entry

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        As :func:`files`.
    """
    mask_file = entry.mask and entry.mask.file
    return files(entry) + (files(entry, [mask_file]) if mask_file else [])
