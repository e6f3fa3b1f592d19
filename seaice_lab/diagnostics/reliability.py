"""Is an ensemble reliable? Ranks, probabilities, intervals, and the ensemble that it must beat.

Arrays, masks, weights and missing values are as in :mod:`seaice_lab.diagnostics.ensembles`.
"""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.ensembles import member_count
from seaice_lab.diagnostics.scores import field_error, ocean_mean
from seaice_lab.errors import InputError


def rank_distance(histogram):
    """Distance of a rank histogram from a flat one, sum_k |f_k - 1 / (m + 1)|.

    Parameters
    ----------
    histogram : DataArray (rank, ...)
        From `rank_histogram`, averaged over starts.

    Returns
    -------
    DataArray (...), float64
        From 0 (reliable) to nearly 2.
    """
    return abs(histogram - 1 / histogram.sizes["rank"]).sum("rank", skipna=False)


def spread_skill_by_spread(ensemble, truth, ocean, bins=10):
    """Error of the ensemble mean where the ensemble predicts a small or a large spread.

    Parameters
    ----------
    ensemble : DataArray (init_time, member, lead_time, y, x)
    truth, ocean
        As in `rmse`.
    bins : int
        Classes of the predicted spread, with equal numbers of cells.

    Returns
    -------
    Dataset
        ``spread``, which includes the factor sqrt((m + 1) / m), and ``rmse`` of the ensemble mean,
        each (bin, lead_time). They are equal for a reliable ensemble of many members; chance in
        the variance of a few members makes the error vary less than the spread.
    """
    members = member_count(ensemble)
    error = field_error(ensemble.mean("member"), truth, ocean)
    variance = (members + 1) / members * ensemble.astype("float64").var("member", ddof=1)
    flat = {"cell": [name for name in error.dims if name != "lead_time"]}
    inside = ocean.broadcast_like(error).stack(flat)
    columns = [values.stack(flat).transpose("lead_time", "cell") for values in (variance, error**2)]
    inside = inside.transpose("lead_time", "cell").values
    result = np.full((2, bins, error.sizes["lead_time"]), np.nan)
    for lead, cells in enumerate(inside):
        pair = np.stack([values.values[lead, cells] for values in columns])
        for number, in_bin in enumerate(np.array_split(np.argsort(pair[0]), bins)):
            result[:, number, lead] = pair[:, in_bin].mean(1) ** 0.5
    coords = {"lead_time": error.lead_time}
    return xr.Dataset(
        {name: (("bin", "lead_time"), result[n]) for n, name in enumerate(("spread", "rmse"))},
        coords=coords,
    )


def reliability(ensemble, truth, threshold, ocean, area=None, dim="init_time"):
    """How often an event happens where the ensemble gives it each probability.

    The event is a value above the threshold. The probabilities are 0, 1/m, ... 1: the share of the
    members with the event.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.
    threshold : float
        In the unit of the field.
    dim : str or sequence of str
        Dimensions over which cells are pooled.

    Returns
    -------
    Dataset
        ``observed``, the frequency of the event, and ``share``, the share of the ocean, each
        (probability, ...). A reliable ensemble has ``observed`` equal to the probability.
    """
    members = member_count(ensemble, truth, ocean, area)
    is_valid = (ensemble - truth).notnull().all("member")
    count = (ensemble > threshold).sum("member").where(is_valid)
    numbers = xr.DataArray(np.arange(members + 1), dims="probability")
    numbers = numbers.assign_coords(probability=numbers / members)
    share = ocean_mean((count == numbers).astype("float64"), ocean, area).mean(dim)
    hits = ocean_mean(((count == numbers) & (truth > threshold)).astype("float64"), ocean, area)
    observed = hits.mean(dim) / share.where(share > 0)
    return xr.Dataset({"observed": observed, "share": share})


def coverage(ensemble, truth, level, ocean, area=None):
    """Share of the ocean in which the truth is inside the central interval of the members.

    The quantile q is that between the members number q (m + 1), so that a reliable ensemble covers
    the share ``level``, or (m - 1) / (m + 1) if that is less: the range of its members. Bounds
    belong to the interval, so that open water with ice in no member counts as inside.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.
    level : float
        Probability of the interval, such as 0.9.

    Returns
    -------
    DataArray (...), float64
    """
    member_count(ensemble, truth, ocean, area)
    tails = [(1 - level) / 2, (1 + level) / 2]
    limits = ensemble.quantile(tails, "member", method="weibull", skipna=False)
    low, high = (limits.isel(quantile=k, drop=True) for k in (0, 1))
    inside = ((low <= truth) & (truth <= high)).where((high - truth).notnull())
    return ocean_mean(inside.astype("float64"), ocean, area)


def volume_calibration(ensemble, truth, ocean, area=None):
    """Whether the truth's mean over the ocean, such as the volume of ice, is inside the members'.

    Parameters
    ----------
    ensemble : DataArray (init_time, member, lead_time, y, x)
    truth, ocean, area
        As in `rmse`.

    Returns
    -------
    Dataset
        For the mean over the ocean, ``bias`` and ``rmse`` of the mean of the members and their
        ``spread``, in the unit of the field; ``spread_skill``, the ratio of
        :func:`seaice_lab.diagnostics.ensembles.spread_skill`; and ``inside``, the share of starts
        with the truth between the lowest and the highest member; each (lead_time).
    """
    members = member_count(ensemble, truth, ocean, area)
    error = ocean_mean(ensemble.astype("float64") - truth, ocean, area)
    inside = (error.min("member") <= 0) & (error.max("member") >= 0)
    variance = error.var("member", ddof=1).mean("init_time")
    squared_error = (error.mean("member") ** 2).mean("init_time")
    return xr.Dataset(
        {
            "bias": error.mean(("member", "init_time")),
            "rmse": squared_error**0.5,
            "spread": variance**0.5,
            "spread_skill": ((members + 1) / members * variance / squared_error) ** 0.5,
            "inside": inside.mean("init_time"),
        }
    )


def dress(forecast, errors, members, seed=0, minimum=0.0):
    """Dress a single forecast with past errors: the ensemble that a useful one must beat.

    With the errors of a deterministic network on the validation split it is calibrated on average,
    and knows nothing of the present state.

    Parameters
    ----------
    forecast : DataArray (init_time, lead_time, y, x)
    errors : DataArray (init_time, lead_time, y, x)
        Truth minus forecast of other starts, at the same lead times. For persistence: the changes
        of the truth since the start.
    members : int
        Number of errors that are drawn for each start.
    seed : int
    minimum : float or None
        Smallest possible value of the field.

    Returns
    -------
    DataArray (init_time, member, lead_time, y, x)

    Raises
    ------
    InputError
        If there are fewer errors than members.
    """
    count = errors.sizes["init_time"]
    if count < members:
        raise InputError(
            f"errors: holds {count} starts, expected at least {members}, one for each member; "
            "score more starts or ask for fewer members"
        )
    rng, dims = np.random.default_rng(seed), ("init_time", "member")
    drawn = [rng.choice(count, members, replace=False) for _ in range(forecast.sizes["init_time"])]
    errors = errors.drop_vars([name for name in errors.coords if name not in errors.dims])
    errors = errors.drop_vars("init_time", errors="ignore")
    result = forecast + errors.isel(init_time=xr.DataArray(np.array(drawn), dims=dims))
    result = result.clip(min=minimum).transpose(*dims, ...)
    return result.assign_attrs(forecast.attrs)
