"""The training loop: one function for every model of the library.

A system (surrogate, emissivity) supplies a ``step``, which computes the gradient of a batch and
takes the optimiser's step. The loop does the rest: epochs, early stopping, averaged weights, the
check that gradients are finite, checkpoint and history. It runs on one CPU, one GPU, or many
processes under ``torchrun``. A killed run continues after its last finished epoch; on one CPU the
continued run equals the uninterrupted one bit for bit.
"""

import copy
import math
import time
from pathlib import Path

import pandas as pd
import torch

from seaice_lab import files, progress, runs, torch_private
from seaice_lab.compute import damaged_compile_cache
from seaice_lab.errors import InputError
from seaice_lab.optimiser import adamw, learning_rate, update_average
from seaice_lab.weights import contiguous, load_weights, save_weights

GRADIENT_CHECK_EVERY = 100  # batches; on a GPU each check waits for the device
COUNTERS = ("epoch", "step", "best", "since_best", "history")


class TrainState:
    """A model in training: everything that a checkpoint keeps.

    Parameters
    ----------
    model : torch.nn.Module
        It is moved to the device of the process.
    config : FitConfig
    process : Process
    steps_per_epoch : int
        Number of batches in an epoch; the cosine schedule needs it.
    optimiser : object, optional
        Has ``state_dict`` and ``load_state_dict``. By default the published AdamW
        (:func:`seaice_lab.optimiser.adamw`) of all parameters.

    Attributes
    ----------
    averaged : torch.nn.Module
        The model with averaged weights; the model itself without averaging.
    epoch, step : int
        Finished epochs and steps.
    best : float
        Lowest validation loss.
    since_best : int
        Epochs since then.
    history : list of dict
        One row an epoch.
    settings : dict
        What gives the weights their meaning (:func:`seaice_lab.weights.save_weights`).
    """

    def __init__(self, model, config, process, steps_per_epoch, optimiser=None):
        self.config, self.process, self.steps_per_epoch = config, process, steps_per_epoch
        self.model = model.to(process.device, memory_format=torch.channels_last)
        self.optimiser = optimiser or adamw(model.parameters(), config)
        self.averaged = copy.deepcopy(model).eval() if config.averaging else model
        self.epoch = self.step = self.since_best = 0
        self.best = float("inf")
        self.history, self.settings = [], {}

    def save(self, run, better):
        """Write the finished epoch; each file is replaced at once, so that a kill loses nothing.

        Parameters
        ----------
        run : Path
            Run folder; receives ``checkpoint.pt``, ``history.csv`` and the weights.
        better : bool
            Whether the weights are the best so far.
        """
        averaged, device = contiguous(self.averaged), self.process.device
        # The checkpoint comes last: if the process is killed earlier, it repeats epoch and files.
        with files.replacing(run / "history.csv") as temporary:
            pd.DataFrame(self.history).to_csv(temporary, index=False)
        if better:
            save_weights(run / "weights.safetensors", averaged, self.settings)
        checkpoint = {
            "model": contiguous(self.model),
            "averaged": averaged,
            "optimiser": self.optimiser.state_dict(),
            "state": {name: getattr(self, name) for name in COUNTERS},
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }
        # Python's own file, because torch reports a full disk only as a RuntimeError.
        with files.replacing(run / "checkpoint.pt") as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)

    def resume(self, run):
        """Continue after the last finished epoch of a run folder, if there is one.

        Parameters
        ----------
        run : Path

        Raises
        ------
        InputError
            If the checkpoint is damaged or belongs to another model or version.
        """
        path = run / "checkpoint.pt"
        if not path.exists():
            return
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(
                f"{path}: cannot be read ({type(error).__name__}); move it away to start this run "
                "over"
            ) from None
        try:
            self.model.load_state_dict(checkpoint["model"])
            self.averaged.load_state_dict(checkpoint["averaged"])
            self.optimiser.load_state_dict(checkpoint["optimiser"])
            torch.set_rng_state(checkpoint["rng"])
            if checkpoint["gpu_rng"] is not None and self.process.device.type == "cuda":
                torch.cuda.set_rng_state(checkpoint["gpu_rng"], self.process.device)
            for name in COUNTERS:
                setattr(self, name, checkpoint["state"][name])
        except torch.OutOfMemoryError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: does not fit this training ({type(error).__name__}); it was written by "
                "another version, or with a GPU where none is used now, or without one; continue "
                "with the version and device that began it, or train under another name"
            ) from None


def fit(step, train_batches, end_epoch, state, run, show=True):
    """Train a model and keep its best weights.

    Parameters
    ----------
    step : callable
        ``step(batch)`` computes the gradient, takes the optimiser's step, and returns a dict of
        scalar tensors: ``loss``, the total; ``gradient_norm``, which must be finite; and other
        losses for the history.
    train_batches : callable
        ``train_batches(epoch)`` gives the batches of an epoch (counted from 0), always the same
        for the same epoch. A batch is a sequence of tensors with samples along the first dimension.
    end_epoch : callable
        ``end_epoch()`` is called after the last step of every epoch and returns a dict of numbers
        for the history, as from :func:`validate`. ``validation_loss`` among them decides which
        weights are the best and when to stop; without it the last weights are the best.
    state : TrainState
    run : str or Path
        Run folder; receives ``weights.safetensors`` (best), ``history.csv``, ``checkpoint.pt``.
    show : bool
        Show progress: a bar over epochs, or one line an epoch in batch.

    Returns
    -------
    pandas.DataFrame
        History: one row an epoch.

    Raises
    ------
    InputError
        If a gradient is not finite, or the checkpoint in the run folder does not fit.
    """
    run, config, process = Path(run), state.config, state.process
    if process.device.type == "cpu":
        torch_private.keep_freed_memory()
    torch.manual_seed(config.seed)
    state.resume(run)  # after the seed: a checkpoint brings its own random state
    show = show and process.is_main
    show_bar, description = show and not progress.in_batch(), f"train {run.name}"
    with (
        runs.heartbeat(run, "training", "epoch", config.epochs, process.is_main) as beat,
        process.watch_others(),
        damaged_compile_cache(),
        progress.bar(config.epochs, description, "epoch", state.epoch, show_bar) as bar,
    ):
        while state.epoch < config.epochs and state.since_best < config.patience:
            beat(state.epoch + 1)
            began = time.perf_counter()
            rate = learning_rate(config, state.step, state.steps_per_epoch)
            row = {"epoch": state.epoch + 1, "learning_rate": rate}

            state.model.train()  # dropout on, batch statistics updated
            batches = train_batches(state.epoch)
            batches = progress.numbered(batches, bar, description, state.steps_per_epoch)
            losses = train_epoch(step, batches, state)
            row |= {f"train_{name}": value for name, value in losses.items()}

            state.model.eval()
            with torch.no_grad():
                row |= end_epoch()

            validation_loss = row.get("validation_loss")
            better = validation_loss is None or validation_loss < state.best
            if better and validation_loss is not None:
                state.best = validation_loss
            state.since_best = 0 if better else state.since_best + 1
            state.epoch += 1
            row["seconds"] = round(time.perf_counter() - began, 3)
            state.history.append(row)
            if process.is_main:
                state.save(run, better)
            report(row, config.epochs, bar, show)

    process.gather("saved")  # no process reads the weights before they are written
    state.model.load_state_dict(load_weights(run / "weights.safetensors"))
    if process.is_main:
        (run / "finished").touch()
        (run / "checkpoint.pt").unlink(missing_ok=True)
    return pd.DataFrame(state.history)


def train_epoch(step, batches, state):
    """Take a step for each batch.

    Parameters
    ----------
    step : callable
        As in :func:`fit`.
    batches : iterable
    state : TrainState

    Returns
    -------
    dict of float
        Mean losses by name.

    Raises
    ------
    InputError
        If a gradient is not finite.
    """
    losses, sizes, norms, config = [], [], [], state.config
    check_every = 1 if state.process.device.type == "cpu" else GRADIENT_CHECK_EVERY
    for batch in batches:
        values = step(batch)
        norms.append(values.pop("gradient_norm"))
        losses.append({name: value.detach() for name, value in values.items()})  # frees the graph
        sizes.append(len(batch[0]))
        state.step += 1
        if config.averaging:
            update_average(state.averaged, state.model, config.averaging, state.step)
        if len(norms) == check_every:
            check_finite(norms, losses, config)
            norms.clear()
    check_finite(norms, losses, config)
    return mean_losses(losses, sizes, state.process)


def check_finite(norms, losses, config):
    """Stop a training whose gradient is no longer finite.

    Parameters
    ----------
    norms : list of Tensor
        Norms of the gradients of the last batches.
    losses : list of dict
        Losses of all batches of the epoch so far.
    config : FitConfig

    Raises
    ------
    InputError
        If a norm is infinite or NaN; it names the first such batch.
    """
    # one transfer from the device for all of them
    values = torch.stack(norms).tolist() if len(norms) > 1 else [float(norm) for norm in norms]
    for number, norm in enumerate(values, len(losses) - len(norms)):
        if not math.isfinite(norm):
            raise InputError(
                f"training: the gradient is no longer finite at batch {number + 1} of the epoch "
                f"(loss {losses[number]['loss'].item():g}); lower learning_rate (now "
                f"{config.learning_rate:g}), set max_gradient_norm (of a surrogate), or look for "
                "broken values in the data; the best weights so far are kept"
            )


def mean_losses(losses, sizes, process):
    """Mean losses over the samples of all batches and processes.

    Parameters
    ----------
    losses : list of dict of scalar Tensor
        One a batch, with equal names.
    sizes : list of int
        Samples in each batch.
    process : Process

    Returns
    -------
    dict of float
        Equal in all processes; empty if none has a batch.
    """
    weights = torch.tensor(sizes, dtype=torch.float64, device=process.device)
    sums = {}
    for name in losses[0] if losses else ():
        values = torch.stack([batch[name] for batch in losses]).to(weights)
        sums[name] = float(values @ weights)
    # A process without a batch takes part as well, because the others wait for it.
    all_sums, counts = zip(*process.gather((sums, sum(sizes))), strict=True)
    names = next(filter(None, all_sums), {})
    return {name: sum(sums.get(name, 0.0) for sums in all_sums) / sum(counts) for name in names}


def validate(loss, batches, process):
    """Mean losses over validation batches, as columns of the history.

    Parameters
    ----------
    loss : callable
        ``loss(batch)`` gives a dict of scalar tensors with the total as ``loss``, and changes
        nothing.
    batches : iterable
    process : Process

    Returns
    -------
    dict of float
        ``validation_loss`` and so on; empty without batches.
    """
    losses, sizes = [], []
    for batch in batches:
        losses.append(loss(batch))
        sizes.append(len(batch[0]))
    return {
        f"validation_{name}": value for name, value in mean_losses(losses, sizes, process).items()
    }


def report(row, epochs, bar, show):
    """Show the losses of an epoch at the progress bar, or as a line if the run is unattended.

    Parameters
    ----------
    row : dict
        Row of the history.
    epochs : int
        Number of epochs of the training.
    bar : tqdm.tqdm
    show : bool
        Whether to print.
    """
    losses = f"train {row['train_loss']:.4f}"
    if "validation_loss" in row:
        losses += f", validation {row['validation_loss']:.4f}"
    bar.set_postfix_str(losses)
    bar.update()
    if show and progress.in_batch():
        progress.line(f"epoch {row['epoch']}/{epochs}: {losses}, {row['seconds']:.1f} s")
