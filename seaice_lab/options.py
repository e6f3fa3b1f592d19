"""What the commands share: types of their options, and the configurations of the jobs."""

import shutil
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from seaice_lab.config import read_yaml
from seaice_lab.parameters import list_settings, merge, parse_parameters, replace_values, type_text

# The jobs whose settings can be listed, with the modules of their configurations.
JOBS = {
    "prepare": ("surrogate", "PrepareConfig"),
    "train": ("surrogate", "TrainConfig"),
    "forecast": ("surrogate", "ForecastConfig"),
    "emissivity simulate": ("emissivity", "SimulateConfig"),
    "emissivity train": ("emissivity", "EmissivityConfig"),
    "emissivity infer": ("emissivity", "InferConfig"),
    "assimilate observations": ("assimilation", "ObservationFilesConfig"),
    "assimilate run": ("assimilation", "AssimilationConfig"),
}


def path(text):
    """A path of the command line; ``~`` is the home folder."""
    return Path(text).expanduser()


RunFolder = Annotated[Path, Argument(parser=path, help="Run folder, such as runs/demo.")]
OtherStore = Annotated[
    Path | None,
    Option(parser=path, help="Another prepared store on the grid of RUN; by default that of RUN."),
]
Scheduler = Annotated[
    str | None,
    Option(help="Dask scheduler whose workers do the work, such as tcp://host:8786."),
]
Settings = Annotated[
    list[str] | None,
    Option(
        "-p",
        "--parameter",
        metavar="NAME=VALUE",
        help="Set one value; may be repeated. `seaice-lab settings` lists all names.",
    ),
]
ConfigFile = Annotated[
    Path | None, Option("--config", parser=path, help="YAML file with the configuration.")
]


def config_class(job):
    """The configuration class of a job of JOBS; its import loads neither torch nor xarray."""
    system, name = JOBS[job]
    return getattr(import_module(f"seaice_lab.{system}.settings"), name)


def configuration(job, file, pairs, start=None):
    """Configuration of a job from its defaults, a YAML file and NAME=VALUE texts.

    Parameters
    ----------
    job : str
        One of JOBS.
    file : Path or None
        YAML file.
    pairs : list of str or None
        Arguments such as ``fit.epochs=3``; they replace values of the file.
    start : dict, optional
        Values that replace defaults.

    Returns
    -------
    Config
    """
    model = config_class(job)
    values = merge(start or {}, {} if file is None else read_yaml(file))
    values = replace_values(values, parse_parameters(pairs or [], model))
    return model.parse(values, file or "--parameter")


def print_settings(job, markdown=False):
    """Print the settings of a job: name, default, type with unit, and meaning.

    Parameters
    ----------
    job : str
        One of JOBS.
    markdown : bool
        As a table in Markdown.
    """
    print(f"### `seaice-lab {job}`\n" if markdown else f"seaice-lab {job}\n")
    if markdown:
        print("| setting | type, unit | default | meaning |\n|---|---|---|---|")
    width = min(shutil.get_terminal_size((100, 24)).columns, 100) - 6
    for setting in list_settings(config_class(job)):
        unit = setting.unit and f"in {setting.unit}"
        kind = ", ".join(filter(None, [type_text(setting.annotation), unit, setting.limits]))
        if markdown:
            cells = (f"`{setting.name}`", kind, setting.default, setting.description)
            print(f"| {' | '.join(cell.replace('|', 'or') for cell in cells)} |")
        else:
            print(f"  {setting.name} = {setting.default}   ({kind})")
            print(textwrap.indent(textwrap.fill(setting.description, width), " " * 6))
    print()
