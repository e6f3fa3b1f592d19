"""Fixtures: a small dataset in the layout of real neXtSIM-DG files, with a catalogue beside it."""

import os
import shutil

os.environ.setdefault("MPLBACKEND", "Agg")
# Two test processes share the cores; threads of one would starve the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from seaice_lab import grid
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import PrepareConfig

torch.set_num_threads(1)

# Where the tests take longest. They begin first, so that all processes have work to the end.
LONGEST = (
    "tests/notebooks",
    "tests/dashboards",
    "tests/surrogate/test_model.py",
    "tests/surrogate/test_evaluation.py",
    "tests/emissivity/test_train.py",
    "tests/assimilation/test_cycle.py",
)
SIZE = 32
ENTRY = {
    "title": "Waves of ice",
    "format": "nextsimdg",
    "paths": ["waves/*.nc"],
    "variables": {name: name for name in ("sit", "t2m", "u10", "v10")},
    "grid": "EPSG:3413",
    "step_h": 6,
    "vectors": "grid",
    "separate_runs": True,
    "splits": {
        "train": {"files": ["train_*.nc"]},
        "validation": {"files": ["val_*.nc"]},
        "test": {"files": ["test_*.nc"]},
    },
    "licence": "CC0",
    "source": "made by the tests",
}


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_xdist_auto_num_workers():
    """With ``-n auto``, one test process more than cores: the tests in a browser often wait."""
    return (yield) + 1


def pytest_collection_modifyitems(items):
    """Put the longest tests first; the tests of a file, which share fixtures, stay together."""

    def place(item):
        places = (n for n, name in enumerate(LONGEST) if item.nodeid.startswith(name))
        return next(places, len(LONGEST))

    items.sort(key=place)


def wave_run(times=24, start="2010-01-01", seed=0, hemisphere="north"):
    """A run of travelling thickness waves around a pole, advected by the wind along x."""
    rng = np.random.default_rng(seed)
    centre = (np.arange(SIZE) - SIZE / 2 + 0.5) * 25e3
    x, y = np.meshgrid(centre, centre)
    latitude, longitude = grid.unproject(x, y, hemisphere)
    ocean = np.ones((SIZE, SIZE), bool)
    ocean[:3, :5] = ocean[7, 29] = ocean[-1] = False
    steps = np.arange(times)
    wind = 8 * np.sin(2 * np.pi * (steps / 12 + rng.random()))
    shift = np.cumsum(wind) / 20
    phase = 2 * np.pi * (np.arange(SIZE)[None, None, :] - shift[:, None, None]) / SIZE
    sit = 1 + 0.5 * np.sin(phase) + 0.1 * rng.standard_normal((1, SIZE, SIZE))
    sit = np.where(ocean, np.maximum(sit, 0), np.nan).astype("float32")
    everywhere = np.ones((times, SIZE, SIZE), "float32")
    fields = {
        "sit": (sit, "m"),
        "u10": (everywhere * wind[:, None, None].astype("float32"), "m s-1"),
        "v10": (everywhere * rng.standard_normal((times, 1, 1)).astype("float32"), "m s-1"),
        "t2m": (250 + everywhere * rng.standard_normal((times, 1, 1)).astype("float32"), "K"),
    }
    return xr.Dataset(
        {name: (("time", "y", "x"), values, {"units": units})
         for name, (values, units) in fields.items()}
        | {"mask": (("y", "x"), ocean.astype("int8"))},
        coords={
            "time": np.datetime64(start, "ns") + steps * np.timedelta64(6, "h"),
            "latitude": (("y", "x"), latitude),
            "longitude": (("y", "x"), longitude),
            "x": ("x", centre, {"units": "m"}),
            "y": ("y", centre, {"units": "m"}),
        },
    )  # fmt: skip


@pytest.fixture(scope="session")
def shared_waves(tmp_path_factory):
    """A folder with the dataset "waves", from which tests copy it; no test changes it."""
    folder = tmp_path_factory.mktemp("waves")
    write_waves(folder)
    return folder


@pytest.fixture(scope="session")
def shared_store(shared_waves):
    """The prepared store of the waves, which no test changes.

    A run that names it ``waves.zarr`` can be copied to the folder of a test, which has a copy.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_waves)
        patch.delenv("SEAICE_DATA", raising=False)
        return prepare(PrepareConfig(state="waves"), shared_waves / "waves.zarr", show=False)


@pytest.fixture
def waves(shared_waves, tmp_path, monkeypatch):
    """A working folder with the dataset "waves": two runs to train, one each to check and test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEAICE_DATA", raising=False)
    shutil.copy(shared_waves / "data_catalog.yaml", tmp_path)
    # with the time stamps of the files, which identify the input of a store
    return shutil.copytree(shared_waves / "data", tmp_path / "data") / "waves"


def write_waves(folder, *runs):
    """Write the dataset "waves" of some runs, by default all, and its catalogue into a folder."""
    data = folder / "data" / "waves"
    data.mkdir(parents=True)
    for seed, name in enumerate(runs or ("train_1", "train_2", "val_1", "test_1")):
        wave_run(seed=seed).to_netcdf(data / f"{name}.nc")
    write_catalogue(folder, {"waves": ENTRY})
    return data


def write_catalogue(folder, entries):
    """Write ``data_catalog.yaml`` with these entries."""
    (folder / "data_catalog.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))


def change(path, edit):
    """Rewrite a NetCDF file: ``edit`` maps the dataset to another one."""
    with xr.open_dataset(path) as dataset:
        changed = edit(dataset.load())
    changed.to_netcdf(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


@pytest.fixture
def store(waves, shared_store, tmp_path):
    """The prepared store of the waves, as prepare makes it from their files."""
    return shutil.copytree(shared_store, tmp_path / "waves.zarr")
