"""The networks that predict the increment of sea-ice thickness.

Every network maps normalised fields (batch, channel, y, x) to normalised increments
(batch, channel, y, x), knows its ocean mask, and predicts zero increments before training.
Architecture after Durand et al. (2024), doi 10.5194/tc-18-1791-2024.
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import (
    OceanBatchNorm2d,
    OceanMaxPool2d,
    PartialConv2d,
    ocean_pyramid,
    upsample,
    zero_on_land,
)

# Times that each published network halves the grid: its number counts levels.
POOLINGS = {"UNet2": 1, "UNet3": 2, "UNet4": 3, "UNet5": 4}


def build_network(
    name: str,
    ocean: torch.Tensor,
    in_channels: int,
    out_channels: int = 1,
    width: int = 16,
    published: bool = False,
) -> nn.Module:
    """Build a network by the name that a configuration gives.

    Parameters
    ----------
    name : "UNet2", "UNet3", "UNet4" or "UNet5"
    ocean : (y, x) bool tensor, True where sea
    in_channels, out_channels : numbers of input and output fields
    width : channels at the finest level
    published : True for the published treatment of land

    Raises
    ------
    InputError
        If the name is unknown or the grid cannot be halved as often as the network needs.
    """
    if name not in POOLINGS:
        raise InputError(
            f"network: found {name!r}, expected one of {', '.join(POOLINGS)}; "
            "correct the name in the configuration."
        )
    return UNet(ocean, in_channels, out_channels, width, POOLINGS[name], published=published)


class UNet(nn.Module):
    """U-Net of partial convolutions.

    One linear convolution (stem), ``poolings`` encoder blocks that each halve the grid, a middle
    block, as many decoder blocks, and a linear 1 x 1 head that starts at zero. Decoder i takes
    the features of the level below and the field with which encoder i started: the stem's output
    for i = 1, the pooled output of encoder i - 1 for the others. The middle block is 8 ``width``
    channels wide, 16 ``width`` with four poolings (Durand et al. 2024).

    In the default form land never influences the ocean, and the input may hold anything on land,
    NaN included. With ``published=True`` the layers are the published ones: the input must be
    finite on land, and coastal cells and batch statistics feel the constants that stand there.

    Parameters
    ----------
    ocean : (y, x) bool tensor, True where sea
    in_channels, out_channels : numbers of input and output fields
    width : channels at the finest level; encoder i has width 2^(i - 1)
    poolings : number of times that the grid is halved
    kernel_size : odd window width of all convolutions but the head
    compensation : False switches the window factor of the partial convolutions off
    published : True for the published treatment of land

    Raises
    ------
    InputError
        If the grid cannot be halved ``poolings`` times, or an input has another grid.
    """

    def __init__(
        self,
        ocean,
        in_channels,
        out_channels=1,
        width=16,
        poolings=2,
        kernel_size=3,
        compensation=True,
        published=False,
    ):
        super().__init__()
        masks = ocean_pyramid(ocean, poolings)
        conv = partial(PartialConv2d, compensation=compensation, published=published)
        wide = partial(conv, kernel_size=kernel_size)
        norm = _published_norm if published else OceanBatchNorm2d
        pool = _published_pool if published else OceanMaxPool2d
        widths = [width * 2**level for level in range(poolings)]
        middle = max(8, 2**poolings) * width

        self.published = published
        self.levels = range(1, poolings + 1)
        self.register_buffer("ocean", ocean, persistent=False)
        self.stem = wide(in_channels, width, masks[0], activation=None)
        channels = width
        for level, mask, w in zip(self.levels, masks, widths, strict=False):
            block = _convolutions(wide, channels, w, mask, 3)
            block["bn"] = norm(w, mask)
            block["pool"] = pool(mask)
            self.add_module(f"enc{level}", nn.Sequential(block))
            channels = w
        block = _convolutions(wide, channels, middle, masks[-1], 4)
        block["bn"] = norm(middle, masks[-1])
        self.mid = nn.Sequential(block)
        channels = middle
        for level in reversed(self.levels):
            mask, w = masks[level - 1], widths[level - 1]
            skip = widths[max(level - 2, 0)]
            block = _convolutions(wide, w + skip, w, mask, 3)
            block["bn"] = norm(w, mask)
            self.add_module(f"dec{level}", _Decoder(wide(channels, w, mask), block))
            channels = w
        self.head = conv(channels, out_channels, masks[0], kernel_size=1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        if x.shape[-2:] != self.ocean.shape:
            raise InputError(
                f"x: found a grid of {tuple(x.shape[-2:])}, expected {tuple(self.ocean.shape)}, "
                "that of the ocean mask; build the network with the mask of these data."
            )
        if not self.published:
            x = zero_on_land(x, self.ocean)
        skips = [self.stem(x)]
        for level in self.levels:
            skips.append(self.get_submodule(f"enc{level}")(skips[-1]))
        x = self.mid(skips.pop())
        for level in reversed(self.levels):
            x = self.get_submodule(f"dec{level}")(x, skips.pop())
        return self.head(x)


class _Decoder(nn.Module):
    """Upsample to the next finer level, convolve, join with the skip, convolve again."""

    def __init__(self, up, block):
        super().__init__()
        self.up = up
        for name, layer in block.items():
            self.add_module(name, layer)

    def forward(self, x, skip):
        x = upsample(x)
        if not self.up.published:
            # A coarse ocean cell may cover fine land cells.
            x = x * self.up.ocean
        x = torch.cat([self.up(x), skip], dim=1)
        return self.bn(self.conv3(self.conv2(self.conv1(x))))


def _convolutions(conv, in_channels, width, ocean, count):
    layers = OrderedDict(conv1=conv(in_channels, width, ocean))
    for i in range(2, count + 1):
        layers[f"conv{i}"] = conv(width, width, ocean)
    return layers


def _published_norm(channels, ocean):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _published_pool(ocean):
    return nn.MaxPool2d(2)
