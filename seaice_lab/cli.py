"""The command line ``seaice-lab``.

Slow imports are inside the commands, so that ``--help`` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from seaice_lab.errors import InputError

app = Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Machine learning for sea ice: data -> prepared store -> training -> forecast -> scores.",
)
data_app = Typer(no_args_is_help=True, help="Datasets of data_catalog.yaml.")
emissivity_app = Typer(no_args_is_help=True, help="Sea ice and its emissivity from observations.")
runs_app = Typer(no_args_is_help=True, help="Run folders.")
app.add_typer(data_app, name="data")
app.add_typer(emissivity_app, name="emissivity")
app.add_typer(runs_app, name="runs")

RunFolder = Annotated[Path, Argument(help="Run folder, such as runs/demo.")]
Settings = Annotated[
    list[str] | None,
    Option("-p", "--parameter", metavar="NAME=VALUE", help="Set one value; may be repeated."),
]
ConfigFile = Annotated[Path | None, Option("--config", help="YAML file with the configuration.")]
OutputFolder = Annotated[Path, Option(help="Run folder for all output.")]
MoreSensors = Annotated[list[str] | None, Argument(hidden=True)]
Tag = Annotated[str, Option(help="Ending of the output files' names.")]


def main():
    """Run the command line. Wrong input ends with one sentence and exit status 2."""
    try:
        app()
    except InputError as error:
        print(f"seaice-lab: {error}", file=sys.stderr)
        sys.exit(2)


@data_app.command("list")
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


@data_app.command("show")
def data_show(name: Annotated[str, Argument(help="Entry of the catalogue.")]):
    """Show an entry of the catalogue and the content of its files."""
    import yaml

    from seaice_lab import catalog

    entry = catalog.find(name)
    print(yaml.safe_dump(entry.model_dump(mode="json", exclude_none=True), sort_keys=False))
    print(catalog.open(name))


@data_app.command("make")
def data_make(
    name: Annotated[str, Argument(help="A generated dataset.")] = "synthetic-arctic",
):
    """Generate a dataset, such as the synthetic Arctic, into the data folder."""
    from seaice_lab.surrogate import sources

    print(f"wrote {sources.make(name)}")


@app.command()
def prepare(
    store: Annotated[Path, Argument(help="Store to make, such as stores/sample.zarr.")],
    config: ConfigFile = None,
    parameter: Settings = None,
    scheduler: Annotated[
        str | None, Option(help="Dask scheduler, such as tcp://host:8786.")
    ] = None,
):
    """Turn model output and forcing into a prepared store.

    Values: state and forcing (catalogue entries), variables, crop, coarsen, splits and more. An
    unknown value is refused with a list of all values. After an interruption, the same command
    continues the work.
    """
    from seaice_lab.surrogate.assemble import PrepareConfig
    from seaice_lab.surrogate.prepare import prepare

    path = prepare(_configuration(PrepareConfig, config, parameter), store, scheduler)
    print(f"wrote {path}")


@app.command()
def train(run: RunFolder, config: ConfigFile = None, parameter: Settings = None):
    """Train a surrogate in a run folder. After an interruption, the same command continues.

    On several GPUs: torchrun --nproc-per-node=4 -m seaice_lab.cli train runs/demo -p store=...
    """
    from seaice_lab.surrogate.model import TrainConfig
    from seaice_lab.surrogate.train import train

    path = train(_configuration(TrainConfig, config, parameter), run)
    print(f"wrote {path}/weights.safetensors")


@app.command()
def forecast(
    run: RunFolder,
    steps: Annotated[int, Option(help="Steps of the surrogate; 60 are 30 days.")] = 60,
    split: Annotated[str, Option(help="train, validation or test.")] = "test",
    every: Annotated[int, Option(help="Use every n-th start date.")] = 1,
    batch_size: Annotated[int, Option(help="Forecasts computed together.")] = 64,
    members: Annotated[int, Option(help="Members of an ensemble.")] = 1,
    perturbation: Annotated[
        float, Option(help="Size of the perturbations, in standard deviations of each variable.")
    ] = 0.1,
    seed: Annotated[int, Option(help="Seed of the perturbations.")] = 0,
):
    """Forecast from every start date of a split and write RUN/forecast.zarr.

    With --members above 1 it is an ensemble: the first member starts from the true state, the
    others from smoothly perturbed states.
    """
    from seaice_lab.surrogate.forecast import ForecastConfig, forecast

    values = {"steps": steps, "split": split, "every": every, "batch_size": batch_size}
    values |= {"members": members, "perturbation": perturbation, "seed": seed}
    path = forecast(run, ForecastConfig.parse(values, "forecast"))
    print(f"wrote {path}")


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
):
    """Score the forecast of a run and of reference forecasts; write scores and spectra."""
    from seaice_lab.surrogate.evaluation import evaluate, report

    table, spectrum = evaluate(run, reference, variable)
    print(report(table, spectrum))
    print(f"wrote {run}/scores.nc and {run}/spectra.nc")


@app.command()
def pipeline(
    parameters: Annotated[Path | None, Option(help="YAML file of values for notebooks.")] = None,
    parameter: Settings = None,
):
    """Run the notebooks in order: explore, prepare, train, evaluate, spectra.

    A value is passed to every notebook that has a parameter of that name. A name that no notebook
    has is refused before anything starts. The executed copies are in RUN/notebooks.
    """
    from seaice_lab import notebooks
    from seaice_lab.config import parse_parameters, read_yaml
    from seaice_lab.surrogate.evaluation import read_evaluation, report

    values = {} if parameters is None else read_yaml(parameters)
    run, executed = notebooks.pipeline(values | parse_parameters(parameter or []))
    print("\n" + report(*read_evaluation(run)))
    print("wrote")
    for path in (*executed, run / "forecast.zarr", run / "scores.nc", run / "spectra.nc"):
        print(f"  {path}")
    print("open the executed notebooks with\n  make lab")


@app.command()
def dashboard(
    runs: Annotated[Path, Option(help="Folder of runs.")] = Path("runs"),
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on.")] = 5006,
    address: Annotated[
        str, Option(help="Network interface; 0.0.0.0 accepts connections from other machines.")
    ] = "localhost",
    allow_websocket_origin: Annotated[
        list[str] | None,
        Option(metavar="HOST[:PORT]", help="Host in the browser's address; may be repeated."),
    ] = None,
    prefix: Annotated[str, Option(help="Path behind a proxy, such as /ice.")] = "",
    show: Annotated[bool, Option(help="Open a browser.")] = False,
):
    """Serve the dashboard: forecasts, scores, spectra, seasons and emissivity in the browser."""
    from dashboards.app import serve

    serve(runs, port, address, allow_websocket_origin, prefix, show)


@emissivity_app.command("simulate")
def emissivity_simulate(
    folder: Annotated[Path, Argument(help="Folder to create, such as data/simulated.")],
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Simulate observations of a known sea ice, in a published layout."""
    from seaice_lab.emissivity.simulate import SimulateConfig, simulate

    print(f"wrote {simulate(_configuration(SimulateConfig, config, parameter), folder)}")


@emissivity_app.command("train")
def emissivity_train(
    data: Annotated[Path, Option(help="Folder of observations, or the file of a month.")],
    output: OutputFolder,
    sensors: Annotated[list[str], Option(help="Sensors, in order; more may follow.")] = ("amsr2",),
    more: MoreSensors = None,
    version: Annotated[int, Option(help="Version of the published model, 1 or 2.")] = 2,
    tag: Tag = "final",
    modeltag: Annotated[
        str | None, Option(help="With --diagsonly: tag of the saved model; default: --tag.")
    ] = None,
    batchsize: Annotated[int, Option(help="Observations in a training step.")] = 1024,
    stepstart: Annotated[int, Option(help="First day to use, counted from 0.")] = 0,
    nsteps: Annotated[int, Option(help="Number of days to use; -1 for all.")] = -1,
    nepochs: Annotated[int, Option(help="Number of epochs.")] = 8,
    diagsonly: Annotated[
        bool,
        Option(
            "--diagsonly", help="Load the saved model and write the derived files, do not train."
        ),
    ] = False,
    trainonly: Annotated[bool, Option("--trainonly", help="Write no simulations or grid.")] = False,
    reproducible: Annotated[
        bool, Option("--reproducible", help="Use seed 409782; results on a CPU repeat exactly.")
    ] = False,
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Train concentration, properties and emissivity together; write the published files.

    The options are those of the published command. Any value of the configuration can be set with
    -p, such as -p method=gauss_newton or -p model.bounded=true.
    """
    from seaice_lab.emissivity.jobs import ProductsConfig, run_diagnostics, run_training
    from seaice_lab.emissivity.run import EmissivityConfig

    if diagsonly and trainonly:
        raise InputError("--diagsonly and --trainonly exclude each other; give one of them")
    fit = {"batch_size": batchsize, "epochs": nepochs, "compile": "auto"}
    if reproducible:
        fit["seed"] = 409782
    values = {
        "data": str(data),
        "sensors": [*sensors, *(more or [])],
        "step_start": stepstart,
        "steps": None if nsteps < 0 else nsteps,
        "model": {"version": version},
        "fit": fit,
    }
    job_config = _configuration(EmissivityConfig, config, parameter, values)
    product_config = ProductsConfig(tag=tag, simulations=not trainonly, grid=not trainonly)
    if diagsonly:
        _report(run_diagnostics(job_config, output, modeltag or tag, product_config))
    else:
        _report(run_training(job_config, output, product_config))


@emissivity_app.command("infer")
def emissivity_infer(
    run: RunFolder,
    data: Annotated[
        Path, Option(help="Folder of observations of other days, or the file of one month.")
    ],
    output: OutputFolder,
    sensors: Annotated[list[str] | None, Option(help="Sensors; by default those of RUN.")] = None,
    more: MoreSensors = None,
    tag: Tag = "final",
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Estimate concentration and properties of new days with the network of a trained run.

    Any other value of the configuration can be set with -p, such as -p sensor_tables=mine.yaml or
    -p solve.state_steps=8.
    """
    from seaice_lab.emissivity.infer import InferConfig
    from seaice_lab.emissivity.jobs import ProductsConfig, run_inference

    values = {"trained": str(run), "data": str(data)}
    if sensors:
        values["sensors"] = [*sensors, *(more or [])]
    job_config = _configuration(InferConfig, config, parameter, values)
    _report(run_inference(job_config, output, ProductsConfig(tag=tag)))


def _report(estimate):
    """Print the fit of an estimated state and the paths of its files."""
    from seaice_lab.emissivity.evaluation import report

    print(report(estimate.model, estimate.departures.sel(stage="after"), estimate.history))
    print("wrote")
    for path in estimate.paths.values():
        print(f"  {path}")


@emissivity_app.command("export")
def emissivity_export(
    run: RunFolder,
    path: Annotated[Path, Argument(help="Coefficient file to write, such as model.nc.")],
):
    """Write the emissivity model only: a small NetCDF file, and one for torch.export."""
    from seaice_lab.emissivity.export import EmissivityModel
    from seaice_lab.emissivity.run import load

    model = EmissivityModel.from_state(*load(run))
    print(f"wrote {model.save(path)} and {model.export(path.with_suffix('.pt2'))}")


@runs_app.command("list")
def runs_list(folder: Annotated[Path, Argument(help="Folder of runs.")] = Path("runs")):
    """List the runs in a folder, oldest first, with their state."""
    from seaice_lab import runs

    rows = runs.list_runs(folder)
    if not rows:
        print(f"no runs in {folder}; make one with `seaice-lab pipeline` or `seaice-lab train`")
    for row in rows:
        print(f"{row.name:24s} {row.kind:12s} {row.state:12s} {row.created}")


def _configuration(model, path, pairs, start=None):
    """Configuration from the values ``start``, changed by a YAML file and by NAME=VALUE texts."""
    from seaice_lab.config import merge, parse_parameters, read_yaml, replace_values

    values = merge(start or {}, {} if path is None else read_yaml(path))
    values = replace_values(values, parse_parameters(pairs or []))
    return model.parse(values, path or "--parameter")


if __name__ == "__main__":
    main()
