"""The published layouts of observation files, opened lazily and checked.

Version 1 by month (``amsr2_v2_202008.nc``, of which the last channels are used), version 1 by year
(``field_v2_TSFC.nc``, one field in each file) and version 2 (``amsr2/amsr2_TSFC.nc``, one folder
for each sensor or none), always together with ``ifs_seaice_*.nc`` and ``ifs_tsfc_*.nc``.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError

# A step is the 24 h that begin at 21 UTC, this fraction of a Julian day.
DAY_START = 0.375
EXACT_FLOAT32 = 2**24
SCALARS = ("TSFC", "WINDSPEED10M", "CLOUD_FRACTION", "SCANPOS", "ZENITH")
OPTIONAL = ("SCANPOS", "ZENITH")
CHANNELS = ("OBSVALUE", "EMIS_WATER", "TAUSFC", "TDOWN", "TUP", "TAUSFC_CLD", "TDOWN_CLD",
            "TUP_CLD")  # fmt: skip
FIELDS = ("JULIAN_DAY", "IGRID", *SCALARS, *CHANNELS)
# Valid values are always in these ranges; degrees Celsius and percent are not.
PLAUSIBLE = {
    "OBSVALUE": (20, 400), "TSFC": (150, 350), "WINDSPEED10M": (0, 100), "CLOUD_FRACTION": (0, 1),
    "EMIS_WATER": (0, 1.05), "TAUSFC": (0, 1.01), "TAUSFC_CLD": (0, 1.01), "TDOWN": (0, 400),
    "TDOWN_CLD": (0, 400), "TUP": (0, 400), "TUP_CLD": (0, 400), "SCANPOS": (0, 1000),
    "ZENITH": (-90, 90), "SEAICE": (-0.01, 1.01), "JULIAN_DAY": (2.4e6, 2.6e6),
}  # fmt: skip


class SensorFields(NamedTuple):
    """Lazily read fields of one sensor, by their published names, and their files.

    ``fields`` are (observation) or (observation, channel); ``row`` is the number of the sensor.
    """

    sensor: str
    row: int
    fields: dict[str, xr.DataArray]
    paths: dict


class Maps(NamedTuple):
    """Maps of a case at its grid points, float32.

    ``sea_ice`` (grid) or (grid, day) is the first guess of concentration, ``skin_temperature``
    (grid, day) is in K, ``latitude`` and ``longitude`` (grid) in degrees.
    """

    sea_ice: np.ndarray
    skin_temperature: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray


def open_sensor(data, sensor, row, channels, stack):
    """Open the fields of one sensor and check their names and shapes.

    Parameters
    ----------
    data : Path
        Folder in one of the layouts, or the file of one month.
    sensor : str
    row : int
        Number of the sensor among those that are read together.
    channels : int
        Number of channels of the sensor.
    stack : contextlib.ExitStack
        Closes the files, which must be open while fields are read.

    Returns
    -------
    SensorFields

    Raises
    ------
    InputError
        If a file or field is missing, or a field has another shape.
    """
    paths, by_month = _locate(data, sensor)
    fields = {}
    for name, path in paths.items():
        field = _open_field(path, name, sensor, stack)
        if field is not None:
            fields[name] = field
    count = fields["JULIAN_DAY"].shape[0]
    for name, field in fields.items():
        expected = (count, channels) if name in CHANNELS else (count,)
        if by_month and field.ndim == 2:
            field = fields[name] = field[:, -channels:]  # the first channels are not used
        if field.shape[:1] != (count,) or field.ndim != len(expected):
            raise InputError(
                f"{paths[name]}: {name} has shape {field.shape}, but JULIAN_DAY has {count} "
                "observations; all fields of a sensor must have the same length"
            )
        if field.shape != expected:
            raise InputError(
                f"{paths[name]}: {name} has {field.shape[1]} channels, {sensor} has {channels}; "
                "describe the sensor's channels in a YAML file or correct the field"
            )
    if not count:
        raise InputError(f"{paths['JULIAN_DAY']}: holds no observation; leave {sensor} out")
    return SensorFields(sensor, row, fields, {name: paths[name] for name in fields})


def _locate(data, sensor):
    """The expected file of every field, and whether it is one file of a month."""
    if not data.exists():
        raise InputError(f"{data}: no such file or folder of observations; check the path")
    months = [data] if data.is_file() else sorted(data.glob(f"{sensor}_v2_[0-9]*.nc"))
    if len(months) > 1:
        raise InputError(
            f"{data}: holds {len(months)} monthly files ({months[0].name}, {months[1].name}); "
            "name the file of one month"
        )
    if months:
        return dict.fromkeys(FIELDS, months[0]), True
    if (data / "field_v2_OBSVALUE.nc").exists():
        return {name: data / f"field_v2_{name}.nc" for name in FIELDS}, False
    folder = data / sensor if (data / sensor).is_dir() else data
    return {name: folder / f"{sensor}_{name}.nc" for name in FIELDS}, False


def _open_field(path, name, sensor, stack):
    """One field of a sensor; None if it is optional and missing."""
    if not path.exists():
        if name in OPTIONAL:
            return None
        raise InputError(
            f"{path}: is missing, so {sensor} has no {name}; the layout needs one file for "
            f"each of {', '.join(field for field in FIELDS if field not in OPTIONAL)}"
        )
    try:
        dataset = stack.enter_context(xr.open_dataset(path, decode_times=False, cache=False))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None
    if name in dataset:
        return dataset[name]
    if name in OPTIONAL:
        return None
    raise InputError(f"{path}: holds no {name}, found {', '.join(dataset.data_vars)}; add it")


def read_days(sensor_fields):
    """Read the Julian days of all observations of one sensor.

    Returns
    -------
    ndarray (observation), float64

    Raises
    ------
    InputError
        If a day is not an astronomical Julian day, or the days are not sorted.
    """
    path = sensor_fields.paths["JULIAN_DAY"]
    days = sensor_fields.fields["JULIAN_DAY"].values.astype("float64")
    low, high = PLAUSIBLE["JULIAN_DAY"]
    wrong = ~((days > low) & (days < high))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{path}: JULIAN_DAY of observation {first} is {days[first]:g}, expected astronomical "
            "Julian days (2451545 is noon of 1 January 2000)"
        )
    decreases = np.diff(days) < 0
    if decreases.any():
        raise InputError(
            f"{path}: times are not sorted (observation {int(np.argmax(decreases)) + 1} is earlier "
            f"than the one before); sort all fields of {sensor_fields.sensor} by JULIAN_DAY"
        )
    return days


def check_range(name, values, path):
    """Check that the finite values of a field are plausible.

    Parameters
    ----------
    name : str
        A key of PLAUSIBLE.
    values : ndarray
    path : Path
        File to name in the message.

    Raises
    ------
    InputError
        If a value is outside the range.
    """
    finite = values[np.isfinite(values)]
    low, high = PLAUSIBLE[name]
    if finite.size and (finite.min() < low or finite.max() > high):
        raise InputError(
            f"{path}: {name} runs from {finite.min():.4g} to {finite.max():.4g}, expected values "
            f"within {low:g} to {high:g}; check its units, and mark missing values as NaN"
        )


def check_grid_points(grid_points, path, points):
    """Check the grid points of some observations.

    Parameters
    ----------
    grid_points : ndarray (observation)
        Values of IGRID as they are in the file.
    path : Path
        File to name in the message.
    points : int
        Number of grid points of the maps.

    Returns
    -------
    ndarray (observation), int32

    Raises
    ------
    InputError
        If a value is not an exact integer, or not a grid point of the maps.
    """
    if grid_points.dtype.kind == "f":
        inexact = grid_points.dtype == np.float32 and np.nanmax(grid_points) >= EXACT_FLOAT32
        if inexact or not (grid_points == np.rint(grid_points)).all():
            raise InputError(
                f"{path}: IGRID holds floating-point numbers that are not exact indices; write it "
                "as 32-bit integers"
            )
    if grid_points.min() < 0 or grid_points.max() >= points:
        raise InputError(
            f"{path}: IGRID runs from {grid_points.min():g} to {grid_points.max():g}, but the maps "
            f"have {points} grid points (0 to {points - 1}); use maps on the grid of the "
            "observations"
        )
    return grid_points.astype("int32")


def open_maps(data):
    """Read the first guess of concentration and the skin temperature, with their positions.

    Parameters
    ----------
    data : Path
        Folder of the case, or the file of one month in it.

    Returns
    -------
    Maps

    Raises
    ------
    InputError
        If a map is missing or has implausible values, or positions are missing.
    """
    folder = data if data.is_dir() else data.parent
    sea_ice, _ = _read_map(folder, "ifs_seaice_*.nc", ("SEAICE", "seaice"))
    skin, positions = _read_map(folder, "ifs_tsfc_*.nc", ("TSFC",))
    if (folder / "grid.nc").exists():
        with xr.open_dataset(folder / "grid.nc") as dataset:
            positions = [dataset[name].values.astype("float32") for name in ("lat", "lon")]
    if any(position is None or position.shape != sea_ice.shape[:1] for position in positions):
        raise InputError(
            f"{folder}: the positions of the {len(sea_ice)} grid points are missing; add LAT and "
            "LON to the maps, or a grid.nc with lat and lon"
        )
    if len(sea_ice) != len(skin):
        raise InputError(
            f"{data}: the first guess has {len(sea_ice)} grid points, the skin-temperature map "
            f"{len(skin)}; both must be on the grid of the observations"
        )
    return Maps(sea_ice, skin if skin.ndim == 2 else skin[:, None], *positions)


def _read_map(folder, pattern, spellings):
    """Values of a map, and its latitude and longitude or None."""
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise InputError(
            f"{folder}: {len(paths)} files match {pattern}, expected exactly one in the folder of "
            "the observations"
        )

    def read(*names):
        name = next((name for name in names if name in dataset), None)
        return None if name is None else dataset[name].values.astype("float32")

    with xr.open_dataset(paths[0], decode_times=False) as dataset:
        values, positions = read(*spellings), [read("LAT", "lat"), read("LON", "lon")]
    if values is None:
        raise InputError(
            f"{paths[0]}: holds no {spellings[0]}, found {', '.join(dataset.data_vars)}"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{paths[0]}: {spellings[0]} has values that are not finite; fill them")
    check_range(spellings[0], values, paths[0])
    return values, positions


def fit_first_guess(field, start, steps, lags, days):
    """Select the columns of the first guess for a run of some steps.

    The first column returned is ``lags`` days before the first step. A map that has no more columns
    than the skin temperature has ``days`` lacks those days, and gets its first column for them. A
    map with more columns than the run needs is cut at ``start`` (the published version 2 takes the
    first columns whatever the start is) and, if it ends too early, is continued with its last
    column; any other is extended at its front with its first column, as published.

    Parameters
    ----------
    field : ndarray (grid) or (grid, day)
    start, steps, lags, days : int
        First step and number of steps of the run, days before its first step, and days of the
        skin-temperature map.

    Returns
    -------
    ndarray (grid, lags + steps), float32
    """
    field = field[:, None] if field.ndim == 1 else field
    columns, needed = field.shape[1], lags + steps
    if columns <= needed:
        return _extend(field, needed - columns, 0)
    missing = min(max(lags + days - columns, 0), lags)
    return fit_steps(_extend(field, missing, 0), start, needed)


def fit_steps(field, start, steps):
    """Select the columns of a map for a run of some steps.

    A map that also covers the days before the run is cut at ``start``; a map that ends too early is
    continued with its last column.

    Parameters
    ----------
    field : ndarray (grid, day)
    start, steps : int
        First step and number of steps of the run.

    Returns
    -------
    ndarray (grid, steps), float32

    Raises
    ------
    InputError
        If the map may begin at the first day or at ``start``.
    """
    if start and start < field.shape[1] <= steps:
        raise InputError(
            f"a map of {field.shape[1]} days may begin at the first day or at step {start}, where "
            f"the {steps} days of the run begin; give maps of all days from the first on"
        )
    if field.shape[1] > steps:
        field = field[:, min(start, field.shape[1] - 1) :]
    return _extend(field, 0, max(steps - field.shape[1], 0))[:, :steps].copy()


def _extend(field, front, end):
    """A map with its first and last column repeated."""
    return np.pad(field, ((0, 0), (front, end)), "edge")
