"""State of new days with a trained network: concentration and properties, and how sure they are."""

from pathlib import Path

import torch

from seaice_lab import runs
from seaice_lab.emissivity.gauss_newton import (
    COLUMNS,
    PRIOR_CURVATURE,
    SolveConfig,
    check_model,
    solve,
)
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.normal_equations import FIRST_GUESS_ERROR, Problem, State
from seaice_lab.emissivity.observations import ObservationsConfig, prepare, read_sensor_tables
from seaice_lab.emissivity.sensors import read_tables
from seaice_lab.emissivity.train import check_zenith, load
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
    problem = Problem(model, *(torch.from_numpy(getattr(observations, name)) for name in COLUMNS),
                      model.points, config.property_error)  # fmt: skip
    state = State(model.cells("sea_ice").reshape(-1, model.points), model.cells("properties"),
                  model.cells("observation_properties"), problem.get_weights())  # fmt: skip
    normal = problem.normal(state, False)
    days, points = model.days, model.points
    whole = normal.curvature.double()
    side, inner = whole[:, 0, 1:], torch.linalg.inv(whole[:, 1:, 1:])
    of_ice = whole[:, 0, 0] - ((side[:, None] @ inner)[:, 0] * side).sum(1)
    of_ice = of_ice.clip(0).reshape(days, points)
    # curvature of all days of a point: tridiagonal, with the background that the solver holds
    hold = FIRST_GUESS_ERROR**-2.0 if config.hold_first_guess else PRIOR_CURVATURE
    own = torch.full((days + model.lags, points), hold, dtype=torch.float64)
    weights = model.lag_weights.double()
    for lag in range(model.lags + 1):
        own[model.lags - lag : model.lags - lag + days] += weights[lag] ** 2 * of_ice
    beside = weights[0] * weights[1] * of_ice if model.lags else None
    variance = _inverse_diagonal(own, beside)
    full = torch.linalg.inv(whole + 1e-6 * torch.eye(whole.shape[1]))
    spread = full.diagonal(dim1=1, dim2=2)[:, 1:].sqrt().reshape(days, points, -1)
    return variance.sqrt().float(), spread.float()


def _inverse_diagonal(diagonal, beside):
    """Diagonal of the inverse of symmetric tridiagonal matrices, (row, matrix)."""
    if beside is None:
        return 1 / diagonal
    rows = len(diagonal)
    forward, backward = diagonal.clone(), diagonal.clone()
    for row in range(1, rows):
        forward[row] -= beside[row - 1] ** 2 / forward[row - 1]
    for row in range(rows - 2, -1, -1):
        backward[row] -= beside[row] ** 2 / backward[row + 1]
    return 1 / (forward + backward - diagonal)
