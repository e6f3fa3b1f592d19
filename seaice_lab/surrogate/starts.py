"""Start dates of forecasts: all of a split, or given ones, with or without truth."""

import numpy as np
import pandas as pd

from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import has_state, in_split, locate, name_of, positions_at
from seaice_lab.surrogate.time_axis import HOUR
from seaice_lab.surrogate.windows import STATIC
from seaice_lab.times import time_text

LATEST = "latest"  # as a start: the last time at which the store has the state


def start_positions(store, window, config, needs_state=True):
    """Find the start dates of a forecast, and the times of all fields that it needs.

    Parameters
    ----------
    store : xarray.Dataset
        Prepared store.
    window : Window
    config : ForecastConfig
        Without ``starts``, all start dates of a split of which the entire forecast, truth included,
        is in the split. Given starts need the state at the start, and the forcing.
    needs_state : bool
        False for given starts with states of another origin.

    Returns
    -------
    dict of float to ndarray of int (start,)
        Positions on the time axis of the store by offset from the start date, hours.

    Raises
    ------
    InputError
        If there is no such start date, or the store lacks a field that the network needs.
    """
    steps_h = [step * window.step_h for step in range(config.steps)]
    forcing_h = {step + lag for step in steps_h for _, lag in window.forcing}
    state_h = {lag for _, lag in window.state}
    if not config.starts:
        truth_h = {*steps_h, config.steps * window.step_h}
        return locate(store, forcing_h | state_h | truth_h, config.split_of_starts, config.every)
    times = sorted({_time_of(text, store) for text in config.starts})
    starts = [_position(time, store, config.split, needs_state) for time in times[:: config.every]]
    starts = np.array(starts)
    if needs_state:
        _check_state(store, starts, sorted(state_h))
    _check_forcing(store, starts, window, config.steps)
    offsets_h = sorted({0.0, *forcing_h, *state_h})
    positions = positions_at(store, starts, offsets_h)
    # Only fields that do not change with time are read at offsets that the store lacks.
    return dict(zip(offsets_h, np.where(positions < 0, starts, positions), strict=True))


def _time_of(text, store):
    """The time of a start that is given as text, numpy.datetime64."""
    if text == LATEST:
        return store.time.values[has_state(store)].max()
    try:
        stamp = pd.Timestamp(text)
    except ValueError:
        stamp = pd.NaT
    if stamp is pd.NaT:
        raise InputError(
            f"start {text!r}: is not a date and time; write it as 2021-03-01T00, or {LATEST} for "
            "the last state of the store"
        )
    stamp = stamp if stamp.tzinfo is None else stamp.tz_convert(None)
    return stamp.to_datetime64().astype("datetime64[ns]")


def _position(time, store, split, needs_state):
    """Position of a start on the time axis."""
    times, is_state = store.time.values, has_state(store) | (not needs_state)
    matches = np.flatnonzero((times == time) & is_state)
    if not len(matches):
        states = times[is_state]
        before, after = states[states < time], states[states > time]
        if len(before) and len(after):
            advice = f"the nearest are {time_text(before.max())} and {time_text(after.min())}"
        else:
            advice = f"its states go from {time_text(states.min())} to {time_text(states.max())}"
        raise InputError(
            f"start {time_text(time)}: {name_of(store)} has no state at this time; {advice}"
        )
    if split is not None:
        matches = np.intersect1d(matches, in_split(store, split))
        if not len(matches):
            raise InputError(
                f"start {time_text(time)}: is not in the {split} split of {name_of(store)}; leave "
                "out the split, or choose another start"
            )
    if len(matches) > 1:
        raise InputError(
            f"start {time_text(time)}: {len(matches)} runs of {name_of(store)} have this time; "
            "name the split of the run, or prepare a store of one run"
        )
    return matches[0]


def _check_state(store, starts, state_h):
    """Check that the store has the present and past states of all starts."""
    positions = positions_at(store, starts, state_h)
    lacks = (positions < 0) | ~has_state(store)[positions]
    if lacks.any():
        offset, start = np.argwhere(lacks)[0]
        first = _series(store, starts[start])[0] - np.timedelta64(round(state_h[0] * 3600), "s")
        raise InputError(
            f"start {time_text(store.time.values[starts[start]])}: the network also needs the "
            f"state {state_h[offset]:+g} h from it, which {name_of(store)} lacks; this series "
            f"allows starts from {time_text(first)}"
        )


def _series(store, start):
    """The times of the series that contains a start."""
    return store.time.values[store.segment.values == store.segment.values[start]]


def _check_forcing(store, starts, window, steps):
    """Check that the store has the forcing of all steps."""
    lags = [lag for name, lag in window.forcing if name not in STATIC]
    for step in range(steps):
        needed_h = step * window.step_h + np.array(lags)
        lacks = positions_at(store, starts, needed_h) < 0  # (lag, start)
        if lacks.any():
            at = lacks.any(axis=0).argmax()
            series = _series(store, starts[at])
            step_h = np.median(np.diff(series)) / HOUR if len(series) > 1 else 0.0
            raise InputError(
                f"start {time_text(store.time.values[starts[at]])}: {name_of(store)} lacks forcing "
                f"at {needed_h[lacks[:, at]][0]:+g} h from it (its series goes on to "
                f"{time_text(series[-1])} in steps of {step_h:g} h), which is enough for {step} "
                f"steps of {window.step_h:g} h; ask for no more steps, or prepare a store with "
                "forcing that goes on (forcing_beyond_state: true)"
            )
