"""Mutated stores and run folders: chunks and metadata of Zarr, weights, and files of a run.

A mutation changes the working folder and returns ``(name, truth)`` as in :mod:`mutations`.
"""

import json
import shutil
from pathlib import Path

import mutated_inputs
import numpy as np
import xarray as xr
import yaml
from mutated_inputs import EQUAL, REFUSED, damage_bytes, pick
from safetensors.torch import load_file

from seaice_lab.surrogate.evaluation import evaluate
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.train import train

STORE, RUN = Path("given.zarr"), Path("runs/given")
FIT = {"epochs": 1, "batch_size": 2}
NETWORK = {"store": str(STORE), "network": "CNN", "width": 2, "fit": FIT}
COMMANDS = {
    "forecast": ("forecast", str(RUN), "--steps", "3"),
    "evaluate": ("evaluate", str(RUN)),
    "train": ("train", "runs/new", "-p", f"store={STORE}", "-p", "network=CNN", "-p", "width=2",
              "-p", "epochs=1", "-p", "batch_size=2"),
}  # fmt: skip


def make_base():
    """Write a store, a trained run, its forecast and its scores into the working folder."""
    mutated_inputs.make_base()
    prepare(PrepareConfig(state="moorings", forcing="era5"), STORE, show=False)
    train(TrainConfig(**NETWORK), RUN, show=False)
    forecast(RUN, ForecastConfig(steps=2), show=False)
    evaluate(RUN, show=False)


def read_result(command):
    """What a command has made, as arrays by name."""
    if command == "train":
        history = np.loadtxt("runs/new/history.csv", delimiter=",", skiprows=1)
        weights = load_file("runs/new/weights.safetensors")
        return {name: value.numpy() for name, value in weights.items()} | {"loss": history[2:4]}
    if command == "forecast":
        result = xr.open_zarr(RUN / "forecast.zarr", consolidated=False, chunks=None)
    else:
        result = xr.open_dataset(RUN / "scores.nc")
    with result:
        values = result.load().variables
    return {name: value.values for name, value in values.items() if value.dtype.kind in "bifmM"}


def zarr_folders(command):
    """Stores that a command reads."""
    return (STORE, RUN / "forecast.zarr") if command == "evaluate" else (STORE,)


def damage_chunk(rng, command):
    """Damage or remove a chunk of a field or of a coordinate."""
    store = pick(rng, *zarr_folders(command))
    chunks = sorted(path for path in store.rglob("c/**/*") if path.is_file())
    chunk = pick(rng, *chunks)
    if rng.random() < 0.3:
        chunk.unlink()
    else:
        damage_bytes(chunk, rng)
    return store.name, EQUAL


def damage_metadata(rng, command):
    """Damage the text of metadata."""
    store = pick(rng, *zarr_folders(command))
    damage_bytes(pick(rng, *sorted(store.rglob("*.json"))), rng)
    return store.name, EQUAL


def change_metadata(rng, command):
    """Remove or replace a value in the metadata of a store."""
    store = pick(rng, *zarr_folders(command))
    path = pick(rng, *sorted(store.rglob("zarr.json")))
    values = json.loads(path.read_text())
    group = values
    while True:  # descend to a random value
        keys = range(len(group)) if isinstance(group, list) else list(group)
        key = pick(rng, *keys)
        inner = group[key]
        if not inner or not isinstance(inner, dict | list) or rng.random() < 0.3:
            break
        group = inner
    before = json.dumps(values)
    if rng.random() < 0.4 and isinstance(group, dict):
        del group[key]
    else:
        group[key] = pick(rng, 7, "x", None, [], {}, "int32", [1], -1)
    path.write_text(json.dumps(values))
    return store.name, EQUAL if json.dumps(values) == before else REFUSED


def change_checksums(rng, command):
    """Remove the checksums, as in a store of an older version, or cut them."""
    store = pick(rng, *zarr_folders(command))
    path = store / "ocean" / "checksums.json"
    if rng.random() < 0.5:
        path.unlink()
        return store.name, EQUAL
    path.write_text(path.read_text()[: int(rng.integers(1, 50))])
    return store.name, REFUSED


def damage_weights(rng, _command):
    """Damage bytes of the weights of the run."""
    damage_bytes(RUN / "weights.safetensors", rng)
    return "weights.safetensors", EQUAL


def change_header(rng, _command):
    """Change names, shapes or types in the header of the weights."""
    path = RUN / "weights.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    name = pick(rng, *(key for key in header if key != "__metadata__"))
    kind = pick(rng, "name", "shape", "type", "remove", "swap")
    if kind == "name":
        header[f"{name}_"] = header.pop(name)
    elif kind == "shape":
        header[name]["shape"] = [1, *header[name]["shape"]]
    elif kind == "type":
        header[name]["dtype"] = pick(rng, "I32", "F16", "x")
    elif kind == "remove":
        del header[name]
    else:  # two tensors of one shape exchange their names
        twins = [key for key in header if key != "__metadata__" and key != name
                 and header[key]["shape"] == header[name]["shape"]]  # fmt: skip
        if not twins:
            return "weights.safetensors", EQUAL
        other = pick(rng, *twins)
        header[name], header[other] = header[other], header[name]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])
    return "weights.safetensors", REFUSED


def change_run_settings(rng, _command):
    """Change the configuration of the trained run."""
    path = RUN / "config.yaml"
    values = yaml.safe_load(path.read_text())
    key, value, truth = pick(
        rng,
        ("network", "UNet2", REFUSED),
        ("network", "UNet9", REFUSED),
        ("width", 3, REFUSED),
        ("width", "wide", REFUSED),
        ("window", "no_forcing", REFUSED),
        ("window", "none", REFUSED),
        ("published_network", True, REFUSED),
        ("transport", True, REFUSED),
        ("colour", "blue", REFUSED),
        ("store", "lost.zarr", REFUSED),
        ("network_options", {"kernel_size": 5}, REFUSED),
        ("input_noise", 0.5, EQUAL),
        ("loss", "published", EQUAL),
        ("fit", {"epochs": 3}, EQUAL),
    )
    values[key] = value
    path.write_text(yaml.safe_dump(values))
    names = "config.yaml", "weights.safetensors", str(RUN), str(value)
    return names, truth


def damage_run_file(rng, _command):
    """Damage bytes of a text file of the run, or remove it."""
    name = pick(rng, "config.yaml", "provenance.json", "normalisation.json", "grid.nc",
                "history.csv", "finished")  # fmt: skip
    path = RUN / name
    if rng.random() < 0.3 or not path.stat().st_size:
        path.unlink()
    elif name in ("history.csv", "grid.nc"):
        damage_bytes(path, rng)
    else:
        content = path.read_bytes()
        path.write_bytes(content[: int(rng.integers(len(content)))])
    return (name, str(RUN)), EQUAL


def change_normalisation(rng, _command):
    """Change a scale of the run."""
    path = RUN / "normalisation.json"
    values = json.loads(path.read_text())
    name = pick(rng, "sit", "t2m", "increments")
    scale = values[name][0] if name == "increments" else values[name]
    scale[pick(rng, "mean", "std")] = pick(rng, 0, 7.5, -1, None, "x", float("nan"), [])
    path.write_text(json.dumps(values))
    names = "normalisation.json", "weights.safetensors"
    return names, REFUSED


def remove_folder(rng, command):
    """Remove the store, the run, or a whole variable."""
    path = pick(rng, STORE, RUN, STORE / pick(rng, "u10", "sit", "time", "ocean", "split"))
    shutil.rmtree(path)
    if command == "train" and path == RUN:
        return str(RUN), EQUAL
    return (STORE.name, str(RUN)), REFUSED


# Mutations of a store are tried with all commands that read it, those of a run with a forecast.
MUTATIONS = (
    (damage_chunk, tuple(COMMANDS)),
    (damage_chunk, tuple(COMMANDS)),
    (damage_metadata, tuple(COMMANDS)),
    (change_metadata, tuple(COMMANDS)),
    (change_metadata, tuple(COMMANDS)),
    (change_checksums, tuple(COMMANDS)),
    (remove_folder, tuple(COMMANDS)),
    (damage_weights, ("forecast",)),
    (change_header, ("forecast",)),
    (change_run_settings, ("forecast",)),
    (damage_run_file, ("forecast",)),
    (change_normalisation, ("forecast",)),
)
