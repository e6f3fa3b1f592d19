"""Does a forecast keep the statistical character of sea ice, whatever its error?

The thickness gives structure functions, the intermittency and the tail of its gradient, and
anisotropy; the drift adds the scaling, the tail and the linear features of the deformation rate.
The values of a forecast are compared with those of the truth at the same valid times under the same
mask. Persistence keeps every statistic, so none of these is a skill on its own.
"""

from contextlib import suppress

import numpy as np
import xarray as xr

from seaice_lab.diagnostics import anisotropy, distributions, features, moments, multifractal
from seaice_lab.diagnostics.bootstrap import correlated_starts, period_weights, start_weights
from seaice_lab.diagnostics.deformation import (
    deformation_rates,
    gradient_magnitude,
    velocity_gradients,
)
from seaice_lab.diagnostics.structure_functions import structure_exponents, structure_sums
from seaice_lab.diagnostics.temporal import temporal_exponents, temporal_sums
from seaice_lab.errors import InputError

DRIFT = {"siu", "siv"}
DRAWS = 100  # bootstrap samples of the starts
LEADS_AT_ONCE = 16  # lead times in memory
SHORTEST_ROLLOUT = 8  # lead times for exponents against the length of a time window
MEMORY_DAYS = 60  # in which the exponents of the thickness become independent; see `compare`
FEWEST_PERIODS = 3  # least number of independent periods for standard errors
ROUNDING = 1e-9  # relative; smaller differences count as zero
NOISE_FLOOR = 2e-4  # 1/day; rounding of the drift at 25 km
# For each statistic: its sums, its name in the fit of the sums, and its long name.
STATISTICS = {
    "zeta": ("structure", "exponent", "Growth of thickness differences with distance, zeta(q)"),
    "concavity": ("structure", "concavity", "Concavity of zeta(q), 2 zeta(1) - zeta(2)"),
    "gradient_k": ("gradient_trace", "exponent", "Moment function K(q) of thickness gradients"),
    "gradient_c1": ("gradient_trace", "C1", "Concentration of thickness gradients, C1"),
    "gradient_alpha": ("gradient_double", "alpha", "Multifractal index of thickness gradients"),
    "gradient_tail": ("gradient_tail", "alpha", "Rarity of strong gradients, tail exponent"),
    "gradient_tail_weight": ("gradient_tail", "weight", "Amount of strong gradients, tail weight"),
    "increment_tail": ("increment_tail", "alpha", "Rarity of strong changes in 24 h, exponent"),
    "increment_tail_weight": ("increment_tail", "weight", "Amount of strong changes in 24 h"),
    "anisotropy": ("angular", "index", "Common direction of the ice, anisotropy"),
    "coherence": ("coherence", "coherence", "Local direction of the ice, coherence"),
    "beta": ("moments", "exponent", "Decrease of the deformation rate with scale, beta(q)"),
    "beta_rate": ("trace", "exponent", "Decrease with scale, beta(q), of averaged rates"),
    "curvature": ("moments", "curvature", "Curvature of beta(q)"),
    "c1": ("trace", "C1", "Concentration of deformation, C1"),
    "alpha": ("double", "alpha", "Multifractal index of deformation"),
    "tail": ("tail", "alpha", "Rarity of strong deformation, exponent"),
    "tail_weight": ("tail", "weight", "Amount of strong deformation, tail weight"),
    "temporal_exponent": ("temporal", "exponent", "Decrease of deformation with averaging time"),
    "coupling": ("temporal", "c", "Coupling of the scaling in space and time"),
    "feature_length": ("features", "mean_length", "Linear features, mean length"),
    "feature_density": ("features", "length_density", "Length of linear features by area"),
    "feature_angle": ("features", "median_angle", "Median angle between linear features"),
    "feature_share": ("features", "rate_share", "Share of the deformation in linear features"),
    "feature_orientation": ("features", "orientation", "Length of linear features by direction"),
    "gradient_wasserstein": (None, None, "Distance to the true distribution of gradients"),
    "wasserstein": (None, None, "Distance to the true distribution of deformation rates"),
}  # fmt: skip
UNITS = {"feature_length": "km", "feature_density": "1e-3 km-1", "feature_angle": "degree",
         "gradient_wasserstein": "decades", "wasserstein": "decades"}  # fmt: skip
# Curves from which exponents are fitted: their sums, and their name in the fit.
CURVES = {"structure_function": ("structure", "moment"), "distance_km": ("structure", "length_km"),
          "rate_moment": ("moments", "moment"), "scale_km": ("moments", "length_km"),
          "beta_linear": ("moments", "linear")}  # fmt: skip


def frame_sums(fields, mask, square, dx_m, tails):
    """Sums of all statistics for every frame.

    Parameters
    ----------
    fields : Dataset (..., lead_time, y, x)
        ``sit`` in m and, if there is drift, ``siu`` and ``siv`` in m s-1. Lazy fields are read in
        blocks of lead times.
    mask : DataArray of bool (..., lead_time, y, x)
        Cells that count: ocean with ice in the forecast and in the truth.
    square : DataArray of bool (y, x)
        Ocean with ice, in which the anisotropy is measured.
    dx_m : float
        Distance between cells, m.
    tails : dict of str to float
        Start of the tails of ``gradient`` (m/km) and ``increment`` (m).

    Returns
    -------
    dict of str to Dataset
        As from the functions of the other modules, for `estimates`; in memory.
    """
    step, day = np.unique(np.diff(fields.lead_time.values)), np.timedelta64(1, "D")
    if len(step) == 1 and day % step[0] == np.timedelta64(0):
        day_before = fields.sit.shift(lead_time=int(day // step[0]))
        fields = fields.assign(increment=abs(fields.sit - day_before))
    blocks = []
    for first in range(0, fields.sizes["lead_time"], LEADS_AT_ONCE):
        block = {"lead_time": slice(first, first + LEADS_AT_ONCE)}
        cells = mask.isel(block, missing_dims="ignore")
        blocks.append(_block_sums(fields.isel(block).load(), cells, square, dx_m, tails))
    sums = {name: xr.concat([each[name] for each in blocks], "lead_time") for name in blocks[0]}
    if DRIFT <= set(fields) and len(step) == 1 and len(fields.lead_time) >= SHORTEST_ROLLOUT:
        sums["temporal"] = temporal_sums(fields.siu, fields.siv, mask, dx_m, dim="lead_time")
    return sums


def _block_sums(fields, mask, square, dx_m, tails):
    """Sums of all statistics that need one frame only."""
    sit = fields.sit
    gradient = gradient_magnitude(sit, mask, dx_m)
    tensor = anisotropy.structure_tensor(sit, mask).coherence
    sums = {
        "structure": structure_sums(sit, mask, dx_m),
        "gradient_trace": multifractal.trace_moments(gradient, dx_m).drop_vars("largest"),
        "gradient_double": multifractal.double_trace_moments(gradient, dx_m),
        "gradient_tail": distributions.tail_sums(gradient, tails["gradient"], floor=1e-5),
        "angular": anisotropy.angular_sums(sit.where(mask, 0.0), square),
        "coherence": xr.Dataset({"sum": tensor.fillna(0), "count": tensor.notnull() * 1.0}),
    }
    if "increment" in fields:
        increment = fields.increment.where(mask)
        sums["increment_tail"] = distributions.tail_sums(increment, tails["increment"], 1e-5)
    lines = gradient  # without drift, the lines are those of the thickness
    if DRIFT <= set(fields):
        gradients = velocity_gradients(fields.siu, fields.siv, mask, dx_m)
        lines = deformation_rates(gradients).total
        sums |= {
            "moments": moments.box_moments(gradients, dx_m, "gradient").drop_vars("largest"),
            "trace": multifractal.trace_moments(lines, dx_m).drop_vars("largest"),
            "double": multifractal.double_trace_moments(lines, dx_m, floor=NOISE_FLOOR),
            "tail": distributions.tail_sums(lines),
        }
    return sums | {"features": features.feature_sums(lines, dx_m)}


def estimates(sums, over=(), rows=None):
    """Statistics from sums over frames.

    Parameters
    ----------
    sums : dict of str to Dataset
        From `frame_sums`, or weighted sums of them.
    over : sequence of str
        Dimensions to pool.
    rows : dict, optional
        What is estimated, by name, such as `CURVES`; by default `STATISTICS`.

    Returns
    -------
    Dataset
        A statistic that the grid is too small for is left out.
    """
    fits = {}
    for key in sums:
        with suppress(InputError):  # too few scales
            fits[key] = FITS[key](sums[key], over)
    rows = (rows or STATISTICS).items()
    return xr.Dataset({name: fits[key][fit] for name, (key, fit, *_) in rows if key in fits})


def _structure(sums, over):
    return structure_exponents(sums, over).rename(scale="distance")


def _trace(sums, over):
    """Trace moments have more orders than the other moments, for the derivatives at q = 1."""
    return multifractal.trace_exponents(sums, over).sel(q=list(moments.ORDERS))


def _coherence(sums, over):
    total = sums.sum(over)
    return {"coherence": total["sum"] / total["count"].where(total["count"] > 0)}


def _temporal(sums, over):
    fit = temporal_exponents(sums.sum([dim for dim in over if dim in sums.dims]))
    return fit.assign(exponent=fit.exponent.isel(scale=0, drop=True))


FITS = {"structure": _structure, "angular": anisotropy.angular_index, "coherence": _coherence,
        "gradient_trace": _trace, "gradient_double": multifractal.double_trace_exponents,
        "trace": _trace, "double": multifractal.double_trace_exponents,
        "tail": distributions.tail_exponent, "gradient_tail": distributions.tail_exponent,
        "increment_tail": distributions.tail_exponent, "moments": moments.scaling_exponents,
        "temporal": _temporal, "features": features.feature_statistics}  # fmt: skip


def compare(sources, draws=DRAWS, periods=None):
    """Statistics of a forecast, its truth and references, with their differences from the truth.

    Parameters
    ----------
    sources : dict of str to dict of str to Dataset (init_time, [member,] lead_time, ...)
        From `frame_sums` by name of the source; "truth" is one of them. References can have fewer
        lead times. Only "forecast" can have members.
    draws : int
        Bootstrap samples of the starts, the same for all sources.
    periods : array of int (init_time,), optional
        Independent period of each start, such as those of `MEMORY_DAYS` from
        `seaice_lab.diagnostics.bootstrap.independent_periods`; by default each start is one.

    Returns
    -------
    Dataset
        Each statistic (source, lead_time, ...), pooled over the starts. A forecast with members
        has the mean of their statistics, and each member is also a source of its own, "member_1"
        and so on. With the endings ``_error``: its bootstrap standard error;
        ``_difference_error``: that of the difference from the truth, from a paired bootstrap;
        ``_significance`` (source, ...): the difference, pooled over the lead times, in units of
        its standard error; see the notes;
        ``_spread``: standard deviation of the truth between the periods, each pooled over its
        starts and lead times; ``_score``: difference from the truth in units of this spread.
        Errors and significance are NaN with fewer than three periods, and spread and score with
        one; the attribute ``significance`` says so. Distances to the truth are means over the
        starts; that of the truth is the distance between the truths of neighbouring starts.

    Raises
    ------
    InputError
        If there is no truth, or the starts, masks or distances of the sources differ.

    Notes
    -----
    The standard error of a significance is the larger one of two paired bootstraps: over periods,
    and over blocks of two days of all starts. Starts of one model run are not independent: in runs
    of 20 days, the anomaly of zeta(1) has an autocorrelation of 0.74 after 15 days, and that of
    beta(1) one of 0.1 to 0.3 from 2 to 15 days.

    The exponent of a tail says how fast it falls, and its weight how much is in it: the mean of
    ln(x / x_min) over all values, zero for those below x_min. Smoothing lowers the weight and may
    leave the exponent unchanged. The significance of a weight is that of the mean over frames of
    (source - truth) / (source + truth): negative for a lighter tail than the truth's, positive for
    a heavier one. Independent copies of a process exceed 3 in one of ten comparisons of three
    periods, and rarely with more.
    """
    if "truth" not in sources:
        raise InputError("there is no source 'truth' to compare with; pass its sums as well")
    truth = sources["truth"]
    starts = truth["structure"].sizes["init_time"]
    periods = np.arange(starts) if periods is None else np.asarray(periods)
    number = periods.max() + 1
    weight = period_weights(periods, draws)
    values, samples, pooled = {}, {}, {}
    for name, sums in sources.items():
        _check_same_cells(name, sums["structure"], truth["structure"])
        values[name] = estimates(sums, ["init_time"], STATISTICS | CURVES)
        values[name] = values[name].assign(_distances(sums, truth))
        samples[name] = estimates(_drawn(sums, weight))
        pooled[name] = _pooled_differences(sums, truth, weight)
    values, samples, pooled = map(_by_source, (values, samples, pooled))
    differences = samples - samples.sel(source="truth", drop=True)
    members = np.arange(number)[:, None] == periods
    in_period = xr.DataArray(members.astype("float64"), dims=weight.dims)
    spread = estimates(_drawn(truth, in_period), ["lead_time"]).std("draw", ddof=1)
    spread = spread.where(spread > 0)
    tables = {
        "": values,
        "_error": _standard_error(samples, number),
        "_difference_error": _standard_error(differences, number),
        "_significance": _significance(pooled, number),
        "_score": (values - values.sel(source="truth", drop=True)) / spread,
        "_spread": spread,
    }
    significance = "difference from the truth in standard errors"
    if number < FEWEST_PERIODS:
        for ending in ("_error", "_difference_error", "_significance"):
            tables[ending] = tables[ending] * np.nan
        counted = "1 independent period" if number == 1 else f"{number} independent periods"
        significance = (
            f"no standard errors: the {starts} start dates count as {counted}, because the ice of "
            f"one model run hardly changes within {MEMORY_DAYS} days, expected at least "
            f"{FEWEST_PERIODS}; score starts of {FEWEST_PERIODS} runs, or of a run of "
            f"{FEWEST_PERIODS * MEMORY_DAYS} days"
        )
    return _named(tables).assign_attrs(significance=significance)


def _check_same_cells(name, sums, truth):
    """Check that a source and the truth have the same starts, masks and distances between cells."""
    if not np.array_equal(sums.init_time, truth.init_time):
        raise InputError(f"{name}: has other starts than the truth; score the same starts")
    truth = truth.sel(lead_time=sums.lead_time)
    gap = abs(sums["count"] - truth["count"]) + abs(sums.length - truth.length)
    if gap.max() > 1e-6 * truth.length.max():
        raise InputError(
            f"{name}: has another mask or another distance between cells than the truth; compute "
            "the sums of both with the same ones"
        )


def _by_source(datasets):
    """One dataset of those of all sources.

    The forecast is the mean over its members, and after all sources each member is one.
    """
    forecast = datasets.get("forecast", xr.Dataset())
    members = {
        f"member_{number + 1}": forecast.isel(member=number, drop=True)
        for number in range(forecast.sizes.get("member", 0))
    }
    if members:
        datasets = datasets | {"forecast": forecast.mean("member")} | members
    return xr.concat(datasets.values(), xr.Variable("source", list(datasets)), join="outer",
                     coords="minimal", compat="override")  # fmt: skip


def _drawn(sums, weight):
    """Weighted sums, for each sample of the weights (draw, init_time[, lead_time])."""

    def of_one(values):
        dims = [dim for dim in weight.dims if dim in values.dims]
        others = [dim for dim in weight.dims[1:] if dim not in dims]
        return xr.dot(values.drop_vars(dims, errors="ignore"), weight.sum(others), dim=dims)

    return {key: each.map(of_one) for key, each in sums.items()}


def _pooled_differences(sums, truth, by_start):
    """Differences from the truth, pooled over starts and lead times.

    The dimension ``draw`` has the data themselves, then bootstrap samples of the starts and as many
    of blocks of frames.
    """
    lead_time = sums["structure"].lead_time
    draws, starts, leads = *by_start.shape, len(lead_time)
    two_days = correlated_starts(lead_time, 2) if leads > 1 else 1
    by_frame = start_weights(starts * leads, draws, two_days).values.reshape(-1, starts, leads)
    weight = by_start.expand_dims(lead_time=leads, axis=2) / leads
    every = xr.full_like(weight[:1], 1 / (starts * leads))
    weight = xr.concat([every, weight, weight.copy(data=by_frame)], "draw")
    truth = {
        k: v.sel(lead_time=lead_time) if "lead_time" in v.dims else v for k, v in truth.items()
    }
    values, expected = (estimates(_drawn(each, weight)) for each in (sums, truth))
    difference = values - expected
    for name, (key, fit, *_) in STATISTICS.items():
        if key in sums and fit == "weight":
            of_source, of_truth = sums[key].tail_log, truth[key].tail_log
            total = of_source + of_truth
            relative = ((of_source - of_truth) / total.where(total > 0)).fillna(0.0)
            difference[name] = _drawn({key: relative.to_dataset(name=key)}, weight)[key][key]
    is_equal = abs(difference) <= ROUNDING * abs(expected)
    return difference.where(~is_equal, 0.0)


def _standard_error(samples, periods):
    """Standard error from bootstrap samples, corrected for a small number of periods."""
    return samples.std("draw", ddof=1) * np.sqrt(periods / max(periods - 1, 1))


def _significance(difference, periods):
    """Pooled difference in units of its larger standard error, over periods or over frames."""
    observed = difference.isel(draw=0)
    by_start, by_frame = np.split(np.arange(1, difference.sizes["draw"]), 2)
    error = _standard_error(difference.isel(draw=by_start), periods)
    error = np.maximum(error, difference.isel(draw=by_frame).std("draw", ddof=1))
    error = error.where(~(error <= ROUNDING * abs(observed)), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):  # infinite where no sample differs
        return (observed / error).where(observed != 0, 0.0)


def _distances(sums, truth):
    """Mean distances to the truth over the starts."""
    result = {}
    for name, key in (("gradient_wasserstein", "gradient_tail"), ("wasserstein", "tail")):
        if key in sums:
            other = truth[key]
            if sums is truth:
                other = other.roll(init_time=1, roll_coords=False)
            distance = distributions.distances(sums[key], other, over=[]).wasserstein
            result[name] = distance.mean("init_time")
    return result


def _named(tables):
    """One dataset of several, with their endings of names, long names and units."""
    table = xr.Dataset()
    for ending, values in tables.items():
        table = table.assign({f"{name}{ending}": each for name, each in values.items()})
        for name in STATISTICS.keys() & values.keys():
            units = "1" if ending in ("_score", "_significance") else UNITS.get(name, "1")
            long_name = STATISTICS[name][-1] + ending.replace("_", " ")
            table[f"{name}{ending}"].attrs = {"long_name": long_name, "units": units}
    return table
