"""A run of emissivity training: its configuration, its observations and its trained state."""

from pathlib import Path

import numpy as np
import torch

from seaice_lab import runs
from seaice_lab.emissivity.gauss_newton import check_model
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.observations import open_observations, prepare
from seaice_lab.emissivity.settings import EmissivityConfig
from seaice_lab.errors import InputError
from seaice_lab.weights import load_weights

# Settings of ``fit`` that the optimisers of maps ignore, with the only value allowed.
FIXED_FIT_SETTINGS = dict(
    schedule="constant",
    weight_decay=0.0,
    averaging=0.0,
    max_gradient_norm=None,
    precision="float32",
)


def check(config):
    """Check that every setting of an EmissivityConfig has an effect.

    Raises
    ------
    InputError
        If observations are held out from the solver, the solver does not support the model, or a
        setting of ``fit`` would be ignored for the maps.
    """
    if config.method == "gauss_newton":
        check_model(config.model)
        if config.hold_out_share or config.hold_out_sensors or config.hold_out_days:
            raise InputError(
                "hold_out: method gauss_newton uses all observations; set method=adam, or leave "
                "sensors and days out of the data"
            )
        return
    fixed = FIXED_FIT_SETTINGS
    ignored = [name for name, value in fixed.items() if getattr(config.fit, name) != value]
    if ignored:
        raise InputError(
            f"fit: {', '.join(ignored)} would have no effect on the maps; "
            f"set {', '.join(f'{name}={fixed[name]}' for name in ignored)}, or leave these "
            "settings out"
        )


def open_data(config, run, show=True):
    """Observations of a configuration, prepared in the run folder.

    Parameters
    ----------
    config : EmissivityConfig
    run : str or Path
        If it holds a run, its observations are kept, and a different selection is refused.
    show : bool
        Show progress.

    Returns
    -------
    Observations
    """
    lags = len(config.model.lag_weights) - 1
    keep = (Path(run) / "config.yaml").exists()
    return prepare(config, Path(run) / "observations", lags, keep, show)


def initial_state(config, observations):
    """The state at which a training starts.

    Parameters
    ----------
    config : EmissivityConfig
    observations : Observations

    Returns
    -------
    EmpiricalState
        With the first guess and a random network, which the seed of ``fit`` determines.
    """
    torch.manual_seed(config.fit.seed)
    return EmpiricalState(config.model, observations).eval()


def hold_out(config, observations):
    """Split observations into those to train on and those to validate with.

    Parameters
    ----------
    config : EmissivityConfig
    observations : Observations

    Returns
    -------
    training, validation : ndarray of int
        Positions of observations, ascending.

    Raises
    ------
    InputError
        If a sensor or day is not in the observations, or nothing is left to train on.
    """
    held = np.random.default_rng(config.fit.seed).random(observations.size) < config.hold_out_share
    sensors, days = observations.instruments.sensors, range(len(observations.step_days))
    # by setting: the column of the index, its values, and their description
    columns = {
        "hold_out_sensors": (2, sensors, f"sensors {', '.join(sensors)}"),
        "hold_out_days": (1, days, f"days of the observations, 0 to {days[-1]}"),
    }
    for setting, (column, values, description) in columns.items():
        for value in getattr(config, setting):
            if value not in values:
                raise InputError(f"{setting}: {value} is not among the {description}")
            held |= observations.index[:, column] == values.index(value)
    if held.all():
        raise InputError("hold_out: no observation is left to train on; hold out fewer")
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_zenith(config, observations):
    """Check that all zenith angles are known if the network uses them.

    Parameters
    ----------
    config : ModelConfig
    observations : Observations

    Raises
    ------
    InputError
        If the zenith angle of an observation is missing.
    """
    if not (config.zenith_input or config.nadir):
        return
    sensors = observations.instruments.sensors
    unknown = np.unique(observations.index[np.isnan(observations.scalars[:, 4]), 2])
    if len(unknown):
        raise InputError(
            f"zenith: {', '.join(sensors[row] for row in unknown)} has observations without a "
            "zenith angle, which the network takes (zenith_input or nadir); add ZENITH to their "
            "files, or leave these sensors out"
        )


def load(run, observations=None):
    """Load the trained state of a run into memory.

    Parameters
    ----------
    run : str or Path
    observations : Observations, optional
        Those of the run, if already open.

    Returns
    -------
    state : EmpiricalState
        In evaluation mode.
    observations : Observations

    Raises
    ------
    InputError
        If the run is missing, broken, or another kind of run.
    """
    opened = runs.open_run(run, "emissivity")
    if "trained" in opened.config:
        raise InputError(
            f"{run}: holds the state of other days, not a model of its own; use the run that was "
            f"trained, {opened.config['trained']}"
        )
    config = EmissivityConfig.parse(opened.config, opened.path / "config.yaml")
    if observations is None:
        observations = open_observations(opened.path / "observations")
    state = EmpiricalState(config.model, observations)
    path = opened.path / "weights.safetensors"
    if not path.exists():
        raise InputError(f"{run}: has no trained weights yet; train the run first")
    weights = load_weights(path, config.model.model_dump(mode="json"))
    try:
        state.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: does not hold the state of config.yaml and of the observations of this run "
            f"({reason}); restore these files or train again"
        ) from None
    return state.eval(), observations
