"""The commands ``seaice-lab runs ...``."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Abort, Argument, Option, Typer, confirm

from seaice_lab import runs
from seaice_lab.errors import InputError
from seaice_lab.options import RunFolder, path

LINE = 120  # largest number of characters in a line of the comparison
CELL = 28  # largest number of characters in a cell, except in the column run

app = Typer(no_args_is_help=True, help="Run folders: list, compare, tag, note, delete.")


@app.command("list")
def list_runs(
    folder: Annotated[Path | None, Argument(parser=path, help="Folder of runs.")] = None,
    option: Annotated[Path | None, Option("--runs", parser=path, help="Folder of runs.")] = None,
    compare: Annotated[
        bool, Option("--compare", help="Show the settings that differ, and the scores.")
    ] = False,
    sort: Annotated[
        str | None,
        Option(
            metavar="COLUMN",
            help="Sort the comparison, such as by rmse_5d; -rmse_5d: from the largest.",
        ),
    ] = None,
    csv: Annotated[
        bool, Option("--csv", help="Print the comparison as CSV, with all columns and lead times.")
    ] = False,
):
    """List the runs in a folder (by default runs), oldest first, with time (UTC) and state.

    With --compare, --sort or --csv it is a table with tags, the settings that differ between the
    runs, and scores by lead time. Columns that do not fit a line of 120 characters are left out,
    except with --csv.
    """
    if folder and option and folder != option:
        raise InputError(f"runs list: two folders are named, {folder} and {option}; name one")
    folder = folder or option or Path("runs")
    if folder != Path("runs") and not folder.is_dir():
        raise InputError(f"{folder}: no such folder of runs; name the folder that holds them")
    rows = runs.list_runs(folder)
    if not rows:
        text = f"no runs in {folder}; make one with `seaice-lab pipeline` or `seaice-lab train`"
        print(text, file=sys.stderr if csv else sys.stdout)
    elif compare or sort or csv:
        _print_comparison(folder, sort, csv)
    else:
        for row in rows:
            tags = "".join(f" [{tag}]" for tag in row.tags)
            print(f"{row.name:24s} {row.kind:12s} {row.created[:16]:16s} {row.state}{tags}")
            if row.detail:
                print(f"    {row.detail}")


def _print_comparison(folder, sort, csv):
    """Print the comparison of runs as text or CSV; a hint goes to the error stream."""
    from seaice_lab import tracking

    table = tracking.compare(folder, sort, all_leads=csv)
    if csv:
        print(table.to_csv(index=False), end="")
    else:
        # Names of runs often differ at their end only.
        shown = _fitting(table.map(_cell).assign(run=table["run"]), sort)
        print(shown.to_string(index=False))
        if left := table.shape[1] - shown.shape[1]:
            print(f"{left} more columns do not fit; --csv prints all.", file=sys.stderr)
    different = [name for name in tracking.SCORED if name in table]
    if different:
        print(
            f"The scores of these runs differ in {', '.join(different)}; notebook 08_compare_runs "
            "compares runs on the starts that they share.",
            file=sys.stderr,
        )


def _cell(value):
    """A value of the comparison as text, shortened."""
    if value is None:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= CELL else f"{text[: CELL - 3]}..."


def _fitting(text, sort):
    """The columns of a comparison that fit a line; RMSE and settings come before other scores."""
    from seaice_lab import tracking

    first = ["run", (sort or "").removeprefix("-"), "state", "tags"]
    first += [name for name in text if name.startswith("rmse_")]
    last = ["kind", "created", "note", *tracking.SCORED]
    last += [name for name in text if name.rpartition("_")[0] in tracking.SCORES]
    middle = [name for name in text if name not in last]
    kept, room = [], LINE
    for name in dict.fromkeys([*first, *middle, *last]):
        width = 1 + max(len(name), *text[name].map(len)) if name in text else LINE
        if width <= room or name == "run":
            kept.append(name)
            room -= width
    return text[[name for name in text if name in kept]]


@app.command("tag")
def tag_run(
    run: RunFolder,
    tags: Annotated[list[str] | None, Argument(help="Words to add.")] = None,
    remove: Annotated[
        list[str] | None, Option(metavar="TAG", help="Word to remove; may be repeated.")
    ] = None,
):
    """Add tags to a run. They are in RUN/tags.txt, in `runs list` and in the dashboard."""
    from seaice_lab import tracking

    print(" ".join(tracking.add_tags(run, tags or (), remove or ())))


@app.command("note")
def note_run(run: RunFolder, text: Annotated[str, Argument(help="A sentence, in quotes.")]):
    """Add a note with today's date to RUN/notes.txt."""
    from seaice_lab import tracking

    print("\n".join(tracking.add_note(run, text)))


@app.command("delete")
def delete_runs(
    run: Annotated[list[Path], Argument(parser=path, help="Run folders, such as runs/demo.")],
    folder: Annotated[
        Path, Option("--runs", parser=path, help="Folder of runs in which they are.")
    ] = Path("runs"),
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
):
    """Delete runs, after you confirm.

    A run on which a process works is refused. Runs that name a deleted run, such as with
    start_from, are listed first.
    """
    from seaice_lab import tracking

    for name in dict.fromkeys(run):
        print(tracking.check_deletion(name, folder))
    try:
        is_sure = yes or confirm("Delete permanently?")
    except Abort:
        raise InputError("runs delete: there was no answer; add --yes in scripts") from None
    for name in dict.fromkeys(run if is_sure else ()):
        tracking.delete(name, folder)
        print(f"deleted {name}")
