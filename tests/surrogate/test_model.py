"""Training through rollouts, symmetric training, and what a run refuses."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from test_training import Line, make_batches, run_fit
from test_training import settings as fit_settings

from seaice_lab import runs
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate import samples
from seaice_lab.surrogate.model import Surrogate, load
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.samples import Samples
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.train import batch_losses, rollout_pairs, train
from seaice_lab.surrogate.windows import Window
from seaice_lab.weights import load_weights, save_weights

WEIGHTS = "weights.safetensors"
WINDOW = Window(inputs=(("sit", 0.0), ("sit", -12.0), ("u10", 0.0), ("u10", 12.0)))


def settings(store, **changes):
    fit = FitConfig(epochs=2, batch_size=8, learning_rate=1e-2, schedule="cosine")
    return TrainConfig(**{"store": str(store), "width": 4, "fit": fit} | changes)


def test_the_chain_is_the_rollout_in_normalised_units(store):
    samples = Samples(store, WINDOW, "train", steps=3)
    scale = samples.normalisation
    ocean = torch.from_numpy(samples.fields.ocean)
    torch.manual_seed(0)
    network = build_network("UNet3", ocean, 4, width=4).eval()
    torch.nn.init.normal_(network.head.weight, std=0.3)
    surrogate = Surrogate(network, WINDOW, scale, ocean)
    x, y = samples.take([3, 30])
    pairs = list(rollout_pairs(network, x, y, WINDOW, scale, ocean))

    def physical(step):
        channels = [
            samples.fields.read(name, samples.positions[offset + 12 * step][[3, 30]])
            for name, offset in WINDOW.inputs
        ]
        return torch.from_numpy(torch.stack([torch.tensor(c) for c in channels], 1).numpy())

    state = physical(0)[:, :2]
    for step, (prediction, target) in enumerate(pairs):
        state = surrogate.step(torch.where(ocean, state, 0.0), physical(step)[:, 2:])
        truth = samples.fields.read("sit", samples.positions[12.0 + 12 * step][[3, 30]])
        expected = (state[:, 0] - torch.from_numpy(truth)) / scale["increments"][0]["std"]
        state_error = (prediction - target)[:, 0]
        # the lower bound applies to the state that starts the next step, not to the compared one
        free = ocean & (state[:, 0] > 0)
        torch.testing.assert_close(state_error[free], expected[free], rtol=1e-3, atol=1e-3)
    assert step == 2


def test_training_through_a_rollout_and_with_turns_learns(store, tmp_path):
    fit = FitConfig(epochs=10, batch_size=4, learning_rate=1e-2, schedule="cosine")
    config = settings(
        store,
        rollout_steps=2,
        symmetry="quarter_turns",
        input_noise=0.0,
        global_mean_weight=1.0,
        fit=fit,
    )
    path = train(config, tmp_path / "runs" / "long", show=False)
    history = pd.read_csv(path / "history.csv")
    assert history.train_loss.iloc[-1] < 0.9 * history.train_loss.iloc[0]
    assert torch.isfinite(load(path, "cpu").network.head.weight).all()


def test_training_goes_on_from_the_weights_and_normalisation_of_a_run(store, tmp_path):
    fit = FitConfig(epochs=1, batch_size=4, learning_rate=1e-3)
    first = train(settings(store, fit=fit), tmp_path / "runs" / "first", show=False)
    scale = json.loads((first / "normalisation.json").read_text())
    scale["sit"]["std"] *= 2
    (first / "normalisation.json").write_text(json.dumps(scale))
    weights = first / "weights.safetensors"
    save_weights(weights, load_weights(weights), {})  # as if trained with this normalisation
    fit_little = FitConfig(epochs=1, batch_size=4, learning_rate=1e-12, seed=5)
    continued = settings(store, start_from=str(first), fit=fit_little)
    second = train(continued, tmp_path / "runs" / "second", show=False)
    before, after = load(first, "cpu"), load(second, "cpu")
    assert before.normalisation == after.normalisation == scale
    torch.testing.assert_close(after.network.head.weight, before.network.head.weight)
    for changed, reason in (
        ({"width": 6}, "width 4, expected 6"),
        ({"network": "CNN"}, "network UNet3, expected CNN"),
        ({"window": "past_state"}, "window .*, expected past_state"),
    ):
        with pytest.raises(InputError, match=f"start_from .*first: was trained .*{reason}"):
            train(
                settings(store, fit=fit, start_from=str(first)).model_copy(update=changed),
                tmp_path / "runs" / "third",
                show=False,
            )
        assert not (tmp_path / "runs" / "third").exists()
    emissivity_run = runs.create(tmp_path / "runs" / "ice", FitConfig(), "emissivity")
    (emissivity_run / "finished").touch()
    with pytest.raises(InputError, match="ice: holds a run that differs in"):
        train(continued, emissivity_run, show=False)
    (first / "finished").unlink()
    with pytest.raises(InputError, match="first: is not finished"):
        train(continued, tmp_path / "runs" / "third", show=False)
    # a trained run no longer needs its start run
    assert train(continued, second, show=False) == second
    assert load(second, "cpu").normalisation == scale


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_network_computes_in_the_precision_of_the_settings(store, precision):
    config = TrainConfig(store=str(store), fit=FitConfig(precision=precision))
    samples = Samples(store, window_of(config), "train")
    ocean = torch.from_numpy(samples.fields.ocean)
    network = torch.nn.Conv2d(len(samples.window.inputs), 1, 3, padding=1)
    types = []
    network.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    losses = batch_losses(config, samples.normalisation, ocean, torch.ones(ocean.shape))
    loss = losses(network, samples.take([0, 1]))["loss"]
    assert types == [getattr(torch, precision)]
    assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_gradients_flow_through_the_whole_chain(store):
    samples = Samples(store, WINDOW, "train", steps=2)
    ocean = torch.from_numpy(samples.fields.ocean)
    network = build_network("UNet3", ocean, 4, width=4)
    torch.nn.init.normal_(network.head.weight, std=0.3)
    x, y = samples.take([0])
    x.requires_grad_()
    _, (prediction, _) = rollout_pairs(network, x, y, WINDOW, samples.normalisation, ocean)
    (gradient,) = torch.autograd.grad(prediction.sum(), x)
    assert gradient[:, 0, 0].abs().max() > 0


DISTRIBUTED = """
import os
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:]
from test_training import Line, make_batches, run_fit, settings
from seaice_lab import cli
from seaice_lab.compute import Process
from seaice_lab.errors import InputError

cli.app(["train", "two", "--config", "half.yaml"], standalone_mode=False)
process = Process()

def share(epoch):
    for x, y in make_batches(epoch):
        yield x[process.rank :: process.world], y[process.rank :: process.world]

model = Line()
model.dropout.p = 0.0
run_fit(Path("two_lines"), settings(), share, lambda: share(999), model)

# A validation window for one process only: both see its loss, and stop together.
few = run_fit(
    Path("few"), settings(patience=1), share,
    lambda: [] if process.rank else make_batches(999), model,
)
assert len(set(map(str, process.gather(few.validation_loss.tolist())))) == 1

# The end of a process ends the other one with a sentence.
if process.rank == 1:
    os._exit(0)
try:
    with process.watch_others():
        process.gather("still here")
except InputError as error:
    print(error)
"""


def test_two_processes_train_like_one_with_the_doubled_batch(store, tmp_path):
    """The global mean of the statistics, the loss and the gradient, to rounding."""
    fit = FitConfig(epochs=2, learning_rate=1e-3, schedule="constant", batch_size=8)
    train(settings(store, fit=fit, input_noise=0.0), tmp_path / "one", show=False)
    half = settings(store, fit=fit.model_copy(update={"batch_size": 4}), input_noise=0.0)
    (tmp_path / "half.yaml").write_text(half.to_yaml())
    (tmp_path / "distributed.py").write_text(DISTRIBUTED)
    pair = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, *pair, "distributed.py", *sys.path]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # two processes need two GPUs, or none
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=hidden
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1 and "Warning" not in done.stderr
    assert "process 0 of 2: the connection to another process is lost" in done.stdout
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    for column in ("train_loss", "train_global_mean", "validation_loss"):
        assert two[column].tolist() == pytest.approx(one[column].tolist(), rel=1e-4), column
    line = Line()
    line.dropout.p = 0.0
    run_fit(tmp_path / "line", fit_settings(), held_out=lambda: make_batches(999), model=line)
    one, two = (load_weights(tmp_path / name / WEIGHTS) for name in ("line", "two_lines"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_weights_and_scales_of_another_network_are_refused(store, tmp_path):
    path = train(settings(store), tmp_path / "runs" / "a", show=False)
    other_network = train(settings(store, network="UNet2"), tmp_path / "runs" / "b", show=False)
    weights, config = path / "weights.safetensors", path / "config.yaml"
    complete, text = weights.read_bytes(), config.read_text()
    flipped = bytearray(complete)
    flipped[-100] ^= 4
    for wrong, message in (
        ((other_network / "weights.safetensors").read_bytes(), "trained with another network than"),
        (complete[: len(complete) // 2], "cannot be read as weights .*again"),
        (flipped, "is damaged, its values do not have the checksum .*again"),
    ):
        weights.write_bytes(wrong)
        with pytest.raises(InputError, match=f"weights.safetensors: .*{message}"):
            load(path, "cpu")
    # Files of older versions have no record of their settings.
    save_weights(weights, load_weights(other_network / "weights.safetensors"), {})
    with pytest.raises(InputError, match="does not hold the UNet3 of width 4 .*again"):
        load(path, "cpu")
    weights.write_bytes(complete)
    for old, new, name in (
        ("published_network: false", "published_network: true", "published_network"),
        ("window: self_consistent", "window: no_forcing", "window"),
    ):
        config.write_text(text.replace(old, new))
        with pytest.raises(InputError, match=f"trained with another {name} than config.yaml"):
            load(path, "cpu")
    config.write_text(text.replace("input_noise: 0.01", "input_noise: 0.5"))
    load(path, "cpu")  # does not change what the weights mean
    scale = json.loads((path / "normalisation.json").read_text())
    for name in ("increments", "t2m"):
        lacking = {key: value for key, value in scale.items() if key != name}
        (path / "normalisation.json").write_text(json.dumps(lacking))
        with pytest.raises(InputError, match=f"normalisation.json: lacks {name}"):
            load(path, "cpu")
    for wrong, message in (
        ({"sit": scale["sit"] | {"mean": 7.0}}, "trained with another normalisation"),
        ({"sit": scale["sit"] | {"std": 0}}, "is not the normalisation of a run, expected"),
        ({"sit": 3}, "is not the normalisation of a run"),
    ):
        (path / "normalisation.json").write_text(json.dumps(scale | wrong))
        with pytest.raises(InputError, match=message):
            load(path, "cpu")


def test_turning_a_map_with_fields_of_place_is_refused(store, tmp_path):
    window = Window(inputs=(("sit", 0.0), ("latitude", 0.0)))
    config = settings(store, window=window, symmetry="quarter_turns")
    with pytest.raises(InputError, match=r"do not turn with the map \(latitude\)"):
        train(config, tmp_path / "runs" / "x", show=False)


def test_options_of_the_network_keep_their_types(store, tmp_path):
    config = settings(store, network_options={"kernel_size": 5, "compensation": False})
    path = train(config, tmp_path / "runs" / "wide", show=False)
    assert load(path, "cpu").network.stem.weight.shape[-1] == 5


def test_an_option_that_the_network_lacks_is_refused_before_anything_is_made(store, tmp_path):
    for network, options in (("PCNN", {"dropout": 0.1}), ("UNet3", {"width": 8})):
        config = settings(store, network=network, network_options=options)
        with pytest.raises(InputError, match=f"{network} has no such option"):
            train(config, tmp_path / "runs" / "x", show=False)
    assert not (tmp_path / "runs" / "x").exists()


@pytest.mark.parametrize("network", ["CNN", "ResNet"])
def test_other_networks_train_and_load(store, tmp_path, network):
    path = train(settings(store, network=network), tmp_path / "runs" / network, show=False)
    assert load(path, "cpu").network.training is False


@pytest.mark.parametrize("fields_in", ["memory", "store"])
def test_a_killed_training_continues_bit_for_bit_wherever_the_fields_are(
    store, tmp_path, monkeypatch, fields_in
):
    monkeypatch.setattr(samples, "GROUP_BYTES", 1e5)
    config = settings(store, network="CNN", fields_in=fields_in)
    whole = train(config, tmp_path / "runs" / "whole", show=False)

    def dies(samples, size, shuffle=None, **share):
        if shuffle == (0, 1):
            raise KeyboardInterrupt
        yield from samples_batches(samples, size, shuffle, **share)

    samples_batches = samples.batches
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("seaice_lab.surrogate.train.batches", dies)
        train(config, tmp_path / "runs" / "killed", show=False)
    killed = train(config, tmp_path / "runs" / "killed", show=False)
    assert (killed / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()
