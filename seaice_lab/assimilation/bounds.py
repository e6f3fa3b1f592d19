"""Physical bounds of the analysed initial state: two ways to add an increment to a background.

Each is a function of the background and the increment (batch, channel, y, x) that returns the
background exactly where the increment is 0, if the background is within the bounds.
"""

import numpy as np
import torch
import torch.nn.functional as F


def clipped(low, high):
    """The sum, cut at the bounds as every step of the surrogate does.

    Parameters
    ----------
    low, high : torch.Tensor, broadcastable to (batch, channel, y, x)
        As from :func:`~seaice_lab.surrogate.model.bounds`, infinite where there is none.

    Returns
    -------
    callable
    """
    return lambda background, increment: torch.clamp(background + increment, low, high)


# Distance from a bound, in units of the softness, at which a background on the bound is taken: the
# change of variable has the slope 1 - exp(-0.1) there, so an observation of ice acts on open water.
START = 0.1


def change_of_variable(low, high, softness):
    """The increment is added to a variable s without bounds, x = T(s).

    T(s) = low + h (softplus(s / h) - softplus((s - high + low) / h)) has the slope 1 away from the
    bounds, so that B keeps the units of the state there, and approaches them exponentially (after
    Bertino et al. 2003, doi 10.1111/j.1751-5823.2003.tb00194.x). With s_b = T^-1(x_b), taken
    0.1 h inside the bounds, the state is x_b + T(s_b + increment) - T(s_b).

    Parameters
    ----------
    low, high : torch.Tensor, broadcastable to (batch, channel, y, x)
        Infinite where there is no bound; a variable without a lower bound is not changed.
    softness : float or torch.Tensor
        h in units of the state.

    Returns
    -------
    callable
    """
    is_bounded = torch.isfinite(low)
    bottom = torch.where(is_bounded, low, 0.0)
    width = (high - bottom) / softness

    def forward(s):
        t = (s - bottom) / softness
        return bottom + softness * (F.softplus(t) - F.softplus(t - width))

    def inverse(x):
        # With y = (x - low) / h and w = (high - low) / h: t = log(e^y - 1) - log(1 - e^(y - w)).
        y = (x - bottom) / softness
        y = torch.clamp(y, torch.full_like(width, START), width - START)
        return bottom + softness * (
            y + torch.log(-torch.expm1(-y)) - torch.log(-torch.expm1(y - width))
        )

    def combine(background, increment):
        start = inverse(background)
        change = torch.where(is_bounded, forward(start + increment) - forward(start), increment)
        # A background closer to a bound than 0.1 h could cross this bound by at most 0.1 h.
        return torch.clamp(background + change, low, high)

    return combine


def control_limits(background, std, low, high):
    """Bounds of the control in the direct form, for a diagonal B: (bound - x_b) / std.

    The state meets its bounds up to rounding; :func:`clipped` removes that from the analysis.

    Parameters
    ----------
    background : ndarray (..., length)
    std : ndarray (length,)
        The same as in :func:`~seaice_lab.assimilation.background.diagonal`; positive.
    low, high : float or array_like (length,)
        Bounds of the state.

    Returns
    -------
    ndarray (2, ...), of the shape of the background
    """
    return np.stack([(bound - background) / std for bound in (low, high)])
