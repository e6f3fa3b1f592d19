"""The networks that predict the increment of sea-ice thickness.

Every network maps normalised fields (batch, channel, y, x) to normalised increments
(batch, channel, y, x), knows its ocean mask, and predicts zero increments before training.
Architecture after Durand et al. (2024), doi 10.5194/tc-18-1791-2024.
"""

import inspect
from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import (
    OceanBatchNorm2d,
    OceanMaxPool2d,
    PartialConv2d,
    SqueezeExcitation,
    mish,
    ocean_pyramid,
    upsample,
    zero_on_land,
)

# Times that each published U-Net halves the grid: its number counts levels.
POOLINGS = {"UNet2": 1, "UNet3": 2, "UNet4": 3, "UNet5": 4}
NETWORKS = (*POOLINGS, "ResNet", "PCNN", "CNN")


def build_network(
    name: str,
    ocean: torch.Tensor,
    in_channels: int,
    out_channels: int = 1,
    width: int = 16,
    published: bool = False,
    **options,
) -> nn.Module:
    """Build a network by the name that a configuration gives.

    Parameters
    ----------
    name : "UNet2", "UNet3", "UNet4", "UNet5", "ResNet", "PCNN" or "CNN"
    ocean : (y, x) bool tensor, True where sea
    in_channels, out_channels : numbers of input and output fields
    width : channels at the finest level
    published : True for the published network with its faults
    **options : ``kernel_size``, ``compensation``, ``squeeze_excitation``, ``dropout``, as far as
        the network has them

    Raises
    ------
    InputError
        If the name is unknown, the network lacks an option, or the grid cannot be halved as often
        as the network needs.
    """
    if name not in NETWORKS:
        raise InputError(
            f"network: found {name!r}, expected one of {', '.join(NETWORKS)}; "
            "correct the name in the configuration."
        )
    if name in POOLINGS:
        options["poolings"] = POOLINGS[name]
    if name == "CNN":
        options["masked"] = False
    kind = UNet if name in POOLINGS else ResNet if name == "ResNet" else Chain
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            raise InputError(
                f"{option}: {name} has no such option; leave it out of the configuration or "
                "choose a network that has it."
            )
    return kind(ocean, in_channels, out_channels, width, published=published, **options)


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
    squeeze_excitation : ratio by which squeeze-excitation narrows the channels, 0 for none
    dropout : share of the values that training sets to zero, once in each block on the way down
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
        squeeze_excitation=0,
        dropout=0.0,
        published=False,
    ):
        super().__init__()
        masks = ocean_pyramid(ocean, poolings)
        conv = partial(PartialConv2d, compensation=compensation, published=published)
        wide = partial(conv, kernel_size=kernel_size)
        excite = partial(SqueezeExcitation, ratio=squeeze_excitation, published=published)
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
            block = _convolutions(wide, channels, w, mask, 3, excite, (1, 2), dropout)
            block["bn"] = norm(w, mask)
            block["pool"] = pool(mask)
            self.add_module(f"enc{level}", nn.Sequential(block))
            channels = w
        block = _convolutions(wide, channels, middle, masks[-1], 4, excite, (2, 3), dropout)
        block["bn"] = norm(middle, masks[-1])
        self.mid = nn.Sequential(block)
        channels = middle
        for level in reversed(self.levels):
            mask, w = masks[level - 1], widths[level - 1]
            skip = widths[max(level - 2, 0)]
            block = _convolutions(wide, w + skip, w, mask, 3, excite, (1,))
            block["bn"] = norm(w, mask)
            self.add_module(f"dec{level}", _Decoder(wide(channels, w, mask), block))
            channels = w
        self.head = conv(channels, out_channels, masks[0], kernel_size=1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        skips = [self.stem(_at_the_entrance(self, x))]
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
        for name, layer in self.named_children():
            x = x if name == "up" else layer(x)
        return x


class ResNet(nn.Module):
    """Residual network of partial convolutions at full resolution.

    A linear stem, five blocks h + conv3(conv2(conv1(bn(h)))) of ``width``, 2 and 4 ``width``
    channels whose last convolution starts at zero (so that every block starts as the identity,
    after Zhang et al. 2019, arXiv 1901.09321), batch norm, a linear convolution to eight channels
    and a linear 1 x 1 head that starts at zero. Width 16 with kernels of 5 is the published one.

    Parameters
    ----------
    ocean, in_channels, out_channels, kernel_size, compensation, published : as in :class:`UNet`
    width : channels of the first convolution of each block; or three numbers, one for each
    """

    def __init__(
        self,
        ocean,
        in_channels,
        out_channels=1,
        width=16,
        kernel_size=5,
        compensation=True,
        published=False,
    ):
        super().__init__()
        conv = partial(PartialConv2d, ocean=ocean, compensation=compensation, published=published)
        wide = partial(conv, kernel_size=kernel_size)  # in the blocks; 3 before and after them
        norm = partial(_published_norm if published else OceanBatchNorm2d, ocean=ocean)
        first, second, third = (width, 2 * width, 4 * width) if isinstance(width, int) else width
        self.published = published
        self.register_buffer("ocean", ocean, persistent=False)
        self.stem = conv(in_channels, third, activation=None)
        self.blocks = range(1, 6)
        for number in self.blocks:
            block = OrderedDict(
                bn=norm(third),
                conv1=wide(third, first),
                conv2=wide(first, second),
                conv3=wide(second, third),
            )
            nn.init.zeros_(block["conv3"].weight)
            self.add_module(f"block{number}", nn.Sequential(block))
        self.final = nn.Sequential(
            OrderedDict(bn=norm(third), conv=conv(third, 8, activation=None))
        )
        self.head = conv(8, out_channels, kernel_size=1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        x = self.stem(_at_the_entrance(self, x))
        for number in self.blocks:
            x = x + self.get_submodule(f"block{number}")(x)
        return self.head(self.final(x))


class Chain(nn.Module):
    """Eight convolutions one after the other, ``width`` times 1, 2, 4, 8, 16, 8, 4 and 2 channels.

    The simplest baseline. With ``masked`` the convolutions are partial ("PCNN"), without it they
    are ordinary ones that take land for zero ("CNN"). A linear 1 x 1 head starts at zero. The
    published two forgot the activation, so that they can only be linear: ``published=True``.

    Parameters
    ----------
    ocean, in_channels, out_channels, width, kernel_size, published : as in :class:`UNet`
    masked : True for partial convolutions
    """

    def __init__(
        self,
        ocean,
        in_channels,
        out_channels=1,
        width=16,
        kernel_size=3,
        masked=True,
        published=False,
    ):
        super().__init__()
        # To an ordinary convolution all is sea.
        everywhere = ocean if masked else torch.ones_like(ocean)
        conv = partial(
            PartialConv2d,
            ocean=everywhere,
            activation=None if published else mish,
            compensation=masked,
            published=published,
        )
        self.published = published
        self.masked = masked
        self.register_buffer("ocean", ocean, persistent=False)
        self.convolutions = range(1, 9)
        channels = in_channels
        for number, factor in zip(self.convolutions, (1, 2, 4, 8, 16, 8, 4, 2), strict=True):
            layer = conv(channels, width * factor, kernel_size=kernel_size)
            self.add_module(f"conv{number}", layer)
            channels = width * factor
        self.head = conv(channels, out_channels, kernel_size=1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        x = _at_the_entrance(self, x)
        for number in self.convolutions:
            x = self.get_submodule(f"conv{number}")(x)
        y = self.head(x)
        return y if self.published or self.masked else zero_on_land(y, self.ocean)


def _at_the_entrance(network, x):
    """Check the grid of an input and, in the default form, clear its land."""
    if x.shape[-2:] != network.ocean.shape:
        raise InputError(
            f"x: found a grid of {tuple(x.shape[-2:])}, expected {tuple(network.ocean.shape)}, "
            "that of the ocean mask; build the network with the mask of these data."
        )
    return x if network.published else zero_on_land(x, network.ocean)


def _convolutions(conv, in_channels, width, ocean, count, excite, excited=(), dropout=0.0):
    """Convolutions of one block, with squeeze-excitation after those whose numbers are given."""
    layers = OrderedDict()
    for i in range(1, count + 1):
        layers[f"conv{i}"] = conv(in_channels if i == 1 else width, width, ocean)
        if i in excited and excite.keywords["ratio"]:
            layers[f"se{excited.index(i) + 1}"] = excite(width, ocean)
        if i == 1 and dropout:
            layers["dropout"] = nn.Dropout(dropout)
    return layers


def _published_norm(channels, ocean):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _published_pool(ocean):
    return nn.MaxPool2d(2)
