"""Fields of known scaling (tests/data/README.md says how they were made)."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

FOLDER = Path(__file__).parents[1] / "data" / "scaling"
Q = np.array([0.5, 1, 1.5, 2, 2.5, 3])


@lru_cache
def load(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def frames(values, units=None):
    """An array (y, x) or (frame, y, x) as a labelled array."""
    attrs = {"units": units} if units else {}
    return xr.DataArray(values, dims=("frame", "y", "x")[-np.ndim(values) :], attrs=attrs)


def everywhere(field):
    return xr.ones_like(field.isel(frame=0) if "frame" in field.dims else field, bool)


def cascade(alpha, c1, size, count, seed):
    """Multiplicative cascades of factor 2 with lognormal (alpha 2) or Levy-stable weights."""
    from scipy import stats

    rng = np.random.default_rng(seed)
    flux = np.ones((count, 1, 1))
    mu = -c1 * np.log(2) / (alpha - 1)
    sigma = (-np.cos(np.pi * alpha / 2) * c1 * np.log(2) / (alpha - 1)) ** (1 / alpha)
    while flux.shape[-1] < size:
        flux = flux.repeat(2, axis=1).repeat(2, axis=2)
        # A totally left-skewed stable variable has finite exponential moments.
        x = stats.levy_stable.rvs(alpha, -1, size=flux.size, random_state=rng)
        flux = flux * np.exp(sigma * x.reshape(flux.shape) + mu)
    return flux
