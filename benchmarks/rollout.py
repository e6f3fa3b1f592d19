"""Rollout steps per second from 1 and from 64 start dates at once.

python benchmarks/rollout.py [--size 128] [--steps 20] [--width 16]
"""

import argparse
import time

import torch

from seaice_lab.surrogate.forecast import rollout
from seaice_lab.surrogate.networks import build_network


def main():
    """Print the table."""
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

    def step(state, forcing):
        fields = torch.cat([state, forcing], dim=1)
        return state + network(fields.contiguous(memory_format=torch.channels_last))

    print(f"{options.size} x {options.size}, width {options.width}, {device}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    print(f"{'starts':>6s} {'steps/s':>8s} {'start steps/s':>13s} {'ratio':>6s}")
    first = None
    for starts in (1, 8, 64):
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
        print(f"{starts:6d} {rate:8.2f} {rate * starts:13.1f} {rate * starts / first:6.2f}")


if __name__ == "__main__":
    main()
