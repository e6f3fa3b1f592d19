"""An exported surrogate makes the same forecast in a process without this package."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from seaice_lab.cli import app
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate.export import export
from seaice_lab.surrogate.forecast import rollout
from seaice_lab.surrogate.model import load
from seaice_lab.surrogate.settings import TrainConfig
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.windows import Window

STEPS = 3
KINDS = ("noise", "published")  # that are exported
FIT = FitConfig(epochs=1, batch_size=8, learning_rate=1e-2, schedule="cosine", compile="never")
PAST_AND_PLACE = Window(
    inputs=(("sit", 0.0), ("sit", -12.0), ("u10", 0.0), ("u10", 12.0), ("latitude", 0.0))
)
# A process that cannot import the package forecasts with every exported file.
FOREIGN = """
import json, pathlib, sys
sys.modules["seaice_lab"] = None
import numpy, torch

def forecast(step, about, inputs, batch):
    state, levels = inputs["state"][batch], range(len((about["noise"] or {}).get("shapes", ())))
    assert state.shape[1] == len(about["state"])
    for k, forcing in enumerate(inputs["forcing"]):
        noise = [inputs[f"noise_{level}"][k][batch] for level in levels]
        state = step(state, forcing[batch], *([noise] if noise else []))
        yield state.detach().numpy()

for path in pathlib.Path(sys.argv[1]).glob("*.pt2"):
    extra = {"seaice_lab.json": "", "grid.json": ""}
    step = torch.export.load(path, extra_files=extra).module()
    about, grid = (json.loads(text) for text in extra.values())
    with numpy.load(path.with_suffix(".npz")) as file:
        inputs = {name: torch.from_numpy(array) for name, array in file.items()}
    whole, single = (
        numpy.stack(list(forecast(step, about, inputs, slice(size)))) for size in (3, 1)
    )
    numpy.testing.assert_allclose(single, whole[:, :1], atol=1e-6)  # a batch of any size
    assert not whole[..., numpy.array(grid["ocean"]) == 0].any()
    numpy.save(path.with_suffix(".npy"), whole)
    path.with_suffix(".json").write_text(json.dumps([about, grid]))
"""


@pytest.fixture(scope="module")
def runs(shared_store, tmp_path_factory):
    """Run folders: a network with drift and past states, with noise in it, and a published one."""
    folder = tmp_path_factory.mktemp("runs")
    drift = {"transport": True, "window": PAST_AND_PLACE}
    kinds = {
        "drift": drift,
        "noise": drift | {"loss": "crps", "start_from": str(folder / "drift")},
        "published": {"published_network": True, "loss": "published"},
    }
    for kind, values in kinds.items():
        settings = values | {"width": 4, "network": "UNet2", "fit": FIT}
        config = TrainConfig(store=str(shared_store), **settings)
        train(config, folder / kind, show=False)
    return {kind: folder / kind for kind in kinds}


@pytest.fixture(scope="module")
def foreign(runs, tmp_path_factory):
    """Folder of the exported files with inputs, and what the other process made of them."""
    folder = tmp_path_factory.mktemp("exported")
    for kind in KINDS:
        export(runs[kind], folder / f"{kind}.pt2")
        state, forcing, noise = random_inputs(load(runs[kind], "cpu"))
        arrays = {f"noise_{level}": values for level, values in enumerate(noise)}
        np.savez(folder / f"{kind}.npz", state=state, forcing=forcing, **arrays)
    words = [sys.executable, "-c", FOREIGN, str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def random_inputs(surrogate):
    """A state with values beyond its bounds and NaN on land, forcing and noise of some steps."""
    rng, shape = np.random.default_rng(0), surrogate.ocean.shape
    window = surrogate.window
    state = rng.normal(0.5, 1, (3, len(window.state), *shape)).astype("float32")
    forcing = rng.normal(0, 5, (STEPS, 3, len(window.forcing), *shape)).astype("float32")
    for channel, (name, _) in enumerate(window.forcing):
        forcing[:, :, channel] += surrogate.normalisation[name]["mean"]
    land = ~surrogate.ocean.numpy()
    state[..., land] = forcing[..., land] = np.nan
    levels = surrogate.noise.shapes if surrogate.noise else ()
    sizes = [(STEPS, 3, surrogate.noise.channels, *level) for level in levels]
    noise = [rng.normal(size=size).astype("float32") for size in sizes]
    return state, forcing, noise


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_without_the_package_makes_the_same_forecasts(runs, foreign, kind):
    surrogate = load(runs[kind], "cpu")
    state, forcing, noise = random_inputs(surrogate)

    def step(state, fields):
        forcing, *noise = fields
        return surrogate.step(state, forcing, noise or None)

    initial = torch.from_numpy(np.maximum(np.nan_to_num(state), 0))
    series = [torch.from_numpy(values) for values in (np.nan_to_num(forcing), *noise)]
    states = rollout(step, initial, zip(*series, strict=True))
    expected = np.stack([state.numpy() for state in states])
    np.testing.assert_allclose(np.load(foreign / f"{kind}.npy"), expected, atol=2e-6)
    assert expected.min() == 0 and np.ptp(expected) > 0.1


def test_the_extra_files_describe_inputs_and_grid(foreign):
    about, grid = json.loads((foreign / "noise.json").read_text())
    assert [(c["name"], c["offset_h"]) for c in about["state"]] == [("sit", 0.0), ("sit", -12.0)]
    assert [c["units"] for c in about["forcing"]] == ["m s-1", "m s-1", "degree"]
    assert about["step_h"] == 12 and about["licence_of_the_data"] == "CC0"
    assert about["grid"]["ny"] == 32 and about["grid"]["spacing_m"] == pytest.approx(25e3, rel=0.1)
    assert [shape[1:] for shape in about["noise"]["shapes"]] == [[32, 32], [16, 16]]
    assert about["noise"]["member_bias"] == 0  # it was not calibrated
    assert np.shape(grid["longitude"]) == np.shape(grid["forcing_latitude"]) == (32, 32)


def test_a_run_is_loaded_and_exported_without_its_store(runs, shared_store, tmp_path):
    copy = shutil.copytree(runs["drift"], tmp_path / "run")
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace(str(shared_store), "lost.zarr"))
    whole, extra = load(runs["drift"], "cpu"), {"seaice_lab.json": "", "grid.json": ""}
    state, forcing, _ = random_inputs(whole)
    state = torch.from_numpy(np.maximum(np.nan_to_num(state), 0))
    forcing = torch.from_numpy(np.nan_to_num(forcing[0]))
    expected = whole.step(state, forcing)
    assert torch.equal(load(copy, "cpu").step(state, forcing), expected)
    step = torch.export.load(export(copy, tmp_path / "a.pt2"), extra_files=extra).module()
    torch.testing.assert_close(step(state, forcing), expected, atol=2e-6, rtol=0)
    assert json.loads(extra["seaice_lab.json"])["licence_of_the_data"] == "CC0"


def test_the_command_says_what_it_does_and_what_it_wrote(runs, tmp_path):
    done = CliRunner().invoke(app, ["export", str(runs["drift"]), str(tmp_path / "a.pt2")])
    assert done.stderr.startswith(f"export {runs['drift']}: takes about ten seconds\n")
    assert done.stdout == f"wrote {tmp_path / 'a.pt2'}\n"


def test_a_run_without_weights_is_refused(runs, tmp_path):
    shutil.copytree(runs["drift"], tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights yet"):
        export(tmp_path / "run", tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
