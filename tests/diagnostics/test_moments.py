"""Moments against scale: slip lines, parity, Brownian surfaces, time, bootstrap, refusals."""

import numpy as np
import pytest
import xarray as xr
from scaling_fields import Q, everywhere, frames, load

from seaice_lab.diagnostics.deformation import velocity_gradients
from seaice_lab.diagnostics.moments import (
    bootstrap,
    box_moments,
    scaling_exponents,
    universal_fit,
)
from seaice_lab.diagnostics.structure_functions import structure_exponents, structure_sums
from seaice_lab.diagnostics.temporal import temporal_exponents, temporal_sums
from seaice_lab.errors import InputError

DX = 25e3
DYADIC = (1, 2, 4, 8, 16, 32)


def gradients_of(u, v=None, mask=None):
    u = frames(np.asarray(u, float), "m s-1")
    v = xr.zeros_like(u) if v is None else frames(np.asarray(v, float), "m s-1")
    return velocity_gradients(u, v, everywhere(u) if mask is None else mask, DX)


@pytest.mark.parametrize("average, name", [("gradient", "gradient"), ("rate", "scalar")])
def test_slip_lines_have_the_exact_moments(average, name):
    data = load("slip_lines")
    for lines in ("single", "dipole"):
        gradients = gradients_of(data[f"siu_{lines}"])
        sums = box_moments(gradients, DX, average, scales=DYADIC, offsets=False)
        expected = data[f"moments_{lines}_{name}"]
        np.testing.assert_allclose(sums.moment / sums["count"], expected, rtol=1e-7, atol=1e-9)
    single = box_moments(
        gradients_of(data["siu_single"]), DX, average, scales=DYADIC, offsets=False
    )
    np.testing.assert_allclose(scaling_exponents(single).exponent, Q - 1, atol=1e-9)


@pytest.mark.parametrize("average, name", [("gradient", "gradient"), ("rate", "scalar")])
def test_moments_and_exponents_agree_with_the_parity_set(average, name):
    data = load("velocity_parity")
    mask = frames(data["mask"])
    u, v = (frames(data[c], "m s-1").where(mask) for c in ("siu", "siv"))
    sums = box_moments(velocity_gradients(u, v, mask, 12.5e3), 12.5e3, average, offsets=False)
    fit = scaling_exponents(sums)
    np.testing.assert_allclose(fit.moment, data[f"corner_{name}_moments"], rtol=1e-5)
    np.testing.assert_allclose(fit.length_km, data[f"corner_{name}_L_km"], rtol=1e-7)
    np.testing.assert_array_equal(sums["count"], data[f"corner_{name}_boxes"])
    np.testing.assert_allclose(fit.exponent, data[f"corner_{name}_beta"], atol=1e-5)


def test_the_scalar_average_is_conserved_and_offsets_pool_four_positions():
    gradients = gradients_of(np.random.default_rng(0).standard_normal((33, 33)))
    fit = scaling_exponents(box_moments(gradients, DX, "rate", offsets=False, scales=DYADIC))
    assert abs(float(fit.exponent.sel(q=1))) < 1e-12
    counts = box_moments(gradients, DX, "rate")["count"].values
    assert counts.tolist() == [1024, 31**2, 15**2, 7**2, 3**2]


def test_constants_and_reflections_leave_the_exponents():
    u, v = (np.random.default_rng(s).standard_normal((17, 17)).cumsum(0) for s in (1, 2))
    fits = [
        scaling_exponents(box_moments(gradients_of(*pair), DX, "gradient", offsets=False))
        for pair in ((u, v), (7 * u, 7 * v), (v.T, u.T), (-u[:, ::-1], v[:, ::-1]))
    ]
    for fit in fits[1:]:
        np.testing.assert_allclose(fit.exponent, fits[0].exponent, rtol=1e-9)


def test_moments_of_few_boxes_are_marked():
    shear = np.zeros((129, 129))
    shear[60:, 60] = 1.0
    shear[63, 63] = 9.0
    sums = box_moments(gradients_of(shear), DX)
    noise = box_moments(gradients_of(np.random.default_rng(0).standard_normal((129, 129))), DX)
    assert scaling_exponents(sums).largest_share.max() > 0.5
    assert scaling_exponents(noise).largest_share.sel(q=1) < 0.5


def test_brownian_surfaces_have_their_exponent_with_and_without_land():
    data = load("fbm")
    h, mask = frames(data["h_H030"].astype(float)), frames(data["mask"])
    for cells, expected in (
        (everywhere(h), [0.151, 0.301, 0.451, 0.600, 0.748, 0.895]),
        (mask, [0.153, 0.304, 0.455, 0.605, 0.755, 0.904]),
    ):
        fit = structure_exponents(structure_sums(h.where(cells, 9999.0), cells, DX))
        np.testing.assert_allclose(fit.exponent.sel(increment=1), expected, atol=1e-3)
        np.testing.assert_allclose(fit.exponent.sel(increment=2), 0.3 * Q, atol=0.1)
        assert abs(fit.concavity).max() < 0.01


def test_second_increments_do_not_see_a_slope_and_directions_can_be_separated():
    h = frames(np.arange(26.0) + 3 * np.arange(50.0)[:, None])
    sums = structure_sums(h, everywhere(h), DX, directions=("y",))
    mean = sums.moment / sums["count"]
    r = np.array(sums.scale.values, float)
    np.testing.assert_allclose(mean.sel(increment=1, q=1), 3 * r)
    assert mean.sel(increment=2).sel(scale=slice(None, 12)).max() < 1e-12
    diagonal = structure_sums(h, everywhere(h), DX, directions=("diagonal_down",))
    mean = diagonal.moment / diagonal["count"]
    np.testing.assert_allclose(mean.sel(increment=1, q=1, scale=4), 8.0)  # 4 (3 - 1)
    length = diagonal["length"] / diagonal["count"]
    np.testing.assert_allclose(length.sel(increment=1), DX / 1e3 * 2**0.5 * r)
    with pytest.raises(InputError, match="diagonal_up"):
        structure_sums(h, everywhere(h), DX, directions=("x", "diagonal_up"))


def test_an_integrated_cascade_is_concave():
    h = frames(load("fif")["h"].astype(float))
    fit = structure_exponents(structure_sums(h, everywhere(h), DX))
    mean, sd = [0.230, 0.432, 0.606, 0.754, 0.875, 0.972], [0.008, 0.017, 0.027, 0.04, 0.056, 0.076]
    assert (abs(fit.exponent.sel(increment=1).values - mean) < 3 * np.array(sd)).all()
    assert fit.concavity.sel(increment=1) > 0.05


def test_the_universal_fit_recovers_its_parameters():
    for alpha in (1.0, 1.4, 2.0):
        k = Q * np.log(Q) if alpha == 1 else (Q**alpha - Q) / (alpha - 1)
        fit = universal_fit(xr.DataArray([0.1 * k + 0.2 * Q] * 2, {"q": Q}, ("run", "q")))
        np.testing.assert_allclose(fit.to_array().T, [[0.1, alpha, 0.2]] * 2, atol=1e-4)
    fit = scaling_exponents(box_moments(gradients_of(load("slip_lines")["siu_single"]), DX))
    np.testing.assert_allclose(
        fit.curvature * fit.q**2 + fit.linear * fit.q, fit.exponent, atol=0.6
    )


def test_drift_without_memory_and_frozen_drift_scale_with_time_as_they_should():
    rng = np.random.default_rng(0)
    coords = {"time": np.datetime64("2020-01-01", "ns") + np.arange(64) * np.timedelta64(6, "h")}
    random = xr.DataArray(rng.standard_normal((64, 24, 24)), coords, ("time", "y", "x"))
    random.attrs["units"] = "m s-1"
    mask = xr.ones_like(random[0], bool)
    alpha = temporal_exponents(temporal_sums(random, random, mask, DX)).exponent
    np.testing.assert_allclose(alpha.sel(scale=1), Q / 2, atol=0.06)
    frozen = random * 0 + random[0]
    frozen.attrs = random.attrs
    fit = temporal_exponents(temporal_sums(frozen, frozen, mask, DX))
    assert abs(fit.exponent).max() < 1e-9 and abs(fit.alpha0) < 1e-9 and abs(fit.c) < 1e-9
    sums = temporal_sums(random, random, mask, DX)
    starts = xr.concat([sums, sums.where(False)], "init_time")  # the second one has no data
    for coefficient in (temporal_exponents(starts)[name] for name in ("c", "alpha0", "beta0")):
        assert coefficient.isnull().values.tolist() == [False, True]
    with pytest.raises(InputError, match="4; widen its range"):
        small = random[:, :7, :7]
        temporal_exponents(temporal_sums(small, small, mask[:7, :7], DX))
    with pytest.raises(InputError, match="time windows fit"):
        temporal_sums(random[:6], random[:6], mask, DX)


def test_bootstrap_samples_are_paired_and_their_spread_is_a_standard_error():
    u = np.random.default_rng(0).standard_normal((12, 17, 17))
    sums = box_moments(gradients_of(u), DX, "gradient")

    def estimate(each):
        return scaling_exponents(each, over=())[["exponent"]]

    draws = bootstrap(estimate, sums, "frame", block=2, draws=50).exponent
    assert draws.sizes == {"draw": 50, "q": 6}
    by_frame = scaling_exponents(sums, over=()).exponent
    expected = by_frame.std("frame") / 12**0.5
    assert (abs(np.log(draws.std("draw") / expected)) < np.log(2)).all()
    twice = bootstrap(estimate, 2 * sums, "frame", block=2, draws=50).exponent
    np.testing.assert_allclose(twice, draws)


def test_lazy_sums_equal_eager_ones():
    field = frames(np.random.default_rng(0).random((20, 33, 33)))
    eager = box_moments(field, DX, "rate")
    lazy = box_moments(field.chunk(frame=6), DX, "rate")
    assert lazy.moment.chunks
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-12)


def test_wrong_arguments_are_refused():
    field = frames(np.zeros((17, 17)))
    for options, message in (
        ({"average": "gradient"}, "velocity gradients"),
        ({"scales": (1, 3)}, "powers of two"),
        ({"q": (0.0, 1.0)}, "can be zero"),
    ):
        with pytest.raises(InputError, match=message):
            box_moments(field, DX, **({"average": "rate"} | options))
    with pytest.raises(InputError, match="can be zero"):
        structure_sums(field, everywhere(field), DX, q=(-1.0, 1.0))
    with pytest.raises(InputError, match="expected at least 4"):
        scaling_exponents(box_moments(field + 1, DX, "rate", scales=(1, 2, 4)))
    with pytest.raises(InputError, match="expected at least 4"):
        scaling_exponents(box_moments(field[:7, :7] + 1, DX, "rate"))
