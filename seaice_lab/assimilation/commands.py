"""The commands ``seaice-lab assimilate ...``; slow imports are inside the commands."""

from typing import Annotated

from typer import Option, Typer

from seaice_lab.errors import InputError
from seaice_lab.options import OtherStore, RunFolder

app = Typer(no_args_is_help=True, help="Data assimilation (4D-Var) with a trained surrogate.")


@app.callback()
def assimilate():
    """Data assimilation (4D-Var) with a trained surrogate."""


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

    results = check_run(run, config)
    for result in results:
        expected = f"{result.low:g} to {result.high:g}"
        verdict = "passed" if result.passed else "failed"
        print(f"{result.name:48s} {result.value:10.3g}   expected {expected:14s} {verdict}")
    failed = [result.name for result in results if not result.passed]
    if failed:
        raise InputError(
            f"{run}: failed: {', '.join(failed)}; try another --start, and if it fails again do "
            "not use this network for 4D-Var"
        )
