"""What the program writes keeps the CF conventions, as the public checker sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seaice_lab.config import FitConfig
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.products import write_simulations
from seaice_lab.emissivity.settings import ModelConfig, ObservationsConfig
from seaice_lab.surrogate.evaluation import evaluate
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.settings import ForecastConfig, TrainConfig
from seaice_lab.surrogate.train import train
from seaice_lab.synthetic import arctic


def errors(path):
    """Failed requirements of CF 1.8 (the newest rules the checker knows by number) in a file."""
    report = path.with_suffix(".json")
    checker = Path(sys.executable).with_name("compliance-checker")
    subprocess.run(
        [str(checker), "--test=cf:1.8", "--format=json_new", f"--output={report}", str(path)],
        capture_output=True,
        timeout=120,
    )
    found = json.loads(report.read_text())[str(path)]["cf:1.8"]["high_priorities"]
    return [message for check in found for message in check["msgs"]]


def without_version(messages):
    """The files declare CF-1.11, which this rule set does not know."""
    return [message for message in messages if "Conventions" not in message]


@pytest.fixture(scope="module")
def run(shared_store, tmp_path_factory):
    fit, folder = FitConfig(epochs=1, batch_size=8, learning_rate=1e-3), tmp_path_factory
    config = TrainConfig(store=str(shared_store), width=4, fit=fit)
    run = train(config, folder.mktemp("runs") / "run", show=False)
    forecast(run, ForecastConfig(steps=2), show=False)
    evaluate(run, show=False)
    return run


@pytest.mark.parametrize("name", ["scores.nc", "spectra.nc"])
def test_scores_and_spectra_are_cf(run, name):
    assert without_version(errors(run / name)) == []


def test_the_synthetic_arctic_is_cf(tmp_path):
    (path,) = arctic.write(tmp_path, size=24, days=1, show=False)
    assert without_version(errors(path)) == []


def test_departures_of_the_emissivity_model_are_cf(tmp_path):
    inputs = Path(__file__).parent / "data" / "emissivity" / "v2_imagers" / "inputs"
    config = ObservationsConfig(data=str(inputs), sensors=["amsr2", "gmi"])
    observations = prepare(config, tmp_path / "columns", show=False)
    first, after = (EmpiricalState(ModelConfig(version=2), observations).eval() for _ in range(2))
    paths = write_simulations(
        after, first, observations, tmp_path, "one", departures_only=True, show=False
    )
    assert without_version(errors(paths["departures"])) == []
