"""Twin experiments: observations of a known truth, sampled like those of satellites, with noise."""

import numpy as np

from seaice_lab import grid
from seaice_lab.assimilation.diffusion import implicit_step
from seaice_lab.assimilation.observations import concatenate, observation_table
from seaice_lab.errors import InputError

DAY = np.timedelta64(1, "D")
SMOOTHING_STEPS = 4  # of implicit diffusion; together they are nearly a Gaussian filter


def observe_cells(truth, sigma, every_h=48.0, seed=0):
    """Observe all ocean cells at regular times.

    Parameters
    ----------
    truth : DataArray (time, y, x)
        A variable of a prepared store over the period of the experiment; its name is the kind.
    sigma : float
        Standard deviation of the noise, in the unit of the variable.
    every_h : float
        Hours between two observations of a cell; the first is this long after the first time.
    seed : int
        Seed of the noise.

    Returns
    -------
    xarray.Dataset
        Table of observations.

    Raises
    ------
    InputError
        If the truth has no such times.
    """
    elapsed_h = (truth.time - truth.time[0]) / np.timedelta64(1, "h")
    times = np.flatnonzero((elapsed_h > 0) & (elapsed_h % every_h == 0))
    if not times.size:
        raise InputError(
            f"twin: the truth has no time {every_h:g} h after its first one, "
            f"{truth.time.values[0]}, expected at least one; give a longer truth or another every_h"
        )
    masks = np.broadcast_to(truth.ocean.values, truth.isel(time=times).shape)
    return _table(truth.isel(time=times), masks, sigma, seed)


def observe_tracks(truth, sigma, share=0.05, seed=0):
    """Observe straight tracks in random directions, new ones at each time.

    Parameters
    ----------
    truth, sigma, seed
        As in :func:`observe_cells`; the seed is also that of the tracks. The first time of the
        truth is not observed.
    share : float
        Share of the ocean cells that are observed in a day.

    Returns
    -------
    xarray.Dataset
        Table of observations.

    Raises
    ------
    InputError
        If the share of the cells at one time is not above 0, or is above 1.
    """
    rng, ocean = np.random.default_rng([seed, 1]), truth.ocean.values
    later = truth.isel(time=slice(1, None))
    share_of_time = share * float((truth.time[1] - truth.time[0]) / DAY)
    if not 0 < share_of_time <= 1:
        raise InputError(
            f"twin: share {share:g} of a day is {share_of_time:g} of the cells at each time of the "
            "truth, expected more than 0 and at most 1; give another share"
        )
    masks = [_tracks(ocean, share_of_time, rng) for _ in later.time]
    return _table(later, np.array(masks), sigma, seed)


def _tracks(ocean, share, rng):
    """Mask of the cells on random lines, as many lines as the share needs."""
    rows, columns = np.indices(ocean.shape)
    cells, mask = np.argwhere(ocean), np.zeros_like(ocean)
    while mask.sum() < share * len(cells):
        row, column = rng.choice(cells)
        angle = rng.uniform(0, np.pi)
        distance = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
        mask |= ocean & (np.abs(distance) <= 0.5)
    return mask


def observe_weekly_maps(truth, sigma, smoothing_km=75.0, seed=0):
    """Observe smooth maps of the mean over each week, like merged satellite products.

    Only cells at the distance of the smoothing are observed, because closer ones would have
    correlated errors in a real product.

    Parameters
    ----------
    truth, sigma, seed
        As in :func:`observe_cells`.
    smoothing_km : float
        Standard deviation of the Gaussian with which the maps are smoothed, around land.

    Returns
    -------
    xarray.Dataset
        Table of observations, each with the period of its mean.

    Raises
    ------
    InputError
        If the truth is shorter than a week.
    """
    week = round(float(7 * DAY / (truth.time[1] - truth.time[0])))
    if truth.sizes["time"] <= week:
        raise InputError(
            f"twin: the truth has {truth.sizes['time']} times, expected more than the {week} of a "
            "week; give a longer truth"
        )
    ocean, sides = truth.ocean.values, grid.cell_sides(truth.latitude, truth.longitude)
    # A step of implicit diffusion with the length l has the variance 2 l^2 in each direction.
    length_m = smoothing_km * 1e3 / np.sqrt(2 * SMOOTHING_STEPS)
    smoothing = implicit_step(ocean, sides, length_m)[1] ** SMOOTHING_STEPS
    apart = max(round(smoothing_km * 1e3 / grid.spacing_m(truth)), 1)
    mask = np.zeros_like(ocean)
    mask[::apart, ::apart] = ocean[::apart, ::apart]
    weights = np.ones(week + 1)
    weights[[0, -1]] = 0.5  # trapezoidal rule: states are linear between their times
    tables = []
    for number, first in enumerate(range(0, truth.sizes["time"] - week, week)):
        frames = truth.isel(time=slice(first, first + week + 1))
        mean = frames.isel(time=[week // 2]).copy()
        weekly = np.average(frames.values[:, ocean], axis=0, weights=weights)
        mean.values[:, ocean] = smoothing @ weekly
        start, end = frames.time.values[[0, -1]]
        table = _table(mean, mask[None], sigma, [seed, number])
        table["time_start"][:], table["time_end"][:] = start, end
        table["correlation_length"][:] = table["smoothing"][:] = smoothing_km * 1e3
        tables.append(table)
    return concatenate(tables)


def _table(truth, masks, sigma, seed):
    """Observations of the cells of masks (time, y, x) with noise."""
    time, row, column = np.nonzero(masks)
    values = truth.values[time, row, column].astype(float)
    noise = np.random.default_rng(seed).standard_normal(values.size)
    return observation_table(
        {
            "time": truth.time.values[time],
            "latitude": truth.latitude.values[row, column],
            "longitude": truth.longitude.values[row, column],
            "value": values + sigma * noise,
            "sigma": sigma,
            "kind": truth.name,
            "source": "twin experiment",
        }
    )
