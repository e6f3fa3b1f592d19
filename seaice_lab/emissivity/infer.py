"""State of new days with a trained network: concentration and properties, and how sure they are."""

from pathlib import Path

import torch

from seaice_lab import runs
from seaice_lab.emissivity.gauss_newton import SolveConfig, check_model, solve
from seaice_lab.emissivity.gauss_newton_step import PRIOR_CURVATURE, tridiagonal
from seaice_lab.emissivity.least_squares import FIRST_GUESS_ERROR, build_problem, get_state
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.normal_equations import normal_equations
from seaice_lab.emissivity.observations import ObservationsConfig, prepare, read_sensor_tables
from seaice_lab.emissivity.run import check_zenith, load
from seaice_lab.emissivity.sensors import read_tables
from seaice_lab.errors import InputError


class InferConfig(ObservationsConfig):
    """Which trained run to use, and on what.

    ``sensors`` are those of the run ``trained`` where none are named; it also brings its own sensor
    tables, to which ``sensor_tables`` adds. ``step_start``, ``steps`` and ``solve`` are as in
    EmissivityConfig.
    """

    trained: str
    sensors: tuple[str, ...] | None = None
    solve: SolveConfig = SolveConfig()


def infer_run(config, run, show=True):
    """Estimate the state of new days into a run folder, which is listed like a trained one.

    Parameters
    ----------
    config : InferConfig
    run : str or Path
        Run folder; receives ``config.yaml``, ``provenance.json`` and ``observations/``.
    show : bool
        Show progress.

    Returns
    -------
    model, initial : EmpiricalState
        With the state of the new days, and with their first guess.
    observations : Observations

    Raises
    ------
    InputError
        If the run is unusable, the observations do not fit it, or the folder holds another run.
    """
    run = Path(run)
    if (run / "config.yaml").exists():
        runs.create(run, config, "emissivity")
    trained, _ = load(config.trained)
    check_model(trained.config, "infer")
    tables = read_sensor_tables(Path(config.trained) / "observations") or {}
    for part, entries in (read_tables(config.sensor_tables) or {}).items():
        tables = tables | {part: tables.get(part, {}) | entries}
    sensors = config.sensors or trained.sensors
    wanted = config.model_copy(update={"sensors": sensors, "sensor_tables": tables or None})
    keep = (run / "config.yaml").exists()
    observations = prepare(wanted, run / "observations", trained.lags, keep, show)
    initial = transfer(trained, observations)
    runs.create(run, config, "emissivity", data=observations.fingerprint)
    model = infer(trained, observations, config.solve, show)
    return model, initial, observations


def infer(trained, observations, config=None, show=True):
    """Estimate the state of observations that a model has never seen.

    Parameters
    ----------
    trained : EmpiricalState
        Gives network, wind dependence and, for sensors it knows, biases.
    observations : Observations
        Of the same channels.
    config : SolveConfig, optional
    show : bool
        Show progress.

    Returns
    -------
    EmpiricalState
        With the network of ``trained`` and the state of the new days.

    Raises
    ------
    InputError
        If the solver does not know the model, or the channels are others than those of a linear
        network.
    """
    check_model(trained.config, "infer")
    model, config = transfer(trained, observations), config or SolveConfig()
    solve(model, observations, config.model_copy(update={"network_steps": 0}), show)
    return model


def transfer(trained, observations):
    """The first guess of other observations, with the network and biases of a trained model."""
    seen_by = observations.instruments
    if trained.config.network == "linear" and seen_by.channels != trained.channels:
        raise InputError(
            f"infer: the network knows the channels {', '.join(trained.channels)}, found "
            f"{', '.join(seen_by.channels)}; use the sensors it was trained with, or train network "
            "frequency"
        )
    check_zenith(trained.config, observations)
    model = EmpiricalState(trained.config, observations).eval()
    model.network.load_state_dict(trained.network.state_dict())
    with torch.no_grad():
        for place, name in enumerate(seen_by.channels):
            if name in trained.channels:
                at = trained.channels.index(name)
                model.wind_sensitivity[place] = trained.wind_sensitivity[at]
                for row, sensor in enumerate(seen_by.sensors):
                    if sensor in trained.sensors:
                        known = trained.bias_k[:, trained.sensors.index(sensor), at]
                        model.bias_k[:, row, place] = known
    return model


@torch.no_grad()
def uncertainty(model, observations, config=None):
    """Standard deviations of concentration and properties, from the curvature of the cost.

    The network is taken as known. In a cell-day the concentration at the observation and the
    properties are estimated together; concentrations of successive days are tied by their mixture,
    and the standard deviation of each is that with the days beside it free too.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    config : SolveConfig, optional
        Its ``property_error`` and ``hold_first_guess`` are the backgrounds that are counted.

    Returns
    -------
    sea_ice : Tensor (lag + step, point)
        0.15, the error of the first guess, where nothing was observed; without
        ``hold_first_guess`` wide also where days are known by their mixture alone.
    properties : Tensor (step, point, property)

    Raises
    ------
    InputError
        If the solver does not know the model.
    """
    check_model(model.config, "uncertainty")
    config = config or SolveConfig()
    problem = build_problem(model, observations, config.property_error, False)
    normal = normal_equations(problem, get_state(model))
    days, points = model.days, model.points
    curvature = normal.curvature.double()
    # Concentration of a cell-day with its properties free: the Schur complement of their block.
    coupling, inverse = curvature[:, 0, 1:], torch.linalg.inv(curvature[:, 1:, 1:])
    of_ice = curvature[:, 0, 0] - ((coupling[:, None] @ inverse)[:, 0] * coupling).sum(1)
    of_ice = of_ice.clip(0).reshape(days, points)
    # The same with the other days free: the diagonal of the inverse of a tridiagonal matrix.
    prior = 1 / FIRST_GUESS_ERROR**2 if config.hold_first_guess else PRIOR_CURVATURE
    variance = _inverse_diagonal(*tridiagonal(model.lag_weights.tolist(), of_ice, prior))
    identity = torch.eye(curvature.shape[1], dtype=torch.float64)
    covariance = torch.linalg.inv(curvature + 1e-6 * identity)
    properties = covariance.diagonal(dim1=1, dim2=2)[:, 1:].sqrt().reshape(days, points, -1)
    return variance.sqrt().float(), properties.float()


def _inverse_diagonal(diagonal, off_diagonal):
    """Diagonal of the inverse of symmetric tridiagonal matrices, (row, matrix).

    Elimination from the first row down and from the last row up; what both leave of a row, less its
    own entry, is the reciprocal (Meurant 1992).
    """
    forward, backward = diagonal.clone(), diagonal.clone()
    for row in range(1, len(diagonal)):
        forward[row] -= off_diagonal[row - 1] ** 2 / forward[row - 1]
    for row in range(len(diagonal) - 2, -1, -1):
        backward[row] -= off_diagonal[row] ** 2 / backward[row + 1]
    return 1 / (forward + backward - diagonal)
