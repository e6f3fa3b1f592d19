"""Wrappers of a network: past states as changes, and transport of ice by a predicted drift."""

import torch
import torch.nn.functional as F
from torch import nn

from seaice_lab.surrogate.layers import zero_on_land


class PastChanges(nn.Module):
    """A network that receives changes over one step in place of past states.

    The state of twelve hours ago is nearly the present one: the new information is a difference
    of a few hundredths of the spread of the field. The network receives that difference, scaled
    to the units of the increments that it predicts. The difference contains the recent motion of
    the ice, which the wind alone does not determine.

    Parameters
    ----------
    network : torch.nn.Module
    past : list of (channel, later, gain)
        For each past state its input channel, the channel of the state one step later, and the
        standard deviation of the variable divided by that of its increment.
    """

    def __init__(self, network, past):
        super().__init__()
        self.network, self.past = network, past
        self.register_buffer("ocean", network.ocean, persistent=False)

    def forward(self, x, *noise):
        """Map fields to increments, both normalised.

        Parameters
        ----------
        x : (batch, in_channels, y, x) tensor
        *noise
            Given to the network as it is.

        Returns
        -------
        (batch, out_channels, y, x) tensor
        """
        channels = list(x.unbind(1))
        for channel, later, gain in self.past:
            channels[channel] = gain * (x[:, later] - x[:, channel])
        fields = torch.stack(channels, 1).contiguous(memory_format=torch.channels_last)
        return self.network(fields, *noise)


class Transport(nn.Module):
    """A network that also predicts a drift, which transports the ice from cell to cell.

    Most changes within twelve hours are ice that has moved. In addition to the increments, the
    network predicts the displacement d of the ice over one step, in tenths of a cell. The
    increment of each advected variable h receives -div(d h), with the flux of Lax and Wendroff
    (1960) between neighbouring cells h and h':

    F = d (h + h') / 2 - d^2 (h' - h) / 2

    and no flux through the coast. The transport therefore conserves ice (on cells of equal area)
    and smooths little. The network only has to learn how the wind moves the ice, for which a few
    weeks of data are enough.

    Parameters
    ----------
    network : torch.nn.Module
        Predicts the increments and, in two additional channels, the displacement along x and y.
    advected : list of (channel, target, offset, gain)
        For each advected variable its input channel and its target, the mean divided by the
        standard deviation of the variable, and its standard deviation divided by that of the
        increment.
    """

    def __init__(self, network, advected):
        super().__init__()
        self.network = network
        self.advected = advected
        ocean = network.ocean
        self.register_buffer("ocean", ocean, persistent=False)
        # True for each cell face with ocean on both sides.
        self.register_buffer("open_x", ocean[:, 1:] & ocean[:, :-1], persistent=False)
        self.register_buffer("open_y", ocean[1:] & ocean[:-1], persistent=False)

    def forward(self, x, *noise):
        """Map fields to increments, both normalised.

        Parameters
        ----------
        x : (batch, in_channels, y, x) tensor
        *noise
            Given to the network as it is.

        Returns
        -------
        (batch, out_channels, y, x) tensor
        """
        output = self.network(x, *noise)
        increments, drift = list(output[:, :-2].unbind(1)), 0.1 * output[:, -2:]
        x = zero_on_land(x, self.ocean)
        for channel, target, offset, gain in self.advected:
            # Adding mean / std restores h in units of its standard deviation: transport needs the
            # amount of ice, not its anomaly.
            h = x[:, channel] + offset
            convergence = self._convergence(h, drift[:, 0], drift[:, 1])
            increments[target] = increments[target] + gain * convergence
        return torch.stack(increments, 1) * self.ocean

    def _convergence(self, h, dx, dy):
        """-div(d h) for fields (batch, y, x): the inflow minus the outflow of each cell."""
        flux_x = _flux(h[..., :-1], h[..., 1:], dx[..., :-1], dx[..., 1:]) * self.open_x
        flux_y = _flux(h[:, :-1], h[:, 1:], dy[:, :-1], dy[:, 1:]) * self.open_y
        # Padding adds the closed faces at the edges of the domain.
        flux_x, flux_y = F.pad(flux_x, (1, 1)), F.pad(flux_y, (0, 0, 1, 1))
        return flux_x[..., :-1] - flux_x[..., 1:] + flux_y[:, :-1] - flux_y[:, 1:]


def _flux(h, h_next, drift, drift_next):
    """Lax-Wendroff flux through the face between two cells, with the mean drift of the two."""
    d = (drift + drift_next) / 2
    return d * ((h + h_next) - d * (h_next - h)) / 2
