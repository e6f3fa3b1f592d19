"""Time a training step: eager, channels-last, compiled, bfloat16, compared with a matrix product.

python benchmarks/training.py [--size 128] [--batch 8] [--width 16] [--repeats 5]
"""

import argparse
import statistics
import time
from typing import NamedTuple

import torch
from yardstick import TRAINING, matmul_gflops, over_published

from seaice_lab.surrogate.losses import ocean_loss
from seaice_lab.surrogate.networks import build_network
from seaice_lab.torch_private import keep_freed_memory

MACS_PER_CELL = 75_184  # multiply-adds of UNet3 forward at width 16; they grow with width^2


class Case(NamedTuple):
    """How a training step is computed."""

    label: str
    published: bool = False
    channels_last: bool = False
    compiled: bool = False
    bfloat16: bool = False


CASES = (
    Case("published eager", published=True),
    Case("eager"),
    Case("channels-last", channels_last=True),
    Case("compiled", channels_last=True, compiled=True),
    Case("compiled bfloat16", channels_last=True, compiled=True, bfloat16=True),
)


def seconds_per_step(case, ocean, options):
    """Median time of a training step in seconds, after two warm-up steps."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = build_network("UNet3", ocean, 10, width=options.width, published=case.published)
    network, sea = network.to(device), ocean.to(device)
    x = torch.randn(options.batch, 10, *ocean.shape, device=device)
    y = torch.randn(options.batch, 1, *ocean.shape, device=device)
    if case.channels_last:
        network = network.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(network) if case.compiled else network
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    times = []
    for _ in range(options.repeats + 2):
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=case.bfloat16):
            prediction = forward(x)
        loss, _ = ocean_loss(prediction.float(), y, sea)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[2:])


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bfloat16", action="store_true", help="also time bfloat16")
    options = parser.parse_args()
    torch.manual_seed(0)
    keep_freed_memory()  # as a training does
    ocean = torch.rand(options.size, options.size) > 0.25
    macs = MACS_PER_CELL * (options.width / 16) ** 2 * options.size**2
    gflop = 3 * 2 * macs / 1e9  # forward, and backward at twice the cost
    print(
        f"{options.size} x {options.size}, width {options.width}, batch {options.batch}, "
        f"{torch.get_num_threads()} threads, {gflop:.1f} GFLOP per sample"
    )
    first = None
    print(
        f"{'':20s} {'samples/s':>9s} {'ratio':>6s} {'GFLOP/s':>8s} {'of matmul':>9s} "
        f"{'over published':>14s}"
    )
    for case in CASES:
        if case.bfloat16 and not options.bfloat16:
            continue
        peak = matmul_gflops()
        rate = options.batch / seconds_per_step(case, ocean, options)
        first = first or rate
        ratio = over_published(rate, peak, TRAINING, options.size)
        print(
            f"{case.label:20s} {rate:9.1f} {rate / first:6.2f} {rate * gflop:8.0f} "
            f"{rate * gflop / peak:9.2f} {ratio:>14s}",
            flush=True,
        )


if __name__ == "__main__":
    main()
