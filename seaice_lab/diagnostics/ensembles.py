"""Scores of an ensemble over the ocean: CRPS, spread and ranks of the truth.

Arrays, masks, weights and missing values are as in :mod:`seaice_lab.diagnostics.scores`; the
members of an ensemble have the dimension ``member``.
"""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.score_tables import describe_scores
from seaice_lab.diagnostics.scores import common_units, field_error, ocean_mean
from seaice_lab.errors import InputError


def crps(ensemble, truth, ocean, area=None):
    """Continuous ranked probability score of an ensemble, averaged over the ocean.

    mean_i |x_i - t| - sum_ij |x_i - x_j| / (2 m (m - 1)) for m members x_i and the truth t: the
    fair score, which does not reward a small ensemble for being underdispersive (Ferro 2014,
    doi:10.1002/qj.2270).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.
    """
    members = _member_count(ensemble)
    field_error(ensemble.isel(member=0, drop=True), truth, ocean, area)  # only for its checks
    error = abs(ensemble - truth).mean("member", skipna=False)
    # The double sum costs a sort instead of m^2 differences: among sorted members, x_(i) is the
    # larger one of i - 1 pairs and the smaller one of m - i, so sum_i<j |x_i - x_j| is the sum of
    # (2 i - m - 1) x_(i).
    weight = xr.DataArray(2.0 * np.arange(1, members + 1) - members - 1, dims="member")
    ranked = xr.apply_ufunc(
        np.sort,
        ensemble,
        input_core_dims=[["member"]],
        output_core_dims=[["member"]],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
    )
    between = (ranked * weight).sum("member", skipna=False)
    return ocean_mean(error - between / (members * (members - 1)), ocean, area)


def spread(ensemble, ocean, area=None):
    """Spread of an ensemble, sqrt(<variance over members>), with m - 1 in the variance.

    For a reliable ensemble it equals the RMSE of the ensemble mean times sqrt(m / (m + 1)) (Fortin
    et al. 2014, doi:10.1175/JHM-D-14-0008.1).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (...), float64
        In the unit of the field.
    """
    _member_count(ensemble)
    variance = ensemble.astype("float64").var("member", ddof=1, skipna=False)
    return ocean_mean(variance, ocean, area) ** 0.5


def ensemble_scores_by_start(ensemble, truth, ocean, area=None):
    """CRPS and spread of each start, to merge with `scores_by_start` of the ensemble mean.

    Parameters
    ----------
    ensemble : DataArray (init_time, member, lead_time, y, x)
    truth, ocean, area
        As in `scores_by_start`.

    Returns
    -------
    Dataset
        ``crps`` and ``spread``, each (init_time, lead_time), and ``rank_histogram`` (rank,
        init_time, lead_time).
    """
    units = common_units(ensemble, truth)
    scores = {"crps": crps(ensemble, truth, ocean, area), "spread": spread(ensemble, ocean, area)}
    scores["rank_histogram"] = rank_histogram(ensemble, truth, ocean, area)
    return describe_scores(scores, units)


def rank_histogram(ensemble, truth, ocean, area=None):
    """Share of the ocean in which the truth exceeds 0, 1, ... m of the m members.

    For a reliable ensemble, every share is 1 / (m + 1) (Hamill 2001,
    doi:10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2). Higher shares at both ends mean that the
    spread is too small. Where the truth equals some members, as in open water, the cell counts
    equally for all ranks between them.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.

    Returns
    -------
    DataArray (rank, ...), float64
        The shares of all ranks add up to 1.
    """
    ranks = np.arange(_member_count(ensemble) + 1)
    below, equal = (ensemble < truth).sum("member"), (ensemble == truth).sum("member")
    # A missing value has no rank; it makes its start missing, as in the other scores.
    weight = (1 / (equal + 1)).where((ensemble - truth).notnull().all("member"))
    shares = [
        ocean_mean(weight * ((below <= rank) & (rank <= below + equal)), ocean, area)
        for rank in ranks
    ]
    return xr.concat(shares, xr.Variable("rank", ranks, {"long_name": "Members below the truth"}))


def _member_count(ensemble):
    members = ensemble.sizes.get("member", 0)
    if members < 2:
        raise InputError(
            f"the ensemble has {members} members along 'member', expected at least 2; a single "
            "forecast has no spread: score it with rmse"
        )
    return members
