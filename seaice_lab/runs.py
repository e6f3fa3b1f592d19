"""Run folders and safe writing: nothing half-written ever stands under a final name."""

import json
import os
import platform
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from seaice_lab.config import read_yaml
from seaice_lab.errors import InputError
from seaice_lab.files import write_json, write_text

FORMAT = 1  # of a run folder; raised when an older reader would misread a newer run
PACKAGES = ("seaice_lab", "torch", "numpy", "xarray", "zarr", "dask", "netCDF4")


class Run(NamedTuple):
    """A run folder that has been opened: its path, configuration and provenance."""

    path: Path
    config: dict
    provenance: dict


class RunState(NamedTuple):
    """One line of a listing of runs: name, kind of run, state and when it was made."""

    name: str
    kind: str
    state: str
    created: str


def now():
    """The present time (UTC) as ISO text, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(kind, **facts):
    """What made a result: format, kind, time, command, versions, machine, and the given facts."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "format": FORMAT,
        "kind": kind,
        "created": now(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        **facts,
    }


def create(path, config, kind, **facts):
    """Make a run folder with its configuration and provenance, or take an equal one up again.

    Parameters
    ----------
    path : str or Path
        The folder ``runs/<run>``.
    config : Config
        The configuration, written as ``config.yaml``.
    kind : str
        What the run is, such as "surrogate".
    **facts
        Recorded in ``provenance.json`` (seed, data fingerprint).

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the folder holds a run with another configuration or from other data.
    """
    path = Path(path)
    if (path / "config.yaml").exists():
        found = open_run(path)
        wanted, recorded = config.model_dump(mode="json"), found.config
        with suppress(InputError):  # a run made before a setting was there has its default
            recorded = type(config).parse(found.config, path).model_dump(mode="json")
        changed = sorted(key for key in wanted if recorded.get(key) != wanted[key])
        changed += [key for key, value in facts.items() if found.provenance.get(key) != value]
        if changed:
            raise InputError(
                f"{path}: holds a run that differs in {', '.join(changed)}; choose another name "
                "for the new run, or remove the folder to start over"
            )
        return path
    write_json(path / "provenance.json", provenance(kind, **facts))
    write_text(path / "config.yaml", config.to_yaml())
    return path


def open_run(path):
    """Open a run folder: configuration and provenance, checked.

    Raises
    ------
    InputError
        If it is no run folder, is half-written, or was made by another format version.
    """
    path = Path(path)
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise InputError(f"{path}: cannot be read; change its permissions")
    if not path.is_dir():
        raise InputError(f"{path}: no such run; `seaice-lab runs list` shows those there are")
    facts = path / "provenance.json"
    if not facts.exists() or not (path / "config.yaml").exists():
        raise InputError(
            f"{path}: is not a complete run folder (config.yaml or provenance.json is missing); "
            "train again under this name or remove the folder"
        )
    try:
        recorded = json.loads(facts.read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{facts}: is not valid JSON; remove the run and train again") from None
    except OSError as error:
        raise InputError(f"{facts}: cannot be read ({error.strerror})") from None
    if not isinstance(recorded, dict):
        raise InputError(f"{facts}: holds no record of a run; remove the run and train again")
    if recorded.get("format") != FORMAT:
        raise InputError(
            f"{path}: was made in run format {recorded.get('format')}, this version reads format "
            f"{FORMAT}; use the seaice_lab version {recorded.get('versions', {}).get('seaice_lab')}"
            " that made it, or train again"
        )
    if not all(isinstance(recorded.get(name), str) for name in ("kind", "created")):
        raise InputError(
            f"{facts}: does not say of which kind the run is and when it was made; remove the run "
            "and train again"
        )
    return Run(path, read_yaml(path / "config.yaml"), recorded)


def state_of(path):
    """How far a run has come.

    Returns
    -------
    str
        "created", "training", "trained", "forecast" or "evaluated"; "inferred" where a finished run
        has no weights of its own.
    """
    path = Path(path)
    for name, state in (
        ("scores.nc", "evaluated"),
        ("forecast.zarr", "forecast"),
        ("weights.safetensors", "trained" if (path / "finished").exists() else "training"),
    ):
        if (path / name).exists():
            return state
    return "inferred" if (path / "finished").exists() else "created"


def list_runs(folder):
    """All runs in a folder, oldest first; broken ones are listed with what is wrong.

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
            run = open_run(path)
        except InputError as error:
            rows.append(RunState(name, "?", f"unreadable: {error}", ""))
            continue
        kind, created = run.provenance["kind"], run.provenance["created"]
        rows.append(RunState(name, kind, state_of(path), created))
    return sorted(rows, key=lambda row: row.created)


def run_folders(folder):
    """The folders in a folder, with those of a sweep (a folder of runs) in place of the sweep."""
    found = []
    for path in sorted(item for item in Path(folder).glob("[!.]*") if item.is_dir()):
        readable = os.access(path, os.R_OK | os.X_OK)
        inner = sorted(item.parent for item in path.glob("[!.]*/config.yaml")) if readable else []
        found += inner if inner and not (path / "config.yaml").exists() else [path]
    return found
