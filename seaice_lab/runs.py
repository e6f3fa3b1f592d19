"""Run folders: create, open, list, and tell whether a process works on one."""

import json
import os
import platform
import shlex
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from seaice_lab.config import read_yaml
from seaice_lab.errors import InputError
from seaice_lab.files import only_writer, write_json, write_text

FORMAT = 1  # of a run folder; a higher number means that older versions would misread it
HEARTBEAT = "heartbeat.json"  # in a run folder while a process works on it, and after a failure
FORECASTING = "forecasting"  # work that leaves the state of a run as it is
RUN_FILES = ("config.yaml", "provenance.json")
TAGS, NOTES = "tags.txt", "notes.txt"  # of the user, a tag or a dated note in each line
BEAT_S = 5.0  # between two heartbeats
SILENCE_S = 60.0  # without a heartbeat, after which a process counts as stopped
PACKAGES = ("seaice_lab", "torch", "numpy", "xarray", "zarr", "dask", "netCDF4")


class Run(NamedTuple):
    """An open run folder: path, configuration and provenance."""

    path: Path
    config: dict
    provenance: dict


class RunState(NamedTuple):
    """One line of a list of runs.

    ``detail`` is the state of unfinished work in words, ``note`` the last one.
    """

    name: str
    kind: str
    state: str
    created: str
    detail: str = ""
    tags: tuple = ()
    note: str = ""


def now():
    """The current time (UTC) as ISO text, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def project_folder():
    """The working folder, or the folder above it if that is a project and this its notebooks/.

    JupyterLab starts a notebook in its folder, but runs, stores and data are in the folder above.
    """
    folder = Path.cwd()
    in_notebooks = folder.name == "notebooks" and (folder.parent / "data_catalog.yaml").exists()
    return folder.parent if in_notebooks else folder


def work_in_project():
    """Change the working folder of a notebook to :func:`project_folder`."""
    os.chdir(project_folder())


def provenance(kind, **facts):
    """Record of how a result was produced.

    Parameters
    ----------
    kind : str
        Kind of run, such as "surrogate".
    **facts
        More entries.

    Returns
    -------
    dict
        Format, kind, time, command, versions of packages, machine, and the given facts.
    """
    versions = {"python": platform.python_version(), **dict.fromkeys(PACKAGES)}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "format": FORMAT,
        "kind": kind,
        "created": now(),
        "command": _command(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        **facts,
    }


def _command():
    """The command line of this process, or "in a notebook"."""
    program = Path(sys.argv[0]).name
    return "in a notebook" if "ipykernel" in program else shlex.join([program, *sys.argv[1:]])


def create(path, config, kind, **facts):
    """Create a run folder with configuration and provenance, or continue an equal one.

    Parameters
    ----------
    path : str or Path
    config : Config
        Written as ``config.yaml``.
    kind : str
        Kind of run, such as "surrogate".
    **facts
        More entries of ``provenance.json``, such as the seed and a fingerprint of the data.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If it holds a run with another configuration or other data, or `check_name` refuses it.
    """
    path = Path(path).expanduser()
    check_name(path)
    if (path / "config.yaml").exists():
        existing = open_run(path)
        new, old = config.model_dump(mode="json"), existing.config
        with suppress(InputError):  # a run older than a setting has the default of the setting
            old = type(config).parse(existing.config, path).model_dump(mode="json")
        changed = sorted(key for key in new if old.get(key) != new[key])
        changed += [key for key, value in facts.items() if existing.provenance.get(key) != value]
        if changed:
            settings = ", ".join(changed)
            raise InputError(f"{path}: holds a run that differs in {settings}; choose another name")
        return path
    write_json(path / "provenance.json", provenance(kind, **facts))
    write_text(path / "config.yaml", config.to_yaml())
    return path


def check_name(path):
    """Refuse a comma, which separates names in links, a run in a run, and a folder of runs.

    Raises
    ------
    InputError
    """
    if "," in path.name:
        raise InputError(f"{path}: has a comma in its name; choose a name without one")
    holds_runs = any(path.glob("*/provenance.json")) and not (path / "config.yaml").exists()
    if path.name in ("", "..") or holds_runs:
        raise InputError(f"{path}: is a folder of runs, expected the name of a run in it")
    if (path.parent / "provenance.json").exists():
        raise InputError(f"{path}: is inside the run {path.parent}; choose another folder")


def open_run(path, kind=None):
    """Open a run folder and check its configuration and provenance.

    Parameters
    ----------
    path : str or Path
    kind : str, optional
        Kind of run that is expected, "surrogate" or "emissivity".

    Returns
    -------
    Run

    Raises
    ------
    InputError
        If it is not a run folder, is incomplete, or has another format or kind.
    """
    path = Path(path).expanduser()
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise InputError(f"{path}: cannot be read; change its permissions")
    if not path.is_dir():
        raise InputError(f"{path}: no such run; `seaice-lab runs list` shows the existing ones")
    facts = path / "provenance.json"
    if not facts.exists() or not (path / "config.yaml").exists():
        raise InputError(
            f"{path}: is not a complete run folder (config.yaml or provenance.json is missing); "
            "train again under this name"
        )
    try:
        recorded = json.loads(facts.read_text(encoding="utf-8"))
        is_record = all(isinstance(recorded[key], str) for key in ("kind", "created"))
    except OSError as error:
        raise InputError(f"{facts}: cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError):
        is_record = False
    if not is_record:
        raise InputError(
            f"{facts}: is not valid JSON with 'kind' and 'created'; restore it, or train under "
            "another name"
        )
    if recorded.get("format") != FORMAT:
        raise InputError(
            f"{path}: has run format {recorded.get('format')}, this version reads format {FORMAT}; "
            f"use seaice_lab {recorded.get('versions', {}).get('seaice_lab')} or train again"
        )
    if kind not in (None, recorded["kind"]):
        raise InputError(
            f"{path}: is a run of kind {recorded['kind']}, expected {kind}; `seaice-lab runs list` "
            "shows the kinds of all runs"
        )
    return Run(path, read_yaml(path / "config.yaml"), recorded)


def state_of(path):
    """The state of a run, from the files in its folder.

    Returns
    -------
    state : str
        "created", "training", "inferring", "assimilating", "stopped", "failed", "trained",
        "forecast" or "evaluated"; "inferred" or "analysed" for a finished run without weights. A
        forecast in progress changes the state only of a folder without a network.
    detail : str
        The state in words, for a job that is not finished; else empty.
    """
    path, activity = Path(path), activity_of(path)
    is_forecast = activity.work == FORECASTING
    is_finished = (path / "finished").exists()
    has_weights = (path / "weights.safetensors").exists()
    if activity.state and not (is_forecast or is_finished):
        return activity.state, activity.detail
    if (path / "scores.nc").exists():
        state = "evaluated"
    elif (path / "forecast.zarr").exists():
        state = "forecast"
    elif (path / "diagnostics.nc").exists():
        state = "analysed"
    elif is_finished:
        state = "trained" if has_weights else "inferred"
    else:
        state = "stopped" if has_weights else activity.state or "created"
    return state, f"{state}; {activity.detail}" if is_forecast else ""


@contextmanager
def heartbeat(run, work, unit="epoch", total=None, is_main=True):
    """Context in which a file in a run folder says that this process works on the run.

    A thread writes the file again every few seconds. The file is removed when the block ends. When
    the block fails, the file stays and holds the reason. If another process works on the run, this
    one is refused.

    Parameters
    ----------
    run : str or Path
        Run folder.
    work : str
        "training", "inferring", "assimilating" or "forecasting".
    unit, total : str and int
        What is counted, such as "epoch", and how many there are.
    is_main : bool
        Whether this process writes the files.

    Yields
    ------
    callable
        ``beat(number)`` says which unit has begun, counted from 1.
    """
    path, ended = Path(run) / HEARTBEAT, threading.Event()
    facts = {"work": work, "state": work, "pid": os.getpid(), "host": platform.node()}
    facts |= {"since": now(), "unit": unit, "number": None, "total": total, "command": _command()}

    def write():
        with suppress(InputError, OSError):  # a full disk must not end a training
            write_json(path, facts | {"time": now()})

    def renew():
        while not ended.wait(BEAT_S):
            write()

    def beat(number):
        is_first = facts["number"] is None
        facts["number"] = number
        if is_first and is_main:
            write()

    thread = threading.Thread(target=renew, daemon=True)
    with only_writer(run) if is_main else nullcontext():
        if is_main:
            write()
            thread.start()
        try:
            yield beat
        except BaseException as error:
            facts["state"] = "failed" if isinstance(error, Exception) else "stopped"
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            facts["reason"] = " ".join(f"{kind}{error}".split())[:300]
            raise
        finally:
            ended.set()
            if is_main:
                thread.join()
                write()
                if facts["state"] == work:
                    path.unlink(missing_ok=True)


class Activity(NamedTuple):
    """What a heartbeat tells, if there is one: its work; the work, "stopped" or "failed"; words."""

    work: str
    state: str
    detail: str


def activity_of(path):
    """Read from the heartbeat of a run whether a process works on it; an :class:`Activity`."""
    try:
        facts = json.loads((Path(path) / HEARTBEAT).read_text(encoding="utf-8"))
        age_s = (datetime.now(UTC) - datetime.fromisoformat(facts["time"])).total_seconds()
        work, state, since = facts["work"], facts["state"], facts["since"][:16]
        number, unit = facts["number"], f"{facts['unit']} {facts['number']} of {facts['total']}"
        is_alive = age_s < SILENCE_S and _is_alive(facts)
    except (OSError, ValueError, KeyError, TypeError):
        return Activity("", "", "")
    at_unit = f" in {unit}" if number else ""
    if state == "failed":
        return Activity(work, state, f"{work} failed{at_unit}: {facts.get('reason')}")
    if state == work and is_alive:
        at_unit = at_unit.replace(" in", ",")
        last = f"heartbeat {max(age_s, 0):.0f} s ago"
        return Activity(work, state, f"{work}{at_unit}, since {since}, {last}")
    command = str(facts.get("command"))
    command = f"`{command}`" if command.startswith("seaice-lab ") else "the same command"
    end = f"at {facts['time'][:16]}; run {command} to {'continue' if number else 'start again'}"
    return Activity(work, "stopped", f"{work} stopped{at_unit} {end}")


def _is_alive(facts):
    """Whether the process of a heartbeat may still run."""
    if facts.get("host") != platform.node():
        return True  # this machine cannot ask another one
    try:
        os.kill(int(facts["pid"]), 0)  # signal 0 only asks whether the process exists
    except OSError as error:  # PermissionError: it exists and belongs to somebody else
        return not isinstance(error, ProcessLookupError)
    return True


def list_runs(folder):
    """List all runs in a folder, oldest first; the state of a broken run says what is wrong.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    list of RunState
    """
    rows = []
    for path in run_folders(folder):
        name = path.relative_to(folder).as_posix()
        try:
            facts = open_run(path).provenance
            state, detail = state_of(path)
            tags, notes = (read_lines(path / file) for file in (TAGS, NOTES))
            row = RunState(name, facts["kind"], state, facts["created"], detail)
            rows.append(row._replace(tags=tuple(tags), note=notes[-1] if notes else ""))
        except InputError as error:
            rows.append(RunState(name, "?", f"unreadable: {error}", ""))
    return sorted(rows, key=lambda row: row.created)


def read_lines(path):
    """Lines of a small text file of a run that have a text; none if the file cannot be read."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip()]


def run_folders(folder):
    """Run folders in a folder; a folder that is not a run is replaced by the runs inside it.

    Folders that hold no run at all, such as prepared stores, are passed over.
    """
    folders = []
    for path in sorted(item for item in Path(folder).glob("[!.]*") if item.is_dir()):
        readable = os.access(path, os.R_OK | os.X_OK)
        if not readable or any((path / name).exists() for name in RUN_FILES):
            folders.append(path)
        else:
            folders += sorted(item.parent for item in path.glob("[!.]*/config.yaml"))
    return folders
