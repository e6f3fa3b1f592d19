"""Keep track of many runs: a table of their settings and scores, tags, notes and deletion.

Only the table imports pandas and xarray, so that tags, notes and deletion are fast.
"""

import difflib
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np

from seaice_lab import files, runs
from seaice_lab.errors import InputError
from seaice_lab.options import config_class
from seaice_lab.parameters import flatten

# The jobs that make the runs of each kind.
JOBS = {
    "surrogate": ("train",),
    "emissivity": ("emissivity train", "emissivity infer"),
    "assimilation": ("assimilate run",),
}
# Scores of the table, and their lead times in days. It can be sorted by any other score.
SCORES = ("rmse", "bias", "skill", "crps")
LEAD_DAYS = (1, 5, 10, 30)
# What was scored. The scores of runs that differ in one of these must not be compared.
SCORED = ("scored_variable", "scored_starts", "scored_from", "scored_until", "scored_store")


def compare(folder, sort=None, all_leads=False):
    """Table of the runs in a folder: state, tags, settings that differ, and scores by lead time.

    Parameters
    ----------
    folder : str or Path
        Folder of runs.
    sort : str, optional
        Column to sort by, such as "rmse_5d"; with a minus before it from the largest value. It may
        be any score of ``scores.nc``. By default the oldest run is first.
    all_leads : bool
        Give the scores at all lead times; by default at 1, 5, 10 and 30 days.

    Returns
    -------
    pandas.DataFrame
        One row for each run. The columns are ``run``, ``kind``, ``state``, ``created``, ``tags``
        and ``note``; the settings that differ between runs of a kind, such as ``fit.epochs``; what
        was scored, such as ``scored_starts``, if it differs between runs; and the scores of the
        forecast, such as ``rmse_5d``, in the units of ``scores.nc``. Columns without any value
        are left out. A missing value is None.

    Raises
    ------
    InputError
        If there is no column of the name ``sort``.
    """
    import pandas as pd

    rows = runs.list_runs(folder)
    paths = [Path(folder) / row.name if row.kind != "?" else None for row in rows]
    settings = [settings_of(path) if path else {} for path in paths]
    scored, scores = zip(*map(scores_of, paths), strict=True) if rows else ((), ())
    differing = _differing_settings(settings, [row.kind for row in rows])
    facts = [name for name in SCORED if len({values[name] for values in scored if values}) > 1]
    columns = {
        f"{score}_{day:g}d": (score, day)
        for score, day in sorted({column for values in scores for column in values})
    }
    wanted = (sort or "").removeprefix("-")
    table = [
        {"run": row.name, "kind": row.kind, "state": row.state}
        | {"created": row.created, "tags": " ".join(row.tags), "note": row.note}
        | {name: settings[line].get(name) for name in differing}
        | {name: scored[line].get(name) for name in facts}
        | {
            name: scores[line].get((score, day))
            for name, (score, day) in columns.items()
            if name == wanted or (score in SCORES and (all_leads or day in LEAD_DAYS))
        }
        for line, row in enumerate(rows)
    ]
    frame = pd.DataFrame(table, dtype=object)
    frame = frame.where(frame.notna() & (frame != ""), None).dropna(axis="columns", how="all")
    return frame if sort is None else _sorted(frame, sort, columns)


def _sorted(table, sort, scores):
    """The table sorted by a column; missing values come last."""
    import pandas as pd

    name = sort.removeprefix("-")
    if name not in table:
        if not scores and re.fullmatch(r"[a-z_]+_[\d.]+d", name):
            raise InputError(
                f"--sort {sort}: no run has scores yet; `seaice-lab evaluate RUN` makes them"
            )
        close = difflib.get_close_matches(name, [*table, *scores], 1)
        hint = f"; did you mean {close[0]!r}" if close else ""
        raise InputError(
            f"--sort {sort}: there is no such column; the columns are {', '.join(table)}, and "
            f"other scores and lead times of the runs{hint}"
        )

    def key(column):
        try:
            return pd.to_numeric(column)
        except (ValueError, TypeError):
            return column.map(str, na_action="ignore")

    return table.sort_values(name, ascending=name == sort, kind="stable", key=key)


def settings_of(run):
    """Settings of a run by name, ``group.setting``; settings newer than the run have their default.

    Parameters
    ----------
    run : str or Path

    Returns
    -------
    dict
        Lists are JSON text.

    Raises
    ------
    InputError
        If it is not a readable run folder.
    """
    _, config, facts = runs.open_run(run)
    for job in JOBS.get(facts["kind"], ()):
        with suppress(InputError):  # folders of forecasts on another store have other settings
            config = config_class(job).parse(config, run).model_dump(mode="json")
            break
    return {
        name: json.dumps(value) if isinstance(value, list | dict) else value
        for name, value in flatten(config).items()
    }


def _differing_settings(settings, kinds):
    """Names of the settings that differ between runs of the same kind, in their order."""
    names = {}
    for kind in dict.fromkeys(kinds):
        same_kind = [values for values, other in zip(settings, kinds, strict=True) if other == kind]
        for name in dict.fromkeys(name for values in same_kind for name in values):
            if len({json.dumps(values.get(name)) for values in same_kind}) > 1:
                names[name] = None
    return list(names)


def scores_of(run):
    """What was scored in a run, and the scores of its forecast.

    Parameters
    ----------
    run : str or Path or None

    Returns
    -------
    scored : dict
        Values of `SCORED`.
    scores : dict of (str, float) to float
        By name of the score and lead time in days. Both are empty if the run is not evaluated, or
        its ``scores.nc`` cannot be read.
    """
    import xarray as xr

    if run is None:
        return {}, {}
    try:
        with xr.open_dataset(Path(run) / "scores.nc", decode_timedelta=True) as file:
            names = [name for name in file if set(file[name].dims) == {"source", "lead_time"}]
            names = [name for name in names if not name.endswith(("_low", "_high"))]
            table = file[names].sel(source="forecast").load()
            starts = np.datetime_as_string(np.sort(file.init_time.values), "m")
            facts = (file.attrs.get("variable"), len(starts), starts[0], starts[-1])
            scored = dict(zip(SCORED, (*facts, file.attrs.get("store")), strict=True))
            days = (table.lead_time.values / np.timedelta64(1, "D")).tolist()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        return {}, {}
    scores = {
        (name, day): value
        for name in names
        for day, value in zip(days, table[name].values.tolist(), strict=True)
        if value == value  # no NaN, where no start has truth
    }
    return scored, scores


def add_tags(run, tags, removed=()):
    """Add tags to a run, and remove others.

    Parameters
    ----------
    run : str or Path
    tags, removed : sequence of str
        Single words.

    Returns
    -------
    list of str
        All tags that the run has now, in ``tags.txt``.

    Raises
    ------
    InputError
        If it is not a run, a tag has a space or a comma, or a tag to remove is not there.
    """
    path = runs.open_run(run).path
    for tag in tags:
        if not re.fullmatch(r"[^\s,]+", tag):
            raise InputError(f"tag {tag!r}: expected a word without spaces and commas")
    existing = runs.read_lines(path / runs.TAGS)
    for tag in removed:
        if tag not in existing:
            tags_now = ", ".join(existing) or "none"
            raise InputError(f"{run}: has no tag {tag!r}; its tags are {tags_now}")
    tags = [tag for tag in dict.fromkeys((*existing, *tags)) if tag not in removed]
    files.write_text(path / runs.TAGS, "".join(f"{tag}\n" for tag in tags))
    return tags


def add_note(run, text):
    """Add a line with today's date to the notes of a run, ``notes.txt``.

    Parameters
    ----------
    run : str or Path
    text : str

    Returns
    -------
    list of str
        All notes, oldest first.

    Raises
    ------
    InputError
        If it is not a run, or the text is empty.
    """
    path = runs.open_run(run).path
    if not text.split():
        raise InputError("the note has no text; give it in quotes after the run")
    notes = [*runs.read_lines(path / runs.NOTES), f"{runs.now()[:10]} {' '.join(text.split())}"]
    files.write_text(path / runs.NOTES, "".join(f"{note}\n" for note in notes))
    return notes


def check_deletion(run, folder):
    """Check that a run may be deleted, and describe it.

    Parameters
    ----------
    run : str or Path
    folder : str or Path
        Folder of runs, in which the run must be.

    Returns
    -------
    str
        Kind, state, size and tags of the run, and the runs whose settings name it.

    Raises
    ------
    InputError
        If it is a link, outside the folder, not a run folder or a folder of runs, or a process
        works on it.
    """
    path, kind = _deletable(run, folder)
    with files.only_writer(path):
        size = sum(file.lstat().st_size for file in path.rglob("*"))
    state, _ = runs.state_of(path)
    tags = "".join(f", {tag}" for tag in runs.read_lines(path / runs.TAGS))
    lines = [f"{run} ({kind}, {state}, {size / 1e6:.1f} MB{tags})"]
    named = references(path, Path(folder).expanduser().resolve())
    lines += [f"  {name} refers to it as {setting}" for name, setting in named]
    return "\n".join(lines)


def _deletable(run, folder):
    """Resolved path and kind of a run; refuse what is not a run of the folder, or is at work."""
    path, folder = Path(run).expanduser(), Path(folder).expanduser()
    if path.is_symlink():
        raise InputError(f"{run}: is a link, expected the run folder itself; name that one")
    real, root = path.resolve(), folder.resolve()
    if not real.is_dir():
        raise InputError(
            f"{run}: no such run; `seaice-lab runs list {folder}` shows the existing ones, write "
            f"{folder / 'NAME'}"
        )
    if root not in real.parents:
        raise InputError(
            f"{run}: is not inside the folder of runs {folder}; name its folder with --runs"
        )
    facts = _provenance(real)
    if facts is None or any(path.parent != real for path in real.rglob("provenance.json")):
        raise InputError(
            f"{run}: is not a single run (it has no valid provenance.json, or holds other runs); "
            "only run folders can be deleted"
        )
    activity = runs.activity_of(real)
    if activity.state and activity.state == activity.work:
        raise InputError(f"{run}: a process works on it ({activity.detail}); stop it first")
    return real, facts["kind"]


def _provenance(path):
    """Content of the provenance.json of a run; None if it is missing or not valid."""
    with suppress(OSError, ValueError):
        facts = json.loads((path / "provenance.json").read_text(encoding="utf-8"))
        if isinstance(facts, dict) and {"kind", "created"} <= facts.keys():
            return facts
    return None


def references(run, folder):
    """Settings of other runs in a folder that name a run, such as ``start_from``.

    Parameters
    ----------
    run : Path
        Resolved path.
    folder : Path

    Returns
    -------
    list of (str, str)
        Name of the other run, and of its setting.
    """
    named = []
    for path in runs.run_folders(folder):
        with suppress(InputError):
            for name, value in flatten(runs.open_run(path).config).items():
                is_path = isinstance(value, str) and value and path != run
                if is_path and Path(value).expanduser().resolve() == run:
                    named.append((path.relative_to(folder).as_posix(), name))
    return named


def delete(run, folder):
    """Delete a run folder. Links in it are removed, but not their targets.

    Parameters
    ----------
    run : str or Path
    folder : str or Path
        Folder of runs, in which the run must be.

    Raises
    ------
    InputError
        As :func:`check_deletion`.
    """
    path, _ = _deletable(run, folder)  # a resolved path has a name, "." has none
    with files.only_writer(path):
        # Under a hidden name an interrupted deletion leaves no half of a run in the list.
        hidden = path.with_name(f".{path.name}.{os.getpid()}.partial")
        os.replace(path, hidden)
        shutil.rmtree(hidden)
