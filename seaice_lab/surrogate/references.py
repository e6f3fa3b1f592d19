"""Reference forecasts: what a surrogate has to beat, from the same starts, on the same grid.

``references(names, store, variable)`` learns what there is to learn from the training split and
gives functions that make each reference forecast beside any block of forecasts.

- **persistence**: nothing changes.
- **climatology**: the mean of the training split on that day of the year.
- **damped_persistence**: climatology plus today's anomaly, damped as the training split damps it.
- **free_drift**: the ice moves with the wind and nothing else happens.
"""

import numpy as np

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import in_split, locate
from seaice_lab.synthetic.sea_ice import advect

DAYS = 366
SMOOTHING_DAYS = 15.0  # standard deviation of the smoothing of the climatology
BLOCK = 32  # frames read together
PAIRS = 64  # that tell the damping of anomalies: they change slowly, so that few are enough

# Ice drifts with about 2 % of the wind at 10 m, 25 degrees to its right in the northern hemisphere
# (Lepparanta 2011, The Drift of Sea Ice, section 6.1).
WIND_FACTOR = 0.02
TURNING_DEG = 25.0


def references(names, store, variable):
    """Prepare reference forecasts.

    Parameters
    ----------
    names : sequence of "persistence", "climatology", "damped_persistence" or "free_drift"
    store : xarray.Dataset
        Prepared store that the forecasts were started from.
    variable : str

    Returns
    -------
    dict of str to callable
        By name, ``make(forecast)``: the reference like ``forecast``, a DataArray (init_time,
        lead_time, y, x) from :func:`~seaice_lab.surrogate.evaluation.open_forecast`; take a few
        starts at a time.

    Raises
    ------
    InputError
        If a name is unknown, the training split is empty, or the store has no wind.
    """
    for name in names:
        if name not in REFERENCES:
            raise InputError(
                f"unknown reference {name!r}; the known ones are {', '.join(REFERENCES)}"
            )
    with_mean = {"climatology", "damped_persistence"} & set(names)
    mean = daily_climatology(store, variable) if with_mean else None
    return {name: REFERENCES[name](store, variable, mean) for name in names}


def reference(name, store, variable):
    """One of :func:`references`."""
    return references([name], store, variable)[name]


def persistence(store, variable, _):
    """The state at the start, held through all lead times."""

    def make(forecast):
        initial = store[variable].isel(time=forecast.position.values).values
        return forecast.copy(data=np.broadcast_to(initial[:, None], forecast.shape))

    return make


def climatology(store, variable, mean):
    """The smoothed mean of the training split on the day of the year of the valid time."""

    def make(forecast):
        return forecast.copy(data=mean[day_of_year(forecast.valid_time)])

    return make


def damped_persistence(store, variable, mean):
    """Climatology plus the anomaly at the start times its regression on lead time.

    x(t + lead) = c(t + lead) + r(lead) (x(t) - c(t)), with r(lead) = sum a(t) a(t + lead) / sum
    a(t)^2 over the ocean and all pairs of the training split, within uninterrupted pieces.
    """
    known = {}

    def make(forecast):
        leads_h = tuple(forecast.lead_time.values / np.timedelta64(1, "h"))
        if leads_h not in known:
            known[leads_h] = damping(store, variable, mean, leads_h)
        initial = store[variable].isel(time=forecast.position.values).values
        anomaly = initial - mean[day_of_year(forecast.init_time)]
        damped = known[leads_h].astype("float32")[None, :, None, None] * anomaly[:, None]
        return forecast.copy(data=mean[day_of_year(forecast.valid_time)] + damped)

    return make


def free_drift(store, variable, _):
    """The initial field carried by the drift of ice that meets no resistance.

    The drift is a fixed part of the wind at 10 m, turned to its right (to its left in the southern
    hemisphere); the field is carried conservatively, and nothing passes a coast. Between records
    the wind is that of the earlier one.
    """
    for name in ("u10", "v10"):
        if name not in store:
            raise InputError(
                f"{store.encoding.get('source', 'the store')}: free drift needs the wind {name}, "
                f"found {', '.join(store.data_vars)}; prepare the store with u10 and v10"
            )
    ocean = store.ocean.values
    latitude, longitude = store.latitude.values, store.longitude.values
    area = grid.cell_area(latitude, longitude)
    width, height = grid.cell_sides(latitude, longitude)
    along_x, along_y = _faces(height, -1), _faces(width, -2)
    open_x, open_y = ocean[:, 1:] & ocean[:, :-1], ocean[1:] & ocean[:-1]
    clockwise = np.where(grid.is_right_handed(latitude, longitude), 1, -1) * np.sign(latitude)
    turn = np.radians(TURNING_DEG) * clockwise
    cosine, sine = WIND_FACTOR * np.cos(turn), WIND_FACTOR * np.sin(turn)
    record_s = _record_seconds(store)

    def make(forecast):
        position = forecast.position.values
        lead_s = forecast.lead_time.values / np.timedelta64(1, "s")
        state = np.where(ocean, store[variable].isel(time=position).values, 0.0)
        result = np.empty(forecast.shape, "float32")
        reached = 0.0
        for index, until in enumerate(lead_s):
            while reached < until - 1:
                record = position + int(reached // record_s)
                # a lead time may end between two records
                step_s = min(record_s - reached % record_s, until - reached)
                u, v = (
                    np.where(ocean, store[name].isel(time=record).values, 0.0)
                    for name in ("u10", "v10")
                )
                sweep_x = _faces(cosine * u + sine * v, -1) * open_x * along_x * step_s
                sweep_y = _faces(cosine * v - sine * u, -2) * open_y * along_y * step_s
                most = max(np.abs(sweep_x).max(), np.abs(sweep_y).max()) / area[ocean].min()
                parts = max(int(np.ceil(most / 0.5)), 1)
                for _ in range(parts):
                    state = advect(state, sweep_x / parts, area, axis=-1)
                    state = advect(state, sweep_y / parts, area, axis=-2)
                reached += step_s
            result[:, index] = np.where(ocean, state, np.nan)
        return forecast.copy(data=result)

    return make


REFERENCES = {
    "persistence": persistence,
    "climatology": climatology,
    "damped_persistence": damped_persistence,
    "free_drift": free_drift,
}


def daily_climatology(store, variable):
    """Mean of the training split by day of the year, smoothed around the circle of the year.

    Weights fall with the distance in days as a Gaussian of 15 days, so that a day which the
    training split lacks takes the mean of the nearest days that it has.

    Returns
    -------
    ndarray (366, y, x), float32
    """
    positions = in_split(store, "train")
    if not len(positions):
        raise InputError(
            f"climatology of {variable}: the training split of the store is empty; prepare it with "
            "a training period"
        )
    shape = store.ocean.shape
    total, count = np.zeros((DAYS, *shape), "float32"), np.zeros(DAYS)
    for first in range(0, len(positions), BLOCK):
        block = store[variable].isel(time=positions[first : first + BLOCK])
        days = day_of_year(block.time)
        np.add.at(total, days, block.values)
        np.add.at(count, days, 1)
    apart = np.abs(np.arange(DAYS)[:, None] - np.arange(DAYS))
    exponent = -0.5 * (np.minimum(apart, DAYS - apart) / SMOOTHING_DAYS) ** 2
    exponent[:, count == 0] = -np.inf
    weights = np.exp(exponent - exponent.max(1, keepdims=True)) * (count > 0)
    weights /= (weights * count).sum(1, keepdims=True)
    return np.tensordot(weights.astype("float32"), total, 1)


def damping(store, variable, mean, leads_h):
    """Regression of the anomaly on the anomaly ``leads_h`` hours before, over the ocean.

    Returns
    -------
    ndarray (lead,)
        NaN for leads longer than every uninterrupted piece of the training split.
    """
    ocean = store.ocean.values
    result = np.empty(len(leads_h))
    for index, lead in enumerate(leads_h):
        try:
            pairs = locate(store, [float(lead)], "train")
        except InputError:
            result[index] = np.nan
            continue
        every = -(-len(pairs[0.0]) // PAIRS)
        now, later = (
            store[variable].isel(time=at).values[:, ocean]
            - mean[day_of_year(store.time[at])][:, ocean]
            for at in (pairs[0.0][::every], pairs[float(lead)][::every])
        )
        result[index] = np.vdot(now, later) / np.vdot(now, now)
    return result


def day_of_year(time):
    """Day of the year of a labelled array of dates, from 0."""
    return time.dt.dayofyear.values - 1


def _faces(field, axis):
    """Mean of neighbouring cells along an axis."""
    field = np.swapaxes(field, axis, -1)
    return np.swapaxes((field[..., 1:] + field[..., :-1]) / 2, axis, -1)


def _record_seconds(store):
    return float(np.median(np.diff(store.time.values)) / np.timedelta64(1, "s"))
