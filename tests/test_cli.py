"""The command line: it does the jobs, and bad input is one sentence without a traceback."""

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ENTRY, write_catalogue
from typer.main import get_command
from typer.testing import CliRunner

from seaice_lab import cli, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.surrogate.settings import TrainConfig


def all_commands(command, words=()):
    """The words of a command and of all commands below it."""
    below = getattr(command, "commands", {})
    rest = [each for name in below for each in all_commands(below[name], (*words, name))]
    return [" ".join(words), *rest]


COMMANDS = all_commands(get_command(cli.app))


def seaice_lab(*words):
    return subprocess.run(
        [str(Path(sys.executable).with_name("seaice-lab")), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
    )


def run(*words):
    """Run a command in this process, which is faster; wrong input raises InputError."""
    cli.app([str(word) for word in words], standalone_mode=False)


def test_prepare_train_forecast_and_evaluate_from_the_command_line(waves, tmp_path, capfd):
    steps = {
        "prepare stores/w.zarr -p state=waves": "wrote stores/w.zarr",
        "train runs/w -p store=stores/w.zarr -p width=4 -p network=CNN -p fit.epochs=1": "wrote",
        "forecast runs/w --steps 2": "wrote runs/w/forecast.zarr",
        "evaluate runs/w": "persistence",
    }
    for words, message in steps.items():
        run(*words.split())
        assert message in capfd.readouterr().out
    assert (tmp_path / "runs" / "w" / "spectra.nc").exists()
    assert "evaluated" in seaice_lab("runs", "list").stdout


def test_data_list_and_show_report_the_existing_files(waves, capfd):
    run("data", "list")
    listed = capfd.readouterr().out
    assert "waves" in listed
    assert "4 files" in listed
    run("data", "show", "waves")
    shown = capfd.readouterr().out
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
    with pytest.raises(InputError, match="`seaice-lab data make small-arctic`"):
        run("data", "show", "small-arctic")
    run("data", "make", "small-arctic")
    assert (tmp_path / "mine" / "arctic" / "synthetic_arctic_2001m01.nc").exists()
    run("prepare", "arctic.zarr", "-p", "state=small-arctic")
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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    shown = CliRunner().invoke(cli.app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) > 5


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fills_lines_of_80_columns_and_shortens_no_option(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(cli.app, [*command.split(), "--help"]).stdout
    assert "…" not in shown
    text = [line.strip() for line in shown.partition("╭")[0].splitlines()]
    for line, following in pairwise(text):
        if line and following:  # of one paragraph
            assert len(line) + 1 + len(following.split()[0]) > 78


def test_help_keeps_the_brackets_of_a_command():
    shown = CliRunner().invoke(cli.app, ["data", "fetch", "--help"])
    assert "'.[fetch]'" in shown.stdout


def test_help_answers_without_importing_torch():
    code = "import sys; import seaice_lab.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_what_is_wrong(case, waves):
    words, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        run(*words)
    assert "\n" not in str(caught.value)


WRONG = [
    ("train", "runs/x", "-p", "stor=s"),
    ("train", "runs/x", "-p", "store="),
    ("train", "runs/x", "-p", "store=s", "-p", "epocs=2"),
    ("train", "runs/x", "-p", "width"),
    ("train", "runs/x", "--config", "none.yaml"),
    ("forecast", "runs/none"),
    ("forecast", "runs/none", "--steps", "0"),
    ("prepare", "x.zarr", "-p", "crop=[0,16"),
    ("prepare", "x.zarr", "-p", "state=@moorings"),
    ("emissivity", "train", "--data", "d", "--output", "o", "-p", "seed=3"),
    ("emissivity", "infer", "runs/x", "--data", "d", "--output", "o", "-p", "steps=0"),
    ("emissivity", "export", "runs/x"),
    ("settings", "trian"),
    ("runs", "list", "none"),
    ("runs", "list", "a", "--runs", "b"),
]


def test_wrong_command_lines_are_refused_before_torch_is_imported(tmp_path):
    code = (
        "import sys; from seaice_lab import cli; from seaice_lab.errors import InputError\n"
        "for words in eval(sys.argv[1]):\n"
        "    try:\n"
        "        cli.app(list(words), standalone_mode=False)\n"
        "        sys.exit(f'{words} is not refused')\n"
        "    except InputError:\n"
        "        assert 'torch' not in sys.modules, words\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(WRONG)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_the_settings_of_a_job_are_listed_with_default_and_meaning(capsys):
    run("settings", "train")
    text = capsys.readouterr().out
    assert "  fit.epochs = 500   (int, >= 1)\n      Passes through the training data." in text
    assert "seaice-lab emissivity" not in text
    run("settings", "emissivity")
    assert capsys.readouterr().out.count("seaice-lab emissivity ") == 3
    with pytest.raises(InputError, match="no job 'evaluate' with settings; the jobs are prepare"):
        run("settings", "evaluate")


def test_runs_are_listed_from_a_folder_or_an_option(tmp_path, capsys):
    runs.create(tmp_path / "a", TrainConfig(store="s"), "surrogate")
    for words in ((tmp_path,), ("--runs", tmp_path), (tmp_path, "--runs", tmp_path)):
        run("runs", "list", *words)
        assert capsys.readouterr().out.split()[::3] == ["a", "created"]


MAIN = """
import resource, signal, sys
from seaice_lab import cli
def interrupt(*words):
    raise KeyboardInterrupt
{setup}
cli.main()
"""
ENDINGS = {
    "wrong input": (
        "",
        ("train", "runs/a", "-p", "store=none.zarr"),
        (2, BAD["a missing store"][1]),
    ),
    "interrupted": (
        "cli.configuration = interrupt",
        ("train", "runs/x"),
        (130, "interrupted; the same command continues the work"),
    ),
    **{
        f"interrupted emissivity train with {method}": (
            "cli.emissivity_commands.configuration = interrupt",
            ("emissivity", "train", "--data", "d", "--output", "x", "-p", f"method={method}"),
            (130, f"interrupted; the same command {advice}"),
        )
        for method, advice in (("adam", "continues the work"), ("gauss_newton", "starts again"))
    },
    "interrupted without a journal": (
        "sys.modules['seaice_lab.runs'].list_runs = interrupt",
        ("runs", "list"),
        (130, "interrupted; the same command starts again"),
    ),
    "a file where a folder is needed": (
        "",
        ("prepare", "data/waves/val_1.nc/x.zarr", "-p", "state=waves"),
        (2, "a file is where a folder is needed"),
    ),
    "a full disk": (
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))",
        ("prepare", "x.zarr", "-p", "state=waves"),
        (2, "the disk is full or a quota is reached"),
    ),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_every_end_is_one_sentence(case, waves):
    setup, words, (status, message) = ENDINGS[case]
    done = subprocess.run(
        [sys.executable, "-c", "import seaice_lab.runs\n" + MAIN.format(setup=setup), *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("prepare x.zarr")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("seaice-lab: ")
    assert message in lines[0]


def test_unattended_jobs_print_a_line_at_each_tenth_without_carriage_returns(capsys):
    with progress.bar(200, "prepare x", "block", done=20) as bar:
        for _ in range(180):
            bar.update()
    text = capsys.readouterr().err
    assert "\r" not in text
    counts = [int(line.split()[2].split("/")[0]) for line in text.splitlines()]
    assert counts == list(range(20, 201, 20))


@pytest.mark.parametrize("total", [0, 1, 3, 27])
def test_the_last_line_of_an_unattended_job_is_its_end(total, capsys):
    with progress.bar(total, "forecast x", "step") as bar:
        for _ in range(total):
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert f" {total}/{total} " in lines[-1]
    assert len(lines) <= 13


def test_a_bar_over_epochs_shows_the_batches_of_a_long_epoch(monkeypatch):
    monkeypatch.setattr(progress, "BATCHES_S", -1.0)  # at once
    bar, shown = progress.text_bar(total=2, file=io.StringIO()), []
    for batch in progress.numbered("abc", bar, "train x", 3):
        shown.append((batch, bar.desc))
    assert shown == [("a", ""), ("b", "train x, batch 1/3: "), ("c", "train x, batch 2/3: ")]
    assert bar.desc == "train x: "  # also while the network is validated
