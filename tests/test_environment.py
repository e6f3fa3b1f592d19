"""The three lists of dependencies agree."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

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
