"""Scores of an ensemble over the ocean: CRPS, spread, ranks, and the structure of whole fields.

Arrays, masks, weights and missing values are as in :mod:`seaice_lab.diagnostics.scores`; the
members of an ensemble have the dimension ``member``.
"""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.frames import GRID, of_ocean_cells
from seaice_lab.diagnostics.score_tables import common_units, describe_scores
from seaice_lab.diagnostics.scores import cell_weights, check_fields, field_error, ocean_mean
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
    member_count(ensemble, truth, ocean, area)

    def formula(weights, members, truth):
        # The double sum costs a sort instead of m^2 differences: among sorted members, x_(i) is the
        # larger one of i - 1 pairs and the smaller one of m - i, so sum_i<j |x_i - x_j| is the sum
        # of (2 i - m - 1) x_(i).
        count = len(members)
        between = (2.0 * np.arange(1, count + 1) - count - 1) @ np.sort(members, axis=0)
        error = abs(members - truth).mean(axis=0)
        return weights @ (error - between / (count * (count - 1)))

    return _of_members(formula, ensemble, [truth], ocean, area)


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
    member_count(ensemble, ocean=ocean, area=area)

    def formula(weights, members):
        return np.sqrt(weights @ members.var(axis=0, ddof=1))

    return _of_members(formula, ensemble, [], ocean, area)


def _of_members(formula, ensemble, fields, ocean, area, output=()):
    """Apply a formula to the ocean cells of every start and lead time.

    It takes the weights of the cells, members (member, cell) and the values (cell,) of each field.
    """
    count = ensemble.sizes["member"]

    def of_cells(weights, *cells):
        return formula(weights, np.stack(cells[:count]), *cells[count:])

    members = [ensemble.isel(member=number, drop=True) for number in range(count)]
    weights = cell_weights(ocean, area)
    return of_ocean_cells(of_cells, [*members, *fields], ocean, weights, dict(output))


def spread_skill(ensemble, truth, ocean, area=None, dim="init_time"):
    """Spread-skill ratio sqrt((m + 1) / m) spread / RMSE of the ensemble mean.

    A reliable ensemble has 1, one with too little spread less (Fortin et al. 2014,
    doi:10.1175/JHM-D-14-0008.1). To see whether the spread is where the errors are, pass a part of
    the ocean.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area
        As in `rmse`.
    dim : str or sequence of str
        Dimensions over which variance and squared error are averaged before their ratio.

    Returns
    -------
    DataArray (...), float64
    """
    members = member_count(ensemble)
    variance = spread(ensemble, ocean, area) ** 2
    error = field_error(ensemble.mean("member"), truth, ocean, area)
    squared_error = ocean_mean(error**2, ocean, area)
    ratio = (members + 1) / members * variance.mean(dim) / squared_error.mean(dim)
    return ratio**0.5


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
    ranks = np.arange(member_count(ensemble, truth, ocean, area) + 1)

    def formula(weights, members, truth):
        lowest = (members < truth).sum(axis=0)
        equal = (members == truth).sum(axis=0)
        # A cell counts for all ranks from the lowest to lowest + equal: its weight is added there,
        # and taken away behind.
        begin, end = (
            np.bincount(rank, weights / (equal + 1), len(ranks) + 1)
            for rank in (lowest, lowest + equal + 1)
        )
        return np.cumsum(begin - end)[:-1]

    shares = _of_members(formula, ensemble, [truth], ocean, area, {"rank": len(ranks)})
    rank = xr.Variable("rank", ranks, {"long_name": "Members below the truth"})
    return shares.assign_coords(rank=rank).transpose("rank", ...)


def energy_score(ensemble, truth, ocean, area=None):
    """Fair energy score: the CRPS of whole fields, with the root-mean-square over the ocean.

    mean_i |x_i - t| - sum_ij |x_i - x_j| / (2 m (m - 1)), with |.| the root-mean-square (Gneiting
    and Raftery 2007, doi:10.1198/016214506000001437).

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
    members = member_count(ensemble, truth, ocean, area)
    # |x_i - x_j|^2 = |e_i|^2 + |e_j|^2 - 2 e_i e_j for the errors e: one matrix product.
    weight = (xr.ones_like(ocean, "float64") if area is None else area).where(ocean, 0.0)
    error = (ensemble.astype("float64") - truth).where(ocean, 0.0) * (weight / weight.sum()) ** 0.5
    product = xr.dot(error, error.rename(member="other"), dim=GRID)
    same = xr.DataArray(np.eye(members), dims=("member", "other"))
    square = (product * same).sum("other", skipna=False)
    distance = (square + square.rename(member="other") - 2 * product).clip(min=0) ** 0.5
    between = distance.where(same == 0, 0.0).sum(("member", "other"), skipna=False)
    return (square**0.5).mean("member", skipna=False) - between / (2 * members * (members - 1))


def variogram_score(ensemble, truth, ocean, distances=(1, 2, 4, 8), power=0.5):
    """Variogram score: whether the members vary in space as the truth does.

    The mean over pairs of ocean cells a and b at a distance along x or y of
    (|t_a - t_b|^p - mean_i |x_ia - x_ib|^p)^2, minus the variance of the mean over the members
    (Scheuerer and Hamill 2015, doi:10.1175/MWR-D-14-00269.1). It sees wrong correlations, which the
    energy score hardly sees.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean
        As in `rmse`.
    distances : sequence of int
        Cells.
    power : float
        The power p.

    Returns
    -------
    DataArray (distance, ...), float64
    """
    members = member_count(ensemble, truth, ocean)

    def pairs(field, dim, distance):
        first, second = (
            field.isel({dim: slice(*ends)}).drop_vars(GRID, errors="ignore")
            for ends in ((None, -distance), (distance, None))
        )
        return first, second

    def score(distance):
        total, count = 0.0, 0
        for dim in GRID:
            first, second = pairs(ocean, dim, distance)
            both = first & second
            of_truth, of_members = (
                abs(np.subtract(*pairs(field.astype("float64"), dim, distance))) ** power
                for field in (truth, ensemble)
            )
            error = (of_truth - of_members.mean("member", skipna=False)) ** 2
            error = error - of_members.var("member", ddof=1, skipna=False) / members
            total = total + error.where(both, 0.0).sum(GRID, skipna=False)
            count += int(both.sum())
        return total / count

    axis = xr.Variable("distance", list(distances), {"units": "cells"})
    return xr.concat([score(distance) for distance in distances], axis)


def member_count(ensemble, truth=None, ocean=None, area=None):
    """Number of members of an ensemble, after checks of all arrays of a score.

    Parameters
    ----------
    ensemble : DataArray (..., member, y, x)
    truth, ocean, area : optional
        As in `rmse`; checked if they are given.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If it has fewer than two members, or dimensions or coordinates are different.
    """
    members = ensemble.sizes.get("member", 0)
    if members < 2:
        raise InputError(
            f"the ensemble has {members} members along 'member', expected at least 2; a single "
            "forecast has no spread: score it with rmse"
        )
    if ocean is not None:
        member = ensemble.isel(member=0, drop=True)
        check_fields(member, member if truth is None else truth, ocean, area)
    return members
