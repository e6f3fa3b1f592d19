"""State of new days with a trained network: concentration, properties and their uncertainty."""

from pathlib import Path

import numpy as np
import torch

from seaice_lab import runs
from seaice_lab.emissivity.gauss_newton import check_model, solve
from seaice_lab.emissivity.gauss_newton_step import PRIOR_CURVATURE, tridiagonal
from seaice_lab.emissivity.least_squares import build_problem, get_state
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.normal_equations import assemble
from seaice_lab.emissivity.observations import prepare, read_sensor_tables
from seaice_lab.emissivity.run import check_zenith, load
from seaice_lab.emissivity.sensors import read_tables
from seaice_lab.emissivity.settings import SolveConfig
from seaice_lab.errors import InputError


def begin_inference(config, run, show=True):
    """Prepare the run folder for the state of new days.

    Parameters
    ----------
    config : InferConfig
    run : str or Path
        Run folder. This function writes ``config.yaml``, ``provenance.json`` and
        ``observations/``.
    show : bool
        Show progress.

    Returns
    -------
    trained : EmpiricalState
        Of the trained run.
    initial : EmpiricalState
        First guess of the new days.
    observations : Observations

    Raises
    ------
    InputError
        If the run is unusable, the observations do not fit it, or the folder holds another run.
    """
    run = Path(run).expanduser()
    if (run / "config.yaml").exists():
        runs.create(run, config, "emissivity")
    trained, _ = load(config.trained)
    check_model(trained.config)
    tables = read_sensor_tables(Path(config.trained) / "observations") or {}
    for section, entries in (read_tables(config.sensor_tables) or {}).items():
        tables = tables | {section: tables.get(section, {}) | entries}
    sensors = config.sensors or trained.sensors
    complete = config.model_copy(update={"sensors": sensors, "sensor_tables": tables or None})
    keep = (run / "config.yaml").exists()
    observations = prepare(complete, run / "observations", trained.lags, keep, show)
    initial = transfer(trained, observations)
    runs.create(run, config, "emissivity", data=observations.fingerprint)
    return trained, initial, observations


def infer(trained, observations, config=None, show=True):
    """Estimate the state of observations that a model has never seen.

    Parameters
    ----------
    trained : EmpiricalState
        Gives the network and, for its channels and sensors, wind dependence and biases.
    observations : Observations
        With a linear network, of the same channels.
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
        If the solver does not support the model, a linear network was trained on other channels,
        or the zenith angle is missing that the network needs.
    """
    model, config = transfer(trained, observations), config or SolveConfig()
    solve(model, observations, config.model_copy(update={"network_steps": 0}), show)
    return model


@torch.no_grad()
def transfer(trained, observations):
    """The first guess of other observations, with the weights of a trained model.

    Parameters
    ----------
    trained : EmpiricalState
    observations : Observations

    Returns
    -------
    EmpiricalState
        Channels and sensors that ``trained`` lacks keep their first guess.

    Raises
    ------
    InputError
        If a linear network was trained on other channels, or the zenith angle is missing that the
        network needs.
    """
    instruments = observations.instruments
    if trained.config.network == "linear" and instruments.channels != trained.channels:
        raise InputError(
            f"infer: the network has the channels {', '.join(trained.channels)}, found "
            f"{', '.join(instruments.channels)}; use the sensors it was trained with, or train "
            "network frequency"
        )
    check_zenith(trained.config, observations)
    model = EmpiricalState(trained.config, observations).eval()
    model.network.load_state_dict(trained.network.state_dict())
    common = [name for name in instruments.channels if name in trained.channels]
    new = [instruments.channels.index(name) for name in common]
    old = [trained.channels.index(name) for name in common]
    model.wind_sensitivity[new] = trained.wind_sensitivity[old]
    for row, sensor in enumerate(instruments.sensors):
        if sensor in trained.sensors:
            model.bias_k[:, row, new] = trained.bias_k[:, trained.sensors.index(sensor), old]
    return model


@torch.no_grad()
def uncertainty(model, observations, config=None):
    """Standard deviations of concentration and properties, from the curvature of the cost.

    The covariance is the inverse of the curvature of half the cost, with the weights held. All
    other unknowns are free: the properties of the cell and of its observations, and the
    concentrations of the other days, which the mixture of days couples.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    config : SolveConfig, optional
        Its backgrounds of properties (``property_error``) and of the concentration
        (``hold_first_guess``) are included.

    Returns
    -------
    sea_ice : Tensor (lag + step, point)
        Where nothing was observed it is 0.15 or 0.07, the error of the first guess. Without
        ``hold_first_guess`` it is large there, and where only a mixture of days was observed.
    properties : Tensor (step, point, property)

    Raises
    ------
    InputError
        If the solver does not support the model.
    """
    check_model(model.config)
    problem = build_problem(model, observations, config or SolveConfig())
    normal = assemble(problem, get_state(model))
    days, points = model.days, model.points
    curvature = normal.curvature.double()
    # Concentration of a cell-day with its properties free: the Schur complement of their block.
    coupling, inverse = curvature[:, 0, 1:], torch.linalg.inv(curvature[:, 1:, 1:])
    of_ice = curvature[:, 0, 0] - ((coupling[:, None] @ inverse)[:, 0] * coupling).sum(1)
    of_ice = of_ice.clip(0).reshape(days, points)
    # The same with the other days free: the diagonal of the inverse of a tridiagonal matrix.
    prior = problem.prior_weight.clip(PRIOR_CURVATURE)
    variance = _inverse_diagonal(*tridiagonal(model.lag_weights.tolist(), of_ice, prior))
    # The small term keeps cells invertible whose observations determine nothing.
    identity = torch.eye(curvature.shape[1], dtype=torch.float64)
    covariance = torch.linalg.inv(curvature + 1e-6 * identity)
    properties = covariance.diagonal(dim1=1, dim2=2)[:, 1:].sqrt().reshape(days, points, -1)
    return variance.sqrt().float(), properties.float()


def observed_uncertainty(model, observations, config=None):
    """Standard deviations of the concentration where something was observed on that day.

    Parameters
    ----------
    model, observations, config
        As in :func:`uncertainty`.

    Returns
    -------
    ndarray (point, lag + step)
        NaN elsewhere, where the concentration comes from the first guess and from other days.
    """
    std = uncertainty(model, observations, config)[0].T.numpy()
    point, step, _ = np.asarray(observations.index).T
    is_observed = np.zeros(std.shape, bool)
    is_observed[point, step + model.lags] = True
    return np.where(is_observed, std, np.nan)


def _inverse_diagonal(diagonal, off_diagonal):
    """Diagonal of the inverse of symmetric tridiagonal matrices, (row, matrix).

    Each row is eliminated once from the first row down (pivot f) and once from the last row up
    (pivot b). With the diagonal entry d, the diagonal of the inverse is 1 / (f + b - d) (Meurant
    1992).
    """
    forward, backward = diagonal.clone(), diagonal.clone()
    for row in range(1, len(diagonal)):
        forward[row] -= off_diagonal[row - 1] ** 2 / forward[row - 1]
    for row in range(len(diagonal) - 2, -1, -1):
        backward[row] -= off_diagonal[row] ** 2 / backward[row + 1]
    return 1 / (forward + backward - diagonal)
