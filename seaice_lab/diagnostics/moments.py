"""How do the moments of a deformation rate change with scale? The exponents beta(q).

Powers are first added up over the boxes of each frame, and exponents are fitted to sums over many
frames. So sums of any selection of frames, or of a bootstrap sample, give exponents without the
fields.

Two exponents of the deformation rate are called beta(q) in the literature. ``average="gradient"``
averages the four velocity gradients over a box and then forms the rate (after Marsan et al. 2004);
opposite slip lines in a box cancel. ``average="rate"`` averages the rate, so that beta(1) = 0.
Never compare one with the other.
"""

import numpy as np
import xarray as xr
from scipy import special

from seaice_lab.diagnostics.bootstrap import start_weights
from seaice_lab.diagnostics.deformation import GRADIENTS, RATES, invariants
from seaice_lab.diagnostics.frames import pool, reduce_frames
from seaice_lab.errors import InputError

ORDERS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
SCALES = (1, 2, 4, 8, 16)  # cells
FEWEST_SCALES = 4  # a finite domain bends curves of fewer scales
LARGEST = 10  # boxes that must not dominate a moment


def box_moments(
    field, dx_m, average="gradient", rate="total", q=ORDERS, scales=SCALES, offsets=True
):
    """Sums of powers of box averages of a rate, for every frame.

    Parameters
    ----------
    field : Dataset or DataArray (..., y, x)
        Gradients from `velocity_gradients`, or, for ``average="rate"``, also any field that is
        not negative. NaN where masked.
    dx_m : float
        Distance between cells, m.
    average : {"gradient", "rate"}
        What is averaged over a box; see the module.
    rate : {"total", "shear", "divergence", "vorticity"}
        Rate of the gradients; its absolute value counts.
    q : sequence of float
        Orders of the moments.
    scales : sequence of int
        Sides of the boxes in cells, powers of two.
    offsets : bool
        Use boxes shifted by half a side along x, y and both, which lowers the variance.

    Returns
    -------
    Dataset
        ``moment`` (..., q, scale): sum of the powers over the boxes; ``length`` (..., scale): sum
        of the sides in km, sqrt(number of valid cells) dx; ``count`` (..., scale): number of boxes
        with at least half of their cells valid; ``largest`` (..., scale, rank): the largest values.

    Raises
    ------
    InputError
        If an argument is unknown, a value of a single field is negative, or an order is not
        above zero.
    """
    has_gradients = isinstance(field, xr.Dataset)
    if average not in ("gradient", "rate") or (average == "gradient" and not has_gradients):
        raise InputError(
            f"average: {average!r}, expected 'rate', or 'gradient' with a dataset of velocity "
            "gradients"
        )
    if rate not in RATES or any(n & (n - 1) or n < 1 for n in scales):
        raise InputError(
            f"rate {rate!r} and scales {tuple(scales)}: expected a rate of {', '.join(RATES)} and "
            "scales that are powers of two"
        )
    fields = [field[name] for name in GRADIENTS] if has_gradients else [field]

    def rate_of(values):
        if has_gradients:
            return abs(invariants(*values)[list(RATES).index(rate)])
        check_not_negative(values)
        return values[0]

    def in_boxes(values, valid):
        if average == "rate":
            values = rate_of(values)[None]
        means, counts = zip(*boxes(values, valid, scales, offsets), strict=True)
        rates = [rate_of(each) if average == "gradient" else each[0] for each in means]
        padded = [np.pad(each, ((0, 0), (LARGEST, 0))) for each in rates]  # boxes may be fewer
        largest = [np.partition(each, -LARGEST)[:, -LARGEST:] for each in padded]
        return (*box_sums(rates, counts, q, dx_m), np.stack(largest, axis=1))

    sizes = {"scale": len(scales)}
    outputs = {"moment": {"q": len(q)} | sizes, "length": sizes, "count": sizes}
    sums = reduce_frames(in_boxes, fields, None, outputs | {"largest": sizes | {"rank": LARGEST}})
    kind = f"boxes with {'and without shifts' if offsets else 'one position'}, half of them valid"
    coords = {"q": list(map(float, q)), "scale": list(scales)}
    return sums.assign_coords(coords).assign_attrs(average=average, rate=rate, boxes=kind)


def boxes(values, valid, scales, offsets):
    """Means over the boxes of each scale.

    Parameters
    ----------
    values : ndarray (field, frame, y, x)
        Zero where masked.
    valid : ndarray of bool (frame, y, x)
    scales, offsets
        As in `box_moments`.

    Yields
    ------
    means : ndarray (field, frame, box)
    counts : ndarray (frame, box)
        Number of valid cells; 0 where it is less than half of the box, and the mean is zero.

    Notes
    -----
    The four positions of boxes of side n, shifted by half a side, are all pairs of neighbouring
    boxes of side n / 2 along both axes.
    """
    sums, counts, side = values, valid.astype("float64"), 1
    while side <= max(scales):
        windows = sums, counts
        if side > 1:
            windows = [_neighbours(array, 1 if offsets else 2) for array in windows]
            every = slice(None, None, 2 if offsets else 1)
            sums, counts = (array[..., every, every] for array in windows)
        if side in scales:
            totals, number = (array.reshape(*array.shape[:-2], -1) for array in windows)
            number = np.where(2 * number >= side**2, number, 0.0)
            yield np.where(number > 0, totals, 0.0) / np.maximum(number, 1.0), number
        side *= 2


def _neighbours(array, step):
    """Sums over 2 x 2 neighbours at every position (step 1) or every second one."""
    rows = array[..., :-1:step, :] + array[..., 1::step, :]
    return rows[..., :-1:step] + rows[..., 1::step]


def check_not_negative(values):
    """Check that no value is negative, because moments are defined for positive values.

    Raises
    ------
    InputError
        If a value is negative.
    """
    if values.min(initial=0) < 0:
        raise InputError(
            f"the field has negative values, down to {values.min():g}, whose moments mean nothing; "
            "pass a rate or a size, such as abs(field)"
        )


def box_sums(means, counts, q, dx_m):
    """Sums over the boxes of several scales.

    Parameters
    ----------
    means : sequence of ndarray (..., frame, box)
        Not negative, for each scale; zero where no cell counts.
    counts : sequence of ndarray (frame, box)
        Number of valid cells, from `boxes`.
    q, dx_m
        As in `box_moments`.

    Returns
    -------
    moment : ndarray (..., frame, q, scale)
    length, count : ndarray (frame, scale)
    """
    moment = [power_sums(mean, q) for mean in means]
    length = [np.sqrt(n).sum(axis=-1) * dx_m / 1e3 for n in counts]
    number = [(n > 0).sum(axis=-1) for n in counts]
    return tuple(np.stack(each, axis=-1) for each in (moment, length, number))


def power_sums(values, q):
    """Sums of powers along the last axis.

    Parameters
    ----------
    values : ndarray (..., n)
        Not negative; zero where it does not count.
    q : sequence of float
        Orders above zero; multiples of one half are fastest.

    Returns
    -------
    ndarray (..., len(q))

    Raises
    ------
    InputError
        If an order is not above zero: zero has no such power.
    """
    if min(q) <= 0:
        raise InputError(
            f"q: found the order {min(q):g}, expected orders above zero, because rates and "
            "increments can be zero"
        )
    # Powers of three halves and more are slow; products such as x^2.5 = x^0.5 x^2 are fast.
    root, square = np.sqrt(values), values * values
    products = {1.5: (root, values), 2: (values, values), 2.5: (root, square), 3: (values, square)}
    sums = [
        np.vecdot(*products[order]) if order in products else (values**order).sum(axis=-1)
        for order in q
    ]
    return np.stack(sums, axis=-1)


def scaling_exponents(sums, over=None, length_km=None, sign=-1):
    """Exponents of moments against scale, from sums over frames.

    Parameters
    ----------
    sums : Dataset
        From `box_moments`, or a sum or weighted sum of such datasets.
    over : sequence of str, optional
        Dimensions to pool before the logarithm is taken; by default all but q and scale.
    length_km : (float, float), optional
        Shortest and longest scale of the fit; all scales by default.
    sign : int
        -1: an exponent is positive if the moment decreases with scale.

    Returns
    -------
    Dataset
        ``exponent`` (..., q), beta(q) = -d ln M_q / d ln L by least squares; ``local_low`` and
        ``local_high``: its extremes between neighbouring scales; ``curvature`` and ``linear``: a
        and b of beta(q) = a q^2 + b q; ``moment`` (..., q, scale), ``length_km`` (..., scale) and,
        if it can be known, ``largest_share`` (..., q): share of the moment sum in the 10 largest
        boxes, at the worst scale; above one half the moment is not reliable.

    Raises
    ------
    InputError
        If fewer than four scales have data.
    """
    pooled = pool(sums.drop_vars("largest", errors="ignore"), over)
    # Without boxes a scale has no length: NaN.
    count = pooled["count"].where(pooled["count"] > 0)
    moment, length = pooled.moment / count, pooled.length / count
    others = [dim for dim in length.dims if dim != "scale"]
    mean_length = length.mean(others)
    low, high = length_km or (0, np.inf)
    fitted = (mean_length >= low * (1 - 1e-9)) & (mean_length <= high * (1 + 1e-9))
    check_number_of_scales(int(fitted.sum()))
    log_m = np.log(moment.where(moment > 0).isel(scale=fitted))
    log_l = np.log(length.isel(scale=fitted))
    local = sign * log_m.diff("scale") / log_l.diff("scale")
    exponents = xr.Dataset({"exponent": sign * slope(log_m, log_l, "scale")})
    exponents["local_low"], exponents["local_high"] = local.min("scale"), local.max("scale")
    if "q" in moment.dims and len(moment.q) > 1:
        # Least-squares parabola through the origin.
        inverse = np.linalg.pinv(np.stack([moment.q**2, moment.q], axis=-1))
        for name, weights in zip(("curvature", "linear"), inverse, strict=True):
            weights = xr.DataArray(weights, {"q": moment.q}, "q")
            exponents[name] = xr.dot(exponents.exponent, weights, dim="q")
    exponents["moment"], exponents["length_km"] = moment, length
    if "largest" in sums:
        share = _largest_share(sums.largest, pooled.moment)
        exponents["largest_share"] = share.isel(scale=fitted).max("scale")
    limits = mean_length[fitted]
    return exponents.assign_attrs(sums.attrs, fit_km=[float(limits.min()), float(limits.max())])


def check_number_of_scales(number):
    """Check that a fit has enough scales.

    Raises
    ------
    InputError
        If there are fewer than four.
    """
    if number < FEWEST_SCALES:
        raise InputError(
            f"the fit has {number} scales, expected at least {FEWEST_SCALES}; widen its range, "
            "take more scales or a larger field"
        )


def _largest_share(largest, moment):
    """Share of moment sums (..., q, scale) in the largest boxes of all pooled frames."""
    pooled = [dim for dim in largest.dims if dim not in moment.dims]
    values = largest.stack(box=pooled, create_index=False).transpose(..., "box").compute()
    values = values.copy(data=np.sort(values, axis=-1)).isel(box=slice(-LARGEST, None))
    return (values**moment.q).sum("box") / moment


def slope(values, positions, dim, skipna=False):
    """Slope of the straight line that fits values best.

    Parameters
    ----------
    values, positions : DataArray
    dim : str
        Dimension along which the line is fitted.
    skipna : bool
        Leave out missing positions, where the values must be missing too. By default a missing
        value gives NaN.

    Returns
    -------
    DataArray
        Without the dimension.
    """
    centred = positions - positions.mean(dim, skipna=skipna)
    product, square = centred * values, centred**2
    return product.sum(dim, skipna=skipna) / square.sum(dim, skipna=skipna)


def universal_fit(exponent):
    """Fit beta(q) = C1 (q^alpha - q) / (alpha - 1) + H q, with C1 and alpha in [0, 2].

    Parameters
    ----------
    exponent : DataArray (..., q)

    Returns
    -------
    Dataset
        ``C1``, ``alpha`` and ``H``, each (...).
    """

    def beta(q, C1, alpha, H):  # noqa: N803 - the names of the parameters
        return C1 * universal_moment(q, alpha) + H * q

    limits, guess = {"C1": (0, 2), "alpha": (0, 2)}, {"C1": 0.1, "alpha": 1.5}
    fit = exponent.curvefit("q", beta, bounds=limits, p0=guess)
    return fit.curvefit_coefficients.to_dataset("param")


def universal_moment(q, alpha):
    """Moment function of a universal multifractal with C1 = 1, (q^alpha - q) / (alpha - 1).

    Parameters
    ----------
    q, alpha : array
        q > 0. At alpha = 1 the limit, q ln q.

    Returns
    -------
    array
    """
    # exprel(x) = (exp(x) - 1) / x is smooth at zero.
    return q * np.log(q) * special.exprel((alpha - 1) * np.log(q))


def bootstrap(estimate, sums, dim="time", block=1, draws=200, seed=0):
    """Estimates from bootstrap samples of frames, for standard errors.

    Equal arguments draw equal frames, so that the difference of two results is a paired bootstrap.

    Parameters
    ----------
    estimate : callable
        Maps a dataset of sums without ``dim`` to a Dataset; it keeps other dimensions.
    sums : Dataset
        Sums of each frame, for example from `box_moments`.
    dim : str
        Dimension from which samples are drawn.
    block : int
        Neighbours that are drawn together; take at least two days.
    draws, seed : int

    Returns
    -------
    Dataset
        With the dimension ``draw``; its standard deviation is the standard error.
    """
    weight = start_weights(sums.sizes[dim], draws, block, seed).rename(init_time=dim)
    sums = sums.drop_vars(["largest", dim], errors="ignore")
    return estimate(sums.map(lambda values: xr.dot(values, weight, dim=dim), keep_attrs=True))
