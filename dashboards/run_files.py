"""Files of runs: their present versions, clear errors for damaged ones, and small tables."""

import os
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import xarray as xr

from seaice_lab.errors import InputError


class File(NamedTuple):
    """A file or store in its present version."""

    path: str
    version: tuple | None


def current_file(path):
    """The :class:`File` at a path; the version is None if nothing is there."""
    try:
        status = os.stat(path)
    except OSError:
        return File(str(path), None)
    return File(str(path), (status.st_mtime_ns, status.st_ino))


@contextmanager
def reading(file):
    """Replace the errors of a damaged file, which the block reads, by one that says what to do.

    Parameters
    ----------
    file : File

    Yields
    ------
    None

    Raises
    ------
    InputError
        If the block raises an exception.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each codec raises its own kind for a damaged chunk
        raise InputError(
            f"{Path(file.path).name}: cannot be read here ({type(error).__name__}: {error}); it is "
            "damaged or being replaced: wait a little, or make it again"
        ) from None


@lru_cache(maxsize=32)
def load_table(file):
    """A small NetCDF file with lead times, such as scores, in memory; ``file`` is a `File`."""
    with reading(file):
        return xr.load_dataset(file.path, decode_timedelta=True)


def table_of(library, run, name):
    """The small NetCDF file of this name of a run, in memory; see :func:`load_table`.

    Parameters
    ----------
    library : dashboards.library.Library
    run, name : str

    Returns
    -------
    xarray.Dataset
    """
    return load_table(current_file(library.path(run, name)))


def history_of(library, run):
    """Training history of a run, or None before its first epoch.

    Parameters
    ----------
    library : dashboards.library.Library
    run : str

    Returns
    -------
    pandas.DataFrame or None

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    path = library.path(run, "history.csv")
    with reading(current_file(path)):
        history = pd.read_csv(path) if path.exists() else None
    return None if history is None or history.empty else history
