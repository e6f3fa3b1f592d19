"""The commands ``seaice-lab emissivity ...``; slow imports are inside the commands."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from seaice_lab.errors import InputError
from seaice_lab.options import ConfigFile, RunFolder, Settings, configuration, path

app = Typer(no_args_is_help=True, help="Sea ice and its emissivity from observations.")

OutputFolder = Annotated[Path, Option(parser=path, help="Run folder for all output.")]
MoreSensors = Annotated[list[str] | None, Argument(hidden=True)]
Tag = Annotated[str, Option(help="Ending of the output files' names.")]


@app.command("simulate")
def simulate(
    folder: Annotated[
        Path, Argument(parser=path, help="Folder to create, such as data/simulated.")
    ],
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Simulate observations of a known sea ice, in a published layout.

    `seaice-lab settings simulate` lists all settings.
    """
    job_config = configuration("emissivity simulate", config, parameter)
    from seaice_lab.emissivity.simulate import simulate

    print(f"wrote {simulate(job_config, folder)}")


@app.command("train")
def train(
    data: Annotated[
        Path, Option(parser=path, help="Folder of observations, or the file of a month.")
    ],
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

    The options are those of the published command. All settings, which `seaice-lab settings
    emissivity train` lists, can be set with -p, such as -p method=gauss_newton or -p bounded=true.
    """
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
    job_config = configuration("emissivity train", config, parameter, values)
    from seaice_lab.emissivity.jobs import run_diagnostics, run_training
    from seaice_lab.emissivity.settings import ProductsConfig

    product_config = ProductsConfig(tag=tag, simulations=not trainonly, grid=not trainonly)
    if diagsonly:
        _report(run_diagnostics(job_config, output, modeltag or tag, product_config))
    else:
        _report(run_training(job_config, output, product_config))


@app.command("infer")
def infer(
    run: RunFolder,
    data: Annotated[
        Path,
        Option(parser=path, help="Folder of observations of other days, or the file of one month."),
    ],
    output: OutputFolder,
    sensors: Annotated[list[str] | None, Option(help="Sensors; by default those of RUN.")] = None,
    more: MoreSensors = None,
    tag: Tag = "final",
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Estimate concentration and properties of new days with the network of a trained run.

    All settings, which `seaice-lab settings infer` lists, can be set with -p, such as -p
    sensor_tables=mine.yaml or -p state_steps=8.
    """
    values = {"trained": str(run), "data": str(data)}
    if sensors:
        values["sensors"] = [*sensors, *(more or [])]
    job_config = configuration("emissivity infer", config, parameter, values)
    from seaice_lab.emissivity.jobs import run_inference
    from seaice_lab.emissivity.settings import ProductsConfig

    _report(run_inference(job_config, output, ProductsConfig(tag=tag)))


def _report(estimate):
    """Print the fit of an estimated state and the paths of its files."""
    from seaice_lab.emissivity.evaluation import report

    print(report(estimate.model, estimate.departures.sel(stage="after"), estimate.history))
    print("wrote")
    for file in estimate.paths.values():
        print(f"  {file}")


@app.command("export")
def export(
    run: RunFolder,
    file: Annotated[
        Path | None,
        Argument(parser=path, help="NetCDF file of the network; a .pt2 file is written beside it."),
    ] = None,
    coefficients: Annotated[
        Path | None, Option(parser=path, help="Text file of the network for the Fortran module.")
    ] = None,
    table: Annotated[
        Path | None, Option(parser=path, help="NetCDF lookup table with Jacobians.")
    ] = None,
):
    """Write the emissivity model alone: for Python, for Fortran and C, or as a lookup table."""
    if not (file or coefficients or table):
        raise InputError(
            f"emissivity export {run}: no file is named; add the name of a file, --coefficients "
            "FILE or --table FILE"
        )
    from seaice_lab.emissivity import operational
    from seaice_lab.emissivity.export import EmissivityModel
    from seaice_lab.emissivity.run import load

    state, observations = load(run)
    model = EmissivityModel.from_state(state, observations)
    if file:
        print(f"wrote {model.save(file)} and {model.export(file.with_suffix('.pt2'))}")
    if coefficients:
        print(f"wrote {operational.write_coefficients(model, coefficients)}")
    if table:
        ranges = operational.property_ranges(state)
        print(f"wrote {operational.write_table(model, ranges, table)}")
