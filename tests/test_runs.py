"""Run folders and safe writing."""

import json
import re
import subprocess
import sys

import pytest
import xarray as xr
from numpy.lib.format import open_memmap

from seaice_lab import files, runs
from seaice_lab.config import Config
from seaice_lab.errors import InputError


class Settings(Config):
    """A configuration."""

    width: int = 4


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "scores.json"
    files.write_json(path, {"rmse": 1})
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"rmse": 1}
    assert list(tmp_path.iterdir()) == [path]


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from seaice_lab import files, runs
from seaice_lab.errors import InputError
try:
    files.write_text(sys.argv[1], "x" * 1000)
except InputError as error:
    print(error)
"""


def test_a_full_disk_is_reported_in_one_sentence_and_leaves_no_file(tmp_path):
    # A real limit of the operating system, which makes the write fail half-way.
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "big.txt")], capture_output=True, text=True
    )
    assert "the disk is full or a quota is reached" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_space_of_a_memory_map_is_reserved_without_changing_it(tmp_path):
    path = tmp_path / "x.npy"
    column = open_memmap(path, "w+", "float32", (100_000,))
    column[:10] = 3
    files.reserve(path)
    assert path.stat().st_blocks * 512 >= column.nbytes
    assert column.sum() == 30


def test_netcdf_files_have_float_times_and_no_int64(tmp_path):
    dataset = xr.Dataset(
        {"count": ("time", [1, 2]), "sit": ("time", [0.5, float("nan")])},
        coords={"time": xr.date_range("2010-01-01", periods=2)},
    )
    files.write_netcdf(tmp_path / "x.nc", dataset)
    with xr.open_dataset(tmp_path / "x.nc", decode_times=False) as raw:
        assert raw.time.dtype == "float64"
        assert raw["count"].dtype == "int32"
        assert "_FillValue" not in raw.time.encoding
    xr.testing.assert_equal(xr.load_dataset(tmp_path / "x.nc"), dataset)


def test_a_run_has_its_provenance_and_can_be_continued(tmp_path):
    path = runs.create(tmp_path / "a", Settings(), "surrogate", seed=3, data="abc")
    opened = runs.open_run(path)
    assert opened.config == {"width": 4}
    assert opened.provenance["seed"] == 3
    assert opened.provenance["versions"]["seaice_lab"]
    assert runs.create(tmp_path / "a", Settings(), "surrogate", seed=3, data="abc") == path
    with pytest.raises(InputError, match="holds a run that differs in width; choose another name"):
        runs.create(tmp_path / "a", Settings(width=8), "surrogate", seed=3, data="abc")
    with pytest.raises(InputError, match="differs in data"):
        runs.create(tmp_path / "a", Settings(), "surrogate", seed=3, data="other")


@pytest.mark.parametrize(
    "arguments, command",
    [
        (["/bin/seaice-lab", "train", "runs/a"], "seaice-lab train runs/a"),
        (["/lib/ipykernel_launcher.py", "-f", "kernel.json"], "in a notebook"),
    ],
)
def test_the_command_of_a_run_is_recorded(arguments, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    assert runs.provenance("surrogate")["command"] == command


def test_a_run_older_than_a_setting_has_its_default(tmp_path):
    class Grown(Settings):
        depth: int = 2

    run = runs.create(tmp_path / "run", Settings(width=8), "surrogate")
    assert runs.create(run, Grown(width=8), "surrogate") == run
    with pytest.raises(InputError, match="differs in depth"):
        runs.create(run, Grown(width=8, depth=3), "surrogate")


def test_a_run_of_another_format_version_is_refused_with_the_version_that_reads_it(tmp_path):
    path = runs.create(tmp_path / "a", Settings(), "surrogate")
    facts = json.loads((path / "provenance.json").read_text())
    facts |= {"format": 99, "versions": {"seaice_lab": "9.1"}}
    files.write_json(path / "provenance.json", facts)
    with pytest.raises(
        InputError, match=r"run format 99, this version reads format 1; use seaice_lab 9.1"
    ):
        runs.open_run(path)


def test_listing_shows_whole_runs_and_names_what_is_wrong_with_broken_ones(tmp_path):
    runs.create(tmp_path / "good", Settings(), "surrogate")
    (tmp_path / "good" / "weights.safetensors").touch()
    incomplete = runs.create(tmp_path / "incomplete", Settings(), "surrogate")
    (incomplete / "config.yaml").unlink()
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "zarr.json").touch()
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    broken = runs.create(tmp_path / "broken", Settings(), "surrogate")
    (broken / "provenance.json").write_text("{")
    rows = {row.name: row for row in runs.list_runs(tmp_path)}
    assert rows["good"].state == "stopped"
    assert "not a complete run folder" in rows["incomplete"].state
    assert set(rows) == {"good", "incomplete", "broken"}  # no store, and no folder without a run
    assert "is not valid JSON" in rows["broken"].state


def test_a_name_with_a_comma_is_refused(tmp_path):
    with pytest.raises(InputError, match="has a comma in its name"):
        runs.create(tmp_path / "a,b", Settings(), "surrogate")
    runs.create(tmp_path / "2010,2011" / "a", Settings(), "surrogate")


def test_a_run_neither_holds_other_runs_nor_is_inside_one(tmp_path):
    runs.create(tmp_path / "runs" / "a", Settings(), "surrogate")
    for path in ("", "..", tmp_path / "runs"):
        with pytest.raises(InputError, match="is a folder of runs, expected the name of a run"):
            runs.create(path, Settings(), "surrogate")
    with pytest.raises(InputError, match="is inside the run .*/runs/a; choose another folder"):
        runs.create(tmp_path / "runs" / "a" / "b", Settings(), "surrogate")


def row_of(run):
    return next(row for row in runs.list_runs(run.parent) if row.name == run.name)


def test_a_run_in_training_tells_its_epoch_and_its_heartbeat(tmp_path):
    run = runs.create(tmp_path / "a", Settings(), "surrogate")
    with runs.heartbeat(run, "training", "epoch", 30) as beat:
        beat(3)
        row = row_of(run)
    assert row.state == "training"
    assert re.fullmatch(r"training, epoch 3 of 30, since 2.*, heartbeat \d+ s ago", row.detail)
    assert not (run / runs.HEARTBEAT).exists()
    assert row_of(run) == runs.RunState("a", "surrogate", "created", row.created)


def test_a_training_that_fails_or_is_interrupted_keeps_the_reason(tmp_path):
    run = runs.create(tmp_path / "a", Settings(), "surrogate")
    for error, state, words in (
        (InputError("training:\nthe loss"), "failed", "failed in epoch 2 of 5: training: the loss"),
        (KeyError("x"), "failed", "failed in epoch 2 of 5: KeyError: 'x'"),
        (KeyboardInterrupt(), "stopped", "run the same command to continue"),
    ):
        with pytest.raises(type(error)), runs.heartbeat(run, "training", "epoch", 5) as beat:
            beat(2)
            raise error
        assert row_of(run).state == state
        assert words in row_of(run).detail
    (run / "finished").touch()
    assert row_of(run).detail == ""


@pytest.mark.parametrize(
    ("program", "number", "words"),
    [
        ("/bin/seaice-lab", 2, "run `seaice-lab train runs/a -p 'start_from=my run'` to continue"),
        ("/bin/seaice-lab", None, "-p 'start_from=my run'` to start again"),
        ("/lib/ipykernel_launcher.py", 2, "run the same command to continue"),
        ("/lib/cli.py", 2, "run the same command to continue"),  # torchrun
    ],
)
def test_a_stopped_training_names_its_command(tmp_path, monkeypatch, program, number, words):
    monkeypatch.setattr(sys, "argv", [program, "train", "runs/a", "-p", "start_from=my run"])
    with pytest.raises(KeyboardInterrupt), runs.heartbeat(tmp_path, "training") as beat:
        beat(number)
        raise KeyboardInterrupt
    assert runs.activity_of(tmp_path).detail.endswith(words)


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "training"),
        ({"pid": 2**22 + 1}, "stopped"),  # no process has this number
        ({"pid": 2**22 + 1, "host": "another"}, "training"),
        ({"time": "2020-01-01T00:00:00+00:00"}, "stopped"),
        ({"number": None}, "training"),
        ({"time": "x"}, ""),
        ({"time": None}, ""),
    ],
)
def test_a_process_that_is_gone_is_told_as_stopped(tmp_path, change, state):
    with runs.heartbeat(tmp_path, "training", "epoch", 5) as beat:
        beat(1)
        facts = json.loads((tmp_path / runs.HEARTBEAT).read_text())
    files.write_json(tmp_path / runs.HEARTBEAT, facts | change)
    assert runs.activity_of(tmp_path).state == state


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such run; .*runs list"):
        runs.open_run(tmp_path / "nothing")


def test_an_unfinished_write_of_other_input_is_discarded(tmp_path):
    with files.journal(tmp_path / "x.zarr", "first") as journal:
        journal.target.mkdir()
        journal.mark(0)
    with files.journal(tmp_path / "x.zarr", "first") as again:
        assert again.is_done(0)
    with files.journal(tmp_path / "x.zarr", "second") as other:
        assert not other.is_done(0)
        assert not other.target.exists()


def test_a_write_that_was_killed_between_its_two_last_renames_is_finished(tmp_path):
    for fingerprint in ("first", "first", "second"):
        older = tmp_path / "x.zarr.partial" / "older"
        older.mkdir(parents=True, exist_ok=True)
        (older / "chunk").touch()
        (tmp_path / "x.zarr").mkdir(exist_ok=True)
        with files.journal(tmp_path / "x.zarr", fingerprint) as journal:
            journal.target.mkdir()
            journal.finish()
        assert not list((tmp_path / "x.zarr").iterdir())


def test_two_writers_of_one_result_or_run_are_refused_until_the_first_ends(tmp_path):
    refused = pytest.raises(InputError, match="another process is writing here; wait until it ends")
    with files.journal(tmp_path / "x.zarr", "first"):
        with refused, files.journal(tmp_path / "x.zarr", "second"):
            pass
    with runs.heartbeat(tmp_path, "training"):
        with refused, runs.heartbeat(tmp_path, "training"):
            pass
        assert runs.activity_of(tmp_path).state == "training"
    with runs.heartbeat(tmp_path, "training"), files.journal(tmp_path / "x.zarr", "first"):
        pass
