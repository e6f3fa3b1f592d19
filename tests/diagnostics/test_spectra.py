from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from seaice_lab.diagnostics.spectra import (
    largest_ocean_square,
    power_spectrum,
    published_exponent,
    published_spectrum,
    spectral_exponent,
)
from seaice_lab.errors import InputError

DATA = Path(__file__).parents[1] / "data" / "surrogate"


def field_like(values):
    values = np.asarray(values, dtype="float64")
    return xr.DataArray(values, dims=("member", "y", "x")[-values.ndim :], attrs={"units": "m"})


def all_ocean(side):
    return xr.DataArray(np.ones((side, side), dtype=bool), dims=("y", "x"))


def power_law_fields(exponent, side, members, seed=0):
    """Cut-outs of larger periodic random fields whose ring-summed spectrum is k**exponent."""
    large = 4 * side
    frequency = np.fft.fftfreq(large, 1 / large)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = np.inf
    noise = np.random.default_rng(seed).normal(size=(members, large, large))
    waves = np.fft.fft2(noise) * radius ** ((exponent - 1) / 2)
    return field_like(np.fft.ifft2(waves).real[:, :side, :side])


def test_largest_square_is_the_first_of_the_largest_ones():
    ocean = np.zeros((9, 12), dtype=bool)
    ocean[1:5, 1:5] = ocean[4:8, 6:10] = True
    ocean[8, :] = ocean[:, 11] = True
    square = largest_ocean_square(xr.DataArray(ocean, dims=("y", "x")))
    assert square == {"y": slice(1, 5), "x": slice(1, 5)}


def test_largest_square_agrees_with_looking_at_all_of_them():
    ocean = np.random.default_rng(3).random((30, 40)) > 0.08
    found = largest_ocean_square(xr.DataArray(ocean, dims=("y", "x")))
    side = found["y"].stop - found["y"].start

    def squares(size):
        return [
            (i, j)
            for i in range(30 - size + 1)
            for j in range(40 - size + 1)
            if ocean[i : i + size, j : j + size].all()
        ]

    assert (found["y"].start, found["x"].start) == squares(side)[0]
    assert not squares(side + 1)


def test_an_all_ocean_mask_is_its_own_largest_square():
    assert largest_ocean_square(all_ocean(7)) == {"y": slice(0, 7), "x": slice(0, 7)}


def test_a_mask_without_ocean_is_refused():
    with pytest.raises(InputError, match="no ocean cell"):
        largest_ocean_square(all_ocean(4) & False)


@pytest.mark.parametrize("side", [48, 49])
def test_the_density_integrates_to_the_variance_of_the_windowed_field(side):
    # Waves of at most 15 cycles a side, so that none lies beyond the last full ring.
    rng = np.random.default_rng(1)
    phase = 2 * np.pi * np.arange(side) / side
    values = sum(
        rng.normal() * np.cos(kx * phase + ky * phase[:, None] + rng.uniform(0, 6))
        for kx in range(-15, 16, 3)
        for ky in range(0, 16, 3)
    )
    spectrum = power_spectrum(field_like(values), all_ocean(side), dx_m=12_500.0)
    rows, columns = np.mgrid[:side, :side]
    terms = np.stack([np.ones(side**2), rows.ravel(), columns.ravel()], axis=1)
    plane = terms @ np.linalg.lstsq(terms, values.ravel(), rcond=None)[0]
    hann = np.sin(np.pi * np.arange(side) / side) ** 2
    windowed = (values - plane.reshape(side, side)) * np.outer(hann, hann)
    variance = windowed.var() / (np.outer(hann, hann) ** 2).mean()
    step = 1 / (side * 12.5)
    # The plane and the window spread a trace of the waves beyond that ring.
    assert spectrum.sum().item() * step == pytest.approx(variance, rel=1e-4)
    np.testing.assert_allclose(np.diff(spectrum["wavenumber"]), step, rtol=1e-12)


def test_a_wave_lands_in_its_ring_with_half_its_squared_amplitude():
    side, cycles, amplitude, dx_m = 64, 8, 3.0, 25_000.0
    centred = np.arange(side) - (side - 1) / 2
    wave = amplitude * np.cos(2 * np.pi * cycles * centred / side)
    spectrum = power_spectrum(field_like(np.tile(wave, (side, 1))), all_ocean(side), dx_m)
    peak = int(np.argmax(spectrum.values))
    assert spectrum["wavelength"][peak].item() == pytest.approx(side * 25.0 / cycles, rel=1e-12)
    step = 1 / (side * 25.0)
    # The Hann window passes a third of the energy to the two neighbouring wavenumbers.
    assert spectrum[peak - 1 : peak + 2].sum().item() * step == pytest.approx(amplitude**2 / 2)
    assert spectrum[: peak - 1].sum().item() * step < 1e-12
    assert spectrum.attrs["units"] == "m2 km"


def test_a_plane_has_no_power():
    rows, columns = np.mgrid[:32, :32]
    spectrum = power_spectrum(field_like(2 + 0.3 * rows - 0.1 * columns), all_ocean(32), 25e3)
    assert spectrum.max().item() < 1e-24


@pytest.mark.parametrize("exponent", [-1.0, -2.0, -3.0])
def test_the_exponent_of_a_random_field_is_recovered(exponent):
    fields = power_law_fields(exponent, side=64, members=40)
    slopes = spectral_exponent(power_spectrum(fields, all_ocean(64), dx_m=25e3))["slope"]
    assert slopes.mean().item() == pytest.approx(exponent, abs=0.15)
    assert slopes.std().item() < 0.35


def test_smoothing_a_field_steepens_its_exponent():
    field = power_law_fields(-2.0, side=64, members=1)
    smooth = field.rolling(y=3, x=3, center=True, min_periods=1).mean()
    slopes = [
        spectral_exponent(power_spectrum(each, all_ocean(64), 25e3))["slope"].item()
        for each in (field, smooth)
    ]
    assert slopes[1] < slopes[0] - 0.5


def test_an_exact_power_law_is_fitted_exactly_over_the_range_asked_for():
    spectrum = power_spectrum(power_law_fields(-2.0, 64, 2), all_ocean(64), dx_m=10e3)
    k = spectrum["wavenumber"]
    broken = (3.0 * k**-2.5).where(spectrum["wavelength"] >= 60, 99.0)
    fit = spectral_exponent(broken, wavelength_km=(60, 300))
    assert fit["slope"].item() == pytest.approx(-2.5, rel=1e-12)
    assert fit["intercept"].item() == pytest.approx(np.log(3.0), rel=1e-12)
    assert fit["r2"].item() == pytest.approx(1.0, rel=1e-12)
    assert fit.attrs["wavelength_km"] == [60, 300]


def test_by_default_waves_from_four_cells_to_a_third_of_the_square_are_fitted():
    spectrum = power_spectrum(power_law_fields(-2.0, 48, 1), all_ocean(48), dx_m=25e3)
    fit = spectral_exponent(spectrum)
    assert fit.attrs["wavelength_km"] == pytest.approx([100.0, 400.0])
    # Rings 3 to 12 of 24, both ends included.
    by_hand = np.polyfit(np.log(spectrum["wavenumber"][2:12]), np.log(spectrum[0, 2:12]), 1)
    assert fit["slope"].item() == pytest.approx(by_hand[0], rel=1e-10)


def test_too_few_wavenumbers_are_refused():
    spectrum = power_spectrum(power_law_fields(-2.0, 12, 1), all_ocean(12), dx_m=25e3)
    with pytest.raises(InputError, match="larger ocean square"):
        spectral_exponent(spectrum)


def test_a_square_without_any_ice_has_no_exponent():
    fit = spectral_exponent(power_spectrum(field_like(np.zeros((32, 32))), all_ocean(32), 25e3))
    assert np.isnan(fit["slope"]) and np.isnan(fit["r2"])


def test_missing_values_are_refused_in_the_square_and_ignored_outside():
    values = power_law_fields(-2.0, 32, 1).values[0]
    ocean = all_ocean(32)
    ocean[:, 20:] = False
    values[:, 20:] = np.nan
    assert np.isfinite(power_spectrum(field_like(values), ocean, 25e3)).all()
    values[3, 3] = np.nan
    with pytest.raises(InputError, match="missing values inside the mask"):
        power_spectrum(field_like(values), ocean, 25e3)


def test_values_on_land_do_not_matter():
    values = power_law_fields(-2.0, 32, 1).values[0]
    ocean = all_ocean(32)
    ocean[:, 20:] = ocean[25:] = False
    spoilt = field_like(np.where(ocean, values, 1e6))
    for spectrum in (
        lambda f: power_spectrum(f, ocean, 25e3),
        lambda f: published_spectrum(f, ocean),
    ):
        xr.testing.assert_identical(spectrum(spoilt), spectrum(field_like(values)))


def test_lazy_fields_give_the_same_spectra_and_exponents():
    fields = power_law_fields(-2.0, 32, 3)
    lazy = power_spectrum(fields.chunk(member=1, x=8), all_ocean(32), 25e3)
    fit = spectral_exponent(lazy)
    assert lazy.chunks and fit["slope"].chunks
    now = power_spectrum(fields, all_ocean(32), 25e3)
    xr.testing.assert_allclose(lazy.compute(), now, rtol=1e-12)
    xr.testing.assert_allclose(fit.compute(), spectral_exponent(now), rtol=1e-10)


def test_a_mask_of_another_grid_is_refused():
    with pytest.raises(InputError, match="mask of the field's grid"):
        power_spectrum(field_like(np.zeros((8, 9))), all_ocean(8), 25e3)
    with pytest.raises(InputError, match="expected a square one"):
        ocean = xr.DataArray(np.ones((8, 9), dtype=bool), dims=("y", "x"))
        published_spectrum(field_like(np.zeros((8, 9))), ocean)


@pytest.mark.parametrize(
    "name",
    [
        *(f"n64/{field}" for field in ("slope-1.0", "slope-2.0", "slope-3.0", "masked")),
        *(f"n256/{field}" for field in ("slope-2.0", "slope-3.0", "masked")),
    ],
)
def test_published_rule_matches_the_published_implementation(name):
    # Spectra and fits computed with the published implementation (Durand et al. 2024).
    stored = np.load(DATA / "psd.npz")
    field = field_like(stored[f"{name}/field"])
    # In the "masked" fields land is already zero; the others have no land.
    ocean = field_like(stored[f"{name}/mask"]) == 1 if "masked" in name else all_ocean(len(field))
    spectrum = published_spectrum(field, ocean)
    np.testing.assert_array_equal(spectrum["wavenumber"], stored[f"{name}/k"])
    np.testing.assert_allclose(spectrum, stored[f"{name}/power"], rtol=1e-10)
    for start in (5, 10):
        fit = published_exponent(spectrum, start)
        expected = {key: stored[f"{name}/start{start}/{key}"] for key in ("slope", "r2")}
        assert fit["slope"].item() == pytest.approx(expected["slope"].item(), rel=1e-10)
        assert fit["r2"].item() == pytest.approx(expected["r2"].item(), rel=1e-10)
        line = fit["intercept"] + fit["slope"] * np.log(spectrum["wavenumber"][start:])
        np.testing.assert_allclose(line, stored[f"{name}/start{start}/fit_log_power"], rtol=1e-10)


def test_published_rule_counts_land_as_zero():
    stored = np.load(DATA / "psd.npz")
    field, ocean = (
        field_like(stored["n64/masked/field"]),
        field_like(stored["n64/masked/mask"]) == 1,
    )
    with_nan_on_land = published_spectrum(field.where(ocean), ocean)
    np.testing.assert_allclose(with_nan_on_land, stored["n64/masked/power"], rtol=1e-10)


def test_the_standard_error_of_the_exponent_is_that_of_a_straight_line():
    rng = np.random.default_rng(0)
    k = np.arange(1, 33) / (64 * 25.0)
    power_law = xr.DataArray(
        k**-2.0,
        dims="wavenumber",
        attrs={"units": "m2 km"},
        coords={"wavenumber": k, "wavelength": ("wavenumber", 1 / k)},
    )
    noise = xr.DataArray(np.exp(rng.normal(0, 0.1, (2000, 32))), dims=("field", "wavenumber"))
    noisy = (power_law * noise).transpose("field", "wavenumber")
    fit = spectral_exponent(noisy)
    assert fit.slope.std().item() == pytest.approx(fit.slope_error.mean().item(), rel=0.1)
    assert "2-D" in fit.slope.attrs["comment"]
