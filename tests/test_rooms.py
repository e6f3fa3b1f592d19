"""Who may import whom: the shape of the house, read from the source."""

import ast
from pathlib import Path

import pytest

import seaice_lab

ROOT = Path(seaice_lab.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
TORCH_ONLY = (
    "surrogate/layers.py",
    "surrogate/networks.py",
    "surrogate/wrappers.py",
    "surrogate/losses.py",
    "emissivity/networks.py",
    "emissivity/penalty.py",
)
NO_TORCH = ("diagnostics/", "figures/", "synthetic/",
            "surrogate/evaluation.py", "surrogate/prepare.py", "surrogate/store.py",
            "surrogate/references.py",
            "emissivity/physics.py", "emissivity/sensors.py", "emissivity/layouts.py",
            "emissivity/simulate.py", "emissivity/ice_types.py",
            "surrogate/assemble.py", "surrogate/sources.py", "catalog.py",
            "files.py", "grid.py", "runs.py", "names.py")  # fmt: skip
LOWEST = {
    "names.py": {"errors"},
    "grid.py": {"errors", "names"},
    "files.py": {"errors"},
    "runs.py": {"errors", "names", "config", "files"},
    "catalog.py": {"errors", "names", "config", "grid", "files", "runs"},
}


def imports(module):
    """Dotted names of everything a module imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(module):
    return {
        name.removeprefix("seaice_lab.")
        for name in imports(module)
        if name.startswith("seaice_lab.")
    }


def is_at(module, places):
    return any(module == place or (place.endswith("/") and module.startswith(place))
               for place in places)  # fmt: skip


@pytest.mark.parametrize("module", [m for m in MODULES if is_at(m, NO_TORCH)])
def test_these_rooms_never_import_torch(module):
    assert not {name for name in imports(module) if name.split(".")[0] == "torch"}


@pytest.mark.parametrize("module", TORCH_ONLY)
def test_networks_and_losses_know_no_files_and_no_xarray(module):
    foreign = {name.split(".")[0] for name in imports(module)} & {
        "xarray",
        "zarr",
        "pandas",
        "pathlib",
    }
    assert not foreign
    allowed = ("errors", "surrogate.layers", "emissivity.physics")
    assert all(name.startswith(allowed) for name in ours(module))


@pytest.mark.parametrize("module", LOWEST)
def test_the_foundations_import_only_downwards(module):
    assert {name.split(".")[0] for name in ours(module)} <= LOWEST[module] | {""}


@pytest.mark.parametrize("module", [m for m in MODULES if m != "cli.py"])
def test_nothing_imports_the_command_line(module):
    assert not any(name.startswith("cli") for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("cli.py", "notebooks.py")])
def test_nothing_below_imports_the_notebook_runner(module):
    assert not any(name.startswith("notebooks") for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("surrogate/")])
def test_the_surrogate_does_not_know_the_emissivity_model(module):
    assert not any(name.startswith("emissivity") for name in ours(module))


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("emissivity/")])
def test_the_emissivity_model_does_not_know_the_surrogate(module):
    assert not any(name.startswith("surrogate") for name in ours(module))


@pytest.mark.parametrize("module", MODULES)
def test_no_file_is_longer_than_four_hundred_lines(module):
    assert len((ROOT / module).read_text(encoding="utf-8").splitlines()) <= 400
