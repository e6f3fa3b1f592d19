"""Is an ensemble right about its own uncertainty? CRPS, spread and rank histogram over the ocean.

Arrays, masks, weights and missing values as in :mod:`seaice_lab.diagnostics.scores`; members lie
along ``member``.
"""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.score_tables import SCORES
from seaice_lab.diagnostics.scores import GRID, common_units, field_error, ocean_mean
from seaice_lab.errors import InputError


def crps(ensemble, truth, ocean, area=None):
    """Continuous ranked probability score of an ensemble, averaged over the ocean.

    mean_i |x_i - t| - sum_ij |x_i - x_j| / (2 m (m - 1)): the fair score, which does not reward
    a small ensemble for being underdispersive (Ferro 2014, doi:10.1002/qj.2270).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.

    Raises
    ------
    InputError
        If there is a single member.
    """
    members = _members(ensemble)
    field_error(ensemble.isel(member=0, drop=True), truth, ocean, area)
    to_truth = abs(ensemble - truth).mean("member", skipna=False)
    # Of sorted members, x_(i) stands in 2 i - m - 1 signed differences (i from 1).
    order = xr.DataArray(2 * np.arange(1, members + 1) - members - 1, dims="member")
    ranked = xr.apply_ufunc(
        np.sort,
        ensemble,
        input_core_dims=[["member"]],
        output_core_dims=[["member"]],
        dask="parallelized",
        dask_gufunc_kwargs={"allow_rechunk": True},
        output_dtypes=["float64"],
    )
    between = (ranked * order.astype("float64")).sum("member", skipna=False)
    return ocean_mean(to_truth - between / (members * (members - 1)), ocean, area)


def spread(ensemble, ocean, area=None):
    """Spread of an ensemble, sqrt(<variance over members>), with m - 1 in the variance.

    Equal to the RMSE of the ensemble mean times sqrt(m / (m + 1)) when the ensemble is reliable
    (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    ocean, area
        As in `rmse`.
    """
    _members(ensemble)
    variance = ensemble.astype("float64").var("member", ddof=1, skipna=False)
    return ocean_mean(variance, ocean, area) ** 0.5


def rank_histogram(ensemble, truth, ocean):
    """How often the truth falls below, between and above the sorted members.

    Flat for a reliable ensemble, a bowl for one with too little spread (Hamill 2001). A truth that
    equals members (as in open water, where all are zero) counts in equal parts for all ranks that
    it could take.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth : DataArray (..., y, x)
    ocean : DataArray of bool (y, x)

    Returns
    -------
    DataArray (rank,)
        Share of all ocean cells, starts and leads in each of the m + 1 ranks; they sum to 1.
    """
    members = _members(ensemble)
    field_error(ensemble.isel(member=0, drop=True), truth, ocean, None)
    below = (ensemble < truth).sum("member")
    ties = (ensemble == truth).sum("member")
    rank = xr.DataArray(np.arange(members + 1), dims="rank")
    takes = (rank >= below) & (rank <= below + ties)
    known = ensemble.notnull().all("member") & truth.notnull()
    share = (takes / (ties + 1)).where(known).where(ocean, 0.0)
    total = share.sum([dim for dim in share.dims if dim != "rank"], skipna=False)
    cells = int(ocean.sum()) * int(np.prod([truth.sizes[d] for d in truth.dims if d not in GRID]))
    return (total / cells).assign_coords(rank=rank)


def ensemble_scores_by_start(ensemble, truth, ocean, area=None):
    """CRPS and spread of every single start, to stand beside `scores_by_start` of the mean.

    Parameters
    ----------
    ensemble : DataArray (init_time, member, lead_time, y, x)
    truth, ocean, area
        As in `score_table`.

    Returns
    -------
    Dataset
        ``crps``, ``spread`` (init_time, lead_time).
    """
    units = common_units(ensemble, truth)
    found = {"crps": crps(ensemble, truth, ocean, area), "spread": spread(ensemble, ocean, area)}
    attrs = {
        name: {"long_name": SCORES[name][0], "units": units, "cell_methods": SCORES[name][2]}
        for name in found
    }
    return xr.Dataset(
        {
            name: values.drop_attrs(deep=False).assign_attrs(attrs[name])
            for name, values in found.items()
        }
    )


def _members(ensemble):
    members = ensemble.sizes.get("member", 0)
    if members < 2:
        raise InputError(
            f"the ensemble has {members} members along 'member', expected at least 2; a single "
            "forecast has no spread: score it with rmse"
        )
    return members
