"""Rollouts: exact against the published loop, bounded, resumable, and the same in any batch."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import xarray as xr
from keras_weights import error, image, published_network, read
from keras_weights import load as load_weights
from safetensors.torch import load_file, save_file

from seaice_lab import files, runs
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast, rollout
from seaice_lab.surrogate.model import Surrogate, load
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.perturbations import initial_perturbations, member_biases
from seaice_lab.surrogate.settings import ForecastConfig, TrainConfig
from seaice_lab.surrogate.store import open_store, read_frames
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.windows import WINDOWS, Window

OCEAN = torch.ones(2, 2, dtype=torch.bool)


@pytest.fixture(scope="module")
def trained(shared_store, tmp_path_factory):
    """A surrogate trained for a few steps, from which tests copy it."""
    fit = FitConfig(epochs=2, batch_size=8, learning_rate=1e-2, schedule="cosine")
    config = TrainConfig(store=shared_store.name, width=4, fit=fit)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_store.parent)
        return train(config, tmp_path_factory.mktemp("runs") / "small", show=False)


@pytest.fixture
def run(trained, store, tmp_path):
    """A surrogate trained for a few steps."""
    return shutil.copytree(trained, tmp_path / "runs" / "small")


# Largest difference divided by the largest value; the last case is long enough for the float32
# rounding of the published implementation to accumulate.
CASES = {
    "published_constants": ("model_UNet3", 1e-5),
    "strong": ("model_UNet3", 1e-5),
    "positive_bias": ("model_UNet3_B", 1e-4),
}


@pytest.mark.parametrize("case", CASES)
def test_the_rollout_repeats_the_published_forecast_loop(case):
    model, tolerance = CASES[case]
    data = {
        key.removeprefix(f"{case}/"): value
        for key, value in read("rollout_UNet3").items()
        if key.startswith(f"{case}/")
    }
    mean_in, std_in, mean_out, std_out = data["constants_meanin_stdin_meanout_stdout"].tolist()
    ocean = torch.from_numpy(data["mask"] > 0.5)
    network = build_network("UNet3", ocean, 10, width=4, published=True).double().eval()
    load_weights(network, read(model))
    rows = image(data["x_rows"])

    floor = data["min_truth"].item() * std_in + mean_in

    def step(state, forcing):
        inputs = torch.cat([(state - mean_in) / std_in, forcing], dim=1)
        return torch.clamp(state + network(inputs) * std_out + mean_out, min=floor)

    initial = rows[:1, :1] * std_in + mean_in
    with torch.no_grad():
        states = torch.cat(list(rollout(step, initial, rows[:-1, None, 1:])))
    normalised = (states[:, 0] - mean_in) / std_in
    assert error(normalised, torch.from_numpy(data["x_pred"][1:])) < tolerance


def adjoint_case():
    """The published network, four steps without floor, in normalised units and float64."""
    data = read("adjoint_UNet3")
    mean_in, std_in, mean_out, std_out = data["constants_meanin_stdin_meanout_stdout"].tolist()
    ocean = torch.from_numpy(data["mask"] > 0.5)
    network = published_network("UNet3", read("model_UNet3"), ocean).eval()

    def step(state, forcing):
        return state + (network(torch.cat([state, forcing], 1)) * std_out + mean_out) / std_in

    forcing = image(data["forcings"])[:, None]
    return data, ocean, lambda initial: torch.cat(list(rollout(step, initial, forcing)))


def test_the_adjoint_of_the_rollout_is_the_published_one():
    data, ocean, run = adjoint_case()
    initial = image(data["x0"]).requires_grad_()
    states = run(initial)
    assert error(states[:, 0], torch.from_numpy(data["trajectory"])) < 1e-12
    misfit = (states - image(data["observations"])) / data["sigma_obs"].item()
    cost = 0.5 * (misfit[..., ocean] ** 2).sum()
    assert cost.item() == pytest.approx(data["cost"].item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(cost, initial)
    assert error(gradient[0, 0], torch.from_numpy(data["grad_x0"])) < 1e-10


def test_tangent_and_adjoint_agree_in_the_dot_product():
    data, _, run = adjoint_case()
    initial = image(data["x0"])
    direction = torch.from_numpy(data["tangent_dx0"]).double()[None, None]
    _, tangent = torch.autograd.functional.jvp(lambda x: run(x)[-1], initial, direction)
    reference = torch.from_numpy(data["tangent_final_centred_difference"])
    assert error(tangent[0], reference) < 1e-6
    weights = torch.randn(tangent.shape, generator=torch.Generator().manual_seed(0)).double()
    initial.requires_grad_()
    (adjoint,) = torch.autograd.grad((run(initial)[-1] * weights).sum(), initial)
    left, right = (tangent * weights).sum().item(), (direction * adjoint).sum().item()
    assert left == pytest.approx(right, rel=1e-10)


def make(run, path=None, block_bytes=256e6, **settings):
    return forecast(run, ForecastConfig(**settings), path, block_bytes=block_bytes, show=False)


def test_a_forecast_is_what_stepping_by_hand_gives(run, store):
    dataset = open_forecast(make(run, steps=3))
    surrogate = load(run, "cpu")
    fields = open_store(store)
    position = int(dataset.position[2])
    state = torch.from_numpy(fields.sit[position].fillna(0).values)[None, None]
    ocean = fields.ocean.values
    for step in range(3):
        forcing = np.stack(
            [
                fields[name][position + 2 * step + int(lag // 6)].values
                for name, lag in surrogate.window.forcing
            ]
        )
        state = (state + surrogate.increment(state, torch.from_numpy(forcing)[None])).clamp(min=0)
        expected = state[0, 0].numpy()
        np.testing.assert_allclose(dataset.sit[2, step].values[ocean], expected[ocean], atol=1e-5)
        assert np.isnan(dataset.sit[2, step].values[~ocean]).all()
        assert np.all(expected[~ocean] == 0)


def test_times_are_init_plus_lead_and_starts_are_complete(run, store):
    dataset = open_forecast(make(run, steps=4))
    hours = dataset.lead_time.values / np.timedelta64(1, "h")
    np.testing.assert_array_equal(hours, [12, 24, 36, 48])
    np.testing.assert_array_equal(
        dataset.valid_time.values, (dataset.init_time + dataset.lead_time).values
    )
    # 24 records of 6 h hold 24 - 8 starts whose four steps are all inside
    assert dataset.sizes["init_time"] == 16
    assert dataset.sit.attrs["standard_name"] == "sea_ice_thickness"
    with xr.open_zarr(run / "forecast.zarr", consolidated=False, decode_times=False) as raw:
        assert {raw[name].dtype.kind for name in ("init_time", "lead_time", "valid_time")} == {"f"}


def test_the_result_does_not_depend_on_the_sizes_of_batches_and_blocks(run, tmp_path):
    together = open_forecast(make(run, tmp_path / "a.zarr", steps=5)).load()
    two_steps = 4 * 32 * 32 * 3 * 2
    path = make(run, tmp_path / "b.zarr", two_steps, steps=5, batch_size=3)
    apart = open_forecast(path)
    assert apart.sit.encoding["shards"][1] == 2
    np.testing.assert_allclose(together.sit, apart.sit, atol=1e-5)


def constant_change(window, changes, ocean=OCEAN):
    """A surrogate that always predicts the same change."""

    def network(inputs):
        return torch.tensor(changes)[:, None, None].expand(len(inputs), -1, *ocean.shape)

    scale = {name: {"mean": 0.0, "std": 1.0} for name, _ in window.inputs}
    scale["increments"] = [{"mean": 0.0, "std": 1.0}] * len(window.targets)
    return Surrogate(network, window, scale, ocean)


def test_thickness_never_becomes_negative_however_strong_the_melt():
    surrogate = constant_change(WINDOWS["self_consistent"], [-0.4])
    states = rollout(surrogate.step, torch.ones(1, 1, 2, 2), [torch.zeros(1, 9, 2, 2)] * 4)
    assert [round(float(state.max()), 6) for state in states] == [0.6, 0.2, 0.0, 0.0]


def test_concentration_and_damage_stay_between_zero_and_one_and_velocity_is_free():
    surrogate = constant_change(WINDOWS["full_state"], [-0.4, 0.7, -3.0, 3.0, -0.6])
    state = torch.full((1, 5, 2, 2), 0.5)
    first, second = rollout(surrogate.step, state, [torch.zeros(1, 9, 2, 2)] * 2)
    assert first[0, :, 0, 0].tolist() == pytest.approx([0.1, 1.0, -2.5, 3.5, 0.0])
    assert second[0, :, 0, 0].tolist() == pytest.approx([0.0, 1.0, -5.5, 6.5, 0.0])


def test_past_states_are_handed_on_from_step_to_step():
    window = Window(inputs=(("sit", 0.0), ("sit", -12.0), ("sit", -24.0), ("u10", 0.0)))
    surrogate = constant_change(window, [1.0])
    state = torch.tensor([3.0, 2.0, 1.0])[None, :, None, None].expand(1, 3, 2, 2)
    *_, last = rollout(surrogate.step, state, [torch.zeros(1, 1, 2, 2)] * 2)
    assert last[0, :, 0, 0].tolist() == [5.0, 4.0, 3.0]


def test_a_forecast_with_past_states_place_and_season(store, tmp_path):
    state, location = (("sit", 0.0), ("sit", -12.0)), ("latitude", "coast_distance_km")
    forcing = (("u10", 0.0), *((name, 0.0) for name in location))
    season = (("season_sine", 6.0), ("season_cosine", 6.0))
    window = Window(inputs=state + forcing + season, targets=(("sit", 12.0), ("sit", 24.0)))
    fit = FitConfig(epochs=1, batch_size=8, learning_rate=1e-2, schedule="constant")
    config = TrainConfig(store=str(store), window=window, width=4, rollout_steps=2, fit=fit)
    path = train(config, tmp_path / "runs" / "past", show=False)
    dataset = open_forecast(make(path, steps=3))
    assert np.isfinite(dataset.sit.values[..., dataset.ocean.values]).all()
    surrogate = load(path, "cpu")
    assert surrogate.network.network.head.weight.shape[0] == 2


def test_an_ensemble_starts_from_the_truth_and_from_smoothly_perturbed_states(run, tmp_path):
    single = open_forecast(make(run, tmp_path / "a.zarr", steps=3)).sit.load()
    ensemble = {"steps": 3, "members": 4}
    sit = open_forecast(make(run, tmp_path / "b.zarr", batch_size=8, **ensemble)).sit.load()
    assert sit.dims == ("init_time", "member", "lead_time", "y", "x")
    np.testing.assert_allclose(sit.isel(member=0, drop=True), single, atol=1e-5)
    assert float(sit.std("member").where(sit.ocean).mean()) > 0.02
    # the sizes of the batches have no influence
    again = open_forecast(make(run, tmp_path / "c.zarr", batch_size=4, **ensemble))
    np.testing.assert_allclose(again.sit, sit, atol=1e-5)
    other_seed = open_forecast(make(run, tmp_path / "d.zarr", seed=1, **ensemble))
    assert float(abs(other_seed.sit - sit).max()) > 0.05


def test_the_spread_of_an_ensemble_follows_the_size_of_the_perturbations(run, tmp_path):
    spread = {}
    for size in (0.0, 0.02, 0.04):
        path = make(run, tmp_path / f"{size}.zarr", steps=1, members=3, perturbation=size)
        sit = open_forecast(path).sit.load()
        # thick ice only, where the floor at zero cannot cut the perturbations off
        spread[size] = float(sit.std("member").where(sit.min("member") > 0.5).mean())
    assert spread[0.0] == pytest.approx(0, abs=1e-6)
    scale = load(run, "cpu").normalisation["sit"]["std"]
    assert 0.3 * 0.02 * scale < spread[0.02] < 2 * 0.02 * scale
    assert spread[0.04] / spread[0.02] == pytest.approx(2, rel=0.1)


def test_perturbations_have_the_size_asked_for_and_are_smooth(run, store):
    surrogate = load(run, "cpu")
    config = ForecastConfig(members=5, perturbation=0.2)
    fields = initial_perturbations(surrogate, open_store(store), [3, 4], config)
    fields = fields.view(2, 5, 32, 32)
    assert torch.all(fields[:, 0] == 0)
    scale = surrogate.normalisation["sit"]["std"]
    assert fields[:, 1:].std((-2, -1)).mean().item() == pytest.approx(0.2 * scale, rel=1e-3)
    step = fields[:, 1:].diff(dim=-1).square().mean() / fields[:, 1:].square().mean()
    # 2 (1 - exp(-(25 km / 300 km)^2)) for neighbours 25 km apart
    assert step.item() == pytest.approx(2 * (1 - np.exp(-((25 / 300) ** 2))), rel=0.3)


def test_biases_raise_all_changes_of_a_member_alike(run, store, tmp_path):
    options = {"steps": 2, "members": 3, "perturbation": 0.0, "every": 4}
    unbiased = open_forecast(make(run, tmp_path / "a.zarr", **options)).sit.load()
    sit = open_forecast(make(run, tmp_path / "b.zarr", member_bias=0.3, **options)).sit.load()
    surrogate, config = load(run, "cpu"), ForecastConfig(members=3, member_bias=0.3)
    biases = member_biases(surrogate, sit.position.values, config).numpy().reshape(-1, 3)
    assert not biases[:, 0].any() and biases[:, 1:].all()  # the first member is the control
    initial = read_frames(open_store(store), "sit", sit.position.values)[:, None]
    increment = (unbiased.isel(lead_time=0) - initial).values
    expected = unbiased.isel(lead_time=0) + biases[..., None, None] * abs(increment)
    np.testing.assert_allclose(sit.isel(lead_time=0), expected.clip(0), atol=1e-5)
    # The differences of the volume grow and keep their sign.
    volume = (sit - unbiased).mean(("y", "x")).isel(member=slice(1, None))
    assert (volume * np.sign(biases[:, 1:, None]) > 0).all()
    assert (abs(volume.isel(lead_time=1)) > 1.2 * abs(volume.isel(lead_time=0))).all()


def test_the_biases_have_their_size_and_do_not_depend_on_other_members_and_starts(run):
    surrogate = load(run, "cpu")
    config = ForecastConfig(members=300, member_bias=0.02)
    biases = member_biases(surrogate, [3, 4], config).view(2, 300)
    assert biases[:, 1:].std().item() == pytest.approx(0.02, rel=0.1)
    assert abs(np.corrcoef(biases[:, 1:])[0, 1]) < 0.2
    few = ForecastConfig(members=4, member_bias=0.02)
    assert torch.equal(member_biases(surrogate, [4], few).view(4), biases[1, :4])
    assert member_biases(surrogate, [3], ForecastConfig(members=4, member_bias=0.0)) is None
    with pytest.raises(InputError, match="members: is 1, expected at least 2 with member_bias"):
        make(run, steps=1, member_bias=0.1)


def test_a_bias_raises_amounts_and_leaves_velocities(run):
    surrogate = load(run, "cpu")
    generator = torch.Generator().manual_seed(0)
    state = 1 + torch.rand(2, 1, 32, 32, generator=generator)
    forcing = torch.randn(2, 9, 32, 32, generator=generator)
    change = surrogate.increment(state, forcing)
    bias = torch.tensor([0.1, -0.1]).view(-1, 1, 1, 1)
    torch.testing.assert_close(
        surrogate.increment(state, forcing, bias=bias), change + bias * change.abs()
    )
    # The same network, as if it predicted a velocity.
    inputs = [["siu", 0.0], *surrogate.window.inputs[1:]]
    window = Window(inputs=inputs, targets=[["siu", 12.0]])
    scales = surrogate.normalisation | {"siu": surrogate.normalisation["sit"]}
    drift = surrogate._replace(window=window, normalisation=scales)
    torch.testing.assert_close(
        drift.increment(state, forcing, bias=bias), drift.increment(state, forcing)
    )


def test_a_compiled_forecast_gives_the_same_numbers_and_compiles_full_batches_only(run, tmp_path):
    starts = {"steps": 3, "batch_size": 7}
    eager = open_forecast(make(run, tmp_path / "a.zarr", compile="never", **starts))
    assert eager.sizes["init_time"] % 7  # the last batch is smaller
    # A second batch size would compile the network again, which this setting refuses.
    torch.compiler.reset()
    with torch._dynamo.config.patch(error_on_recompile=True):
        path = make(run, tmp_path / "b.zarr", compile="always", **starts)
    np.testing.assert_allclose(open_forecast(path).sit, eager.sit, atol=1e-5)


def test_a_damaged_cache_of_compiled_code_is_told_in_a_sentence(run, tmp_path, monkeypatch):
    message = "CppCompileError: C++ compile error\nerror: 'at::vec' has not been declared"

    def compiled(network, **options):
        def fail(*inputs):
            raise RuntimeError(message)

        return fail

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="cache: the files of torch.compile are damaged.*move"):
        make(run, tmp_path / "a.zarr", compile="always", steps=2)
    message = "another error"
    with pytest.raises(RuntimeError, match="another error"):
        make(run, tmp_path / "b.zarr", compile="always", steps=2)


@pytest.mark.parametrize("name", ["steps", "every", "batch_size", "members"])
def test_a_number_below_one_is_refused_in_a_sentence(name):
    with pytest.raises(InputError, match=f"^ForecastConfig: {name} is 0, but: .*greater"):
        forecast("runs/none", ForecastConfig(**{name: 0}))


KILLED = """
import sys
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.settings import ForecastConfig
forecast(sys.argv[1], ForecastConfig(steps=4, batch_size=1), sys.argv[2], block_bytes=1, show=False)
"""


def test_a_killed_forecast_continues_where_it_stopped(run, tmp_path):
    complete = open_forecast(make(run, tmp_path / "a.zarr", steps=4, batch_size=1))
    path = tmp_path / "b.zarr"
    partial = tmp_path / "b.zarr.partial"
    process = subprocess.Popen([sys.executable, "-c", KILLED, run, path])
    while not (partial / "done" / "1:2").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(InputError, match="is incomplete"):
        open_forecast(path)
    shutil.copytree(partial, tmp_path / "c.zarr.partial")
    written = partial / "result" / "sit" / "c" / "0" / "0"
    (before,) = (file.stat().st_mtime_ns for file in written.rglob("0") if file.is_file())
    make(run, path, 1, steps=4, batch_size=1)
    np.testing.assert_array_equal(open_forecast(path).sit, complete.sit)
    written = path / "sit" / "c" / "0" / "0"
    (after,) = (file.stat().st_mtime_ns for file in written.rglob("0") if file.is_file())
    assert after == before  # the first batch was not computed again
    larger = make(run, tmp_path / "c.zarr", 1, steps=4, batch_size=8)
    np.testing.assert_allclose(open_forecast(larger).sit, complete.sit, atol=1e-5)


SHARED = """
import os
import sys
from pathlib import Path
from seaice_lab import cli
from seaice_lab.errors import InputError
from seaice_lab.surrogate import forecast as module
from seaice_lab.surrogate.calibration import calibrate

read, rank = module._inputs, os.environ["RANK"]

def recorded(*arguments):
    with Path(f"rank{rank}.txt").open("a") as file:
        print(arguments[-1].start, file=file)
    return read(*arguments)

module._inputs = recorded
command = ["forecast", sys.argv[1], "--steps", "2", "--batch-size", "2"]
cli.app(command, standalone_mode=False)
for job in (
    lambda: cli.app([*command, "--members", "2", "--seed", rank], standalone_mode=False),
    lambda: calibrate(sys.argv[1]),
):
    try:
        job()
    except InputError as error:
        Path(f"rank{rank}.txt").open("a").write(f"{error}\\n")
"""


def test_processes_share_the_start_dates_that_are_missing(run, tmp_path):
    complete = make(run, tmp_path / "a.zarr", steps=2, batch_size=2)
    expected = open_forecast(complete).sit.load()
    # As if a forecast had been killed that had written the second batch only.
    partial = run / "forecast.zarr.partial"
    shutil.copytree(complete, partial / "result")
    (partial / "result" / "ocean" / "checksums.json").unlink()
    (partial / "fingerprint").write_text(open_forecast(complete).attrs["fingerprint"])
    (partial / "done").mkdir()
    for name in ("template", "2:4"):
        (partial / "done" / name).touch()
    for start in set(range(expected.sizes["init_time"])) - {2, 3}:
        shutil.rmtree(partial / "result" / "sit" / "c" / str(start))
    (tmp_path / "shared.py").write_text(SHARED)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    hidden = {"CUDA_VISIBLE_DEVICES": ""}  # two processes need two GPUs, or none
    done = subprocess.run(
        [sys.executable, *launch, "shared.py", run],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env=os.environ | hidden,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1 and "Warning" not in done.stderr
    np.testing.assert_allclose(open_forecast(run).sit, expected, atol=1e-6)
    assert not list(run.glob("*.partial")) and not (run / "heartbeat.json").exists()
    batches = []
    for rank in "01":
        *starts, other_seeds, calibration = (tmp_path / f"rank{rank}.txt").read_text().splitlines()
        assert "the processes do not make the same forecast; give all" in other_seeds
        assert "takes one process; start it without torchrun" in calibration
        assert starts
        batches += map(int, starts)
    assert sorted(batches) == [first for first in range(0, len(expected), 2) if first != 2]


def test_a_state_that_is_not_finite_stops_the_forecast(run):
    weights = load_file(run / "weights.safetensors")
    weights["head.bias"].fill_(float("nan"))
    save_file(weights, run / "weights.safetensors")
    with pytest.raises(InputError, match="no longer finite by step 2"):
        make(run, steps=2)
    assert not (run / "forecast.zarr").exists()


def test_the_rollout_is_differentiable_with_respect_to_the_initial_state(run):
    surrogate = load(run, "cpu")
    generator = torch.Generator().manual_seed(0)
    state = (1 + torch.rand(1, 1, 32, 32, generator=generator)).requires_grad_()
    forcing = [torch.randn(1, 9, 32, 32, generator=generator)] * 2
    *_, last = rollout(surrogate.step, state, forcing)
    (gradient,) = torch.autograd.grad(last[..., 8, 5].sum(), state)
    assert gradient[0, 0, 8, 5] != 0
    assert torch.all(gradient[0, 0][~surrogate.ocean] == 0)


def test_a_forecast_needs_a_trained_surrogate(tmp_path, store, run):
    with pytest.raises(InputError, match="no such run"):
        make(tmp_path / "none", steps=2)
    (run / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights yet; train it"):
        make(run, steps=2)


def test_a_run_trained_on_other_data_is_not_taken_up(run, store):
    facts = runs.open_run(run).provenance
    config = TrainConfig.parse(runs.open_run(run).config, "config")
    files.write_json(run / "provenance.json", facts | {"data": "other"})
    with pytest.raises(InputError, match="differs in data"):
        train(config, run, show=False)


def test_a_grid_that_cannot_be_pooled_and_an_unknown_network_are_refused():
    with pytest.raises(InputError, match="16 x 24 cells cannot be halved 4 times"):
        build_network("UNet5", torch.ones(16, 24, dtype=torch.bool), 10)
    with pytest.raises(InputError, match="network is 'UNet9', but: .*'UNet5'"):
        TrainConfig(store="waves.zarr", network="UNet9")
