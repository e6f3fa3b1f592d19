"""Scores of ensembles and their reliability against closed forms and another library."""

import numpy as np
import pytest
import scores
import xarray as xr

from seaice_lab.diagnostics import ensembles, reliability
from seaice_lab.diagnostics.regions import near_coast
from seaice_lab.diagnostics.smoothing import band_power_ratio
from seaice_lab.errors import InputError

DIMS = ("init_time", "member", "lead_time", "y", "x")
OCEAN = xr.DataArray(np.arange(20 * 16).reshape(20, 16) % 7 > 0, dims=("y", "x"))
AREA = xr.DataArray(1 + np.arange(20 * 16).reshape(20, 16) % 3, dims=("y", "x"))


@pytest.fixture(scope="module")
def reliable():
    """An ensemble and a truth from the same distribution, with two sizes of spread."""
    rng, size = np.random.default_rng(0), np.where(np.arange(16) % 2, 0.2, 2.0)
    members, truth = (
        xr.DataArray(size * rng.standard_normal((12, count, 2, 20, 16)), dims=DIMS)
        for count in (9, 1)
    )
    land = OCEAN.where(OCEAN)  # NaN on land
    return (members * land).transpose(*DIMS), (truth * land).isel(member=0)


def test_a_reliable_ensemble_passes_all_tests_of_reliability(reliable):
    members, truth = reliable
    arguments = (members, truth, OCEAN, AREA)
    np.testing.assert_allclose(ensembles.spread_skill(*arguments), 1, atol=0.05)
    histogram = ensembles.rank_histogram(*arguments).mean("init_time")
    assert (reliability.rank_distance(histogram) < 0.08).all()
    bins = reliability.spread_skill_by_spread(*arguments[:3], bins=2)
    np.testing.assert_allclose(bins.rmse / bins.spread, 1, atol=0.05)
    assert (bins.spread.diff("bin") > 0).all() and (bins.rmse.diff("bin") > 0).all()
    table = reliability.reliability(members, truth, 0.0, OCEAN, AREA)
    np.testing.assert_allclose(table["share"].sum("probability"), 1)
    # Members and truth are independent and symmetric, so the event always has the frequency 1/2.
    np.testing.assert_allclose(table.observed.isel(probability=slice(3, 7)), 0.5, atol=0.08)
    half = reliability.coverage(*arguments[:2], 0.5, OCEAN, AREA).mean("init_time")
    np.testing.assert_allclose(half, 0.5, atol=0.03)
    most = reliability.coverage(*arguments[:2], 0.99, OCEAN, AREA).mean("init_time")
    np.testing.assert_allclose(most, 8 / 10, atol=0.03)  # the range of nine members
    volume = reliability.volume_calibration(*arguments)
    assert (volume.inside > 0.5).all() and (abs(volume.bias) < 0.1).all()
    # The ratio of a field whose only cell is this mean.
    means = [field.weighted(OCEAN * AREA).mean(("y", "x")) for field in (members, truth)]
    means = [mean.expand_dims(y=1, x=1) for mean in means]
    expected = ensembles.spread_skill(*means, OCEAN.isel(y=[0], x=[0]) | True)
    np.testing.assert_allclose(volume.spread_skill, expected)


def test_too_little_spread_is_seen(reliable):
    members, truth = reliable
    narrow = 0.5 * members
    arguments = (narrow, truth, OCEAN)
    ratio = ensembles.spread_skill(*arguments) / ensembles.spread_skill(members, truth, OCEAN)
    assert (ratio < 0.6).all()
    histogram = ensembles.rank_histogram(*arguments).mean("init_time")
    assert (reliability.rank_distance(histogram) > 0.3).all()
    covered = reliability.coverage(narrow, truth, 0.5, OCEAN).mean("init_time")
    assert (covered < 0.35).all()
    pooled = ensembles.spread_skill(*arguments, dim=("init_time", "lead_time"))
    assert pooled.dims == ()


def test_the_distance_of_a_histogram_has_its_closed_form():
    flat = xr.DataArray([0.25] * 4, dims="rank")
    assert reliability.rank_distance(flat) == 0
    assert reliability.rank_distance(xr.DataArray([1.0, 0, 0, 0], dims="rank")) == 1.5


def test_reliability_counts_by_hand():
    members = xr.DataArray([[0.0, 2.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0]], dims=("member", "x"))
    members = members.expand_dims(init_time=1, y=1)
    truth = xr.DataArray([0.0, 2.0, 0.0, 2.0], dims="x").expand_dims(init_time=1, y=1)
    ocean = xr.DataArray([[True] * 4], dims=("y", "x"))
    table = reliability.reliability(members, truth, 1.0, ocean)
    np.testing.assert_allclose(table.probability, [0, 0.5, 1])
    np.testing.assert_allclose(table["share"], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(table.observed, [0, 1, 0.5])


def test_the_energy_score_of_one_cell_is_the_crps_and_has_its_definition(reliable):
    members, truth = (values.isel(init_time=0, lead_time=0) for values in reliable)
    one = xr.zeros_like(OCEAN)
    one[3, 4] = True
    np.testing.assert_allclose(
        ensembles.energy_score(members, truth, one), ensembles.crps(members, truth, one), rtol=1e-6
    )
    score = ensembles.energy_score(members, truth, OCEAN, AREA)
    weight = AREA.where(OCEAN, 0) / AREA.where(OCEAN, 0).sum()

    def norm(field):
        return float((weight * (field.fillna(0) ** 2)).sum() ** 0.5)

    count = members.sizes["member"]
    listed = [members.isel(member=k) for k in range(count)]
    error = np.mean([norm(member - truth) for member in listed])
    between = sum(norm(a - b) for a in listed for b in listed)
    assert score.item() == pytest.approx(error - between / (2 * count * (count - 1)))


def test_the_variogram_score_is_that_of_another_library_and_sees_smooth_members():
    rng = np.random.default_rng(1)
    truth = xr.DataArray(rng.standard_normal((1, 6)), dims=("y", "x"))
    members = xr.DataArray(rng.standard_normal((4, 1, 6)), dims=("member", "y", "x"))
    ocean = xr.ones_like(truth, dtype=bool)
    ours = ensembles.variogram_score(members, truth, ocean, distances=(2,))
    pairs = [(a, a + 2) for a in range(4)]
    values = []
    for a, b in pairs:
        t = abs(truth[0, a] - truth[0, b]) ** 0.5
        x = abs(members[:, 0, a] - members[:, 0, b]) ** 0.5
        values.append(float((t - x.mean()) ** 2 - x.var(ddof=1) / 4))
    assert ours.item() == pytest.approx(np.mean(values))
    # White noise of the same variance as a smooth truth scores worse than smooth noise.
    base = rng.standard_normal((9, 20, 16))
    smooth = sum(np.roll(base, k, 2) for k in range(5)) / 5**0.5
    truth = xr.DataArray(smooth[0], dims=("y", "x"))
    good, bad = (xr.DataArray(values[1:], dims=("member", "y", "x")) for values in (smooth, base))
    score = [
        ensembles.variogram_score(m, truth, OCEAN, distances=(1, 2)).sum() for m in (good, bad)
    ]
    assert score[0] < 0.8 * score[1]


def test_crps_against_another_library(reliable):
    members, truth = reliable
    theirs = scores.probability.crps_for_ensemble(
        members, truth, "member", method="fair", preserve_dims=["init_time", "lead_time"]
    )
    np.testing.assert_allclose(ensembles.crps(members, truth, OCEAN), theirs, rtol=1e-9)


def test_a_missing_value_makes_its_start_missing(reliable):
    members, truth = reliable
    broken = truth.copy()
    broken[2, 0, 10, 9] = np.nan
    assert OCEAN[10, 9]
    for score in (
        lambda t: ensembles.energy_score(members, t, OCEAN),
        lambda t: ensembles.variogram_score(members, t, OCEAN).isel(distance=0),
        lambda t: reliability.coverage(members, t, 0.9, OCEAN),
    ):
        is_missing = score(broken).isnull().transpose("init_time", "lead_time").values
        assert is_missing[2, 0] and is_missing.sum() == 1


def test_the_mask_of_another_grid_is_refused(reliable):
    members = reliable[0].assign_coords(y=np.arange(20))
    with pytest.raises(InputError, match="must share their coordinates"):
        ensembles.spread(members, OCEAN.assign_coords(y=np.arange(1, 21)))
    with pytest.raises(InputError, match="must share their coordinates"):
        ensembles.spread(reliable[0], OCEAN[:10])


def test_a_dressed_forecast_adds_errors_of_other_starts(reliable):
    members, truth = reliable
    single = members.isel(member=0) + 10
    errors = truth - single
    dressed = reliability.dress(single, errors, 5, seed=3, minimum=None)
    assert dressed.dims == DIMS
    added = (dressed - single).isel(init_time=4, member=2)
    assert any(np.allclose(added, e, equal_nan=True) for e in errors.transpose("init_time", ...))
    assert float(reliability.dress(single - 20, errors, 5).min()) == 0
    with pytest.raises(InputError, match="holds 12 starts, expected at least 13"):
        reliability.dress(single, errors, 13)


def test_power_in_bands_is_the_ratio_of_variances():
    wavelength = 1 / np.array([0.0015, 0.004, 0.008, 0.015])
    coords = {"wavelength": ("wavenumber", wavelength)}
    truth = xr.DataArray([1.0, 2.0, 4.0, 8.0], coords, ("wavenumber",))
    ratio = band_power_ratio(truth * xr.DataArray([0.5, 1, 2, 3], dims="wavenumber"), truth)
    np.testing.assert_allclose(ratio, [3, 2, 1, 0.5])


def test_cells_near_the_coast_are_counted_from_land_and_not_from_the_edge():
    ocean = xr.DataArray(np.ones((5, 6), bool), dims=("y", "x"))
    assert not near_coast(ocean, 100e3, 25e3).any()
    ocean[2, 2] = False
    near = near_coast(ocean, 30e3, 25e3)
    assert near.sum() == 4 and near[2, 1] and not near[2, 2] and not near[1, 1]
