"""Quality control of observations: functions that reject or combine observations of a table.

The rejecting functions return the table with a reason in ``quality``.
"""

import numpy as np
from scipy.spatial import cKDTree

from seaice_lab import grid
from seaice_lab.assimilation import observations
from seaice_lab.assimilation.interpolation import cell_weights
from seaice_lab.assimilation.observation_files import read_observations
from seaice_lab.assimilation.observations import KINDS, observation_table, reject
from seaice_lab.errors import InputError, listed
from seaice_lab.surrogate.store import open_store

HALF_DAY = np.timedelta64(12, "h")
PERIOD = ["time_start", "time_end"]
TRACK_GAP = np.timedelta64(10, "m")  # between two passes of a satellite over the same cell


def prepare_table(paths, config):
    """Read files of observations, and reject, thin or combine them.

    Parameters
    ----------
    paths : sequence of str or Path
    config : ObservationFilesConfig

    Returns
    -------
    xarray.Dataset
        A table.

    Raises
    ------
    InputError
        As from :func:`~seaice_lab.assimilation.observation_files.read_observations`, or if no
        observation is left.
    """
    # A wrong store is refused before many files are read.
    store = None if config.cells_of is None else open_store(config.cells_of)
    table = check_duplicates(check_range(read_observations(paths, config)))
    table = thin(table, None if config.thin_km is None else 1e3 * config.thin_km)
    if store is not None:
        table = superobservations(table, store, config.representation_error, config.track_error)
    observations.refuse_unused(table, listed(paths))
    return table


def check_range(table):
    """Reject values outside the range of their kind.

    Parameters
    ----------
    table : xarray.Dataset

    Returns
    -------
    xarray.Dataset
    """
    low, high = np.array([KINDS[kind].limits for kind in table.kind.values]).reshape(-1, 2).T
    is_outside = (table.value.values < low) | (table.value.values > high)
    return reject(table, is_outside, "outside_range")


def check_duplicates(table):
    """Reject all but the first observation of the same kind, source, period and position.

    Parameters
    ----------
    table : xarray.Dataset

    Returns
    -------
    xarray.Dataset
    """
    frame = table.to_dataframe()[["quality", "kind", "source", *PERIOD, "latitude", "longitude"]]
    # Quality is compared too, because a rejected observation does not replace one that is used.
    return reject(table, frame.duplicated(), "duplicate")


def check_background(table, equivalents, sigma, factor):
    """Reject observations far from the background, |d| > k sqrt(sigma_o^2 + sigma_b^2).

    Parameters
    ----------
    table : xarray.Dataset
    equivalents : array_like (observation,)
        Observation equivalents of the background, H(x_b).
    sigma : array_like (observation,) or float
        Standard deviation of the errors of the equivalents, sigma_b.
    factor : float
        k, usually 3 to 5.

    Returns
    -------
    xarray.Dataset
    """
    departures = np.abs(table.value.values - equivalents)
    expected = np.hypot(table.sigma.values, sigma)
    return reject(table, ~(departures <= factor * expected), "far_from_background")


def thin(table, distance_m=None):
    """Reject observations that are close to a more exact one in space and time.

    Observations of one kind and source are considered in the order of their errors, the smallest
    first. Each one that is kept rejects the others within the distance whose time differs by less
    than the period of the mean, or by less than 12 hours if that is more.

    Parameters
    ----------
    table : xarray.Dataset
    distance_m : float, optional
        Metres. By default the correlation length of the errors of each observation, and no
        thinning where it is unknown or 0.

    Returns
    -------
    xarray.Dataset
    """
    rejected = np.zeros(table.sizes["observation"], bool)
    frame = table[["kind", "source", "quality"]].to_dataframe()
    for rows in frame[frame.quality == 0].groupby(["kind", "source"]).groups.values():
        rejected[rows] = _thinned(table.isel(observation=rows), distance_m)
    return reject(table, rejected, "thinned")


def _thinned(table, distance_m):
    """True where an observation is rejected; all have one kind and source."""
    phi, lam = np.radians(table.latitude.values), np.radians(table.longitude.values)
    points = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], -1)
    tree = cKDTree(points * grid.EARTH_RADIUS_M)
    radius = table.correlation_length.values if distance_m is None else distance_m
    radius = np.broadcast_to(radius, phi.shape)
    time = table.time.values
    apart = np.maximum(table.time_end.values - table.time_start.values, HALF_DAY)
    kept, rejected = ~(radius > 0), np.zeros(phi.size, bool)
    for row in np.lexsort((time, table.sigma.values)):
        if not (rejected[row] or kept[row]):
            kept[row] = True
            near = np.array(tree.query_ball_point(tree.data[row], radius[row]))
            is_close = np.abs(time[near] - time[row]) < apart[row]
            rejected[near[is_close & ~kept[near]]] = True
    return rejected


def superobservations(table, store, representation=0.0, common=0.0):
    """Weighted mean of the observations of each kind and source in each cell and on each day.

    Values of maps with different smoothing are not combined.

    sigma^2 = sigma_i^2 / N + common^2 / tracks + representation^2, where sigma_i^2 / N is the error
    of a mean with the weights 1 / sigma^2. The common error of a track, such as that of the sea
    level, does not become smaller with the number of its values.

    Parameters
    ----------
    table : xarray.Dataset
        Means over a period are combined with those of the same period only.
    store : xarray.Dataset
        With ``latitude``, ``longitude`` and ``ocean`` (y, x).
    representation : float
        Standard deviation of the representation error: the difference between the mean of exact
        values and the mean of the whole cell, in the unit of the values.
    common : float
        Standard deviation of the error that all values of a track have in common, in the unit of
        the values.

    Returns
    -------
    xarray.Dataset
        A new table of the observations that are used and in an ocean cell, at its centre.

    Raises
    ------
    InputError
        If one of these errors is given for a table of several variables.
    """
    table = observations.used(table).sortby("time")
    variables = sorted({KINDS[kind].variable for kind in table.kind.values})
    if len(variables) > 1 and (representation or common):
        raise InputError(
            f"observations: hold {', '.join(variables)}, expected one variable if "
            "representation_error or track_error is given, because these have a unit; combine each "
            "variable separately"
        )
    cells, _, reason = cell_weights(table.latitude.values, table.longitude.values, store)
    frame = table.to_dataframe().assign(cell=cells[:, 0])  # the first of the four is the nearest
    # The values of a track follow each other; a satellite passes again after an orbit.
    frame["track"] = (
        (frame.groupby("source").time.diff() > TRACK_GAP).groupby(frame.source).cumsum()
    )
    frame["weight"] = frame.sigma**-2.0
    frame["value"] *= frame.weight
    is_mean = frame.time_end > frame.time_start
    period = {key: frame[key].where(is_mean, frame.time.dt.floor("D")) for key in PERIOD}
    period["smoothing"] = frame.smoothing.fillna(0.0)  # both are values without a filter
    frame = frame.assign(**period)[reason == "used"]
    groups = frame.groupby(["kind", "source", "cell", "smoothing", *PERIOD], as_index=False)
    rows = groups.agg(
        time=("time", "mean"),
        value=("value", "sum"),
        weight=("weight", "sum"),
        tracks=("track", "nunique"),
        correlation_length=("correlation_length", "mean"),
        concentration=("concentration", "mean"),
    )
    rows["value"] /= rows.weight
    rows["sigma"] = np.sqrt(1 / rows.weight + common**2 / rows.tracks + representation**2)
    is_mean = rows.time_end > rows.time_start
    for name in PERIOD:
        rows[name] = rows[name].where(is_mean, rows.time)
    for name in ("latitude", "longitude"):
        rows[name] = store[name].values.ravel()[rows.cell]
    return observation_table(dict(rows.drop(columns=["cell", "weight", "tracks"])))
