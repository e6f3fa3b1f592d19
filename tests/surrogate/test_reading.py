"""Reading for a preparation: threads in turn, errors that pass, damaged files, dask clusters."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import dask.array
import numpy as np
import pytest
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.surrogate.prepare import prepare, read_block
from seaice_lab.surrogate.settings import PrepareConfig

ALL = slice(0, 2)


def lazy(read):
    """A lazy dataset of two times whose values come from ``read()``."""
    values = dask.array.map_blocks(lambda: read(), chunks=((2,),), dtype="float32", meta=np.ones(0))
    time = np.datetime64("2010-01-01", "ns") + np.arange(2) * np.timedelta64(6, "h")
    return xr.Dataset({"sit": ("time", values)}, {"time": time})


def test_the_threads_of_a_process_read_in_turn():
    busy, at_once = threading.Lock(), []

    def read():
        at_once.append(not busy.acquire(blocking=False))
        time.sleep(0.01)
        busy.release()
        return np.ones(2, "float32")

    with ThreadPoolExecutor(4) as pool:
        # Each dataset stands for one of another client, which has its own lock of xarray.
        list(pool.map(read_block, [ALL] * 8, [lazy(read) for _ in range(8)]))
    assert at_once == [False] * 8


def test_a_read_that_fails_once_is_tried_again():
    errors = [RuntimeError("NetCDF: HDF error"), OSError(5, "Input/output error")]

    def read():
        if errors:
            raise errors.pop()
        return np.ones(2, "float32")

    assert read_block(ALL, lazy(read)).sit.values.tolist() == [1, 1]


def test_a_read_that_keeps_failing_is_told_with_its_times():
    def read():
        raise RuntimeError("NetCDF: HDF error")

    with pytest.raises(
        InputError, match="2010-01-01T00:00 to 2010-01-01T06:00 cannot be read .*HDF error"
    ):
        read_block(ALL, lazy(read))


@pytest.mark.parametrize("share", [0.2, 0.3, 0.6])  # of its bytes
def test_a_file_that_is_damaged_inside_is_named(waves, tmp_path, share):
    path = waves / "val_1.nc"
    dataset = xr.load_dataset(path)
    compressed = {"zlib": True}
    dataset.to_netcdf(path, encoding={name: compressed for name in [*dataset, "latitude"]})
    content = bytearray(path.read_bytes())
    first = int(share * len(content))
    content[first : first + 8192] = bytes(8192)
    path.write_bytes(content)
    with pytest.raises(InputError, match="val_1.nc: cannot be read as .*download it again"):
        prepare(PrepareConfig(state="waves"), tmp_path / "damaged.zarr", show=False)


@pytest.mark.parametrize(
    ("address", "message"),
    [("tcp://127.0.0.1:9", "Timed out .* to continue"), ("nonsense", "expected an address")],
)
def test_a_cluster_that_is_not_there_is_named(waves, tmp_path, monkeypatch, address, message):
    monkeypatch.setattr("seaice_lab.cluster.CLUSTER_S", 0.2)
    with pytest.raises(InputError, match=f"scheduler '?{address}'?: .*{message}"):
        prepare(PrepareConfig(state="waves"), tmp_path / "s.zarr", scheduler=address, show=False)
