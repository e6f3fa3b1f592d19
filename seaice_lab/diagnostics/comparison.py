"""Comparison of runs: scores over the starts that all runs share, skill with its significance."""

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab.diagnostics import scores
from seaice_lab.diagnostics.bootstrap import (
    WEATHER_DAYS,
    confidence_intervals,
    correlated_starts,
    independent_periods,
    pooled_samples,
    start_weights,
)
from seaice_lab.diagnostics.score_tables import pool_starts
from seaice_lab.diagnostics.smoothing import effective_resolution
from seaice_lab.diagnostics.spectra import spectral_exponent
from seaice_lab.errors import InputError
from seaice_lab.names import in_days, typeset

DAY = np.timedelta64(1, "D")
BY_START, BY_REGION = "_by_start", "_by_start_and_region"
# Least number of independent starts for an interval. If one forecast is better at all n starts, the
# p value of the two-sided sign test is 2 / 2^n, which is below 5 % from six starts on.
FEWEST_INDEPENDENT = 6
PERFECT = {
    "rmse": 0,
    "mean_absolute_error": 0,
    "crps": 0,
    "edge_error": 0,
    "edge_error_over": 0,
    "edge_error_under": 0,
    "correlation": 1,
    "anomaly_correlation": 1,
}  # scores that have a skill, with the score of a perfect forecast


def pool_scores(by_start, by_region=None):
    """All scores of an evaluation, from the scores of each start.

    Parameters
    ----------
    by_start : Dataset (source, init_time, lead_time)
        From `seaice_lab.diagnostics.score_tables.scores_by_start`, by source; with ``verified`` as
        in `pool_starts`, if some starts have no truth at some lead times.
    by_region : Dataset (source, init_time, lead_time, region), optional
        From `seaice_lab.diagnostics.regions.scores_by_region`, by source.

    Returns
    -------
    Dataset
        As from `pool_starts`, with ``skill`` against persistence, intervals ``<score>_low`` and
        ``<score>_high`` over the starts and, in regions, ``<score>_by_region`` and
        ``<score>_by_start_and_region``.
    """
    table, partial = pool_starts(by_start), "verified" in by_start
    if "persistence" in table.source:
        table["skill"] = scores.skill(table.rmse, table.rmse.sel(source="persistence", drop=True))
        table["skill"].attrs = {"long_name": "Skill against persistence", "units": "1"}
    if by_region is not None:
        pooled = pool_starts(by_region.assign(by_start[["verified"] if partial else []]))
        for name in by_region:
            table[f"{name}_by_region"] = pooled[name].assign_attrs(table[name].attrs)
            of_starts = by_region[name].astype("float32")
            table[f"{name}{BY_REGION}"] = of_starts.assign_attrs(table[name].attrs)
    if by_start.sizes["init_time"] > 1:
        # Starts in the same weather have similar errors and are drawn together.
        single = by_start.drop_vars("rank_histogram", errors="ignore")
        block = correlated_starts(by_start.init_time)
        table = table.assign(confidence_intervals(single, block=block).data_vars)
    return table


def starts_of(table, ending=BY_START):
    """The scores of each start in a table of :func:`pool_scores`.

    Parameters
    ----------
    table : Dataset
    ending : str
        Of the names: `BY_START`, or `BY_REGION` for the scores of each start in the regions.

    Returns
    -------
    Dataset
        Scores by their plain names.
    """
    names = {name: name.removesuffix(ending) for name in table if name.endswith(ending)}
    return table[[*names]].rename(names)


def on_common_starts(tables, measure=None, reference=None):
    """Scores of several runs, pooled over the starts that they share.

    Errors depend on the weather, so means over different starts must not be compared.

    Parameters
    ----------
    tables : dict of str to Dataset
        From :func:`pool_scores`, as in ``scores.nc``, by name of the run.
    measure : str, optional
        Run that the others must share starts with; the one with most starts by default.
    reference : str, optional
        Source that every table must have.

    Returns
    -------
    tables : dict of str to Dataset
        In the given order, with equal ``init_time``. A table that has no other starts is the given
        one; regions of the others are left out if their scores are not known by start.
    left_out : dict of str to str
        Why a run cannot be compared, by its name.

    Raises
    ------
    InputError
        If there is no table of the run ``measure``.
    """
    if measure and measure not in tables:
        raise InputError(
            f"measure: there is no evaluated run {measure!r}; the runs are {', '.join(tables)}"
        )
    measure = measure or max(tables, key=lambda name: tables[name].sizes["init_time"])
    first, common = tables[measure], tables[measure].init_time.values
    comparable, left_out = {}, {}
    for name, table in tables.items():
        shared = np.intersect1d(common, table.init_time.values)
        units = table.rmse.attrs.get("units"), first.rmse.attrs.get("units")
        if units[0] != units[1]:
            left_out[name] = f"its scores are in {units[0]}, those of {measure} in {units[1]}"
        elif reference and reference not in table.source.values:
            left_out[name] = f"it was evaluated without {reference.replace('_', ' ')}"
        elif not len(shared):
            left_out[name] = f"it shares no start date with {measure} and the runs before it"
        else:
            common, comparable[name] = shared, table
    return {name: _select_starts(table, common) for name, table in comparable.items()}, left_out


def _select_starts(table, starts):
    if np.array_equal(table.init_time.values, starts):
        return table
    table = table.sel(init_time=starts)
    by_region = starts_of(table, BY_REGION)
    return pool_scores(starts_of(table), by_region if len(by_region) else None)


def pool_spectra(power):
    """Mean spectrum of all starts, its exponent, and the effective resolution of the forecast.

    Parameters
    ----------
    power : DataArray (source, init_time, lead_time, wavenumber)
        From `seaice_lab.diagnostics.spectra.power_spectrum`, for the sources "truth" and "forecast"
        and perhaps others. NaN where a start has no truth.

    Returns
    -------
    Dataset
        ``power`` (source, lead_time, wavenumber), ``slope`` (source, lead_time) and ``resolution``
        (lead_time). The slope is NaN if the grid is too small for an exponent. The attribute
        ``starts`` is the number of starts.
    """
    mean = power.mean("init_time", keep_attrs=True).astype("float64")
    try:
        spectrum = spectral_exponent(mean).assign(power=mean)
    except InputError as reason:  # a grid too small for an exponent still has scores
        print(f"no spectral exponent: {reason}")
        missing = xr.full_like(mean.isel(wavenumber=0, drop=True), np.nan).rename(None)
        spectrum = xr.Dataset({"slope": missing, "power": mean})
    spectrum["resolution"] = effective_resolution(
        mean.sel(source="forecast", drop=True), mean.sel(source="truth", drop=True)
    )
    return spectrum.assign_attrs(comment=mean.attrs["comment"], starts=power.sizes["init_time"])


def spectra_on_common_starts(spectra):
    """Spectra of several runs, averaged over the starts that they share.

    Parameters
    ----------
    spectra : dict of str to Dataset
        As in ``spectra.nc``, by name of the run. The others are compared with the first run.

    Returns
    -------
    spectra : dict of str to Dataset
        In the given order. A run that has no other starts keeps the given spectra, and so does one
        whose file has no spectra of single starts.
    notes : dict of str to str
        By the name of a run: why it is left out, or that its mean is over its own starts.
    """
    common, kept, notes = None, {}, {}
    for name, spectrum in spectra.items():
        if f"power{BY_START}" not in spectrum:
            kept[name] = spectrum
            if len(spectra) > 1:
                notes[name] = (
                    "its spectra are means over its own starts, because it has very many starts; "
                    "forecast from fewer starts (every) to compare common starts"
                )
            continue
        starts = spectrum.init_time.values
        shared = starts if common is None else np.intersect1d(common, starts)
        if len(shared):
            common, kept[name] = shared, spectrum
        else:
            notes[name] = "it is left out, because it shares no start date with the runs before it"
    return {name: _spectra_of_starts(spectrum, common) for name, spectrum in kept.items()}, notes


def _spectra_of_starts(spectrum, starts):
    """Spectra of a run averaged over some of its starts, or as given if these are not known."""
    name = f"power{BY_START}"
    if name not in spectrum or not np.isin(starts, spectrum.init_time).all():
        return spectrum
    if np.array_equal(spectrum.init_time.values, starts):
        return spectrum
    return pool_spectra(spectrum[name].sel(init_time=starts))


def skill_with_interval(table, reference, name="rmse", level=0.95):
    """Skill of a score against that of a reference, and its interval over the starts.

    The skill is (score - reference) / (perfect score - reference). Both are pooled over the same
    bootstrap samples of starts, so that weather which is difficult for both does not count as a
    difference (paired bootstrap).

    Parameters
    ----------
    table, reference : Dataset
        One source each of tables from :func:`on_common_starts`.
    name : str
        A key of `PERFECT`.
    level : float
        Probability inside the interval.

    Returns
    -------
    Dataset
        ``skill``, ``low`` and ``high`` (lead_time), at the lead times that both have. The
        difference is significant where the interval excludes 0. The interval is NaN if the starts,
        or those with truth at a lead time, are too few; see `too_few_starts`.
    """
    tables, mask = (table, reference), f"verified{BY_START}"
    fields = [each[f"{name}{BY_START}"].rename(name).astype("float64") for each in tables]
    fields += [each[mask] for each in tables if mask in each]
    values, compared, *masks = xr.align(*fields)
    verified = masks[0] & masks[-1] if masks else None
    weights = xr.DataArray(np.full((1, len(values)), 1 / len(values)), dims=("draw", "init_time"))
    result = xr.Dataset({"skill": _skill(values, compared, weights, verified).isel(draw=0)})
    if too_few_starts(values):
        return result.assign(low=result.skill * np.nan, high=result.skill * np.nan)
    weights = start_weights(len(values), block=correlated_starts(values.init_time))
    samples = _skill(values, compared, weights, verified)
    limits = [(1 - level) / 2, (1 + level) / 2]
    bounds = samples.quantile(limits, "draw", skipna=verified is not None)
    if verified is not None:
        period = independent_periods(values.init_time)
        in_period = verified.groupby(xr.DataArray(period, dims="init_time", name="period")).any()
        bounds = bounds.where(in_period.sum("period") >= FEWEST_INDEPENDENT)
    return result.assign(low=bounds[0].drop_vars("quantile"), high=bounds[1].drop_vars("quantile"))


def too_few_starts(table):
    """Why the starts of a table are too few for an interval, in a sentence; else nothing.

    Parameters
    ----------
    table : Dataset or DataArray
        With ``init_time``.

    Returns
    -------
    str
        Starts within five days, the lifetime of a weather system, count as one. Fewer than six
        cannot be significant at 95 % (sign test).
    """
    number = independent_periods(table.init_time).max() + 1
    if number >= FEWEST_INDEPENDENT:
        return ""
    count = table.sizes["init_time"]
    return (
        f"{count} start date{'s' if count > 1 else ''}, {number} of them independent (at least "
        f"{WEATHER_DAYS} days apart); a comparison takes at least {FEWEST_INDEPENDENT}"
    )


def _skill(values, compared, weights, verified):
    score, reference = (pooled_samples(field, weights, verified) for field in (values, compared))
    difference = PERFECT[values.name] - reference
    return (score - reference) / difference.where(difference != 0)


def headline(table, reference, label, name, lead):
    """A score at a lead time in words, such as "+5.5 days: RMSE 0.076 m, 33 % below persistence".

    Parameters
    ----------
    table, reference : Dataset
        One source each of tables from :func:`on_common_starts`; the reference may be None.
    label : str
        Name of the reference.
    name : str
        Score.
    lead : timedelta64
        The nearest one of the table is taken.

    Returns
    -------
    str
        With the number of starts, and whether the difference may be chance.
    """
    # The lead times of a shorter or coarser forecast may not contain this one.
    lead = table.lead_time.sel(lead_time=lead, method="nearest").values
    attrs, value = table[name].attrs, _at(table, name, lead)
    units = "" if attrs.get("units", "1") == "1" else typeset(attrs["units"])
    score = "RMSE" if name == "rmse" else attrs["long_name"].lower()
    text = f"+{in_days(lead / DAY)}: {score} {value:.{decimals([value])}f} {units}".rstrip()
    if reference is not None and name in reference and np.isfinite(_at(reference, name, lead)):
        text += f", {_compared(table, reference, label, name, lead)}"
    count = table.sizes["init_time"]
    if "start_count" in table:  # the truth ends before the last forecasts do
        count = int(table.start_count.sel(lead_time=lead))
    return f"{text} ({count} start{'s' if count > 1 else ''})"


def _compared(table, reference, label, name, lead):
    other = _at(reference, name, lead)
    if name not in PERFECT:
        return f"{label} {other:.{decimals([other])}f}"
    result = skill_with_interval(table, reference, name).sel(lead_time=lead, method="nearest")
    skill = float(result.skill)
    if PERFECT[name] == 0:
        text = f"{abs(skill):.0%} {'below' if skill >= 0 else 'above'} {label}".replace("%", " %")
    else:
        text = f"{label} {other:.{decimals([other])}f}"
    if np.isnan(result.low):
        return f"{text}, which may be chance, because few starts are independent"
    return f"{text}, which may be chance" if result.low <= 0 <= result.high else text


def _at(table, name, lead):
    return float(table[name].sel(lead_time=lead, method="nearest"))


def summary(tables, spectra, against="persistence"):
    """Scores of runs at the last lead time that all of them have.

    Parameters
    ----------
    tables : dict of str to Dataset
        From :func:`on_common_starts`, by name of the run.
    spectra : dict of str to Dataset
        Spectra by the same names, as in ``spectra.nc``.
    against : str
        Source for the skill.

    Returns
    -------
    pandas.DataFrame
        One row of text for each run.
    """
    lead = min(table.lead_time.values[-1] for table in tables.values())
    rows = {}
    for name, table in tables.items():
        forecast, reference = table.sel(source="forecast"), table.sel(source=against)
        units = table.rmse.attrs["units"]
        result = skill_with_interval(forecast, reference).sel(lead_time=lead, method="nearest")
        skill, low, high = (f"{float(result[key]):+.1%}" for key in ("skill", "low", "high"))
        interval = "too few starts" if np.isnan(result.low) else f"{low} to {high}"
        spectrum = _spectra_of_starts(spectra[name], table.init_time.values)
        slope = spectrum.slope.sel(source="forecast").sel(lead_time=lead, method="nearest")
        rows[name] = {
            "starts": str(table.sizes["init_time"]),
            "days": f"{lead / DAY:g}",
            f"RMSE ({units})": f"{_at(forecast, 'rmse', lead):.4f}",
            f"skill against {against.replace('_', ' ')}": f"{skill} ({interval})",
            f"bias ({units})": f"{_at(forecast, 'bias', lead):+.4f}",
            "exponent": f"{float(slope):.2f}",
        }
    return pd.DataFrame(rows).T


def decimals(values, digits=3):
    """Number of decimals with which numbers of one column are written.

    Parameters
    ----------
    values : sequence of float
    digits : int
        Significant digits of the largest number.

    Returns
    -------
    int
    """
    largest = np.nanmax(np.abs(np.append(values, 0.0)))
    return int(np.clip(digits - 1 - np.floor(np.log10(largest)), 0, 8)) if largest > 0 else digits
