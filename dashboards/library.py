"""What the pages read: run folders, forecasts and their truth, opened once a process.

Everything is read only, lies in the runs folder, and is opened again when it was replaced. (The
truth is in the prepared store that a forecast names.) Caches are bounded.
"""

import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import grid, names, rasters, runs
from seaice_lab.diagnostics import scores
from seaice_lab.errors import InputError
from seaice_lab.surrogate import baselines
from seaice_lab.surrogate.evaluation import open_forecast, truth_for, verification_positions
from seaice_lab.surrogate.store import open_store

LISTING_S = 2.0  # the folder is read again after so many seconds
START_BYTES = 128e6  # a reference forecast of one start is kept whole up to this size


class Library:
    """The runs of a folder.

    Parameters
    ----------
    folder : str or Path

    Raises
    ------
    InputError
        If it is no folder or cannot be read.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(
                f"{folder}: no such folder of runs; make a run with `make demo`, or name the "
                "folder that holds yours with --runs"
            )
        if not os.access(self.folder, os.R_OK | os.X_OK):
            raise InputError(f"{folder}: cannot be read; change its permissions")
        self.listed, self.listed_at = [], -LISTING_S

    def runs(self):
        """All runs, newest first, as `seaice_lab.runs.RunState`; broken ones say what is wrong."""
        if time.monotonic() - self.listed_at < LISTING_S:
            return self.listed
        rows = []
        for row in runs.list_runs(self.folder):
            if not inside(self.folder / row.name, self.folder):
                row = row._replace(kind="?", state="unreadable: is a link out of the runs folder")
            rows.append(row)
        self.listed, self.listed_at = rows[::-1], time.monotonic()
        return self.listed

    def names(self, *states, kind="surrogate"):
        """Names of the usable runs of a kind, of all states or the given ones."""
        return [row.name for row in self.runs()
                if row.kind == kind and (not states or row.state in states)]  # fmt: skip

    def path(self, name, *parts):
        """A run's folder, or a file in it.

        Raises
        ------
        InputError
            If there is no such run, or the file lies elsewhere.
        """
        path = self.folder.joinpath(name, *parts)
        if not any(row.name == name and row.kind != "?" for row in self.runs()):
            raise InputError(f"there is no usable run {name!r} in {self.folder.name}")
        if not inside(path, self.folder):
            raise InputError(f"{'/'.join(parts)} of run {name} lies outside the runs folder")
        return path

    def evaluation(self, name):
        """Scores and spectra of a run, as `seaice_lab.surrogate.evaluation.read_evaluation`."""
        files = [self.path(name, part) for part in ("scores.nc", "spectra.nc")]
        return tuple(_dataset(str(file), stamp(file)) for file in files)

    def table(self, name, part):
        """A NetCDF file of a run, in memory."""
        file = self.path(name, part)
        return _dataset(str(file), stamp(file))

    def history(self, name):
        """Training history of a run, or None before its first epoch."""
        file = self.path(name, "history.csv")
        try:
            return pd.read_csv(file) if file.exists() else None
        except (OSError, ValueError) as error:
            raise InputError(f"history.csv of {name} cannot be read ({error})") from None

    def provenance(self, name):
        """Recorded facts of a run, as a dict."""
        return runs.open_run(self.path(name)).provenance

    def config(self, name):
        """Configuration of a run, as a dict."""
        return runs.open_run(self.path(name)).config

    def notebooks(self, name):
        """Executed notebooks of a run, names of HTML files."""
        folder = self.path(name) / "notebooks"
        return sorted(file.name for file in folder.glob("*.html") if inside(file, self.folder))

    def forecast(self, name):
        """The forecast of a run, an xarray.Dataset read frame by frame."""
        file = self.path(name, "forecast.zarr")
        return _forecast(str(file), stamp(file))

    def raster(self, name):
        """How the fields of a run are shown as pictures."""
        file = self.path(name, "forecast.zarr")
        return _raster(str(file), stamp(file))

    def truth(self, name):
        """The prepared store that a forecast was started from.

        Raises
        ------
        InputError
            If it is missing or damaged, or its grid is not the forecast's.
        """
        dataset = self.forecast(name)
        wanted = Path(dataset.attrs["store"])
        # a relative path counts from where the run was made: here, or a folder above the run
        places = [Path(), *self.path(name).parents[: len(Path(name).parts) + 2]]
        found = next((place / wanted for place in places if (place / wanted).exists()), wanted)
        store = _store(str(found), stamp(found))
        if store.ocean.shape != dataset.ocean.shape or (store.ocean != dataset.ocean).values.any():
            raise InputError(
                f"{wanted}: the truth has a grid of {store.ocean.shape} cells and its own ocean, "
                f"the forecast of {name} one of {dataset.ocean.shape}; the store was made anew "
                f"since: run `seaice-lab forecast` again"
            )
        return store

    def frame(self, name, variable, start, lead):
        """A forecast (y, x) at a start and lead time; of an ensemble the mean."""
        file = self.path(name, "forecast.zarr")
        return _frame(str(file), stamp(file), variable, *self.locate(name, start, lead))

    def positions(self, name):
        """Where on the time axis of its truth each start and lead time of a forecast lies."""
        file, store = self.path(name, "forecast.zarr"), self.truth(name)
        return _positions(str(file), stamp(file), store.encoding["source"], _key(store))

    def truth_frame(self, name, variable, start, lead):
        """The truth (y, x) at the valid time of a forecast."""
        store, at = self.truth(name), self.positions(name)[self.locate(name, start, lead)]
        return _truth_frame(store.encoding["source"], _key(store), variable, int(at))

    def reference_frame(self, reference, name, variable, start, lead):
        """A reference forecast (y, x) on the footing of a run's forecast."""
        dataset, store = self.forecast(name), self.truth(name)
        at, step = self.locate(name, start, lead)
        values = dataset[variable]
        values = values.isel(member=0, drop=True) if "member" in values.dims else values
        values = values.isel(init_time=[at])
        make = _reference(store.encoding["source"], _key(store), variable, reference)
        if 4 * values.size > START_BYTES:
            return make(values.isel(lead_time=[step])).values[0, 0]
        file = self.path(name, "forecast.zarr")
        return _reference_start(str(file), stamp(file), variable, reference, at, make, values)[step]

    def season(self, name, start):
        """Volume (10^3 km3), extent (10^6 km2) and error (m) of forecast, truth and climatology.

        Returns
        -------
        xarray.Dataset (source, lead_time)
            Of thickness, or of another field with an ice edge the extent alone.

        Raises
        ------
        InputError
            If the run forecasts no field with an ice edge, or not from this start.
        """
        variables = [v for v in ("sit", "sic") if v in self.forecast(name)]
        if not variables:
            raise InputError("forecasts neither thickness nor concentration")
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        file, store = self.path(name, "forecast.zarr"), self.truth(name)
        return _season(
            str(file), stamp(file), store.encoding["source"], _key(store), variables[0], at
        )

    def locate(self, name, start, lead):
        """Positions of a start and a lead time in the forecast of a run.

        Raises
        ------
        InputError
            If the run has no such forecast.
        """
        dataset = self.forecast(name)
        at = np.flatnonzero(dataset.init_time.values == np.datetime64(start, "ns"))
        step = np.flatnonzero(dataset.lead_time.values == np.timedelta64(lead, "ns"))
        if not len(at) or not len(step):
            raise InputError(f"{name} holds no forecast from this start to this lead time")
        return int(at[0]), int(step[0])

    def series(self, name, variable, start, row, column):
        """A forecast (lead_time,) at one cell."""
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        values = self.forecast(name)[variable].isel(init_time=at, y=row, x=column).load()
        return values.mean("member") if "member" in values.dims else values

    def truth_series(self, name, variable, start, row, column):
        """The truth (lead_time,) at one cell."""
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        known = self.truth(name)[variable].isel(y=row, x=column)
        return known.isel(time=self.positions(name)[at]).values


def inside(path, folder):
    """Whether a path, links followed, lies in a folder."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def stamp(path):
    """Changes when a file or store is replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _key(store):
    return stamp(store.encoding["source"])


@lru_cache(maxsize=32)
def _dataset(path, _stamp):
    try:
        return xr.load_dataset(path, decode_timedelta=True, decode_times=_has_dates(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{Path(path).name}: cannot be read ({error}); make it again") from None


def _has_dates(path):
    return Path(path).name in ("scores.nc", "spectra.nc")  # Julian days reach before pandas' years


@lru_cache(maxsize=16)
def _forecast(path, _stamp):
    return open_forecast(path, dask=False)


@lru_cache(maxsize=8)
def _raster(path, current):
    dataset = _forecast(path, current)
    return rasters.raster_of(dataset.ocean, dataset.ocean)


@lru_cache(maxsize=8)
def _store(path, _stamp):
    store = open_store(path, dask=False)
    store.encoding["source"] = path
    return store


def _loaded(values, path):
    try:
        loaded = np.asarray(values.values, "float32")
    except Exception as error:  # each codec raises its own kind for a damaged chunk
        raise InputError(
            f"{Path(path).name}: cannot be read here ({type(error).__name__}: {error}); it is "
            "damaged or being replaced"
        ) from None
    if np.isnan(loaded).all():
        raise InputError(f"{Path(path).name}: holds no values here; a part of it is missing")
    return loaded


@lru_cache(maxsize=32)
def _frame(path, current, variable, at, step):
    values = _forecast(path, current)[variable].isel(init_time=at, lead_time=step)
    return _loaded(values.mean("member") if "member" in values.dims else values, path)


@lru_cache(maxsize=16)
def _positions(path, current, store, store_stamp):
    dataset = _forecast(path, current)
    return verification_positions(
        next(iter(dataset.data_vars.values())), _store(store, store_stamp)
    )


@lru_cache(maxsize=16)
def _truth_frame(path, current, variable, position):
    return _loaded(_store(path, current)[variable].isel(time=position), path)


@lru_cache(maxsize=6)
def _reference(path, current, variable, reference):
    return baselines.reference(reference, _store(path, current), variable)


_starts = {}  # the reference forecasts used last


def _reference_start(path, current, variable, reference, at, make, values):
    key = path, current, variable, reference, at
    if key not in _starts:
        while len(_starts) >= 4:
            _starts.pop(next(iter(_starts)))
        _starts[key] = make(values).values[0]
    return _starts[key]


SEASON_BYTES = 64e6  # of frames held at once


@lru_cache(maxsize=16)
def _season(path, current, store, store_stamp, variable, at):
    values = _forecast(path, current)[variable].isel(init_time=[at])
    values = values.mean("member", keep_attrs=True) if "member" in values.dims else values
    truth = _store(store, store_stamp)
    area = xr.DataArray(grid.cell_area(truth.latitude, truth.longitude), dims=("y", "x"))
    ocean, kind = truth.ocean, names.attributes(variable)
    climatology = _reference(store, store_stamp, variable, "climatology")
    length = int(max(SEASON_BYTES // (4 * ocean.size), 1))
    parts = []
    for first in range(0, values.sizes["lead_time"], length):
        block = values.isel(lead_time=slice(first, first + length)).load()
        known = truth_for(block, truth)
        fields = {"forecast": block, "truth": known, "climatology": climatology(block)}
        rows = []
        for field in fields.values():
            field = field.isel(init_time=0).assign_attrs(kind)
            row = xr.Dataset({"extent": scores.extent(field, ocean, area) / 1e12})
            if variable == "sit":
                row["volume"] = scores.volume(field, ocean, area) / 1e12
                row["rmse"] = scores.rmse(
                    field, known.isel(init_time=0).assign_attrs(kind), ocean, area
                )
            rows.append(row)
        parts.append(xr.concat(rows, xr.Variable("source", list(fields))))
    season = xr.concat(parts, "lead_time")
    if "rmse" in season:
        season["rmse"] = season.rmse.where(season.source != "truth")
    return season
