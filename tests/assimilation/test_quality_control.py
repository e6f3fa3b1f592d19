"""Quality control: range, duplicates, background, thinning and superobservations."""

import numpy as np
import pytest
from small_tables import DAY, NOON, table_of
from test_observation_operator import points, store_of

from seaice_lab.assimilation import quality_control
from seaice_lab.assimilation.observations import concatenate, counts
from seaice_lab.assimilation.settings import ObservationFilesConfig
from seaice_lab.errors import InputError

HOUR = np.timedelta64(1, "h")


def test_the_range_of_each_kind_leaves_room_for_noise():
    table = table_of(value=[-0.1, 1.05, 1.4, 2.0], kind=["sic", "sic", "sic", "sit"])
    assert quality_control.check_range(table).quality.values.tolist() == [0, 0, 3, 0]


def test_a_repeated_observation_is_used_once_even_after_a_rejected_one():
    first, other = table_of(2), table_of(2, source="other")
    table = concatenate([first, table_of(2, value=np.nan), first, table_of(2, kind="sit"), other])
    table = quality_control.check_duplicates(table)
    assert counts(table) == {"used": 6, "value_or_error_missing": 2, "duplicate": 2}


def test_the_background_check_adds_both_errors():
    table = table_of(value=[1.0, 2.0, 0.0, 3.0], sigma=[0.3, 0.3, 0.3, 2.0])
    # sqrt(0.3^2 + 0.4^2) = 0.5; departures 0, 1, -1 and 2.
    table = quality_control.check_background(table, np.ones(4), 0.4, factor=1.9)
    assert table.quality.values.tolist() == [0, 8, 8, 0]


def test_thinning_keeps_the_most_exact_within_the_distance_of_one_source():
    # Neighbours along a row are 25 km apart.
    sigma = [0.3, 0.1, 0.2, 0.4, 0.5]
    near = points(np.full(5, 3.0), [3.0, 4.0, 5.0, 6.0, 7.0], sigma=sigma, time=NOON)
    table = quality_control.thin(near, 30e3)
    assert (table.quality.values == 9).tolist() == [True, False, True, False, True]
    # Another source, and another day, are other observations.
    others = concatenate(
        [near, near.assign(source=("observation", ["other"] * 5)), near_later(near)]
    )
    assert counts(quality_control.thin(others, 30e3))["used"] == 6
    assert counts(quality_control.thin(near)) == {"used": 5}
    known = near.assign(correlation_length=("observation", np.full(5, 30e3)))
    assert quality_control.thin(known).quality.equals(table.quality)
    # Without a distance, equal positions of another hour are kept, also beside known lengths.
    hour = near.assign_coords(time=near.time + HOUR)
    hour = hour.assign(time_start=hour.time, time_end=hour.time)
    assert counts(quality_control.thin(concatenate([near, hour]), 0.0)) == {"used": 10}
    assert counts(quality_control.thin(concatenate([known, hour]))) == {"used": 7, "thinned": 3}


def near_later(table):
    times = {name: table[name] + DAY for name in ("time", "time_start", "time_end")}
    return table.assign_coords(time=times.pop("time")).assign(times)


def test_weekly_maps_of_each_day_are_thinned_to_separate_weeks():
    days = NOON + np.arange(15) * DAY
    weeks = {"time_start": days - 84 * HOUR, "time_end": days + 84 * HOUR}
    table = points(np.full(15, 3.0), np.full(15, 3.0), time=days, **weeks)
    kept = np.flatnonzero(quality_control.thin(table, 1e3).quality.values == 0)
    assert kept.tolist() == [0, 7, 14]


def test_a_superobservation_is_the_weighted_mean_of_a_cell_and_a_day():
    # Two values of one track and one of another are in cell (3, 4), one is in cell (3, 5).
    rows, columns = [3.1, 3.2, 2.9, 3.0, 5.0], [4.1, 3.8, 4.0, 5.0, 5.0]
    times = NOON + np.array([0, 1, 120, 2, 3]) * np.timedelta64(1, "m")
    table = points(
        rows, columns, time=times, value=[1.0, 2.0, 4.0, 7.0, 9.0], sigma=[1, 1, 0.5, 1, 1]
    )
    result = quality_control.superobservations(table, store_of(), representation=0.3, common=0.2)
    assert result.sizes["observation"] == 2  # the last point is on land
    first = result.isel(observation=np.argmax(result.value.values < 5))
    assert first.value.item() == pytest.approx((1 + 2 + 4 * 4) / 6)
    assert first.sigma.item() ** 2 == pytest.approx(1 / 6 + 0.2**2 / 2 + 0.3**2)
    assert first.latitude.item() == store_of().latitude.values[3, 4]
    assert first.time_start == first.time == first.time_end


def test_maps_of_different_smoothing_are_not_combined():
    smoothing = [75e3, 0.0, np.nan, 75e3]
    same = {"time": NOON, "value": [1.0, 2.0, 4.0, 5.0]}
    table = points([3.0] * 4, [4.0] * 4, smoothing=smoothing, **same)
    result = quality_control.superobservations(table, store_of()).sortby("smoothing")
    assert result.smoothing.values.tolist() == [0.0, 75e3]
    np.testing.assert_allclose(result.value, 3.0)


def test_an_error_without_unit_is_refused_for_several_variables():
    table = concatenate([points([3.0], [4.0], kind="sit"), points([3.0], [4.0])])
    assert quality_control.superobservations(table, store_of()).sizes["observation"] == 2
    for errors in ((0.1, 0.0), (0.0, 0.1)):
        with pytest.raises(InputError, match="hold sic, sit, expected one variable"):
            quality_control.superobservations(table, store_of(), *errors)


@pytest.mark.parametrize("name", ["representation_error", "track_error"])
def test_an_error_of_means_is_refused_without_cells(name):
    with pytest.raises(InputError, match=f"cells_of is null, .* with {name}"):
        ObservationFilesConfig(**{name: 0.1})
    assert ObservationFilesConfig(**{name: 0.1}, cells_of="store.zarr").cells_of == "store.zarr"
    assert ObservationFilesConfig(**{name: 0.0}).cells_of is None


def test_a_missing_store_is_refused_before_files_are_read(tmp_path):
    config = ObservationFilesConfig(cells_of=str(tmp_path / "absent.zarr"))
    with pytest.raises(InputError, match="absent.zarr"):
        quality_control.prepare_table([tmp_path / "absent.nc"], config)


def test_superobservations_keep_periods_apart():
    period = {"time_start": NOON - DAY, "time_end": NOON + DAY, "time": NOON}
    table = concatenate([points([3.0], [4.0], **period), points([3.0], [4.0], time=NOON)])
    result = quality_control.superobservations(table, store_of())
    assert sorted((result.time_end - result.time_start) / DAY) == [0, 2]
