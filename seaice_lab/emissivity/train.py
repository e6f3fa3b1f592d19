"""Training of the empirical state into a run folder: as published with Adam, or by the solver."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from seaice_lab import files, runs, torch_private
from seaice_lab.compute import Process, prefetch
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.gpu_adam import GpuAdam, check_memory, free_memory, group_batches
from seaice_lab.emissivity.gradients import cost_with_gradient, pack_parameters
from seaice_lab.emissivity.lazy_adam import LazyAdam
from seaice_lab.emissivity.observations import Batch, read_batch
from seaice_lab.emissivity.run import check, check_zenith, hold_out, initial_state, open_data
from seaice_lab.errors import InputError
from seaice_lab.training import TrainState, fit, validate

BATCHES_PER_READ = 8


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
    run = Path(run)
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

    size = config.fit.batch_size
    setup = lazy_cpu_training if lazy else gpu_training
    optimiser, train_batches, validation_batches, step, loss = setup(
        config.fit, model.to(process.device), observations
    )
    steps_per_epoch = -(-len(training_set) // size)
    state = TrainState(model, config.fit, process, steps_per_epoch, optimiser)

    def strengths():
        return penalty.strengths(config.model, state.epoch, model.size)

    def end_epoch():
        if lazy:
            optimiser.catch_up(strengths())
        costs = {name: float(value) for name, value in model.map_costs(state.epoch).items()}
        held_out = validation_batches(validation_set, range(0, len(validation_set), size))
        return costs | validate(loss, held_out, process)

    with torch_private.no_denormals():
        return fit(
            lambda batch: step(batch, strengths()),
            lambda epoch: train_batches(*batch_order(config, training_set, epoch)),
            end_epoch,
            state,
            config.fit,
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
    history = pd.DataFrame(solve(model, observations, config.solve, show))
    with files.replacing(run / "history.csv") as temporary:
        history.to_csv(temporary, index=False)
    with files.replacing(run / "weights.safetensors") as temporary:
        temporary.write_bytes(save(model.state_dict()))
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


class Setup(NamedTuple):
    """How a device trains.

    Attributes
    ----------
    optimiser : LazyAdam or GpuAdam
    train_batches, validation_batches : callable
        Take what :func:`batch_order` gives, and yield batches.
    step : callable
        ``step(batch, strengths)`` as :func:`seaice_lab.training.fit` expects it, with the Strengths
        of the penalty.
    loss : callable
        ``loss(batch)`` as :func:`seaice_lab.training.validate` expects it.
    """

    optimiser: LazyAdam | GpuAdam
    train_batches: Callable
    validation_batches: Callable
    step: Callable
    loss: Callable


def lazy_cpu_training(config, model, observations):
    """Train on a CPU with lazy Adam.

    Parameters
    ----------
    config : FitConfig
    model : EmpiricalState
    observations : Observations

    Returns
    -------
    Setup
    """
    vector = pack_parameters(model)
    evaluate = cost_with_gradient(model, vector, config.compile, config.batch_size)
    optimiser = LazyAdam(model, vector, config.learning_rate)

    def batches(order, firsts):
        return read_batches(model, observations, order, firsts, config.batch_size)

    def step(batch, strengths):
        batch, rows = Batch(*batch[:4]), batch[4:]
        days, properties, readings = optimiser.read(batch, rows, strengths)
        costs, gradients = evaluate(days, properties, *batch[1:])
        optimiser.take_step(gradients, readings, strengths)
        return costs | {"gradient_norm": torch.linalg.vector_norm(gradients[0])}

    def loss(batch):
        return total_cost(model, Batch(*batch[:4]), batch[4:])

    return Setup(optimiser, batches, batches, step, loss)


def gpu_training(config, model, observations):
    """Train with dense Adam, on a GPU in captured graphs of several steps.

    Parameters
    ----------
    config : FitConfig
    model : EmpiricalState
        On the device.
    observations : Observations

    Returns
    -------
    Setup
        A training batch is a group of batches, each of which is a step.
    """
    vector = pack_parameters(model)
    evaluate = cost_with_gradient(model, vector, config.compile, config.batch_size)
    optimiser = GpuAdam(model, vector, evaluate, observations, config)

    def train_batches(order, firsts):
        order = torch.from_numpy(order).to(vector.device)
        return group_batches(order, firsts, config.batch_size)

    def validation_batches(order, firsts):
        # one by one, because some terms of the cost depend on the size of a batch
        order = torch.from_numpy(order).to(vector.device)
        return group_batches(order, firsts, config.batch_size, group=1)

    def step(batch, strengths):
        costs = optimiser.run_steps(*batch, strengths)
        # of the last step; a gradient that is not finite spoils all later ones
        norm = torch.linalg.vector_norm(optimiser.gradients["vector"])
        return costs | {"gradient_norm": norm}

    def loss(batch):
        return total_cost(model, optimiser.batch(*batch))

    return Setup(optimiser, train_batches, validation_batches, step, loss)


def total_cost(model, batch, rows=None):
    """Costs of a batch and their sum, without a gradient.

    Parameters
    ----------
    model : EmpiricalState
    batch : Batch
    rows : (Tensor, Tensor), optional
        From :meth:`EmpiricalState.map_rows`.

    Returns
    -------
    dict of scalar Tensor
        ``loss`` is the sum.
    """
    costs = model(*model.map_values(batch, rows), *batch[1:])
    return {"loss": sum(costs.values())} | costs


def read_batches(model, observations, order, firsts, size):
    """Read batches for a CPU, some of them at once and in a background thread.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    order : ndarray of int
        Positions of observations.
    firsts : sequence of int
        Where the batches begin in ``order``.
    size : int
        Observations in a batch.

    Yields
    ------
    tuple of Tensor
        The columns of a Batch, and the rows of the maps that it reads.
    """

    def read(at):
        positions = [order[first : first + size] for first in firsts[at : at + BATCHES_PER_READ]]
        together = read_batch(observations, np.concatenate(positions))
        sizes = [len(part) for part in positions]
        columns = [*together, *model.map_rows(together.index)]
        return list(zip(*(column.split(sizes) for column in columns), strict=True))

    for batches in prefetch(map(read, range(0, len(firsts), BATCHES_PER_READ)), 1):
        yield from batches
