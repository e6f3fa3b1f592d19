"""The training loop: one function for every model of the library.

It runs on one CPU, one GPU, or many processes under ``torchrun``; it stops early, stops loudly
when numbers break, and takes a killed run up again at the last finished epoch. On one CPU the
continued run equals the uninterrupted one bit for bit.
"""

import copy
import ctypes
import math
import os
import queue
import shutil
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import distributed, nn

from seaice_lab import files, progress
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.optimiser import adamw, follow, tune

LOOKED_AT = 100  # batches on a GPU between two looks at their gradients, for which it must wait


class FitConfig(Config):
    """How to train; the defaults are the published settings (Durand et al. 2024, train script).

    ``weight_decay`` is the share of each weight removed at every step (as published, not
    multiplied by the learning rate; a schedule scales both). ``schedule`` "piecewise" multiplies
    the learning rate by 0.1 at each of ``boundaries`` (steps), "cosine" warms up over
    ``warmup_steps`` and falls to zero at the last epoch. ``patience`` counts epochs without a
    better validation loss. ``workers`` processes make the batches; 0 leaves it to a thread.
    ``compile`` "auto" uses torch.compile where it can work (see :func:`can_compile`): half a minute
    at the start, then faster steps. ``averaging`` is the decay of an exponential moving average of
    the weights (0.99: over the last hundred steps), which is then what is validated and kept; 0
    keeps the weights themselves.
    """

    epochs: int = 500
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 1e-6
    schedule: Literal["constant", "piecewise", "cosine"] = "piecewise"
    boundaries: tuple[int, ...] = (10_000, 20_000)
    warmup_steps: int = 0
    patience: int = 30
    max_gradient_norm: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: Literal["auto", "always", "never"] = "never"
    averaging: float = 0.0
    workers: int = 0
    seed: int = 0


class Process:
    """Where this process computes: device, rank and world size, from what is there.

    Under ``torchrun`` it joins the process group (NCCL on GPUs, Gloo on CPUs).
    """

    def __init__(self):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        gpu = torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device(f"cuda:{local}" if gpu else "cpu")
        if self.world > 1 and not distributed.is_initialized():
            distributed.init_process_group("nccl" if gpu else "gloo")

    @property
    def leads(self):
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def mean(self, total, count):
        """Mean over all processes of a summed value."""
        pair = torch.tensor([total, count], dtype=torch.float64, device=self.device)
        if self.world > 1:
            distributed.all_reduce(pair)
        return float(pair[0] / pair[1])


def fit(
    model, train_batches, validation_batches, loss, config, run, process, steps, show=True,
    optimiser=None, after_epoch=None, ahead=2,
):  # fmt: skip
    """Train a model and keep its best weights.

    Parameters
    ----------
    model : torch.nn.Module
    train_batches : callable
        ``train_batches(epoch)`` gives an iterable of batches (tuples of tensors) and must give
        the same ones whenever it is asked for the same epoch.
    validation_batches : callable
        ``validation_batches()`` gives the batches of the validation split; when there are none,
        the last weights are the best.
    loss : callable
        ``loss(model, batch)`` gives ``(total, parts)``: a scalar tensor to minimise and a dict of
        named scalar tensors for the history. A total that knows no way back says that the
        parameters hold their gradients already; it may have taken steps of its own, if the step
        of the ``optimiser`` does nothing.
    config : FitConfig
    run : Path
        Run folder; receives ``weights.safetensors`` (best), ``history.csv``, ``checkpoint.pt``.
    process : Process
    steps : int
        Number of batches an epoch (the cosine schedule needs it beforehand).
    show : bool
        Show progress: a bar over epochs, or one line an epoch in batch.
    optimiser : torch.optim.Optimizer, optional
        By default that of :func:`adamw` for all parameters of the model.
    after_epoch : callable, optional
        Called with the number of the epoch that has been trained, before it is validated; gives a
        dict of more numbers for the history.
    ahead : int
        Batches that a background thread makes ahead; 0 makes each when it is needed.

    Returns
    -------
    pandas.DataFrame
        History: one row an epoch.

    Raises
    ------
    InputError
        If the loss or the gradient is no longer finite.
    """
    run = Path(run)
    if process.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.seed)
    model.to(process.device, memory_format=torch.channels_last)
    optimiser = optimiser or adamw(model.parameters(), config)
    averaged = copy.deepcopy(model).eval() if config.averaging else model
    state = {"epoch": 0, "step": 0, "best": float("inf"), "since_best": 0, "history": []}
    if (run / "checkpoint.pt").exists():
        state = resume(run / "checkpoint.pt", model, averaged, optimiser)
    tune(optimiser, config, state["step"], steps)
    forward = torch.compile(model) if compiles(config.compile) else model
    if process.world > 1:
        forward = nn.parallel.DistributedDataParallel(forward)

    def stepped():
        state["step"] += 1
        tune(optimiser, config, state["step"], steps)
        if config.averaging:
            follow(averaged, model, config.averaging, state["step"])

    show = show and process.leads
    with progress.bar(config.epochs, f"train {run.name}", "epoch", state["epoch"], show) as bar:
        while state["epoch"] < config.epochs and state["since_best"] < config.patience:
            began, learning_rate = time.perf_counter(), optimiser.param_groups[0]["lr"]
            model.train()
            batches = prefetch(train_batches(state["epoch"]), ahead)
            train = run_epoch(forward, batches, loss, config, process, optimiser, stepped)
            model.eval()
            more = {} if after_epoch is None else after_epoch(state["epoch"])
            with torch.no_grad():
                # uncompiled: a second graph would cost more than it saves
                batches = prefetch(validation_batches(), ahead)
                validation = run_epoch(averaged, batches, loss, config, process)
            judged = validation.get("loss", -float("inf"))
            better = not validation or judged < state["best"]
            state["epoch"] += 1
            state["best"] = min(judged, state["best"])
            state["since_best"] = 0 if better else state["since_best"] + 1
            row = {"epoch": state["epoch"], "learning_rate": learning_rate}
            row |= {f"train_{name}": value for name, value in train.items()}
            row |= more | {f"validation_{name}": value for name, value in validation.items()}
            row["seconds"] = round(time.perf_counter() - began, 3)
            state["history"].append(row)
            if process.leads:
                save_epoch(run, model, averaged, optimiser, state, better)
            losses = f"train {train['loss']:.4f}"
            if validation:
                losses += f", validation {validation['loss']:.4f}"
            bar.set_postfix_str(losses)
            bar.update()
            if show and progress.in_batch():
                print(f"epoch {state['epoch']}/{config.epochs}: {losses}, {row['seconds']:.1f} s")
    model.load_state_dict(load_file(run / "weights.safetensors"))
    if process.leads:
        (run / "finished").touch()
        (run / "checkpoint.pt").unlink(missing_ok=True)
    return pd.DataFrame(state["history"])


def keep_freed_memory():
    """Have the C library keep what is freed for the next step.

    On a processor every step frees and fetches the same large tensors. To give them back to the
    system and to be handed cleared pages anew takes a quarter of a step at 256 x 256.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(-4, 0)  # M_MMAP_MAX: nothing is mapped on its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: so much is kept


@contextmanager
def no_denormals():
    """Have this thread, and those it starts, take float32 numbers below about 1e-38 as zero.

    What is left of a mean of Adam soon falls below that, moves nothing, and is slow to compute.
    """
    flushed = not (torch.tensor([1e-38]) / 10).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def can_compile():
    """Whether torch.compile can work: on a GPU, or with a C++ compiler and Python's headers."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return torch.cuda.is_available() or (shutil.which("g++") is not None and headers.exists())


def compiles(setting):
    """Whether ``compile`` of a FitConfig means to compile, here."""
    return setting == "always" or (setting == "auto" and can_compile())


def run_epoch(model, batches, loss, config, process, optimiser=None, after_step=None):
    """Go once through the batches, training when an optimiser is given.

    ``after_step`` is called after every step of the optimiser.

    Returns
    -------
    dict
        Means of the loss and of its parts over all samples and processes.
    """
    seen, sizes, norms = {}, [], []
    on_gpu = process.device.type != "cpu"
    autocast = nullcontext()
    if config.precision == "bfloat16":
        autocast = torch.autocast(process.device.type, torch.bfloat16)
    for batch in batches:
        if on_gpu:
            batch = [part.to(process.device, non_blocking=True) for part in batch]
        if optimiser is not None:
            optimiser.zero_grad(set_to_none=True)
        with autocast:
            total, parts = loss(model, batch)
        sizes.append(len(batch[0]))
        for name, value in {"loss": total, **parts}.items():
            seen.setdefault(name, []).append(value.detach())
        if optimiser is not None:
            if total.requires_grad:
                total.backward()
            norms.append(gradient_norm(optimiser, config.max_gradient_norm))
            if not on_gpu or len(sizes) % LOOKED_AT == 0:
                check_finite(norms, seen["loss"], optimiser)
            optimiser.step()
            after_step()
    check_finite(norms, seen.get("loss"), optimiser)
    weights = torch.tensor(sizes, dtype=torch.float64, device=process.device)
    return {
        name: process.mean(float(torch.stack(values).double() @ weights), sum(sizes))
        for name, values in seen.items()
    }


def gradient_norm(optimiser, limit):
    """Norm of the gradient, a tensor; the gradient is brought down to a limit where there is one.

    Of one parameter alone, as an emissivity has beside its maps, the square, which is found in a
    fifth of the time.
    """
    parameters = optimiser.param_groups[0]["params"]
    gradients = [one.grad for one in parameters if one.grad is not None]
    if len(gradients) == 1 and not limit:
        alone = gradients[0].flatten()
        return alone.dot(alone)
    norm = nn.utils.get_total_norm(gradients)
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def check_finite(norms, losses, optimiser):
    """Refuse to go on where the gradient of a batch was not finite; forgets the norms."""
    for late, norm in enumerate(torch.stack(norms).tolist() if len(norms) > 1 else norms):
        if not math.isfinite(norm):
            batch = len(losses) - len(norms) + late
            raise InputError(
                f"training: the gradient is no longer finite at batch {batch + 1} of the epoch "
                f"(loss {losses[batch].item():g}); lower learning_rate (now "
                f"{optimiser.param_groups[0]['lr']:g}), set max_gradient_norm (of a surrogate), or "
                "look for broken values in the data; the best weights so far are kept"
            )
    norms.clear()


def prefetch(batches, ahead=2):
    """Make batches in a background thread, some ahead of the one in use; 0: without a thread."""
    if not ahead:
        yield from batches
        return
    ready, stop = queue.Queue(ahead), threading.Event()
    end = object()

    def work():
        try:
            for batch in batches:
                ready.put(batch)
                if stop.is_set():
                    return
            ready.put(end)
        except BaseException as error:  # handed over, raised in the caller's thread
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while not ready.empty():
            ready.get_nowait()


def save_epoch(run, model, averaged, optimiser, state, better):
    """Write what the finished epoch made; a kill at any moment leaves the last epoch whole."""
    weights, device = contiguous(averaged), next(model.parameters()).device
    if better:
        with files.replacing(run / "weights.safetensors") as temporary:
            temporary.write_bytes(save(weights))
    checkpoint = {
        "model": contiguous(model),
        "averaged": weights,
        "optimiser": optimiser.state_dict(),
        "state": state,
        "rng": torch.get_rng_state(),
        "gpu_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    with files.replacing(run / "checkpoint.pt") as temporary:
        torch.save(checkpoint, temporary)
    with files.replacing(run / "history.csv") as temporary:
        pd.DataFrame(state["history"]).to_csv(temporary, index=False)


def contiguous(model):
    """The weights and statistics of a model, as files keep them."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def resume(path, model, averaged, optimiser):
    """Take up the last finished epoch; returns the loop's state."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}); remove it to start this run over"
        ) from None
    try:
        model.load_state_dict(checkpoint["model"])
        averaged.load_state_dict(checkpoint["averaged"])
        optimiser.load_state_dict(checkpoint["optimiser"])
        torch.set_rng_state(checkpoint["rng"])
        device = next(model.parameters()).device
        if checkpoint["gpu_rng"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint["gpu_rng"], device)
        if "step" not in checkpoint["state"]:
            raise KeyError("step")
        return checkpoint["state"]
    except torch.OutOfMemoryError:
        raise
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{path}: does not fit the run as it would go on here ({type(error).__name__}); it was "
            "written by another version, or on a GPU where there is none now, or the reverse; go "
            "on as it began, or remove it to start this run over"
        ) from None
