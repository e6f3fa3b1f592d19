"""Satellite observations: from the published file layouts to a few memory-mapped columns.

Three layouts are read as they are: version 1 by month (``amsr2_v2_202008.nc``), version 1 by year
(``field_v2_TSFC.nc``, one field a file) and version 2 (``amsr2/amsr2_TSFC.nc``, one folder a
sensor). The columns of all sensors stand one after the other in their given order; the sky is kept
as its all-sky means (:func:`~seaice_lab.emissivity.physics.all_sky`), which is exact.
"""

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap

from seaice_lab import files, progress
from seaice_lab.emissivity import physics
from seaice_lab.emissivity.layouts import (
    CHANNELS,
    PLAUSIBLE,
    SCALARS,
    check_range,
    days_of,
    fit_guess,
    fit_steps,
    grid_points,
    open_fields,
    open_maps,
)
from seaice_lab.emissivity.sensors import Instruments, instruments, read_tables
from seaice_lab.errors import InputError

CHUNK = 200_000  # observations read together
DAY_STARTS = 0.375  # of the Julian day: 21 UTC; a step is the 24 h from there
STAND_IN = {"TSFC": 273.15, "WINDSPEED10M": 0.0, "CLOUD_FRACTION": 0.0}
# Rows of the column ``channels``.
TB, EMISSIVITY_WATER, TRANSMITTANCE, REFLECTED, UPWELLING = range(5)


class Observations(NamedTuple):
    """Observations of some sensors over a grid and some days, opened from :func:`prepare`.

    ``index`` (observation, 3) int32 holds grid point, time step and sensor; ``scalars``
    (observation, 5) float32 skin temperature (K), wind at 10 m (m s-1), cloud fraction, scan
    position and zenith angle (degrees), NaN where unknown; ``channels`` (observation, 5, channel)
    float32 brightness temperature (K, NaN where missing), emissivity of water, transmittance,
    reflected and upwelling radiation (K); ``julian_day`` (observation) float64. All are
    memory-mapped. ``sea_ice_first_guess`` (grid, lag + step) and ``skin_temperature_map`` (grid,
    step, K) are small; ``first_julian_day`` is that of step 0 at 00 UTC.
    """

    instruments: Instruments
    index: np.ndarray
    scalars: np.ndarray
    channels: np.ndarray
    julian_day: np.ndarray
    sea_ice_first_guess: np.ndarray
    skin_temperature_map: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    first_julian_day: float
    fingerprint: str

    @property
    def size(self):
        """Number of observations."""
        return len(self.index)

    @property
    def step_days(self):
        """Julian day of each step at 00 UTC, ndarray (step)."""
        return self.first_julian_day + np.arange(self.skin_temperature_map.shape[1])


def prepare(
    data, sensors, folder, step_start=0, steps=None, lags=1, tables=None, show=True, keep=False
):
    """Read observations in a published layout into memory-mapped columns.

    Parameters
    ----------
    data : str or Path
        Folder in one of the three layouts, or the file of a month.
    sensors : sequence of str
        In the order in which their observations shall stand.
    folder : str or Path
        Where the columns go; an equal one that is already there is used as it is.
    step_start, steps : int, optional
        First day and number of days to keep; all by default.
    lags : int
        Days before the first that the concentration map carries.
    tables : str, Path or dict, optional
        YAML file with more sensors, or its content, which is kept with the columns.
    show : bool
        Show progress.
    keep : bool
        Whether other columns that are already there are kept (and these refused), not replaced.

    Returns
    -------
    Observations
        Time steps count from the first day of the earliest sensor, so that sensors which start on
        different days agree. Where a value of a channel is missing or not finite, its brightness
        temperature is NaN; where a value of the observation is, those of all its channels.

    Raises
    ------
    InputError
        If a field is missing, has another length or unit, times are not sorted, an index lies
        outside the grid or went through float32, a first guess has another shape, or other
        columns are to be kept.
    """
    tables = read_tables(tables)
    unified = instruments(sensors, tables)
    with ExitStack() as opened:
        fields = [open_fields(Path(data), name, len(unified.positions[row]), row, opened)
                  for row, name in enumerate(sensors)]  # fmt: skip
        guess, skin, latitude, longitude = open_maps(Path(data))
        days = [days_of(one) for one in fields]
        # a day begins at 21 UTC: the earliest observation of any sensor says which one is the first
        origin = np.floor(min(day[0] for day in days) - DAY_STARTS) + step_start
        kept = []
        for day in days:
            step = np.floor(day - origin - DAY_STARTS).astype(np.int64)
            last = np.inf if steps is None else steps
            kept.append(np.flatnonzero((step >= 0) & (step < last)))
        count = sum(len(positions) for positions in kept)
        if not count:
            raise InputError(
                f"{data}: no observation in steps {step_start} to "
                f"{'the end' if steps is None else step_start + steps - 1}; the files hold "
                f"{int(max(d[-1] for d in days) - origin + step_start - DAY_STARTS) + 1} steps"
            )
        if steps is None:
            steps = 1 + max(int(day[at[-1]] - origin - DAY_STARTS)
                            for day, at in zip(days, kept, strict=True) if len(at))  # fmt: skip
        guess = fit_guess(guess, step_start, steps, lags, skin.shape[1])
        skin = fit_steps(skin, step_start, steps)
        if len(guess) != len(skin):
            raise InputError(
                f"{data}: the first guess has {len(guess)} grid points, the skin-temperature map "
                f"{len(skin)}; both must stand on the grid of the observations"
            )
        sources = sorted({str(path) for one in fields for path in one["paths"]})
        maps = {"sea_ice_first_guess": guess, "skin_temperature_map": skin,
                "latitude": latitude, "longitude": longitude}  # fmt: skip
        mark = files.fingerprint(
            [(path, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in sources],
            [hashlib.sha256(part.tobytes()).hexdigest() for part in maps.values()],
            step_start, steps, lags, unified._asdict(),
        )  # fmt: skip
        folder = Path(folder)
        there = (folder / "observations.json").exists()
        same = there and _facts(folder)["fingerprint"] == mark
        if there and keep and not same:
            raise InputError(
                f"{folder}: holds the observations of a run, and those of {data} differ (other "
                "days, sensors or files that changed since); choose another output folder for them"
            )
        if not same:
            journal = files.Journal(folder, mark)
            journal.target.mkdir(exist_ok=True)
            with files.disk_errors(folder):
                _write(journal, fields, kept, origin, unified, len(guess), count, show)
                np.savez(journal.target / "maps.npz", **maps)
                facts = {
                    "fingerprint": mark, "sensors": list(sensors), "tables": tables,
                    "first_julian_day": float(origin + 0.5), "size": count,
                }  # fmt: skip
                files.write_json(journal.target / "observations.json", facts)
            journal.finish()
    return open_observations(folder)


def open_observations(folder):
    """Open columns that :func:`prepare` made.

    Raises
    ------
    InputError
        If the folder is missing, half-written or unreadable.
    """
    folder = Path(folder)
    facts = _facts(folder)
    try:
        # copy on write: torch takes only arrays that it may write to
        columns = [np.load(folder / f"{name}.npy", mmap_mode="c")
                   for name in ("index", "scalars", "channels", "julian_day")]  # fmt: skip
        with np.load(folder / "maps.npz") as maps:
            maps = dict(maps)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: cannot be read ({error}); remove it and prepare it again"
        ) from None
    return Observations(
        instruments(facts["sensors"], facts["tables"]), *columns, **maps,
        first_julian_day=facts["first_julian_day"], fingerprint=facts["fingerprint"],
    )  # fmt: skip


def tables_of(folder):
    """Sensor tables of columns that :func:`prepare` made, None where there are none."""
    return _facts(Path(folder))["tables"]


def _facts(folder):
    path = folder / "observations.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder}: holds no prepared observations (observations.json is missing or broken); "
            "prepare them again"
        ) from None


def _write(journal, fields, kept, origin, unified, points, count, show):
    """Fill the columns chunk by chunk; finished chunks are not written again."""
    shapes = {
        "index": ("int32", (count, 3)),
        "scalars": ("float32", (count, len(SCALARS))),
        "channels": ("float32", (count, 5, len(unified.channels))),
        "julian_day": ("float64", (count,)),
    }
    columns = {}
    for name, (dtype, shape) in shapes.items():
        path = journal.target / f"{name}.npy"
        if path.exists():
            columns[name] = open_memmap(path, "r+")
        else:
            columns[name] = open_memmap(path, "w+", dtype, shape)
    first = 0
    with progress.bar(count, "read observations", "obs", show=show) as bar:
        for one, positions in zip(fields, kept, strict=True):
            for begin in range(0, len(positions), CHUNK):
                part = positions[begin : begin + CHUNK]
                block = f"{one['row']}-{begin}"
                if not journal.is_done(block):
                    place = slice(first, first + len(part))
                    _write_chunk(columns, place, one, part, origin, unified, points)
                    for column in columns.values():
                        column.flush()
                    journal.mark(block)
                first += len(part)
                bar.update(len(part))


def _write_chunk(columns, place, fields, part, origin, unified, points):
    sensor = fields["sensor"]
    there = slice(part[0], part[-1] + 1)  # sorted by time, so that a period is one piece

    def read(name):
        values = fields[name][there].values
        if name in PLAUSIBLE:
            check_range(name, values, fields[name].encoding.get("source", sensor))
        return values.astype("float64")

    day = fields["JULIAN_DAY"][there].values.astype("float64")
    grid = grid_points(fields["IGRID"][there].values, fields, points)
    columns["julian_day"][place] = day
    step = np.floor(day - origin - DAY_STARTS)
    columns["index"][place] = np.stack([grid, step, np.full(len(day), fields["row"])], 1)
    nothing = np.full(len(day), np.nan)
    scalars = {name: read(name) if name in fields else nothing for name in SCALARS}
    values = {name: read(name) for name in CHANNELS}
    cloud = scalars["CLOUD_FRACTION"][:, None]
    sky = physics.all_sky(
        [values[name] for name in ("TAUSFC", "TDOWN", "TUP")],
        [values[name] for name in ("TAUSFC_CLD", "TDOWN_CLD", "TUP_CLD")],
        cloud,
    )
    block = np.stack([values["OBSVALUE"], values["EMIS_WATER"], *sky], 1)
    needed = scalars["TSFC"] + scalars["WINDSPEED10M"]
    if unified.crosstrack[fields["row"]]:
        needed = needed + scalars["SCANPOS"]
    unusable = ~np.isfinite(needed)
    for name in ("TSFC", "WINDSPEED10M", "CLOUD_FRACTION"):
        # any finite value: nothing of the observation counts, but NaN would spread
        scalars[name] = np.where(unusable, STAND_IN[name], scalars[name])
    columns["scalars"][place] = np.stack(list(scalars.values()), 1)
    missing = ~np.isfinite(block).all(1) | unusable[:, None]
    block = np.where(missing[:, None], 0.0, block)
    block[:, TB][missing] = np.nan
    whole = np.zeros((len(day), 5, len(unified.channels)), "float32")
    whole[:, TB] = np.nan
    whole[:, :, list(unified.positions[fields["row"]])] = block
    columns["channels"][place] = whole


class Batch(NamedTuple):
    """Some observations: their numbers, and rows of the columns of Observations."""

    number: torch.Tensor
    index: torch.Tensor
    scalars: torch.Tensor
    channels: torch.Tensor


def read_batch(observations, positions):
    """The Batch of some observations, ndarray of int positions."""
    number = torch.from_numpy(positions)
    columns = (observations.index, observations.scalars, observations.channels)
    return Batch(number, *(torch.from_numpy(column).index_select(0, number) for column in columns))
