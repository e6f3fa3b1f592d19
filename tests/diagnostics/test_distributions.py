"""Tails and distances of distributions whose parameters are known."""

import numpy as np
import pytest
from scaling_fields import frames, load

from seaice_lab.diagnostics.distributions import (
    distances,
    fit_tail,
    probability_density,
    sample_distances,
    tail_exponent,
    tail_sums,
)
from seaice_lab.errors import InputError


@pytest.fixture(scope="module")
def sample():
    return load("tails")["x"].astype(float)


def test_the_exponent_of_a_power_law_is_found(sample):
    fit = fit_tail(sample, 0.05)
    np.testing.assert_allclose([fit["alpha"], fit["alpha_error"]], [3.017, 0.037], atol=1e-3)
    assert abs(fit["likelihood_ratio"]) < 2
    searched = fit_tail(sample, "ks")
    assert abs(searched["x_min"] - 0.0503) < 0.002 and abs(searched["alpha"] - 3.008) < 0.037
    sums = tail_sums(frames(sample.reshape(6, 40, 25)), x_min=0.05, floor=0.04)
    np.testing.assert_allclose(tail_exponent(sums).alpha, fit["alpha"], rtol=1e-9)
    np.testing.assert_allclose(tail_exponent(sums).below_floor, np.mean(sample < 0.04))


def test_a_lognormal_is_not_taken_for_a_power_law():
    values = np.exp(np.random.default_rng(0).normal(-4, 1.2, 30000))
    assert fit_tail(values)["likelihood_ratio"] < -3


def test_the_exponent_agrees_with_the_package_powerlaw_where_it_is_installed(sample):
    powerlaw = pytest.importorskip("powerlaw")
    fit = powerlaw.Fit(sample, xmin=0.05, parameter_ranges={"alpha": [1, 10]})
    assert fit.alpha == pytest.approx(fit_tail(sample, 0.05)["alpha"], rel=1e-9)


def test_the_distance_of_a_shifted_distribution_is_the_shift():
    truth = np.exp(np.random.default_rng(0).normal(-3, 1, 3000))
    forecast = np.random.default_rng(1).permutation(truth) * 10**0.15
    exact = sample_distances(forecast, truth)
    assert exact["wasserstein"] == pytest.approx(0.15, abs=1e-12)
    assert 0.1 < exact["ks"] < 0.16
    sums = [tail_sums(frames(x.reshape(3, 50, 20)), floor=0) for x in (forecast, truth)]
    binned = distances(*sums)
    assert binned.wasserstein == pytest.approx(0.15, abs=2e-3)
    assert binned.ks == pytest.approx(exact["ks"], abs=0.01)
    assert distances(sums[1], sums[1]).wasserstein == 0


def test_the_density_integrates_to_one_and_has_the_slope_of_the_tail(sample):
    density = probability_density(sample, (sample.min(), sample.max() * 1.001), bins=60)
    edges = np.geomspace(sample.min(), sample.max() * 1.001, 61)
    np.testing.assert_allclose((density * np.diff(edges)).sum(), 1)
    tail = probability_density(sample, (0.05, 5))
    assert -3.6 < tail.attrs["tail_slope"] < -1.5


def test_short_tails_are_refused_or_missing():
    with pytest.raises(InputError, match="smaller x_min"):
        fit_tail([0.01, 0.02], 0.1)
    with pytest.raises(InputError, match="more than 500"):
        fit_tail(np.arange(1.0, 100), "ks")
    assert np.isnan(tail_exponent(tail_sums(frames(np.full((4, 4), 0.01)))).alpha)
