"""Score of an ensemble in training and validation."""

import torch
import xarray as xr

from seaice_lab.compute import select_channels
from seaice_lab.diagnostics.spectra import FEWEST_FITTED, largest_ocean_square
from seaice_lab.surrogate.losses import ALMOST_FAIR, ensemble_loss, ring_power, square_modes
from seaice_lab.surrogate.model import bounds, scales

VALIDATION_MEMBERS = 4


def ensemble_score(config, window, normalisation, ocean, area):
    """The loss of one step of an ensemble, with diagnostics in validation.

    Parameters
    ----------
    config : TrainConfig
    window : Window
    normalisation : dict
        As in :class:`~seaice_lab.surrogate.model.Surrogate`.
    ocean : torch.Tensor of bool (y, x)
    area : torch.Tensor (y, x)
        Cell areas.

    Returns
    -------
    callable
        ``score(prediction, target, inputs, training)`` for predictions (batch * member, target, y,
        x), targets (batch, target, y, x) and the true inputs (batch * member, channel, y, x), all
        normalised. It returns the total and its terms. Training uses the almost fair CRPS,
        validation the fair one, with the terms of :func:`diagnostics`.
    """
    square = largest_ocean_square(xr.DataArray(ocean.cpu().numpy(), dims=("y", "x")))
    square = (square["y"], square["x"])
    options = {"spectral": config.spectral_weight, "square": square}
    variables = [window.variables.index(name) for name, _ in window.targets]

    def score(prediction, target, inputs, training):
        state = inputs[:, : len(window.variables)]
        mean, std = scales([normalisation[name] for name in window.variables], state)
        state = select_channels(state * std + mean, variables)
        mean, std = scales(normalisation["increments"], state)
        if window.start_h == 0:
            # A forecast keeps its state within the physical bounds: such members are scored.
            low, high = bounds([name for name, _ in window.targets], state)
            limits = (low - state - mean) / std, (high - state - mean) / std
            prediction = torch.clamp(prediction, *limits)
        members = prediction.unflatten(0, (len(target), -1))
        alpha = ALMOST_FAIR if training else 1.0
        total, terms = ensemble_loss(members, target, ocean, area, alpha, **options)
        if not training:
            start = state.unflatten(0, (len(target), -1))
            truth = start[:, 0] + target * std
            terms |= diagnostics(members, target, ocean, area)
            terms |= exponent_difference(start + members * std, truth, square)
        return total, terms

    return score


def diagnostics(members, target, ocean, area):
    """Mean square of the error of the ensemble mean, and the variance that it demands.

    Parameters
    ----------
    members : torch.Tensor (batch, member, channel, y, x)
    target : torch.Tensor (batch, channel, y, x)
    ocean, area : torch.Tensor (y, x)

    Returns
    -------
    dict of scalar torch.Tensor
        "variance" times (m + 1) / m equals "squared_error" for a reliable ensemble of m members
        (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1); the factor is included.
    """
    count, weight = members.shape[1], torch.where(ocean, area, 0.0)
    variance = (count + 1) / count * members.var(1)
    squared_error = (members.mean(1) - target) ** 2
    return {
        name: ((values * weight).sum((-2, -1)) / weight.sum()).mean()
        for name, values in (("variance", variance), ("squared_error", squared_error))
    }


def exponent_difference(members, truth, square):
    """Spectral exponent of the members minus that of the truth, for the first variable.

    Parameters
    ----------
    members : torch.Tensor (batch, member, channel, y, x)
    truth : torch.Tensor (batch, channel, y, x)
    square : (rows, columns), slices of a square of ocean cells

    Returns
    -------
    dict of scalar torch.Tensor
        "exponent_difference", fitted from four cells to a third of the side of the square; empty
        if the square is too small.
    """
    power = [ring_power(*square_modes(fields[..., 0, :, :], square)) for fields in (members, truth)]
    size = square[0].stop - square[0].start
    ring = torch.arange(3, size // 4 + 1)
    if len(ring) < FEWEST_FITTED:
        return {}
    # The exponents differ by the slope of the logarithm of the ratio.
    ratio = torch.log(power[0] / power[1])[ring - 1].cpu()
    position = torch.log(ring.float()) - torch.log(ring.float()).mean()
    return {"exponent_difference": (ratio * position).sum() / (position**2).sum()}


def spread_skill(row):
    """Replace variance and squared error in a row of the history by their spread-skill ratio.

    Parameters
    ----------
    row : dict of float
        Validation losses by name.

    Returns
    -------
    dict of float
    """
    row = dict(row)
    if row:
        ratio = row.pop("validation_variance") / row.pop("validation_squared_error")
        row["validation_spread_skill"] = ratio**0.5
    return row
