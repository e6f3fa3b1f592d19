"""Does a forecast keep the statistical character of sea ice, whatever its error?

The thickness gives structure functions, the intermittency and the tail of its gradient, and
anisotropy; the drift adds the scaling, the tail and the linear features of the deformation rate.
The values of a forecast are compared with those of the truth at the same valid times under the same
mask. Persistence keeps every statistic, so none of these is a skill on its own.
"""

import re

import numpy as np
import xarray as xr

from seaice_lab.diagnostics import anisotropy, distributions, features, moments, multifractal
from seaice_lab.diagnostics.deformation import (
    deformation_rates,
    gradient_magnitude,
    velocity_gradients,
)
from seaice_lab.diagnostics.structure_functions import structure_exponents, structure_sums
from seaice_lab.diagnostics.temporal import temporal_exponents, temporal_sums
from seaice_lab.errors import InputError

DRAWS = 100  # bootstrap samples of the starts
SHORTEST_ROLLOUT = 8  # lead times for exponents against the length of a time window
NOISE_FLOOR = 2e-4  # 1/day; rounding of the drift at 25 km
DESCRIPTIONS = {
    "zeta": "Exponent zeta(q) of increments of the thickness",
    "concavity": "Concavity 2 zeta(1) - zeta(2)",
    "gradient_k": "Moment function K(q) of the thickness gradient",
    "gradient_c1": "C1 = K'(1) of the thickness gradient",
    "gradient_alpha": "alpha of the thickness gradient, double trace moments",
    "gradient_tail": "Tail exponent of the thickness gradient",
    "increment_tail": "Tail exponent of the change of thickness in 24 h",
    "anisotropy": "Anisotropy of the thickness",
    "coherence": "Coherence of the thickness",
    "beta": "Exponent beta(q) of the deformation rate, average of gradients",
    "beta_rate": "Exponent beta(q) of the deformation rate, average of rates",
    "curvature": "Curvature of beta(q)",
    "c1": "C1 = K'(1) of the deformation rate",
    "alpha": "alpha of the deformation rate, double trace moments",
    "tail": "Tail exponent of the deformation rate",
    "temporal_exponent": "Exponent of the deformation rate in time",
    "coupling": "Coupling c of the scaling in space and time",
    "feature_length": "Mean length of linear features",
    "feature_density": "Length of linear features by area",
    "feature_angle": "Median angle between linear features",
    "feature_share": "Share of the deformation in linear features",
    "feature_orientation": "Share of the length of linear features by direction",
    "gradient_wasserstein": "Wasserstein distance to the truth of the thickness gradient",
    "wasserstein": "Wasserstein distance to the truth of the deformation rate",
}
UNITS = {"feature_length": "km", "feature_density": "1e-3 km-1", "feature_angle": "degree",
         "gradient_wasserstein": "decades", "wasserstein": "decades"}  # fmt: skip


def frame_sums(fields, mask, square, dx_m, tails):
    """Sums of all statistics for every frame.

    Parameters
    ----------
    fields : Dataset (..., lead_time, y, x)
        ``sit`` in m and, if there is drift, ``siu`` and ``siv`` in m s-1, in memory.
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
        As from the functions of the other modules, for `estimates`.
    """
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
    step = np.unique(np.diff(sit.lead_time.values))
    if len(step) == 1 and np.timedelta64(1, "D") % step[0] == np.timedelta64(0):
        before = sit.shift(lead_time=int(np.timedelta64(1, "D") / step[0]))
        change = abs(sit - before).where(mask)
        sums["increment_tail"] = distributions.tail_sums(change, tails["increment"], floor=1e-5)
    if "siu" in fields:
        gradients = velocity_gradients(fields.siu, fields.siv, mask, dx_m)
        total = deformation_rates(gradients).total
        sums |= {
            "moments": moments.box_moments(gradients, dx_m, "gradient").drop_vars("largest"),
            "trace": multifractal.trace_moments(total, dx_m).drop_vars("largest"),
            "double": multifractal.double_trace_moments(total, dx_m, floor=NOISE_FLOOR),
            "tail": distributions.tail_sums(total),
        }
        if len(step) == 1 and sit.sizes["lead_time"] >= SHORTEST_ROLLOUT:
            drift = fields.siu, fields.siv
            sums["temporal"] = temporal_sums(*drift, mask, dx_m, dim="lead_time")
    # Without drift, the lines are those of the thickness.
    lines = total if "siu" in fields else gradient
    sums["features"] = features.feature_sums(lines, dx_m)
    return sums


def estimates(sums, over=()):
    """Statistics from sums over frames.

    Parameters
    ----------
    sums : dict of str to Dataset
        From `frame_sums`, or weighted sums of them.
    over : sequence of str
        Dimensions to pool.

    Returns
    -------
    Dataset
        The names of `DESCRIPTIONS`, and the curves from which exponents were fitted. A statistic
        that the grid is too small for is left out.
    """
    result = {}
    for name, function in ESTIMATES.items():
        if name in sums:
            try:
                result |= function(sums[name], over)
            except InputError:  # too few scales
                continue
    return xr.Dataset(result)


def _structure(sums, over):
    fit = structure_exponents(sums, over).rename(scale="distance")
    names = {"exponent": "zeta", "concavity": "concavity", "moment": "structure_function"}
    curves = {new: fit[old] for old, new in names.items()}
    return curves | {"distance_km": fit.length_km}


def _trace(k, c1):
    def estimate(sums, over):
        fit = multifractal.trace_exponents(sums, over)
        return {k: fit.exponent.sel(q=list(moments.ORDERS)), c1: fit.C1}

    return estimate


def _moments(sums, over):
    fit = moments.scaling_exponents(sums, over)
    curves = {"rate_moment": fit.moment, "scale_km": fit.length_km, "beta_linear": fit.linear}
    return {"beta": fit.exponent, "curvature": fit.curvature} | curves


def _features(sums, over):
    names = {
        "feature_length": "mean_length",
        "feature_density": "length_density",
        "feature_angle": "median_angle",
        "feature_share": "rate_share",
        "feature_orientation": "orientation",
    }
    statistics = features.feature_statistics(sums, over)
    return {new: statistics[old] for new, old in names.items()}


def _temporal(sums, over):
    fit = temporal_exponents(sums.sum([dim for dim in over if dim in sums.dims]))
    return {"temporal_exponent": fit.exponent.isel(scale=0, drop=True), "coupling": fit.c}


def _single(function, value, name):
    return lambda sums, over: {name: function(sums, over)[value]}


ESTIMATES = {
    "structure": _structure,
    "gradient_trace": _trace("gradient_k", "gradient_c1"),
    "gradient_double": _single(multifractal.double_trace_exponents, "alpha", "gradient_alpha"),
    "gradient_tail": _single(distributions.tail_exponent, "alpha", "gradient_tail"),
    "increment_tail": _single(distributions.tail_exponent, "alpha", "increment_tail"),
    "angular": _single(anisotropy.angular_index, "index", "anisotropy"),
    "coherence": lambda sums, over: {
        "coherence": (s := sums.sum(over))["sum"] / s["count"].where(s["count"] > 0)
    },
    "moments": _moments,
    "trace": _trace("beta_rate", "c1"),
    "double": _single(multifractal.double_trace_exponents, "alpha", "alpha"),
    "tail": _single(distributions.tail_exponent, "alpha", "tail"),
    "temporal": _temporal,
    "features": _features,
}


def compare(sources, draws=DRAWS, block=1):
    """Statistics of a forecast, its truth and references, with their differences from the truth.

    Parameters
    ----------
    sources : dict of str to dict of str to Dataset (init_time, [member,] lead_time, ...)
        From `frame_sums` by name of the source; "truth" is one of them. References can have fewer
        lead times.
    draws : int
        Bootstrap samples of the starts, the same for all sources.
    block : int
        Neighbouring starts that are drawn together.

    Returns
    -------
    Dataset
        Each statistic (source, lead_time, ...), pooled over the starts (members one by one, then
        their mean), and with the endings ``_error``: its bootstrap standard error;
        ``_difference_error``: that of the difference from the truth, from a paired bootstrap;
        ``_significance`` (source, ...): the difference, averaged over the lead times, in units of
        its standard error; above 3 it is hardly chance;
        ``_spread``: standard deviation of the truth between the starts, each pooled over its
        lead times; ``_score``: difference from the truth in units of this spread. NaN with one
        start. Distances to the truth are means over the starts; that of the truth is the distance
        between the truths of neighbouring starts.

    Raises
    ------
    InputError
        If there is no truth, or the starts, masks or distances of the sources differ.
    """
    if "truth" not in sources:
        raise InputError("there is no source 'truth' to compare with; pass its sums as well")
    truth = sources["truth"]
    starts = truth["structure"].init_time
    values, samples = {}, {}
    for name, sums in sources.items():
        _check_same_cells(name, sums["structure"], truth["structure"])
        values[name] = _member_mean(estimates(sums, ["init_time"])).assign(_distances(sums, truth))
        if starts.size >= 2 * block and starts.size > 1:
            drawn = {n: _draw(each, draws, block) for n, each in sums.items()}
            samples[name] = _member_mean(estimates(drawn))
    table = _concat(values)
    for ending, datasets in _errors(samples).items():
        table = table.assign({f"{n}{ending}": v for n, v in _concat(datasets).items()})
    spread = estimates(truth, ["lead_time"]).std("init_time", ddof=1)
    spread = spread[list(set(spread) & set(DESCRIPTIONS))]
    spread = spread.where(spread > 0)
    score = (table[list(spread)] - table[list(spread)].sel(source="truth")) / spread
    table = table.assign({f"{name}_spread": values for name, values in spread.items()})
    table = table.assign({f"{name}_score": values for name, values in score.items()})
    for name in table:
        quantity = re.sub("_(error|difference_error|significance|spread|score)$", "", name)
        if quantity in DESCRIPTIONS:
            ending = name.removeprefix(quantity).replace("_", " ")
            units = "1" if ending in (" score", " significance") else UNITS.get(quantity, "1")
            table[name].attrs = {"long_name": DESCRIPTIONS[quantity] + ending, "units": units}
    return table


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


def _concat(datasets):
    return xr.concat(datasets.values(), xr.Variable("source", list(datasets)), join="outer",
                     coords="minimal", compat="override")  # fmt: skip


def _member_mean(values):
    return values.mean("member") if "member" in values.dims else values


def _draw(sums, draws, block):
    """Sums of bootstrap samples of the starts."""
    return moments.bootstrap(lambda each: each, sums, "init_time", block, draws)


def _errors(samples):
    """Standard errors by source: of the values, and of their differences from the truth."""
    if not samples:
        return {}
    values = {name: each[list(set(each) & set(DESCRIPTIONS))] for name, each in samples.items()}
    differences = {name: each - values["truth"] for name, each in values.items()}
    return {
        "_error": {name: each.std("draw", ddof=1) for name, each in values.items()},
        "_difference_error": {n: each.std("draw", ddof=1) for n, each in differences.items()},
        "_significance": {n: _significance(each) for n, each in differences.items()},
    }


def _significance(difference):
    """Mean over the lead times of bootstrap samples, in units of its standard error."""
    over_leads = difference.map(lambda v: v.mean("lead_time") if "lead_time" in v.dims else v)
    error = over_leads.std("draw", ddof=1)
    return over_leads.mean("draw") / error.where(error > 0)


def _distances(sums, truth):
    """Mean distances to the truth over the starts."""
    result = {}
    for name, key in (("gradient_wasserstein", "gradient_tail"), ("wasserstein", "tail")):
        if key in sums:
            other = truth[key]
            if sums is truth:
                other = other.roll(init_time=1, roll_coords=False)
            distance = distributions.distances(sums[key], other, over=[]).wasserstein
            result[name] = distance.mean([d for d in distance.dims if d != "lead_time"])
    return result
