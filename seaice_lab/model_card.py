"""Model card: the README.md beside the weights of a run, for whoever receives the folder."""

import re
from pathlib import Path

import seaice_lab
from seaice_lab import catalog, files, runs
from seaice_lab.errors import InputError

CARD = "README.md"


def write_card(run, summary, sections):
    """Write the model card of a run, or renew sections of an existing one.

    Parameters
    ----------
    run : str or Path
        Run folder.
    summary : str
        What the model is; the first paragraph of a new card.
    sections : dict of str to str
        Text by heading. All other text of an existing card is kept.

    Returns
    -------
    Path
    """
    path = Path(run).expanduser() / CARD
    if path.exists():
        text = path.read_text(encoding="utf-8").rstrip()
    else:
        text = (
            f"# {path.parent.resolve().name}\n\n{summary}\n\nWritten by seaice_lab "
            f"{seaice_lab.__version__} on {runs.now()[:10]}. Add sections of your own, such as "
            "notes; they are kept when an evaluation renews the scores."
        )
    blocks = re.split(r"^(?=## )", text + "\n\n", flags=re.MULTILINE)
    for heading, content in sections.items():
        beginning = f"## {heading}\n"
        matches = (n for n, block in enumerate(blocks) if block.startswith(beginning))
        position = next(matches, len(blocks))
        blocks[position : position + 1] = [f"{beginning}\n{content.strip()}\n\n"]
    files.write_text(path, "".join(blocks).rstrip() + "\n")
    return path


def read_section(path, heading):
    """Text of a section of a model card.

    Parameters
    ----------
    path : Path
    heading : str

    Returns
    -------
    str
        Empty if there is no such section.
    """
    text = path.read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return match[1] if match else ""


def describe_dataset(name):
    """A dataset of the catalogue with its source and licence, as an item of a list.

    Parameters
    ----------
    name : str
        Entry of the catalogue.

    Returns
    -------
    str
    """
    try:
        entry = catalog.find(name)
    except InputError:
        return f"- `{name}`, which is not in the catalogue any more"
    doi = f" (doi [{entry.doi}](https://doi.org/{entry.doi}))" if entry.doi else ""
    return f"- `{name}`: {entry.title}. Source: {entry.source}{doi}. Licence: {entry.licence}."


def describe_configuration(opened):
    """The configuration and the software of a run.

    Parameters
    ----------
    opened : seaice_lab.runs.Run

    Returns
    -------
    str
    """
    text = (opened.path / "config.yaml").read_text(encoding="utf-8").strip()
    versions = opened.provenance.get("versions", {})
    software = ", ".join(f"{name} {versions[name]}" for name in versions if versions[name])
    return f"```yaml\n{text}\n```\n\nTrained with {software}."
