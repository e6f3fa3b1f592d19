"""Time power spectra: all fields in one call compared with one field per call.

python benchmarks/spectra.py [--size 256] [--frames 200]
"""

import argparse
import time

import numpy as np
import xarray as xr
from yardstick import SPECTRA, matmul_gflops, over_published

from seaice_lab.diagnostics import spectra


def main():
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=200)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    values = rng.standard_normal((options.frames, options.size, options.size)).astype("float32")
    frames = xr.DataArray(values, dims=("time", "y", "x"), attrs={"units": "m"})
    ocean = xr.DataArray(np.ones(values.shape[1:], bool), dims=("y", "x"))

    def ours(fields):
        return spectra.spectral_exponent(spectra.power_spectrum(fields, ocean, 12e3))

    def published(fields):
        return spectra.published_exponent(spectra.published_spectrum(fields, ocean))

    print(f"{options.frames} fields of {options.size} x {options.size}")
    print(
        f"{'convention':>12s} {'one by one/s':>13s} {'together/s':>11s} {'ratio':>6s} "
        f"{'over published':>14s}"
    )
    for label, compute in (("published", published), ("open ocean", ours)):
        few = min(options.frames, 50)
        compute(frames[:2])
        began = time.perf_counter()
        for frame in frames[:few]:
            compute(frame)
        alone = few / (time.perf_counter() - began)
        began = time.perf_counter()
        compute(frames)
        together = options.frames / (time.perf_counter() - began)
        ratio = over_published(together, matmul_gflops(), SPECTRA, options.size)
        print(f"{label:>12s} {alone:13.0f} {together:11.0f} {together / alone:6.1f} {ratio:>14s}")


if __name__ == "__main__":
    main()
