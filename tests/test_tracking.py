"""Comparison, tags, notes and deletion of runs."""

import os

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from seaice_lab import cli, files, runs, tracking
from seaice_lab.emissivity.settings import EmissivityConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate.settings import TrainConfig


def make_run(path, rmse=None, starts=3, **settings):
    """A run folder; with ``rmse`` at 1 and 5 days it is evaluated."""
    run = runs.create(path, TrainConfig(**{"store": "a.zarr"} | settings), "surrogate")
    if rmse:
        dims = ("source", "lead_time")
        rmse = [rmse, [9.0, 9.0]]
        table = xr.Dataset(
            {"rmse": (dims, rmse), "rmse_low": (dims, rmse), "correlation": (dims, rmse)},
            coords={
                "source": ["forecast", "persistence"],
                "lead_time": np.array([1, 5], "timedelta64[D]").astype("timedelta64[ns]"),
                "init_time": pd.date_range("2010-01-01", periods=starts),
            },
            attrs={"store": "a.zarr"},
        )
        files.write_netcdf(run / "scores.nc", table)
    return run


@pytest.fixture
def folder(tmp_path):
    """Three runs: a good one, a bad one, and one that is not evaluated."""
    make_run(tmp_path / "runs" / "bad", [0.4, float("nan")], width=4)
    make_run(tmp_path / "runs" / "good", [0.2, 0.3], width=8, fit={"epochs": 7})
    make_run(tmp_path / "runs" / "new", width=8)
    return tmp_path / "runs"


def invoke(*words, answer=None):
    return CliRunner().invoke(cli.app, ["runs", *map(str, words)], input=answer)


def test_the_comparison_has_the_settings_that_differ_and_the_scores_of_the_forecast(folder):
    table = tracking.compare(folder).set_index("run")
    assert list(table.columns) == [
        *("kind", "state", "created", "width", "fit.epochs", "rmse_1d", "rmse_5d")
    ]
    assert table.loc["good", ["width", "fit.epochs", "rmse_1d", "rmse_5d"]].tolist() == [
        *(8, 7, 0.2, 0.3)
    ]
    assert table.rmse_5d["bad"] is None and table.rmse_1d["new"] is None
    assert table.state.to_dict() == {"bad": "evaluated", "good": "evaluated", "new": "created"}


def test_a_setting_that_an_older_run_lacks_has_its_default_and_does_not_differ(folder):
    path = folder / "new" / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "input_noise" not in line))
    assert "input_noise" not in tracking.compare(folder)


def test_runs_of_another_kind_do_not_make_settings_differ(folder):
    runs.create(folder / "ice", EmissivityConfig(data="obs"), "emissivity")
    assert not {"store", "data", "version"} & set(tracking.compare(folder))


def test_the_comparison_can_be_sorted_by_any_score_and_setting(folder):
    def order(sort):
        return tracking.compare(folder, sort).run.tolist()

    assert order("rmse_1d") == ["good", "bad", "new"]
    assert order("-rmse_1d") == order("-correlation_1d") == ["bad", "good", "new"]
    assert order("width") == ["bad", "good", "new"]
    assert "correlation_1d" not in tracking.compare(folder)
    with pytest.raises(InputError, match="--sort rmse_2d: .* columns are run, .*mean 'rmse_.d'"):
        order("rmse_2d")


def test_the_table_fits_a_line_and_the_csv_has_all_columns(folder):
    network = {"network": "UNet3", "network_options": {"squeeze": True}, "noise_memory": 0.25}
    start = str(folder / "a_run_whose_name_is_longer_than_a_cell_of_the_table")
    make_run(folder / "many", [0.1, 0.2], start_from=start, loss="crps", **network)
    invoke("note", folder / "many", "a long note that says " + "much " * 20)
    shown = invoke("list", folder, "--sort", "-correlation_5d")
    heads = shown.stdout.splitlines()[0].split()
    assert max(map(len, shown.stdout.splitlines())) <= 120
    assert {"run", "state", "rmse_1d", "rmse_5d", "correlation_5d", "width"} <= set(heads)
    columns = invoke("list", folder, "--csv", "--sort", "-correlation_5d").stdout
    columns = columns.splitlines()[0].split(",")
    assert set(heads) < set(columns) and {"note", "start_from"} <= set(columns)
    assert f"{len(columns) - len(heads)} more columns do not fit; --csv" in shown.stderr


def test_the_state_of_unfinished_work_is_readable(folder):
    with pytest.raises(ValueError), runs.heartbeat(folder / "new", "training", "epoch", 5):
        raise ValueError("the loss is not finite")
    lines = invoke("list", folder).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-2].split()[::3] == ["new", "failed"]
    assert lines[-1] == "    training failed: ValueError: the loss is not finite"
    assert invoke("list", folder, "--compare").stdout.count("failed") == 1


def test_long_names_of_runs_are_whole(folder):
    names = {"sweep_" + "of_many_settings_" * 3 + end for end in ("a", "b")}
    for name in names:
        make_run(folder / name, [0.1, 0.2])
    shown = {line.split()[0] for line in invoke("list", folder, "--compare").stdout.splitlines()}
    assert names <= shown


def test_scores_on_other_starts_are_told(folder):
    assert invoke("list", folder, "--compare").stderr == ""
    make_run(folder / "late", [0.1, 0.1], starts=2, width=8)
    table = tracking.compare(folder).set_index("run")
    assert (table.scored_starts["late"], table.scored_starts["good"]) == (2, 3)
    assert "scored_from" not in table
    shown = invoke("list", folder, "--csv")
    assert "differ in scored_starts, scored_until; notebook 08_compare_runs" in shown.stderr
    assert shown.stdout.startswith("run,kind,state,created,width,fit.epochs,scored_starts,")


def test_broken_runs_and_scores_leave_the_others_in_the_table(folder):
    (folder / "new" / "provenance.json").write_text("{")
    (folder / "bad" / "scores.nc").write_bytes(b"not a file")
    table = tracking.compare(folder, "rmse_1d").set_index("run")
    assert table.rmse_1d.tolist()[0] == 0.2 and len(table) == 3
    assert "is not valid JSON" in table.state["new"]


def test_tags_and_notes_are_kept_in_the_run_and_shown_in_the_list(folder):
    run = folder / "good"
    invoke("tag", run, "baseline", "wide")
    assert invoke("tag", run, "best", "wide", "--remove", "baseline").stdout == "wide best\n"
    invoke("note", run, "first\nnote")
    assert invoke("note", run, "the best of all").stdout.count("\n") == 2
    line = next(line for line in invoke("list", folder).stdout.splitlines() if "good" in line)
    assert line.endswith("evaluated [wide] [best]")
    row = tracking.compare(folder).set_index("run").loc["good"]
    assert row.tags == "wide best" and row.note.endswith("the best of all")
    for wrong in ("two words", "a,b", ""):
        with pytest.raises(InputError, match="expected a word without spaces and commas"):
            tracking.add_tags(run, [wrong])
    with pytest.raises(InputError, match="has no tag 'x'; its tags are wide, best"):
        tracking.add_tags(run, [], ["x"])
    with pytest.raises(InputError, match="has no tag 'x'; its tags are none"):
        tracking.add_tags(folder / "bad", [], ["x"])
    with pytest.raises(InputError, match="the note has no text"):
        tracking.add_note(run, " \n")


def test_a_run_is_deleted_after_a_question_that_names_what_refers_to_it(folder, tmp_path):
    make_run(folder / "next", start_from=str(folder / "good"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kept").touch()
    (folder / "good" / "link").symlink_to(tmp_path / "data")
    command = ("delete", folder / "good", "--runs", folder)
    shown = invoke(*command, answer="n\n").stdout
    assert "good (surrogate, evaluated, " in shown and "next refers to it as start_from" in shown
    assert (folder / "good" / "scores.nc").exists()
    assert isinstance(invoke(*command).exception, InputError)  # nobody answers
    assert "deleted" in invoke(*command, answer="y\n").stdout
    assert "deleted" in invoke("delete", folder / "bad", "--runs", folder, "--yes").stdout
    assert {path.name for path in folder.iterdir()} == {"new", "next"}
    assert (tmp_path / "data" / "kept").exists()


def test_a_run_is_deleted_from_inside_its_folder(folder, monkeypatch):
    monkeypatch.chdir(folder / "bad")
    tracking.delete(".", "..")
    assert not (folder / "bad").exists()


def test_what_is_no_run_or_at_work_or_elsewhere_is_not_deleted(folder, tmp_path):
    elsewhere = make_run(tmp_path / "others" / "a")
    (folder / "link").symlink_to(elsewhere)
    (folder / "way").symlink_to(tmp_path / "others")
    (folder / "group").mkdir()
    make_run(folder / "group" / "a")
    (folder / "file").touch()
    make_run(folder / "bad" / "sweep" / "a")
    cases = {
        elsewhere: "is not inside the folder of runs",
        folder / "link": "is a link, expected the run folder itself",
        folder / "way" / "a": "is not inside the folder of runs",
        folder / ".." / "others" / "a": "is not inside the folder of runs",
        folder: "is not inside the folder of runs",
        folder / "group": "is not a single run",
        folder / "bad": "is not a single run",
        folder / "nothing": "no such run",
        "good": "no such run; .* write .*runs/NAME",
        folder / "file": "no such run",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            tracking.delete(path, folder)
    with runs.heartbeat(folder / "good", "training"):
        with pytest.raises(InputError, match="a process works on it .*; stop it first"):
            tracking.delete(folder / "good", folder)
    with files.only_writer(folder / "good"):
        with pytest.raises(InputError, match="another process is writing here"):
            tracking.delete(folder / "good", folder)
    assert (elsewhere / "config.yaml").exists() and (folder / "group" / "a").exists()
    # A folder of runs that is a link to another disk is the usual case.
    os.symlink(folder, tmp_path / "disk")
    tracking.delete(tmp_path / "disk" / "good", tmp_path / "disk")
    assert not (folder / "good").exists()


def test_sorting_by_a_score_without_scores_says_how_to_make_them(tmp_path):
    make_run(tmp_path / "first")
    with pytest.raises(InputError, match="no run has scores yet; `seaice-lab evaluate RUN`"):
        tracking.compare(tmp_path, sort="rmse_5d")
