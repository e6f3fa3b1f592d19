"""Quarter turns of the map, as augmentation.

On a plane with one Coriolis parameter, sea ice does not know which way the grid points: turn the
map, the coast and all vectors by 90 degrees, and what follows is turned too. (A mirror image is
no symmetry: the Coriolis force would push to the other side.) Over the Arctic this holds nearly;
it fails for windows that hold latitude or other fields tied to a place.

Turning the data would turn the mask that every layer holds. Turning the kernels instead is the
same, and nothing else has to move: a network with kernels turned back sees the map as the network
itself sees the turned map.
"""

import torch

from seaice_lab.surrogate.wrappers import Transport

# A quarter turn maps (u, v) to (-v, u).
PAIRS = {"u10": "v10", "siu": "siv"}


def turned_kernels(network, turns):
    """The parameters of a network with all kernels turned by ``turns`` quarters, differentiable.

    A drift that the network predicts (:class:`~seaice_lab.surrogate.wrappers.Transport`) is
    turned back, to the map as it lies.

    Returns
    -------
    dict
        Name to tensor, for ``torch.func.functional_call``.
    """
    turned = {
        name: torch.rot90(value, turns, (2, 3)).contiguous(memory_format=torch.channels_last)
        if value.ndim == 4
        else value
        for name, value in network.named_parameters()
    }
    if has_drift(network):
        for name in (name for name in turned if ".head." in name):
            increments, (u, v) = turned[name][:-2], turned[name][-2:]
            for _ in range(turns):
                u, v = v, -u
            turned[name] = torch.cat([increments, torch.stack([u, v])])
    return turned


def has_drift(network):
    """Whether the last two outputs of the network inside are a drift."""
    return any(isinstance(module, Transport) for module in network.modules())


class Turn:
    """A quarter turn of the vectors among normalised channels.

    Parameters
    ----------
    channels : sequence of (variable, offset)
        What the channels are; the components of a vector are found by name and offset.
    scales : sequence of {"mean", "std"}
        Normalisation of each channel.
    """

    def __init__(self, channels, scales):
        channels = [tuple(channel) for channel in channels]
        source, sign = list(range(len(channels))), [1.0] * len(channels)
        for first, second in PAIRS.items():
            for index, (name, offset) in enumerate(channels):
                if name == first and (second, offset) in channels:
                    other = channels.index((second, offset))
                    source[index], sign[index] = other, -1.0
                    source[other] = index
        mean = torch.tensor([scale["mean"] for scale in scales], dtype=torch.float64)
        std = torch.tensor([scale["std"] for scale in scales], dtype=torch.float64)
        sign = torch.tensor(sign, dtype=torch.float64)
        self.source = source
        self.factor = sign * std[source] / std
        self.offset = (sign * mean[source] - mean) / std

    def __call__(self, x, turns):
        """Turn the vectors of (..., channel, y, x) by ``turns`` quarters; cells stay in place."""
        factor, offset = (
            value.to(x.device, x.dtype)[:, None, None] for value in (self.factor, self.offset)
        )
        for _ in range(turns):
            x = x[..., self.source, :, :] * factor + offset
        return x
