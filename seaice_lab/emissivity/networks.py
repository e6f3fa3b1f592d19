"""Emissivity of sea ice from what is known of it and what is learnt of it.

All networks take ``cold`` (observation, 1), the skin-temperature index; ``properties``
(observation, property); ``frequency`` (observation or 1, channel), GHz; ``vertical`` (observation
or 1, channel), the share of vertical polarisation; ``zenith`` (observation, 1), degrees; and give
the emissivity (observation, channel). Those of version 1 have one output a channel and ignore the
last three.
"""

import torch
from torch import nn

from seaice_lab.emissivity.physics import towards_nadir
from seaice_lab.errors import InputError

FIRST_CONSTANT = 0.93  # where the linear emissivities start, and the first channel is held


class LinearEmissivity(nn.Module):
    """Version 1: e = constant + weights . (cold, properties), one row a channel, not bounded."""

    def __init__(self, n_properties, n_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(1 + n_properties, n_channels))
        self.constant = nn.Parameter(torch.full((n_channels,), FIRST_CONSTANT))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, cold, properties, frequency, vertical, zenith):
        return torch.cat([cold, properties], 1) @ self.weight + self.constant

    def linearised(self, cold, properties, frequency, vertical, zenith, with_weights=True):
        """Emissivity and its derivatives: by property, and by weight in order of parameters.

        Returns
        -------
        emissivity : Tensor (observation, channel)
        by_property : Tensor (observation, channel, property)
        by_weight : Tensor (observation, channel, weight)
            None unless ``with_weights``.
        """
        known = torch.cat([cold, properties, torch.ones_like(cold)], 1)
        n, channels = len(known), self.weight.shape[1]
        by_property = self.weight[1:].T.expand(n, -1, -1)
        emissivity = self(cold, properties, frequency, vertical, zenith)
        if not with_weights:
            return emissivity, by_property, None
        by_weight = known.new_zeros(n, channels, known.shape[1], channels)
        every = torch.arange(channels)
        by_weight[:, every, :, every] = known.expand(channels, -1, -1)
        return emissivity, by_property, by_weight.flatten(2)


class SigmoidEmissivity(nn.Module):
    """Version 1's deep variant: hidden sigmoid layers of one width, a sigmoid output a channel."""

    def __init__(self, n_properties, n_channels, layers=2, width=10):
        super().__init__()
        sizes = [1 + n_properties, *[width] * (layers - 1), n_channels]
        self.layers = nn.ModuleList(
            nn.Linear(*pair) for pair in zip(sizes[:-1], sizes[1:], strict=True)
        )
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, cold, properties, frequency, vertical, zenith):
        x = torch.cat([cold, properties], 1)
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return x


class FrequencyEmissivity(nn.Module):
    """Version 2: one network for all channels; frequency is an input, polarisation the output.

    (cold, properties, [(zenith - 30) / 30], frequency / 100) -> sigmoid units -> emissivity at
    vertical and horizontal polarisation, mixed by the share of each that the channel sees.

    Parameters
    ----------
    n_properties : int
    width : int
        Of the hidden layer.
    zenith_input : bool
        Whether the zenith angle is an input.
    nadir : bool
        Whether the difference of polarisations is made to vanish towards nadir
        (:func:`~seaice_lab.emissivity.physics.towards_nadir`), for a network that was trained with
        conical scanners and is used for others.
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
        _, _, seen = self._layers(cold, properties, frequency, zenith)
        share_v, share_h = self._shares(vertical, zenith)
        return share_v * seen[0] + share_h * seen[1]

    def linearised(self, cold, properties, frequency, vertical, zenith, with_weights=True):
        """As in LinearEmissivity."""
        known, hidden, seen = self._layers(cold, properties, frequency, zenith)
        shares = torch.stack(self._shares(vertical.expand_as(seen[0]), zenith))
        by_output = shares * seen * (1 - seen)
        by_hidden = (self.output.weight.T @ by_output.flatten(1)).unflatten(1, seen.shape[1:])
        by_hidden = by_hidden * hidden * (1 - hidden)
        first = self.hidden.weight[:, 1 : 1 + properties.shape[1]]
        by_property = (first.T @ by_hidden.flatten(1)).unflatten(1, seen.shape[1:]).permute(1, 2, 0)
        emissivity = (shares * seen).sum(0)
        if not with_weights:
            return emissivity, by_property, None
        inputs = [one[:, None].expand_as(seen[0]) for one in known.T]
        inputs.append((frequency / 100).expand_as(seen[0]))
        by_weight = [unit * one for unit in by_hidden for one in inputs] + list(by_hidden)
        by_weight += [one * unit for one in by_output for unit in hidden] + list(by_output)
        return emissivity, by_property, torch.stack(by_weight).permute(1, 2, 0)

    def _layers(self, cold, properties, frequency, zenith):
        """Inputs (observation, n), hidden units and (V, H) outputs, (unit, observation, channel).

        Units first, channels last: the loops of the processor are long, and what is the same for
        all channels is computed once.
        """
        known = [cold, properties]
        if self.zenith_input:
            known.append((zenith - 30) / 30)
        known = torch.cat(known, 1)
        weight, bias = self.hidden.weight, self.hidden.bias
        of_state = weight[:, :-1] @ known.T + bias[:, None]
        of_frequency = (frequency / 100) * weight[:, -1, None, None]
        hidden = torch.sigmoid(of_state[:, :, None] + of_frequency)
        output = self.output.weight @ hidden.flatten(1) + self.output.bias[:, None]
        return known, hidden, torch.sigmoid(output).unflatten(1, hidden.shape[1:])

    def _shares(self, vertical, zenith):
        """Shares of the vertical and the horizontal output in what a channel sees."""
        if not self.nadir:
            return vertical, 1 - vertical
        own, other = towards_nadir(1.0, 0.0, zenith)
        return (vertical * own + (1 - vertical) * other,
                vertical * other + (1 - vertical) * own)  # fmt: skip


def build_network(name, n_properties, n_channels, layers, width, zenith_input=False, nadir=False):
    """A network by name: "linear", "sigmoid" or "frequency".

    Raises
    ------
    InputError
        If the name is unknown, or the zenith angle is asked of a network that has no use for it.
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
