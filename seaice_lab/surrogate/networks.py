"""The networks that predict the increment of sea-ice thickness.

Every network maps normalised fields (batch, channel, y, x) to normalised increments
(batch, channel, y, x), contains its ocean mask, and predicts zero increments before training.
Architectures after Durand et al. (2024), doi 10.5194/tc-18-1791-2024.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from seaice_lab.errors import InputError
from seaice_lab.surrogate import layers as ocean_layers

# Number of times that each published U-Net halves the grid (its name counts the levels).
POOLINGS = {"UNet2": 1, "UNet3": 2, "UNet4": 3, "UNet5": 4}
# Options that each network accepts in a configuration, with their default values.
UNET_OPTIONS = {"kernel_size": 3, "compensation": True, "squeeze_excitation": 0, "dropout": 0.0}
OPTIONS = {name: UNET_OPTIONS for name in POOLINGS} | {
    "ResNet": {"kernel_size": 5, "compensation": True},
    "PCNN": {"kernel_size": 3},
    "CNN": {"kernel_size": 3},
}

# What the value of each option must be, in words and as a test.
OPTION_VALUES = {
    "kernel_size": ("an odd number of cells", lambda value: value > 0 and value % 2 == 1),
    "compensation": ("true or false", lambda value: value in (0, 1)),
    "squeeze_excitation": ("0 or a ratio of at least 1", lambda value: 0 <= value < 1e9),
    "dropout": ("a fraction from 0 to below 1", lambda value: 0 <= value < 1),
}


def check_options(name, options):
    """Check the name of a network and its options.

    Parameters
    ----------
    name : str
    options : dict
        ``network_options`` of a configuration.

    Raises
    ------
    InputError
        If the name is unknown, the network lacks an option, or a value is wrong.
    """
    if name not in OPTIONS:
        raise InputError(
            f"network: found {name!r}, expected one of {', '.join(OPTIONS)}; "
            "correct the name in the configuration."
        )
    for option, value in options.items():
        if option not in OPTIONS[name]:
            listed = ", ".join(f"{key} = {default}" for key, default in OPTIONS[name].items())
            raise InputError(
                f"network_options: {option}: {name} has no such option (its options are {listed}; "
                "width and published_network are settings of their own); leave it out or choose a "
                "network that has it."
            )
        expected, is_valid = OPTION_VALUES[option]
        types = (bool, int) if option == "compensation" else (int, float)
        is_switch = isinstance(value, bool) and bool not in types
        if is_switch or not isinstance(value, types) or not is_valid(value):
            raise InputError(f"network_options: {option} is {value!r}, expected {expected}")


def build_network(
    name, ocean, in_channels, out_channels=1, width=16, published=False, noise_channels=0, **options
):
    """Build a network by its name in a configuration.

    Parameters
    ----------
    name : "UNet2", "UNet3", "UNet4", "UNet5", "ResNet", "PCNN" or "CNN"
    ocean : (y, x) bool tensor, True where sea
    in_channels, out_channels : numbers of input and output fields
    width : channels at the finest level
    published : True for the published network, in which land influences the ocean
    noise_channels : random fields on each level of a U-Net; 0 for a deterministic network
    **options : ``kernel_size``, ``compensation``, ``squeeze_excitation``, ``dropout``, if the
        network has them (see :data:`OPTIONS`)

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        If the name is unknown, the network lacks an option, its value is wrong, or the grid cannot
        be halved as often as the network requires.
    """
    check_options(name, options)
    # A whole number may come as 3.0.
    options = {key: int(value) if value == int(value) else value for key, value in options.items()}
    if noise_channels and (name not in POOLINGS or published):
        raise InputError(
            f"network: {name}{' as published' * published} has no noise layers, which loss crps "
            f"needs; choose one of {', '.join(POOLINGS)} with published_network false"
        )
    options |= {"published": published, "noise_channels": noise_channels}
    layers = LayerOptions(**OPTIONS[name] | options)
    if name in POOLINGS:
        return UNet(ocean, in_channels, out_channels, width, POOLINGS[name], layers)
    if name == "ResNet":
        return ResNet(ocean, in_channels, out_channels, width, layers)
    return Chain(ocean, in_channels, out_channels, width, name == "PCNN", layers)


@dataclass(frozen=True)
class LayerOptions:
    """Options that the layers of a network share.

    Parameters
    ----------
    kernel_size : odd window width of the convolutions
    compensation : False switches the compensation for land in the convolutions off
    squeeze_excitation : ratio by which squeeze-excitation narrows the channels, 0 for none
    dropout : fraction of the values that training sets to zero, once in each block of the encoder
    published : True for the published treatment of land
    noise_channels : random fields on each level of a U-Net; 0 for a deterministic network
    """

    kernel_size: int = 3
    compensation: bool = True
    squeeze_excitation: float = 0
    dropout: float = 0.0
    published: bool = False
    noise_channels: int = 0

    def convolution(
        self, in_channels, out_channels, ocean, kernel_size=None, activation=ocean_layers.mish
    ):
        """A partial convolution with these options.

        Parameters
        ----------
        in_channels, out_channels : numbers of channels
        ocean : (y, x) bool tensor, True where sea
        kernel_size : odd window width; that of the options by default
        activation : function applied at the end, None for a linear layer

        Returns
        -------
        PartialConv2d
        """
        size = kernel_size or self.kernel_size
        return ocean_layers.PartialConv2d(
            in_channels, out_channels, ocean, size, activation, self.compensation, self.published
        )

    def norm(self, channels, ocean):
        """A batch norm over the ocean, or over the entire image as published.

        Parameters
        ----------
        channels : number of channels
        ocean : (y, x) bool tensor, True where sea

        Returns
        -------
        torch.nn.Module
        """
        if self.published:
            return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        # The statistics of a batch would couple the members of an ensemble in it.
        return ocean_layers.OceanBatchNorm2d(channels, ocean, stored=bool(self.noise_channels))

    def pool(self, ocean):
        """A 2 x 2 max-pooling over the ocean, or over all cells as published."""
        return nn.MaxPool2d(2) if self.published else ocean_layers.OceanMaxPool2d(ocean)

    def block(self, in_channels, width, ocean, count, excited):
        """The layers of one block of a U-Net: convolutions, then batch norm.

        Parameters
        ----------
        in_channels : number of channels of the input
        width : number of channels of all layers
        ocean : (y, x) bool tensor, True where sea
        count : number of convolutions
        excited : tuple of int
            Numbers of the convolutions that squeeze-excitation follows, counted from 1.

        Returns
        -------
        OrderedDict of str to torch.nn.Module
        """
        layers = OrderedDict()
        for i in range(1, count + 1):
            layers[f"conv{i}"] = self.convolution(in_channels if i == 1 else width, width, ocean)
            if self.squeeze_excitation and i in excited:
                layers[f"se{excited.index(i) + 1}"] = ocean_layers.SqueezeExcitation(
                    width, ocean, self.squeeze_excitation, self.published
                )
            if self.dropout and i == 1:
                layers["dropout"] = nn.Dropout(self.dropout)
        layers["bn"] = self.norm(width, ocean)
        return layers


class UNet(nn.Module):
    """U-Net of partial convolutions.

    It consists of a linear convolution (stem), ``poolings`` encoder blocks that each halve the
    grid, a middle block, as many decoder blocks as encoder blocks, and a linear 1 x 1 head that
    starts at zero. Decoder i receives the features of the level below and the input of encoder i:
    the output of the stem for i = 1, the pooled output of encoder i - 1 otherwise. The middle
    block has 8 ``width`` channels, 16 ``width`` with four poolings (Durand et al. 2024).

    In the default form land never influences the ocean, and the input may have any value on land,
    NaN included. In the published form the input must be finite on land, and the constants on land
    influence coastal cells and batch statistics.

    With ``noise_channels``, noise layers follow the stem, each encoder, the middle block and each
    decoder but the last. Coarse levels give wide perturbations and fine levels narrow ones.

    Parameters
    ----------
    ocean : (y, x) bool tensor, True where sea
    in_channels, out_channels : numbers of input and output fields
    width : channels at the finest level; encoder i has width 2^(i - 1)
    poolings : number of times that the grid is halved
    layers : LayerOptions

    Raises
    ------
    InputError
        If the grid cannot be halved ``poolings`` times, or an input has another grid.
    """

    def __init__(
        self, ocean, in_channels, out_channels=1, width=16, poolings=2, layers=LayerOptions()
    ):
        super().__init__()
        masks = ocean_layers.ocean_pyramid(ocean, poolings)
        widths = [width * 2**level for level in range(poolings)]
        middle = max(8, 2**poolings) * width

        self.published = layers.published
        self.levels = range(1, poolings + 1)
        self.register_buffer("ocean", ocean, persistent=False)
        self.stem = layers.convolution(in_channels, width, masks[0], activation=None)
        channels = width
        for level in self.levels:
            mask, w = masks[level - 1], widths[level - 1]
            block = layers.block(channels, w, mask, count=3, excited=(1, 2))
            block["pool"] = layers.pool(mask)
            self.add_module(f"enc{level}", nn.Sequential(block))
            channels = w
        self.mid = nn.Sequential(layers.block(channels, middle, masks[-1], 4, excited=(2, 3)))
        channels = middle
        # The published decoder has no dropout.
        decoder = replace(layers, dropout=0.0)
        for level in reversed(self.levels):
            mask, w = masks[level - 1], widths[level - 1]
            skip = widths[max(level - 2, 0)]
            block = decoder.block(w + skip, w, mask, count=3, excited=(1,))
            up = OrderedDict(up=decoder.convolution(channels, w, mask))
            self.add_module(f"dec{level}", _Decoder(up | block))
            channels = w
        self.head = layers.convolution(channels, out_channels, masks[0], 1, activation=None)
        nn.init.zeros_(self.head.weight)
        entrances = {"stem": (width, 0), "mid": (middle, poolings)}
        entrances |= {f"enc{level}": (widths[level - 1], level) for level in self.levels}
        entrances |= {f"dec{level}": (widths[level - 1], level - 1) for level in self.levels[1:]}
        self.noise = nn.ModuleDict()
        for name, (channels, level) in entrances.items() if layers.noise_channels else ():
            sizes = channels, layers.noise_channels, masks[level], level
            self.noise[name] = ocean_layers.NoiseLayer(*sizes)

    def forward(self, x, noise=None):
        """Map fields to increments, both normalised.

        Parameters
        ----------
        x : (batch, in_channels, y, x) tensor
        noise : list of (batch, noise_channels, y, x) tensors, finest level first; None for none

        Returns
        -------
        (batch, out_channels, y, x) tensor
        """

        def block(name, *inputs):
            y = self.get_submodule(name)(*inputs)
            return y if noise is None or name not in self.noise else self.noise[name](y, noise)

        skips = [block("stem", ocean_layers.checked_input(self, x))]
        for level in self.levels:
            skips.append(block(f"enc{level}", skips[-1]))
        x = block("mid", skips.pop())
        for level in reversed(self.levels):
            x = block(f"dec{level}", x, skips.pop())
        return self.head(x)


class _Decoder(nn.Sequential):
    """Upsample to the next finer level, convolve, append the skip connection, convolve again."""

    def forward(self, x, skip):
        first, *block = self
        x = ocean_layers.upsample(x)
        if not first.published:
            # A coarse ocean cell may cover fine land cells.
            x = x * first.ocean
        x = torch.cat([first(x), skip], dim=1)
        for layer in block:
            x = layer(x)
        return x


class ResNet(nn.Module):
    """Residual network of partial convolutions at full resolution.

    It consists of a linear stem, five blocks h + conv3(conv2(conv1(bn(h)))) of ``width``, 2 and 4
    ``width`` channels, batch norm, a linear convolution to eight channels and a linear 1 x 1 head
    that starts at zero. The last convolution of each block starts at zero, so that the block
    starts as the identity (after Zhang et al. 2019, arXiv 1901.09321). The published network has
    width 16 and kernels of 5.

    Parameters
    ----------
    ocean, in_channels, out_channels, layers : as in :class:`UNet`
    width : channels of the first convolution of each block; or three numbers, one for each
    """

    def __init__(
        self, ocean, in_channels, out_channels=1, width=16, layers=LayerOptions(kernel_size=5)
    ):
        super().__init__()
        conv = partial(layers.convolution, ocean=ocean)
        first, second, third = (width, 2 * width, 4 * width) if isinstance(width, int) else width
        self.published = layers.published
        self.register_buffer("ocean", ocean, persistent=False)
        # The kernel size of the options applies to the blocks; before and after them it is 3.
        self.stem = conv(in_channels, third, kernel_size=3, activation=None)
        self.blocks = range(1, 6)
        for number in self.blocks:
            block = OrderedDict(
                bn=layers.norm(third, ocean),
                conv1=conv(third, first),
                conv2=conv(first, second),
                conv3=conv(second, third),
            )
            nn.init.zeros_(block["conv3"].weight)
            self.add_module(f"block{number}", nn.Sequential(block))
        last = conv(third, 8, kernel_size=3, activation=None)
        self.final = nn.Sequential(OrderedDict(bn=layers.norm(third, ocean), conv=last))
        self.head = conv(8, out_channels, kernel_size=1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        x = self.stem(ocean_layers.checked_input(self, x))
        for number in self.blocks:
            x = x + self.get_submodule(f"block{number}")(x)
        return self.head(self.final(x))


class Chain(nn.Sequential):
    """Eight convolutions in a row with ``width`` times 1, 2, 4, 8, 16, 8, 4 and 2 channels.

    The simplest network to compare with. With ``masked`` the convolutions are partial ("PCNN"),
    otherwise ordinary ones in which land has the value zero ("CNN"). A linear 1 x 1 head starts at
    zero. The published two networks lack the activation and are therefore linear.

    Parameters
    ----------
    ocean, in_channels, out_channels, width, layers : as in :class:`UNet`
    masked : True for partial convolutions
    """

    def __init__(
        self, ocean, in_channels, out_channels=1, width=16, masked=True, layers=LayerOptions()
    ):
        super().__init__()
        # An ordinary convolution is a partial one on a grid without land.
        mask = ocean if masked else torch.ones_like(ocean)
        layers = replace(layers, compensation=masked)
        activation = None if layers.published else ocean_layers.mish
        self.published = layers.published
        self.masked = masked
        self.register_buffer("ocean", ocean, persistent=False)
        channels = in_channels
        for number, factor in enumerate((1, 2, 4, 8, 16, 8, 4, 2), 1):
            layer = layers.convolution(channels, width * factor, mask, activation=activation)
            self.add_module(f"conv{number}", layer)
            channels = width * factor
        self.head = layers.convolution(channels, out_channels, mask, 1, activation=None)
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        y = super().forward(ocean_layers.checked_input(self, x))
        return y if self.published or self.masked else ocean_layers.zero_on_land(y, self.ocean)
