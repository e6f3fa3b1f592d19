"""The commands ``seaice-lab assimilate ...``; slow imports are inside the commands."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from seaice_lab.errors import InputError
from seaice_lab.options import ConfigFile, OtherStore, RunFolder, Settings, configuration, path

app = Typer(no_args_is_help=True, help="Data assimilation (4D-Var) with a trained surrogate.")


@app.command("observations")
def observations(
    files: Annotated[
        list[Path], Argument(parser=path, help="Files of satellite products or tables.")
    ],
    out: Annotated[Path, Option(parser=path, help="Table to write, such as table.nc.")],
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Read files of observations into one table, and reject, thin or combine observations.

    Products are recognised by their content: CS2SMOS, CryoSat-2, ICESat-2, OSI SAF, AMSR2, results
    of `seaice-lab emissivity infer`, and tables. `seaice-lab settings observations` lists all
    settings.
    """
    job_config = configuration("assimilate observations", config, parameter)
    from seaice_lab.assimilation.observations import counts, write_table
    from seaice_lab.assimilation.quality_control import prepare_table

    table = prepare_table(files, job_config)
    write_table(table, out)
    for reason, number in counts(table).items():
        print(f"{number:8d} {reason.replace('_', ' ')}")
    print(f"wrote {out}")


@app.command("run")
def run(
    folder: Annotated[
        Path, Argument(parser=path, help="Folder to create or to continue, such as runs/cycle.")
    ],
    config: ConfigFile = None,
    parameter: Settings = None,
):
    """Assimilate observations in successive windows, and forecast from each analysis.

    `seaice-lab settings assimilate run` lists all settings. After an interruption, the same command
    continues with the same result. `seaice-lab evaluate FOLDER` scores the forecasts.
    """
    job_config = configuration("assimilate run", config, parameter)
    from seaice_lab import runs

    runs.open_run(job_config.run, "surrogate")  # refuses a wrong run before torch is imported
    from seaice_lab.assimilation.cycle import run_cycle
    from seaice_lab.diagnostics.departures import report

    print(report(run_cycle(job_config, folder)))
    print(f"wrote {folder}/diagnostics.nc, window_*.nc and departures_*.nc")


@app.command("check")
def check(
    run: RunFolder,
    start: Annotated[
        str | None, Option(help="Time of the state; default: the first of the test split.")
    ] = None,
    steps: Annotated[int, Option(min=1, help="Steps of the surrogate in the window.")] = 2,
    store: OtherStore = None,
):
    """Test tangent, adjoint and gradient of a trained network, in double precision.

    Dot products of tangent and adjoint must agree to 1e-12, and errors of the linearisation must
    fall with the square of the perturbation. It takes a minute or two on a grid of 128 x 128.
    """
    from seaice_lab.surrogate.settings import ForecastConfig

    # Without --start, this large distance between starts keeps only the first one.
    values = {"starts": [start]} if start else {"every": 10**9}
    values |= {"steps": steps, "store": None if store is None else str(store)}
    config = ForecastConfig.parse(values, "assimilate check")
    from seaice_lab.assimilation.checks import check_run

    failed = []
    for result in check_run(run, config):
        expected = f"{result.low:g} to {result.high:g}"
        verdict = "passed" if result.passed else "failed"
        print(f"{result.name:48s} {result.value:10.3g}   expected {expected:14s} {verdict}")
        failed += [] if result.passed else [result.name]
    if failed:
        raise InputError(
            f"{run}: failed: {', '.join(failed)}; try another --start, and if it fails again do "
            "not use this network for 4D-Var"
        )
