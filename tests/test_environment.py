"""The three lists of dependencies agree."""

import re
import site
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, metadata, version
from pathlib import Path

import pytest
import yaml

from seaice_lab.cli import app

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "cf_xarray": "cf-xarray"}
CONDA_ONLY = {"python", "pip", "cuda-version"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def split(requirement):
    name, bound = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement.replace(" ", "")).groups()
    return name.lower(), bound


def test_conda_and_pip_declare_the_same_names_and_lower_bounds():
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(split(line) for line in lines if isinstance(line, str) and line != "pip")
    conda = {CONDA_NAMES.get(name, name): bound for name, bound in conda.items()}
    assert conda.pop("python") == PROJECT["requires-python"].removeprefix(">=")
    conda = {name: bound for name, bound in conda.items() if name not in CONDA_ONLY}
    assert conda == dict(split(line) for line in PROJECT["dependencies"])


def test_the_packages_to_lock_are_all_those_of_conda():
    text = (ROOT / "environment.yml").read_text()
    command = re.search(r"^#   (sed .*) > packages.yml$", text, re.MULTILINE)[1]
    made = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, check=True).stdout
    whole = yaml.safe_load(text)
    packages = [each for each in whole["dependencies"] if isinstance(each, str)]
    assert yaml.safe_load(made) == whole | {"dependencies": packages}


def test_the_version_is_the_same_wherever_it_is_named():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    changes = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] == citation == changes[0]


def test_only_conda_forge_is_used():
    channels = yaml.safe_load((ROOT / "environment.yml").read_text())["channels"]
    assert channels == ["conda-forge", "nodefaults"]


def test_every_dependency_is_pinned_and_the_pins_are_what_is_tested():
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
    for name, bound in map(split, declared):
        assert name in pins, f"{name} is not in constraints.txt"
        pinned, lowest = (tuple(map(int, re.findall(r"\d+", text))) for text in (pins[name], bound))
        assert pinned >= lowest
        assert version(name).split("+")[0] == pins[name], name


def test_the_metadata_names_the_python_of_the_tested_versions():
    named = "Programming Language :: Python :: "
    tested = [each.removeprefix(named) for each in PROJECT["classifiers"] if named in each]
    assert PROJECT["requires-python"] == f">={tested[0]}"
    assert f"(Python {tested[0]}," in (ROOT / "constraints.txt").read_text().splitlines()[0]
    assert (ROOT / ".binder" / "runtime.txt").read_text().strip() == f"python-{tested[0]}"


def test_the_licence_of_every_dependency_is_listed():
    rows = re.findall(
        r"^\| (\S+) \| (.+) \| (\w+) \|$", (ROOT / "docs/licences.md").read_text(), re.M
    )
    groups = {"seaice_lab": PROJECT["dependencies"]} | PROJECT["optional-dependencies"]
    assert [(name, group) for name, _, group in rows] == [
        (split(each)[0], group) for group, names in groups.items() for each in names
    ]
    for name, licence, _ in rows:
        try:
            facts = metadata(name)
        except PackageNotFoundError:
            continue  # of an optional group
        expression = facts.get("License-Expression")
        if expression:  # "MIT", or several such as "BSD-3-Clause AND MIT"
            assert re.match(r"[\w.-]+", licence)[0] in re.split(r"[ ()]+", expression), name
            assert (" AND " in expression) == (" and " in licence), name
            continue
        classifiers = [each for each in facts.get_all("Classifier", []) if "License ::" in each]
        stated = " ".join([facts.get("License") or "", *classifiers])
        if stated.strip():  # cmocean states it in a file only
            assert re.match("[a-zA-Z]+", licence)[0].lower() in stated.lower(), name


# Files that Python executes at each start, by name: of editable installs, setuptools, virtualenv,
# matplotlib and coverage. Any other one may come from a package that is not what it claims to be.
STARTUP_FILES = re.compile(
    r"__editable__\.seaice_lab-[\w.]+\.pth|seaice_lab\.(pth|egg-link)|easy-install\.pth"
    r"|distutils-precedence\.pth|_virtualenv\.pth|matplotlib-.*-nspkg\.pth|a1_coverage\.pth"
)


def test_no_foreign_file_is_executed_when_python_starts():
    folders = [Path(folder) for folder in site.getsitepackages()]
    files = [path.name for folder in folders for path in folder.glob("*.pth")]
    files += [path.name for folder in folders for path in folder.glob("*customize*")]
    assert [name for name in files if not STARTUP_FILES.fullmatch(name)] == []


def test_binder_installs_the_tested_versions_without_cuda():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in lines and "-e ." in lines
    (constraints,) = (line.split()[1] for line in lines if line.startswith("--constraint"))
    assert (ROOT / ".binder" / constraints).resolve() == ROOT / "constraints.txt"


def test_the_container_has_a_fixed_base():
    (base,) = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert re.fullmatch(r"[\w/]+:[\d.]+-\d+", base)


SCRIPTS = [ROOT / ".binder" / "postBuild", *sorted((ROOT / "docs" / "slurm").glob("*.sh"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_for_clusters_are_valid_and_name_commands_that_exist(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    words = re.findall(r"(?:seaice-lab|-m seaice_lab\.cli)[ \\\n]+(\w+)", script.read_text())
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    assert words and set(words) <= {*commands, *(group.name for group in app.registered_groups)}
