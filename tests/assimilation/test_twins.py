"""Sampling of a known truth: where, when, how often, and with which noise."""

import numpy as np
import pytest
from conftest import wave_run

from seaice_lab.assimilation import twins
from seaice_lab.assimilation.interpolation import cell_weights
from seaice_lab.errors import InputError


@pytest.fixture(scope="module")
def truth():
    run = wave_run(times=61)
    return run.sit.assign_coords(ocean=run.mask == 1)


def errors(table, truth):
    """Observed minus true values at the cells of the observations."""
    shape = truth.ocean.shape
    places = truth.latitude.values.ravel()[None] + 1000 * truth.longitude.values.ravel()[None]
    wanted = table.latitude.values[:, None] + 1000 * table.longitude.values[:, None]
    cells = np.unravel_index(np.abs(places - wanted).argmin(1), shape)
    at = np.searchsorted(truth.time.values, table.time.values)
    return table["value"].values - truth.values[(at, *cells)]


def test_all_cells_are_observed_every_two_days_with_the_stated_noise(truth):
    table = twins.observe_cells(truth, 0.2)
    times = np.unique(table.time.values)
    np.testing.assert_array_equal(times, truth.time.values[8::8])
    assert table.sizes["observation"] == len(times) * int(truth.ocean.sum())
    assert errors(table, truth).std() == pytest.approx(0.2, rel=0.05)
    assert table.identical(twins.observe_cells(truth, 0.2))
    assert not table.identical(twins.observe_cells(truth, 0.2, seed=1))


def test_tracks_cover_the_asked_share_of_the_cells_in_lines(truth):
    table = twins.observe_tracks(truth, 0.1, share=0.2)
    share = table.sizes["observation"] / int(truth.ocean.sum()) / 15
    assert 0.2 <= share < 0.4
    assert truth.time.values[0] not in table.time
    assert errors(table, truth).std() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("share", [0.0, -0.1, 4.1, np.nan])
def test_a_share_that_no_tracks_reach_is_refused(truth, share):
    with pytest.raises(InputError, match="give another share"):
        twins.observe_tracks(truth[:5], 0.1, share=share)


def test_weekly_maps_are_smooth_means_of_their_period(truth):
    table = twins.observe_weekly_maps(truth, 1e-6, smoothing_km=75.0)
    assert set((table.time_end - table.time_start).values) == {np.timedelta64(7, "D")}
    assert len(np.unique(table.time_start)) == 2
    assert (table.correlation_length == 75e3).all() and (table.smoothing == 75e3).all()
    week = truth.where(truth.ocean)[:29].mean("time")
    values = table["value"].values[table.time_start == truth.time[0]]
    cells = week[::3, ::3].values
    cells = cells[np.isfinite(cells)]
    assert 0.2 * cells.std() < values.std() < cells.std()
    assert values.mean() == pytest.approx(cells.mean(), abs=0.02)
    # The operator of the assimilation, which filters by distance, is nearly that of the twin.
    columns = (table[name].values[: values.size] for name in ("latitude", "longitude", "smoothing"))
    latitude, longitude, smoothing_m = columns
    around, weights, _ = cell_weights(latitude, longitude, truth, smoothing_m)
    filtered = (week.fillna(0).values.ravel()[around] * weights).sum(1)
    assert np.sqrt(np.mean((filtered - values) ** 2)) < 0.2 * (cells - values).std()


def test_a_truth_that_is_too_short_is_refused(truth):
    with pytest.raises(InputError, match="longer truth"):
        twins.observe_cells(truth[:4], 0.1)
    with pytest.raises(InputError, match="of a week"):
        twins.observe_weekly_maps(truth[:20], 0.1)
