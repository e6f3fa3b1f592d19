"""Data augmentation by quarter turns of the map.

On a plane with a constant Coriolis parameter, the dynamics of sea ice do not depend on the
orientation of the grid: if the map, the coast and all vectors are turned by 90 degrees, the
evolution is turned too. (A mirror image is no symmetry: the Coriolis force would act to the other
side.) Over the Arctic this is nearly true. It does not hold for windows with latitude or other
fields that belong to a location.

Turning the data would require turned masks in every layer. Turning the kernels in the opposite
direction is equivalent and leaves cells and masks in place: a network with turned kernels treats
the original map as the original network treats the turned map.
"""

import numpy as np
import torch

from seaice_lab.compute import constant, select_channels
from seaice_lab.surrogate.wrappers import Transport

# Components of vectors: a quarter turn maps (u, v) to (-v, u).
VECTORS = {"u10": "v10", "siu": "siv"}


def turned_kernels(network, turns):
    """The parameters of a network with all kernels turned by ``turns`` quarters, differentiable.

    A drift that the network predicts (:class:`~seaice_lab.surrogate.wrappers.Transport`) is
    turned back to the orientation of the map.

    Parameters
    ----------
    network : torch.nn.Module
    turns : int
        Number of quarter turns, 0 to 3.

    Returns
    -------
    dict of str to torch.Tensor
        Parameters by name, for ``torch.func.functional_call``.
    """
    turned = dict(network.named_parameters())
    for name, value in turned.items():
        # A turn does not change a kernel of one cell. It would change its strides, so that the
        # network would be compiled again.
        if value.ndim == 4 and value.shape[-1] > 1:
            kernel = torch.rot90(value, turns, (2, 3))
            turned[name] = kernel.contiguous(memory_format=torch.channels_last)
    if any(isinstance(module, Transport) for module in network.modules()):
        # The last two outputs of the head are the drift along x and y.
        for name in (name for name in turned if ".head." in name):
            increments, (u, v) = turned[name][:-2], turned[name][-2:]
            for _ in range(turns):
                u, v = v, -u
            turned[name] = torch.cat([increments, torch.stack([u, v])])
    return turned


class Turn:
    """A quarter turn of the vectors among normalised channels.

    Parameters
    ----------
    channels : sequence of (variable, offset)
        Variable and time offset of each channel. The two components of a vector are recognised by
        name and have the same offset.
    scales : sequence of {"mean", "std"}
        Normalisation of each channel.
    """

    def __init__(self, channels, scales):
        source, sign = list(range(len(channels))), [1.0] * len(channels)
        for index, (name, offset) in enumerate(channels):
            partner = (VECTORS.get(name), offset)
            if partner in channels:
                v_index = channels.index(partner)
                source[index], sign[index] = v_index, -1.0
                source[v_index] = index
        pairs = [(scale["mean"], scale["std"]) for scale in scales]
        mean, std = np.array(pairs).T
        sign = np.array(sign)
        # (u, v) -> (-v, u) holds for physical values u = std x + mean. In normalised values it
        # becomes x -> factor x[source] + offset.
        self.source = source
        self.factor = (sign * std[source] / std).tolist()
        self.offset = ((sign * mean[source] - mean) / std).tolist()

    def __call__(self, x, turns):
        """Turn the vectors of a batch; cells stay in place.

        Parameters
        ----------
        x : torch.Tensor (..., channel, y, x)
            Normalised fields.
        turns : int
            Number of quarter turns, 0 to 3.

        Returns
        -------
        torch.Tensor (..., channel, y, x)
        """
        scale = constant([self.factor, self.offset], x.dtype, x.device)
        factor, offset = scale[..., None, None]
        for _ in range(turns):
            x = select_channels(x, self.source) * factor + offset
        return x
