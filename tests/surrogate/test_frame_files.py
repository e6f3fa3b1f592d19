"""Frames of stores and forecasts: the values that Zarr reads, damage, and other chunks."""

import google_crc32c
import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from conftest import SIZE
from zarr.codecs import ZstdCodec

from seaice_lab.errors import InputError
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.frame_files import BLOSC, open_frames
from seaice_lab.surrogate.samples import Samples
from seaice_lab.surrogate.store import COMPRESSORS, open_store, open_zarr, read_frames
from seaice_lab.surrogate.windows import WINDOWS
from seaice_lab.times import time_text

SELECTIONS = (
    {"time": 3},
    {"time": -1, "y": 4, "x": slice(2, 9)},
    {"time": [5, 2, 2]},
    {"time": slice(3, 60, 7), "x": [30, 1]},
    {"time": slice(None, None, -40), "y": slice(None, None, 3)},
    {"time": [7, 8], "y": 3, "x": 11},
    {"time": []},
)


@pytest.mark.parametrize("dask", [True, False])
def test_frames_are_those_that_zarr_reads(store, dask):
    fields, group = open_store(store, dask), zarr.open_group(store, mode="r")
    for name in fields.data_vars:
        assert open_frames(store / name, group[name]) is not None
        assert fields[name].chunks == (((1,) * 96, (SIZE,), (SIZE,)) if dask else None)
        values = fields[name].copy(data=group[name][:])
        for selection in SELECTIONS:
            xr.testing.assert_identical(fields[name].isel(selection), values.isel(selection))


@pytest.fixture
def forecast(tmp_path):
    """A store whose files, as those of a forecast, hold the frames of three lead times."""
    path, sizes = tmp_path / "forecast.zarr", (2, 3, 7, 9, 11)
    values = np.random.default_rng(0).normal(size=sizes).astype("float32")
    dims = ("init_time", "member", "lead_time", "y", "x")
    fields = xr.Dataset({"sit": (dims, values, {"units": "m"})})
    encoding = {"chunks": (1, 1, 1, 9, 11), "shards": (1, 1, 3, 9, 11), "compressors": COMPRESSORS}
    fields.to_zarr(path, zarr_format=3, consolidated=False, encoding={"sit": encoding})
    return path


@pytest.mark.parametrize(
    "packing",
    [{"scale_factor": 0.5}, {"add_offset": 1.0}, {"missing_value": -999.0}, {"_FillValue": -999.0}],
)
def test_packed_values_are_decoded_as_by_zarr(forecast, tmp_path, packing):
    copy, fields = tmp_path / "copy.zarr", xr.open_zarr(forecast, consolidated=False).load()
    fields.sit[0, 0, 0, 0, 0] = np.nan
    encoding = {"chunks": (1, 1, 1, 9, 11), "compressors": COMPRESSORS, "dtype": "float32"}
    fields = fields.drop_encoding()
    fields.to_zarr(copy, zarr_format=3, consolidated=False, encoding={"sit": encoding | packing})
    assert open_frames(copy / "sit", zarr.open_group(copy)["sit"]) is None
    of_zarr = xr.open_zarr(copy, consolidated=False, decode_timedelta=True)
    xr.testing.assert_identical(open_zarr(copy, "seaice-lab forecast", None).load(), of_zarr.load())


@pytest.mark.parametrize("chunks", [None, {}, "auto"])
def test_frames_in_shards_are_those_that_zarr_reads(forecast, chunks):
    assert open_frames(forecast / "sit", zarr.open_group(forecast)["sit"]).in_shard == 3
    fields = open_zarr(forecast, "seaice-lab forecast", chunks).sit
    of_zarr = xr.open_zarr(forecast, consolidated=False, chunks=chunks).sit
    assert fields.chunks == of_zarr.chunks
    for selection in (
        {},
        {"init_time": 1, "member": [2, 0], "lead_time": slice(None, None, -2), "x": slice(3, 9)},
        {"init_time": [1, 1, 0], "member": -1, "lead_time": 6, "y": [4, 2]},
        {"member": [], "y": 3, "x": 5},
    ):
        xr.testing.assert_identical(fields.isel(selection), of_zarr.isel(selection))


def test_a_damaged_shard_is_refused_and_a_missing_frame_is_nan(forecast):
    shard, sit = forecast / "sit/c/1/2/1/0/0", zarr.open_group(forecast)["sit"]

    def read(frame):
        return open_zarr(forecast, "seaice-lab forecast", None).sit[1, 2, frame].values

    content = shard.read_bytes()
    for position, fault in ((-1, "the index of the file of frame 39 has"), (0, "frame 38 has")):
        damaged = bytearray(content)
        damaged[position] ^= 1
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{fault} another checksum"):
            read(slice(3, 6) if position == 0 else 4)
    shard.write_bytes(content[-20:])
    with pytest.raises(ValueError, match="frame 39 is cut short"):
        read(4)
    shard.unlink()
    assert np.isnan(read(3)).all() and not np.isnan(read(2)).any()
    sit[1, 2, 4] = 2.0  # the only chunk of a new shard
    assert (read(4) == 2).all() and np.isnan(read(5)).all()


def test_values_that_are_assigned_to_an_open_store_stay_in_memory(store):
    fields = open_store(store, dask=False)
    fields.u10[3] = 5.0
    assert (fields.u10[3] == 5).all() and not (fields.u10[2] == 5).any()
    assert not (open_store(store).u10[3] == 5).any()


@pytest.mark.parametrize(
    "encoding",
    [
        {"chunks": (1, SIZE, SIZE), "compressors": ZstdCodec(level=0, checksum=True)},
        {"chunks": (1, SIZE // 2, SIZE), "compressors": COMPRESSORS},
        {"chunks": (7, SIZE, SIZE), "compressors": COMPRESSORS},
        {"chunks": (4, SIZE, SIZE), "shards": (8, SIZE, SIZE), "compressors": COMPRESSORS},
        {"chunks": (1, SIZE, SIZE), "compressors": COMPRESSORS, "dtype": "float64"},
    ],
)
def test_stores_of_older_versions_and_with_other_chunks_give_the_same_fields(store, encoding):
    fields, copy = open_store(store).load(), store.with_name("copy.zarr")
    of_fields = dict.fromkeys(fields.data_vars, encoding)
    fields.drop_encoding().to_zarr(copy, zarr_format=3, consolidated=False, encoding=of_fields)
    xr.testing.assert_equal(open_store(copy).load(), fields)
    times = np.array([1, 2, 3, 90])
    assert open_frames(copy / "u10", zarr.open_group(copy)["u10"]) is None
    for at in (times, times[:3]):
        values = Fields(copy, ["u10"], memory_bytes=0).read("u10", at)
        np.testing.assert_array_equal(values, fields.u10[at])
    batches = [
        Samples(path, WINDOWS["self_consistent"], "train", device=None).take([0, 3, 40])
        for path in (store, copy)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_a_damaged_frame_is_refused_however_it_is_read(store):
    frame, time = store / "u10" / "c" / "3" / "0" / "0", time_text(open_store(store).time.values[3])
    content = frame.read_bytes()
    smaller = BLOSC.encode(np.zeros((SIZE, SIZE - 1), "float32"))
    smaller += google_crc32c.value(smaller).to_bytes(4, "little")
    for damaged, fault in (
        (content[:-1] + bytes([content[-1] ^ 1]), "frame 3 has another checksum than when it was"),
        (content[:20], "frame 3 has another checksum than when it was written"),
        (smaller, f"frame 3 has {4 * SIZE * (SIZE - 1)} bytes, expected {4 * SIZE * SIZE}"),
        (b"", "frame 3 has 0 bytes"),
        (None, f"NaN in the ocean at {time}, probably because a chunk is missing"),
    ):
        frame.unlink() if damaged is None else frame.write_bytes(damaged)
        message = f"u10 cannot be read .*{fault}.* the store is damaged"
        with pytest.raises(InputError, match=message):
            Fields(store, ["u10"], memory_bytes=0).read("u10", np.array([3]))
        for dask in (True, False):
            with pytest.raises(InputError, match=message):
                read_frames(open_store(store, dask), "u10", [2, 3])
