"""A run of emissivity training: its configuration, its observations and its trained state."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file

from seaice_lab import runs
from seaice_lab.config import FitConfig
from seaice_lab.emissivity.gauss_newton import SolveConfig, check_model
from seaice_lab.emissivity.model import MAPS, EmpiricalState, ModelConfig
from seaice_lab.emissivity.observations import ObservationsConfig, open_observations, prepare
from seaice_lab.errors import InputError

# The published settings of ``fit``, and the number of epochs by version.
PUBLISHED_FIT = dict(batch_size=1024, learning_rate=1e-3, weight_decay=0.0, schedule="constant")
PUBLISHED_EPOCHS = {1: 8, 2: 25}
# Settings of ``fit`` that the optimisers of maps ignore, with the only value allowed.
FIXED_FIT_SETTINGS = dict(
    schedule="constant",
    weight_decay=0.0,
    averaging=0.0,
    max_gradient_norm=None,
    precision="float32",
)


class EmissivityConfig(ObservationsConfig):
    """What to train on, what to train, and how; defaults as published for ``model.version``.

    ``method`` "adam" trains as published; "gauss_newton" minimises the same cost in far less time
    (:mod:`~seaice_lab.emissivity.gauss_newton`) and uses ``solve`` instead of ``order`` and
    ``fit``. ``order`` of the observations is "shuffled" (version 1), "batches" (version 2: batches
    of successive observations, in random order) or "file". Three settings keep observations out of
    a training with Adam and validate with them: ``hold_out_share``, a share chosen at random;
    ``hold_out_sensors``, all of these sensors; ``hold_out_days``, all of these days (steps from 0;
    the maps of such a day keep their first guess, except that observations of the next day depend
    on its concentration). A GPU must hold all observations and maps. Schedules, decay, averages,
    limits of the gradient and bfloat16 in ``fit`` are refused, because the maps ignore them.
    """

    model: ModelConfig
    method: Literal["adam", "gauss_newton"] = "adam"
    solve: SolveConfig = SolveConfig()
    order: Literal["shuffled", "batches", "file"]
    hold_out_share: float = Field(0.0, ge=0, lt=1)
    hold_out_sensors: tuple[str, ...] = ()
    hold_out_days: tuple[int, ...] = ()
    fit: FitConfig

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values):
        if not isinstance(values, dict):
            return values  # pydantic refuses it
        values = {"model": {}} | values
        model, fit = values["model"], values.get("fit") or {}
        if not isinstance(model, dict | ModelConfig):
            return values
        version = model.version if isinstance(model, ModelConfig) else model.get("version", 1)
        if isinstance(fit, dict):
            values["fit"] = PUBLISHED_FIT | {"epochs": PUBLISHED_EPOCHS.get(version, 8)} | fit
        return {"order": "shuffled" if version == 1 else "batches"} | values


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
    opened = runs.open_run(run)
    if opened.provenance["kind"] != "emissivity":
        raise InputError(
            f"{run}: is a {opened.provenance['kind']} run, not an emissivity run; choose one that "
            "`seaice-lab emissivity train` made"
        )
    if "trained" in opened.config:
        raise InputError(
            f"{run}: holds the state of other days, not a model of its own; use the run that was "
            f"trained, {opened.config['trained']}"
        )
    config = EmissivityConfig.parse(opened.config, Path(run) / "config.yaml")
    if observations is None:
        observations = open_observations(Path(run) / "observations")
    state = EmpiricalState(config.model, observations)
    try:
        weights = load_file(Path(run) / "weights.safetensors")
    except OSError as error:
        raise InputError(f"{run}: no trained weights ({error}); train the run first") from None
    for name in MAPS:
        # older runs kept the values and the moments of a cell in one table
        table = weights.pop(f"{name}.state", None)
        if table is not None:
            weights[name] = table[:, : getattr(state, name).shape[1]]
    state.load_state_dict(weights)
    return state.eval(), observations
