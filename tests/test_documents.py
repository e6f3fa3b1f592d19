"""The documents name files and commands that exist."""

import json
import re
from pathlib import Path

import pytest
import typer
import yaml

from seaice_lab import catalog, cli
from seaice_lab.surrogate.settings import PrepareConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/guides").glob("*.md")),
    "benchmarks/README.md",
    "data/sample/README.md",
    "data/pretrained/README.md",
    "data/pretrained/sample/README.md",
    "data/pretrained/ensemble/README.md",
    "seaice_lab/data/README.md",
]
SUFFIXES = (".py", ".md", ".ipynb", ".yaml", ".yml", ".toml", ".csv", ".npz", ".png", ".cff")
GENERATED = ("runs/", "stores/", ".venv/")
EXAMPLES = {
    "mine.yaml",
    "history.csv",
    "out.ipynb",
    "config.yaml",
    "cycle.yaml",
    "command_line.md",
}  # files that a user writes or a job produces


def quoted(text):
    """Single words in backticks, outside code blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\s]+)`", text)


def project_files(text):
    """Words in backticks that look like files or folders of the project, and targets of links."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    files = [word for word in quoted(text) if word.endswith((*SUFFIXES, "/"))]
    return {
        name
        for name in (*links, *files)
        if not name.startswith(GENERATED) and name not in EXAMPLES and not set(name) & set("<*=:")
    }


def exists(name, document):
    """Whether a path exists below the project, the package or the document's folder.

    A file name without a folder, as in the tables of CONTRIBUTING, may be anywhere in the code.
    """
    if any((folder / name).exists() for folder in (ROOT, ROOT / "seaice_lab", document.parent)):
        return True
    code = ROOT / "seaice_lab", ROOT / "dashboards"
    return "/" not in name and any(any(folder.rglob(name)) for folder in code)


def commands(app):
    """All commands of a typer application, such as ('emissivity', 'train')."""

    def walk(group, path):
        for name, command in getattr(group, "commands", {}).items():
            yield (*path, name)
            yield from walk(command, (*path, name))

    return set(walk(typer.main.get_command(app), ()))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name):
    document = ROOT / name
    files = project_files(document.read_text(encoding="utf-8"))
    assert sorted(file for file in files if not exists(file, document)) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_a_document_names_exists(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    known = commands(cli.app)
    groups = {path[0] for path in known if len(path) > 1}
    for words in re.findall(r"seaice-lab ([a-z]+(?: [a-z]+)?)", text):
        path = tuple(words.split())
        assert (path if path[0] in groups else path[:1]) in known, f"{name}: seaice-lab {words}"


def test_every_notebook_is_listed_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    notebooks = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [name for name in notebooks if f"(notebooks/{name})" not in readme] == []


def test_the_page_of_settings_has_the_tables_of_the_command(capsys):
    cli.list_settings(markdown=True)
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    _, tables = page.split("## All settings\n\n")
    assert tables.strip() == capsys.readouterr().out.strip(), (
        "docs/settings.md is old; run `make docs`, or `python docs/pages.py --settings`"
    )


def test_the_published_preparation_of_the_documents_is_the_published_one():
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    config = PrepareConfig.parse(yaml.safe_load(example), "docs/settings.md")
    assert config == PrepareConfig(
        state="nextsim-moorings",
        forcing="era5-legacy",
        crop=(91, 603, 8, 520),
        coarsen=2,
        coarsen_rule="published",
        rotate_winds=False,
    )
    periods = {name: rule.period for name, rule in catalog.find(config.state).splits.items()}
    assert periods == {
        "train": ("2009", "2016"),
        "validation": ("2017", "2017"),
        "test": ("2018", "2018"),
    }
    assert catalog.find(config.forcing).format == "era5"


def test_every_file_of_the_code_is_explained_in_contributing():
    explained = set(quoted((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    modules = {
        path.name
        for folder in ("seaice_lab", "dashboards")
        for path in (ROOT / folder).rglob("*.py")
        if path.name != "__init__.py"
    }
    assert sorted(modules - explained) == []


def test_the_code_names_in_contributing_exist():
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("seaice_lab", "dashboards")
        for path in (ROOT / folder).rglob("*.py")
    )
    words = quoted((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    names = {word for word in words if re.fullmatch(r"[A-Z]\w+|[a-z]+(_[a-z]+)+", word)}
    assert {"InputError", "OPTIONS", "build_network"} <= names
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", code)) == []


def test_notebooks_write_formulae_as_text():
    """Executed notebooks are shown without scripts, which formulae between dollars would need."""
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                assert "$" not in "".join(cell["source"]), path.name


def test_every_table_of_accuracy_and_speed_names_its_machine():
    text = (ROOT / "docs/accuracy_and_speed.md").read_text(encoding="utf-8")
    tables = re.findall(r"(.*)\n\n\|.*\n\|--", text)
    assert len(tables) > 8
    assert set(tables) == {"Machine: two cores.", "Machine: H200.", "Machine: H100."}
