"""Who may import whom: the rules of the project's modules, read from the source.

The rules hold transitively: a module breaks a rule if anything that it imports, directly or through
other modules, is forbidden to it. Imports inside functions count too, except in the test of torch,
which asks what an import of the module loads.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "seaice_lab"

OPTIMISERS = (
    "optimiser",
    "emissivity.lazy_adam",
    "emissivity.lazy_kernels",
    "emissivity.gpu_adam",
)
TRAINERS = ("training", "surrogate.train", "emissivity.train", *OPTIMISERS)
COMMANDS = (
    "cli",
    "data_commands",
    "run_commands",
    "emissivity.commands",
    "assimilation.commands",
    "notebooks",
)
SCIENCE = ("surrogate", "emissivity", "assimilation", "diagnostics", "synthetic", "figures")

# Modules, and what they never import. A name stands for a module or for all modules of a folder.
FORBIDDEN = {
    "names and errors are the lowest": (("names", "errors"), ("files", "config", *SCIENCE)),
    "the foundations know no science": (
        (
            "files",
            "cluster",
            "config",
            "progress",
            "formats",
            "recognise",
            "positions",
            "times",
            "runs",
            "grid",
            "land",
            "advection",
            "catalog",
            "optimiser",
            "training",
        ),
        SCIENCE,
    ),
    "grid and land know names and errors only": (
        ("grid", "land"),
        ("files", "config", "runs", "catalog"),
    ),
    "files and runs know no catalogue": (("files", "runs"), ("catalog", "grid")),
    "the two systems are neighbours: surrogate": (("surrogate",), ("emissivity", "assimilation")),
    "the two systems are neighbours: emissivity": (("emissivity",), ("surrogate", "assimilation")),
    "assimilation knows the surrogate and no training": (
        ("assimilation",),
        ("emissivity", *TRAINERS),
    ),
    "the model does not train itself": (("emissivity.model", "emissivity.penalty"), TRAINERS),
    "observations and products know no trainer": (
        (
            "emissivity.observations",
            "emissivity.products",
            "emissivity.evaluation",
            "emissivity.infer",
            "surrogate.evaluation",
            "surrogate.block_scores",
            "surrogate.references",
            "surrogate.store",
        ),
        TRAINERS,
    ),
    "diagnostics know labelled arrays only": (
        ("diagnostics",),
        ("surrogate", "emissivity", "assimilation", "synthetic", "figures", "runs", "catalog"),
    ),
    "figures know no model": (
        ("figures",),
        (
            "surrogate",
            "emissivity.model",
            "emissivity.observations",
            "assimilation",
            "diagnostics",
            "synthetic",
        ),
    ),
}
# Modules that only these may import directly.
RESERVED = {
    "optimiser": ("training", "surrogate.train", "emissivity.train", *OPTIMISERS),
    "emissivity.lazy_adam": ("emissivity.train",),
    "emissivity.lazy_kernels": ("emissivity.lazy_adam",),
    "emissivity.gpu_adam": ("emissivity.train",),
    "surrogate.train": COMMANDS,
    "emissivity.train": ("emissivity.jobs", *COMMANDS),
    "synthetic": ("surrogate.sources", "synthetic"),
    "figures": ("figures",),
}
# Mathematics of torch: no files, no labelled arrays, and of ours only these.
TORCH_ONLY = (
    "surrogate.process_sums",
    "surrogate.layers",
    "surrogate.networks",
    "surrogate.wrappers",
    "surrogate.blocks",
    "surrogate.losses",
    "emissivity.networks",
    "emissivity.penalty",
    "emissivity.physics",
)
FILES_AND_LABELS = {"xarray", "zarr", "pandas", "netCDF4", "pathlib"}
# Everything else may load torch. These are needed where it is slow to load or not installed.
WITHOUT_TORCH = (
    "names",
    "errors",
    "config",
    "parameters",
    "progress",
    "formats",
    "recognise",
    "positions",
    "times",
    "files",
    "cluster",
    "runs",
    "grid",
    "land",
    "advection",
    "catalog",
    "fetch",
    "servers",
    "credentials",
    "notebooks",
    "cli",
    "options",
    "diagnostics",
    "figures",
    "synthetic",
    "surrogate.sources",
    "surrogate.assemble",
    "surrogate.prepare",
    "surrogate.store",
    "surrogate.windows",
    "surrogate.settings",
    "surrogate.references",
    "surrogate.block_scores",
    "surrogate.evaluation",
    "emissivity.settings",
    "emissivity.physics",
    "emissivity.sensors",
    "emissivity.ice_types",
    "emissivity.layouts",
    "emissivity.simulate",
    "emissivity.simulated_ice",
    "assimilation.background",
    "assimilation.diffusion",
    "assimilation.settings",
    "assimilation.twins",
    "assimilation.observations",
    "assimilation.observation_files",
    "assimilation.quality_control",
)


def dotted(path, root):
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {dotted(path, PACKAGE): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_names(path):
    """Dotted names of everything a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def our_imports(module):
    """Modules of the package that a module imports directly."""
    names = {name.removeprefix("seaice_lab.") for name in imported_names(SOURCES[module])}
    folders = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    return (names & SOURCES.keys()) - folders


def reached(module):
    """Modules that a module imports, directly or through others, each with the way to it."""
    ways, waiting = {}, [(module, (module,))]
    while waiting:
        current, way = waiting.pop(0)
        for target in sorted(our_imports(current)):
            if target not in ways:
                ways[target] = (*way, target)
                waiting.append((target, ways[target]))
    return ways


def belongs_to(module, groups):
    """Whether a module is one of the named modules or lies in one of the named folders."""
    return any(module == group or module.startswith(f"{group}.") for group in groups)


def members(groups):
    return [module for module in SOURCES if belongs_to(module, groups)]


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_module_reaches_what_is_forbidden_to_it(rule):
    importers, forbidden = FORBIDDEN[rule]
    wrong = [
        " -> ".join(way)
        for module in members(importers)
        for target, way in reached(module).items()
        if belongs_to(target, forbidden)
    ]
    assert not wrong, f"{rule}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("target", RESERVED)
def test_reserved_modules_are_imported_by_few(target):
    allowed = (*RESERVED[target], *COMMANDS)
    wrong = [
        f"{module} -> {imported}"
        for module in SOURCES
        if not belongs_to(module, allowed)
        for imported in our_imports(module)
        if belongs_to(imported, (target,))
    ]
    assert not wrong, "\n".join(wrong)


def test_every_rule_names_modules_that_exist():
    named = [name for pair in FORBIDDEN.values() for group in pair for name in group]
    named += [*RESERVED, *TORCH_ONLY, *WITHOUT_TORCH]
    named += [name for group in RESERVED.values() for name in group]
    assert not [name for name in named if not members((name,))]


def test_no_modules_import_each_other_in_a_circle():
    circles = [
        " -> ".join(reached(module)[module]) for module in SOURCES if module in reached(module)
    ]
    assert not circles, "\n".join(circles)


def test_only_the_command_line_imports_the_notebook_runner_and_nothing_imports_the_command_line():
    wrong = [
        f"{module} -> {command}"
        for module in SOURCES
        for command in our_imports(module).intersection(COMMANDS)
        if module != "cli" or command == "cli"
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", TORCH_ONLY)
def test_networks_and_losses_know_no_files_and_no_labelled_arrays(module):
    foreign = {name.split(".")[0] for name in imported_names(SOURCES[module])} & FILES_AND_LABELS
    assert not foreign
    assert set(reached(module)) <= {"errors", *TORCH_ONLY}


def test_modules_that_need_no_torch_do_not_load_it():
    modules = [f"seaice_lab.{module}" for module in members(WITHOUT_TORCH)]
    modules += [
        f"dashboards.{dotted(path, ROOT / 'dashboards')}"
        for path in sorted((ROOT / "dashboards").glob("[!_]*.py"))
    ]
    # One process for all of them; it stops at the first module after which torch is loaded.
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'importing {module} loads torch')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("module", SOURCES)
def test_no_file_is_longer_than_four_hundred_lines(module):
    assert len(SOURCES[module].read_text(encoding="utf-8").splitlines()) <= 400
