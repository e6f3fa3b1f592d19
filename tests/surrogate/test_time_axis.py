"""The time axis of a store: splits that overlap or are missing, and forcing beyond the state."""

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, change, wave_run, write_catalogue

from seaice_lab.catalog import SplitRule
from seaice_lab.errors import InputError
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.samples import Samples
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.store import in_split, locate, open_store, statistics
from seaice_lab.surrogate.time_axis import beyond_state, segments, splits
from seaice_lab.surrogate.windows import WINDOWS


@pytest.fixture
def axis(tmp_path, monkeypatch):
    """Two runs with the times of six days each, and their entry in the catalogue."""
    monkeypatch.chdir(tmp_path)
    write_catalogue(tmp_path, {"waves": ENTRY})
    times = np.datetime64("2010-01-01", "ns") + np.arange(24) * np.timedelta64(6, "h")
    coords = {"time": np.tile(times, 2), "run": ("time", np.repeat(["train_1", "test_1"], 24))}
    return xr.Dataset({"sit": ("time", np.ones(48, "float32"))}, coords=coords)


def split_by(axis, **rules):
    rules = {name: SplitRule(**rule) for name, rule in rules.items()}
    return splits(axis, PrepareConfig(state="waves", splits=rules))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_one_split_alone_is_enough(axis, name):
    code = ["train", "validation", "test"].index(name)
    split = split_by(axis, **{name: {"files": ["test_*.nc"]}})
    assert split.tolist() == [-1] * 24 + [code] * 24


REFUSED = {
    "the same file in two splits": (
        {"train": {"files": ["train_*"]}, "test": {"files": ["test_1.nc", "train_1.nc"]}},
        r"train and test share 24 times of train_1 \(2010-01-01T00:00 to 2010-01-06T18:00\)",
    ),
    "a pattern that takes all files": (
        {"train": {"files": ["*"]}, "validation": {"files": ["test_1"]}},
        r"train and validation share 24 times of test_1",
    ),
    "a day shared by two periods": (
        {
            "validation": {"period": ["2010-01-01", "2010-01-03"]},
            "test": {"period": ["2010-01-03", "2010-01-06"]},
        },
        r"validation and test share 8 times of train_1, test_1 \(2010-01-03T00:00 to",
    ),
    "a file and a period": (
        {"train": {"files": ["train_1"]}, "test": {"period": ["2010-01-06", "2010-01-06"]}},
        r"train and test share 4 times of train_1",
    ),
    "a period without times": (
        {"test": {"period": ["1999", "2000"]}},
        r"test takes none of the 48 times of waves .*runs train_1, test_1\)",
    ),
    "neither files nor a period": ({"train": {}}, r"train has neither files nor a period; give"),
    "files and a period": (
        {"train": {"files": ["train_1"], "period": ["2010", "2011"]}},
        r"train has both files and a period; give one",
    ),
    "a file that is not there": (
        {"train": {"files": ["train_*.nc", "train_9.nc"]}},
        r"train names the file train_9.nc, which is none of the runs of waves \(train_1, test_1\)",
    ),
    "a date that is none": (
        {"train": {"period": ["2010-13-01", "2010-14-01"]}},
        r"train has the period 2010-13-01 to 2010-14-01, expected two dates such as",
    ),
    "an empty date": ({"train": {"period": ["", "2010"]}}, r"train has the period  to 2010, exp"),
    "a period that ends before it begins": (
        {"train": {"period": ["2012", "2010"]}},
        r"train has the period 2012 to 2010, which ends before it begins",
    ),
    "no split at all": ({}, r"there is none; give one or more of train, validation, test files"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_splits_are_refused_by_name(axis, case):
    rules, message = REFUSED[case]
    with pytest.raises(InputError, match=f"^splits: {message}") as caught:
        split_by(axis, **rules)
    assert "\n" not in str(caught.value)


def test_files_of_one_long_series_cannot_be_splits(axis, tmp_path):
    write_catalogue(tmp_path, {"waves": ENTRY | {"separate_runs": False}})
    axis = axis.isel(time=slice(24)).assign_coords(run=("time", ["waves"] * 24))
    with pytest.raises(InputError, match="train_1.nc, which is none .*or give a period if"):
        split_by(axis, train={"files": ["train_1.nc"]})


def test_a_store_of_one_split_has_no_statistics_and_training_refuses_it(waves, tmp_path):
    rules = {"test": SplitRule(files=["test_*"])}
    path = prepare(PrepareConfig(state="waves", splits=rules), tmp_path / "x.zarr", show=False)
    store = open_store(path)
    assert statistics(store) == {} and len(in_split(store, "test")) == 24
    for split in ("train", "validation"):
        with pytest.raises(InputError, match=rf"x.zarr: has no {split} split \(it has test\)"):
            Samples(path, WINDOWS["self_consistent"], split, {})


def with_forcing(axis, first, last, step_h=6):
    """The two arguments of beyond_state, with forcing from one time to another."""
    times = np.arange(np.datetime64(first, "h"), np.datetime64(last, "h"), np.timedelta64(step_h))
    axis = axis.assign_coords(
        segment=("time", np.repeat([0, 1], 24)), split=("time", np.repeat([0, 2], 24))
    )
    return axis, xr.Dataset(coords={"time": times.astype("datetime64[ns]")})


def test_every_run_goes_on_with_the_forcing_in_its_last_segment_and_in_no_split(axis):
    config = PrepareConfig(state="waves", forcing="era5", forcing_beyond_state=True)
    longer = beyond_state(*with_forcing(axis, "2010-01-01", "2010-01-08"), config)
    assert longer.segment.values.tolist() == [0] * 28 + [1] * 28
    assert longer.split.values.tolist() == [0] * 24 + [-1] * 4 + [2] * 24 + [-1] * 4
    assert longer.has_state.values.tolist() == ([True] * 24 + [False] * 4) * 2
    np.testing.assert_array_equal(np.isfinite(longer.sit), longer.has_state)
    assert set(np.diff(longer.time.values[:28])) == {np.timedelta64(6, "h")}
    # The axis ends where the forcing lacks a record.
    forcing = with_forcing(axis, "2010-01-01", "2010-01-08")[1].isel(time=[*range(25), 26, 27])
    longer = beyond_state(with_forcing(axis, "2010-01-01", "2010-01-08")[0], forcing, config)
    assert longer.sizes["time"] == 50


def test_forcing_that_does_not_go_on_is_refused(axis):
    config = PrepareConfig(state="waves", forcing="era5", forcing_beyond_state=True)
    for last in ("2010-01-07", "2010-01-02"):
        with pytest.raises(InputError, match="^era5: ends at .* state, which ends at 2010-01-0"):
            beyond_state(*with_forcing(axis, "2010-01-01", last), config)
    with pytest.raises(InputError, match="the forcing comes from the files of the state"):
        beyond_state(*with_forcing(axis, "2010-01-01", "2010-01-08"),
                     PrepareConfig(state="waves", forcing_beyond_state=True))  # fmt: skip


def test_a_single_state_takes_the_step_of_its_entry_if_forcing_goes_on(axis):
    one = axis.isel(time=[0])
    with pytest.raises(InputError, match="holds a single time step per run; windows need several"):
        segments(one, PrepareConfig(state="waves"))
    config = PrepareConfig(state="waves", forcing="era5", forcing_beyond_state=True)
    one = one.assign_coords(segment=("time", segments(one, config)), split=("time", [2]))
    longer = beyond_state(one, with_forcing(axis, "2010-01-01", "2010-01-03", 3)[1], config)
    assert longer.sizes["time"] == 8


@pytest.fixture
def today(waves, tmp_path):
    """A store whose state ends on 6 January 18:00 and whose forcing goes on for two days."""
    wave_run(times=32, seed=3).drop_vars(["sit"]).to_netcdf(waves / "weather.nc")
    weather = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "splits")}
    weather |= {"paths": ["waves/weather.nc"],
                "variables": {name: name for name in ("t2m", "u10", "v10")}}  # fmt: skip
    write_catalogue(tmp_path, {"waves": ENTRY | {"paths": ["waves/test_1.nc"]}, "weather": weather})
    config = PrepareConfig(
        state="waves",
        forcing="weather",
        forcing_beyond_state=True,
        splits={"test": SplitRule(files=["test_1"])},
    )
    return prepare(config, tmp_path / "today.zarr", show=False)


def test_the_state_is_missing_beyond_its_end_and_the_forcing_is_there(today, waves):
    store = open_store(today)
    weather = xr.load_dataset(waves / "weather.nc")
    np.testing.assert_array_equal(store.time, weather.time)
    np.testing.assert_array_equal(store.u10, weather.u10)
    np.testing.assert_array_equal(store.sit[:24], xr.load_dataset(waves / "test_1.nc").sit)
    assert np.isnan(store.sit[24:]).all()
    assert not store.has_state.values[24:].any()
    # No window takes them, in the split or elsewhere.
    positions = locate(store, [12.0], "test")
    assert positions[12.0].max() == 23
    for memory_bytes in (0, 1e9):
        fields = Fields(today, ["sit", "u10"], memory_bytes)
        assert np.isfinite(fields.read("sit", np.arange(24))[:, fields.ocean]).all()
        assert np.isfinite(fields.read("u10", np.arange(32))[:, fields.ocean]).all()


def test_a_missing_chunk_is_still_damage_before_and_beyond_the_end_of_the_state(today):
    for name, frame in (("sit", "5"), ("u10", "30")):
        chunk = today / name / "c" / frame / "0" / "0"
        content = chunk.read_bytes()
        chunk.unlink()
        for memory_bytes in (0, 1e9):
            with pytest.raises(InputError, match=f"{name} .*NaN in the ocean at .*, prob"):
                Fields(today, [name], memory_bytes).read(name, np.array([int(frame)]))
        chunk.write_bytes(content)


def test_nan_in_the_last_state_is_refused_although_the_state_ends(today, waves, tmp_path):
    change(waves / "test_1.nc", lambda d: d.assign(sit=d.sit.where(d.time < d.time[-1])))
    with pytest.raises(InputError, match="sit at 2010-01-06T18:00 has no value in the ocean"):
        prepare(
            PrepareConfig(
                state="waves",
                forcing="weather",
                forcing_beyond_state=True,
                splits={"test": SplitRule(files=["test_1"])},
            ),
            tmp_path / "y.zarr",
            show=False,
        )
