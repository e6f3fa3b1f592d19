"""Training and forecasts of a noise-conditioned network."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from seaice_lab import files, grid
from seaice_lab.config import FitConfig
from seaice_lab.diagnostics import ensembles
from seaice_lab.errors import InputError
from seaice_lab.surrogate import calibration
from seaice_lab.surrogate.evaluation import evaluate, open_forecast, report
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.model import load
from seaice_lab.surrogate.settings import ForecastConfig, TrainConfig
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.truth import truth_for

FIT = {"batch_size": 8, "schedule": "cosine", "compile": "never"}


@pytest.fixture(scope="module")
def store(shared_store):
    """The prepared store of the waves."""
    return shared_store


@pytest.fixture(scope="module")
def plain(store, tmp_path_factory):
    """A deterministic run."""
    folder = tmp_path_factory.mktemp("plain")
    return train(settings(store, epochs=2, loss="ocean"), folder / "plain", show=False)


@pytest.fixture(scope="module")
def run(plain, store, tmp_path_factory):
    """An ensemble network that started from it."""
    config = settings(store, epochs=2, start_from=str(plain))
    return train(config, tmp_path_factory.mktemp("runs") / "ens", show=False)


def settings(store, epochs=1, loss="crps", **values):
    rate = 2e-3 if loss == "crps" else 1e-2
    fit = FitConfig(epochs=epochs, learning_rate=rate, **FIT)
    return TrainConfig(store=str(store), width=4, loss=loss, fit=fit, **values)


def make(run, path=None, **values):
    path = forecast(run, ForecastConfig(**values), path, device="cpu", show=False)
    return open_forecast(path).sit.load()


def test_the_history_shows_crps_spread_skill_and_exponent_difference(run, store, tmp_path):
    history = pd.read_csv(run / "history.csv")
    for name in ("validation_crps", "validation_spread_skill", "validation_exponent_difference"):
        assert np.isfinite(history[name]).all()
    assert history.validation_loss[1] < history.validation_loss[0]
    assert 0 < history.validation_spread_skill[1] < 2
    # A third phase goes through rollouts with the weights, noise layers among them, of the second.
    config = settings(store, start_from=str(run), rollout_steps=2, symmetry="quarter_turns")
    weights = load(train(config, tmp_path / "third", show=False)).network.state_dict()
    assert any(value.abs().max() > 0 for name, value in weights.items() if "noise" in name)


def test_a_killed_ensemble_training_continues_to_the_same_weights(run, plain, store, tmp_path):
    config = settings(store, epochs=2, start_from=str(plain))
    killed, replace = tmp_path / "killed", files.replacing

    def full(path):
        # The disk is full when the second epoch is written.
        if path.name == "checkpoint.pt" and path.exists():
            raise OSError(28, "No space left on device")
        return replace(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "replacing", full)
        with pytest.raises(OSError, match="No space left"):
            train(config, killed, show=False)
    assert not (killed / "finished").exists()
    train(config, killed, show=False)
    columns = ["train_loss", "validation_loss", "validation_spread_skill"]
    histories = [pd.read_csv(folder / "history.csv")[columns] for folder in (killed, run)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert (killed / "weights.safetensors").read_bytes() == (
        run / "weights.safetensors"
    ).read_bytes()


def test_the_card_of_an_ensemble_names_the_limits_of_its_spread_and_spectrum(run):
    limits = (run / "README.md").read_text().partition("## Limits")[2].partition("\n## ")[0]
    assert "single cells" in limits and "power at some wavelengths" in limits
    assert "deterministic" not in limits


def test_members_are_the_same_in_any_batch_and_of_any_number(run, tmp_path):
    options = {"steps": 3, "every": 3}
    many = make(run, tmp_path / "a.zarr", members=6, batch_size=64, **options)
    few = make(run, tmp_path / "b.zarr", members=3, batch_size=1, **options)
    time = str(many.init_time.values[1])
    one_start = make(run, tmp_path / "c.zarr", members=3, steps=3, starts=[time], split="test")
    np.testing.assert_allclose(many[:, :3], few, atol=1e-5)
    np.testing.assert_allclose(many[1:2, :3], one_start, atol=1e-5)
    assert not np.allclose(many[:, 0], many[:, 1], equal_nan=True, atol=1e-3)
    other = make(run, tmp_path / "d.zarr", members=3, seed=1, **options)
    assert not np.allclose(few, other, equal_nan=True, atol=1e-3)


def test_without_noise_the_members_are_the_single_forecast(run, tmp_path):
    single = make(run, tmp_path / "a.zarr", steps=2)
    quiet = make(run, tmp_path / "b.zarr", steps=2, members=2, noise_gain=0)
    for member in (0, 1):
        np.testing.assert_array_equal(quiet.isel(member=member), single)
    # Perturbed starts may be added; among members with noise no one is a control.
    noisy = make(run, tmp_path / "c.zarr", steps=1, members=2)
    both = make(run, tmp_path / "d.zarr", steps=1, members=2, perturbation=0.1)
    for member in (0, 1):
        assert abs(both - noisy).isel(member=member).max() > 0.01


def test_noise_that_starts_at_zero_leaves_the_forecast_of_the_deterministic_run(
    plain, store, tmp_path
):
    fit = FitConfig(epochs=1, learning_rate=1e-30, weight_decay=0, **FIT)
    config = TrainConfig(
        store=str(store), width=4, loss="crps", start_from=str(plain), input_noise=0, fit=fit
    )
    untrained = train(config, tmp_path / "untrained", show=False)
    expected = make(plain, tmp_path / "a.zarr", steps=3)
    members = make(untrained, tmp_path / "b.zarr", steps=3, members=2)
    for member in (0, 1):
        np.testing.assert_array_equal(members.isel(member=member), expected)


def test_the_calibration_is_kept_with_the_weights_and_used(run, plain, store, monkeypatch):
    monkeypatch.setattr(calibration, "MEMBERS", 4)
    monkeypatch.setattr(calibration, "SCORE_DAYS", 2)
    (run / "calibration.json").write_text("{")  # a damaged one is no obstacle
    result = calibration.calibrate(run, memories=(0.5,), starts=2, show=False)
    assert json.loads((run / "calibration.json").read_text()) == result
    noise = load(run).noise
    assert (noise.gain, noise.memory) == (result["noise_gain"], result["noise_memory"])
    assert len(noise.gain) == 3  # levels
    assert result["spread_skill"] == pytest.approx(1, abs=0.4)
    names = "noise_gain", "noise_memory", "member_bias"
    default, explicit = (
        make(run, run / f"{name}.zarr", members=2, steps=2, every=6, **values)
        for name, values in (
            ("default", {}),
            ("explicit", {name: result[name] for name in names}),
        )
    )
    np.testing.assert_array_equal(default, explicit)
    size = calibration.calibrate(plain, starts=2, show=False)["perturbation"]
    default = make(plain, plain / "a.zarr", members=2, steps=1, every=6)
    explicit = make(plain, plain / "b.zarr", members=2, steps=1, every=6, perturbation=size)
    np.testing.assert_array_equal(default, explicit)
    make(run, members=3, steps=2, every=4)
    table, spectrum = evaluate(run, references=["persistence"], show=False)
    assert {"crps", "spread", "rank_histogram"} <= set(table)
    members = open_forecast(run).sit.load()
    truth = truth_for(members.isel(member=0, drop=True), open_store(store))
    ratio = ensembles.spread_skill(members, truth, members.ocean, grid.cell_area(members))
    last = report(table, spectrum).splitlines()[-1].split()
    crps = float(table.crps.sel(source="forecast")[-1])
    assert last[-2:] == [f"{crps:.4f}", f"{float(ratio[-1]):.2f}"]


def test_the_biases_make_the_variance_of_the_volume_equal_to_its_error():
    rng = np.random.default_rng(0)
    shape = 2000, calibration.MEMBERS, 3
    growth = np.array([1.0, 2.0, 3.0])  # of error and spread with lead time
    error, noise, sign = (rng.standard_normal((*shape[:2], 1)) for _ in range(3))

    def errors(bias, spread=0.5):
        of_run = error[:, :1] + spread * noise + 50 * bias * sign
        return xr.DataArray(of_run * growth, dims=("init_time", "member", "lead_time"))

    without, trial = errors(0.0), errors(calibration.TRIAL_BIAS)
    bias = calibration._match_volume(without, trial)
    assert bias == pytest.approx(0.75**0.5 / 50, rel=0.15)  # 0.5^2 + (50 b)^2 = 1
    # A variance that is large enough without biases, and biases that change nothing.
    assert calibration._match_volume(errors(0.0, 3.0), errors(calibration.TRIAL_BIAS, 3.0)) == 0
    assert calibration._match_volume(without, without) == 0
    # Biases of which a huge one would be needed.
    small = without + 1e-3 * (trial - without)
    assert calibration._match_volume(without, small) == calibration.MAX_BIAS


def test_a_calibration_stays_if_something_else_of_the_run_is_damaged(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "calibration.json").write_text('{"noise_gain": 1.5}')
    (copy / "normalisation.json").write_text("{")
    with pytest.raises(InputError, match="normalisation.json"):
        calibration.calibrate(copy, show=False)
    assert (copy / "calibration.json").read_text() == '{"noise_gain": 1.5}'


def test_old_calibrations_with_one_gain_are_read(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "calibration.json").write_text('{"noise_memory": 0.65, "noise_gain": 1.5}')
    noise = load(copy).noise
    assert noise.gains == (1.5, 1.5, 1.5) and noise.memory == 0.65


def test_the_gains_of_the_levels_make_all_ratios_one():
    response = np.array([[0.3, 0.3, 0.6], [0.8, 0.1, 0.0], [0.3, 0.9, 0.1], [0.0, 0.2, 0.9]])
    best = np.array([1.6, 0.7, 2.0])

    def score(gains):
        return {"ratios": np.exp(response @ np.log(gains / best))}

    gains, scores = calibration._match_ratios(score, [1.2] * 3, score([1.2] * 3))
    np.testing.assert_allclose(gains, best, rtol=0.05)
    np.testing.assert_array_equal(scores["ratios"], score(gains)["ratios"])

    def worse(gains):
        return {"ratios": np.exp(1 + np.abs(np.log(np.divide(gains, 1.2))))}

    assert calibration._match_ratios(worse, [1.2] * 3, worse([1.2] * 3))[0] == [1.2] * 3


def test_bands_without_power_or_wavelengths_are_left_out_of_the_calibration(run, store, tmp_path):
    members = make(run, tmp_path / "a.zarr", members=2, steps=2, every=4)
    truth = truth_for(members.isel(member=0, drop=True), open_store(store))
    ratios = calibration._power_ratios(members, truth)
    assert len(ratios) and (ratios > 0).all()
    assert not len(calibration._power_ratios(members, 0 * truth))
    np.testing.assert_allclose(calibration._power_ratios(0 * members, truth), 0.01)
    # The ocean is a single cell, whose square has no waves.
    row, column = np.argwhere(members.ocean.values)[0]
    ocean = xr.zeros_like(members.ocean)
    ocean[row, column] = True
    assert not len(calibration._power_ratios(members.assign_coords(ocean=ocean), truth))


def test_wrong_requests_are_refused(run, plain, store, tmp_path):
    with pytest.raises(InputError, match="deterministic network, expected one with noise"):
        make(plain, members=4, noise_gain=1.0, steps=2)
    with pytest.raises(InputError, match="has 2 gains of the noise, expected one number or 3"):
        make(run, members=4, noise_gain=(1.0, 2.0), steps=2)
    with pytest.raises(InputError, match="found 0 starts and 3 memories, expected"):
        calibration.calibrate(run, starts=0, show=False)
    with pytest.raises(InputError, match="members: is 1, expected at least 2"):
        make(run, noise_gain=1.0, steps=2)
    with pytest.raises(InputError, match="members"):
        settings(store, members=1)
    new = tmp_path / "new"
    with pytest.raises(InputError, match="start_from: is missing, expected a trained run"):
        train(settings(store), new, show=False)
    with pytest.raises(InputError, match="trained with noise_channels 4, expected 2"):
        train(settings(store, start_from=str(run), noise_channels=2), new, show=False)
    with pytest.raises(InputError, match="trained with loss crps, expected ocean"):
        train(settings(store, loss="ocean", start_from=str(run)), new, show=False)
    assert not new.exists()
    copy = shutil.copytree(run, tmp_path / "copy")
    for text in (
        "{",
        "[1]",
        '{"noise_gain": "large"}',
        '{"noise_gain": -1}',
        '{"noise_gain": [1, 1, 1, -1]}',
        '{"noise_gain": NaN}',
        '{"noise_gain": []}',
        '{"noise_gain": [[1], [1], [1]]}',
        '{"noise_memory": 1}',
        '{"noise_memory": [0.5, 0.5, 0.5]}',
        '{"perturbation": [0.1]}',
    ):
        (copy / "calibration.json").write_text(text)
        with pytest.raises(InputError, match=r"calibration.json: holds .* run `seaice-lab calib"):
            load(copy)
    (copy / "calibration.json").write_text('{"noise_gain": [1, 1]}')
    message = "calibration.json: has 2 gains of the noise, .*; run `seaice-lab calibrate .*` again"
    with pytest.raises(InputError, match=message):
        load(copy)
    (copy / "calibration.json").unlink()
    shutil.copy(plain / "weights.safetensors", copy / "weights.safetensors")
    with pytest.raises(InputError, match="another loss|does not hold the UNet3"):
        load(copy)


def test_members_are_clamped_to_the_bounds_before_they_are_scored(store):
    from seaice_lab.surrogate.ensemble_training import ensemble_score
    from seaice_lab.surrogate.settings import window_of

    config = settings(store, start_from="x")
    ocean, area = torch.ones(16, 16, dtype=torch.bool), torch.ones(16, 16)
    scale = {"mean": 1.0, "std": 2.0}
    normalisation = {name: scale for name in ("sit", "t2m", "u10", "v10")}
    normalisation["increments"] = [{"mean": 0.1, "std": 0.5}]
    score = ensemble_score(config, window_of(config), normalisation, ocean, area)
    # Open water that stays: thickness 0, increment 0 m, which is -0.2 when normalised.
    inputs = torch.full((2, len(window_of(config).inputs), 16, 16), -0.5)
    target = torch.full((1, 1, 16, 16), -0.2)
    members = torch.stack([target[0] - 3, target[0] - 1])
    total, terms = score(members, target, inputs, training=False)
    assert total.item() == pytest.approx(0, abs=1e-6)
    assert terms["squared_error"].item() == pytest.approx(0, abs=1e-6)
