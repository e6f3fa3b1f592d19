"""The cycle of assimilation windows: its folder, its continuation, its forecasts and statistics."""

import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
import small_windows
import xarray as xr
from browser import until
from conftest import ENTRY, change, write_catalogue, write_waves

from seaice_lab import runs
from seaice_lab.assimilation import cycle, twins
from seaice_lab.assimilation.background import variance
from seaice_lab.assimilation.cycle import background_root, first_background, run_cycle
from seaice_lab.assimilation.diffusion import covariance
from seaice_lab.assimilation.model import open_source
from seaice_lab.assimilation.model_error import (
    correlation_length,
    forecast_errors,
    model_error_root,
)
from seaice_lab.assimilation.observations import concatenate, read_table, write_table
from seaice_lab.assimilation.settings import AssimilationConfig, BackgroundConfig
from seaice_lab.config import FitConfig
from seaice_lab.diagnostics.departures import report
from seaice_lab.errors import InputError
from seaice_lab.surrogate.evaluation import evaluate, open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.train import train
from seaice_lab.times import time_text

SMALL = {"windows": 3, "window_steps": 2, "forecast_steps": 2, "split": "test"}
SMALL |= {"minimiser": {"iterations": 4}}
PAIR = ("sit", "sic")
BACKGROUND = {"first": "mean", "normalisation_probes": 20}


class EmptyFields(NamedTuple):
    """Fields of a store whose values are all 0."""

    shape: tuple

    def read(self, name, at):
        return np.zeros((len(at), *self.shape), "float32")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small trained run; its store and its catalogue are in the same folder."""
    folder = tmp_path_factory.mktemp("trained")
    write_waves(folder, "train_1", "val_1", "test_1")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        store = prepare(PrepareConfig(state="waves"), folder / "waves.zarr", show=False)
        fit = FitConfig(epochs=1, batch_size=16)
        config = TrainConfig(store=str(store), width=2, network="UNet2", fit=fit)
        return train(config, folder / "runs" / "small", show=False)


@pytest.fixture
def settings(trained, tmp_path):
    """Settings of a small cycle: three windows of a day with observed tracks."""
    truth = truth_of(trained)
    write_table(twins.observe_tracks(truth, sigma=0.05, share=0.8), tmp_path / "tracks.nc")
    paths = {"run": str(trained), "observations": (str(tmp_path / "tracks.nc"),)}
    return paths | SMALL | {"start": str(truth.time.values[0]), "background": BACKGROUND}


def truth_of(trained):
    store = open_store(trained.parents[1] / "waves.zarr")
    return store.isel(time=store.split.values == 2).sit.load()


def files_of(folder):
    """Values of all results of a cycle; time stamps and durations are left out."""
    datasets = [xr.load_dataset(path) for path in sorted(folder.glob("*.nc"))]
    return [*datasets, open_forecast(folder).load()]


def test_a_killed_cycle_goes_on_to_the_same_result(settings, tmp_path):
    config, folder = AssimilationConfig(**settings), tmp_path / "runs" / "killed"
    whole = run_cycle(config, tmp_path / "runs" / "whole", show=False)
    (tmp_path / "cycle.yaml").write_text(config.to_yaml(), encoding="utf-8")
    words = ("assimilate", "run", folder, "--config", tmp_path / "cycle.yaml")
    process = subprocess.Popen([sys.executable, "-m", "seaice_lab.cli", *map(str, words)])
    until(lambda: (folder / "window_0000.nc").exists() or process.poll() is not None, seconds=300)
    process.kill()  # SIGKILL, of which the process knows nothing
    process.wait()
    assert sorted(folder.glob("window*.nc")) and runs.state_of(folder)[0] == "stopped"
    continued = run_cycle(config, folder, show=False)
    xr.testing.assert_identical(whole.drop_attrs(), continued.drop_attrs())
    for one, other in zip(files_of(folder.with_name("whole")), files_of(folder), strict=True):
        xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())
    assert runs.state_of(folder)[0] == "forecast"


def test_each_window_starts_where_the_last_one_ended_and_the_forecasts_too(
    settings, trained, tmp_path
):
    folder = tmp_path / "runs" / "cycle"
    result = run_cycle(AssimilationConfig(**settings), folder, show=False)
    windows = [xr.load_dataset(path) for path in sorted(folder.glob("window*.nc"))]
    for one, other in zip(windows, windows[1:], strict=False):
        end = one.sit.sel(state="analysis").isel(valid_time=-1)
        start = other.sit.sel(state="background").isel(valid_time=0)
        xr.testing.assert_equal(end, start.assign_coords(end.coords))
    truth = truth_of(trained).sel(time=windows[0].valid_time.values)
    error = ((windows[0].sit - truth.values) ** 2).mean(("valid_time", "y", "x")) ** 0.5
    assert error.sel(state="analysis") < 0.9 * error.sel(state="background")
    # The forecast of the analysis is that of the surrogate from its last state.
    ahead = open_forecast(folder)
    np.testing.assert_array_equal(ahead.init_time, [w.valid_time.values[-1] for w in windows])
    forced = open_forecast(
        forecast(
            settings["run"],
            ForecastConfig(starts=[str(ahead.init_time.values[0])], steps=2, split="test"),
            tmp_path / "other.zarr",
            initial=windows[0].end_state.values[None],
            show=False,
        )
    )
    xr.testing.assert_equal(ahead.sit[:1].load(), forced.sit.load())
    table, _ = evaluate(folder, ["persistence"], show=False)
    assert np.isfinite(table.rmse).all()
    assert result.used.sum() > 0 and (result.low < result.high).all()
    assert set(result.by.values) == {"kind", "region", "day"}


def test_windows_may_overlap(settings, tmp_path):
    config = AssimilationConfig(**settings | {"shift_steps": 1, "windows": 2})
    run_cycle(config, tmp_path / "runs" / "overlap", show=False)
    first, second = (
        xr.load_dataset(path) for path in sorted((tmp_path / "runs" / "overlap").glob("window*"))
    )
    assert second.valid_time.values[0] == first.valid_time.values[1]
    np.testing.assert_array_equal(
        second.sit.sel(state="background")[0], first.sit.sel(state="analysis")[1]
    )
    with pytest.raises(InputError, match="expected at most window_steps"):
        AssimilationConfig(**settings | {"shift_steps": 3})


def test_without_observations_the_cycle_is_the_free_forecast(settings, tmp_path):
    free = settings | {"observations": (), "background": BACKGROUND | {"first": "start"}}
    run_cycle(AssimilationConfig(**free), tmp_path / "runs" / "free", show=False)
    windows = [xr.load_dataset(p) for p in sorted((tmp_path / "runs" / "free").glob("window*"))]
    config = ForecastConfig(starts=[settings["start"]], steps=6, split="test")
    ahead = open_forecast(forecast(settings["run"], config, tmp_path / "f.zarr", show=False))
    values = np.concatenate([w.sit.sel(state="analysis")[1:] for w in windows])
    np.testing.assert_array_equal(values, ahead.sit[0])
    for window in windows:
        np.testing.assert_array_equal(*window.sit)


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("lacks forcing", {"windows": 40}),
        ("has no state at this time", {"background": {"first": "1999-01-01"}}),
        ("add sit and leave out sic", {"background": {"std": {"sic": 0.1}}}),
        ("leave out sic", {"background": {"std": {"sit": 0.1, "sic": 0.1}}}),
        ("no such run", {"run": "runs/none"}),
    ],
)
def test_what_cannot_be_assimilated_is_refused_before_a_folder_is_made(
    settings, tmp_path, message, change
):
    with pytest.raises(InputError, match=message):
        run_cycle(AssimilationConfig(**settings | change), tmp_path / "runs" / "new", show=False)
    assert not (tmp_path / "runs" / "new").exists()


@pytest.mark.parametrize(
    ("message", "kind", "days"),
    [
        ("snt is observed, but the state", "snt", 0),
        ("assimilate observations -p kind=sit", "sit_of_ice", 0),
        ("windows of 24 h: none of", "sit", 7),
    ],
)
def test_observations_that_a_later_window_cannot_use_are_refused_before_a_folder_is_made(
    settings, trained, tmp_path, message, kind, days
):
    table = twins.observe_cells(truth_of(trained), 0.1, 12.0)
    is_late = table.time > table.time[0] + np.timedelta64(1, "D")
    table["kind"] = table.kind.copy(data=np.where(is_late, kind, table.kind))
    table["time_start"] = table.time_end - np.timedelta64(days, "D")
    write_table(table, tmp_path / "tracks.nc")
    with pytest.raises(InputError, match=message):
        run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "new", show=False)
    assert not (tmp_path / "runs" / "new").exists()


def test_other_settings_or_observations_in_the_same_folder_are_refused(settings, trained, tmp_path):
    folder = tmp_path / "runs" / "cycle"
    settings |= {"windows": 1, "forecast_steps": 0}
    run_cycle(AssimilationConfig(**settings), folder, show=False)
    assert runs.state_of(folder)[0] == "analysed"
    with pytest.raises(InputError, match="differs in seed"):
        run_cycle(AssimilationConfig(**settings | {"seed": 1}), folder, show=False)
    # The same observations in a new file are no other ones.
    write_table(read_table(tmp_path / "tracks.nc").assign_attrs(title="new"), tmp_path / "new.nc")
    (tmp_path / "new.nc").replace(tmp_path / "tracks.nc")
    run_cycle(AssimilationConfig(**settings), folder, show=False)
    truth = truth_of(trained)
    write_table(twins.observe_cells(truth, 0.1, 12.0), tmp_path / "tracks.nc")
    with pytest.raises(InputError, match="differs in inputs"):
        run_cycle(AssimilationConfig(**settings), folder, show=False)


def test_other_forms_of_errors_bounds_and_minimisation(settings, tmp_path):
    settings |= {"windows": 1, "forecast_steps": 0, "signal_probes": 1}
    settings["background"] = BACKGROUND | {"pattern": "training", "length_km": 0}
    forms = ({"bounds": "smooth"}, {"method": "incremental", "iterations": 4})
    for number, minimiser in enumerate(forms):
        config = AssimilationConfig(**settings | {"minimiser": minimiser})
        result = run_cycle(config, tmp_path / "runs" / str(number), show=False)
        assert 0 < result.signal[0] < result.used[0]


def test_a_hybrid_has_the_covariance_of_training_states_and_the_stated_deviation(
    settings, tmp_path
):
    source = open_source(settings["run"], device="cpu")
    options = {"std": {"sit": 0.2}, "pattern": "training", "normalisation_probes": None}
    roots = [
        background_root(
            source, BackgroundConfig(**options, localisation_km=1e6, ensemble_weight=weight)
        )
        for weight in (0.0, 1.0, 0.25)
    ]
    static, patterns, hybrid = map(variance, roots)
    assert patterns.mean() == pytest.approx(0.04)
    assert roots[1].shape[1] == roots[2].shape[1] - roots[0].shape[1]  # no controls of the rest
    np.testing.assert_allclose(hybrid, 0.75 * static + 0.25 * patterns)
    training = source.store.sit.isel(time=source.store.split.values == 0)
    at = np.linspace(0, training.sizes["time"] - 1, 50).round().astype(int)
    members = training.values[at][:, source.store.ocean.values]
    covariance_of_training = roots[1] @ (roots[1].H @ np.eye(members.shape[1])[:, :3])
    expected = np.cov(members.T)
    expected *= 0.04 / np.diag(expected).mean()
    np.testing.assert_allclose(covariance_of_training, expected[:, :3], atol=1e-4)
    settings |= {"windows": 1, "forecast_steps": 0, "model_error_steps": 1}
    settings["background"] = BACKGROUND | {"ensemble_weight": 0.5}
    run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "hybrid", show=False)
    window = xr.load_dataset(tmp_path / "runs" / "hybrid" / "window_0000.nc")
    assert window.cost_of_background > 0 and window.cost_of_model_error > 0


def training_background(name, source, settings):
    """Background or root of B that is computed from training states, by the name of its setting."""
    if name == "first":
        return first_background(source, AssimilationConfig(**settings), None)
    value = {"pattern": "training", "ensemble_weight": 1.0}[name]
    return background_root(source, BackgroundConfig(normalisation_probes=10, **{name: value}))


@pytest.mark.parametrize("name", ["first", "pattern", "ensemble_weight"])
def test_a_missing_training_state_is_refused_with_store_and_time(name, settings, tmp_path):
    source = open_source(settings["run"], device="cpu")
    copy = shutil.copytree(source.store.encoding["source"], tmp_path / "copy.zarr")
    first = int((source.store.split.values == 0).argmax())
    (copy / "sit" / "c" / str(first) / "0" / "0").unlink()
    time = time_text(source.store.time.values[first])
    message = f"copy.zarr: sit cannot be read .* at {time}, probably because a chunk is missing"
    with pytest.raises(InputError, match=message):
        training_background(name, source._replace(store=open_store(copy)), settings)


@pytest.mark.parametrize("name", ["first", "pattern", "ensemble_weight"])
def test_without_training_states_or_with_equal_ones_no_background_is_computed(name, settings):
    source = open_source(settings["run"], device="cpu")
    is_training = source.store.split == 0
    without = source.store.assign_coords(split=source.store.split.where(~is_training, 1))
    with pytest.raises(InputError, match="has no training split.* ensemble_weight of 0"):
        training_background(name, source._replace(store=without), settings)
    equal = source.store.sit.where(~is_training | ~source.store.ocean, 0.3)
    source = source._replace(store=source.store.assign(sit=equal))
    if name == "first":
        mean = training_background(name, source, settings)
        np.testing.assert_array_equal(mean[0, 0], np.where(source.store.ocean, np.float32(0.3), 0))
        return
    with pytest.raises(InputError, match="training states of sit are all equal"):
        training_background(name, source, settings)


def test_mean_and_pattern_are_those_of_all_training_states(settings, monkeypatch):
    monkeypatch.setattr(cycle, "AT_ONCE", 7)
    source = open_source(settings["run"], device="cpu")
    ocean = source.store.ocean.values
    training = source.store.sit.values[source.store.split.values == 0].astype(float)
    mean = training_background("first", source, settings)
    np.testing.assert_allclose(mean[0, 0], np.where(ocean, training.mean(0), 0))
    config = BackgroundConfig(std={"sit": 0.2}, pattern="training", length_km=0)
    of_cell = training.std(0)[ocean]
    expected = 0.2 * of_cell / np.sqrt((of_cell**2).mean())
    np.testing.assert_allclose(np.sqrt(variance(background_root(source, config))), expected)


def test_measured_errors_of_the_surrogate_make_the_cost_consistent(settings, trained, tmp_path):
    settings |= {"windows": 1, "forecast_steps": 0, "minimiser": {"iterations": 8}}
    # The initial state is known, so only errors of the surrogate explain the departures.
    settings["background"] = BACKGROUND | {"first": "start", "std": 0.02}
    table = twins.observe_cells(truth_of(trained), 0.05, 12.0)
    write_table(table, tmp_path / "tracks.nc")
    costs = []
    for steps in (None, 1):
        config = AssimilationConfig(**settings | {"model_error_steps": steps})
        folder = tmp_path / "runs" / str(steps)
        costs.append(run_cycle(config, folder, show=False).isel(window=0))
    strong, weak = costs
    assert strong.cost_of_model_error == 0 < weak.cost_of_model_error
    # With the measured errors of the surrogate, the cost is what it should be.
    assert weak.low < weak.cost_ratio < weak.high and strong.cost_ratio > strong.high
    total = weak.cost_of_background + weak.cost_of_model_error + weak.cost_of_observations
    np.testing.assert_allclose(weak.cost_ratio, 2 * total / weak.used)
    window = xr.load_dataset(folder / "window_0000.nc")
    source = open_source(settings["run"], device="cpu")
    # The states are those of the surrogate and its errors, of which the next window has none.
    np.testing.assert_array_equal(window.next_state[0].fillna(0), window.sit[1, -1].fillna(0))
    errors = forecast_errors(source, 1)
    assert errors.shape == (22, 1, int(source.store.ocean.sum()))
    assert correlation_length(errors[:, 0], source.store.ocean.values, 25e3) >= 25e3
    with pytest.raises(InputError, match="0 intervals|no start has all"):
        forecast_errors(source, 12)
    others = source.store.isel(time=source.store.split.values != 1)
    with pytest.raises(InputError, match="no validation split"):
        forecast_errors(source._replace(store=others), 1)
    # A surrogate that never errs: it changes nothing, and all stored states are 0.
    still = source.surrogate.normalisation | {"increments": [{"mean": 0.0, "std": 0.0}]}
    surrogate = source.surrogate._replace(normalisation=still)
    perfect = source._replace(surrogate=surrogate, fields=EmptyFields(source.store.ocean.shape))
    with pytest.raises(InputError, match="errors of sit .* are 0 in all cells, expected"):
        model_error_root(perfect, 1, config.background)


def test_thickness_and_concentration_are_analysed_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in sorted(write_waves(tmp_path, "train_1", "val_1", "test_1").glob("*.nc")):
        change(path, with_concentration)
    entry = ENTRY | {"variables": ENTRY["variables"] | {"sic": "sic"}}
    write_catalogue(tmp_path, {"waves": entry})
    state = {"state": "waves", "variables": PAIR, "coarsen": 2}
    store_path = prepare(PrepareConfig(**state), tmp_path / "waves.zarr", show=False)
    window = small_windows.THICKNESS_AND_CONCENTRATION.model_dump()
    config = {"store": str(store_path), "window": window, "network": "UNet2", "width": 2}
    fit = FitConfig(epochs=1, batch_size=16)
    run = train(TrainConfig(**config, fit=fit), tmp_path / "runs" / "two", show=False)
    store = open_store(store_path)
    store = store.isel(time=store.split.values == 2).load()
    later = store.isel(time=slice(2, 7))  # the network also needs the state 12 h before
    tables = [twins.observe_cells(later[name], 0.03, 12.0, seed) for seed, name in enumerate(PAIR)]
    write_table(concatenate(tables), tmp_path / "both.nc")
    settings = SMALL | {"run": str(run), "windows": 1, "start": str(later.time.values[0])}
    settings |= {"observations": ("both.nc",), "forecast_steps": 1, "background": BACKGROUND}
    result = run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "cycle", show=False)
    assert set(result.group.values) >= set(PAIR)
    window = xr.load_dataset(tmp_path / "runs" / "cycle" / "window_0000.nc")
    truth = later.sel(time=window.valid_time.values)
    for name in PAIR:
        error = ((window[name] - truth[name].values) ** 2).mean(("valid_time", "y", "x")) ** 0.5
        assert error.sel(state="analysis") < 0.8 * error.sel(state="background")
    assert (window.sic.fillna(0) <= 1).all() and (window.sic.fillna(0) >= 0).all()
    assert set(open_forecast(tmp_path / "runs" / "cycle").data_vars) >= set(PAIR)


def with_concentration(run):
    """A run of waves with a concentration that follows from the thickness."""
    concentration = (run.sit / 1.2).clip(0, 1).assign_attrs(units="1")
    return run.assign(sic=concentration)


def test_the_correlation_length_of_errors_is_that_of_their_covariance():
    ocean, sides = np.ones((30, 30), bool), np.full((2, 30, 30), 25e3)
    ocean[10:20, 12] = False
    root = covariance(ocean, sides, 100e3, 1.0, 20, probes=400)
    rng = np.random.default_rng(0)
    errors = (root @ rng.standard_normal((60, root.shape[1])).T).T
    assert correlation_length(errors, ocean, 25e3) == pytest.approx(100e3, rel=0.1)
    white = rng.standard_normal(errors.shape)
    assert correlation_length(white, ocean, 25e3) == pytest.approx(25e3)


def test_an_observation_far_from_the_background_is_rejected(settings, trained, tmp_path):
    truth = truth_of(trained)
    table = twins.observe_cells(truth, 0.05, 12.0)
    table["value"][100] = 50.0
    write_table(table, tmp_path / "tracks.nc")
    settings |= {"windows": 1, "forecast_steps": 0}
    settings["background"] = BACKGROUND | {"std": 1.0}
    result = run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "far", show=False)
    departures = xr.load_dataset(tmp_path / "runs" / "far" / "departures_0000.nc")
    assert (departures.quality == 0).sum() == departures.sizes["observation"] - 1 == result.used[0]
    window = xr.load_dataset(tmp_path / "runs" / "far" / "window_0000.nc")
    assert f"{int(result.used[0])} used" in window.observations
    assert "1 far_from_background" in window.observations


def test_a_cycle_ends_if_all_observations_are_far_from_the_background(settings, tmp_path):
    settings |= {"windows": 1, "forecast_steps": 0, "background_check": 1e-6}
    result = run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "far", show=False)
    assert result.used[0] == 0 and "group" not in result.dims
    assert report(result) == "no observations were used"
    config = AssimilationConfig(**settings | {"background_check": None})
    result = run_cycle(config, tmp_path / "runs" / "unchecked", show=False)
    assert result.used[0] > 0 and np.isnan(result.background_ratio).all()


def test_the_huber_norm_has_no_interval_of_the_cost(settings, tmp_path):
    settings |= {"windows": 1, "forecast_steps": 0, "huber": 2.0}
    result = run_cycle(AssimilationConfig(**settings), tmp_path / "runs" / "huber", show=False)
    assert result.cost_ratio[0] > 0 and np.isnan(result.low[0]) and np.isnan(result.high[0])
    assert "unknown with the Huber norm" in report(result)
