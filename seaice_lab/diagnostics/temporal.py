"""How does deformation localise in time? Moments of drift averaged over time windows."""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics import moments
from seaice_lab.diagnostics.deformation import velocity_gradients
from seaice_lab.errors import InputError

DAY_H, REFERENCE_KM = 24.0, 10.0  # units of time and length in the fit of the coupling


def temporal_sums(siu, siv, mask, dx_m, windows=(1, 2, 4, 8, 16), dim="time"):
    """Box moments of the drift averaged over several time windows.

    Parameters
    ----------
    siu, siv, mask, dx_m
        As in `velocity_gradients`; a cell counts if it counts at all times of a window.
    windows : sequence of int
        Lengths of the windows in time steps; they do not overlap.
    dim : str
        Time dimension, with a coordinate of times.

    Returns
    -------
    Dataset
        As from `box_moments` with ``average="gradient"``, summed over time, with the dimension
        ``window`` and its length ``window_h``.

    Raises
    ------
    InputError
        If fewer than four windows fit into the series.
    """
    windows = [n for n in windows if n <= siu.sizes[dim]]
    if len(windows) < moments.FEWEST_SCALES:
        raise InputError(
            f"{len(windows)} time windows fit into {siu.sizes[dim]} steps, expected at least "
            f"{moments.FEWEST_SCALES}; take a longer series or shorter windows"
        )
    step_h = np.diff(siu[dim].values[:2])[0] / np.timedelta64(1, "h")
    fields = {"siu": siu.where(mask, 0), "siv": siv.where(mask, 0), "share": mask}
    fields = xr.broadcast(xr.Dataset(fields).astype("float64"))[0]
    sums, span = {steps: [] for steps in windows}, int(np.lcm.reduce(windows))
    # Series of this length hold a whole number of all windows.
    for first in range(0, fields.sizes[dim], span):
        piece = fields.isel({dim: slice(first, first + span)}).compute()
        for steps in [steps for steps in windows if steps <= piece.sizes[dim]]:
            mean = piece.coarsen({dim: steps}, boundary="trim").mean()
            gradients = velocity_gradients(mean.siu, mean.siv, mean.share == 1, dx_m)
            sums[steps].append(moments.box_moments(gradients, dx_m).drop_vars("largest"))
    sums = [xr.concat(each, dim).sum(dim) for each in sums.values()]
    hours = ("window", [steps * step_h for steps in windows], {"units": "h"})
    return xr.concat(sums, "window").assign_coords(window_h=hours)


def temporal_exponents(sums):
    """Exponents of moments against the length of the time window, and their coupling to scale.

    Parameters
    ----------
    sums : Dataset
        From `temporal_sums`, or a sum of such datasets over runs.

    Returns
    -------
    Dataset
        ``exponent`` (..., q, scale): alpha_t of M_q ~ window^-alpha_t. ``A``, ``beta0``, ``alpha0``
        and ``c`` of ln M_1 = A - beta0 ln L - alpha0 ln tau + c ln L ln tau, with L in units of
        10 km and tau in days; c > 0: localisation fades with the window. ``moment`` (..., window,
        q, scale) is the table of means.

    Raises
    ------
    InputError
        If fewer than four scales have data.
    """
    sums = sums.compute()
    count = sums["count"].where(sums["count"] > 0)
    moment, length = (sums[name] / count for name in ("moment", "length"))
    others = [dim for dim in count.dims if dim != "scale"]
    moments.check_number_of_scales(int(count.notnull().any(others).sum()))
    log_m, log_t = np.log(moment.where(moment > 0)), np.log(sums.window_h / DAY_H)
    log_l = np.log(length / REFERENCE_KM)
    terms = xr.broadcast(xr.ones_like(log_l), -log_l, -log_t, log_l * log_t)
    coefficients = xr.apply_ufunc(
        _least_squares,
        log_m.sel(q=1.0, drop=True),
        *terms,
        input_core_dims=[["window", "scale"]] * 5,
        output_core_dims=[["term"]],
    )
    fit = coefficients.assign_coords(term=["A", "beta0", "alpha0", "c"]).to_dataset("term")
    exponent = -moments.slope(log_m, log_t, "window")
    return fit.assign(exponent=exponent, moment=moment, length_km=length)


def _least_squares(values, *terms):
    """Coefficients of the terms (..., window, scale) in values; scales without boxes are NaN.

    The coefficients are NaN where fewer values than terms are left.
    """
    table = np.stack([term.reshape(*term.shape[:-2], -1) for term in terms], axis=-1)
    values = values.reshape(*values.shape[:-2], -1, 1)
    is_used = np.isfinite(table).all(axis=-1, keepdims=True) & np.isfinite(values)
    coefficients = np.linalg.pinv(np.where(is_used, table, 0.0)) @ np.where(is_used, values, 0.0)
    return np.where(is_used.sum(axis=-2) >= len(terms), coefficients[..., 0], np.nan)
