"""Distributions of deformation rates and gradients: densities, tails, distances to the truth.

Corners that are neighbours are not independent, so errors that count every corner are too small:
take `seaice_lab.diagnostics.moments.bootstrap` over frames, with the sums of `tail_sums`.
"""

import numpy as np
import xarray as xr
from scipy import optimize, stats

from seaice_lab.diagnostics.frames import histograms, pool, reduce_frames
from seaice_lab.errors import InputError

X_MIN = 0.1  # 1/day, start of the tail of deformation rates; fixed, so that lead times compare
FLOOR = 5e-3  # 1/day; smaller rates are mostly noise of the drift
DECADES = np.linspace(-6, 2, 401)  # edges of the fine histogram, log10
BINS, LAST_BINS = 25, 9
FEWEST_IN_TAIL = 500  # for a search of x_min
MOST_CANDIDATES = 6000  # of x_min


def tail_sums(field, x_min=X_MIN, floor=FLOOR):
    """Counts of values by size and sums for the exponent of the tail, for every frame.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Not negative, NaN where masked.
    x_min : float
        Start of the tail, in units of the field.
    floor : float
        Smaller values are noise: they are counted, but not in the histogram.

    Returns
    -------
    Dataset
        ``histogram`` (..., size): number of values in bins of 0.02 decades; ``count``,
        ``below_floor``, ``tail_count`` and ``tail_log``, the sum of ln(x / x_min), each (...).
    """

    def of_frames(values, valid):
        valid, x = (array.reshape(len(valid), -1) for array in (valid, values[0]))
        clear, tail = valid & (x >= floor) & (x > 0), valid & (x >= x_min)
        log = np.log10(np.where(clear | tail, x, 1.0))
        bins = (log[clear] - DECADES[0]) / (DECADES[1] - DECADES[0])
        histogram = histograms(clear.nonzero()[0], bins, (len(valid), len(DECADES) - 1))
        tail_log = np.where(tail, log - np.log10(x_min), 0.0).sum(axis=1) * np.log(10)
        counts = (mask.sum(axis=1) for mask in (valid, valid & (x < floor), tail))
        return (histogram, *counts, tail_log)

    outputs = {"histogram": {"size": len(DECADES) - 1}, "count": {}, "below_floor": {}}
    sums = reduce_frames(of_frames, [field], None, outputs | {"tail_count": {}, "tail_log": {}})
    centre = 10 ** ((DECADES[1:] + DECADES[:-1]) / 2)
    attrs = {"units": field.attrs.get("units", "1")}
    sums = sums.assign_coords(size=("size", centre, attrs))
    return sums.assign_attrs(x_min=x_min, floor=floor)


def tail_exponent(sums, over=None):
    """Effective exponent of the tail, p(x) ~ x^-alpha for x >= x_min, by maximum likelihood.

    Deformation rates of models are closer to a lognormal than to a power law, so the exponent
    depends on x_min.

    Parameters
    ----------
    sums : Dataset
        From `tail_sums`.
    over : sequence of str, optional
        Dimensions that are pooled; by default all but the histogram's.

    Returns
    -------
    Dataset
        ``alpha`` = 1 + n / sum ln(x / x_min), ``alpha_error`` = (alpha - 1) / sqrt(n), which is too
        small for dependent values (Clauset et al. 2009, doi:10.1137/070710111), ``weight``, the sum
        of ln(x / x_min) over the number of all values, and ``below_floor``, the share of values
        below the floor. The exponent of the cumulative distribution is alpha - 1.
    """
    sums = pool(sums, over)
    count = sums.tail_count.where(sums.tail_count > 1)
    alpha = 1 + count / sums.tail_log
    result = {"alpha": alpha, "alpha_error": (alpha - 1) / count**0.5}
    every = sums["count"].where(sums["count"] > 0)
    result |= {"weight": sums.tail_log / every, "below_floor": sums.below_floor / every}
    return xr.Dataset(result, attrs=sums.attrs)


def distances(forecast, truth, over=None):
    """Distance of two distributions above the floor, from their histograms.

    Parameters
    ----------
    forecast, truth : Dataset
        From `tail_sums`.
    over : sequence of str, optional
        As in `tail_exponent`.

    Returns
    -------
    Dataset
        ``ks`` (...), the largest difference of the cumulative distributions, and ``wasserstein``
        (...) of log10 of the values, in decades.
    """
    shares = []
    for sums in (forecast, truth):
        histogram = pool(sums, over).histogram
        shares.append(histogram.cumsum("size") / histogram.sum("size").where(lambda n: n > 0))
    gap = abs(shares[0] - shares[1])
    step = DECADES[1] - DECADES[0]
    return xr.Dataset({"ks": gap.max("size"), "wasserstein": gap.sum("size", skipna=False) * step})


def sample_distances(forecast, truth, floor=0.0):
    """Distance of two samples: the exact values that `distances` approximates.

    Parameters
    ----------
    forecast, truth : array
        Values; those that are missing or not above the floor are left out.
    floor : float

    Returns
    -------
    dict of str to float
        ``ks`` and ``wasserstein`` (of log10 of the values, in decades).
    """
    samples = [np.log10(_sample(values, floor)) for values in (forecast, truth)]
    return {
        "ks": float(stats.ks_2samp(*samples).statistic),
        "wasserstein": float(stats.wasserstein_distance(*samples)),
    }


def _sample(values, floor=0.0):
    """Finite values above a floor as one array."""
    values = np.asarray(values, "float64").ravel()
    values = values[np.isfinite(values)]
    return values[values > floor]


def fit_tail(values, x_min=X_MIN):
    """Power law of the tail of a sample, compared with a lognormal.

    Parameters
    ----------
    values : array
        Missing values are left out.
    x_min : float or "ks"
        Start of the tail. "ks" takes the one with the smallest distance between data and power law
        (Clauset et al. 2009), which changes the exponent by up to one between similar samples.

    Returns
    -------
    dict of str to float
        ``alpha`` and ``alpha_error`` as in `tail_exponent`, ``x_min``, ``count`` in the tail and
        ``likelihood_ratio``: the mean log-likelihood ratio of power law and lognormal, both cut off
        at x_min, over its standard error; below -2 the lognormal is better.

    Raises
    ------
    InputError
        If the tail holds fewer than 500 values for a search of x_min, or fewer than 2.
    """
    values = np.sort(_sample(values))
    if x_min == "ks":
        x_min = _best_x_min(values)
    tail = values[values >= x_min]
    if len(tail) < 2 or tail[-1] == x_min:
        raise InputError(
            f"{len(tail)} values are at or above x_min = {x_min:g}, expected at least 2 different "
            "ones; take a smaller x_min or more frames"
        )
    log = np.log(tail / x_min)
    alpha = 1 + len(tail) / log.sum()
    power = np.log(alpha - 1) - alpha * log
    # The density of ln x of a lognormal is normal; both densities are of x / x_min here.
    difference = power - (_lognormal(log) - log)
    ratio = difference.sum() / (np.sqrt(len(tail)) * max(difference.std(), 1e-300))
    return {
        "alpha": float(alpha),
        "alpha_error": float((alpha - 1) / np.sqrt(len(tail))),
        "x_min": float(x_min),
        "count": len(tail),
        "likelihood_ratio": float(ratio),
    }


def _best_x_min(values):
    if len(values) <= FEWEST_IN_TAIL:
        raise InputError(
            f"the sample has {len(values)} values, expected more than {FEWEST_IN_TAIL} in the tail "
            "to search for its start; give x_min"
        )
    last = len(values) - FEWEST_IN_TAIL
    starts = np.unique(np.linspace(0, last, min(last + 1, MOST_CANDIDATES)).astype(int))
    log = np.log(values)
    distance = []
    for start in starts:
        tail = log[start:] - log[start]
        fitted = -np.expm1(-len(tail) / max(tail.sum(), 1e-300) * tail)
        distance.append(abs(fitted - np.arange(len(tail)) / len(tail)).max())
    return values[starts[np.argmin(distance)]]


def _lognormal(log):
    """Log-density of log values above zero under the best normal distribution cut off at zero."""

    def density(parameters):
        centre, sigma = parameters[0], np.exp(parameters[1])
        return stats.truncnorm.logpdf(log, -centre / sigma, np.inf, centre, sigma)

    start = [log.mean(), np.log(max(log.std(), 1e-3))]
    best = optimize.minimize(lambda p: -density(p).mean(), start, method="Nelder-Mead")
    return density(best.x)


def probability_density(values, limits=(5e-3, 2.0), bins=BINS):
    """Probability density in logarithmic bins.

    Parameters
    ----------
    values : array
        For example a shear, a divergence (only positive values count), or minus a divergence.
    limits : (float, float)
    bins : int

    Returns
    -------
    DataArray (size)
        Per unit of the values, of all positive values; ``size`` is the geometric centre of a bin.
        Attribute ``tail_slope``: slope of the logarithm of the density on the last 9 bins that are
        not empty, the exponent of SIREx; the fit by maximum likelihood is better.
    """
    sample = _sample(values)
    edges = np.geomspace(*limits, bins + 1)
    number, _ = np.histogram(sample, edges)
    density = number / np.diff(edges) / max(len(sample), 1)
    centre = np.sqrt(edges[1:] * edges[:-1])
    density = xr.DataArray(density, {"size": centre}, "size", "density")
    last = np.flatnonzero(number)[-LAST_BINS:]
    if len(last) > 1:
        line = np.polyfit(np.log(centre[last]), np.log(density.values[last]), 1)
        density.attrs["tail_slope"] = float(line[0])
    return density
