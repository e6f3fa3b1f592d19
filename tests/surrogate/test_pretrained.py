"""The network that ships with the project loads, and beats persistence on weather it never saw."""

from pathlib import Path

import numpy as np

from seaice_lab import grid
from seaice_lab.config import read_yaml
from seaice_lab.surrogate.evaluation import open_forecast, truth_for
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.references import reference_for
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import open_store

ROOT = Path(__file__).parents[2]
RUN = ROOT / "data" / "pretrained" / "sample"


def test_it_was_made_from_the_configuration_beside_it_and_is_small():
    used, published = (
        TrainConfig.parse(read_yaml(path), path)
        for path in (RUN / "config.yaml", RUN.with_suffix(".yaml"))
    )
    assert used == published
    assert (RUN / "weights.safetensors").stat().st_size < 3e6


def test_it_beats_persistence_on_the_test_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEAICE_DATA", raising=False)
    store = open_store(prepare(PrepareConfig(), "stores/sample.zarr", show=False))
    config = ForecastConfig(steps=4, every=15)
    sit = open_forecast(forecast(RUN, config, tmp_path / "f.zarr", show=False)).sit.load()
    truth, persistence = truth_for(sit, store), reference_for("persistence", sit, store)
    ocean = sit.ocean.values
    area = grid.cell_area(store).values[ocean]

    def error(values):
        square = (values - truth).values[..., ocean] ** 2
        return np.sqrt((square * area).sum(-1).mean(0) / area.sum())

    ratio = error(sit) / error(persistence)
    assert ratio[0] < 0.86 and ratio[-1] < 0.82
