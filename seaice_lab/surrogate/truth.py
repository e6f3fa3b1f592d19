"""The truth of a forecast: the states of the prepared store from which it was started."""

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import has_state, name_of, open_store, positions_at, read_frames
from seaice_lab.surrogate.time_axis import HOUR
from seaice_lab.times import time_text


def open_truth(forecast, path=None):
    """Open the prepared store from which a forecast was started.

    Parameters
    ----------
    forecast : xarray.Dataset
        From :func:`open_forecast`.
    path : str or Path, optional
        The store, if it was moved after the forecast.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the store is missing, or is another one than that of the forecast.
    """
    path = path or forecast.attrs["store"]
    store = open_store(path, dask=False)
    check_store(forecast, store, path)
    return store


def check_store(forecast, store, path):
    """Check that a store is the one from which a forecast was started.

    Parameters
    ----------
    forecast : xarray.Dataset
        From :func:`open_forecast`. An old one does not say which store it belongs to.
    store : xarray.Dataset
    path : str or Path
        Of the store, for the message.

    Raises
    ------
    InputError
        If it is another store, or was prepared differently since.
    """
    fingerprint = store.attrs.get("fingerprint")
    if forecast.attrs.get("store_fingerprint", fingerprint) != fingerprint:
        raise InputError(
            f"{path}: is not the store from which the forecast was started, or was prepared again "
            "since; run `seaice-lab forecast RUN` again with this store"
        )


def truth_for(forecast, store):
    """The truth at every start and lead time of a forecast.

    Parameters
    ----------
    forecast : xarray.DataArray (init_time, lead_time, y, x)
        A few starts of a forecast from :func:`open_forecast`, with its coordinate ``position``.
    store : xarray.Dataset
        Prepared store from which the forecast was started.

    Returns
    -------
    xarray.DataArray (init_time, lead_time, y, x)
        In memory; NaN where the store has no truth.

    Raises
    ------
    InputError
        If the forecast was started from another store.
    """
    position = verification_positions(forecast, store)
    frames, inverse = np.unique(position, return_inverse=True)
    values = read_frames(store, forecast.name, frames.clip(0))
    values[frames < 0] = np.nan
    return forecast.copy(data=values[inverse.reshape(position.shape)])


def verification_positions(forecast, store):
    """Position of every valid time of a forecast on the time axis of a store.

    Parameters
    ----------
    forecast : xarray.DataArray (init_time, lead_time, y, x)
    store : xarray.Dataset
        Prepared store from which the forecast was started.

    Returns
    -------
    ndarray of int (init_time, lead_time)
        -1 where the store has no truth: after the end of its state, or of the uninterrupted series
        in which the forecast starts.

    Raises
    ------
    InputError
        If the forecast was started from another store.
    """
    starts, times, init = forecast.position.values, store.time.values, forecast.init_time.values
    wrong = (starts >= len(times)) | (times[starts.clip(max=len(times) - 1)] != init)
    if wrong.any():
        raise InputError(
            f"{forecast.name}: {name_of(store)} does not have the start "
            f"{time_text(init[wrong][0])} where the forecast found it; use the store from which "
            "the forecast was started, or make the forecast again"
        )
    leads_h = forecast.lead_time.values / HOUR
    positions = positions_at(store, starts, leads_h).T
    return np.where(has_state(store)[positions], positions, -1)


def with_truth(forecast, store):
    """The starts of a forecast that have truth at any lead time.

    Parameters
    ----------
    forecast : xarray.DataArray (init_time, [member,] lead_time, y, x)
    store : xarray.Dataset
        Prepared store from which the forecast was started.

    Returns
    -------
    forecast : xarray.DataArray
        The starts with truth.
    verified : xarray.DataArray of bool (init_time, lead_time)
        Whether these starts have truth at each lead time.

    Raises
    ------
    InputError
        If no start has truth.
    """
    has_truth = verification_positions(forecast, store) >= 0
    scored = has_truth.any(axis=1)
    states = store.time.values[has_state(store)]
    if not scored.any():
        first = forecast.valid_time.values.min()
        raise InputError(
            f"{forecast.name}: cannot be scored, because {name_of(store)} has no truth for any "
            f"start: the first valid time is {time_text(first)}, its states end at "
            f"{time_text(states.max())}; when the truth is there, prepare the store again, then "
            "forecast and evaluate"
        )
    if not has_truth.all():
        print(
            f"{name_of(store)} has truth until {time_text(states.max())}: {scored.sum()} of "
            f"{len(scored)} starts are scored, {has_truth[scored].all(axis=1).sum()} of them at "
            "all lead times"
        )
    coords = {name: forecast[name].values for name in ("init_time", "lead_time")}
    verified = xr.DataArray(has_truth, coords, ("init_time", "lead_time"))
    return forecast.isel(init_time=scored), verified[scored]
