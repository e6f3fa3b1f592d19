"""How intermittent is a field? Trace moments and double trace moments of a flux.

A flux is a field that is not negative, such as the total deformation rate or the size of the
gradient of the thickness. The moment function K(q) of its box averages, <flux_n^q> ~ n^-K(q), is
K(q) = C1 (q^alpha - q) / (alpha - 1) for a universal multifractal: C1 says how sparse the mean is,
alpha how fast sparseness grows with intensity (after Schertzer and Lovejoy 1987 and Lavallee 1991).
On 128 x 128 cells C1 of exact cascades is about 5 % too low.
"""

import numpy as np

from seaice_lab.diagnostics import moments
from seaice_lab.diagnostics.frames import reduce_frames

TRACE_ORDERS = (0.5, 0.9, 1.0, 1.1, *moments.ORDERS[2:])  # with the neighbours of 1 for derivatives
ETAS = tuple(10.0 ** np.linspace(-0.9, 0.2, 9))
Q = 1.5  # order of double trace moments
SMALLEST_K = 0.03  # below it, K is mostly noise
LARGEST_ORDER = 3.0  # of q eta; higher moments depend on a few boxes
FEWEST_ETAS = 3


def trace_moments(flux, dx_m, q=TRACE_ORDERS, scales=moments.SCALES, offsets=True):
    """Sums of powers of box averages of a flux, for every frame.

    Parameters
    ----------
    flux : DataArray (..., y, x)
        Not negative, NaN where masked.
    dx_m : float
        Distance between cells, m.
    q, scales, offsets
        As in `box_moments`.

    Returns
    -------
    Dataset
        As from `box_moments`. The mean of the flux changes no exponent, so the sums are not
        normalised.
    """
    return moments.box_moments(flux, dx_m, "rate", q=q, scales=scales, offsets=offsets)


def trace_exponents(sums, over=None, length_km=None):
    """The moment function K(q) with C1 = K'(1) and alpha = K''(1) / K'(1).

    Parameters
    ----------
    sums : Dataset
        From `trace_moments`.
    over, length_km
        As in `scaling_exponents`.

    Returns
    -------
    Dataset
        As from `scaling_exponents`; ``exponent`` is K(q). With the orders 0.9, 1 and 1.1 also
        ``C1`` and ``alpha``, from central differences.
    """
    exponents = moments.scaling_exponents(sums, over, length_km)
    if {0.9, 1.0, 1.1} <= set(sums.q.values):
        below, at, above = (exponents.exponent.sel(q=q, drop=True) for q in (0.9, 1.0, 1.1))
        exponents["C1"] = (above - below) / 0.2
        exponents["alpha"] = (above - 2 * at + below) / 0.1**2 / exponents.C1
    return exponents


def double_trace_moments(flux, dx_m, scales=moments.SCALES, offsets=False, floor=0.0, eta=ETAS):
    """Sums of the moment of order 1.5 of box averages of flux^eta, for every frame.

    Parameters
    ----------
    flux : DataArray (..., y, x)
        Not negative, NaN where masked.
    dx_m : float
        Distance between cells, m.
    scales, offsets
        As in `box_moments`.
    floor : float
        Smaller values are raised to it, because small powers see the noise of quiet ice.
    eta : sequence of float
        Powers of the flux.

    Returns
    -------
    Dataset
        As from `box_moments`, with the dimension ``eta`` in place of q.
    """

    eta = np.array(eta, float)

    def of_frames(values, valid):
        moments.check_not_negative(values)
        powers = np.maximum(values[0], floor) ** eta[:, None, None, None] * valid
        levels = zip(*moments.boxes(powers, valid, scales, offsets), strict=True)
        moment, length, count = moments.box_sums(*levels, (Q,), dx_m)
        return np.moveaxis(moment[..., 0, :], 0, 1), length, count

    outputs = {"moment": {"eta": len(eta), "scale": len(scales)}}
    outputs |= dict.fromkeys(("length", "count"), {"scale": len(scales)})
    sums = reduce_frames(of_frames, [flux], None, outputs)
    return sums.assign_coords(eta=eta, scale=list(scales))


def double_trace_exponents(sums, over=None, length_km=None):
    """Universal parameters from double trace moments, K(q, eta) = eta^alpha K(q, 1).

    Parameters
    ----------
    sums : Dataset
        From `double_trace_moments`.
    over, length_km
        As in `scaling_exponents`.

    Returns
    -------
    Dataset
        ``alpha`` and ``C1`` (...), and ``exponent`` (..., eta), K(1.5, eta). The fit uses values
        above 0.03 with 1.5 eta up to 3; NaN with fewer than three. A value of alpha above 2 is no
        multifractal but is returned as it is.
    """
    result = moments.scaling_exponents(sums, over, length_km)
    k = result.exponent
    usable = (k > SMALLEST_K) & (Q * k.eta <= LARGEST_ORDER)
    log_k, log_eta = np.log(k.where(usable)), np.log(k.eta).where(usable)
    alpha = moments.slope(log_k, log_eta, "eta", skipna=True)
    alpha = alpha.where(usable.sum("eta") >= FEWEST_ETAS)
    at_one = np.exp(log_k.mean("eta") - alpha * log_eta.mean("eta"))  # the line at eta = 1
    return result.assign(alpha=alpha, C1=at_one / moments.universal_moment(Q, alpha))
