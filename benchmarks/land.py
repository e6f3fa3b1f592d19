"""Does it pay to leave land out of the convolutions? Tiles with ocean alone against whole maps.

python benchmarks/land.py STORE [--width 16] [--batch 8] [--tiles 8 16 32]

A convolution of 3 x 3 with its gradients over whole maps, against the same over those tiles (with
a rim of one cell) that hold ocean: gathered, convolved as a batch of small maps, scattered back.
Times and the ratio, at each depth of a U-Net of three poolings.
"""

import argparse
import time

import torch
from torch.nn.functional import conv2d, max_pool2d, pad

from seaice_lab.surrogate.store import open_store


def tiles_of(fields, size, places):
    """Tiles (tile, channel, size + 2, size + 2) at places (tile, 3) of batch, row and column."""
    rows, columns = fields.shape[-2:]
    fields = pad(fields, (1, 1 + -columns % size, 1, 1 + -rows % size))
    windows = fields.unfold(2, size + 2, size).unfold(3, size + 2, size)
    return windows[places[:, 0], :, places[:, 1], places[:, 2]]


def step(convolve, fields, weight):
    """Seconds of the fastest of some forward and backward passes."""
    best = float("inf")
    for _ in range(7):
        began = time.perf_counter()
        convolve(fields, weight).square().mean().backward()
        best = min(best, time.perf_counter() - began)
    return best


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="a prepared store, for its ocean mask")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tiles", type=int, nargs="+", default=[8, 16, 32])
    options = parser.parse_args()
    ocean = torch.from_numpy(open_store(options.store).ocean.values).float()[None, None]
    print(f"{torch.get_num_threads()} threads, {ocean.mean():.0%} of the cells are sea")
    heads = ("grid", "channels", "tile", "with sea", "whole, ms", "tiles, ms", "ratio")
    print(" ".join(f"{head:>9s}" for head in heads))
    channels = options.width
    for _ in range(4):
        fields = torch.randn(options.batch, channels, *ocean.shape[-2:], requires_grad=True)
        weight = torch.randn(channels, channels, 3, 3, requires_grad=True)
        whole = step(lambda f, w: conv2d(f, w, padding=1), fields, weight)
        for size in options.tiles:
            if size > ocean.shape[-1]:
                continue
            seen = max_pool2d(ocean, size, ceil_mode=True)[0, 0] > 0
            at = seen.nonzero().repeat(options.batch, 1)
            sample = torch.arange(options.batch).repeat_interleave(int(seen.sum()))
            places = torch.cat([sample[:, None], at], 1)
            tiled = step(
                lambda f, w, size=size, places=places: conv2d(tiles_of(f, size, places), w),
                fields, weight,
            )  # fmt: skip
            grid = " x ".join(map(str, ocean.shape[-2:]))
            print(f"{grid:>9s} {channels:9d} {size:9d} {seen.float().mean():9.0%} "
                  f"{whole * 1e3:9.1f} {tiled * 1e3:9.1f} {whole / tiled:9.2f}")  # fmt: skip
        ocean, channels = max_pool2d(ocean, 2), channels * 2


if __name__ == "__main__":
    main()
