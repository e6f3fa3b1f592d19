"""Reference forecasts: exact values on fields whose future is known."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from seaice_lab import grid
from seaice_lab.diagnostics.spectra import power_spectrum
from seaice_lab.errors import InputError
from seaice_lab.surrogate.references import (
    FREE_DRIFT_WIND_FACTOR,
    TURNING_DEG,
    daily_climatology,
    damping,
    make_references,
    reference_for,
)
from seaice_lab.surrogate.truth import truth_for

SIDE_M = 25e3


def make_store(
    sit, start="2001-01-01", hours=6, train=None, wind=(0.0, 0.0), ocean=None, hemisphere="north"
):
    """A store in memory: every record before position ``train`` is for training."""
    times, rows, columns = sit.shape
    x, y = np.meshgrid(np.arange(columns) * SIDE_M, np.arange(rows) * SIDE_M)
    latitude, longitude = grid.unproject(x - x.mean(), y - y.mean(), hemisphere)
    ocean = np.ones((rows, columns), bool) if ocean is None else ocean
    split = np.full(times, 2, "int8")
    split[:train] = 0
    dims = ("time", "y", "x")
    return xr.Dataset(
        {
            "sit": (dims, np.where(ocean, sit, np.nan).astype("float32")),
            "u10": (dims, np.full(sit.shape, wind[0], "float32")),
            "v10": (dims, np.full(sit.shape, wind[1], "float32")),
        },
        coords={
            "time": pd.date_range(start, periods=times, freq=f"{hours}h"),
            "latitude": (("y", "x"), latitude),
            "longitude": (("y", "x"), longitude),
            "ocean": (("y", "x"), ocean),
            "segment": ("time", np.zeros(times, "int32")),
            "split": ("time", split),
        },
    )


def forecast_from(store, positions, leads_h):
    """An empty forecast from these records of a store."""
    positions = np.asarray(positions)
    lead = np.asarray(leads_h, "timedelta64[h]").astype("timedelta64[ns]")
    init = store.time.values[positions]
    shape = (len(positions), len(lead), *store.ocean.shape)
    return xr.DataArray(
        np.zeros(shape, "float32"),
        dims=("init_time", "lead_time", "y", "x"),
        name="sit",
        coords={
            "init_time": init,
            "lead_time": lead,
            "position": ("init_time", positions),
            "valid_time": (("init_time", "lead_time"), init[:, None] + lead),
        },
    )


def test_persistence_holds_the_record_at_the_start_at_every_lead():
    store = make_store(np.arange(8.0)[:, None, None] + np.zeros((8, 4, 5)), train=4)
    result = reference_for("persistence", forecast_from(store, [1, 5], [12, 18]), store)
    np.testing.assert_array_equal(result.values[0], 1)
    np.testing.assert_array_equal(result.values[1], 5)


def test_climatology_of_a_seasonal_cycle_is_the_cycle_damped_by_the_smoothing():
    """A Gaussian of 15 days takes exp(-(2 pi 15 / 365.25)^2 / 2) = 3.3 % off a yearly cycle."""
    days = pd.date_range("2001-01-01", "2004-12-31", freq="D")
    season = np.cos(2 * np.pi * (days.dayofyear.values - 1) / 365.25)
    sit = (2 + season)[:, None, None] + np.zeros((len(days), 2, 3))
    store = make_store(sit, hours=24, train=len(days))
    daily_mean = daily_climatology(store, "sit")
    damped = np.exp(-((2 * np.pi * 15 / 365.25) ** 2) / 2)
    expected = 2 + damped * np.cos(2 * np.pi * np.arange(366) / 365.25)
    np.testing.assert_allclose(daily_mean[:, 1, 2], expected, atol=0.005)
    result = reference_for("climatology", forecast_from(store, [3], [24, 48]), store)
    np.testing.assert_allclose(result.values[0, 1], daily_mean[5])


def test_climatology_of_a_short_training_period_is_that_of_the_nearest_days():
    sit = np.full((20, 2, 2), 3.0)
    daily_mean = daily_climatology(make_store(sit, train=20), "sit")
    np.testing.assert_allclose(daily_mean, 3.0, rtol=1e-6)


def test_an_empty_training_split_is_refused():
    with pytest.raises(InputError, match="has no training split"):
        make_references(["climatology"], make_store(np.ones((4, 2, 2)), train=0), "sit")


def test_damping_of_a_first_order_process_is_its_correlation():
    rng = np.random.default_rng(0)
    anomaly, records = rng.standard_normal((1, 60, 60)), []
    for _ in range(60):
        records.append(anomaly[0])
        anomaly = 0.8 * anomaly + 0.6 * rng.standard_normal(anomaly.shape)
    store = make_store(np.array(records), train=60)
    mean = np.zeros((366, 60, 60), "float32")
    regression = damping(store, "sit", mean, (6.0, 12.0, 24.0, 24000.0))
    np.testing.assert_allclose(regression[:3], [0.8, 0.64, 0.8**4], atol=0.02)
    assert np.isnan(regression[3])


def test_damped_persistence_goes_from_the_anomaly_to_the_climatology():
    rng = np.random.default_rng(1)
    sit = 2 + 0.5 * rng.standard_normal((40, 30, 30))  # no memory at all
    store = make_store(sit, train=40)
    result = reference_for("damped_persistence", forecast_from(store, [3], [6, 12]), store)
    climatology = reference_for("climatology", forecast_from(store, [3], [6, 12]), store)
    assert float(abs(result - climatology).max()) < 0.1
    constant = make_store(np.repeat(sit[:1], 40, 0), train=40)
    result = reference_for("damped_persistence", forecast_from(constant, [3], [6, 12]), constant)
    np.testing.assert_allclose(result.values[0, 1], sit[0], rtol=1e-5)


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("hemisphere", ["north", "south"])
def test_free_drift_turns_to_the_right_of_the_wind_in_the_north_and_left_in_the_south(
    hemisphere, upwards
):
    rows, columns = np.mgrid[:41, :41]
    bump = np.exp(-((rows - 20.0) ** 2 + (columns - 20.0) ** 2) / 2 / 4**2)
    store = make_store(np.repeat(bump[None], 9, 0), wind=(10.0, 0.0), hemisphere=hemisphere)
    if not upwards:  # rows that run towards decreasing y; v along growing row index
        store = store.isel(y=slice(None, None, -1))
    result = reference_for("free_drift", forecast_from(store, [0], [24, 48]), store)
    area = grid.cell_area(store).values
    ice = result.values[0, 1].astype("f8") * area
    before = store.sit.values[0] * area
    assert ice.sum() == pytest.approx(before.sum(), rel=1e-6)  # ice is conserved
    assert result.values.min() >= 0
    moved = [(ice * axis).sum() / ice.sum() - 20 for axis in (columns, rows)]
    turn = np.radians(TURNING_DEG) * (1 if upwards == (hemisphere == "north") else -1)
    # the map's scale at 84 to 90 degrees north: cells are a little wider than 25 km
    side_m = np.sqrt(area[20, 20])
    distance = FREE_DRIFT_WIND_FACTOR * 10 * 48 * 3600 / side_m
    expected = [distance * np.cos(turn), -distance * np.sin(turn)]
    np.testing.assert_allclose(moved, expected, rtol=0.02)


def test_free_drift_areas_and_spectra_of_a_mirrored_earth_are_the_same():
    bump = np.random.default_rng(0).random((20, 20))
    north = make_store(np.repeat(bump[None], 9, 0), wind=(8.0, 3.0))
    mirrored = north.assign_coords(latitude=-north.latitude)
    results = []
    for store in (north, mirrored):
        forecast = reference_for("free_drift", forecast_from(store, [0], [24]), store)
        dx_m = grid.spacing_m(store, store.ocean)
        results.append((forecast, power_spectrum(forecast, store.ocean, dx_m)))
    for of_north, of_mirror in zip(*results, strict=True):
        np.testing.assert_array_equal(of_mirror.values, of_north.values)


def test_free_drift_takes_no_ice_through_a_coast():
    ocean = np.ones((12, 12), bool)
    ocean[:, 6] = False
    sit = np.where(np.arange(12) < 6, 1.0, 0.0) + np.zeros((9, 12, 12))
    store = make_store(sit, wind=(15.0, 0.0), ocean=ocean)
    for name in ("u10", "v10"):  # like forcing that is defined at sea only
        store[name] = store[name].where(store.ocean)
    result = reference_for("free_drift", forecast_from(store, [0], [48]), store).values[0, 0]
    assert np.nanmax(result[:, 7:]) == 0
    assert np.isnan(result[:, 6]).all()
    assert result[6, 5] > 1.5  # piled up


def test_free_drift_without_wind_is_persistence_and_needs_a_wind():
    store = make_store(np.random.default_rng(0).random((5, 6, 6)))
    empty = forecast_from(store, [0], [12])
    result = reference_for("free_drift", empty, store)
    np.testing.assert_allclose(result, reference_for("persistence", empty, store), rtol=1e-6)
    with pytest.raises(InputError, match="free drift needs the wind u10"):
        make_references(["free_drift"], store.drop_vars("u10"), "sit")


def test_references_are_compared_with_the_truth_at_the_same_times():
    store = make_store(np.arange(8.0)[:, None, None] + np.zeros((8, 4, 5)), train=4)
    empty = forecast_from(store, [1, 2], [6, 12])
    error = truth_for(empty, store) - reference_for("persistence", empty, store)
    np.testing.assert_array_equal(error.values[:, 0], 1)
    np.testing.assert_array_equal(error.values[:, 1], 2)
