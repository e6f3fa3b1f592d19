"""How computations run: processes and devices, compilation, a background thread for batches."""

import os
import queue
import shutil
import sysconfig
import threading
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path

import torch
from torch import distributed, nn

from seaice_lab import processors, torch_private
from seaice_lab.errors import InputError


class Process:
    """Where this process computes: device, rank and number of processes.

    Under ``torchrun`` it joins the process group (NCCL on GPUs, Gloo on CPUs).
    """

    def __init__(self):
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        self.rank = int(os.environ.get("RANK", 0))
        gpu = torch.cuda.is_available()
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device(f"cuda:{local}" if gpu else "cpu")
        if self.world > 1 and not distributed.is_initialized():
            if gpu:
                self._take_gpu(local)
            # One process may have a long batch of forecasts more than the others.
            backend = "nccl" if gpu else "gloo"
            distributed.init_process_group(backend, timeout=timedelta(days=1))
        # Where torch was loaded before the package, which limits its threads by the environment.
        torch.set_num_threads(min(torch.get_num_threads(), processors.processors()))

    def _take_gpu(self, local):
        count = torch.cuda.device_count()
        if local >= count:
            raise InputError(
                f"torchrun: this machine has {count} GPU{'s' if count > 1 else ''}, expected one "
                f"for each process; start with --nproc-per-node={count}"
            )
        torch.cuda.set_device(self.device)  # for objects that are exchanged

    @property
    def is_main(self):
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def memory_bytes(self, device):
        """Memory of a device; processes on one machine share that of the machine equally."""
        if device.type == "cuda":
            return torch.cuda.get_device_properties(device).total_memory
        return processors.memory_bytes() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    def gather(self, value):
        """Exchange a value with all processes; each waits here until all have come.

        Parameters
        ----------
        value : object
            Numbers, texts, or lists and dicts of them.

        Returns
        -------
        list
            The values of all processes, in the order of their ranks.
        """
        if self.world == 1:
            return [value]
        values = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    @contextmanager
    def watch_others(self):
        """Context in which the end of another process ends this one with one sentence.

        Raises
        ------
        InputError
            If the connection to another process is lost.
        """
        try:
            yield
        except RuntimeError as error:
            # Gloo has no error type of its own.
            is_lost = isinstance(error, distributed.DistError) or "gloo" in str(error)
            if self.world == 1 or not is_lost:
                raise
            raise InputError(
                f"process {self.rank} of {self.world}: the connection to another process is lost; "
                "the first message of the other processes tells the reason; run the same command "
                "again to continue"
            ) from None


def training_form(model, config, process):
    """The model as a training step calls it: compiled, and its gradient shared by all processes.

    Parameters
    ----------
    model : torch.nn.Module
        On the device of the process. Validation calls it as it is, because a second compiled
        graph would cost more time than it saves.
    config : FitConfig
    process : Process

    Returns
    -------
    torch.nn.Module
        Shares its parameters with ``model``.
    """
    if compiles(config.compile):
        model = torch.compile(model)
    return nn.parallel.DistributedDataParallel(model) if process.world > 1 else model


def can_compile():
    """Whether torch.compile can work: on a GPU, or with a C++ compiler and Python's headers."""
    headers = Path(sysconfig.get_path("include"), "Python.h")
    return torch.cuda.is_available() or (shutil.which("g++") is not None and headers.exists())


def compiles(setting):
    """Whether the setting ``compile`` of a FitConfig ("auto", "always", "never") compiles here."""
    return setting == "always" or (setting == "auto" and can_compile())


@contextmanager
def damaged_compile_cache():
    """Context in which damaged files in the cache of torch.compile are told in one sentence.

    Torch tests with small libraries in its cache which vector instructions it can use. If one was
    cut short, it compiles vector code of the cache without them, and the C++ compiler stops.

    Raises
    ------
    InputError
        If a compilation fails in this way; other errors pass.
    """
    try:
        yield
    except RuntimeError as error:
        if "CppCompileError" not in str(error) or "at::vec" not in str(error):
            raise
        raise InputError(
            f"{torch_private.compile_cache()}: the files of torch.compile are damaged, probably "
            "because a compilation was interrupted; move this folder away and run the same command "
            "again"
        ) from None


def constant(values, dtype, device):
    """Numbers as a tensor, copied to the device only once: a copy waits for all work of a GPU.

    Parameters
    ----------
    values : sequence of numbers, or of such sequences
    dtype : torch.dtype
    device : torch.device

    Returns
    -------
    torch.Tensor
        Shared by all callers, who must not change it.
    """
    values = tuple(tuple(row) if hasattr(row, "__len__") else row for row in values)
    if torch.compiler.is_compiling():
        # A tensor made during compilation or export is valid only there, so it is not cached.
        return torch.tensor(values, dtype=dtype, device=device)
    return _kept_constant(values, dtype, torch.device(device))


@cache  # without limit: a recorded CUDA graph reads this memory at each step
def _kept_constant(values, dtype, device):
    with torch_private.lasting_tensors():
        return torch.tensor(values, dtype=dtype, device=device)


def select_channels(x, numbers):
    """Select channels of a tensor; their numbers are copied to its device only once.

    Parameters
    ----------
    x : torch.Tensor (..., channel, y, x)
    numbers : sequence of int

    Returns
    -------
    torch.Tensor (..., len(numbers), y, x)
    """
    return x.index_select(-3, constant(numbers, torch.long, x.device))


def prefetch(batches, ahead=2):
    """Make batches in a background thread while the previous ones are in use.

    Parameters
    ----------
    batches : iterable
    ahead : int
        Number of batches that wait at most.

    Yields
    ------
    object
        The batches in their order. An error of ``batches`` is raised here.
    """
    ready, stop = queue.Queue(ahead), threading.Event()
    end = object()

    def work():
        try:
            for batch in batches:
                ready.put(batch)
                if stop.is_set():
                    return
            ready.put(end)
        except BaseException as error:  # raised again in the caller's thread
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while not ready.empty():  # so that a waiting thread sees the stop
            ready.get_nowait()
