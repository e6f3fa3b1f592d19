"""Layers with an ocean mask: partial convolution, batch norm, pooling, upsampling.

The mask ``ocean`` is fixed when a layer is built. Our default form has one rule: *inside a
network every field is exactly zero on land*. Each layer relies on this rule and preserves it, so
that no value on land can influence an ocean cell. A network establishes it for its input with
:func:`zero_on_land`.

With ``published=True`` the partial convolution is that of Durand et al. (2024,
doi 10.5194/tc-18-1791-2024): the value of a land cell is activation(bias), and the plain batch
norm and max-pooling of the published networks let these constants leak into coastal cells and
statistics.

Masks are buffers outside the state dictionary. They follow the network from device to device,
and a weights file fits any grid: the mask belongs to the data, not to the weights.
"""

import torch
import torch.nn.functional as F
from torch import nn

from seaice_lab.errors import InputError
from seaice_lab.surrogate.process_sums import processes, sum_over_processes

# Standard deviation of a unit normal cut off at -2 and 2.
_STD_OF_TRUNCATED_NORMAL = 0.8796256610342398


def mish(x):
    """Activation x tanh(ln(1 + e^x)) (Misra 2019, arXiv 1908.08681).

    When compiled, it is computed as x n / (n + 2) with n = e^x (e^x + 2): the same function with
    one exponential instead of three transcendental functions, in a fifth of the time of
    ``torch.nn.functional.mish`` on a CPU, with the same rounding error. When not compiled, or in an
    exported program, this form would need five passes over memory; torch's own function needs one.
    """
    # In torch 2.11 is_exporting is True in torch.compile as well. Export does not use Dynamo.
    if not torch.compiler.is_dynamo_compiling():
        return F.mish(x)
    # Beyond x = 40 the fraction is 1 in double precision; the clamp keeps n from overflowing.
    w = torch.exp(torch.clamp(x, max=40.0))
    n = w * (w + 2.0)
    return x * (n / (n + 2.0))


def zero_on_land(x, ocean):
    """Replace all values on land, NaN included, by zero.

    Parameters
    ----------
    x : (batch, channel, y, x) tensor
    ocean : (y, x) bool tensor, True where sea

    Returns
    -------
    (batch, channel, y, x) tensor
    """
    return torch.where(ocean, x, 0.0)


def checked_input(network, x):
    """Check the grid of an input and, in the default form, set it to zero on land.

    Parameters
    ----------
    network : torch.nn.Module
        With the mask ``ocean`` and the switch ``published``.
    x : (batch, channel, y, x) tensor

    Returns
    -------
    (batch, channel, y, x) tensor

    Raises
    ------
    InputError
        If the grid is not that of the mask.
    """
    if x.shape[-2:] != network.ocean.shape:
        raise InputError(
            f"x: found a grid of {tuple(x.shape[-2:])}, expected {tuple(network.ocean.shape)}, "
            "that of the ocean mask; build the network with the mask of these data."
        )
    return x if network.published else zero_on_land(x, network.ocean)


def upsample(x):
    """Repeat each cell 2 x 2: (batch, channel, y, x) to (batch, channel, 2 y, 2 x).

    The result equals that of ``interpolate(x, scale_factor=2, mode="nearest")``, whose compiled
    gradient scatters with atomic additions; the gradient of this form sums four cells.
    """
    batch, channels, ny, nx = x.shape
    cells = x.permute(0, 2, 3, 1)[:, :, None, :, None, :].expand(-1, -1, 2, -1, 2, -1)
    return cells.reshape(batch, 2 * ny, 2 * nx, channels).permute(0, 3, 1, 2)


def ocean_pyramid(ocean, poolings):
    """Ocean masks of the full grid and of each coarser level.

    A coarse cell is ocean if any of its four children is.

    Parameters
    ----------
    ocean : (y, x) bool tensor, True where sea
    poolings : number of times that the grid is halved

    Returns
    -------
    list of ``poolings + 1`` bool tensors, finest first

    Raises
    ------
    InputError
        If the mask is not a 2-D bool tensor, has no ocean cell, or cannot be halved that often.
    """
    if ocean.dtype != torch.bool or ocean.ndim != 2:
        raise InputError(
            f"ocean: found {ocean.ndim} dimensions of {ocean.dtype}, expected a 2-D bool tensor "
            "(y, x) that is True where sea; pass for example mask.bool()."
        )
    if not ocean.any():
        raise InputError(
            "ocean: no cell is sea, expected at least one; the mask may be inverted "
            "(it is True where sea)."
        )
    ny, nx = ocean.shape
    divisor = 2**poolings
    if ny % divisor or nx % divisor:
        raise InputError(
            f"ocean: {ny} x {nx} cells cannot be halved {poolings} times, must be divisible by "
            f"{divisor}; crop it to {ny - ny % divisor} x {nx - nx % divisor} or use fewer poolings"
        )
    masks = [ocean]
    for _ in range(poolings):
        masks.append(F.max_pool2d(masks[-1][None].float(), 2)[0] > 0)
    return masks


def window_ratio(ocean, kernel_size, compensation=True):
    """Factor that compensates for the land cells in each convolution window.

    In the ocean it is k^2 / (n + 1e-8), where n is the number of ocean cells among the k^2 cells
    of the window; on land it is 0 (Durand et al. 2024; after Liu et al. 2018, arXiv 1804.07723).
    Cells outside the image count as land. Without compensation the factor is 1 in the ocean.

    Parameters
    ----------
    ocean : (y, x) bool tensor, True where sea
    kernel_size : odd window width k
    compensation : False switches the compensation off

    Returns
    -------
    (y, x) tensor of the default dtype, computed in double precision
    """
    mask = ocean.double()
    ratio = mask
    if compensation:
        window = mask.new_ones(1, 1, kernel_size, kernel_size)
        valid = F.conv2d(mask[None, None], window, padding=kernel_size // 2)[0, 0]
        # 1e-8 is below the resolution of float32. The published double-precision runs have it.
        ratio = mask * kernel_size**2 / (valid + 1e-8)
    return ratio.to(torch.get_default_dtype())


def _on_ocean(constant, ocean):
    """A constant (channel, 1, 1) as a field that is zero on land: (1, channel, y, x).

    Adding this field keeps a batch zero on land without another pass over the batch. The sum has
    the memory format of this field, and convolutions are fastest with channels last.
    """
    return (constant * ocean)[None].contiguous(memory_format=torch.channels_last)


class PartialConv2d(nn.Module):
    """Convolution over ocean cells only, with stride 1, which keeps the size of the image.

    y(p) = activation(ratio(p) * sum_q K(q) x(p + q) + b), with x zero on land and the ratio of
    :func:`window_ratio`. The bias is added after the multiplication with the ratio.

    In the default form x must already be zero on land, and y is set to zero there. With
    ``published=True`` the layer itself sets x to zero on land, and y is activation(b) there.

    Kernels are initialised from a He normal distribution (standard deviation
    sqrt(2 / (k^2 in_channels)) after truncation at two sigma; the mask is ignored), biases with
    zero.

    Parameters
    ----------
    in_channels, out_channels : numbers of channels
    ocean : (y, x) bool tensor, True where sea
    kernel_size : odd window width
    activation : function applied at the end, None for a linear layer; it must map 0 to 0
    compensation : False switches the compensation for land off (ratio 1 in the ocean)
    published : True for the published treatment of land

    Raises
    ------
    InputError
        If ``kernel_size`` is even.
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        ocean,
        kernel_size=3,
        activation=mish,
        compensation=True,
        published=False,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(
                f"kernel_size: found {kernel_size}, expected an odd number, so that the window "
                "has a centre; use for example 3 or 5."
            )
        self.activation = activation
        self.published = published
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        sigma = (2.0 / (in_channels * kernel_size**2)) ** 0.5 / _STD_OF_TRUNCATED_NORMAL
        nn.init.trunc_normal_(self.weight, std=sigma, a=-2.0 * sigma, b=2.0 * sigma)
        ratio = window_ratio(ocean, kernel_size, compensation)
        self.register_buffer("ocean", ocean.to(ratio.dtype), persistent=False)
        self.register_buffer("ratio", ratio, persistent=False)

    def forward(self, x):
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x)."""
        if self.published:
            x = x * self.ocean
        y = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        bias = self.bias[:, None, None]
        if not self.published:
            bias = _on_ocean(bias, self.ocean)
        y = torch.addcmul(bias, y, self.ratio)
        return y if self.activation is None else self.activation(y)


class OceanBatchNorm2d(nn.Module):
    """Batch norm whose statistics come from ocean cells only.

    The input must be zero on land, and so is the output. The statistics are those of
    ``torch.nn.BatchNorm2d`` applied to the ocean cells alone: the batch is normalised with the
    biased variance, and the running variance is updated with the unbiased one. They are computed
    in the precision of the weights (float32 also under bfloat16 autocast) and over the batches of
    all processes, so that two processes train like one with a batch of twice the size.

    Parameters
    ----------
    channels : number of channels
    ocean : (y, x) bool tensor, True where sea
    eps, momentum : as in ``torch.nn.BatchNorm2d``; the defaults are the published ones
    stored : True to normalise with the stored statistics in training too, and not to change them
    """

    def __init__(self, channels, ocean, eps=1e-3, momentum=0.01, stored=False):
        super().__init__()
        self.stored = stored
        self.eps = eps
        self.momentum = momentum
        self.cells = int(ocean.sum())
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_buffer("ocean", ocean.to(self.weight.dtype), persistent=False)

    def forward(self, x):
        """Normalise (batch, channel, y, x)."""
        x = x.to(self.weight.dtype)
        if self.training and not self.stored:
            mean, variance = self._batch_statistics(x)
        else:
            mean, variance = self.running_mean, self.running_var
        # weight (x - mean) / sqrt(variance + eps) + bias as scale x + offset: one multiply-add.
        scale = self.weight * torch.rsqrt(variance + self.eps)
        offset = self.bias - mean * scale
        offset = _on_ocean(offset[:, None, None], self.ocean)
        return torch.addcmul(offset, x, scale[:, None, None])

    def _batch_statistics(self, x):
        count = x.shape[0] * self.cells * processes()
        mean = sum_over_processes(x.sum((0, 2, 3))) / count
        # A second pass computes the variance about the mean: a difference of two sums of squares
        # would lose digits where the mean of a channel is large compared with its spread.
        deviation = x - mean[:, None, None] * self.ocean
        variance = sum_over_processes((deviation * deviation).sum((0, 2, 3))) / count
        with torch.no_grad():
            unbiased = variance * (count / max(count - 1, 1))
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        return mean, variance


class OceanMaxPool2d(nn.Module):
    """2 x 2 max-pooling over ocean cells; a coarse cell without ocean cells is zero.

    Parameters
    ----------
    ocean : (y, x) bool tensor of the fine level, True where sea; both sizes even
    """

    def __init__(self, ocean):
        super().__init__()
        self.register_buffer("land", ~ocean, persistent=False)
        self.register_buffer("coarse_land", ~ocean_pyramid(ocean, 1)[1], persistent=False)

    def forward(self, x):
        """Map (batch, channel, y, x) to (batch, channel, y / 2, x / 2)."""
        # Land must not win against negative ocean values.
        x = torch.where(self.land, -torch.inf, x)
        return torch.where(self.coarse_land, 0.0, F.max_pool2d(x, 2))


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number in (0, 1), computed from the means of all channels.

    y = s x with s = sigmoid(fc2(relu(fc1(means)))) (Hu et al. 2018, arXiv 1709.01507). The means
    are over the ocean; with ``published=True`` over the entire image, land included.

    Parameters
    ----------
    channels : number of channels
    ocean : (y, x) bool tensor, True where sea
    ratio : number of channels divided by the width of the hidden layer, at least 1
    published : True for the published mean

    Raises
    ------
    InputError
        If the ratio is below 1: the hidden layer would be wider than the channels.
    """

    def __init__(self, channels, ocean, ratio, published=False):
        super().__init__()
        if not 1 <= ratio <= channels:
            raise InputError(
                f"squeeze_excitation: found a ratio of {ratio:g}, expected 1 to {channels} (the "
                "channels of the narrowest layer); it divides the channels, 0 switches it off."
            )
        hidden = int(channels // ratio)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.cells = ocean.numel() if published else int(ocean.sum())

    def forward(self, x):
        """Map (batch, channel, y, x) to the same shape."""
        means = x.sum((2, 3)) / self.cells
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(means))))
        return x * scale[:, :, None, None]


class NoiseLayer(nn.Module):
    """Scale and shift features by random fields: y = x (1 + A n) + B n.

    A and B are matrices (channels, noise_channels) that are the same in all cells and start at
    zero: the layer starts as the identity. x must be zero on land, and so is y.

    Parameters
    ----------
    channels, noise_channels : numbers of channels of x and of the noise n
    ocean : (y, x) bool tensor of the level of x, True where sea
    level : number of the level, 0 for the finest
    """

    def __init__(self, channels, noise_channels, ocean, level):
        super().__init__()
        self.level = level
        self.weight = nn.Parameter(torch.zeros(2 * channels, noise_channels, 1, 1))
        self.register_buffer("ocean", ocean, persistent=False)

    def forward(self, x, noise):
        """Scale and shift features; values of the noise on land are ignored.

        Parameters
        ----------
        x : (batch, channel, y, x) tensor
        noise : list of (batch, noise_channels, y, x) tensors, one for each level

        Returns
        -------
        (batch, channel, y, x) tensor
        """
        noise = zero_on_land(noise[self.level], self.ocean).contiguous(
            memory_format=torch.channels_last
        )
        scale, shift = F.conv2d(noise, self.weight).chunk(2, dim=1)
        return torch.addcmul(shift, x, 1 + scale)
