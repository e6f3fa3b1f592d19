"""Training of the empirical state into a run folder: as published with Adam, or by the solver."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from seaice_lab import files, runs, torch_private
from seaice_lab.compute import Process, prefetch
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.gpu_adam import GpuAdam, check_memory, free_memory
from seaice_lab.emissivity.lazy_adam import LazyAdam
from seaice_lab.emissivity.observations import Batch, read_batch
from seaice_lab.emissivity.run import check, check_zenith, hold_out, initial_state, open_data
from seaice_lab.errors import InputError
from seaice_lab.training import TrainState, fit, validate
from seaice_lab.weights import contiguous, save_weights


def train(config, run, show=True, lazy=None):
    """Train into a run folder; a killed run continues after its last finished epoch.

    A finished run is not changed, and its history is returned.

    Parameters
    ----------
    config : EmissivityConfig
    run : str or Path
        Run folder; receives what :func:`seaice_lab.training.fit` writes, and ``observations/``.
    show : bool
        Show progress.
    lazy : bool, optional
        Train with lazy Adam on a CPU, or with dense Adam on the device. By default lazy without a
        GPU.

    Returns
    -------
    pandas.DataFrame
        History. Besides the terms of the cost of a batch, ``sea_ice`` and ``skin_temperature`` are
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
    run = Path(run).expanduser()
    if (run / "config.yaml").exists():
        runs.create(run, config, "emissivity")  # refuses another configuration before any work
        if (run / "finished").exists():
            return pd.read_csv(run / "history.csv")
    check(config)
    observations = open_data(config, run, show)
    check_zenith(config.model, observations)
    training_set, validation_set = hold_out(config, observations)
    model = initial_state(config, observations)
    lazy = process.device.type == "cpu" if lazy is None else lazy
    if lazy:
        process.device = torch.device("cpu")
    elif config.method == "adam":
        check_memory(free_memory(process.device), observations, model)
    runs.create(run, config, "emissivity", data=observations.fingerprint)
    if config.method == "gauss_newton":
        return solve_run(config, run, model, observations, show)

    optimiser = (LazyAdam if lazy else GpuAdam)(model.to(process.device), observations, config.fit)
    size = config.fit.batch_size
    steps_per_epoch = -(-len(training_set) // size)
    state = TrainState(model, config.fit, process, steps_per_epoch, optimiser)
    state.settings = config.model.model_dump(mode="json")

    def strengths():
        return penalty.strengths(config.model, state.epoch, model.size)

    def end_epoch():
        if lazy:
            optimiser.catch_up(strengths())
        costs = {name: float(value) for name, value in model.map_costs(state.epoch).items()}
        # batches as in training, because some terms of the cost depend on the size of a batch
        held_out = prefetch(read_batches(observations, validation_set, size, process.device))
        return costs | validate(lambda batch: total_cost(model, batch), held_out, process)

    with torch_private.no_denormals():
        return fit(
            lambda batch: optimiser.step(batch, strengths()),
            lambda epoch: optimiser.batches(*batch_order(config, training_set, epoch)),
            end_epoch,
            state,
            run,
            show,
        )


def solve_run(config, run, model, observations, show=True):
    """Minimise the cost by Gauss-Newton steps and write the run.

    Parameters
    ----------
    config : EmissivityConfig
    run : Path
    model : EmpiricalState
    observations : Observations
    show : bool
        Show progress.

    Returns
    -------
    pandas.DataFrame
        History of the solver.
    """
    with runs.heartbeat(run, "training"):
        history, _ = solve(model, observations, config.solve, show)
        history = pd.DataFrame(history)
        with files.replacing(run / "history.csv") as temporary:
            history.to_csv(temporary, index=False)
        settings = config.model.model_dump(mode="json")
        save_weights(run / "weights.safetensors", contiguous(model), settings)
        (run / "finished").touch()
    return history


def batch_order(config, training_set, epoch):
    """Order of observations in an epoch, which only seed and epoch decide.

    Parameters
    ----------
    config : EmissivityConfig
    training_set : ndarray of int
        Positions of observations.
    epoch : int

    Returns
    -------
    order : ndarray of int
        Positions of observations.
    firsts : ndarray of int
        Where the batches begin in ``order``.
    """
    rng = np.random.default_rng((config.fit.seed, epoch))
    order = rng.permutation(training_set) if config.order == "shuffled" else training_set
    firsts = np.arange(0, len(order), config.fit.batch_size)
    return order, rng.permutation(firsts) if config.order == "batches" else firsts


def total_cost(model, batch):
    """Costs of a batch and their sum, without a gradient.

    Parameters
    ----------
    model : EmpiricalState
    batch : Batch

    Returns
    -------
    dict of scalar Tensor
        ``loss`` is the sum.
    """
    costs = model(*model.map_values(batch), *batch[1:])
    return {"loss": sum(costs.values())} | costs


def read_batches(observations, positions, size, device="cpu"):
    """Read observations, a batch at a time.

    Parameters
    ----------
    observations : Observations
    positions : ndarray of int
        Positions of observations.
    size : int
        Observations in a batch; the last one may be smaller.
    device : torch.device or str

    Yields
    ------
    Batch
    """
    for first in range(0, len(positions), size):
        batch = read_batch(observations, positions[first : first + size])
        yield Batch(*(column.to(device) for column in batch))
