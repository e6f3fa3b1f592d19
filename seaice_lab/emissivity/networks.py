"""Emissivity of sea ice as a function of skin temperature and empirical properties.

All networks take

- ``cold`` (observation, 1), the skin-temperature index;
- ``properties`` (observation, property);
- ``frequency`` (observation or 1, channel), GHz;
- ``vertical`` (observation or 1, channel), the share of vertical polarisation;
- ``zenith`` (observation, 1), degrees;

and return the emissivity (observation, channel). The networks of version 1 have one output a
channel and ignore the last three inputs.
"""

from itertools import pairwise

import torch
from torch import nn

from seaice_lab.emissivity.physics import polarisation_shares
from seaice_lab.errors import InputError

# Initial emissivity of the linear network; the cost keeps that of the first channel there.
FIRST_CONSTANT = 0.93


class LinearEmissivity(nn.Module):
    """Version 1: e = constant + weights . (cold, properties), for each channel; not bounded.

    Parameters
    ----------
    n_properties, n_channels : int
    """

    def __init__(self, n_properties, n_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1 + n_properties, n_channels))
        self.constant = nn.Parameter(torch.full((n_channels,), FIRST_CONSTANT))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, cold, properties, frequency, vertical, zenith):
        """Emissivity (observation, channel).

        Parameters
        ----------
        cold, properties, frequency, vertical, zenith : Tensor
            As in the description of the module.

        Returns
        -------
        Tensor (observation, channel)
        """
        return torch.cat([cold, properties], 1) @ self.weight + self.constant

    def linearised(self, cold, properties, frequency, vertical, zenith, with_weights=True):
        """Emissivity and its derivatives.

        Parameters
        ----------
        cold, properties, frequency, vertical, zenith : Tensor
            As in the description of the module.
        with_weights : bool
            Also give the derivatives by the weights.

        Returns
        -------
        emissivity : Tensor (observation, channel)
        by_property : Tensor (observation, channel, property)
        by_weight : Tensor (observation, channel, weight) or None
            In the order of ``parameters()``.
        """
        inputs = torch.cat([cold, properties, torch.ones_like(cold)], 1)
        count, channels = len(inputs), self.weight.shape[1]
        by_property = self.weight[1:].T.expand(count, -1, -1)
        emissivity = self(cold, properties, frequency, vertical, zenith)
        if not with_weights:
            return emissivity, by_property, None
        # a weight acts on its own channel only, where its derivative is the input
        by_weight = inputs.new_zeros(count, channels, inputs.shape[1], channels)
        channel = torch.arange(channels)
        by_weight[:, channel, :, channel] = inputs.expand(channels, -1, -1)
        return emissivity, by_property, by_weight.flatten(2)


class SigmoidEmissivity(nn.Module):
    """Version 1, deep variant: sigmoid layers of one width, and a sigmoid output a channel.

    Parameters
    ----------
    n_properties, n_channels : int
    layers : int
        Number of layers with the output.
    width : int
        Units in each hidden layer.
    """

    def __init__(self, n_properties, n_channels, layers=2, width=10):
        super().__init__()
        sizes = [1 + n_properties, *[width] * (layers - 1), n_channels]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, cold, properties, frequency, vertical, zenith):
        """Emissivity (observation, channel).

        Parameters
        ----------
        cold, properties, frequency, vertical, zenith : Tensor
            As in the description of the module.

        Returns
        -------
        Tensor (observation, channel)
        """
        x = torch.cat([cold, properties], 1)
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return x


class FrequencyEmissivity(nn.Module):
    """Version 2: one network for all channels; frequency is an input, polarisation the output.

    (cold, properties, [(zenith - 30) / 30], frequency / 100) -> sigmoid units -> emissivity at
    vertical and horizontal polarisation, mixed by their shares in the channel.

    Parameters
    ----------
    n_properties : int
    width : int
        Units in the hidden layer.
    zenith_input : bool
        Whether the zenith angle is an input.
    nadir : bool
        Whether the difference of polarisations vanishes towards nadir
        (:func:`~seaice_lab.emissivity.physics.polarisation_shares`). This is for a network that was
        trained with conical scanners and is used for others.
    """

    def __init__(self, n_properties, width=7, zenith_input=False, nadir=False):
        super().__init__()
        self.zenith_input, self.nadir = zenith_input, nadir
        self.hidden = nn.Linear(2 + n_properties + zenith_input, width)
        self.output = nn.Linear(width, 2)
        for layer in (self.hidden, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, cold, properties, frequency, vertical, zenith):
        """Emissivity (observation, channel).

        Parameters
        ----------
        cold, properties, frequency, vertical, zenith : Tensor
            As in the description of the module.

        Returns
        -------
        Tensor (observation, channel)
        """
        _, _, polarised = self._layers(cold, properties, frequency, zenith)
        share_v, share_h = self._shares(vertical, zenith)
        return share_v * polarised[0] + share_h * polarised[1]

    def linearised(self, cold, properties, frequency, vertical, zenith, with_weights=True):
        """Emissivity and its derivatives, by backpropagation written out.

        Parameters
        ----------
        cold, properties, frequency, vertical, zenith : Tensor
            As in the description of the module.
        with_weights : bool
            Also give the derivatives by the weights.

        Returns
        -------
        emissivity, by_property, by_weight : Tensor
            As in :meth:`LinearEmissivity.linearised`.
        """
        inputs, hidden, polarised = self._layers(cold, properties, frequency, zenith)
        shape = polarised.shape[1:]
        shares = torch.stack(self._shares(vertical.expand(shape), zenith))
        # derivatives by what enters the sigmoids, of which s (1 - s) is the derivative
        by_output = shares * polarised * (1 - polarised)
        by_hidden = (self.output.weight.T @ by_output.flatten(1)).unflatten(1, shape)
        by_hidden = by_hidden * hidden * (1 - hidden)
        property_weights = self.hidden.weight[:, 1 : 1 + properties.shape[1]]
        by_property = (property_weights.T @ by_hidden.flatten(1)).unflatten(1, shape)
        emissivity, by_property = (shares * polarised).sum(0), by_property.permute(1, 2, 0)
        if not with_weights:
            return emissivity, by_property, None
        # the derivative by a weight is that by its output times its input; by a bias, times 1
        layer_inputs = [column[:, None].expand(shape) for column in inputs.T]
        layer_inputs.append((frequency / 100).expand(shape))
        by_weight = [unit * value for unit in by_hidden for value in layer_inputs]
        by_weight += [*by_hidden, *(out * unit for out in by_output for unit in hidden), *by_output]
        return emissivity, by_property, torch.stack(by_weight).permute(1, 2, 0)

    def _layers(self, cold, properties, frequency, zenith):
        """Inputs (observation, n), hidden units and (V, H) outputs (unit, observation, channel).

        With units first and channels last, the innermost loops of the CPU are long. What is the
        same for all channels is computed once.
        """
        inputs = [cold, properties]
        if self.zenith_input:
            inputs.append((zenith - 30) / 30)
        inputs = torch.cat(inputs, 1)
        weight, bias = self.hidden.weight, self.hidden.bias
        by_state = weight[:, :-1] @ inputs.T + bias[:, None]
        by_frequency = (frequency / 100) * weight[:, -1, None, None]
        hidden = torch.sigmoid(by_state[:, :, None] + by_frequency)
        output = self.output.weight @ hidden.flatten(1) + self.output.bias[:, None]
        return inputs, hidden, torch.sigmoid(output).unflatten(1, hidden.shape[1:])

    def _shares(self, vertical, zenith):
        """Shares of the vertical and the horizontal output in the emissivity of a channel."""
        if not self.nadir:
            return vertical, 1 - vertical
        same, opposite = polarisation_shares(zenith)
        horizontal = 1 - vertical
        return vertical * same + horizontal * opposite, vertical * opposite + horizontal * same


def build_network(name, n_properties, n_channels, layers, width, zenith_input=False, nadir=False):
    """Make a network with random weights.

    Parameters
    ----------
    name : "linear", "sigmoid" or "frequency"
    n_properties, n_channels, layers, width : int
    zenith_input, nadir : bool
        As in FrequencyEmissivity.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        If the name is unknown, or the network cannot use the zenith angle.
    """
    if name != "frequency" and (zenith_input or nadir):
        raise InputError(f"network {name}: takes no zenith angle; use network frequency")
    if name == "linear":
        return LinearEmissivity(n_properties, n_channels)
    if name == "sigmoid":
        return SigmoidEmissivity(n_properties, n_channels, layers, width)
    if name == "frequency":
        return FrequencyEmissivity(n_properties, width, zenith_input, nadir)
    raise InputError(f"unknown network {name!r}; the known ones are linear, sigmoid, frequency")
