"""Linear features: a lattice of known lines, thinning, crossings, the null."""

import numpy as np
import pytest
import xarray as xr
from scaling_fields import frames, load

from seaice_lab.diagnostics import features
from seaice_lab.diagnostics.features import feature_map, feature_statistics, feature_sums
from seaice_lab.diagnostics.frames import phase_randomised


@pytest.fixture(scope="module")
def lattice():
    data = load("lkf_lattice")
    return frames(data["eps_tot"][None].astype(float)).where(frames(data["mask"]))


def test_the_detector_finds_the_lattice_as_the_parity_set_says(lattice):
    valid = lattice.notnull().values
    result = features.find_features(lattice.fillna(0).values, valid, reconnect=False)
    angle = np.degrees(np.arctan2(*result.vector.T)) % 180
    assert abs(len(result.length) - 136) < 3 * 7
    assert abs(result.length.sum() - 1313) < 3 * 46
    assert abs(result.lines.sum() - 2441) < 3 * 26
    for direction, share, bias, sd in ((66, 0.34, 0.2, 0.6), (114, 0.33, -0.7, 0.5)):
        near = abs(angle - direction) <= 12
        weight = result.length[near]
        assert abs(weight.sum() / result.length.sum() - share) < 3 * 0.025
        assert abs((weight * (angle[near] - direction)).sum() / weight.sum() - bias) < 3 * sd
    statistics = feature_statistics(feature_sums(lattice, 25e3, reconnect=False))
    assert abs(statistics.median_angle - 47) < 3 * 9
    assert statistics.rate_share > 2 * statistics.area_share and statistics.contrast > 2


def test_reconnection_makes_fewer_and_longer_features_and_values_under_land_do_not_matter(lattice):
    separate = feature_statistics(feature_sums(lattice, 25e3, reconnect=False))
    joined = feature_statistics(feature_sums(lattice, 25e3))
    assert joined.number_density < separate.number_density
    assert joined.mean_length > 1.15 * separate.mean_length
    assert joined.length_90 > joined.mean_length
    labels = feature_map(lattice)
    assert labels.where(lattice.isnull()).max() == 0 and labels.max() > 100
    np.testing.assert_allclose(joined.orientation.sum(), 1)


def test_one_straight_line_is_one_feature_of_its_length_and_direction():
    rate = np.full((60, 60), 0.01) + 1e-4 * np.random.default_rng(0).random((60, 60))
    rate[range(10, 41), range(10, 41)] = 0.5
    statistics = feature_statistics(feature_sums(frames(rate), 10e3, threshold=0.02))
    np.testing.assert_allclose(statistics.mean_length, 10 * (30 * 2**0.5 + 1), rtol=0.07)
    assert statistics.orientation.idxmax() == 52.5 - 15 or statistics.orientation.idxmax() == 52.5


def test_conjugate_crossings_take_the_side_of_the_compression():
    rate, vorticity = np.full((2, 60, 60), 0.01)
    along = np.linspace(-25, 25, 400)
    # Lines at 60 and 120 degrees; clockwise on the first compresses at 15 degrees.
    for angle, sign in ((60, -1), (120, 1)):
        row = np.round(30 + along * np.sin(np.radians(angle))).astype(int)
        column = np.round(30 + along * np.cos(np.radians(angle))).astype(int)
        rate[row, column], vorticity[row, column] = 0.5, 0.5 * sign
    medians = [
        float(feature_statistics(feature_sums(frames(rate), 1e4, 0.02, vorticity=v)).median_angle)
        for v in (None, frames(vorticity), frames(-vorticity), frames(abs(vorticity)))
    ]
    assert abs(medians[0] - 60) < 6 and np.isnan(medians[3])
    assert abs(medians[1] - 120) < 6 and abs(medians[2] - 60) < 6


def test_features_follow_the_grid_and_lazy_frames_equal_eager_ones(lattice):
    field = xr.concat([lattice, lattice * 2] * 5, "frame")
    eager = feature_sums(field, 25e3)
    lazy = feature_sums(field.chunk(frame=3), 25e3)
    assert lazy.rate.chunks
    xr.testing.assert_allclose(lazy.compute(), eager)
    xr.testing.assert_allclose(feature_statistics(lazy), feature_statistics(eager))
    # The rank detector does not see the amplitude; the fixed threshold does.
    assert (eager["count"] == eager["count"][0]).all()
    fixed = feature_sums(field[:2], 25e3, threshold=0.02).skeleton
    assert fixed[1] > fixed[0]


def test_phase_randomised_fields_keep_mean_spread_and_coherence_and_lose_the_lines(lattice):
    mask = lattice.notnull()
    log = np.log10(lattice)
    first, second = phase_randomised([log, 3 * log + 1], mask, seed=1)
    dims = ("y", "x")
    np.testing.assert_allclose(first.mean(dims), log.mean(dims))
    np.testing.assert_allclose(first.std(dims), log.std(dims))
    xr.testing.assert_allclose(second, 3 * first + 1)
    null = feature_statistics(feature_sums(10**first, 25e3))
    assert null.contrast < 0.8 * feature_statistics(feature_sums(lattice, 25e3)).contrast


def test_a_field_without_lines_has_no_features():
    flat = frames(np.full((2, 20, 20), 0.1))
    statistics = feature_statistics(feature_sums(flat, 25e3))
    assert statistics.length_density == 0 and np.isnan(statistics.mean_length)
    assert np.isnan(statistics.median_angle)
