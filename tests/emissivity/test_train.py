"""Training end to end: known ice is found, killed runs continue, the command line, new days."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from seaice_lab import cli, files, runs
from seaice_lab.assimilation.observation_files import read_observations
from seaice_lab.assimilation.observations import counts, used
from seaice_lab.compute import can_compile
from seaice_lab.emissivity import evaluation, infer, penalty, sensors
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.run import check_zenith, hold_out, load, open_data
from seaice_lab.emissivity.settings import EmissivityConfig, InferConfig, SimulateConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.emissivity.train import train
from seaice_lab.errors import InputError

CASE = {"size": 24, "days": 5}


@pytest.fixture(scope="module")
def ice(tmp_path_factory):
    """Known ice seen by three sensors."""
    config = SimulateConfig(**CASE, observations=(5000, 4000, 4000))
    return simulate(config, tmp_path_factory.mktemp("ice"), show=False)


@pytest.fixture(scope="module")
def month(tmp_path_factory):
    """Known ice seen by AMSR2, as a file of version 1."""
    config = SimulateConfig(**CASE, layout="month", sensors=("amsr2",), observations=(8000,))
    return simulate(config, tmp_path_factory.mktemp("month"), show=False)


@pytest.fixture(scope="module")
def solved(ice, tmp_path_factory):
    config = EmissivityConfig(
        data=str(ice),
        sensors=("amsr2", "gmi", "ssmisf17"),
        method="gauss_newton",
        model={"version": 2},
        solve={"starts": 1, "seed": 1, "sample": 2000, "network_steps": 8},
    )
    run = tmp_path_factory.mktemp("runs") / "ice"
    train(config, run, show=False)
    return run


def test_the_solver_finds_the_ice_that_is_known(ice, solved):
    model, seen = load(solved)
    truth = xr.load_dataset(ice / "truth.nc")
    first = evaluation.concentration_scores(seen.sea_ice_first_guess, truth.sic.values)
    found = evaluation.concentration_scores(evaluation.sea_ice_maps(model), truth.sic.values)
    assert found["rmse"] < 0.5 * first["rmse"]
    assert found["wrong_side_of_edge"] < first["wrong_side_of_edge"]
    table = evaluation.departures(model, seen)
    assert np.abs(table.bias.values[np.isfinite(table.bias)]).max() < 1.5
    errors = evaluation.emissivity_errors(model, seen, truth)
    assert float(errors.rmse.sel(channel=["19v", "19h", "37v", "37h"]).mean()) < 0.04


def test_the_curvature_says_how_sure_the_concentration_is(ice, solved):
    model, seen = load(solved)
    truth = xr.load_dataset(ice / "truth.nc").sic.values[:, 1:]
    deviation, of_properties = infer.uncertainty(model, seen)
    assert of_properties.shape == (model.days, model.points, 2)
    deviation = deviation.T.numpy()[:, 1:]
    there = (truth > 0.3) & (truth < 0.97)
    error = np.abs(evaluation.sea_ice_maps(model)[:, 1:] - truth)
    # the network of this test is fitted to few observations, and its error is not counted
    assert 0.4 < (error < deviation)[there].mean() < 0.9
    sure = deviation < np.median(deviation)
    assert error[sure].mean() < 0.9 * error[~sure].mean()


def test_a_trained_network_finds_the_ice_of_days_it_never_saw(solved, tmp_path):
    other = SimulateConfig(**CASE, observations=(9000,), sensors=("amsr2",), seed=5)
    folder = simulate(other, tmp_path / "other", show=False)
    from seaice_lab.emissivity.observations import prepare
    from seaice_lab.emissivity.settings import ObservationsConfig

    seen = prepare(ObservationsConfig(data=str(folder)), tmp_path / "columns", show=False)
    trained, _ = load(solved)
    model, _ = infer.infer(trained, seen, show=False)
    for one, two in zip(model.network.parameters(), trained.network.parameters(), strict=True):
        assert torch.equal(one, two)
    truth = xr.load_dataset(folder / "truth.nc").sic.values
    first = evaluation.concentration_scores(seen.sea_ice_first_guess, truth)["rmse"]
    maps = evaluation.sea_ice_maps(model)
    assert evaluation.concentration_scores(maps, truth)["rmse"] < 0.6 * first


def adam(month, epochs, **options):
    # batches so small that a GPU takes groups of them
    return EmissivityConfig(data=str(month), fit={"epochs": epochs, "batch_size": 128}, **options)


KILLED = """
import sys
from seaice_lab.emissivity.settings import EmissivityConfig
from seaice_lab.emissivity.train import train

train(EmissivityConfig.read(sys.argv[1]), sys.argv[2], show=False, lazy=sys.argv[3] == "lazy")
"""


def kill_after_epochs(count, config, run, way):
    """Train in a process, and kill it when the history has some epochs."""
    path = run.with_suffix(".yaml")
    path.write_text(config.to_yaml())
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(path), str(run), way]
    with subprocess.Popen(command, env=environment) as process:
        while process.poll() is None:
            history = run / "history.csv"
            if history.exists() and len(history.read_text().splitlines()) > count:
                process.kill()
            time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("way", ["lazy", "gpu"])
def test_a_killed_training_ends_with_the_same_numbers(way, month, tmp_path):
    config = adam(month, 6)
    uninterrupted = train(config, tmp_path / "uninterrupted", show=False, lazy=way == "lazy")
    kill_after_epochs(2, config, tmp_path / "killed", way)
    killed = train(config, tmp_path / "killed", show=False, lazy=way == "lazy")
    # a GPU adds the gradients of a cell in any order
    limit = 1e-5 if torch.cuda.is_available() and way == "gpu" else 0
    for name in ("train_loss", "sea_ice"):
        np.testing.assert_allclose(killed[name], uninterrupted[name], rtol=limit)
    maps = [load(tmp_path / name)[0].sea_ice.detach() for name in ("uninterrupted", "killed")]
    np.testing.assert_allclose(*maps, rtol=0, atol=limit)
    assert uninterrupted.train_loss[:3].is_monotonic_decreasing


ANNEALED = {"version": 2, "false_ice_error": [(0, 0.02), (1, 0.002)]}


@pytest.mark.parametrize(
    ("model", "compiled"),
    [
        (ANNEALED, "never"),
        (ANNEALED, "always"),
        ({"version": 2, "batch_independent": False, "lag_weights": (0.5, 0.3, 0.2)}, "never"),
        ({"n_properties": 0, "freeze_network": True}, "never"),
    ],
)
def test_both_ways_of_training_give_the_same(model, compiled, month, tmp_path):
    if compiled == "always" and not can_compile():
        pytest.skip("needs g++ and Python's headers, or a GPU")
    config = EmissivityConfig(
        data=str(month),
        model=model,
        hold_out_share=0.1,
        fit={"epochs": 2, "compile": compiled, "batch_size": 128},
    )
    results = []
    for way in ("lazy", "gpu"):
        history = train(config, tmp_path / way, show=False, lazy=way == "lazy")
        results.append((history, evaluation.sea_ice_maps(load(tmp_path / way)[0])))
    (one, ice), (two, same) = results
    assert list(one) == list(two)
    columns = [name for name in one if name != "seconds"]
    np.testing.assert_allclose(two[columns], one[columns], rtol=2e-4)
    np.testing.assert_allclose(same, ice, atol=1e-4)


def test_weights_and_a_checkpoint_of_another_form_are_refused(month, tmp_path):
    train(adam(month, 1), tmp_path / "run", show=False)
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    weights["sea_ice.state"] = weights.pop("sea_ice")
    save_file(weights, tmp_path / "run" / "weights.safetensors")
    with pytest.raises(InputError, match="does not hold the state of config.yaml"):
        load(tmp_path / "run")
    (tmp_path / "run" / "finished").unlink()
    state = {"epoch": 1, "best": 1.0, "since_best": 0, "history": []}
    torch.save({"model": weights, "state": state}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(
        InputError, match="does not fit this training .* version and device that began it"
    ):
        train(adam(month, 1), tmp_path / "run", show=False)


def test_another_configuration_leaves_the_observations_of_a_run_alone(month, tmp_path):
    train(adam(month, 1), tmp_path / "run", show=False)
    kept = (tmp_path / "run" / "observations" / "observations.json").read_text()
    with pytest.raises(InputError, match="holds a run that differs in"):
        train(adam(month, 1, steps=2), tmp_path / "run", show=False)
    with pytest.raises(InputError, match="holds the observations of a run"):
        open_data(adam(month, 1, steps=2), tmp_path / "run", show=False)
    assert (tmp_path / "run" / "observations" / "observations.json").read_text() == kept


def test_a_finished_run_stays_when_its_files_have_changed(month, tmp_path):
    data = shutil.copytree(month, tmp_path / "data")
    config = adam(data, 2)
    history = train(config, tmp_path / "run", show=False)
    weights = (tmp_path / "run" / "weights.safetensors").read_bytes()
    kept = load(tmp_path / "run")[1].fingerprint
    os.utime(next(data.glob("amsr2_v2_*.nc")), (1, 1))
    again = train(config, tmp_path / "run", show=False)
    pd.testing.assert_frame_equal(again, history, rtol=1e-12)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == weights
    assert load(tmp_path / "run")[1].fingerprint == kept
    (tmp_path / "run" / "finished").unlink()
    with pytest.raises(InputError, match="files that changed since"):
        train(config, tmp_path / "run", show=False)
    assert load(tmp_path / "run")[1].fingerprint == kept


def test_held_out_observations_are_only_validated_with(month, tmp_path):
    config = adam(month, 2, hold_out_share=0.2)
    history = train(config, tmp_path / "run", show=False)
    _, seen = load(tmp_path / "run")
    trained, held = hold_out(config, seen)
    assert len(held) == pytest.approx(0.2 * seen.size, rel=0.1)
    assert not set(trained) & set(held) and len(trained) + len(held) == seen.size
    assert history.validation_observation.iloc[-1] < history.validation_observation.iloc[0]


def test_days_that_are_held_out_are_only_validated_with(month, tmp_path):
    run = tmp_path / "run"
    words = ["--data", month, "--output", run, "--version", 1, "--nepochs", 1, "--trainonly"]
    done = command("train", *words, "-p", "hold_out_days=[4]", "-p", "fit.compile=never")
    assert done.exit_code == 0, done.output
    config = EmissivityConfig.parse(runs.open_run(run).config, run)
    model, seen = load(run)
    trained, held = hold_out(config, seen)
    assert config.hold_out_days == (4,) and (seen.index[held, 1] == 4).all()
    assert (seen.index[trained, 1] != 4).all() and len(trained) + len(held) == seen.size
    moved = evaluation.sea_ice_maps(model) != seen.sea_ice_first_guess
    assert moved[:, :-1].any() and not moved[:, -1].any()  # the last day
    assert not model.properties.reshape(5, model.points, -1)[4].any()


def test_a_bounded_concentration_stays_between_zero_and_one(month, tmp_path):
    config = adam(month, 2, model={"bounded": True})
    maps = []
    for way in ("lazy", "gpu"):
        train(config, tmp_path / way, show=False, lazy=way == "lazy")
        model, _ = load(tmp_path / way)
        maps.append(evaluation.sea_ice_maps(model))
        assert maps[-1].min() == 0 and maps[-1].max() == 1
    np.testing.assert_allclose(*maps, atol=1e-5)
    weights = model.state_dict()
    weights["sea_ice"] = weights["sea_ice"] + 0.5
    model.load_state_dict(weights)
    assert evaluation.sea_ice_maps(model).max() == 1


REFUSED = [
    ({"model": {"zenith_input": True}}, "takes no zenith angle"),
    ({"sensors": ("amsr2", "gmi"), "hold_out_sensors": ("mine",)}, "not among the sensors"),
    ({"hold_out_sensors": ("amsr2",)}, "no observation is left"),
    ({"hold_out_days": (5,)}, "5 is not among the days .*, 0 to 4"),
    ({"hold_out_days": (-1,)}, "hold_out_days: -1 is not among"),
    ({"method": "gauss_newton", "hold_out_share": 0.1}, "hold_out: method gauss_newton uses all"),
    ({"method": "gauss_newton", "hold_out_days": (1,)}, "hold_out: method gauss_newton uses all"),
    (
        {"method": "gauss_newton", "model": {"network": "sigmoid"}},
        "found sigmoid and 2; train with method adam",
    ),
    (
        {"sensors": ("ssmisf17",), "model": {"version": 2, "emissivity_background": {"10v": 0.8}}},
        "none has a channel that anchors",
    ),
]
FIXED = {
    "averaging": (0.99, "0.0"),
    "schedule": ("cosine", "constant"),
    "weight_decay": (1e-6, "0.0"),
    "max_gradient_norm": (1.0, "None"),
    "precision": ("bfloat16", "float32"),
}
REFUSED += [
    ({"fit": {name: value}}, f"fit: {name} would have no effect on the maps; set {name}={allowed}")
    for name, (value, allowed) in FIXED.items()
]


@pytest.mark.parametrize(("options", "sentence"), REFUSED)
def test_settings_that_cannot_work_are_refused(options, sentence, ice, tmp_path):
    with pytest.raises(InputError, match=sentence):
        train(EmissivityConfig(data=str(ice), **options), tmp_path / "run", show=False)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("name", ["model", "fit"])
def test_a_group_of_settings_of_a_wrong_type_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is 3, but"):
        EmissivityConfig.parse({"data": "data/ice", name: 3}, "--parameter")


def command(*words):
    return CliRunner().invoke(cli.app, ["emissivity", *map(str, words)])


def test_the_published_options_on_the_command_line(ice, tmp_path):
    out = tmp_path / "out"
    words = ["--data", ice, "--output", out, "--sensors", "amsr2", "gmi", "--tag", "one"]
    done = command(
        "train",
        *words,
        "--nepochs",
        1,
        "--batchsize",
        512,
        "--nsteps",
        3,
        "--stepstart",
        1,
        "--reproducible",
        "-p",
        "fit.compile=never",
    )
    assert done.exit_code == 0, done.output
    for name in (
        "seaice",
        "properties_grid",
        "properties_obs",
        "models",
        "tbobs",
        "tbsim",
        "tbsim_initial",
        "tbzero",
        "ice_emis",
        "emissivity_grid",
    ):
        assert (out / f"{name}_one.nc").exists(), name
        assert f"{name}_one.nc" in done.output
    assert "amsr2      10v" in done.output and "concentration from" in done.output
    with xr.open_dataset(out / "seaice_one.nc") as file:
        assert file.sizes["lagstep"] == 4

    again = command(
        "train",
        *words[:-1],
        "two",
        "--modeltag",
        "one",
        "--nsteps",
        3,
        "--stepstart",
        1,
        "--diagsonly",
    )
    assert again.exit_code == 0, again.output
    one, two = (xr.load_dataset(out / f"tbsim_{tag}.nc").tb for tag in ("one", "two"))
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert not (out / "models_two.nc").exists()

    made = command("export", out, tmp_path / "model.nc")
    assert made.exit_code == 0 and (tmp_path / "model.pt2").exists()
    new = command("infer", out, "--data", ice, "--output", tmp_path / "new", "--sensors", "amsr2")
    assert new.exit_code == 0
    estimate = xr.load_dataset(tmp_path / "new" / "seaice_final.nc").transpose("lagstep", "grid")
    observed = read_observations([tmp_path / "new" / "seaice_final.nc"])
    is_observed = estimate.seaice_std.notnull().values
    assert is_observed.any() and not is_observed.all()
    assert counts(observed)["used"] == is_observed.sum() and (observed.source == "emissivity").all()
    np.testing.assert_allclose(used(observed).value, estimate.seaice.values[is_observed])
    # A step is the day that begins at 21 UTC.
    assert used(observed).time_start.values[0] == np.datetime64("2021-02-28T21")
    listed = {row.name: (row.kind, row.state) for row in runs.list_runs(tmp_path)}
    assert listed == {"out": ("emissivity", "trained"), "new": ("emissivity", "inferred")}
    table = xr.load_dataset(tmp_path / "new" / "departures_final.nc")
    before, after = table.rms.sel(stage=["before", "after"], sensor="amsr2").mean("channel").values
    assert after < 0.9 * before
    with pytest.raises(InputError, match="holds the state of other days"):
        load(tmp_path / "new")
    config = runs.open_run(tmp_path / "new").config
    assert config["trained"] == str(out) and config["sensors"] == ["amsr2"]
    other = command("infer", out, "--data", ice, "--output", tmp_path / "new", "-p", "steps=2")
    assert "holds a run that differs in" in str(other.exception)


def test_infer_knows_the_sensors_of_a_run_and_new_ones(ice, tmp_path):
    def table(name, error):
        channels = ", ".join(sensors.instruments(["amsr2"]).channels)
        text = f"sensors: {{amsr2: {{channels: [{channels}], error_k: {{10v: {error}}}}}}}"
        files.write_text(tmp_path / name, text)
        return tmp_path / name

    own = table("mine.yaml", 1.5)
    run = tmp_path / "run"
    config = EmissivityConfig(data=str(ice), sensor_tables=str(own), fit={"epochs": 1})
    train(config, run, show=False)
    own.unlink()
    words = {"trained": str(run), "data": str(ice), "steps": 2}
    _, _, seen = infer.begin_inference(InferConfig(**words), tmp_path / "new", show=False)
    assert seen.instruments.sensors == ("amsr2",) and seen.instruments.error_k[0, 0] == 1.5
    config = InferConfig(**words, sensor_tables=str(table("more.yaml", 2.5)))
    _, _, seen = infer.begin_inference(config, tmp_path / "more", show=False)
    assert seen.instruments.error_k[0, 0] == 2.5


def test_a_model_of_any_configuration_is_rebuilt_from_its_files(ice, tmp_path):
    words = ["train", "--data", ice, "--output", tmp_path, "--nepochs", 1, "--nsteps", 2]
    own = ["-p", "model.zenith_input=true", "-p", "model.lag_weights=[0.5, 0.3, 0.2]"]
    done = command(*words, "--tag", "one", *own, "-p", "fit.compile=never")
    assert done.exit_code == 0, done.output
    again = command(*words, "--tag", "two", "--modeltag", "one", "--diagsonly")
    assert again.exit_code == 0, again.output
    one, two = (xr.load_dataset(tmp_path / f"departures_{tag}.nc") for tag in ("one", "two"))
    np.testing.assert_allclose(one.rms.sel(stage="after"), two.rms.sel(stage="after"), rtol=1e-5)


def test_a_network_that_takes_the_zenith_angle_needs_it(ice, tmp_path):
    config = EmissivityConfig(data=str(ice), model={"version": 2, "zenith_input": True})
    seen = open_data(config, tmp_path, show=False)
    check_zenith(config.model, seen)
    seen.scalars[7, 4] = np.nan  # in memory alone
    with pytest.raises(InputError, match="amsr2 has observations without a zenith angle"):
        check_zenith(config.model, seen)


def test_wrong_words_on_the_command_line(ice, tmp_path):
    words = ["train", "--data", ice, "--output", tmp_path / "out", "--sensors", "amsr2"]
    both = command(*words, "--diagsonly", "--trainonly")
    assert isinstance(both.exception, InputError) and "exclude each other" in str(both.exception)
    missing = command(*words, "--diagsonly", "--modeltag", "nothing")
    assert "the tags in" in str(missing.exception)
    assert command(*words, "--optimiser", "sgd").exit_code == 2


def test_the_penalty_of_a_little_ice_changes_with_the_epoch(ice, tmp_path):
    config = EmissivityConfig(data=str(ice), model=ANNEALED)
    model = EmpiricalState(config.model, open_data(config, tmp_path, show=False))
    peak = 0.15 * 0.025 / 0.02**2
    torch.nn.init.constant_(model.sea_ice, 0.15)
    per_observation = len(model.sea_ice) / model.size
    for epoch, factor in ((0, 1), (1, 100), (5, 100)):
        strengths = penalty.strengths(config.model, epoch)
        value = penalty.cost(torch.tensor([0.15]), strengths).item()
        assert value == pytest.approx(factor * peak)
        cost = model.map_costs(epoch)["sea_ice"].item()
        assert cost == pytest.approx(factor * peak * per_observation, rel=1e-4)
