"""The command line ``seaice-lab``.

Slow imports are inside the commands, so that ``--help`` answers at once. A command reads all its
settings before it imports torch, so that wrong settings are refused at once.
"""

import inspect
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from seaice_lab import data_commands, options, run_commands
from seaice_lab.assimilation import commands as assimilation_commands
from seaice_lab.emissivity import commands as emissivity_commands
from seaice_lab.errors import InputError
from seaice_lab.options import (
    JOBS,
    ConfigFile,
    OtherStore,
    RunFolder,
    Scheduler,
    Settings,
    configuration,
    path,
)
from seaice_lab.parameters import list_settings
from seaice_lab.processors import is_first_process
from seaice_lab.surrogate.settings import ForecastConfig

app = Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Machine learning for sea ice: data -> prepared store -> training -> forecast -> scores.",
)
app.add_typer(data_commands.app, name="data")
app.add_typer(emissivity_commands.app, name="emissivity")
app.add_typer(assimilation_commands.app, name="assimilate")
app.add_typer(run_commands.app, name="runs")

HELP = {setting.name: setting.description for setting in list_settings(ForecastConfig)}
HELP["starts"] += " The option may be repeated."
RESUMED = ("prepare", "train", "forecast", "evaluate", "pipeline", "assimilate", "data")


def main():
    """Run the command line.

    Wrong input, and files that cannot be read or written, end with one sentence and exit status 2.
    An interruption ends with a sentence that says how to continue, and exit status 130.
    """
    try:
        app()
    except InputError as error:
        _end(str(error), 2)
    except OSError as error:
        from seaice_lab.files import os_error_text

        _end(os_error_text(error), 2)
    except UnicodeError as error:
        _end(f"a text is not valid UTF-8 ({error.reason}); correct the names and arguments", 2)
    except SystemExit as error:
        if error.code != 130:
            raise
        words = [word for word in sys.argv[1:] if word != "emissivity"]
        is_resumed = words and words[0] in RESUMED and "method=gauss_newton" not in words
        advice = "continues the work" if is_resumed else "starts again"
        _end(f"interrupted; the same command {advice}", 130)


def _end(sentence, status):
    """End the program with one sentence on the error stream."""
    # On a full disk, tasks of zarr that still write would fail one by one; one message is enough.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    print(f"seaice-lab: {' '.join(sentence.split())}", file=sys.stderr, flush=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # without the end of Python, at which they would print their tracebacks


@app.command("settings")
def list_settings(
    job: Annotated[
        list[str] | None, Argument(help=f"A job: {', '.join(JOBS)}. By default all of them.")
    ] = None,
    markdown: Annotated[bool, Option("--markdown", help="Print tables in Markdown.")] = False,
):
    """List the settings of a job: name, type, default, meaning. They are given with -p or --config.

    A setting in a group, such as fit.epochs, may be given by its last part if no other one has it.
    """
    words = " ".join(job or [])
    matching = [words] if words in JOBS else [name for name in JOBS if words in name.split()]
    matching = matching if words else list(JOBS)
    if not matching:
        raise InputError(f"there is no job {words!r} with settings; the jobs are {', '.join(JOBS)}")
    for name in matching:
        options.print_settings(name, markdown)


@app.command()
def prepare(
    store: Annotated[
        Path, Argument(parser=path, help="Store to make, such as stores/sample.zarr.")
    ],
    config: ConfigFile = None,
    parameter: Settings = None,
    scheduler: Scheduler = None,
):
    """Turn model output and forcing into a prepared store.

    `seaice-lab settings prepare` lists all settings: state and forcing (catalogue entries),
    variables, crop, coarsen, splits and more. After an interruption, the same command continues
    the work.
    """
    from seaice_lab import catalog

    job_config = configuration("prepare", config, parameter)
    for name in (job_config.state, job_config.forcing or job_config.state):
        catalog.find(name)  # refuses an unknown entry before the slow imports
    from seaice_lab.surrogate.prepare import prepare

    print(f"wrote {prepare(job_config, store, scheduler)}")


@app.command()
def train(run: RunFolder, config: ConfigFile = None, parameter: Settings = None):
    """Train a surrogate in a run folder. After an interruption, the same command continues.

    `seaice-lab settings train` lists all settings, such as store (required), width and epochs.

    On several GPUs: torchrun --nproc-per-node=4 -m seaice_lab.cli train runs/demo -p store=...
    """
    job_config = configuration("train", config, parameter)
    from seaice_lab.surrogate.store import open_store

    open_store(job_config.store)  # refuses a missing store before torch is imported
    from seaice_lab.surrogate.train import train

    folder = train(job_config, run)
    if is_first_process():
        print(f"wrote {folder}/weights.safetensors")


@app.command()
def forecast(
    run: RunFolder,
    steps: Annotated[int, Option(help=HELP["steps"])] = 60,
    split: Annotated[str | None, Option(help=HELP["split"])] = None,
    start: Annotated[list[str] | None, Option(metavar="TIME", help=HELP["starts"])] = None,
    every: Annotated[int, Option(help=HELP["every"])] = 1,
    batch_size: Annotated[int, Option(help=HELP["batch_size"])] = 64,
    members: Annotated[int, Option(help=HELP["members"])] = 1,
    perturbation: Annotated[float | None, Option(help=HELP["perturbation"])] = None,
    noise_gain: Annotated[list[float] | None, Option(help=HELP["noise_gain"])] = None,
    member_bias: Annotated[float | None, Option(help=HELP["member_bias"])] = None,
    seed: Annotated[int, Option(help=HELP["seed"])] = 0,
    store: Annotated[Path | None, Option(parser=path, help=HELP["store"])] = None,
    output: Annotated[Path | None, Option(parser=path, help=HELP["output"])] = None,
):
    """Forecast from every start date of a split, or from --start; write RUN/forecast.zarr.

    With --members above 1 it is an ensemble. Each member of a network with noise has noise of its
    own; of another network, the first member starts from the true state, the others from smoothly
    perturbed states. To give one gain for each level, repeat --noise-gain.

    Many start dates on several GPUs: torchrun --nproc-per-node=4 -m seaice_lab.cli forecast RUN
    """
    from seaice_lab import progress, runs

    values = {"steps": steps, "split": split, "every": every, "batch_size": batch_size}
    gain = noise_gain[0] if noise_gain and len(noise_gain) == 1 else noise_gain or None
    values |= {"members": members, "perturbation": perturbation, "noise_gain": gain}
    values |= {"member_bias": member_bias}
    values |= {"starts": start or (), "store": store and str(store), "seed": seed}
    values |= {"output": output and str(output)}
    job_config = ForecastConfig.parse(values, "forecast")
    runs.open_run(run, "surrogate")  # refuses a wrong run before torch is imported
    if (run / "weights.safetensors").exists() and not (run / "finished").exists():
        progress.line(f"{run}: training is not finished; the forecast uses its best weights so far")
    from seaice_lab.surrogate.forecast import forecast

    written = forecast(run, job_config)
    if is_first_process():
        print(f"wrote {written}")


@app.command()
def export(
    run: RunFolder,
    file: Annotated[Path, Argument(parser=path, help="File to write, such as model.pt2.")],
):
    """Write the trained surrogate as one file that needs PyTorch only (torch.export.load).

    The file includes normalisation, mask and physical bounds. The batch may have any size. Extra
    files in it describe inputs, outputs and grid.
    """
    from seaice_lab import progress, runs

    runs.open_run(run, "surrogate")
    progress.line(f"export {run}: takes about ten seconds")  # torch.export reports no progress
    from seaice_lab.surrogate.export import export

    print(f"wrote {export(run, file)}")


@app.command()
def calibrate(run: RunFolder, store: OtherStore = None):
    """Choose the size of an ensemble's perturbations or noise on the validation split.

    The result, RUN/calibration.json, is the default of `seaice-lab forecast RUN --members N`, also
    on other stores.
    """
    from seaice_lab import runs

    runs.open_run(run, "surrogate")
    from seaice_lab.surrogate.calibration import calibrate

    for name, value in calibrate(run, store=store).items():
        print(f"{name}: {value}")


@app.command()
def evaluate(
    run: RunFolder,
    reference: Annotated[
        list[str] | None,
        Option(
            help="Reference forecast; may be repeated: persistence, climatology, "
            "damped_persistence, free_drift. By default all that the store allows."
        ),
    ] = None,
    variable: Annotated[str | None, Option(help="Variable to score; default: the first.")] = None,
    scaling: Annotated[
        bool, Option("--scaling", help="Also do what `seaice-lab scaling` does.")
    ] = False,
    store: OtherStore = None,
    scheduler: Scheduler = None,
):
    """Score the forecast of a run and of reference forecasts; write scores and spectra.

    Start dates and lead times without truth are left out. After an interruption, the same command
    continues the work.
    """
    from seaice_lab.surrogate.evaluation import evaluate, report
    from seaice_lab.surrogate.results import results_folder

    folder = run if store is None else results_folder(run, store).folder
    table, spectrum = evaluate(run, reference, variable, store=store, scheduler=scheduler)
    print(report(table, spectrum))
    print(f"wrote {folder}/scores.nc and {folder}/spectra.nc")
    if scaling:
        score_scaling(run, store=store)


@app.command("scaling")
def score_scaling(
    run: RunFolder,
    starts: Annotated[int, Option(min=1, help="Start dates to score, equally spaced.")] = 20,
    store: OtherStore = None,
):
    """Compare the statistical character of a forecast with the truth; write scaling.nc.

    Scaling, intermittency, anisotropy, tails and linear features of thickness and, if it is
    predicted, drift, with persistence, climatology and a smoothed truth as references.
    """
    from seaice_lab.surrogate.results import results_folder
    from seaice_lab.surrogate.scaling import evaluate_scaling, report

    table = evaluate_scaling(run, store, starts)
    print(report(table))
    print(f"wrote {run if store is None else results_folder(run, store)[0]}/scaling.nc")


@app.command()
def pipeline(
    parameters: Annotated[
        Path | None, Option(parser=path, help="YAML file of values for notebooks.")
    ] = None,
    parameter: Settings = None,
):
    """Run the notebooks in order: explore, prepare, train, evaluate, spectra.

    A value is passed to every notebook that has a parameter of that name. A name that no notebook
    has is refused before anything starts. The executed copies are in RUN/notebooks.
    """
    from seaice_lab import notebooks
    from seaice_lab.config import read_yaml
    from seaice_lab.parameters import split_parameters

    values = {} if parameters is None else read_yaml(parameters)
    run, executed = notebooks.pipeline(values, split_parameters(parameter or []))
    print("wrote")
    for file in (*executed, run / "forecast.zarr", run / "scores.nc", run / "spectra.nc"):
        print(f"  {file}")
    print("open the executed notebooks with\n  make lab")


@app.command()
def dashboard(
    runs: Annotated[Path, Option(parser=path, help="Folder of runs.")] = Path("runs"),
    port: Annotated[
        int, Option(metavar="PORT", min=0, max=65535, help="Port to listen on.")
    ] = 5006,
    address: Annotated[
        str, Option(help="Network interface; 0.0.0.0 accepts connections from other machines.")
    ] = "localhost",
    allow_websocket_origin: Annotated[
        list[str] | None,
        Option(metavar="HOST[:PORT]", help="Host in the browser's address; may be repeated."),
    ] = None,
    prefix: Annotated[str, Option(help="Path behind a proxy, such as /ice.")] = "",
    show: Annotated[bool, Option("--show", help="Open a browser.")] = False,
):
    """Serve the dashboard: maps of forecasts, scores, spectra, analyses, emissivity and more."""
    from dashboards.app import serve

    serve(runs, port, address, allow_websocket_origin, prefix, show)


def _join_lines(commands):
    """Join the lines of each paragraph of the help, so that a terminal can wrap them itself."""
    for group in commands.registered_groups:
        _join_lines(group.typer_instance)
    for command in commands.registered_commands:
        paragraphs = inspect.getdoc(command.callback).split("\n\n")
        command.help = "\n\n".join(" ".join(lines.split()) for lines in paragraphs)


_join_lines(app)

if __name__ == "__main__":
    main()
