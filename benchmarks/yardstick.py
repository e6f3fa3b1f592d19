"""The machine's speed now, and what the published implementation did on a machine of known speed.

Figures of the published TensorFlow code (Durand et al. 2024) were measured on two quiet cores
beside the same matrix product; a ratio of rates, each over its own matrix product, compares code
rather than machines.
"""

import statistics
import time

import torch

# By grid size: rate of the published code, and of the matrix product beside it in GFLOP/s.
TRAINING = {128: (16.1, 199), 256: (4.27, 205)}  # images/s, UNet3 width 16, batch 8, graph mode
ROLLOUT = {128: (60 / 3.92, 206), 256: (60 / 8.50, 205)}  # steps/s of its one-sample loop
SPECTRA = {256: (1 / 3.9e-3, 203)}  # frames/s, transform and fit


def matmul_gflops():
    """GFLOP/s of a float32 2048^3 matrix product, median of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / 1e9 / statistics.median(times)


def over_published(rate, gflops, published, size):
    """Text: our rate over the published one, each over its matrix product; "-" where unknown."""
    if size not in published:
        return "-"
    their_rate, their_gflops = published[size]
    return f"{rate / gflops / (their_rate / their_gflops):.2f}"
