"""Where a rollout loses detail: known answers on spectra made for it."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.diagnostics.smoothing import diffusion, effective_resolution


def spectrum_like(values, n_cells=64, dx_km=25.0):
    k = np.arange(1, n_cells // 2 + 1) / (n_cells * dx_km)
    return xr.DataArray(
        np.asarray(values, float) * np.ones_like(k),
        dims="wavenumber",
        coords={"wavenumber": k, "wavelength": ("wavenumber", 1 / k)},
        attrs={"units": "m2 km"},
    )


def test_the_effective_resolution_is_where_half_of_the_power_is_left():
    truth = spectrum_like(1.0)
    wavelength = truth.wavelength
    gaussian = truth * np.exp(-np.log(2) * (200 / wavelength) ** 2)  # one half at 200 km
    assert effective_resolution(gaussian, truth).item() == pytest.approx(200, rel=0.02)
    assert effective_resolution(truth, truth).item() == pytest.approx(50)  # two cells
    assert effective_resolution(0.4 * truth, truth).item() == pytest.approx(1600)


def test_one_weak_ring_is_no_resolution_limit():
    truth = spectrum_like(1.0)
    weak = truth.copy()
    weak[5] = 0.1
    assert effective_resolution(weak, truth).item() == pytest.approx(50)


def test_diffusion_is_a_plateau_and_the_time_to_reach_it():
    lead = (np.arange(1, 61) * 12).astype("timedelta64[h]").astype("timedelta64[ns]")
    days = np.arange(1, 61) / 2
    truth = xr.DataArray(np.full(60, -1.0), {"lead_time": lead}, "lead_time")
    slope = truth - 0.8 * (1 - np.exp(-days / 2.0))
    found = diffusion(slope, truth)
    assert found.plateau.item() == pytest.approx(-0.8, rel=1e-3)
    assert found.rise_time.item() / 86400e9 == pytest.approx(2 * np.log(10), abs=0.5)
