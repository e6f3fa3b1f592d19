"""The table of observations: made, checked, joined, selected, written and read."""

import numpy as np
import pytest
import xarray as xr
from small_tables import DAY, NOON, table_of

from seaice_lab.assimilation import observations
from seaice_lab.errors import InputError


def test_a_table_of_a_year_survives_its_file_to_the_microsecond(tmp_path):
    # The first observation is a mean, the others are at times that a satellite may have.
    days = NOON + np.array([0, 1, 180, 365]) * DAY
    times = days + np.array([0, 37_000_123_456, 81_234_567_891, 5]) * np.timedelta64(1, "ns")
    table = table_of(time=times, time_start=times - np.array([1, 0, 0, 0]) * DAY)
    np.testing.assert_array_less(np.abs(table.time.values - times).astype(int), 501)
    observations.write_table(table, tmp_path / "table.nc")
    read = observations.read_table(tmp_path / "table.nc")
    xr.testing.assert_identical(read, table)
    with pytest.raises(InputError, match="tabel.nc: no such file"):
        observations.read_table(tmp_path / "tabel.nc")
    assert not list(tmp_path.glob("*partial*"))


def test_the_file_is_a_cf_file_of_points_with_flags(tmp_path):
    observations.write_table(table_of(), tmp_path / "table.nc")
    with xr.open_dataset(tmp_path / "table.nc", decode_cf=False) as raw:
        assert raw.attrs["featureType"] == "point" and raw.attrs["Conventions"].startswith("CF")
        assert len(raw.quality.flag_meanings.split()) == len(raw.quality.flag_values)
        assert set(raw.value.coordinates.split()) == {"time", "latitude", "longitude"}
        assert raw.latitude.units == "degrees_north" and " since " in raw.time.units


def test_an_observation_without_value_or_error_is_kept_but_not_used():
    table = table_of(value=[0.1, np.nan, 0.3, 0.4], sigma=[0.1, 0.1, np.nan, 0.1])
    assert table.quality.values.tolist() == [0, 1, 1, 0]
    assert observations.used(table).value.values.tolist() == [0.1, 0.4]
    assert observations.counts(table) == {"used": 2, "value_or_error_missing": 2}


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"latitude": 95.0}, "latitude of observation 0 is 95"),
        ({"sigma": [0.1, 0.0, 0.1, 0.1]}, "sigma of observation 1 is 0.0"),
        ({"kind": "thickness"}, "expected one of sit, sit_of_ice"),
        ({"time_end": NOON - DAY}, "expected a time after that of the observation"),
        ({"time": np.datetime64("NaT")}, "time of observation 0 is NaT"),
        ({"smoothing": -1.0}, "smoothing of observation 0 is -1.0, expected 0 or more metres"),
        ({"smoothing": np.inf}, "smoothing of observation 0 is inf"),
        ({"quality": 99}, "quality of observation 0 is 99"),
        ({"depth": 1.0}, "correct depth"),
        ({"value": [0.1, 0.2]}, "the columns are no table .*equal lengths"),
        ({"value": "much"}, "the columns are no table"),
    ],
)
def test_what_no_observation_can_be_is_refused(columns, message):
    with pytest.raises(InputError, match=message):
        table_of(**columns)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    xr.Dataset({"time": ("x", [1.0])}).to_netcdf(tmp_path / "other.nc")
    with pytest.raises(InputError, match="other.nc: is not a table of observations"):
        observations.read_table(tmp_path / "other.nc")


def test_tables_are_joined_in_the_order_of_time():
    later, earlier = table_of(), table_of(time=NOON - DAY, source="a longer name", kind="sit")
    joined = observations.concatenate([later, earlier])
    assert (np.diff(joined.time) >= np.timedelta64(0)).all()
    assert joined.source.values[0] == "a longer name" and joined.kind.values[-1] == "sic"


def test_a_window_excludes_its_start_and_means_whose_middle_is_not_in_it():
    middles = NOON + np.arange(4) * DAY
    halves = np.array([0, 2, 4, 1]) * DAY
    table = table_of(time_start=middles - halves, time_end=middles + halves)
    table = observations.in_window(table, NOON, NOON + 3 * DAY)
    assert table.quality.values.tolist() == [5, 0, 5, 0]
    # The periods are cut off at the borders of the window.
    assert (table.time_start[[1, 3]] == [NOON, NOON + 2 * DAY]).all()
    assert (table.time_end[[1, 3]] == NOON + 3 * DAY).all()
    observations.check_table(table)


def test_daily_means_from_21_to_21_h_belong_to_one_window_each():
    starts = NOON - DAY / 8 * 5 + np.arange(10) * DAY
    table = table_of(10, time=starts + DAY / 2, time_start=starts, time_end=starts + DAY)
    for days in (1, 5):
        windows = NOON - DAY / 2 + np.arange(0, 10, days) * DAY
        tables = [observations.in_window(table, start, start + days * DAY) for start in windows]
        used = np.sum([table.quality.values == 0 for table in tables], axis=0)
        assert used.tolist() == [1] * 10 and all(days == (t.quality == 0).sum() for t in tables)


def test_the_first_reason_of_rejection_stays():
    table = observations.reject(table_of(), [True, False, False, False], "duplicate")
    table = observations.reject(table, [True, True, False, False], "on_land")
    assert observations.counts(table) == {"used": 2, "duplicate": 1, "on_land": 1}
    observations.refuse_unused(table)
    table = observations.reject(table, np.full(4, True), "thinned")
    with pytest.raises(InputError, match="none of 4 .*1 duplicate, 1 on land, 2 thinned"):
        observations.refuse_unused(table, "files")
