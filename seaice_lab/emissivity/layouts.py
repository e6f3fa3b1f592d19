"""The published layouts of observation files, opened lazily and checked.

Version 1 by month (``amsr2_v2_202008.nc``, of which the last channels are used), version 1 by year
(``field_v2_TSFC.nc``, one field in each file) and version 2 (``amsr2/amsr2_TSFC.nc``, one folder
for each sensor or none), always together with ``ifs_seaice_*.nc`` and ``ifs_tsfc_*.nc``.
"""

import re
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError

# A step is the 24 h that begin at 21 UTC, this fraction of a Julian day.
DAY_START = 0.375
EXACT_FLOAT32 = 2**24
MONTHLY = re.compile(r"amsr2_v2_\d{6}\.nc")
AMSR2_CHANNELS = 10
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

    ``fields`` are (observation) or (observation, channel).
    """

    fields: dict[str, xr.DataArray]
    paths: dict


def open_sensor(data, sensor, channels, stack):
    """Open the fields of one sensor and check their names and shapes.

    Parameters
    ----------
    data : Path
        Folder in one of the layouts, or the file of one month.
    sensor : str
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
    fields, paths = {}, {}
    for name, path in _locate(data, sensor).items():
        field = _open_field(path, name, sensor, stack)
        if field is not None:
            fields[name], paths[name] = field, path
    by_month = len(set(paths.values())) == 1
    count = fields["JULIAN_DAY"].shape[0]
    for name, field in fields.items():
        if by_month and field.ndim == 2:
            field = fields[name] = field[:, -channels:]  # the first channels are not used
        expected = (count, channels) if name in CHANNELS else (count,)
        if field.shape != expected:
            raise InputError(
                f"{paths[name]}: {name} has shape {field.shape}, expected {expected}, because "
                f"JULIAN_DAY has {count} observations and {sensor} {channels} channels; correct "
                "the field, or describe the sensor's channels in a YAML file"
            )
    if not count:
        raise InputError(f"{paths['JULIAN_DAY']}: holds no observation; leave {sensor} out")
    return SensorFields(fields, paths)


def _locate(data, sensor):
    """The expected file of every field, the same one for all fields of a month."""
    if not data.exists():
        raise InputError(f"{data}: no such file or folder of observations; check the path")
    months = [data] if data.is_file() else sorted(data.glob(f"{sensor}_v2_[0-9]*.nc"))
    if len(months) > 1:
        raise InputError(
            f"{data}: holds {len(months)} monthly files; give the path of one, such as {months[0]}"
        )
    if months:
        return dict.fromkeys(FIELDS, months[0])
    if (data / "field_v2_OBSVALUE.nc").exists():
        return {name: data / f"field_v2_{name}.nc" for name in FIELDS}
    folder = data / sensor if (data / sensor).is_dir() else data
    return {name: folder / f"{sensor}_{name}.nc" for name in FIELDS}


def _open_field(path, name, sensor, stack):
    """One field of a sensor; None if it is optional and missing."""
    variables = "no such file"
    if path.exists():
        try:
            dataset = stack.enter_context(xr.open_dataset(path, decode_times=False, cache=False))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error}); fetch it again") from None
        if name in dataset:
            return dataset[name]
        variables = f"the file has {', '.join(dataset.data_vars)}"
    if name in OPTIONAL:
        return None
    required = ", ".join(field for field in FIELDS if field not in OPTIONAL)
    raise InputError(f"{path}: {sensor} has no {name} ({variables}); add all of {required}")


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
            "than the one before); sort all fields of the sensor by JULIAN_DAY"
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
                f"{path}: IGRID holds numbers that are not exact indices; write 32-bit integers"
            )
    low, high = grid_points.min(), grid_points.max()
    if low < 0 or high >= points:
        raise InputError(
            f"{path}: IGRID runs from {low:g} to {high:g}, but the maps have {points} grid points, "
            "counted from 0; use maps on the grid of the observations"
        )
    return grid_points.astype("int32")


def read_maps(data, start, steps, lags):
    """Read the first guess of concentration and the skin temperature for some consecutive days.

    Parameters
    ----------
    data : Path
        Folder of the case, or the file of one month in it.
    start, steps, lags : int
        First day (counted from 0), number of days, and number of days before the first one.

    Returns
    -------
    dict of str to ndarray, float32
        ``sea_ice_first_guess`` (grid, lag + step); ``skin_temperature_map`` (grid, step), K;
        ``latitude`` and ``longitude`` (grid), degrees.

    Raises
    ------
    InputError
        If a map is missing or has implausible values, positions are missing, or the days of the
        skin temperature are ambiguous.
    """
    folder = data if data.is_dir() else data.parent
    sea_ice, _ = _read_map(folder, "ifs_seaice_*.nc", "SEAICE")
    skin, positions = _read_map(folder, "ifs_tsfc_*.nc", "TSFC")
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
    return {
        "sea_ice_first_guess": fit_first_guess(sea_ice, start, steps, lags, skin.shape[1]),
        "skin_temperature_map": fit_steps(skin, start, steps),
        "latitude": positions[0],
        "longitude": positions[1],
    }


def _read_map(folder, pattern, name):
    """Values of a map (grid, day), and its latitude and longitude or None."""
    paths = sorted(folder.glob(pattern))
    if len(paths) != 1:
        raise InputError(f"{folder}: {len(paths)} files match {pattern}, expected exactly one")

    def read(name):
        """The variable of this name in capitals or small letters."""
        name = name if name in dataset else name.lower()
        return dataset[name].values.astype("float32") if name in dataset else None

    with xr.open_dataset(paths[0], decode_times=False) as dataset:
        values, positions = read(name), [read("LAT"), read("LON")]
    if values is None:
        raise InputError(f"{paths[0]}: holds no {name}, found {', '.join(dataset.data_vars)}")
    if not np.isfinite(values).all():
        raise InputError(f"{paths[0]}: {name} has values that are not finite; fill them")
    check_range(name, values, paths[0])
    return values[:, None] if values.ndim == 1 else values, positions


def fit_first_guess(field, start, steps, lags, days):
    """Select the columns of the first guess for some consecutive days.

    The first column returned is ``lags`` days before the first day. A map of at most ``lags +
    steps`` columns is extended at its front with its first column, as published. A longer map is
    cut at ``start`` (the published version 2 takes the first columns whatever the start is). If it
    has fewer than ``lags + days`` columns, the days before day 0 are missing, and its first column
    is used for them. If it ends too early, its last column is repeated.

    Parameters
    ----------
    field : ndarray (grid, day)
    start, steps, lags, days : int
        First day (counted from 0), number of days, number of days before the first one, and days
        of the skin-temperature map.

    Returns
    -------
    ndarray (grid, lags + steps), float32
    """
    columns, needed = field.shape[1], lags + steps
    if columns <= needed:
        first = columns - needed  # a column before the map is its first column
    else:
        first = start - min(max(lags + days - columns, 0), lags)
    return field.take(first + np.arange(needed), axis=1, mode="clip")


def fit_steps(field, start, steps):
    """Select the columns of a map for some consecutive days.

    A map that also covers earlier days is cut at ``start``. If a map ends too early, its last
    column is repeated.

    Parameters
    ----------
    field : ndarray (grid, day)
    start, steps : int
        First day (counted from 0) and number of days.

    Returns
    -------
    ndarray (grid, steps), float32

    Raises
    ------
    InputError
        If the map may begin at the first day or at ``start``.
    """
    columns = field.shape[1]
    if start and start < columns <= steps:
        raise InputError(
            f"a map of {columns} days may begin at the first day or at step {start}, where the "
            f"{steps} days of the run begin; give maps of all days from the first on"
        )
    first = start if columns > steps else 0
    return field.take(first + np.arange(steps), axis=1, mode="clip")


def describe(paths):
    """Read the published case of version 1 in each folder of some files, and describe it.

    Parameters
    ----------
    paths : sequence of Path
        Files of cases of AMSR2; others are left out.

    Returns
    -------
    list of str
        One line for each case.

    Raises
    ------
    InputError
        If there is no case, or one lacks a field or a map.
    """
    cases = [path for path in paths if MONTHLY.fullmatch(path.name)]
    cases += [path.parent for path in paths if path.name == "field_v2_OBSVALUE.nc"]
    if not cases:
        raise InputError(
            f"{len(paths)} files: none is amsr2_v2_YYYYMM.nc or field_v2_OBSVALUE.nc, the files of "
            "observations of the published case; get them again"
        )
    return [_describe_case(case) for case in cases]


def _describe_case(data):
    with ExitStack() as stack:
        sensor_fields = open_sensor(data, "amsr2", AMSR2_CHANNELS, stack)
        days = read_days(sensor_fields)
        grid_points = sensor_fields.fields["IGRID"][:1000].values
    maps = read_maps(data, 0, 1, 1)
    path = sensor_fields.paths["IGRID"]
    check_grid_points(grid_points, path, len(maps["latitude"]))
    return (
        f"{data}: {len(days)} observations, {int(np.ceil(days[-1] - days[0]))} days, "
        f"{len(maps['latitude'])} grid points"
    )
