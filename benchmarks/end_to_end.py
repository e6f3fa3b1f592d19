"""Time the training from a prepared store: loading alone, the step alone, and both together.

python benchmarks/end_to_end.py STORE [--fields-in auto] [--batch 32] [--width 16] [--batches 12]

Whole epochs of the loading, and some batches of the step and of both are timed alternately. "both"
is a training as `seaice-lab train` does it: a thread loads the next batches during a step. The
batches of all measurements follow each other, as in a training of many epochs.
"""

import argparse
import statistics
import time
from functools import partial
from itertools import chain, count, islice

import torch

from seaice_lab import grid
from seaice_lab.compute import Process, prefetch, training_form
from seaice_lab.config import FitConfig
from seaice_lab.surrogate.model import build
from seaice_lab.surrogate.samples import Samples, batches, choose_device
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.train import batch_losses, training_step
from seaice_lab.torch_private import keep_freed_memory
from seaice_lab.training import TrainState


def training(config):
    """The parts of a training.

    Parameters
    ----------
    config : TrainConfig

    Returns
    -------
    load : callable
        ``load(number)`` yields the next batches, so many; ``load()`` those of as many as an epoch.
    step : callable
        ``step(batch)`` trains on one batch.
    where : str
        Where the fields are.
    """
    process, store, window = Process(), open_store(config.store), window_of(config)
    device, where = choose_device(config.fields_in, config.store, window, process)
    samples = Samples(config.store, window, "train", device=device)
    ocean = torch.from_numpy(store.ocean.values)
    area = torch.from_numpy(grid.cell_area(store).values.astype("float32"))
    network = build(config, ocean, samples.normalisation)
    losses = batch_losses(
        config, samples.normalisation, ocean.to(process.device), area.to(process.device)
    )
    size = config.fit.batch_size
    state = TrainState(network, config.fit, process, len(samples) // size)
    state.model.train()
    forward = training_form(network, config.fit, process)

    memory = []  # an epoch from a store uses that of the epoch before
    epochs = (batches(samples, size, shuffle=(0, epoch), memory=memory) for epoch in count())
    stream = chain.from_iterable(epochs)

    def load(number=None):
        return islice(stream, number or len(samples) // size)

    return load, training_step(config, partial(losses, forward), state), where


def rate(work, device):
    """Samples per second of wall-clock and of processor time; ``work()`` gives their number."""
    began, processor = time.perf_counter(), time.process_time()
    samples = work()
    if device == "cuda":
        torch.cuda.synchronize()
    return samples / (time.perf_counter() - began), samples / (time.process_time() - processor)


def measure(config, number, repeats=3):
    """Median rates of loading, step and both.

    Parameters
    ----------
    config : TrainConfig
    number : int
        Batches in a measurement of the step, and of both.
    repeats : int

    Returns
    -------
    dict of str to (float, float)
        Samples per second of wall-clock time and of processor time, by "loader", "step", "both".
    where : str
        Where the fields are.
    """
    keep_freed_memory()  # as a training does
    load, step, where = training(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    *_, batch = load()  # reads the fields
    step(batch)  # compiles

    def load_only():
        return sum(len(y) for _, y in load())

    def step_only():
        for _ in range(number):
            step(batch)
        return number * config.fit.batch_size

    def both():
        for each in prefetch(load(number)):
            step(each)
        return number * config.fit.batch_size

    works = {"loader": load_only, "step": step_only, "both": both}
    rates = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            rates[name].append(rate(work, device))
    return {
        name: tuple(map(statistics.median, zip(*values, strict=True)))
        for name, values in rates.items()
    }, where


def table(rates):
    """The rates as lines of text, with the share of the step alone."""
    lines = [f"{'':8s} {'samples/s':>10s} {'per processor s':>16s} {'of step':>8s}"]
    for name, (wall, processor) in rates.items():
        share = wall / rates["step"][0]
        lines.append(f"{name:8s} {wall:10.1f} {processor:16.1f} {share:8.2f}")
    return lines


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="prepared store")
    parser.add_argument("--fields-in", default="auto")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", default="auto")
    options = parser.parse_args()
    fit = FitConfig(batch_size=options.batch, precision=options.precision, compile=options.compile)
    config = TrainConfig(
        store=options.store, width=options.width, fields_in=options.fields_in, fit=fit
    )
    rates, where = measure(config, options.batches)
    print(where)
    print("\n".join(table(rates)))


if __name__ == "__main__":
    main()
