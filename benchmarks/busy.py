"""Time a training step on a quiet processor and beside busy loops, with short and long waiting.

python benchmarks/busy.py [--loops N] [--size 128] [--rounds 4]

Each round times the same step for a few seconds in four cases: as the library sets OpenMP, and with
the default of OpenMP, each on a quiet processor and beside as many endless loops as processors.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import seaice_lab  # noqa: F401  sets the variables of OpenMP, before `steps` loads torch

SECONDS = 6
WAITING = {"as the library sets it": None, "default of OpenMP": "300000"}
LOOP = [sys.executable, "-c", "while True: pass"]


def steps(size):
    """For each line of standard input, train for some seconds and print the steps per second."""
    import torch

    from seaice_lab.surrogate.losses import ocean_loss
    from seaice_lab.surrogate.networks import build_network
    from seaice_lab.torch_private import keep_freed_memory

    torch.manual_seed(0)
    keep_freed_memory()  # as a training does
    ocean = torch.rand(size, size) > 0.25
    network = build_network("UNet3", ocean, 10, width=16).to(memory_format=torch.channels_last)
    x = torch.randn(8, 10, size, size).contiguous(memory_format=torch.channels_last)
    y = torch.randn(8, 1, size, size)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    forward = torch.compile(network)

    def step():
        optimiser.zero_grad()
        ocean_loss(forward(x), y, ocean)[0].backward()
        optimiser.step()

    step(), step()
    print("ready", flush=True)
    for _ in sys.stdin:
        number, began = 0, time.perf_counter()
        while time.perf_counter() - began < SECONDS:
            step()
            number += 1
        print(number / (time.perf_counter() - began), flush=True)


@contextmanager
def busy(loops):
    """Endless loops beside the block."""
    processes = [subprocess.Popen(LOOP) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        return steps(options.size)
    workers, rates = {}, {}
    for label, spins in WAITING.items():
        workers[label] = subprocess.Popen(
            [sys.executable, __file__, "--steps", "--size", str(options.size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"GOMP_SPINCOUNT": spins} if spins else {}),
        )
        workers[label].stdout.readline()  # ready
    for _ in range(options.rounds):
        for loops in (0, options.loops):
            for label, worker in workers.items():
                with busy(loops):
                    print("go", file=worker.stdin, flush=True)
                    rate = float(worker.stdout.readline())
                rates.setdefault((label, loops), []).append(rate)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    quiet = statistics.median(rates["default of OpenMP", 0])
    print(f"samples/s at {options.size} x {options.size}, batches of 8; ratio to the quiet default")
    for (label, loops), values in rates.items():
        rate = statistics.median(values)
        print(f"{label:24s} {loops} busy loops {8 * rate:7.2f} {rate / quiet:6.2f}")


if __name__ == "__main__":
    main()
