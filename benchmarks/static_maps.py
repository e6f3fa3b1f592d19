"""Time a static map: python benchmarks/static_maps.py [--size 512].

Prints the processor seconds of drawing and saving one map with labelled graticule: on a grid that
follows the polar plane, which is drawn as an image, and on a turned grid, whose cells are drawn one
by one. The first map also loads cartopy and the land. A map of 512 x 512 took 0.6 to 0.9 s on the
regular and 0.9 to 1.1 s on the turned grid (2026, one core).
"""

import argparse
import io
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from seaice_lab import grid, land
from seaice_lab.figures import maps


def fields(size):
    """Random thickness on the grid of the Arctic, and on the same grid turned by 30 degrees."""
    domain = land.polar_grid(size)
    values = np.random.default_rng(0).random((size, size)) * 4
    sit = xr.DataArray(values, domain.coords, ("y", "x"), "sit", {"units": "m"})
    x, y = np.meshgrid(domain.x, domain.y)
    turned = (x + 1j * y) * np.exp(1j * np.radians(30))
    latitude, longitude = grid.unproject(turned.real, turned.imag)
    positions = {"latitude": (("y", "x"), latitude), "longitude": (("y", "x"), longitude)}
    return domain.ocean, {"regular": sit, "turned": sit.assign_coords(positions)}


def main():
    """Print the seconds of the first and of the second map of each grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    ocean, by_grid = fields(parser.parse_args().size)
    matplotlib.use("agg")
    for label in ("first", "second"):
        for name, field in by_grid.items():
            start = time.process_time()
            figure = maps.plot_map(field, ocean)
            figure.savefig(io.BytesIO())
            plt.close(figure)
            print(f"{label} map, {name} grid: {time.process_time() - start:.2f} s")


if __name__ == "__main__":
    main()
