"""What the pages read: the runs of a folder, and nothing that lies elsewhere.

Only the truth of a forecast may: it is in the prepared store that the forecast names.
"""

import os
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from dashboards import frames
from dashboards.products import Products
from seaice_lab import runs
from seaice_lab.errors import InputError

LISTING_S = 2.0  # the folder is read again after so many seconds


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
            parts = ("", "config.yaml", "provenance.json")
            if not all(inside(self.folder / row.name / part, self.folder) for part in parts):
                row = row._replace(kind="?", state="unreadable: is a link out of the runs folder")
            rows.append(row._replace(state=row.state.replace(f"{self.folder}{os.sep}", "")))
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

    def run(self, name):
        """Configuration and provenance of a run, as `seaice_lab.runs.Run`."""
        for part in ("config.yaml", "provenance.json"):
            self.path(name, part)
        return runs.open_run(self.path(name))

    def table(self, name, part):
        """Scores or spectra of a run, in memory."""
        return frames.table(frames.file(self.path(name, part)))

    def history(self, name):
        """Training history of a run, or None before its first epoch."""
        file = self.path(name, "history.csv")
        try:
            return pd.read_csv(file) if file.exists() else None
        except (OSError, ValueError) as error:
            raise InputError(f"history.csv of {name} cannot be read ({error})") from None

    def notebooks(self, name):
        """Executed notebooks of a run, names of HTML files."""
        folder = self.path(name) / "notebooks"
        return sorted(file.name for file in folder.glob("*.html") if inside(file, self.folder))

    def tags(self, name):
        """Tags of the emissivity products of a run."""
        files = self.path(name).glob("emissivity_grid_*.nc")
        return sorted(file.stem.removeprefix("emissivity_grid_") for file in files)

    def products(self, name, tag):
        """Maps of an emissivity run, as `dashboards.products.Products`."""
        return _products(frames.file(self.path(name, f"emissivity_grid_{tag}.nc")))

    def departures(self, name, tag):
        """Departures by sensor and channel of an emissivity run, or None."""
        file = self.path(name, f"departures_{tag}.nc")
        return frames.table(frames.file(file)) if file.exists() else None

    def forecast(self, name):
        """The forecast of a run, an xarray.Dataset read frame by frame."""
        return frames.forecast(self.forecast_file(name))

    def forecast_file(self, name):
        """The forecast of a run as `dashboards.frames.File`."""
        return frames.file(self.path(name, "forecast.zarr"))

    def raster(self, name):
        """How the fields of a run are shown as pictures."""
        return frames.raster(self.forecast_file(name))

    def truth_file(self, name):
        """The prepared store that a forecast was started from, as `dashboards.frames.File`.

        Raises
        ------
        InputError
            If it is missing or damaged, or its grid is not the forecast's.
        """
        dataset = self.forecast(name)
        wanted = Path(dataset.attrs["store"])
        # a relative path counts from where the run was made: a folder above the run, or here
        places = [*self.path(name).parents[: len(Path(name).parts) + 2], Path()]
        found = next((place / wanted for place in places if (place / wanted).exists()), wanted)
        file = frames.file(found)
        frames.check_grid(self.forecast_file(name), file)
        return file

    def truth(self, name):
        """The truth of a forecast, an xarray.Dataset read frame by frame."""
        return frames.store(self.truth_file(name))

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

    def check(self, name, variable, first):
        """Refuse a run that cannot stand beside another.

        Raises
        ------
        InputError
            If it does not forecast the variable, or its grid or truth is another.
        """
        if variable not in self.forecast(name):
            raise InputError(f"{name} does not forecast {variable}")
        if name == first:
            return
        ours, theirs = self.forecast_file(first), self.forecast_file(name)
        if not frames.same_grid(ours, theirs):
            shapes = [self.forecast(run).ocean.shape for run in (name, first)]
            raise InputError(
                f"{name} has a grid of {shapes[0]} cells, {first} one of {shapes[1]}, or at other "
                "places; compare runs on one grid"
            )
        if self.truth_file(name) != self.truth_file(first):
            raise InputError(
                f"{name} was started from another store than {first}; compare runs of one store"
            )

    def frame(self, name, variable, start, lead):
        """A forecast (y, x) at a start and lead time; of an ensemble the mean."""
        return frames.frame(self.forecast_file(name), variable, *self.locate(name, start, lead))

    def truth_frame(self, name, variable, start, lead):
        """The truth (y, x) at the valid time of a forecast."""
        truth, of = self.truth_file(name), self.forecast_file(name)
        position = frames.positions(of, truth)[self.locate(name, start, lead)]
        return frames.truth_frame(truth, variable, int(position))

    def reference_frame(self, reference, name, variable, start, lead):
        """A reference forecast (y, x) on the footing of a run's forecast."""
        return frames.reference_frame(
            reference, self.forecast_file(name), self.truth_file(name), variable,
            *self.locate(name, start, lead),
        )  # fmt: skip

    def reference_series(self, reference, name, variable, start, row, column):
        """A reference forecast (lead_time,) at one cell."""
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        files = self.forecast_file(name), self.truth_file(name)
        return frames.reference_start(reference, *files, variable, at)[:, row, column]

    def series(self, name, variable, start, row, column):
        """A forecast (lead_time,) at one cell."""
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        of = self.forecast_file(name)
        with frames.reading(of):
            values = frames.forecast(of)[variable].isel(init_time=at, y=row, x=column).load()
        return values.mean("member") if "member" in values.dims else values

    def truth_series(self, name, variable, start, row, column):
        """The truth (lead_time,) at one cell."""
        at, _ = self.locate(name, start, self.forecast(name).lead_time.values[0])
        truth = self.truth_file(name)
        known = frames.store(truth)[variable].isel(y=row, x=column)
        times = frames.positions(self.forecast_file(name), truth)[at]
        with frames.reading(truth):
            return known.isel(time=times).values

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
        return frames.season(self.forecast_file(name), self.truth_file(name), variables[0], at)


@lru_cache(maxsize=4)
def _products(of):
    return Products(Path(of.path))


def inside(path, folder):
    """Whether a path, links followed, lies in a folder."""
    return Path(path).resolve().is_relative_to(Path(folder).resolve())
