"""Bootstrap confidence intervals of scores over starts."""

import numpy as np
import xarray as xr

from seaice_lab.diagnostics.score_tables import SQUARED
from seaice_lab.errors import InputError


def confidence(by_start, level=0.95, draws=1000, block=1, seed=0):
    """Bootstrap confidence intervals of the pooled scores over starts.

    Starts are drawn with replacement, the same ones for every score, lead time and source, so
    that differences between sources keep their pairing.

    Parameters
    ----------
    by_start : Dataset
        From `scores_by_start`, loaded.
    level : float
        Probability inside the interval.
    draws : int
    block : int
        Starts drawn together: neighbours in time are alike, and intervals from single starts are
        then too narrow. Take the number of starts over which errors stay correlated (Kunsch 1989).
    seed : int

    Returns
    -------
    Dataset
        ``<score>_low`` and ``<score>_high`` (lead_time).

    Raises
    ------
    InputError
        If there are fewer than two blocks.
    """
    count = by_start.sizes["init_time"]
    if count < 2 * block:
        raise InputError(
            f"{count} starts in blocks of {block}: expected at least two blocks to draw from; "
            "forecast from more starts or take a smaller block"
        )
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, count, (draws, -(-count // block)))
    drawn = (firsts[..., None] + np.arange(block)).reshape(draws, -1)[:, :count] % count
    weight = np.zeros((draws, count))
    np.add.at(weight, (np.arange(draws)[:, None], drawn), 1 / count)
    weight = xr.DataArray(weight, dims=("draw", "init_time"))
    limits = [(1 - level) / 2, (1 + level) / 2]
    result = xr.Dataset()
    for name, values in by_start.data_vars.items():
        power = 2 if name in SQUARED else 1
        pooled = xr.dot(values.drop_vars("init_time") ** power, weight, dim="init_time")
        low, high = (
            (pooled ** (1 / power))
            .quantile(limits, "draw", skipna=False)
            .transpose("quantile", ...)
        )
        for end, bound in (("low", low), ("high", high)):
            comment = f"{level:.0%} bootstrap interval over starts, drawn in blocks of {block}"
            result[f"{name}_{end}"] = bound.drop_vars("quantile").assign_attrs(
                values.attrs, comment=comment
            )
    return result
