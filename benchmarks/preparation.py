"""Time a preparation: MB per second and peak memory, for a short and a four times longer series.

    python benchmarks/preparation.py [--size 512] [--days 91] [--folder /tmp]

The script writes random fields in the layouts of neXtSIM monthly output and ERA5, prepares them and
removes them. A year of 512 x 512 (--days 365) needs about 15 GB of disk.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from seaice_lab import grid

ENTRY = {"grid": "benchmark", "step_h": 6, "licence": "none", "source": "benchmarks/preparation.py"}
FORCING = {"t2m": ("K", 250), "u10": ("m s**-1", 0), "v10": ("m s**-1", 0)}  # units and offset
START = np.datetime64("2001-01-01T00", "ns")


def write_inputs(folder, size, days):
    """Write a catalogue and files of 10 days each: thickness on the grid, forcing on 1 degree."""
    rng = np.random.default_rng(0)
    centre = (np.arange(size) - size / 2 + 0.5) * 6.4e6 / size
    latitude, longitude = grid.unproject(*np.meshgrid(centre, centre))
    positions = {"latitude": (("y", "x"), latitude), "longitude": (("y", "x"), longitude)}
    land = rng.random((size, size)) < 0.2
    thickness = np.where(land, np.nan, 1 + rng.random((size, size))).astype("float32")
    axes = {"latitude": np.arange(90.0, 29.0, -1.0), "longitude": np.arange(0.0, 360.0, 1.0)}
    weather = rng.random((61, 360)).astype("float32")
    data = folder / "data"
    data.mkdir()
    for first in range(0, days * 4, 40):
        count = min(40, days * 4 - first)
        times = START + (first + np.arange(count)) * np.timedelta64(6, "h")
        factor = rng.random((count, 1, 1)).astype("float32")
        state = {"sit": (("time", "y", "x"), thickness * factor, {"units": "m"})}
        state = xr.Dataset(state, coords={"time": times, **positions})
        state.to_netcdf(data / f"Moorings_{first:05d}.nc")
        dims = ("time", "latitude", "longitude")
        forcing = {
            name: (dims, offset + weather * factor, {"units": units})
            for name, (units, offset) in FORCING.items()
        }
        forcing = xr.Dataset(forcing, coords={"time": times, **axes})
        forcing.to_netcdf(data / f"ERA5_{first:05d}.nc")
    write_catalogue(folder, days)


def write_catalogue(folder, days):
    """Write the catalogue: a third of the days for each split."""
    edges = [START + np.timedelta64(days * n // 3, "D") for n in range(4)]
    periods = [
        {"period": [str(start)[:10], str(end - np.timedelta64(1, "D"))[:10]]}
        for start, end in pairwise(edges)
    ]
    state = ENTRY | {
        "title": "state",
        "format": "nextsim",
        "paths": ["Moorings_*.nc"],
        "variables": {"sit": "sit"},
        "splits": dict(zip(("train", "validation", "test"), periods, strict=True)),
    }
    forcing = ENTRY | {
        "title": "forcing",
        "format": "era5",
        "paths": ["ERA5_*.nc"],
        "variables": {name: name for name in FORCING},
    }
    catalogue = yaml.safe_dump({"state": state, "forcing": forcing})
    (folder / "data_catalog.yaml").write_text(catalogue)


def measure(size, days, parent):
    """Prepare in a new process; returns MB written per second and peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        folder = Path(folder)
        write_inputs(folder, size, days)
        command = [sys.executable, __file__, "--child"]
        start = time.perf_counter()
        child = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
        seconds = time.perf_counter() - start
        megabytes = 4 * 4 * size**2 * days * 4 / 1e6
        shutil.rmtree(folder / "store.zarr")
    return megabytes / seconds, float(child.stdout)


def child():
    """Prepare in this process and print its peak memory in MB."""
    from seaice_lab.surrogate.prepare import prepare
    from seaice_lab.surrogate.settings import PrepareConfig

    os.environ.pop("SEAICE_DATA", None)
    prepare(PrepareConfig(state="state", forcing="forcing"), "store.zarr", show=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--days", type=int, default=91)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child()
    print(f"{options.size} x {options.size}, 6-hourly, four fields")
    print(f"{'days':>5s} {'MB/s':>7s} {'peak MB':>8s} {'ratio':>6s}")
    first = None
    for days in (max(options.days // 4, 9), options.days):
        rate, peak = measure(options.size, days, options.folder)
        first = first or peak
        print(f"{days:5d} {rate:7.0f} {peak:8.0f} {peak / first:6.2f}", flush=True)


if __name__ == "__main__":
    main()
