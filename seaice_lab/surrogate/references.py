"""Reference forecasts: simple forecasts that a surrogate must beat, on the same starts and grid.

:func:`make_references` learns from the training split and returns one function for each name,
which makes the reference for any block of a forecast.

- **persistence**: the initial state does not change.
- **climatology**: the mean of the training split on the same day of the year.
- **damped_persistence**: climatology plus the initial anomaly, which decays as in the training
  split.
- **free_drift**: the ice moves with the wind, and nothing else changes.
"""

import numpy as np

from seaice_lab import grid, progress
from seaice_lab.advection import advect
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import in_split, locate, name_of, open_store, read_frames

DAYS = 366
SMOOTHING_DAYS = 15.0  # standard deviation of the smoothing of the climatology
BLOCK_FRAMES = 32  # frames read at once
DAMPING_PAIRS = 64  # pairs of frames for the damping of anomalies, which varies slowly

# Ice drifts with about 2 % of the wind at 10 m, 25 degrees to its right in the northern hemisphere
# (Lepparanta 2011, The Drift of Sea Ice, section 6.1).
FREE_DRIFT_WIND_FACTOR = 0.02
TURNING_DEG = 25.0


def make_references(names, store, variable, training=None):
    """Prepare reference forecasts.

    Parameters
    ----------
    names : sequence of "persistence", "climatology", "damped_persistence" or "free_drift"
    store : xarray.Dataset
        Prepared store from which the forecasts were started.
    variable : str
    training : xarray.Dataset, optional
        Prepared store with the training data of the run; by default the same store.

    Returns
    -------
    dict of str to callable
        By name a function ``make(forecast)`` that returns the reference for a forecast, both
        DataArray (init_time, lead_time, y, x) as in
        :func:`~seaice_lab.surrogate.evaluation.open_forecast`. The result is in memory: pass a few
        starts at a time.

    Raises
    ------
    InputError
        If a name is unknown, the training split is empty, or the store has no wind.
    """
    unknown = [name for name in names if name not in REFERENCES]
    if unknown:
        raise InputError(
            f"unknown reference {unknown[0]!r}; the known ones are {', '.join(REFERENCES)}"
        )
    needs_mean = {"climatology", "damped_persistence"} & set(names)
    training = store if training is None else training
    learnt = (training, daily_climatology(training, variable)) if needs_mean else (training, None)
    return {name: REFERENCES[name](store, variable, *learnt) for name in names}


def training_store(dataset, store, references):
    """Open the store with the training data of a run, from which climatology is made.

    Parameters
    ----------
    dataset : xarray.Dataset
        From :func:`~seaice_lab.surrogate.evaluation.open_forecast`.
    store : xarray.Dataset
        Prepared store from which the forecast was started.
    references : sequence of str or None
        Names of the reference forecasts that must be made; None: all with available data.

    Returns
    -------
    xarray.Dataset or None
        None if the store is missing but not needed; a note says so if references are left out.
    """
    path = dataset.attrs.get("training_store", dataset.attrs["store"])
    if path == dataset.attrs["store"]:
        return store
    try:
        return open_store(path, dask=False)
    except InputError:
        if {"climatology", "damped_persistence"} & set(references or ()):
            raise
        if references is None:
            progress.note(
                f"{path}: the prepared store of the training is not here, so the references "
                "climatology and damped_persistence are left out"
            )
        return None


def possible_references(store, training):
    """Names of the reference forecasts for which the stores have the data.

    Parameters
    ----------
    store : xarray.Dataset
        Prepared store from which the forecast was started.
    training : xarray.Dataset or None
        From :func:`training_store`.

    Returns
    -------
    list of str
    """
    impossible = set()
    if not {"u10", "v10"} <= set(store.data_vars):
        impossible.add("free_drift")
    if training is None or not len(in_split(training, "train")):
        impossible |= {"climatology", "damped_persistence"}
    return [name for name in REFERENCES if name not in impossible]


def reference_for(name, forecast, store, training=None):
    """A reference forecast for every start and lead time of a forecast.

    Parameters
    ----------
    name : "persistence", "climatology", "damped_persistence" or "free_drift"
    forecast : xarray.DataArray (init_time, lead_time, y, x)
        A few starts of a forecast.
    store : xarray.Dataset
        Prepared store from which the forecast was started.
    training : xarray.Dataset, optional
        Prepared store with the training data of the run; by default the same store.

    Returns
    -------
    xarray.DataArray (init_time, lead_time, y, x)
        In memory.

    Raises
    ------
    InputError
        If the name is unknown, the training split is empty, or the store has no wind.
    """
    return make_references([name], store, forecast.name, training)[name](forecast)


def _persistence(store, variable, _training, _daily_mean):
    """The initial state at all lead times."""

    def make(forecast):
        initial = read_frames(store, variable, forecast.position.values)
        return forecast.copy(data=np.broadcast_to(initial[:, None], forecast.shape))

    return make


def _climatology(_store, _variable, _training, daily_mean):
    """The smoothed mean of the training split on the day of the year of the valid time."""

    def make(forecast):
        return forecast.copy(data=daily_mean[_day_of_year(forecast.valid_time)])

    return make


def _damped_persistence(store, variable, training, daily_mean):
    """Climatology plus the initial anomaly times its regression coefficient at the lead time.

    x(t + lead) = c(t + lead) + r(lead) (x(t) - c(t)), with r(lead) from :func:`damping`.
    """

    coefficients = {}  # by lead times; the blocks of a forecast have the same ones

    def make(forecast):
        leads_h = tuple(forecast.lead_time.values / np.timedelta64(1, "h"))
        if leads_h not in coefficients:
            r = damping(training, variable, daily_mean, leads_h).astype("float32")
            coefficients[leads_h] = r
        r = coefficients[leads_h]
        initial = read_frames(store, variable, forecast.position.values)
        anomaly = initial - daily_mean[_day_of_year(forecast.init_time)]
        damped = r[None, :, None, None] * anomaly[:, None]
        return forecast.copy(data=daily_mean[_day_of_year(forecast.valid_time)] + damped)

    return make


def _free_drift(store, variable, _training, _daily_mean):
    """The initial field, transported by the drift of ice without internal stress.

    The drift is a fixed fraction of the wind at 10 m, turned to the right of the wind (to the left
    in the southern hemisphere). The transport is conservative, and nothing passes a coast. Between
    two records the wind is that of the earlier one. After the last wind the result is NaN.
    """
    if not {"u10", "v10"} <= set(store.data_vars):
        raise InputError(
            f"{name_of(store)}: free drift needs the wind u10 and v10, "
            f"found {', '.join(store.data_vars)}; prepare the store with them"
        )
    ocean = store.ocean.values
    record_s = float(np.median(np.diff(store.time.values)) / np.timedelta64(1, "s"))
    segment, end = store.segment.values, store.sizes["time"]
    drift = _drift_with_wind(store)

    def states(position, lead_s):
        """The state at each lead time, as long as there is wind without a gap."""
        records = position + np.arange(int(np.ceil(lead_s[-1] / record_s)))
        records = records[records < end]
        wind = _in_turn(store, ("u10", "v10"), records[segment[records] == segment[position]])
        state = np.where(ocean, read_frames(store, variable, [position])[0], 0.0)
        time_s, record = 0.0, -1
        for end_s in lead_s:
            while time_s < end_s - 1:
                if time_s // record_s > record:
                    record += 1
                    u, v = next(wind, (None, None))
                    if u is None:
                        return
                # A lead time may end between two records.
                step_s = min(record_s - time_s % record_s, end_s - time_s)
                state = drift(state, u, v, step_s)
                time_s += step_s
            yield state

    def make(forecast):
        lead_s = forecast.lead_time.values / np.timedelta64(1, "s")
        result = np.full(forecast.shape, np.nan, "float32")
        # One start after the other: a field of one start stays in the cache of the processor.
        for start, position in enumerate(forecast.position.values):
            for lead, state in enumerate(states(position, lead_s)):
                result[start, lead] = np.where(ocean, state, np.nan)
        return forecast.copy(data=result)

    return make


def _in_turn(store, variables, positions):
    """Yield the frames of some variables at each position, which are read in blocks."""
    for first in range(0, len(positions), BLOCK_FRAMES):
        block = positions[first : first + BLOCK_FRAMES]
        yield from zip(*(read_frames(store, name, block) for name in variables), strict=True)


def _drift_with_wind(store):
    """A function that moves a field (y, x) with the wind of a record for some seconds."""
    ocean = store.ocean.values
    latitude, longitude = store.latitude.values, store.longitude.values
    area = grid.cell_area(store).values
    width, height = grid.cell_sides(latitude, longitude)
    open_x, open_y = ocean[:, 1:] & ocean[:, :-1], ocean[1:] & ocean[:-1]
    length_x, length_y = _at_faces(height, -1) * open_x, _at_faces(width, -2) * open_y
    clockwise = np.where(grid.is_right_handed(latitude, longitude), 1, -1) * np.sign(latitude)
    turning = np.radians(TURNING_DEG) * clockwise
    along_wind = FREE_DRIFT_WIND_FACTOR * np.cos(turning)
    across_wind = FREE_DRIFT_WIND_FACTOR * np.sin(turning)

    def drift(state, u, v, seconds):
        u, v = np.where(ocean, u, 0.0), np.where(ocean, v, 0.0)
        # Area that the ice sweeps across each face between two ocean cells: velocity times length
        # of the face times time.
        swept_x = _at_faces(along_wind * u + across_wind * v, -1) * length_x * seconds
        swept_y = _at_faces(along_wind * v - across_wind * u, -2) * length_y * seconds
        # Substeps in which no more than half a cell is emptied through a face.
        largest = max(np.abs(swept_x).max(), np.abs(swept_y).max()) / area[ocean].min()
        substeps = max(int(np.ceil(largest / 0.5)), 1)
        for _ in range(substeps):
            state = advect(state, swept_x / substeps, area, axis=-1)
            state = advect(state, swept_y / substeps, area, axis=-2)
        return state

    return drift


REFERENCES = {
    "persistence": _persistence,
    "climatology": _climatology,
    "damped_persistence": _damped_persistence,
    "free_drift": _free_drift,
}


def daily_climatology(store, variable):
    """Mean of the training split by day of the year, smoothed periodically over the year.

    The weights decrease with the distance in days as a Gaussian with a standard deviation of 15
    days. A day that is missing in the training split therefore has the mean of the nearest days.

    Parameters
    ----------
    store : xarray.Dataset
        Prepared store.
    variable : str

    Returns
    -------
    ndarray (366, y, x), float32

    Raises
    ------
    InputError
        If the training split is empty.
    """
    positions = in_split(store, "train")
    if not len(positions):
        raise InputError(
            f"climatology of {variable}: {name_of(store)} has no training split; leave out the "
            "references climatology and damped_persistence, or prepare it with a training period"
        )
    total, count = np.zeros((DAYS, *store.ocean.shape), "float32"), np.zeros(DAYS)
    for first in range(0, len(positions), BLOCK_FRAMES):
        block = positions[first : first + BLOCK_FRAMES]
        days = _day_of_year(store.time[block])
        for day, frame in zip(days, read_frames(store, variable, block), strict=True):
            total[day] += frame
            count[day] += 1
    # Distance in days between any two days, along the shorter way around the year.
    distance = np.abs(np.arange(DAYS)[:, None] - np.arange(DAYS))
    exponent = -0.5 * (np.minimum(distance, DAYS - distance) / SMOOTHING_DAYS) ** 2
    # Subtracting the largest exponent keeps the weights of distant days from vanishing, if only
    # distant days have data.
    exponent[:, count == 0] = -np.inf
    weights = np.exp(exponent - exponent.max(1, keepdims=True)) * (count > 0)
    weights /= (weights * count).sum(1, keepdims=True)
    return np.tensordot(weights.astype("float32"), total, 1)


def damping(store, variable, daily_mean, leads_h):
    """Regression of the anomaly on the anomaly ``leads_h`` hours earlier, over the ocean.

    r(lead) = sum a(t) a(t + lead) / sum a(t)^2 over ocean cells and pairs of times of the training
    split, each pair within one uninterrupted period.

    Parameters
    ----------
    store : xarray.Dataset
        Prepared store.
    variable : str
    daily_mean : ndarray (366, y, x)
        From :func:`daily_climatology`.
    leads_h : sequence of float
        Lead times, hours.

    Returns
    -------
    ndarray (lead,)
        NaN for leads longer than every uninterrupted period of the training split.
    """
    ocean = store.ocean.values
    daily_mean = daily_mean[:, ocean]
    result = np.full(len(leads_h), np.nan)
    for index, lead in enumerate(leads_h):
        try:
            positions = locate(store, [float(lead)], "train")
        except InputError:
            continue
        every = -(-len(positions[0.0]) // DAMPING_PAIRS)
        earlier, later = (
            read_frames(store, variable, at)[:, ocean] - daily_mean[_day_of_year(store.time[at])]
            for at in (positions[0.0][::every], positions[float(lead)][::every])
        )
        result[index] = np.vdot(earlier, later) / np.vdot(earlier, earlier)
    return result


def _day_of_year(time):
    """Day of the year of a labelled array of dates, from 0."""
    return time.dt.dayofyear.values - 1


def _at_faces(field, axis):
    """Mean of neighbouring cells along an axis."""
    field = np.swapaxes(field, axis, -1)
    return np.swapaxes((field[..., 1:] + field[..., :-1]) / 2, axis, -1)
