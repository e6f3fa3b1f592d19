"""Bootstrap confidence intervals of scores over starts."""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.score_tables import SQUARED
from seaice_lab.errors import InputError

WEATHER_DAYS = 5  # lifetime of a weather system


def confidence_intervals(by_start, level=0.95, draws=1000, block=1, seed=0):
    """Bootstrap confidence intervals of the scores pooled over starts.

    Starts are drawn with replacement, the same ones for each score, lead time and source, so that
    differences between sources keep their pairing.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`, loaded; ``verified`` as in `pool_starts`.
    level : float
        Probability inside the interval.
    draws : int
        Number of bootstrap samples.
    block : int
        Starts drawn together. Errors of neighbouring starts are similar, and intervals from
        single starts are then too narrow: pass the number of starts over which errors stay
        correlated (moving blocks, Kunsch 1989, doi:10.1214/aos/1176347265).
    seed : int

    Returns
    -------
    Dataset
        ``<score>_low`` and ``<score>_high``, each (lead_time).

    Raises
    ------
    InputError
        If there are fewer than two blocks.
    """
    count = by_start.sizes["init_time"]
    if count < 2 * block:
        raise InputError(
            f"{count} starts in blocks of {block}: expected at least two blocks to draw from; "
            "forecast from more starts or take a smaller block"
        )
    weight = start_weights(count, draws, block, seed)
    limits = [(1 - level) / 2, (1 + level) / 2]
    comment = f"{level:.0%} bootstrap interval over starts, drawn in blocks of {block}"
    intervals, verified = xr.Dataset(), by_start.get("verified")
    for name, values in by_start.drop_vars("verified", errors="ignore").data_vars.items():
        samples = pooled_samples(values, weight, verified)
        # A sample in which no start has truth is left out.
        bounds = samples.quantile(limits, "draw", skipna=verified is not None)
        for position, end in enumerate(("low", "high")):
            bound = bounds.isel(quantile=position, drop=True)
            intervals[f"{name}_{end}"] = bound.assign_attrs(values.attrs, comment=comment)
    return intervals


def start_weights(count, draws=1000, block=1, seed=0):
    """Weights of the starts in bootstrap samples; equal arguments give equal weights.

    Parameters
    ----------
    count : int
        Number of starts.
    draws, block, seed : int
        As in `confidence_intervals`.

    Returns
    -------
    DataArray (draw, init_time)
        The weights of each sample add up to 1.
    """
    # Draw the first start of each block; the series is closed to a circle, and the last block is
    # cut, so that each sample has as many starts as the series.
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, count, (draws, -(-count // block)))
    starts = (firsts[..., None] + np.arange(block)).reshape(draws, -1)[:, :count] % count
    # The mean of a sample is a weighted mean of all starts: one matrix product for all samples.
    weight = np.array([np.bincount(sample, minlength=count) for sample in starts]) / count
    return xr.DataArray(weight, dims=("draw", "init_time"))


def pooled_samples(values, weight, verified=None):
    """A score pooled over the starts of each bootstrap sample.

    Parameters
    ----------
    values : DataArray (..., init_time)
        A score of each start, with the name that it has in `score_tables.SCORES`.
    weight : DataArray (draw, init_time)
        From `start_weights`.
    verified : DataArray of bool (init_time, lead_time), optional
        Starts that count at each lead time; all without it.

    Returns
    -------
    DataArray (..., draw)
        NaN for a sample in which no start counts.
    """
    power = 2 if values.name in SQUARED else 1
    powers = values.drop_vars("init_time") ** power
    if verified is None:
        return xr.dot(powers, weight, dim="init_time") ** (1 / power)
    verified = verified.drop_vars("init_time")
    total = xr.dot(powers.where(verified, 0.0), weight, dim="init_time")
    share = xr.dot(verified.astype("float64"), weight, dim="init_time")
    return (total / share.where(share > 0)) ** (1 / power)


def correlated_starts(init_time, days=WEATHER_DAYS):
    """Number of successive starts within some days, by default the lifetime of a weather system.

    Parameters
    ----------
    init_time : DataArray (init_time)
    days : float

    Returns
    -------
    int
        At least one, and at most half of the starts: a block for `confidence_intervals`.
    """
    gap = np.median(np.diff(init_time.values)) / np.timedelta64(days, "D")
    return int(np.clip(1 / max(gap, 1e-9), 1, max(len(init_time) // 2, 1)))


def independent_periods(init_time, days=WEATHER_DAYS, series=None):
    """Assign start dates to periods that count as independent.

    Starts in one period share the weather, or the state of the ice, and count as one.

    Parameters
    ----------
    init_time : DataArray (init_time)
    days : float
        Least length of a period; by default the lifetime of a weather system.
    series : array of int (init_time,), optional
        Number of the separate run or series to which a start belongs; a period never spans two.

    Returns
    -------
    ndarray of int (init_time,)
        From 0, without gaps. A series that is not twice as long as a period is one period.
    """
    times = init_time.values
    gap = np.diff(times) / np.timedelta64(1, "D")
    # Separate runs may overlap in time, so time can go backwards where another one begins.
    new = (gap <= 0) | (gap >= days)
    if series is not None:
        new |= np.diff(series) != 0
    parts, periods, count = np.concatenate([[0], np.cumsum(new)]), np.zeros(len(times), int), 0
    for part in range(parts[-1] + 1):
        age = (times[parts == part] - times[parts == part][0]) / np.timedelta64(1, "D")
        length = age[-1] + (np.median(np.diff(age)) if len(age) > 1 else 0.0)
        number = max(int(length / days + 1e-9), 1)
        periods[parts == part] = count + (age * number / max(length, 1e-9)).astype(int)
        count += number
    return np.unique(periods, return_inverse=True)[1]


def period_weights(periods, draws=1000, seed=0):
    """Weights of the starts in bootstrap samples of whole periods.

    Parameters
    ----------
    periods : array of int (init_time,)
        From `independent_periods`.
    draws, seed : int
        As in `confidence_intervals`.

    Returns
    -------
    DataArray (draw, init_time)
        The weights of each sample add up to 1.
    """
    number = periods.max() + 1
    drawn = np.random.default_rng(seed).integers(0, number, (draws, number))
    weight = np.array([np.bincount(sample, minlength=number)[periods] for sample in drawn])
    return xr.DataArray(weight / weight.sum(axis=1, keepdims=True), dims=("draw", "init_time"))
