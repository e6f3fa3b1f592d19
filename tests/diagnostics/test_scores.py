from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scores.continuous
import scores.probability
import xarray as xr

from seaice_lab.diagnostics.bootstrap import (
    confidence_intervals,
    independent_periods,
    period_weights,
)
from seaice_lab.diagnostics.ensembles import crps, spread
from seaice_lab.diagnostics.regions import polar_regions, scores_by_region
from seaice_lab.diagnostics.score_tables import pool_by_month, pool_starts, scores_by_start
from seaice_lab.diagnostics.scores import (
    anomaly_correlation,
    bias,
    correlation,
    extent,
    ice_edge_error,
    mean_absolute_error,
    rmse,
    skill,
    volume,
)
from seaice_lab.errors import InputError

DATA = Path(__file__).parents[1] / "data" / "surrogate"

DIMS = ("init_time", "lead_time", "y", "x")


def score_table(*arguments):
    return pool_starts(scores_by_start(*arguments))


def forecast_like(values):
    values = np.asarray(values, dtype="float64")
    starts, leads = values.shape[:2]
    return xr.DataArray(
        values,
        dims=DIMS,
        coords={
            "init_time": pd.date_range("2018-01-01", periods=starts, freq="6h"),
            "lead_time": pd.timedelta_range("0h", periods=leads, freq="12h"),
        },
        name="sit",
        attrs={"units": "m", "standard_name": "sea_ice_thickness"},
    )


def grid_like(values):
    return xr.DataArray(np.asarray(values), dims=("y", "x"))


@pytest.fixture
def case(rng):
    shape = (3, 4, 5, 6)
    ocean = rng.random(shape[-2:]) > 0.4
    truth = rng.random(shape)
    forecast = truth + rng.normal(0.1, 0.3, shape)
    area = rng.uniform(1.0, 9.0, shape[-2:])
    return forecast_like(forecast), forecast_like(truth), grid_like(ocean), grid_like(area)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_a_constant_error_is_both_the_rmse_and_the_bias():
    truth = forecast_like(np.ones((2, 3, 4, 4)))
    ocean = grid_like(np.eye(4, dtype=bool))
    np.testing.assert_allclose(rmse(truth - 0.25, truth, ocean), 0.25, rtol=1e-15)
    np.testing.assert_allclose(bias(truth - 0.25, truth, ocean), -0.25, rtol=1e-15)


def test_errors_of_opposite_sign_cancel_in_the_bias_and_not_in_the_rmse():
    truth = forecast_like(np.zeros((1, 1, 1, 4)))
    forecast = forecast_like([[[[3.0, -3.0, 4.0, -4.0]]]])
    ocean = grid_like([[True] * 4])
    assert bias(forecast, truth, ocean).item() == 0.0
    assert rmse(forecast, truth, ocean).item() == pytest.approx(np.sqrt(12.5), rel=1e-15)


def test_cells_count_by_their_area():
    truth = forecast_like(np.zeros((1, 1, 1, 3)))
    forecast = forecast_like([[[[1.0, 2.0, 100.0]]]])
    ocean, area = grid_like([[True, True, False]]), grid_like([[3.0, 1.0, 7.0]])
    assert bias(forecast, truth, ocean, area).item() == pytest.approx(5 / 4, rel=1e-15)
    assert rmse(forecast, truth, ocean, area).item() == pytest.approx(np.sqrt(7 / 4), rel=1e-15)


def test_nothing_on_land_counts_not_even_nan(case):
    forecast, truth, ocean, area = case
    spoilt_forecast, spoilt_truth = forecast.where(ocean, 1e6), truth.where(ocean)
    for score in (rmse, bias):
        xr.testing.assert_identical(
            score(spoilt_forecast, spoilt_truth, ocean, area), score(forecast, truth, ocean, area)
        )


def test_a_nan_in_one_ocean_cell_spoils_the_score_of_its_start_and_lead_alone(case):
    forecast, truth, ocean, _ = case
    row, column = np.argwhere(ocean.values)[0]
    forecast[1, 2, row, column] = np.nan
    missing = np.isnan(rmse(forecast, truth, ocean))
    assert missing[1, 2] and missing.sum() == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_scores_agree_with_the_scores_package(case, weighted):
    forecast, truth, ocean, area = case
    area = area if weighted else None
    theirs = {"reduce_dims": ["y", "x"], "weights": area}
    seen = forecast.where(ocean)
    for ours, reference in (
        (rmse, scores.continuous.rmse),
        (bias, scores.continuous.additive_bias),
    ):
        np.testing.assert_allclose(
            ours(forecast, truth, ocean, area), reference(seen, truth, **theirs), rtol=1e-12
        )


def test_published_rule_dilutes_the_scores_with_land(case):
    forecast, truth, ocean, _ = case
    share = ocean.mean().item()
    everywhere = rmse(forecast, truth, ocean, land_counts_as_zero=True)
    np.testing.assert_allclose(everywhere, rmse(forecast, truth, ocean) * np.sqrt(share))
    everywhere = bias(forecast, truth, ocean, land_counts_as_zero=True)
    np.testing.assert_allclose(everywhere, bias(forecast, truth, ocean) * share)


@pytest.mark.parametrize("name", ["published_constants", "strong", "positive_bias"])
def test_published_rule_matches_the_published_implementation(name):
    # Scores computed with the published implementation (Durand et al. 2024), normalised units.
    stored = {
        key.removeprefix(f"{name}/"): value
        for key, value in np.load(DATA / "rollout_UNet3.npz").items()
        if key.startswith(name)
    }
    truth = forecast_like(stored["x_rows"][None, ..., 0])
    forecast = forecast_like(stored["x_pred"][None])
    persistence = forecast_like(np.broadcast_to(truth[:, :1], truth.shape))
    ocean = grid_like(stored["mask"] == 1)
    published = {"land_counts_as_zero": True}
    np.testing.assert_allclose(rmse(forecast, truth, ocean, **published)[0], stored["rmse"], 1e-6)
    np.testing.assert_allclose(
        rmse(persistence, truth, ocean, **published)[0], stored["rmse_persistence"], 1e-6
    )
    np.testing.assert_allclose(
        bias(forecast, truth, ocean, **published)[0], stored["bias"], rtol=1e-6, atol=1e-9
    )


def test_table_pools_the_squared_errors_of_the_starts_and_keeps_each_start(case):
    forecast, truth, ocean, area = case
    table = score_table(forecast, truth, ocean, area)
    weights = area.values * ocean.values
    squared = (forecast - truth).values ** 2
    pooled = np.sqrt((squared * weights).sum((0, 2, 3)) / (3 * weights.sum()))
    np.testing.assert_allclose(table["rmse"], pooled, rtol=1e-12)
    np.testing.assert_allclose(table["bias"], table["bias_by_start"].mean("init_time"))
    np.testing.assert_allclose(table["rmse_by_start"], rmse(forecast, truth, ocean, area))
    np.testing.assert_allclose(
        table["mean_absolute_error"],
        mean_absolute_error(forecast, truth, ocean, area).mean("init_time"),
    )
    np.testing.assert_allclose(
        table["extent_error"], table["edge_error_over"] - table["edge_error_under"]
    )


def test_a_table_has_units_and_cell_methods(case):
    forecast, truth, ocean, area = case
    table = score_table(forecast, truth, ocean, area)
    assert table["rmse"].attrs == {
        "long_name": "Root-mean-square error",
        "units": "m",
        "cell_methods": "area: root_mean_square where sea init_time: root_mean_square",
    }
    assert table["volume_error"].attrs["units"] == "m3"
    assert table["edge_error_over"].attrs["units"] == "m2"
    assert table["correlation"].attrs["units"] == "1"
    assert table["lead_time"].attrs["standard_name"] == "forecast_period"
    assert np.issubdtype(table["lead_time"].dtype, np.timedelta64)


def test_lazy_forecasts_give_the_same_table_without_being_loaded(case):
    forecast, truth, ocean, area = case
    chunks = {"init_time": 1, "lead_time": 2}
    lazy = score_table(forecast.chunk(chunks), truth.chunk(chunks), ocean, area, truth.chunk() + 1)
    assert all(variable.chunks for variable in lazy.data_vars.values())
    xr.testing.assert_allclose(
        lazy.compute(), score_table(forecast, truth, ocean, area, truth + 1), rtol=1e-12
    )


def test_mean_absolute_error_weighs_both_signs_alike():
    truth = forecast_like(np.zeros((1, 1, 1, 4)))
    forecast = forecast_like([[[[3.0, -3.0, 4.0, -4.0]]]])
    assert mean_absolute_error(forecast, truth, grid_like([[True] * 4])).item() == 3.5


def test_correlation_is_one_for_a_linear_map_and_nan_for_a_uniform_field(case):
    _, truth, ocean, area = case
    np.testing.assert_allclose(correlation(2 * truth + 3, truth, ocean, area), 1, rtol=1e-12)
    np.testing.assert_allclose(correlation(-truth, truth, ocean, area), -1, rtol=1e-12)
    for value in (0, 0.1, 1, 2.7):
        assert np.isnan(correlation(0 * truth + value, truth, ocean, area)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_correlations_and_errors_agree_with_the_scores_package(case, weighted):
    forecast, truth, ocean, area = case
    f, t = forecast.where(ocean), truth.where(ocean)
    weights = area.where(ocean, 0) if weighted else None
    mae = scores.continuous.mae(f, t, preserve_dims=["init_time", "lead_time"], weights=weights)
    ours = mean_absolute_error(forecast, truth, ocean, area if weighted else None)
    np.testing.assert_allclose(ours, mae, rtol=1e-12)
    if not weighted:
        theirs = scores.continuous.correlation.pearsonr(
            f, t, preserve_dims=["init_time", "lead_time"]
        )
        np.testing.assert_allclose(correlation(forecast, truth, ocean), theirs, rtol=1e-10)


def test_anomaly_correlation_takes_climatology_away_and_keeps_a_common_departure(case):
    _, truth, ocean, area = case
    climatology = forecast_like(np.full(truth.shape, 7.0))
    uniform = climatology + 0.5
    ours = anomaly_correlation(uniform, uniform + 1, climatology, ocean, area)
    np.testing.assert_allclose(ours, 1, rtol=1e-12)
    departure = truth - 0.5
    ours = anomaly_correlation(climatology + departure, climatology - departure, climatology, ocean)
    np.testing.assert_allclose(ours, -1, rtol=1e-12)


def test_skill_is_the_share_of_the_reference_error_taken_away():
    score, reference = (xr.DataArray(v) for v in ([0.1, 0.2, 0.6, 0.1], [0.4, 0.2, 0.4, 0.0]))
    np.testing.assert_allclose(skill(score, reference), [0.75, 0.0, -0.5, np.nan])


def test_volume_and_extent_count_the_area_of_the_ocean_cells():
    thickness = forecast_like([[[[2.0, 0.05, 0.5, np.nan]]]])
    ocean = grid_like([[True, True, True, False]])
    area = grid_like([[1e6, 2e6, 4e6, 8e6]])
    assert volume(thickness, ocean, area).item() == pytest.approx(2e6 + 1e5 + 2e6)
    assert extent(thickness, ocean, area).item() == 5e6
    assert extent(thickness, ocean, area, threshold=0.01).item() == 7e6
    assert np.isnan(extent(thickness, ocean | True, area))
    with pytest.raises(InputError, match="pass the threshold"):
        extent(thickness.assign_attrs(standard_name="air_temperature"), ocean, area)


def test_the_ice_edge_error_splits_into_too_much_and_too_little():
    concentration = {"standard_name": "sea_ice_area_fraction", "units": "1"}
    truth = forecast_like([[[[0.9, 0.1, 0.2, 0.0]]]]).assign_attrs(concentration)
    forecast = forecast_like([[[[0.1, 0.9, 0.16, 0.0]]]]).assign_attrs(concentration)
    ocean, area = grid_like([[True] * 4]), grid_like([[1e6, 2e6, 4e6, 8e6]])
    over, under = ice_edge_error(forecast, truth, ocean, area)
    assert (over.item(), under.item()) == (2e6, 1e6)
    error = extent(forecast, ocean, area) - extent(truth, ocean, area)
    assert error.item() == (over - under).item()
    over, under = ice_edge_error(forecast.where(forecast > 0.05), truth, ocean, area)
    assert np.isnan(over).all() and np.isnan(under).all()


def ensemble_like(members):
    return xr.concat([forecast_like(m) for m in members], "member")


def test_crps_of_two_members_has_its_closed_form_and_agrees_with_the_scores_package(rng):
    truth = forecast_like(np.zeros((1, 1, 1, 1)))
    ocean = grid_like([[True]])
    pair = ensemble_like([np.full((1, 1, 1, 1), 1.0), np.full((1, 1, 1, 1), 4.0)])
    assert crps(pair, truth, ocean).item() == pytest.approx(2.5 - 3 / 2)
    members = ensemble_like(rng.normal(size=(6, 2, 3, 4, 5)))
    truth = forecast_like(rng.normal(size=(2, 3, 4, 5)))
    ocean = grid_like(rng.random((4, 5)) > 0.3)
    theirs = scores.probability.crps_for_ensemble(
        members.where(ocean),
        truth.where(ocean),
        "member",
        method="fair",
        preserve_dims=["init_time", "lead_time"],
    )
    np.testing.assert_allclose(crps(members, truth, ocean), theirs, rtol=1e-10)
    lazy = crps(members.chunk({"init_time": 1}), truth.chunk({"init_time": 1}), ocean)
    np.testing.assert_allclose(lazy.compute(), theirs, rtol=1e-10)


def test_spread_of_two_members_has_its_closed_form():
    pair = ensemble_like([np.full((1, 1, 1, 2), 1.0), np.full((1, 1, 1, 2), 4.0)])
    assert spread(pair, grid_like([[True, True]])).item() == pytest.approx(np.sqrt(4.5))


def test_an_ensemble_of_one_is_refused():
    truth = forecast_like(np.zeros((1, 1, 1, 1)))
    for score in (
        lambda e: crps(e, truth, grid_like([[True]])),
        lambda e: spread(e, grid_like([[True]])),
    ):
        with pytest.raises(InputError, match="1 members along 'member', expected at least 2"):
            score(ensemble_like([truth.values]))


def test_regions_hold_the_places_they_are_named_after():
    places = {
        "central Arctic": (88, -150),
        "Beaufort Sea": (73, -140),
        "Chukchi Sea": (70, -170),
        "East Siberian Sea": (72, 160),
        "Laptev Sea": (76, 125),
        "Kara Sea": (75, 70),
        "Barents Sea": (75, 40),
        "Greenland Sea": (75, -5),
        "Baffin Bay": (72, -65),
        "Canadian Archipelago": (73, -100),
        "Weddell Sea": (-72, -40),
        "Indian Ocean": (-66, 75),
        "Western Pacific Ocean": (-65, 130),
        "Ross Sea": (-75, 180),
        "Bellingshausen and Amundsen Seas": (-70, -85),
    }
    latitude, longitude = (grid_like([values]) for values in zip(*places.values(), strict=True))
    regions = polar_regions(latitude, longitude)
    assert list(regions) == list(places)
    for index, name in enumerate(places):
        found = [other for other, mask in regions.items() if mask[0, index]]
        assert found == [name]


def test_every_region_is_scored_alone(case):
    forecast, truth, ocean, area = case
    west = grid_like(np.arange(6) < 3 + np.zeros((5, 1)))
    found = scores_by_region(forecast, truth, ocean, {"west": west, "east": ~west}, area)
    np.testing.assert_allclose(
        found.rmse.sel(region="east"), rmse(forecast, truth, ocean & ~west, area)
    )
    np.testing.assert_allclose(
        found.bias.sel(region="west"), bias(forecast, truth, ocean & west, area)
    )


def test_a_region_and_a_month_are_scored_alone(case):
    forecast, truth, ocean, area = case
    half = grid_like(np.arange(5)[:, None] + np.zeros(6) < 2)
    part = rmse(
        forecast.isel(y=slice(0, 2)),
        truth.isel(y=slice(0, 2)),
        ocean.isel(y=slice(0, 2)),
        area.isel(y=slice(0, 2)),
    )
    np.testing.assert_allclose(rmse(forecast, truth, ocean & half, area), part)
    dates = pd.to_datetime(["2018-01-30", "2018-01-31", "2018-02-01"])
    forecast, truth = (field.assign_coords(init_time=dates) for field in (forecast, truth))
    monthly = pool_by_month(scores_by_start(forecast, truth, ocean))
    january = score_table(forecast[:2], truth[:2], ocean)
    for name in ("rmse", "bias"):
        np.testing.assert_allclose(monthly[name].sel(month=1), january[name])


def test_starts_fall_into_independent_periods():
    def periods(days, series=None, length=5):
        times = np.datetime64("2020-01-01") + np.array(days) * np.timedelta64(1, "D")
        times = xr.DataArray(times.astype("M8[ns]"), dims="init_time")
        return independent_periods(times, length, series).tolist()

    assert periods([0]) == periods([3], length=60) == [0]
    assert periods(range(4)) == [0] * 4  # shorter than a period
    assert periods(range(11)) == [0] * 6 + [1] * 5
    assert periods([0, 5, 11]) == [0, 1, 2]  # far from each other
    assert periods([0, 1, 8, 9]) == [0, 0, 1, 1]
    assert periods([0, 3, 1, 4]) == [0, 0, 1, 1]  # a second run, of the same days
    assert periods([0, 3, 4, 5], [7, 7, 8, 8]) == [0, 0, 1, 1]
    assert periods(range(100), length=60) == [0] * 100
    assert max(periods(range(365), length=60)) == 5


def test_starts_of_a_period_are_drawn_together():
    weight = period_weights(np.array([0, 0, 0, 1, 2]), draws=400)
    np.testing.assert_allclose(weight.sum("init_time"), 1)
    assert weight.isel(init_time=slice(3)).std("init_time").max() < 1e-12
    assert abs(float((weight[:, 3] > 0).mean()) - (1 - (2 / 3) ** 3)) < 0.1


def test_confidence_intervals_have_the_width_of_the_standard_error(rng):
    starts = 400
    values = rng.normal(1.0, 0.5, (starts, 1))
    by_start = xr.Dataset(
        {"bias": (("init_time", "lead_time"), values, {"units": "m"})},
        coords={"init_time": pd.date_range("2018-01-01", periods=starts)},
    )
    found = confidence_intervals(by_start, draws=2000)
    half_width = 1.96 * values.std(ddof=1) / np.sqrt(starts)
    np.testing.assert_allclose(found.bias_low, values.mean() - half_width, atol=0.01)
    np.testing.assert_allclose(found.bias_high, values.mean() + half_width, atol=0.01)
    again = confidence_intervals(by_start, draws=2000)
    xr.testing.assert_identical(found, again)
    # ten equal starts in a row carry the information of one
    alike = by_start.isel(init_time=np.repeat(np.arange(40), 10))
    alike = alike.assign_coords(init_time=by_start.init_time)
    single, blocks = confidence_intervals(alike), confidence_intervals(alike, block=10)
    ratio = (blocks.bias_high - blocks.bias_low) / (single.bias_high - single.bias_low)
    assert ratio.item() == pytest.approx(np.sqrt(10), rel=0.3)
    with pytest.raises(InputError, match="at least two blocks"):
        confidence_intervals(by_start.isel(init_time=slice(3)), block=2)


def test_a_truth_at_other_times_is_refused_instead_of_scoring_the_overlap(case):
    forecast, truth, ocean, _ = case
    with pytest.raises(InputError, match="share their coordinates"):
        rmse(forecast, truth.isel(init_time=slice(1, None)), ocean)


def test_a_truth_without_lead_time_is_refused_instead_of_broadcast(case):
    forecast, truth, ocean, _ = case
    with pytest.raises(InputError, match="init_time \\+ lead_time"):
        rmse(forecast, truth.isel(lead_time=0), ocean)


def test_a_mask_that_is_not_boolean_or_has_no_ocean_is_refused(case):
    forecast, truth, ocean, _ = case
    with pytest.raises(InputError, match="mask == 1"):
        rmse(forecast, truth, ocean.astype("int8"))
    with pytest.raises(InputError, match="at least one True"):
        rmse(forecast, truth, ocean & False)


def test_different_units_are_refused(case):
    forecast, truth, ocean, _ = case
    with pytest.raises(InputError, match="'cm' and the truth 'm'"):
        score_table(forecast.assign_attrs(units="cm"), truth, ocean)
