from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scores.continuous
import xarray as xr

from seaice_lab.diagnostics.scores import bias, rmse, score_table
from seaice_lab.errors import InputError

DATA = Path(__file__).parents[1] / "data" / "surrogate"

DIMS = ("init_time", "lead_time", "y", "x")


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
    assert set(table.data_vars) == {"rmse", "bias", "rmse_by_start", "bias_by_start"}


def test_table_sets_the_forecast_against_the_reference(case):
    _, truth, ocean, _ = case
    table = score_table(truth + 0.1, truth, ocean, reference=truth - 0.4)
    np.testing.assert_allclose(table["rmse_ratio"], 0.25, rtol=1e-12)
    np.testing.assert_allclose(table["bias_reference"], -0.4, rtol=1e-12)
    perfect = score_table(truth + 0.1, truth, ocean, reference=truth)
    assert not np.isfinite(perfect["rmse_ratio"]).any()


def test_table_tells_its_units_and_methods(case):
    forecast, truth, ocean, area = case
    table = score_table(forecast, truth, ocean, area, reference=truth + 1)
    assert table["rmse"].attrs == {
        "long_name": "Root-mean-square error of the forecast",
        "units": "m",
        "cell_methods": "area: root_mean_square where sea init_time: root_mean_square",
    }
    assert table["bias_reference"].attrs["units"] == "m"
    assert table["rmse_ratio"].attrs["units"] == "1"
    assert table["lead_time"].attrs["standard_name"] == "forecast_period"
    assert np.issubdtype(table["lead_time"].dtype, np.timedelta64)


def test_lazy_forecasts_give_the_same_table_without_being_loaded(case):
    forecast, truth, ocean, area = case
    chunks = {"init_time": 1, "lead_time": 2}
    lazy = score_table(forecast.chunk(chunks), truth.chunk(chunks), ocean, area, truth.chunk() + 1)
    assert all(variable.chunks for variable in lazy.data_vars.values())
    xr.testing.assert_allclose(
        lazy.compute(), score_table(forecast, truth, ocean, area, truth + 1), rtol=1e-14
    )


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
