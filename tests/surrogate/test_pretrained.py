"""The networks that ship with the project beat simple forecasts on weather they never saw."""

from pathlib import Path

import numpy as np
import pytest

from seaice_lab import grid
from seaice_lab.config import read_yaml
from seaice_lab.diagnostics import ensembles, scores
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.references import reference_for
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.truth import truth_for

ROOT = Path(__file__).parents[2]
RUN = ROOT / "data" / "pretrained" / "sample"
ENSEMBLE = RUN.with_name("ensemble")


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    """A prepared store with the runs of the bundled sample for validation and tests, and one more.

    The networks bring their normalisation, which is of all runs for training.
    """
    folder = tmp_path_factory.mktemp("pretrained")
    (folder / "sample").mkdir()
    for name in ("train_r01.nc", "val_r07.nc", "test_r08.nc"):
        (folder / "sample" / name).symlink_to(ROOT / "data" / "sample" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEAICE_DATA", str(folder))
        return prepare(PrepareConfig(), folder / "sample.zarr", show=False)


@pytest.fixture(scope="module")
def single(store_path, tmp_path_factory):
    """Forecasts of the deterministic network."""
    return forecast_of(RUN, store_path, tmp_path_factory.mktemp("single"))


def test_the_deterministic_network_was_made_from_the_configuration_beside_it():
    used, published = (
        TrainConfig.parse(read_yaml(path), path)
        for path in (RUN / "config.yaml", RUN.with_suffix(".yaml"))
    )
    assert used == published


def test_the_ensemble_differs_from_the_configuration_beside_it_by_its_runs_only():
    used, published = (
        TrainConfig.parse(read_yaml(path), path)
        for path in (ENSEMBLE / "config.yaml", ENSEMBLE.with_suffix(".yaml"))
    )
    others = {name: getattr(used, name) for name in ("store", "start_from", "fit")}
    assert published.model_copy(update=others) == used
    others = {name: getattr(used.fit, name) for name in ("epochs", "compile")}
    assert published.fit.model_copy(update=others) == used.fit


@pytest.mark.parametrize("run", [RUN, ENSEMBLE])
def test_the_networks_are_small(run):
    assert (run / "weights.safetensors").stat().st_size < 3e6


def forecast_of(run, store_path, tmp_path, **settings):
    config = ForecastConfig(steps=4, every=15, store=str(store_path), **settings)
    return open_forecast(
        forecast(run, config, tmp_path / f"{run.name}.zarr", show=False)
    ).sit.load()


def test_the_deterministic_network_beats_persistence_on_the_test_run(store_path, single):
    store = open_store(store_path)
    truth, persistence = truth_for(single, store), reference_for("persistence", single, store)
    ocean = single.ocean.values
    area = grid.cell_area(store).values[ocean]

    def error(values):
        square = (values - truth).values[..., ocean] ** 2
        return np.sqrt((square * area).sum(-1).mean(0) / area.sum())

    ratio = error(single) / error(persistence)
    assert ratio[0] < 0.86 and ratio[-1] < 0.82


def test_the_ensemble_is_calibrated_and_beats_the_deterministic_network(
    store_path, single, tmp_path
):
    members = forecast_of(ENSEMBLE, store_path, tmp_path, members=6)
    arguments = truth_for(single, open_store(store_path)), single.ocean, grid.cell_area(single)
    crps = ensembles.crps(members, *arguments).mean("init_time")
    mean_absolute_error = scores.mean_absolute_error(single, *arguments).mean("init_time")
    assert (crps / mean_absolute_error < 0.8).all()
    ratio = ensembles.spread_skill(members, *arguments)
    assert (ratio > 0.8).all() and (ratio < 1.15).all()
