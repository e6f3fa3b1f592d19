"""Does a forecast keep the statistical character of sea ice, whatever its error?

The thickness gives structure functions, the intermittency and the tail of its gradient, and
anisotropy; the drift adds the scaling, the tail and the linear features of the deformation rate.
The values of a forecast are compared with those of the truth at the same valid times under the same
mask. Persistence keeps every statistic, so none of these is a skill on its own.
"""

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
# Long name and unit of each statistic.
STATISTICS = {
    "zeta": ("Exponent zeta(q) of increments of the thickness", "1"),
    "concavity": ("Concavity 2 zeta(1) - zeta(2)", "1"),
    "gradient_k": ("Moment function K(q) of the thickness gradient", "1"),
    "gradient_c1": ("C1 = K'(1) of the thickness gradient", "1"),
    "gradient_alpha": ("alpha of the thickness gradient, double trace moments", "1"),
    "gradient_tail": ("Tail exponent of the thickness gradient", "1"),
    "increment_tail": ("Tail exponent of the change of thickness in 24 h", "1"),
    "anisotropy": ("Anisotropy of the thickness", "1"),
    "coherence": ("Coherence of the thickness", "1"),
    "beta": ("Exponent beta(q) of the deformation rate, average of gradients", "1"),
    "beta_rate": ("Exponent beta(q) of the deformation rate, average of rates", "1"),
    "curvature": ("Curvature of beta(q)", "1"),
    "c1": ("C1 = K'(1) of the deformation rate", "1"),
    "alpha": ("alpha of the deformation rate, double trace moments", "1"),
    "tail": ("Tail exponent of the deformation rate", "1"),
    "temporal_exponent": ("Exponent of the deformation rate in time", "1"),
    "coupling": ("Coupling c of the scaling in space and time", "1"),
    "feature_length": ("Mean length of linear features", "km"),
    "feature_density": ("Length of linear features by area", "1e-3 km-1"),
    "feature_angle": ("Median angle between linear features", "degree"),
    "feature_share": ("Share of the deformation in linear features", "1"),
    "feature_orientation": ("Share of the length of linear features by direction", "1"),
    "gradient_wasserstein": ("Wasserstein distance to the truth of the thickness gradient",
                             "decades"),
    "wasserstein": ("Wasserstein distance to the truth of the deformation rate", "decades"),
}  # fmt: skip


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
        The names of `STATISTICS`, and the curves from which exponents were fitted. A statistic
        that the grid is too small for is left out.
    """
    result = {}
    for name, (function, variables) in ESTIMATES.items():
        if name in sums:
            try:
                fit = function(sums[name], over)
            except InputError:  # too few scales
                continue
            result |= {new: fit[old] for new, old in variables.items()}
    return xr.Dataset(result)


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
    return {"exponent": fit.exponent.isel(scale=0, drop=True), "c": fit.c}


# By name of the sums: the function that fits them, and which of its results are the statistics.
ESTIMATES = {
    "structure": (_structure, {"zeta": "exponent", "concavity": "concavity",
                               "structure_function": "moment", "distance_km": "length_km"}),
    "gradient_trace": (_trace, {"gradient_k": "exponent", "gradient_c1": "C1"}),
    "gradient_double": (multifractal.double_trace_exponents, {"gradient_alpha": "alpha"}),
    "gradient_tail": (distributions.tail_exponent, {"gradient_tail": "alpha"}),
    "increment_tail": (distributions.tail_exponent, {"increment_tail": "alpha"}),
    "angular": (anisotropy.angular_index, {"anisotropy": "index"}),
    "coherence": (_coherence, {"coherence": "coherence"}),
    "moments": (moments.scaling_exponents, {"beta": "exponent", "curvature": "curvature",
                                            "rate_moment": "moment", "scale_km": "length_km",
                                            "beta_linear": "linear"}),
    "trace": (_trace, {"beta_rate": "exponent", "c1": "C1"}),
    "double": (multifractal.double_trace_exponents, {"alpha": "alpha"}),
    "tail": (distributions.tail_exponent, {"tail": "alpha"}),
    "temporal": (_temporal, {"temporal_exponent": "exponent", "coupling": "c"}),
    "features": (features.feature_statistics, {"feature_length": "mean_length",
                                               "feature_density": "length_density",
                                               "feature_angle": "median_angle",
                                               "feature_share": "rate_share",
                                               "feature_orientation": "orientation"}),
}  # fmt: skip


def compare(sources, draws=DRAWS, block=1):
    """Statistics of a forecast, its truth and references, with their differences from the truth.

    Parameters
    ----------
    sources : dict of str to dict of str to Dataset (init_time, [member,] lead_time, ...)
        From `frame_sums` by name of the source; "truth" is one of them. References can have fewer
        lead times. Only "forecast" can have members.
    draws : int
        Bootstrap samples of the starts, the same for all sources.
    block : int
        Neighbouring starts that are drawn together.

    Returns
    -------
    Dataset
        Each statistic (source, lead_time, ...), pooled over the starts. A forecast with members
        has the mean of their statistics, and each member is also a source of its own, "member_1"
        and so on. With the endings ``_error``: its bootstrap standard error;
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
    starts = truth["structure"].sizes["init_time"]
    values, samples = {}, {}
    for name, sums in sources.items():
        _check_same_cells(name, sums["structure"], truth["structure"])
        values[name] = estimates(sums, ["init_time"]).assign(_distances(sums, truth))
        if starts > 1 and starts >= 2 * block:
            drawn = {
                key: moments.bootstrap(lambda sample: sample, each, "init_time", block, draws)
                for key, each in sums.items()
            }
            samples[name] = _statistics(estimates(drawn))
    values, samples = _with_members(values), _with_members(samples)
    differences = {name: each - samples["truth"] for name, each in samples.items()}
    spread = _statistics(estimates(truth, ["lead_time"])).std("init_time", ddof=1)
    spread = spread.where(spread > 0)
    scores = {name: (each - values["truth"]) / spread for name, each in values.items()}
    endings = {
        "": values,
        "_error": {name: each.std("draw", ddof=1) for name, each in samples.items()},
        "_difference_error": {n: each.std("draw", ddof=1) for n, each in differences.items()},
        "_significance": {name: _significance(each) for name, each in differences.items()},
        "_score": scores,
    }
    tables = {ending: _concat(each) for ending, each in endings.items() if each}
    return _named(tables | {"_spread": spread})


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


def _statistics(values):
    return values[[name for name in values if name in STATISTICS]]


def _with_members(datasets):
    """The mean of the forecast over its members, and after all sources each member as one."""
    forecast = datasets.get("forecast", xr.Dataset())
    members = {
        f"member_{number + 1}": forecast.isel(member=number, drop=True)
        for number in range(forecast.sizes.get("member", 0))
    }
    return datasets | ({"forecast": forecast.mean("member")} if members else {}) | members


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
            result[name] = distance.mean("init_time")
    return result


def _concat(datasets):
    return xr.concat(datasets.values(), xr.Variable("source", list(datasets)), join="outer",
                     coords="minimal", compat="override")  # fmt: skip


def _named(tables):
    """One dataset of several, with their endings of names, long names and units."""
    table = xr.Dataset()
    for ending, values in tables.items():
        table = table.assign({f"{name}{ending}": each for name, each in values.items()})
        for name in _statistics(values):
            text, units = STATISTICS[name]
            units = "1" if ending in ("_score", "_significance") else units
            long_name = text + ending.replace("_", " ")
            table[f"{name}{ending}"].attrs = {"long_name": long_name, "units": units}
    return table
