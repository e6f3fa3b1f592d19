"""The commands ``seaice-lab data``: list, show, check, generate and fetch datasets.

Slow imports are inside the commands, so that ``--help`` answers at once.
"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from seaice_lab.errors import InputError
from seaice_lab.options import path

app = Typer(no_args_is_help=True, help="Datasets of data_catalog.yaml.")


@app.command("list")
def data_list():
    """List the datasets of the catalogue and whether their files exist."""
    from seaice_lab import catalog

    for name, entry in catalog.load().items():
        try:
            count = len(catalog.files(entry))
            state = f"{count} file{'s' if count > 1 else ''}"
        except InputError:
            state = "not here"
        print(f"{name:22s} {state:12s} {entry.title}")


@app.command("show")
def data_show(name: Annotated[str, Argument(help="Entry of the catalogue.")]):
    """Show an entry of the catalogue and the content of its files."""
    import yaml

    from seaice_lab import catalog, datasets

    entry = catalog.find(name)
    print(yaml.safe_dump(entry.model_dump(mode="json", exclude_none=True), sort_keys=False))
    if entry.format != "emissivity":  # `data check` shows these files
        print(datasets.open(name))


@app.command("check")
def data_check(
    name: Annotated[str, Argument(help="Entry of the catalogue.")],
    files: Annotated[
        list[str] | None, Argument(help="Files to read instead of those of the entry.")
    ] = None,
    map_file: Annotated[
        Path | None, Option("--map", parser=path, help="Picture to write; default: NAME.png.")
    ] = None,
):
    """Show how the files of a dataset are understood, and draw a map of one record.

    It refuses what `seaice-lab prepare` would refuse, with the same messages.
    """
    from seaice_lab import catalog

    entry = catalog.find(name)
    if entry.format == "emissivity":
        from seaice_lab.emissivity.layouts import describe

        print("\n".join(describe(list(map(Path, files or catalog.files(entry))))))
        return
    from seaice_lab.figures.maps import plot_map
    from seaice_lab.surrogate.check import check

    lines, field, ocean = check(name, files or ())
    print("\n".join(lines))
    map_file = map_file or Path(f"{name}.png")
    plot_map(field, ocean, title=name).savefig(map_file, dpi=150)
    print(f"wrote {map_file}")


@app.command("make")
def data_make(name: Annotated[str, Argument(help="A generated dataset.")] = "synthetic-arctic"):
    """Generate a dataset, such as the synthetic Arctic, into the data folder."""
    from seaice_lab.surrogate import sources

    print(f"wrote {sources.make(name)}")


@app.command("fetch")
def data_fetch(
    name: Annotated[str, Argument(help="Entry of the catalogue with the key 'fetch'.")],
    years: Annotated[str, Option(help="Such as 2009-2018 or 2009,2012.")] = "",
    months: Annotated[str, Option(help="Such as 1-4,10-12; default: all.")] = "",
    to: Annotated[
        Path | None, Option(parser=path, help="Data folder; default: SEAICE_DATA, else data.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list files and their sizes.")] = False,
):
    r"""Fetch a dataset from its server, one file a month, and read it back.

    ERA5, NSIDC, CS2SMOS and TOPAZ4b need `pip install -c constraints.txt -e '.\[fetch]'` and a
    free account. If the key of the account is missing, the command says how to set it. The same
    command continues an interrupted download.
    """
    from seaice_lab.fetch import fetch

    print("\n".join(fetch(name, years, months, to, dry_run)))
