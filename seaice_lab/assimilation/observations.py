"""Observations of any origin as one table, which is written and read as CF NetCDF.

The table is an xarray.Dataset with one dimension, ``observation``, and the variables ``time``,
``latitude``, ``longitude``, ``time_start`` and ``time_end`` (the period of a mean; both are equal
to ``time`` for an instantaneous value), ``value`` and ``sigma`` (standard deviation of its error)
in the unit of the kind, ``kind``, ``source``, ``quality`` (0: is used, else why it is not), and,
NaN where unknown, ``correlation_length`` of the errors (metres), ``concentration`` of the ice at
the observation (0 to 1) and ``smoothing``, the standard deviation of the Gaussian filter of a map
(metres).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import files, formats, metadata
from seaice_lab.errors import InputError, listed


class Kind(NamedTuple):
    """What is observed: a variable of the state, or its quotient with another one.

    Values outside of ``limits`` are not plausible. Noise makes some retrievals negative or larger
    than 1. The limits include these, because the mean of the others alone would have a bias.
    """

    variable: str
    divisor: str | None
    limits: tuple[float, float]
    long_name: str


KINDS = {
    "sit": Kind("sit", None, (-2.0, 15.0), "thickness as ice volume per cell area"),
    "sit_of_ice": Kind("sit", "sic", (-2.0, 15.0), "thickness as ice volume per area of ice"),
    "sic": Kind("sic", None, (-0.3, 1.3), "concentration"),
    "snt": Kind("snt", None, (-0.5, 3.0), "snow thickness"),
}
# Reasons why an observation is not used, at the position of the number in ``quality``.
REASONS = """
    used value_or_error_missing rejected_by_its_source outside_range duplicate outside_window
    outside_grid on_land far_from_background thinned
""".split()
FLAGS = {"flag_values": np.arange(len(REASONS), dtype="int8"), "flag_meanings": " ".join(REASONS)}
COLUMNS = {
    "time": {"standard_name": "time", "long_name": "Time, or middle of the period of a mean"},
    "latitude": {"standard_name": "latitude", "units": "degrees_north"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east"},
    "time_start": {"long_name": "Start of the period of a mean"},
    "time_end": {"long_name": "End of the period of a mean"},
    "value": {"long_name": "Observed value in the unit of its kind"},
    "sigma": {"long_name": "Standard deviation of the error in the unit of the kind"},
    "kind": {"long_name": "; ".join(f"{name}: {kind.long_name}" for name, kind in KINDS.items())},
    "source": {"long_name": "Product"},
    "quality": {"standard_name": "quality_flag", "long_name": "Use or reason of rejection"} | FLAGS,
    "correlation_length": {"long_name": "Correlation length of the errors", "units": "m"},
    "concentration": {"standard_name": "sea_ice_area_fraction", "units": "1"},
    "smoothing": {"long_name": "Standard deviation of the Gaussian filter of a map", "units": "m"},
}
POSITION = ("time", "latitude", "longitude")
UNKNOWN = ("correlation_length", "concentration", "smoothing")
NEEDED = ("kind", "source", "value", "sigma", *POSITION)
TIMES = ("time", "time_start", "time_end")
TYPES = dict.fromkeys(TIMES, "M8[ns]") | {"kind": str, "source": str, "quality": "int8"}


def observation_table(columns, where="observations"):
    """Make a table of observations.

    Parameters
    ----------
    columns : dict of str to array_like (observation,) or scalar
        The variables of a table. ``time``, ``latitude``, ``longitude``, ``value``, ``sigma``,
        ``kind`` and ``source`` are needed. An observation whose value or sigma is not finite is
        kept, with the quality "value_or_error_missing". Times are rounded to microseconds, so that
        a file holds them exactly.
    where : str
        File or argument to name in the message.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If a column is missing or unknown, or its values are not possible.
    """
    wrong = [name for name in NEEDED if name not in columns] + sorted(columns.keys() - COLUMNS)
    if wrong:
        raise InputError(
            f"{where}: is not a table of observations: found the columns {listed(columns)}, "
            f"expected {', '.join(NEEDED)} and perhaps others of {', '.join(COLUMNS)}; correct "
            f"{', '.join(wrong)}, or make the table with `seaice-lab assimilate observations`"
        )
    defaults = {"quality": 0} | dict.fromkeys(UNKNOWN, np.nan)
    columns = defaults | {"time_start": columns["time"], "time_end": columns["time"]} | columns
    try:
        arrays = {
            name: np.atleast_1d(columns[name]).astype(TYPES.get(name, float)) for name in COLUMNS
        }
        arrays |= {name: pd.DatetimeIndex(arrays[name]).round("us").values for name in TIMES}
        equally_long = zip(COLUMNS, np.broadcast_arrays(*arrays.values()), strict=True)
        variables = {name: ("observation", array, COLUMNS[name]) for name, array in equally_long}
        table = xr.Dataset(variables, attrs={"featureType": "point"}).copy(deep=True)
    except ValueError as error:
        raise InputError(
            f"{where}: the columns are no table ({str(error).splitlines()[0]}), expected "
            "times, numbers and names of equal lengths; correct the columns"
        ) from None
    table = table.set_coords(POSITION)
    table = reject(table, ~np.isfinite(table.value + table.sigma), "value_or_error_missing")
    check_table(table, where)
    return table


def check_table(table, where="observations"):
    """Refuse a table whose values no observation can have.

    Parameters
    ----------
    table : xarray.Dataset
    where : str
        File or argument to name in the message.

    Raises
    ------
    InputError
        If a value is not possible.
    """
    is_rejected, sigma = table.quality != 0, table.sigma
    conditions = {
        "latitude": (abs(table.latitude) <= 90, "degrees from -90 to 90"),
        "longitude": (abs(table.longitude) <= 360, "degrees from -360 to 360"),
        "time": (table.time_start <= table.time, "a time after the start of its period"),
        "time_end": (table.time <= table.time_end, "a time after that of the observation"),
        "value": (np.isfinite(table.value) | is_rejected, "a number"),
        "sigma": ((sigma > 0) & np.isfinite(sigma) | is_rejected, "a standard deviation above 0"),
        "kind": (table.kind.isin(list(KINDS)), f"one of {', '.join(KINDS)}"),
        "smoothing": (~(table.smoothing < 0) & ~np.isinf(table.smoothing), "0 or more metres"),
        "quality": (table.quality.isin(FLAGS["flag_values"]), "0, or the number of a reason"),
    }
    for name, (is_valid, expected) in conditions.items():
        if not is_valid.all():
            at = int(np.argmin(is_valid.values))
            raise InputError(
                f"{where}: {name} of observation {at} is {table[name].values[at]}, expected "
                f"{expected}; correct it or leave it out"
            )


def concatenate(tables):
    """Join tables of observations in the order of time.

    Parameters
    ----------
    tables : sequence of xarray.Dataset
        Empty for a table without observations.

    Returns
    -------
    xarray.Dataset
    """
    tables = tables or [observation_table(dict.fromkeys(NEEDED, ()))]
    joined = xr.concat(tables, "observation", combine_attrs="override", join="override")
    return joined.isel(observation=np.argsort(joined.time.values, kind="stable"))


def reject(table, condition, reason):
    """Give a reason to the used observations that fulfil a condition.

    Parameters
    ----------
    table : xarray.Dataset
    condition : array_like of bool (observation,)
    reason : str
        One of ``REASONS``.

    Returns
    -------
    xarray.Dataset
        Observations that were rejected before keep their first reason.
    """
    is_new = (table.quality.values == 0) & np.asarray(condition)
    quality = np.where(is_new, REASONS.index(reason), table.quality.values).astype("int8")
    return table.assign(quality=table.quality.copy(data=quality))


def used(table):
    """The observations of a table that are used, those of quality 0."""
    return table.isel(observation=np.flatnonzero(table.quality.values == 0))


def counts(table):
    """How many observations are used, and how many are rejected for each reason.

    Returns
    -------
    dict of str to int
    """
    numbers = np.bincount(table.quality.values, minlength=len(REASONS))
    return {reason: int(n) for reason, n in zip(REASONS, numbers, strict=True) if n}


def in_window(table, start, end):
    """The observations of an assimilation window: after its start, up to its end.

    An observation at the start belongs to the window before. A mean belongs to the window in which
    the middle of its period is, and its period is cut off at the borders of the window. At least
    half of the period must be in the window: a mean over more than two windows is not used.

    Parameters
    ----------
    table : xarray.Dataset
    start, end : datetime64

    Returns
    -------
    xarray.Dataset
        Of the same length; the others have the quality "outside_window".
    """
    length = table.time_end - table.time_start
    middle = table.time_start + length / 2
    is_inside = (middle > start) & (middle <= end) & (length <= 2 * (end - start))
    cut = {name: table[name].clip(start, end).where(is_inside, table[name]) for name in TIMES}
    return reject(table.assign(cut), ~is_inside, "outside_window")


def refuse_unused(table, where="observations"):
    """Refuse a table of which no observation is used.

    Parameters
    ----------
    table : xarray.Dataset
    where : str
        File or argument to name in the message.

    Raises
    ------
    InputError
        The message counts the reasons.
    """
    if (table.quality.values != 0).all():
        reasons = listed(f"{n} {reason.replace('_', ' ')}" for reason, n in counts(table).items())
        raise InputError(
            f"{where}: none of {table.sizes['observation']} observations can be used "
            f"({reasons or 'all values are missing'}); check period, region, units and uncertainty "
            "of the observations"
        )


def write_table(table, path):
    """Write a table of observations as CF NetCDF (discrete points).

    Parameters
    ----------
    table : xarray.Dataset
    path : str or Path
    """
    check_table(table)
    attrs = metadata.file_attributes("observations", "seaice_lab", "assimilate observations")
    files.write_netcdf(path, table.assign_attrs(table.attrs | attrs))


def read_table(path):
    """Read a table of observations.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the file is missing or damaged, or holds no such table.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file; check the path")
    with formats.closing_files():
        raw = formats.open_raw(path, list(COLUMNS)).load()
    table = xr.decode_cf(raw)
    columns = {name: table[name].values for name in COLUMNS if name in table.variables}
    return observation_table(columns, str(path))
