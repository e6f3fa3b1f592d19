"""State of new days with a trained network: concentration, properties and their uncertainty."""

from pathlib import Path

import numpy as np
import torch

from seaice_lab import runs
from seaice_lab.emissivity import evaluation
from seaice_lab.emissivity.error_estimates import with_errors
from seaice_lab.emissivity.gauss_newton import check_model, estimate_errors, solve
from seaice_lab.emissivity.least_squares import build_problem, get_state
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.normal_equations import assemble
from seaice_lab.emissivity.observations import prepare, read_sensor_tables
from seaice_lab.emissivity.posterior import (
    concentration_variance,
    eliminate_properties,
    truncated_deviation,
)
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
    model : EmpiricalState
        With the network of ``trained`` and the state of the new days.
    errors : Errors or None
        Error statistics of the first guess and the properties, for :func:`uncertainty`.

    Raises
    ------
    InputError
        If the solver does not support the model, a linear network was trained on other channels,
        or the zenith angle is missing that the network needs.
    """
    model, config = transfer(trained, observations), config or SolveConfig()
    config = config.model_copy(update={"network_steps": 0})
    return model, solve(model, observations, config, show)[1]


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
def uncertainty(model, observations, config=None, errors=None):
    """Posterior standard deviations of concentration and properties.

    The curvature of the cost gives the response of a concentration to errors of the observations
    and backgrounds, with fixed network weights and free properties and other days. The error
    variances of the observations are scaled to the departures from the solution, and those of the
    first guess are estimated from the observations. Bounded concentrations have the standard
    deviation of a normal distribution that is truncated at 0 and 1.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    config : SolveConfig, optional
        Its backgrounds of properties (``property_error``) and of the concentration
        (``hold_first_guess``) are included.
    errors : Errors, optional
        From :func:`infer`, or the second result of
        :func:`~seaice_lab.emissivity.gauss_newton.solve`; by default they are estimated again, and
        the spread of the properties as well.

    Returns
    -------
    sea_ice : Tensor (lag + step, point)
        Where nothing was observed it is the error of the first guess. Without
        ``hold_first_guess`` it is large there, and where only a mixture of days was observed.
    properties : Tensor (step, point, property)

    Raises
    ------
    InputError
        If the solver does not support the model.
    """
    check_model(model.config)
    config, state = config or SolveConfig(), get_state(model)
    problem = build_problem(model, observations, config)
    problem = with_errors(problem, errors or estimate_errors(problem, state, config))
    # With memory, the equations of a cell would treat the properties of other days as exact. The
    # change of the integral over the properties with the concentration is neglected.
    problem = problem._replace(property_memory=0.0, integrates_properties=False)
    table = evaluation.departures(model, observations)
    noise = float((table.cost * table["count"]).sum() / table["count"].sum())
    normal = assemble(problem, state)
    variance = concentration_variance(problem, eliminate_properties(problem, normal), noise)
    sea_ice = variance.sqrt()
    if problem.strengths.bounded:
        sea_ice = truncated_deviation(state.sea_ice.double(), sea_ice)
    # The small term keeps cells invertible whose observations determine nothing.
    curvature = normal.curvature.double()
    identity = torch.eye(curvature.shape[1], dtype=torch.float64)
    covariance = torch.linalg.inv(curvature + 1e-6 * identity)
    properties = covariance.diagonal(dim1=1, dim2=2)[:, 1:].sqrt()
    return sea_ice.float(), properties.reshape(model.days, model.points, -1).float()


def observed_uncertainty(model, observations, config=None, errors=None):
    """Standard deviations of the concentration where something was observed on that day.

    Parameters
    ----------
    model, observations, config, errors
        As in :func:`uncertainty`.

    Returns
    -------
    ndarray (point, lag + step)
        NaN elsewhere, where the concentration comes from the first guess and from other days.
    """
    std = uncertainty(model, observations, config, errors)[0].T.numpy()
    point, step, _ = np.asarray(observations.index).T
    is_observed = np.zeros(std.shape, bool)
    is_observed[point, step + model.lags] = True
    return np.where(is_observed, std, np.nan)
