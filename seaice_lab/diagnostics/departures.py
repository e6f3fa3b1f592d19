"""Departures of observations from background and analysis: are the assumed errors right?

All functions take a table of observations that were used, with the dimension ``observation``:
``value``, ``sigma`` (standard deviation of its error), ``kind``, ``latitude``, ``longitude``,
``lead_h`` (hours since the start of the window), ``equivalent(state, observation)`` (observation
equivalents of background and analysis) and ``background_sigma`` (standard deviation of the errors
of the background equivalents; NaN if unknown).
"""

import numpy as np
import xarray as xr
from scipy.stats import chi2

from seaice_lab.diagnostics.regions import polar_regions

DAY_H = 24.0


def departure_statistics(table):
    """Departures and ratios of errors, for all observations, by kind, region and day of the window.

    With d_b = y - H(x_b) and d_a = y - H(x_a), consistent errors have E[d_b d_b'] = HBH' + R,
    E[d_a d_b'] = R and E[(d_b - d_a) d_b'] = HBH' (Desroziers et al. 2005,
    doi 10.1256/qj.05.108).

    Parameters
    ----------
    table : xarray.Dataset

    Returns
    -------
    xarray.Dataset
        For each ``group``: ``count``; ``mean`` and ``rms`` (state) of the departures in the unit
        of the kind; ``innovation_ratio``, ``sigma_ratio`` and ``background_ratio``, the estimates
        of HBH' + R, R and HBH' divided by the assumed variances, 1 if these are right. ``by`` is
        what the observations of a group have in common: "kind", "region" or "day".
    """
    by, names, members = zip(*_groups(table), strict=True)
    rows = [_statistics(table.isel(observation=positions)) for positions in members]
    result = xr.concat(rows, xr.Variable("group", list(names)))
    result = result.assign_coords(by=("group", list(by)))
    result["rms"].attrs = {"long_name": "Root mean square of observation minus state"}
    result["mean"].attrs = {"long_name": "Mean of observation minus state"}
    for name, variance in {"innovation": "HBH' + R", "sigma": "R", "background": "HBH'"}.items():
        long_name = f"Estimated divided by assumed variance {variance}"
        result[f"{name}_ratio"].attrs = {"long_name": long_name, "units": "1"}
    return result


def _groups(table):
    """Names of groups and positions of their observations; a group has one kind, hence one unit."""
    kind = table.kind.values
    regions = polar_regions(table.latitude, table.longitude)
    # An observation at the end of a day belongs to that day.
    day = np.maximum(np.ceil(table.lead_h.values / DAY_H), 1)
    for name in np.unique(kind):
        is_kind = kind == name
        yield "kind", str(name), np.flatnonzero(is_kind)
        for region, is_inside in regions.items():
            if (members := np.flatnonzero(is_kind & is_inside.values)).size:
                yield "region", f"{name}, {region}", members
        for number in np.unique(day[is_kind]):
            yield "day", f"{name}, day {number:.0f}", np.flatnonzero(is_kind & (day == number))


def _statistics(table):
    departure = table["value"] - table.equivalent
    background, analysis = (departure.sel(state=s, drop=True) for s in ("background", "analysis"))
    observed, expected = (table[name] ** 2 for name in ("sigma", "background_sigma"))
    ratios = {
        "innovation": (background**2, observed + expected),
        "sigma": (analysis * background, observed),
        "background": ((background - analysis) * background, expected),
    }
    return xr.Dataset(
        {
            "count": departure.sizes["observation"],
            "mean": departure.mean("observation"),
            "rms": (departure**2).mean("observation") ** 0.5,
            **{
                f"{name}_ratio": estimate.mean() / assumed.mean(skipna=False)
                for name, (estimate, assumed) in ratios.items()
            },
        }
    )


def cost_ratio(cost, count):
    """The minimum of the cost divided by its expectation, 2J / p, with its 95 % interval.

    If B and R are right, and the model is linear, 2J at the minimum is a chi-square variable with
    as many degrees of freedom as there are observations (Talagrand 1999).

    Parameters
    ----------
    cost : DataArray (window,)
        J at the minimum.
    count : DataArray of int (window,)
        Number of observations p.

    Returns
    -------
    xarray.Dataset
        ``cost_ratio``, and ``low`` and ``high``, between which 95 % of consistent windows are; NaN
        without observations.
    """
    number = count.where(count > 0)
    limits = {
        name: (number.dims, chi2.ppf(share, number) / number.values)
        for name, share in (("low", 0.025), ("high", 0.975))
    }
    return xr.Dataset({"cost_ratio": 2 * cost / number, **limits})


def report(diagnostics):
    """The diagnostics of a cycle as a text table.

    Parameters
    ----------
    diagnostics : xarray.Dataset
        From :func:`~seaice_lab.assimilation.cycle.diagnostics`.

    Returns
    -------
    str
        One line for each window with observations, and one for each kind of observation.
    """
    if not diagnostics.sizes.get("group"):
        return "no observations were used"
    lines = [f"{'window':18s}{'observations':>13s}{'2J/p':>8s}   95 % of consistent windows"]
    for number in np.flatnonzero(diagnostics.used > 0):
        row = diagnostics.isel(window=number)
        interval = f"{float(row.low):.3f} to {float(row.high):.3f}"
        if np.isnan(row.low):
            interval = "unknown with the Huber norm"
        lines.append(
            f"{np.datetime_as_string(row.window, 'm'):18s}{int(row.used):13d}"
            f"{float(row.cost_ratio):8.3f}   {interval}"
        )
    ratios = ("sigma_ratio", "background_ratio")
    lines.append(
        f"{'kind':18s}{'observations':>13s}{'rms O-B':>9s}{'rms O-A':>9s}   estimated / assumed "
        "variance: observations, background"
    )
    for number in np.flatnonzero(diagnostics.by == "kind"):
        row = diagnostics.isel(group=number)
        rms = "".join(f"{float(row.rms.sel(state=s)):9.3f}" for s in ("background", "analysis"))
        values = ", ".join(f"{float(row[name]):.2f}" for name in ratios)
        lines.append(f"{row.group.item():18s}{int(row['count']):13d}{rms}   {values}")
    return "\n".join(lines)
