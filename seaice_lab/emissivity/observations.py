"""Satellite observations: from the published file layouts to memory-mapped columns.

The layouts are those of :mod:`~seaice_lab.emissivity.layouts`. The observations of one sensor
follow those of another in the given order; the sky is stored as its all-sky means
(:func:`~seaice_lab.emissivity.physics.all_sky`), which is exact.
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
from seaice_lab.emissivity import layouts, physics
from seaice_lab.emissivity.sensors import Instruments, instruments, read_tables
from seaice_lab.errors import InputError

READ_CHUNK = 200_000  # observations that are read from the files at once
COLUMNS = ("index", "scalars", "channels", "julian_day")
# Rows of the column ``channels``.
TB, EMISSIVITY_WATER, TRANSMITTANCE, REFLECTED, UPWELLING = range(5)
# Values for an observation that lacks one of them. Its brightness temperatures are NaN, so that it
# does not count, but NaN here would spread through the network.
FILL_VALUES = {"TSFC": 273.15, "WINDSPEED10M": 0.0, "CLOUD_FRACTION": 0.0}


class Observations(NamedTuple):
    """Observations of several sensors over a grid and some days, opened from :func:`prepare`.

    ``index`` (observation, 3) int32 holds grid point, time step and sensor; ``scalars``
    (observation, 5) float32 skin temperature (K), wind at 10 m (m s-1), cloud fraction, scan
    position and zenith angle (degrees), NaN where unknown; ``channels`` (observation, 5, channel)
    float32 brightness temperature (K, NaN where missing), emissivity of water, transmittance,
    reflected and upwelling radiation (K); ``julian_day`` (observation) float64. These are
    memory-mapped. ``sea_ice_first_guess`` (grid, lag + step) and ``skin_temperature_map`` (grid,
    step, K) are small; ``first_julian_day`` is the Julian day of step 0 at 00 UTC.
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


class Batch(NamedTuple):
    """Some observations: their numbers, and rows of the columns of Observations."""

    number: torch.Tensor
    index: torch.Tensor
    scalars: torch.Tensor
    channels: torch.Tensor


def read_batch(observations, positions):
    """Read some observations into memory.

    Parameters
    ----------
    observations : Observations
    positions : ndarray of int

    Returns
    -------
    Batch
    """
    number = torch.from_numpy(positions)
    columns = (observations.index, observations.scalars, observations.channels)
    return Batch(number, *(torch.from_numpy(column).index_select(0, number) for column in columns))


def prepare(config, folder, lags=1, keep=False, show=True, chunk=READ_CHUNK):
    """Read observations in a published layout into memory-mapped columns.

    Parameters
    ----------
    config : ObservationsConfig
    folder : str or Path
        Folder for the columns. If it already holds the same columns, they are used.
    lags : int
        Number of days before the first one that the concentration map covers.
    keep : bool
        Refuse to replace different columns that the folder already holds.
    show : bool
        Show progress.
    chunk : int
        Number of observations that are read at once.

    Returns
    -------
    Observations
        Time steps count from the first day of the earliest sensor, so that they agree between
        sensors that start on different days. Where a value of a channel is missing or not finite,
        its brightness temperature is NaN; where a value of the observation is missing, the
        brightness temperatures of all its channels are NaN.

    Raises
    ------
    InputError
        If a field is missing or has another length or unit, times are not sorted, an index is
        outside the grid or was stored as float32, a first guess has another shape, or ``keep`` is
        set and the folder holds different columns.
    """
    folder, tables = Path(folder), read_tables(config.sensor_tables)
    with ExitStack() as stack:
        plan = _plan(config, instruments(config.sensors, tables), lags, stack)
        fingerprint = _fingerprint(plan, config.step_start, lags)
        exists = (folder / "observations.json").exists()
        if exists and _read_facts(folder)["fingerprint"] == fingerprint:
            return open_observations(folder)
        if exists and keep:
            raise InputError(
                f"{folder}: holds the observations of a run, and those of {config.data} differ "
                "(other days, sensors or files that changed since); choose another output folder"
            )
        # blocks of another size are not those that an interrupted process finished
        with files.journal(folder, f"{fingerprint}-{chunk}") as journal:
            journal.target.mkdir(exist_ok=True)
            _write_columns(plan, journal, chunk, show)
            np.savez(journal.target / "maps.npz", **plan.maps)
            facts = {
                "fingerprint": fingerprint,
                "sensors": list(config.sensors),
                "tables": tables,
                "first_julian_day": float(plan.origin + 0.5),
            }
            files.write_json(journal.target / "observations.json", facts)
            journal.finish()
    return open_observations(folder)


def open_observations(folder):
    """Open columns that :func:`prepare` wrote.

    Raises
    ------
    InputError
        If the folder is missing, incomplete or unreadable.
    """
    folder = Path(folder)
    facts = _read_facts(folder)
    try:
        # copy on write, because torch accepts only writable arrays
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in COLUMNS}
        with np.load(folder / "maps.npz") as maps:
            maps = dict(maps)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: cannot be read ({error}); move it away and run the command again"
        ) from None
    return Observations(
        instruments(facts["sensors"], facts["tables"]),
        **columns,
        **maps,
        first_julian_day=facts["first_julian_day"],
        fingerprint=facts["fingerprint"],
    )


def read_sensor_tables(folder):
    """Sensor tables of columns that :func:`prepare` wrote, None if it was given none."""
    return _read_facts(Path(folder))["tables"]


def _read_facts(folder):
    path = folder / "observations.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder}: holds no prepared observations (observations.json is missing or broken); "
            "prepare them again"
        ) from None


class _Plan(NamedTuple):
    """What :func:`prepare` writes: open fields, positions of the wanted observations, and maps.

    ``sources`` and ``positions`` have one entry for each sensor. ``origin`` is the Julian day on
    which the observations of step 0 begin, without the fraction DAY_START. ``count`` is the number
    of wanted observations.
    """

    instruments: Instruments
    sources: list
    positions: list
    count: int
    origin: float
    maps: dict


def _plan(config, unified, lags, stack):
    """Open the files of a configuration and select the observations of its days."""
    data = Path(config.data)
    sources = [
        layouts.open_sensor(data, sensor, len(positions), stack)
        for sensor, positions in zip(config.sensors, unified.positions, strict=True)
    ]
    days = [layouts.read_days(source) for source in sources]
    # the earliest observation of any sensor determines the first day
    first = np.floor(min(day[0] for day in days) - layouts.DAY_START)
    origin = first + config.step_start
    steps = [np.floor(day - origin - layouts.DAY_START).astype(np.int64) for day in days]
    available = 1 + max(int(step[-1]) for step in steps)
    wanted = config.steps or available
    positions = [np.flatnonzero((step >= 0) & (step < wanted)) for step in steps]
    count = sum(map(len, positions))
    if not count:
        last = "the end" if config.steps is None else config.step_start + wanted - 1
        raise InputError(
            f"{data}: no observation in steps {config.step_start} to {last}; the files hold "
            f"{config.step_start + available} steps"
        )
    maps = layouts.read_maps(data, config.step_start, wanted, lags)
    return _Plan(unified, sources, positions, count, origin, maps)


def _fingerprint(plan, step_start, lags):
    """Identifies the columns: files by size and time, maps by content, and the settings."""
    paths = sorted({path for source in plan.sources for path in source.paths.values()}, key=str)
    return files.fingerprint(
        [(path, path.stat().st_size, path.stat().st_mtime_ns) for path in paths],
        [hashlib.sha256(values.tobytes()).hexdigest() for values in plan.maps.values()],
        step_start,
        plan.maps["skin_temperature_map"].shape[1],
        lags,
        plan.instruments._asdict(),
    )


def _write_columns(plan, journal, chunk, show):
    """Write the columns chunk by chunk; chunks that are finished are not written again."""
    shapes = {
        "index": ("int32", (3,)),
        "scalars": ("float32", (len(layouts.SCALARS),)),
        "channels": ("float32", (5, len(plan.instruments.channels))),
        "julian_day": ("float64", ()),
    }
    columns = {}
    for name, (dtype, shape) in shapes.items():
        path = journal.target / f"{name}.npy"
        mode = "r+" if path.exists() else "w+"
        columns[name] = open_memmap(path, mode, dtype, (plan.count, *shape))
        files.reserve(path)
    first = 0
    with progress.bar(plan.count, "read observations", "obs", show=show) as bar:
        for row, positions in enumerate(plan.positions):
            for begin in range(0, len(positions), chunk):
                selected = positions[begin : begin + chunk]
                block = f"{row}-{begin}"
                if not journal.is_done(block):
                    for name, values in _read_chunk(plan, row, selected).items():
                        columns[name][first : first + len(selected)] = values
                        columns[name].flush()
                    journal.mark(block)
                first += len(selected)
                bar.update(len(selected))


def _read_chunk(plan, sensor, positions):
    """Values of all columns for some observations of one sensor, given by its number."""
    source = plan.sources[sensor]
    # observations are sorted by time, so that those of a period are contiguous
    rows = slice(positions[0], positions[-1] + 1)

    def read(name):
        values = source.fields[name][rows].values
        layouts.check_range(name, values, source.paths[name])
        return values.astype("float64")

    day = read("JULIAN_DAY")
    grid_point = layouts.check_grid_points(
        source.fields["IGRID"][rows].values, source.paths["IGRID"], len(plan.maps["latitude"])
    )
    step = np.floor(day - plan.origin - layouts.DAY_START)
    unknown = np.full(len(day), np.nan)
    scalars = {name: read(name) if name in source.fields else unknown for name in layouts.SCALARS}
    # in the order of CHANNELS, three quantities of the clear sky and three of the cloudy sky
    tb, water, *skies = (read(name) for name in layouts.CHANNELS)
    sky = physics.all_sky(skies[:3], skies[3:], scalars["CLOUD_FRACTION"][:, None])
    stacked = np.stack([tb, water, *sky], 1)
    needed = scalars["TSFC"] + scalars["WINDSPEED10M"]
    if plan.instruments.crosstrack[sensor]:
        needed = needed + scalars["SCANPOS"]
    unusable = ~np.isfinite(needed)
    for name, fill_value in FILL_VALUES.items():
        scalars[name] = np.where(unusable, fill_value, scalars[name])
    missing = ~np.isfinite(stacked).all(1) | unusable[:, None]
    stacked = np.where(missing[:, None], 0.0, stacked)
    stacked[:, TB][missing] = np.nan
    channels = np.zeros((len(day), 5, len(plan.instruments.channels)), "float32")
    channels[:, TB] = np.nan
    channels[:, :, list(plan.instruments.positions[sensor])] = stacked
    return {
        "index": np.stack([grid_point, step, np.full(len(day), sensor)], 1),
        "scalars": np.stack(list(scalars.values()), 1),
        "channels": channels,
        "julian_day": day,
    }
