"""Time a rollout: steps per second from 1, 8 and 64 start dates together.

python benchmarks/rollout.py [--size 128] [--steps 20] [--width 16]
"""

import argparse
import time

import torch
from yardstick import ROLLOUT, matmul_gflops, over_published

from seaice_lab.compute import can_compile
from seaice_lab.surrogate.forecast import rollout
from seaice_lab.surrogate.networks import build_network


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    ocean = torch.rand(options.size, options.size) > 0.25
    network = build_network("UNet3", ocean, 10, width=options.width).to(device).eval()
    network = network.to(memory_format=torch.channels_last)

    print(
        f"{options.size} x {options.size}, width {options.width}, {device}, "
        f"{torch.get_num_threads()} threads"
    )
    print(
        f"{'':8s} {'starts':>6s} {'steps/s':>8s} {'start steps/s':>13s} {'ratio':>6s} "
        f"{'over published loop':>19s}"
    )
    first = None
    eager, compiled = network, torch.compile(network, dynamic=False)
    cases = [("eager", eager, 1), ("eager", eager, 8), ("eager", eager, 64)]
    cases += [("compiled", compiled, 8), ("compiled", compiled, 64)] if can_compile() else []
    for label, network, starts in cases:
        peak = matmul_gflops()

        def step(state, forcing, network=network):
            fields = torch.cat([state, forcing], dim=1)
            return state + network(fields.contiguous(memory_format=torch.channels_last))

        state = torch.rand(starts, 1, options.size, options.size, device=device)
        forcing = torch.randn(starts, 9, options.size, options.size, device=device)
        with torch.inference_mode():
            for _ in rollout(step, state, [forcing] * 2):
                pass
            began = time.perf_counter()
            for _ in rollout(step, state, [forcing] * options.steps):
                pass
            if device == "cuda":
                torch.cuda.synchronize()
        rate = options.steps / (time.perf_counter() - began)
        first = first or rate
        ratio = over_published(rate * starts, peak, ROLLOUT, options.size)
        print(
            f"{label:8s} {starts:6d} {rate:8.2f} {rate * starts:13.1f} "
            f"{rate * starts / first:6.2f} {ratio:>19s}",
            flush=True,
        )


if __name__ == "__main__":
    main()
