"""Compare speeds with those of the published code, measured on another machine.

The speeds of the published TensorFlow code (Durand et al. 2024) were measured on two idle cores,
together with the speed of a matrix product. Each speed is divided by that of the matrix product on
its machine, so that the ratio compares the codes and not the machines.
"""

import statistics
import time

import torch

# By grid size: rate of the published code, and GFLOP/s of the matrix product on that machine.
TRAINING = {128: (16.1, 199), 256: (4.27, 205)}  # images/s, UNet3 width 16, batch 8, graph mode
ROLLOUT = {128: (60 / 3.92, 206), 256: (60 / 8.50, 205)}  # steps/s of its one-sample loop
SPECTRA = {256: (1 / 3.9e-3, 203)}  # frames/s, transform and fit


def matmul_gflops():
    """Speed of a float32 matrix product (2048 x 2048) in GFLOP/s, median of five."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / 1e9 / statistics.median(times)


def over_published(rate, gflops, published, size):
    """Ratio of our rate to the published one, as text; "-" if the published rate is unknown."""
    if size not in published:
        return "-"
    their_rate, their_gflops = published[size]
    return f"{rate / gflops / (their_rate / their_gflops):.2f}"
