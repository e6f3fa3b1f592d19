"""Preparation: what the store holds, that it resumes, and which input it refuses."""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, SIZE, change, wave_run, write_catalogue

from seaice_lab.catalog import SplitRule
from seaice_lab.errors import InputError
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.prepare import prepare, signature
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.store import CHECKSUMS, in_split, open_store, statistics


def prepared(path, **settings):
    return prepare(PrepareConfig(state="waves", **settings), path, show=False)


def contents(path):
    """Every file of a store except the attributes, which contain the time of writing."""
    return {
        file.relative_to(path): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name not in ("zarr.json", "checksums.json")
    }


def test_every_field_is_stored_once_with_mask_segments_and_splits(store, waves):
    fields = open_store(store)
    assert set(fields.data_vars) == {"sit", "t2m", "u10", "v10"}
    assert fields.sit.encoding["chunks"] == (1, SIZE, SIZE)
    assert fields.segment.values.tolist() == sorted(np.repeat([0, 1, 2, 3], 24))
    order = [str(run) for run in ("test_1", "train_1", "train_2", "val_1")]
    expected = {"train": ("train_1", "train_2"), "validation": ("val_1",), "test": ("test_1",)}
    for split, runs in expected.items():
        segments = [order.index(run) for run in runs]
        assert set(fields.segment.values[in_split(fields, split)]) == set(segments)
    raw = xr.load_dataset(waves / "val_1.nc")
    values = fields.sit.isel(time=in_split(fields, "validation")).values
    np.testing.assert_array_equal(values, raw.sit.values)
    np.testing.assert_array_equal(fields.ocean.values, raw.mask.values == 1)
    assert fields.sit.attrs["standard_name"] == "sea_ice_thickness"
    assert fields.sit.attrs["units"] == "m"


def test_statistics_are_those_of_the_training_ocean(store, waves):
    train = [xr.load_dataset(waves / f"train_{n}.nc") for n in (1, 2)]
    values = np.concatenate([d.sit.values[:, d.mask.values == 1] for d in train]).astype("f8")
    stored = statistics(open_store(store))["sit"]
    assert stored["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert stored["std"] == pytest.approx(values.std(), rel=1e-12)
    assert (stored["minimum"], stored["maximum"]) == (values.min(), values.max())


PREPARE = """
import sys
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.prepare import prepare
prepare(PrepareConfig(state="waves"), sys.argv[1], show=False, block_bytes=float(sys.argv[2]))
"""


def test_a_killed_preparation_continues_and_ends_in_the_same_store(waves, tmp_path):
    uninterrupted, path = prepared(tmp_path / "whole.zarr"), tmp_path / "killed.zarr"
    partial = tmp_path / "killed.zarr.partial"
    four_frames = 4 * 4 * SIZE * SIZE
    command = [sys.executable, "-c", PREPARE, path, str(four_frames)]
    with subprocess.Popen(command) as process:
        while len(list(partial.glob("done/*"))) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert not path.exists()
    with pytest.raises(InputError, match="is incomplete; complete it with `seaice-lab prepare`"):
        open_store(path)
    done = [marker.name for marker in (partial / "done").iterdir() if marker.name != "template"]
    assert 0 < len(done) < 96 // 4
    chunks = [Path("sit", "c", frame, "0", "0") for frame in done]
    before = [(partial / "result" / chunk).stat().st_mtime_ns for chunk in chunks]
    (partial / "result" / "sit" / "c" / "0.0f03.partial").touch()  # as Zarr leaves it
    prepare(PrepareConfig(state="waves"), path, show=False, block_bytes=four_frames)
    assert [(path / chunk).stat().st_mtime_ns for chunk in chunks] == before
    assert contents(path) == contents(uninterrupted)
    for name, expected in statistics(open_store(uninterrupted)).items():
        assert statistics(open_store(path))[name] == pytest.approx(expected, rel=1e-12)
    assert not partial.exists()


def test_preparing_again_keeps_an_equal_store_and_replaces_another(store, waves):
    before = (store / "zarr.json").stat().st_mtime_ns
    assert prepared(store) == store
    assert (store / "zarr.json").stat().st_mtime_ns == before
    prepared(store, coarsen=2)
    assert open_store(store).sizes["y"] == SIZE // 2


def test_a_store_is_made_again_when_its_entry_reads_the_files_in_another_way(store, waves):
    before = open_store(store).v10.values
    variables = ENTRY["variables"] | {"u10": "v10", "v10": "u10"}
    write_catalogue(waves.parents[1], {"waves": ENTRY | {"variables": variables}})
    np.testing.assert_array_equal(open_store(prepared(store)).u10, before)
    splits = {"train": {"files": ["val_1.nc"]}}
    write_catalogue(waves.parents[1], {"waves": ENTRY | {"splits": splits}})
    prepared(store)
    assert (open_store(store).split.values >= 0).sum() == 24


def test_the_content_of_a_zarr_folder_identifies_it_not_its_times(tmp_path):
    path = tmp_path / "x.zarr"
    values = xr.Dataset({"sit": ("time", np.zeros(4))}, attrs={"title": "first"})
    values.to_zarr(path, consolidated=False)
    before = signature(path)
    os.utime(path)
    os.utime(path / "zarr.json")
    assert signature(path) == before
    os.utime(path / "sit" / "c" / "0", (1, 1))
    changed = signature(path)
    assert changed != before
    metadata = path / "zarr.json"
    metadata.write_text(metadata.read_text().replace("first", "other"))
    assert signature(path) != changed


def test_a_dask_worker_with_four_threads_makes_the_same_store(waves, tmp_path):
    from distributed import LocalCluster

    eight_frames = 8 * 4 * SIZE**2  # 12 blocks
    with LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=None) as cluster:
        path = prepare(
            PrepareConfig(state="waves"),
            tmp_path / "cluster.zarr",
            scheduler=cluster.scheduler_address,
            show=False,
            block_bytes=eight_frames,
        )
    assert contents(path) == contents(prepared(tmp_path / "alone.zarr"))


def test_coarsening_does_not_dilute_the_coast_but_the_published_rule_does(waves, tmp_path):
    for name in waves.glob("*.nc"):
        change(name, lambda d: d.assign(sit=d.sit.where(np.isnan(d.sit), 2.0)))
    ours = open_store(prepared(tmp_path / "ours.zarr", coarsen=2)).sit.values
    published = open_store(
        prepared(tmp_path / "published.zarr", coarsen=2, coarsen_rule="published")
    ).sit.values
    ocean = open_store(tmp_path / "ours.zarr").ocean.values
    assert np.all(ours[:, ocean] == 2.0)
    # cell (3, 4) of the fine grid's block column 2 has two land children of four
    assert published[0, 0, 2] == pytest.approx(1.0)
    assert np.isnan(ours[:, ~ocean]).all()


def test_forcing_on_another_grid_comes_from_the_nearest_point_with_winds_turned(waves, tmp_path):
    latitude, longitude = np.arange(70.0, 90.1, 0.5), np.arange(-180.0, 180.0, 1.0)
    times = wave_run().time.values
    shape = (len(times), len(latitude), len(longitude))
    temperature = np.broadcast_to(200 + latitude[None, :, None], shape)
    era5 = xr.Dataset(
        {
            "u10": (("time", "latitude", "longitude"), np.full(shape, 3.0), {"units": "m s**-1"}),
            "v10": (("time", "latitude", "longitude"), np.full(shape, 4.0), {"units": "m s**-1"}),
            "t2m": (("time", "latitude", "longitude"), temperature, {"units": "K"}),
        },
        coords={"time": times, "latitude": latitude, "longitude": longitude},
    )
    era5.to_netcdf(tmp_path / "data" / "era5.nc")
    entry = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "splits")}
    entry |= {"format": "era5", "paths": ["era5.nc"],
              "variables": {name: name for name in ("t2m", "u10", "v10")}}  # fmt: skip
    write_catalogue(tmp_path, {"waves": ENTRY, "era5": entry})
    turned = open_store(prepared(tmp_path / "turned.zarr", forcing="era5")).isel(time=0).load()
    plain = open_store(
        prepared(tmp_path / "plain.zarr", forcing="era5", rotate_winds=False)
    ).isel(time=0).load()  # fmt: skip
    assert np.all(plain.u10 == 3.0)
    assert np.all(plain.v10 == 4.0)
    np.testing.assert_allclose(np.hypot(turned.u10, turned.v10), 5.0, rtol=1e-6)
    # In EPSG:3413 grid x points east along 45 W below the pole, so there nothing turns.
    east = np.abs(((turned.longitude + 45 + 180) % 360) - 180).values
    near = np.unravel_index(east.argmin(), east.shape)
    assert turned.u10.values[near] == pytest.approx(3.0, abs=0.5)
    np.testing.assert_allclose(plain.t2m, 200 + plain.latitude, atol=0.26)


def test_forcing_that_lacks_a_time_is_refused(waves, tmp_path):
    change(waves / "val_1.nc", lambda d: d.isel(time=slice(0, 20)))
    entry = ENTRY | {"paths": ["waves/val_1.nc"], "separate_runs": False}
    write_catalogue(tmp_path, {"waves": ENTRY, "short": entry})
    change(waves / "test_1.nc", lambda d: d)
    with pytest.raises(InputError, match=r"short: has no record at 2010-01-06T00:00 .*supply"):
        prepared(tmp_path / "x.zarr", forcing="short")


BAD_FILES = {
    "thickness in centimetres": (
        lambda d: d.assign(sit=(d.sit * 100).assign_attrs(units="m")),
        r"sit runs from .* expected values within 0 to 50 m; check the units",
    ),
    "a unit that is no length": (
        lambda d: d.assign(sit=d.sit.assign_attrs(units="kg m-2")),
        r"train_1.nc: sit has units 'kg m-2', expected 'm' or a unit that can be converted \('km'",
    ),
    "temperature in Celsius": (
        lambda d: d.assign(t2m=(d.t2m - 273.15).assign_attrs(units="K")),
        r"t2m runs from .* to .*, expected values within 180 to 340 K",
    ),
    "NaN in the ocean": (
        lambda d: d.assign(sit=d.sit.where((d.x != d.x[12]) | (d.y != d.y[8]))),
        r"sit at 2010-01-01T00:00 has 1 NaN in ocean cells of the mask, expected none",
    ),
    "a gap": (
        lambda d: d.isel(time=[*range(10), *range(12, 24)]),
        r"train_1.*a gap from 2010-01-03T06:00 to 2010-01-04T00:00 where the step is 6 h; .*allow",
    ),
    "a repeated time": (
        lambda d: d.isel(time=[*range(10), 9, *range(10, 24)]),
        r"train_1.*time repeats 2010-01-03T06:00; keep one",
    ),
    "a missing variable": (
        lambda d: d.drop_vars("u10"),
        r"train_1.nc.*u10",
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_in_one_sentence_and_leaves_nothing(case, waves, tmp_path):
    edit, message = BAD_FILES[case]
    change(waves / "train_1.nc", edit)
    with pytest.raises(InputError, match=message) as caught:
        prepared(tmp_path / "bad.zarr")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "bad.zarr").exists()


def test_records_out_of_order_are_sorted_and_told(waves, tmp_path, capsys):
    change(waves / "train_1.nc", lambda d: d.isel(time=[0, 2, 1, *range(3, 24)]))
    fields = open_store(prepared(tmp_path / "sorted.zarr"))
    assert fields.get_index("time")[24:48].is_monotonic_increasing
    original = wave_run(seed=0).sit[1].values
    np.testing.assert_array_equal(fields.sit[25], original)
    assert "waves: records were not in the order of time and were sorted" in capsys.readouterr().err


def test_gaps_may_be_allowed_and_then_part_segments(waves, tmp_path):
    change(waves / "train_1.nc", lambda d: d.isel(time=[*range(10), *range(12, 24)]))
    fields = open_store(prepared(tmp_path / "gap.zarr", allow_gaps=True))
    lengths = np.unique(fields.segment.values, return_counts=True)[1]
    assert sorted(lengths) == [10, 12, 24, 24, 24]


def test_an_empty_split_is_refused_by_name(waves, tmp_path):
    rules = {
        "train": SplitRule(files=["train_*"]),
        "validation": SplitRule(period=("1999", "2000")),
        "test": SplitRule(files=["test_*"]),
    }
    with pytest.raises(InputError, match=r"validation takes none of the 96 times of waves"):
        prepared(tmp_path / "x.zarr", splits=rules)


def test_without_splits_those_of_the_catalogue_are_taken_but_an_empty_dict_names_none(
    waves, tmp_path
):
    assert prepared(tmp_path / "x.zarr", splits=None).exists()
    with pytest.raises(InputError, match="splits: there is none; give one or more of train, val"):
        prepared(tmp_path / "y.zarr", splits={})
    write_catalogue(tmp_path, {"waves": {k: v for k, v in ENTRY.items() if k != "splits"}})
    with pytest.raises(InputError, match="splits: there is none; .* catalogue entry waves"):
        prepared(tmp_path / "y.zarr")


def test_splits_by_period_take_whole_days_to_the_end(waves, tmp_path):
    rules = {
        "train": SplitRule(period=("2010-01-01", "2010-01-02")),
        "validation": SplitRule(period=("2010-01-03", "2010-01-04")),
        "test": SplitRule(period=("2010-01-05", "2010-01-31")),
    }
    fields = open_store(prepared(tmp_path / "x.zarr", splits=rules))
    counts = [len(in_split(fields, split)) for split in ("train", "validation", "test")]
    assert counts == [4 * 8, 4 * 8, 4 * 8]


def test_a_crop_that_does_not_fit_is_refused(waves, tmp_path):
    with pytest.raises(InputError, match=r"crop \(0, 40, 0, 8\) does not fit the 32 x 32 grid"):
        prepared(tmp_path / "x.zarr", crop=(0, 40, 0, 8))
    fields = open_store(prepared(tmp_path / "y.zarr", crop=(4, 12, 0, 8)))
    assert dict(fields.sizes) == {"time": 96, "y": 8, "x": 8}


def test_a_full_disk_says_so_and_leaves_no_final_name(waves, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match="disk is full .* run the same command again"):
            prepared(tmp_path / "full.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "full.zarr").exists()
    prepared(tmp_path / "full.zarr")


def test_a_damaged_store_is_refused(store):
    expected = open_store(store).load()
    for name, edit in (
        ("zarr.json", lambda text: text.replace(b'"fingerprint', b'"fingerprinz')),
        ("sit/zarr.json", lambda text: text.replace(b"little", b"big")),
        ("time/zarr.json", lambda text: text.replace(b"1970-01-01", b"1971-01-01")),
        ("split/c/0", lambda values: values[:-1] + bytes([values[-1] ^ 1])),
        ("ocean/c/0/0", None),
    ):
        content = (store / name).read_bytes()
        (store / name).unlink() if edit is None else (store / name).write_bytes(edit(content))
        with pytest.raises(InputError, match=f"{name} is damaged or was changed .* restore it"):
            open_store(store)
        (store / name).write_bytes(content)
    chunk = store / "u10" / "c" / "3" / "0" / "0"
    flipped = bytearray(chunk.read_bytes())
    flipped[-1] ^= 1  # in the checksum, so that it is only noticed if that is compared
    chunk.write_bytes(flipped)
    with pytest.raises(InputError, match="u10 cannot be read .* the store is damaged"):
        Fields(store, ["u10"]).read("u10", np.array([3]))
    # A store of an older version has no checksums, and a store that xarray copied neither.
    (store / CHECKSUMS).unlink()
    (store / "zarr.json").write_text("{")
    with pytest.raises(
        InputError, match="cannot be read .* move it away and run `seaice-lab prepare` again"
    ):
        open_store(store)
    copy = store.with_name("copy.zarr")
    expected.drop_encoding().to_zarr(copy, consolidated=False)
    xr.testing.assert_equal(open_store(copy).load(), expected)


def test_a_zarr_store_that_was_not_prepared_is_refused(tmp_path):
    xr.Dataset({"sit": (("y", "x"), np.ones((2, 2)))}).to_zarr(tmp_path / "x.zarr")
    with pytest.raises(InputError, match="without the mask or the statistics"):
        open_store(tmp_path / "x.zarr")


def test_the_store_records_where_it_comes_from(store):
    attrs = open_store(store).attrs
    assert attrs["source"] == "made by the tests"
    assert attrs["license"] == "CC0"
    assert "state: waves" in attrs["configuration"]
    assert json.loads(attrs["files"]) == ["test_1.nc", "train_1.nc", "train_2.nc", "val_1.nc"]
