"""What may stand around a network: past states as changes, and a drift that carries the ice."""

import torch
import torch.nn.functional as F
from torch import nn

from seaice_lab.surrogate.layers import zero_on_land


class Changes(nn.Module):
    """A network that sees past states as what has changed since.

    A state of twelve hours ago is nearly the present one: what it adds lies in a difference of a
    few hundredths of the spread of the field. The network gets that difference in units of the
    increments it predicts. It tells how the ice is moving now, which the wind alone does not.

    Parameters
    ----------
    network : torch.nn.Module
    past : list of (channel, later, gain)
        For each past state its input channel, that of the state one step later, and the standard
        deviation of the variable over that of its increment.
    """

    def __init__(self, network, past):
        super().__init__()
        self.network, self.past = network, past
        self.register_buffer("ocean", network.ocean, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        channels = list(x.unbind(1))
        for channel, later, gain in self.past:
            channels[channel] = gain * (x[:, later] - x[:, channel])
        fields = torch.stack(channels, 1).contiguous(memory_format=torch.channels_last)
        return self.network(fields)


class Transport(nn.Module):
    """A network that may also move the ice: it predicts a drift, and the drift carries the ice.

    Most of what changes in twelve hours is ice that has moved. Beside the increments, the network
    gives the displacement d of the ice over one step, in tenths of a cell; the increment of each
    carried variable h gets -div(d h), with fluxes F = d (h + h') / 2 - d^2 (h' - h) / 2 between
    neighbouring cells h and h' (Lax and Wendroff 1960) and none through the coast. So the drift
    neither makes nor loses ice (in cells of equal area) and smooths little, and the network only
    has to learn how the wind moves the ice, which a few weeks of data can teach.

    Parameters
    ----------
    network : torch.nn.Module
        Gives the increments and, in two more channels, the displacement along x and y.
    carried : list of (channel, target, offset, gain)
        For each carried variable its input channel and target, the mean over the standard
        deviation of the variable, and its standard deviation over that of the increment.
    """

    def __init__(self, network, carried):
        super().__init__()
        self.network = network
        self.carried = carried
        ocean = network.ocean
        self.register_buffer("ocean", ocean, persistent=False)
        self.register_buffer("open_x", ocean[:, 1:] & ocean[:, :-1], persistent=False)
        self.register_buffer("open_y", ocean[1:] & ocean[:-1], persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, in_channels, y, x) to (batch, out_channels, y, x), both normalised."""
        out = self.network(x)
        increments, drift = out[:, :-2], 0.1 * out[:, -2:]
        x = zero_on_land(x, self.ocean)
        moved = [increments[:, i] for i in range(increments.shape[1])]
        for channel, target, offset, gain in self.carried:
            h = x[:, channel] + offset
            moved[target] = moved[target] + gain * self._convergence(h, drift[:, 0], drift[:, 1])
        return torch.stack(moved, 1) * self.ocean

    def _convergence(self, h, dx, dy):
        """-div(d h) for fields (batch, y, x)."""
        flux = _flux(h[..., :-1], h[..., 1:], dx[..., :-1], dx[..., 1:]) * self.open_x
        padded = F.pad(flux, (1, 1))
        change = padded[..., :-1] - padded[..., 1:]
        flux = _flux(h[:, :-1], h[:, 1:], dy[:, :-1], dy[:, 1:]) * self.open_y
        padded = F.pad(flux, (0, 0, 1, 1))
        return change + padded[:, :-1] - padded[:, 1:]


def _flux(left, right, drift_left, drift_right):
    drift = (drift_left + drift_right) / 2
    return drift * ((left + right) - drift * (right - left)) / 2
