"""The time axis of a prepared store: segments, splits, and times beyond the state."""

from fnmatch import fnmatch

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import catalog
from seaice_lab.errors import InputError, listed
from seaice_lab.times import time_text

HOUR = np.timedelta64(1, "h")
SPLITS = ("train", "validation", "test")
TIME_COORDINATES = ("time", "segment", "split", "has_state")
SPLIT_ATTRS = {
    "long_name": "split of the data",
    "flag_values": np.arange(-1, len(SPLITS), dtype="int8"),
    "flag_meanings": " ".join(("none", *SPLITS)),
}


def segments(state, config):
    """Number the uninterrupted series of the time axis.

    Parameters
    ----------
    state : xarray.Dataset
        Has ``time`` and ``run(time)``.
    config : PrepareConfig

    Returns
    -------
    ndarray of int32 (time,)
        Grows by one with each run and, where gaps are allowed, after each gap.

    Raises
    ------
    InputError
        If there is a gap that is not allowed.
    """
    times, run = state.time.values, state.run.values
    new_run = run[1:] != run[:-1]
    gap = ~new_run & (np.diff(times) != usual_step(state, config))
    if gap.any() and not config.allow_gaps:
        at = int(np.argmax(gap))
        raise InputError(
            f"{config.state} ({run[at]}): a gap from {time_text(times[at])} to "
            f"{time_text(times[at + 1])} where the step is {usual_step(state, config) / HOUR:g} h; "
            "supply the missing records, or set allow_gaps to true so that windows never cross it"
        )
    return np.concatenate([[0], np.cumsum(new_run | gap)]).astype("int32")


def usual_step(state, config):
    """The most frequent step between successive times of a run.

    Of a state with a single time it is ``step_h`` of its catalogue entry, if the store is to hold
    forcing beyond the state.

    Parameters
    ----------
    state : xarray.Dataset
        Has ``time`` and ``run(time)``.
    config : PrepareConfig

    Returns
    -------
    numpy.timedelta64

    Raises
    ------
    InputError
        If every run has a single time and the store is not to hold forcing beyond it.
    """
    run = state.run.values
    steps = pd.Series(np.diff(state.time.values)[run[1:] == run[:-1]]).mode()
    if not steps.empty:
        return steps.iloc[0].to_timedelta64()
    if not config.forcing_beyond_state:
        raise InputError(
            f"{config.state}: holds a single time step per run; windows need several, or forcing "
            "that goes on after it (forcing_beyond_state: true)"
        )
    return np.timedelta64(round(catalog.find(config.state).step_h * 3600), "s")


def splits(state, config):
    """The split of every time: its position in SPLITS, or -1 if no rule takes the time.

    Parameters
    ----------
    state : xarray.Dataset
        Has ``time`` and ``run(time)``.
    config : PrepareConfig

    Returns
    -------
    ndarray of int8 (time,)

    Raises
    ------
    InputError
        If there are no rules, a rule takes no time, or two rules take the same time.
    """
    # An empty dict is not the same as none: it names no split.
    rules = catalog.find(config.state).splits if config.splits is None else config.splits
    if not rules:
        raise InputError(
            f"splits: there is none; give one or more of {', '.join(SPLITS)} files or a period, in "
            f"the configuration or in the catalogue entry {config.state}"
        )
    split = np.full(state.sizes["time"], -1, dtype="int8")
    times, run = state.time.values, state.run.values
    for code, name in enumerate(SPLITS):
        if name not in rules:
            continue
        in_rule = _in_rule(name, rules[name], state, config)
        if not in_rule.any():
            raise InputError(
                f"splits: {name} takes none of the {times.size} times of {config.state} "
                f"({time_text(times.min())} to {time_text(times.max())}, runs "
                f"{listed(dict.fromkeys(run))}); change its files or period"
            )
        shared = in_rule & (split >= 0)
        if shared.any():
            other = SPLITS[split[shared][0]]
            raise InputError(
                f"splits: {other} and {name} share {shared.sum()} times of "
                f"{listed(dict.fromkeys(run[shared]))} ({time_text(times[shared].min())} to "
                f"{time_text(times[shared].max())}); change their files or periods so that each "
                "time is in one split"
            )
        split[in_rule] = code
    return split


def _in_rule(split, rule, state, config):
    """Whether the rule of a split takes each time, ndarray of bool (time,)."""
    where = f"in the settings or in the catalogue entry {config.state}"
    if bool(rule.files) == (rule.period is not None):
        fault = "both files and a period" if rule.files else "neither files nor a period"
        raise InputError(
            f"splits: {split} has {fault}; give one of them {where}, such as "
            'period: ["2010", "2012"]'
        )
    if rule.period is not None:
        start, end = _period(split, rule.period, where)
        return (state.time.values >= start) & (state.time.values <= end)
    in_rule = np.zeros(state.sizes["time"], bool)
    for pattern in rule.files:
        matches = [fnmatch(run, pattern.removesuffix(".nc")) for run in state.run.values]
        if not any(matches):
            raise InputError(
                f"splits: {split} names the file {pattern}, which is none of the runs of "
                f"{config.state} ({listed(dict.fromkeys(state.run.values))}); correct the name, or "
                "give a period if all files are one run"
            )
        in_rule |= matches
    return in_rule


def _period(split, period, where):
    """First and last moment of a period, which has two dates such as "2010" or "2010-01-31"."""
    try:
        start, end = (pd.Period(edge) for edge in period)
        start, end = start.start_time.to_datetime64(), end.end_time.to_datetime64()
    except (ValueError, AttributeError):  # of an empty text, pandas makes NaT, which lacks times
        raise InputError(
            f"splits: {split} has the period {' to '.join(period)}, expected two dates such as "
            f"2010-01-31 or 2010; correct it {where}"
        ) from None
    if start > end:
        raise InputError(
            f"splits: {split} has the period {' to '.join(period)}, which ends before it begins; "
            f"exchange the dates {where}"
        )
    return start, end


def beyond_state(state, forcing, config):
    """Continue the time axis of every run as long as the forcing continues at the same step.

    Parameters
    ----------
    state : xarray.Dataset
        With the coordinates ``run``, ``segment`` and ``split`` (time).
    forcing : xarray.Dataset
    config : PrepareConfig

    Returns
    -------
    xarray.Dataset
        The state, NaN at the new times, which are of the last segment of their run and of no split.
        The coordinate ``has_state(time)`` is false there.

    Raises
    ------
    InputError
        If the forcing has no entry of its own, or does not reach beyond the end of any run.
    """
    if config.forcing in (None, config.state):
        raise InputError(
            "forcing_beyond_state: the forcing comes from the files of the state, so it ends with "
            "the state; set forcing to an entry that reaches further"
        )
    step, available = usual_step(state, config), forcing.time.values
    times, run = state.time.values, state.run.values
    ends = np.flatnonzero(np.append(run[1:] != run[:-1], True))
    copies = np.ones(len(times), int)
    for end in ends:
        expected = times[end] + step * np.arange(1, len(available) + 1)
        copies[end] += np.argmin(np.append(np.isin(expected, available), False))
    if not (copies > 1).any():
        raise InputError(
            f"{config.forcing}: ends at {time_text(available.max())} or lacks the record after the "
            f"state, which ends at {time_text(times[ends].max())} (step {step / HOUR:g} h); supply "
            "forcing beyond the state, or leave out forcing_beyond_state"
        )
    # Copies of the last record of each run, without its values, take the times after it.
    index = np.repeat(np.arange(len(times)), copies)
    after = np.arange(len(index)) - np.searchsorted(index, index)
    longer = state.isel(time=index).where(xr.DataArray(after == 0, dims="time"))
    attrs = {"variables": " ".join(config.variables)}
    attrs["long_name"] = "whether the store holds the state"
    return longer.assign_coords(
        time=("time", longer.time.values + after * step, longer.time.attrs),
        split=longer.split.variable.copy(data=np.where(after, -1, longer.split).astype("int8")),
        has_state=("time", after == 0, attrs),
    )
