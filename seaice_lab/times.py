"""Times: the times of a file are decoded to UTC times of numpy.

Times are decoded by their CF units and calendar. What would lose or invent a date is refused.
"""

import re

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab.errors import InputError

SECOND = np.timedelta64(1, "s")
# Regular stamps are multiples of one of these; the largest that explains all stamps counts.
STAMP_SECONDS = (86400, 43200, 21600, 10800, 7200, 3600, 1800, 1200, 900, 600, 300, 60)
# Model output is off by fractions of a second where steps of a day are summed up.
SMALLEST_TOLERANCE_S = 0.5
GREGORIAN = ("standard", "gregorian", "proleptic_gregorian")
# Calendars of models whose dates are dates of the Gregorian calendar, apart from a few days.
MODEL_CALENDARS = ("noleap", "365_day", "360_day", "all_leap", "366_day")
ABSOLUTE = re.compile(r"day\s+as\s+%Y%m%d\.%f")
TIME_NAMES = re.compile(r"(valid_?)?times?|t|time_?counter|valid_?time|date(time)?s?|xtime")
STEP_NAMES = re.compile(r"step|lead_?time|forecast_?(period|hour|step)s?|fhour")
EXAMPLE = "'hours since 2010-01-01'"


def is_time(variable):
    """Whether the units of a variable are those of times, such as "hours since 2010-01-01"."""
    units = str(variable.attrs.get("units", ""))
    return re.search(r"\w+\s+since\s+", units) is not None or bool(ABSOLUTE.match(units))


def decode(variable, where, notes):
    """Decode the times of a file.

    Parameters
    ----------
    variable : xarray.Variable
        As in the file, with the attributes ``units`` and ``calendar``.
    where : str
        File and variable to name in messages.
    notes : list of str
        What the user should know about the times is appended.

    Returns
    -------
    ndarray of datetime64[ns], shape of `variable`
        Stamps in floating point are rounded to the regular stamps from which they differ by no more
        than their precision.

    Raises
    ------
    InputError
        If units are missing or not understood, a value is missing, the precision is too low, or
        the calendar has dates that the Gregorian calendar lacks, or the other way round.
    """
    values, units = np.asarray(variable.values), variable.attrs.get("units")
    if values.dtype.kind not in "iuf":
        raise InputError(
            f"{where} is {values.dtype}, expected numbers with units like {EXAMPLE}; write the "
            "times with xarray or another tool that knows the CF conventions"
        )
    if not is_time(variable):
        missing = "no units" if units is None else f"the units {units!r}"
        raise InputError(
            f"{where} has {missing} ({_sample(values)}), expected units like {EXAMPLE}; set the "
            "attribute 'units' in the file, for example with ncatted"
        )
    if not np.isfinite(values).all():
        at = int(np.argmax(~np.isfinite(values)))
        raise InputError(f"{where} has no value at record {at}; give every record its time")
    if ABSOLUTE.match(units):
        times = _absolute(values, where)
    else:
        # In float32 the conversion itself would round once more.
        exact = values.astype("f8") if values.dtype.kind == "f" else values
        times = _since(exact, variable, where, notes)
    if values.dtype.kind != "f":
        return times
    stamps, interval = _rounded(times, _precision_s(values, units), where)
    if np.abs(stamps - times).max(initial=np.timedelta64(0)) >= SECOND:
        notes.append(f"times are {values.dtype}, rounded to multiples of {interval // 60} min")
    return stamps


def duration(variable, where):
    """Decode durations, such as the steps of a forecast.

    Parameters
    ----------
    variable : xarray.Variable
        With units of time, such as "hours".
    where : str
        File and variable to name in messages.

    Returns
    -------
    ndarray of timedelta64[ns], shape of `variable`

    Raises
    ------
    InputError
        If the units are not those of a duration.
    """
    units = str(variable.attrs.get("units"))
    seconds = _seconds(units)
    if seconds is None:
        raise InputError(
            f"{where} has units {units!r}, expected a duration in hours, days, minutes or seconds; "
            "set the attribute 'units'"
        )
    return np.rint(np.asarray(variable.values, "f8") * seconds * 1e9).astype("m8[ns]")


def _seconds(unit):
    """Seconds in a unit of time; None if it is no such unit."""
    unit = unit.strip().lower()
    unit = unit.rstrip("s") if len(unit) > 2 else unit
    unit = {"msec": "ms"}.get(unit, unit)
    try:
        # To pandas "m" is a minute, to CF it is a metre.
        return pd.Timedelta(f"1 {unit}").total_seconds() if unit.isalpha() and unit != "m" else None
    except ValueError:
        return None


def time_text(time):
    """A time as text, to the minute, or to the second where it is not a whole minute."""
    time = np.datetime64(time)
    return np.datetime_as_string(time, unit="m" if time == time.astype("M8[m]") else "s")


def _sample(values):
    values = values.ravel()
    return f"{values[0]:.12g} ... {values[-1]:.12g}" if values.size else "no values"


def _since(values, variable, where, notes):
    """Times of units "... since ...", as datetime64[ns]."""
    calendar = variable.attrs.get("calendar", "standard")
    coded = xr.Variable(variable.dims, values, {"units": variable.attrs["units"]})
    coded.attrs["calendar"] = str(calendar).lower()
    if coded.attrs["calendar"] not in (*GREGORIAN, *MODEL_CALENDARS):
        raise InputError(
            f"{where} has the calendar {calendar!r}, whose dates are not those of the Gregorian "
            "calendar; write the times with calendar 'standard'"
        )
    try:
        decoded = xr.coders.CFDatetimeCoder(time_unit="ns").decode(coded).values
    except Exception as error:  # cftime and pandas raise many kinds for units they do not know
        raise InputError(
            f"{where} has the units {variable.attrs['units']!r} (calendar {calendar!r}), which "
            f"cannot be decoded ({_first_line(error)}); expected units like {EXAMPLE}"
        ) from None
    if decoded.dtype.kind == "M":
        return decoded
    times = _by_date(decoded, calendar, where)
    if coded.attrs["calendar"] in MODEL_CALENDARS:
        notes.append(f"the calendar is {calendar!r}; its dates are read as Gregorian dates")
    return times


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0]


def _by_date(dates, calendar, where):
    """Dates of another calendar as the same dates of the Gregorian calendar."""
    years = [date.year for date in dates.ravel()]
    if min(years) < 1678 or max(years) > 2261:
        raise InputError(
            f"{where} runs from the year {min(years)} to {max(years)}; expected years from 1678 to "
            "2261, shift the reference date in its units"
        )
    try:
        index = xr.CFTimeIndex(dates.ravel()).to_datetimeindex(unsafe=True, time_unit="ns")
    except ValueError as error:
        raise InputError(
            f"{where} has the calendar {calendar!r}, with a date that the Gregorian calendar lacks "
            f"({_first_line(error)}); convert it, for example with `cdo setcalendar,standard`"
        ) from None
    # A day that only one of the two calendars has changes the time between its neighbours.
    order = np.argsort(index, kind="stable")
    gaps = np.diff(dates.ravel()[order])
    for at in np.flatnonzero(gaps.astype("m8[ns]") != np.diff(index[order].values)):
        before, after = dates.ravel()[order[at : at + 2]]
        raise InputError(
            f"{where} has the calendar {calendar!r}, in which {before} and {after} are "
            f"{gaps[at].total_seconds() / 3600:g} h apart, which they are not in the Gregorian "
            "calendar; use files or periods that do not contain the day that differs"
        )
    return index.values.reshape(dates.shape)


def _absolute(values, where):
    """Times of CDO's "day as %Y%m%d.%f": the date as a number, the time of day as its fraction."""
    date = np.floor(values).astype("i8")
    try:
        days = pd.to_datetime(date.ravel().astype(str), format="%Y%m%d").values.astype("M8[ns]")
    except ValueError as error:
        raise InputError(
            f"{where} has the units 'day as %Y%m%d.%f' but a value that is no date "
            f"({_first_line(error)}); write relative times, for example with `cdo -r copy`"
        ) from None
    return days.reshape(values.shape) + np.rint((values - date) * 86400e9).astype("m8[ns]")


def _precision_s(values, units):
    """Seconds between neighbouring floating-point numbers at the largest of the times."""
    if not values.size:
        return 0.0
    spacing = np.spacing(np.abs(values).max())
    unit = "days" if ABSOLUTE.match(units) else units.split()[0]
    return float(spacing) * (_seconds(unit) or 86400)


def _rounded(times, precision_s, where):
    """Stamps as multiples of an interval in seconds, where the precision explains the difference.

    Returns
    -------
    ndarray of datetime64[ns], and the interval (0 if the times are not regular stamps)
    """
    # Rounding to the nearest number is off by half the precision, and a little more in conversion.
    tolerance = max(0.51 * precision_s, SMALLEST_TOLERANCE_S)
    stamps = times.astype("i8")
    for interval in STAMP_SECONDS:
        if interval <= 2 * tolerance:  # any stamp would fit
            break
        step = interval * 1_000_000_000
        regular = (stamps + step // 2) // step * step
        if np.abs(stamps - regular).max(initial=0) <= tolerance * 1e9:
            return regular.astype("M8[ns]"), interval
    if precision_s >= 1:
        raise InputError(
            f"{where} resolves only {precision_s:.0f} s in its floating-point type, and rounding "
            f"cannot restore its times ({time_text(times.flat[0])}, ...); write the times as int64 "
            "or float64, or with a later reference date in the units"
        )
    return times, 0


def valid_times(dataset, name, where, notes):
    """The times at which the records of a field are valid.

    Parameters
    ----------
    dataset : xarray.Dataset
        As in the file; everything but the fields is a coordinate.
    name : str
        The field.
    where : str
        File to name in messages.
    notes : list of str
        What the user should know about the times is appended.

    Returns
    -------
    xarray.DataArray of datetime64[ns]
        Along no dimension (one record), one, or two (starts and steps of forecasts).

    Raises
    ------
    InputError
        If the file has no time, or it is not certain which time counts.
    """
    field = dataset[name]
    time, step = _time_coordinate(dataset, field, where), _step(dataset, field)
    if time is None:
        raise InputError(
            f"{where}: has no time coordinate of {name} (its coordinates are "
            f"{', '.join(map(str, dataset.coords)) or 'none'}); add a time coordinate to the file"
        )
    stamps = xr.DataArray(
        decode(time.variable, f"{where}: {time.name}", notes), dims=time.dims
    ).assign_attrs({k: v for k, v in time.attrs.items() if k not in ("units", "calendar")})
    if step is None or not step.values.any() or _is_valid_time(dataset, time, step):
        return stamps
    steps = duration(step.variable, f"{where}: {step.name}")
    initial = re.search("init|reference|base|start", str(time.attrs).lower())
    if not (initial or set(step.dims) - set(time.dims)):
        raise InputError(
            f"{where}: has the times {time.name} and the steps {step.name}, and nothing says "
            f"whether {time.name} is the start of the forecast; add the coordinate 'valid_time'"
        )
    notes.append(f"the time is {time.name} + {step.name}")
    return stamps + xr.DataArray(steps, dims=step.dims)


def _time_coordinate(dataset, field, where):
    """The coordinate that holds the times of a field; None if there is none."""
    candidates = {
        name: coordinate
        for name, coordinate in dataset.coords.items()
        if set(coordinate.dims) <= set(field.dims)
        and (is_time(coordinate) or TIME_NAMES.fullmatch(str(name).lower()))
    }
    reference = _with_standard_name(dataset, "forecast_reference_time")
    names = [name for name in candidates if name not in reference] or list(candidates)
    standard = dataset.cf.coordinates.get("time", ())
    for preferred in (("valid_time",), field.dims, standard, ("time",)):
        names = [name for name in names if name in preferred] or names
    if len(names) > 1:
        raise InputError(
            f"{where}: has several coordinates that may be the time of {field.name} "
            f"({', '.join(map(str, names))}); set standard_name 'time' on the right one alone"
        )
    return candidates[names[0]] if names else None


def _with_standard_name(dataset, standard_name):
    """Names of the coordinates that have a CF standard name."""
    return dataset.cf.standard_names.get(standard_name, ())


def _step(dataset, field):
    """The coordinate that holds the forecast steps of a field; None if there is none."""
    periods = _with_standard_name(dataset, "forecast_period")
    for name, coordinate in dataset.coords.items():
        is_step = name in periods or STEP_NAMES.fullmatch(str(name).lower())
        if is_step and set(coordinate.dims) <= set(field.dims) and coordinate.dtype.kind in "iuf":
            return coordinate
    return None


def _is_valid_time(dataset, time, step):
    """Whether a time is that of the record, not that of the start of its forecast."""
    if time.name == "valid_time":
        return True
    # Numbers without a unit that grow together with the times only count the records.
    if "units" not in step.attrs and step.dims == time.dims != () and np.ptp(step.values) > 0:
        return bool((np.diff(time.values) > 0).all())
    reference = _with_standard_name(dataset, "forecast_reference_time")
    return bool(reference) and time.name not in reference and set(step.dims) <= set(time.dims)
