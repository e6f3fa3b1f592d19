"""Training of the empirical state as published: Adam on batches, through the common loop."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, model_validator
from safetensors.torch import load_file, save

from seaice_lab import files, runs, torch_private
from seaice_lab.compute import Process, prefetch
from seaice_lab.emissivity.gauss_newton import SolveConfig, check_model, solve
from seaice_lab.emissivity.gpu_adam import TOGETHER, Resident, ResidentAdam, check_memory, grouped
from seaice_lab.emissivity.gradients import differentiate, one_vector
from seaice_lab.emissivity.lazy_adam import Clock, ReplayedAdam
from seaice_lab.emissivity.model import COST_TERMS, MAPS, EmpiricalState, ModelConfig
from seaice_lab.emissivity.observations import (
    Batch,
    ObservationsConfig,
    open_observations,
    prepare,
    read_batch,
)
from seaice_lab.errors import InputError
from seaice_lab.training import FitConfig, TrainState, fit, validate

ADAM = {"batch_size": 1024, "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
EPOCHS = {1: 8, 2: 25}
# Settings of ``fit`` that maps do not hear of, at what they do all the time.
UNHEARD = {"schedule": "constant", "weight_decay": 0.0, "averaging": 0.0,
           "max_gradient_norm": None}  # fmt: skip
READ_AT_ONCE = 8  # batches


class EmissivityConfig(ObservationsConfig):
    """What to train on, what to train, and how; defaults as published for ``model.version``.

    ``method`` "adam" trains as published; "gauss_newton" minimises the same cost in far less
    time (:mod:`~seaice_lab.emissivity.gauss_newton`) and uses ``solve`` in place of ``order``
    and ``fit``.
    ``order`` is "shuffled" (version 1: single observations), "batches" (version 2: batches of
    successive observations, in random order) or "file". ``hold_out_share`` of the observations,
    chosen at random, all those of ``hold_out_sensors`` and all those of the days ``hold_out_days``
    (steps from 0; their maps keep what they began with, but for what the next day's observations
    say of the day before) are kept out of the training with Adam and validate it. A GPU must hold
    all observations and maps; of ``fit``, schedules, decay, averages and limits of the gradient are
    refused, because the maps would not hear of them.
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
        values = {"model": {}} | values
        model, fit = values["model"], values.get("fit") or {}
        version = model.version if isinstance(model, ModelConfig) else model.get("version", 1)
        if not isinstance(fit, FitConfig):
            values["fit"] = ADAM | {"epochs": EPOCHS.get(version, 8)} | fit
        return {"order": "shuffled" if version == 1 else "batches"} | values


def open_data(config, run, show=True):
    """Observations of a configuration, prepared in the run folder; those of a run stay."""
    lags = len(config.model.lag_weights) - 1
    keep = (Path(run) / "config.yaml").exists()
    return prepare(config, Path(run) / "observations", lags, keep, show)


def train(config, run, show=True):
    """Train into a run folder; a killed run goes on at its last finished epoch.

    A finished run stays as it is, and its history is returned.

    Parameters
    ----------
    config : EmissivityConfig
    run : str or Path
        Run folder; receives what :func:`seaice_lab.training.fit` writes, and ``observations/``.
    show : bool
        Show progress.

    Returns
    -------
    pandas.DataFrame
        History; beside the terms of the cost of a batch, ``sea_ice`` and ``skin_temperature`` are
        those of the maps at the end of each epoch.

    Raises
    ------
    InputError
        If the observations are unusable, the run folder holds another run, or the loss diverges.
    """
    process = Process()
    if process.world > 1:
        raise InputError(
            "emissivity: the maps of one run live in one process; start without torchrun"
        )
    run = Path(run)
    if (run / "config.yaml").exists():
        runs.create(run, config, "emissivity")  # another configuration is refused at once
        if (run / "finished").exists():
            return pd.read_csv(run / "history.csv")
    check(config)
    observations = open_data(config, run, show)
    check_zenith(config.model, observations)
    train_at, held_at = hold_out(config, observations)
    torch.manual_seed(config.fit.seed)
    replayed = replays(config, process.device)
    state = EmpiricalState(config.model, observations, replayed)
    if not replayed:
        check_memory(process.device, observations, state)
    runs.create(run, config, "emissivity", data=observations.fingerprint)
    batch = config.fit.batch_size
    steps = -(-len(train_at) // batch)
    if config.method == "gauss_newton":
        history = pd.DataFrame(solve(state, observations, config.solve, show))
        with files.replacing(run / "history.csv") as temporary:
            history.to_csv(temporary, index=False)
        with files.replacing(run / "weights.safetensors") as temporary:
            temporary.write_bytes(save(state.state_dict()))
        (run / "finished").touch()
        return history
    state.to(process.device)
    way = replaying if replayed else residing
    vector = one_vector(state)
    differentiated = differentiate(state, vector, config.fit.compile, batch)
    optimiser, batches, step, loss = way(config, state, observations, vector, differentiated)
    training = TrainState(state, config.fit, process, steps, optimiser)

    def of_epoch(epoch):
        state.epoch = epoch
        order = train_at
        rng = np.random.default_rng((config.fit.seed, epoch))
        if config.order == "shuffled":
            order = rng.permutation(train_at)
        firsts = np.arange(0, len(order), batch)
        if config.order == "batches":
            firsts = rng.permutation(firsts)
        return batches(order, firsts)

    def end_epoch():
        for part in state.replayed_maps():
            part.catch_up_all(state.clock)
        costs = {name: float(value) for name, value in state.map_costs().items()}
        held_out = batches(held_at, range(0, len(held_at), batch))
        return costs | validate(loss, held_out, process)

    with torch_private.no_denormals():
        return fit(step, of_epoch, end_epoch, training, config.fit, run, show)


def replays(config, device):
    """Whether maps wait until they are read: on the processor. A GPU moves every cell."""
    return device.type == "cpu" or config.method == "gauss_newton"


def replaying(config, state, observations, vector, differentiated):
    """How to train maps that wait: the optimiser, what makes batches, and the loss for the fit."""
    size = config.fit.batch_size
    state.clock = Clock(config.fit.learning_rate)

    def batches(order, firsts):
        return read_batches(observations, state, order, firsts, size)

    optimiser = ReplayedAdam(vector, state.replayed_maps(), state.clock)

    def step(batch):
        batch, rows = Batch(*batch[:4]), batch[4:]
        total, parts, gradients = differentiated(*state.look_up(batch, rows), *batch[1:])
        state.lead_back(gradients)
        optimiser.step()
        return {"loss": total, **parts, "gradient_norm": torch.linalg.vector_norm(vector.grad)}

    def loss(batch):
        batch, rows = Batch(*batch[:4]), batch[4:]
        parts = state(*state.look_up(batch, rows), *batch[1:])
        return {"loss": sum(parts.values())} | parts

    return optimiser, batches, step, loss


def residing(config, state, observations, vector, differentiated):
    """The same of maps that live on a GPU; a batch of the fit is a group of batches there."""
    size = config.fit.batch_size
    resident = Resident(state, vector, differentiated, observations)
    optimiser = ResidentAdam(resident, config.fit.learning_rate, size, config.fit.compile)

    def batches(order, firsts):
        # a batch that only validates costs what it costs on a processor: by itself
        together = TOGETHER if state.training else 1
        return grouped(torch.from_numpy(order).to(vector.device), firsts, size, together)

    def step(batch):
        costs = optimiser.several(*batch)
        losses = dict(zip(("loss", *COST_TERMS), costs, strict=True))
        return losses | {"gradient_norm": torch.linalg.vector_norm(vector.grad)}

    def loss(batch):
        batch = resident.batch(*batch)
        parts = state(*state.look_up(batch), *batch[1:])
        return {"loss": sum(parts.values())} | parts

    return optimiser, batches, step, loss


def check(config):
    """Refuse settings of an EmissivityConfig that would not have the effect of their name."""
    if config.method == "gauss_newton":
        check_model(config.model)
        if config.hold_out_share or config.hold_out_sensors or config.hold_out_days:
            raise InputError(
                "hold_out: the solver takes all observations; train with method adam, or leave "
                "sensors and days out of the data"
            )
        return
    unheard = [name for name, value in UNHEARD.items() if getattr(config.fit, name) != value]
    if unheard:
        raise InputError(
            f"fit: {', '.join(unheard)} would reach the network and the biases, but not the maps; "
            f"leave out what differs from {', '.join(f'{n}={UNHEARD[n]}' for n in unheard)}"
        )


def check_zenith(config, observations):
    """Refuse observations of unknown zenith angle, where the network of a ModelConfig takes it."""
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


def fresh(config, observations):
    """The state that a training starts from."""
    torch.manual_seed(config.fit.seed)
    return EmpiricalState(config.model, observations).eval()


def load(run, observations=None):
    """The trained state of a run, in memory.

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
    for name in MAPS:  # of a processor or of a GPU: only the values count
        part, found = getattr(state, name), {name, f"{name}.state"} & set(weights)
        if not found:
            continue
        values, kept = weights.pop(found.pop()), part.state.clone()
        kept[:, : part.width] = values[:, : part.width]
        weights[f"{name}.state"] = kept
    state.load_state_dict(weights)
    return state.eval(), observations


def hold_out(config, observations):
    """Observations to train on and to validate with, two ndarrays of positions."""
    held = np.random.default_rng(config.fit.seed).random(observations.size) < config.hold_out_share
    sensors = observations.instruments.sensors
    for name in config.hold_out_sensors:
        if name not in sensors:
            raise InputError(
                f"hold_out_sensors: {name} is not among the sensors {', '.join(sensors)}"
            )
        held |= observations.index[:, 2] == sensors.index(name)
    days = len(observations.step_days)
    for day in config.hold_out_days:
        if not 0 <= day < days:
            raise InputError(
                f"hold_out_days: {day} is not among the days of the observations, 0 to {days - 1}"
            )
        held |= observations.index[:, 1] == day
    if held.all():
        raise InputError("hold_out: no observation is left to train on; hold out fewer")
    return np.flatnonzero(~held), np.flatnonzero(held)


def read_batches(observations, state, order, firsts, size):
    """Batches for training: a Batch and its rows of the maps, READ_AT_ONCE of them at a time.

    Parameters
    ----------
    observations : Observations
    state : EmpiricalState
    order : ndarray of int
        Positions of observations.
    firsts : sequence of int
        Where the batches begin in ``order``.
    size : int
    """

    def together(at):
        parts = [order[first : first + size] for first in firsts[at : at + READ_AT_ONCE]]
        several = read_batch(observations, np.concatenate(parts))
        lengths = [len(part) for part in parts]
        columns = [column.split(lengths) for column in (*several, *state.rows(several.index))]
        return list(zip(*columns, strict=True))

    for batches in prefetch(map(together, range(0, len(firsts), READ_AT_ONCE)), 1):
        yield from batches
