"""Measure a training and a rollout on a GPU in one go, in under 8 minutes; print one table.

    python benchmarks/gpu.py [--size 512] [--width 32] [--batch 32] [--log gpu.log]

The script writes a store of random fields and removes it. It measures the memory bandwidth of the
device, the loader, the step and both together with the fields on the device, in memory and in the
store, the kernels in which a step spends its time, the share of the bandwidth that each partial
convolution reaches, and a rollout. Without a GPU it runs on the processor, to test the script: use
a small size there.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from end_to_end import measure, table, training
from torch.profiler import profile

from seaice_lab import grid
from seaice_lab.config import FitConfig
from seaice_lab.surrogate.forecast import rollout
from seaice_lab.surrogate.layers import PartialConv2d
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.settings import TrainConfig
from seaice_lab.surrogate.store import COMPRESSORS

VARIABLES = {"sit": "m", "u10": "m s-1", "v10": "m s-1", "t2m": "K"}
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def write_store(path, size, times):
    """Write a prepared store of random fields, one split after the other.

    Parameters
    ----------
    path : Path
    size : int
        Cells along each axis.
    times : int
        Six-hourly times; three quarters are for training, the others for validation.
    """
    rng = np.random.default_rng(0)
    centre = (np.arange(size) - size / 2 + 0.5) * 6.4e6 / size
    latitude, longitude = grid.unproject(*np.meshgrid(centre, centre))
    ocean = rng.random((size, size)) > 0.3
    fields = {
        name: (("time", "y", "x"), rng.random((times, size, size), "float32"), {"units": units})
        for name, units in VARIABLES.items()
    }
    unit = {"mean": 0.5, "std": 0.3, "minimum": 0.0, "maximum": 1.0}
    start, hours = np.datetime64("2001-01-01", "ns"), 6 * np.arange(times)
    coords = {
        "time": start + hours * np.timedelta64(1, "h"),
        "latitude": (("y", "x"), latitude),
        "longitude": (("y", "x"), longitude),
        "ocean": (("y", "x"), ocean),
        "segment": ("time", np.zeros(times, "int32")),
        "split": ("time", (np.arange(times) >= times * 3 // 4).astype("int8")),
    }
    attrs = {"statistics": json.dumps(dict.fromkeys(VARIABLES, unit)), "fingerprint": "random"}
    encoding = {"chunks": (1, size, size), "compressors": COMPRESSORS}
    encoding = dict.fromkeys(VARIABLES, encoding)
    encoding["time"] = {"units": "hours since 1970-01-01", "dtype": "float64"}
    xr.Dataset(fields, coords, attrs).to_zarr(
        path, zarr_format=3, consolidated=False, encoding=encoding
    )


def seconds(work, repeats):
    """Mean seconds of a call on the device, after two calls that warm up."""
    for _ in range(2):
        work()
    synchronize()
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    synchronize()
    return (time.perf_counter() - began) / repeats


def synchronize():
    """Wait for the GPU, if there is one."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def bandwidth(megabytes):
    """Bytes per second that a copy in the memory of the device reads and writes."""
    source = torch.zeros(megabytes * 250_000, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), 10)


def kernel_lines(config, rows=15):
    """Milliseconds and share of the kernels in which a compiled training step spends its time."""
    load, step, _ = training(config)
    (batch,) = load(1)
    step(batch)
    synchronize()
    with profile() as profiler:
        step(batch)
        synchronize()
    device = torch.autograd.DeviceType.CUDA if DEVICE == "cuda" else torch.autograd.DeviceType.CPU
    events = [event for event in profiler.key_averages() if event.device_type == device]
    durations = {
        event.key: event.self_device_time_total if DEVICE == "cuda" else event.self_cpu_time_total
        for event in events
    }
    total = sum(durations.values())
    yield f"kernels of a step: {total / 1e3:.1f} ms in all"
    for name, duration in sorted(durations.items(), key=lambda item: -item[1])[:rows]:
        yield f"{duration / 1e3:8.2f} ms {duration / total:6.1%}  {name[:80]}"


@torch.inference_mode()
def layer_lines(network, x, limit, precision):
    """One line for each partial convolution: milliseconds and share of the memory bandwidth.

    A layer must at least read its input and write its output once.
    """
    inputs, lines = {}, []
    layers = {name: m for name, m in network.named_modules() if isinstance(m, PartialConv2d)}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs.update({name: given}))
    with torch.autocast(DEVICE, torch.bfloat16, enabled=precision == "bfloat16"):
        network(x)
        for name, layer in layers.items():
            given = inputs[name]
            output = layer(*given)
            least = given[0].nbytes + output.nbytes
            duration = seconds(lambda layer=layer, given=given: layer(*given), 5)
            share = least / duration / limit
            lines.append(
                f"{name:30s} {tuple(output.shape)!s:24s} {1e3 * duration:8.2f} {share:8.2f}"
            )
    return [f"{'layer':30s} {'output':24s} {'ms':>8s} {'of limit':>8s}", *lines]


@torch.inference_mode()
def rollout_line(network, size, starts, steps):
    """Steps of all starts per second in a rollout."""
    state = torch.rand(starts, 1, size, size, device=DEVICE)
    forcing = torch.randn(starts, 9, size, size, device=DEVICE)

    def step(state, forcing):
        fields = torch.cat([state, forcing], dim=1)
        return state + network(fields.contiguous(memory_format=torch.channels_last))

    duration = seconds(lambda: list(rollout(step, state, [forcing] * steps)), 1)
    return f"rollout of {starts} starts: {starts * steps / duration:.1f} start steps/s"


def report(options):
    """Yield the lines of the report.

    Parameters
    ----------
    options : argparse.Namespace
        As :func:`main` reads them.

    Yields
    ------
    str
    """
    size, batch = options.size, options.batch
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else "processor, not a GPU"
    yield f"{name}: {size} x {size}, width {options.width}, batch {batch}, {options.precision}"
    limit = bandwidth(options.copy_megabytes)
    yield f"memory bandwidth of a copy: {limit / 1e9:.0f} GB/s"
    fit = FitConfig(batch_size=batch, precision=options.precision, compile=options.compile)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "random.zarr"
        write_store(store, size, options.times)
        for place in ("device", "memory", "store"):
            config = TrainConfig(store=str(store), width=options.width, fields_in=place, fit=fit)
            rates, where = measure(config, options.batches)
            yield from (where, *table(rates))
        yield from kernel_lines(config.model_copy(update={"fields_in": "device"}))
    ocean = torch.rand(size, size) > 0.3
    network = build_network("UNet3", ocean, 10, width=options.width).to(DEVICE).eval()
    network = network.to(memory_format=torch.channels_last)
    x = torch.randn(batch, 10, size, size, device=DEVICE)
    x = x.contiguous(memory_format=torch.channels_last)
    yield from layer_lines(network, x, limit, options.precision)
    yield rollout_line(network, size, options.starts, options.steps)


def main(arguments=None):
    """Measure, print the report and write it to the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--times", type=int, default=320)
    parser.add_argument("--starts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--copy-megabytes", type=int, default=2000)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--log", default="gpu.log")
    options = parser.parse_args(arguments)
    with Path(options.log).open("w", encoding="utf-8") as log:
        for line in report(options):
            print(line, flush=True)
            log.write(line + "\n")
            log.flush()


if __name__ == "__main__":
    main()
