"""The command line: it does the jobs, and bad input is one sentence without a traceback."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENTRY, write_catalogue

COMMANDS = [
    "data list",
    "data show",
    "data make",
    "prepare",
    "train",
    "forecast",
    "evaluate",
    "pipeline",
    "runs list",
]


def seaice_lab(*words):
    return subprocess.run(
        [str(Path(sys.executable).with_name("seaice-lab")), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_prepare_train_forecast_and_evaluate_from_the_command_line(waves, tmp_path):
    steps = [
        ("prepare", "stores/w.zarr", "-p", "state=waves"),
        (
            "train",
            "runs/w",
            "-p",
            "store=stores/w.zarr",
            "-p",
            "width=4",
            "-p",
            "fit.epochs=1",
            "-p",
            "fit.batch_size=8",
        ),
        ("forecast", "runs/w", "--steps", "2"),
        ("evaluate", "runs/w"),
        ("runs", "list"),
    ]
    outputs = []
    for words in steps:
        done = seaice_lab(*words)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert "wrote stores/w.zarr" in outputs[0]
    assert "persistence" in outputs[3]
    assert "evaluated" in outputs[4]
    assert (tmp_path / "runs" / "w" / "spectra.nc").exists()


def test_data_list_and_show_report_the_existing_files(waves):
    listed = seaice_lab("data", "list").stdout
    assert "waves" in listed
    assert "4 files" in listed
    shown = seaice_lab("data", "show", "waves").stdout
    assert "licence: CC0" in shown
    assert "sit" in shown


def test_the_synthetic_arctic_is_made_and_can_be_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path / "mine"))
    days = {"train": "2001-01-01", "validation": "2001-01-02", "test": "2001-01-03"}
    entry = {key: value for key, value in ENTRY.items() if key != "separate_runs"} | {
        "paths": ["arctic/*.nc"],
        "generator": {"size": 24, "days": 3, "step_h": 6},
        "splits": {split: {"period": [day, day]} for split, day in days.items()},
    }
    write_catalogue(tmp_path, {"small-arctic": entry})
    assert (
        "`seaice-lab data make small-arctic`" in seaice_lab("data", "show", "small-arctic").stderr
    )
    made = seaice_lab("data", "make", "small-arctic")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "mine" / "arctic" / "synthetic_arctic_2001m01.nc").exists()
    done = seaice_lab("prepare", "arctic.zarr", "-p", "state=small-arctic")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "arctic.zarr").exists()


BAD = {
    "an unknown key": (
        ("prepare", "x.zarr", "-p", "coarse=2"),
        "unknown key 'coarse'; the known ones are state",
    ),
    "an unknown dataset": (("prepare", "x.zarr", "-p", "state=wave"), "waves"),
    "a missing store": (
        ("train", "runs/a", "-p", "store=none.zarr"),
        "none.zarr: no such store; make it with",
    ),
    "a missing run": (("forecast", "runs/none"), "no such run"),
    "a missing forecast": (("evaluate", "runs/none"), "make it with `seaice-lab forecast"),
    "an unknown notebook parameter": (("pipeline", "-p", "epoch=2"), "unknown parameter 'epoch'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_on_stderr_and_status_two(case, waves):
    words, message = BAD[case]
    done = seaice_lab(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("seaice-lab: ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = seaice_lab(*command.split(), "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5


def test_help_answers_without_importing_torch():
    code = "import sys; import seaice_lab.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
