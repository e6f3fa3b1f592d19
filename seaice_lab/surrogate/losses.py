"""Training losses: the published one, and ours over the ocean.

Both compare normalised increments (batch, channel, y, x) and return the weighted total and its
terms before weighting.
"""

from dataclasses import asdict, dataclass

import torch

from seaice_lab.errors import InputError

# The docstring of ocean_loss explains how this default follows from the published 100.
GLOBAL_MEAN_WEIGHT = 50.0


@dataclass(frozen=True)
class LossWeights:
    """Weights of three terms of a loss, relative to the mean square error.

    Parameters
    ----------
    global_mean : lambda, weight of the squared mean error
    spread : mu, weight of the standard deviation of the squared error, which distributes the error
        evenly over the cells
    tikhonov : nu, weight of the mean square of the prediction, which shrinks uncertain predictions;
        with little training data it improves predictions for unknown weather
    """

    global_mean: float = 0.0
    spread: float = 0.0
    tikhonov: float = 0.0


def published_loss(prediction, target, ocean, weights=LossWeights()):
    """Loss of Durand et al. (2024, doi 10.5194/tc-18-1791-2024), which counts land as zero.

    With the target y and the prediction f, both set to zero on land, and with <.> the mean over
    batch, channels and all cells of the image (land included):

    total = <(y - f)^2> + lambda (<y> - <f>)^2 + mu std[(y - f)^2] + nu <f^2>

    The global mean covers the whole batch, so that errors of opposite sign in two samples cancel.

    Parameters
    ----------
    prediction, target : (batch, channel, y, x) normalised increments, finite on land
    ocean : (y, x) bool tensor, True where sea
    weights : LossWeights

    Returns
    -------
    total : scalar tensor with gradient
    terms : detached scalars "local", "global_mean", "spread", "tikhonov", before weighting

    Raises
    ------
    InputError
        If the shapes differ: broadcasting would silently compare one output with several targets.
    """
    _require_equal_shapes(prediction, target, ocean)
    prediction, target = prediction * ocean, target * ocean
    squared_error = (target - prediction) ** 2
    terms = {
        "local": squared_error.mean(),
        "global_mean": (target.mean() - prediction.mean()) ** 2,
        "spread": squared_error.std(correction=0),
        "tikhonov": (prediction**2).mean(),
    }
    return _weighted(terms, weights)


def ocean_loss(prediction, target, ocean, area=None, weights=LossWeights(GLOBAL_MEAN_WEIGHT)):
    """Mean square error over the ocean plus the squared error of each sample's ocean mean.

    With e = prediction - target and [.] the area-weighted mean over the ocean cells of one sample
    and channel, and with the final mean over samples and channels:

    total = mean [e^2] + lambda mean [e]^2 + mu mean sqrt([(e^2 - [e^2])^2])
            + nu mean [prediction^2]

    For increments of thickness, [e] is the error in the change of ice volume. It must be small
    because it accumulates during a forecast: after n steps a constant error has grown n times,
    independent errors only by the square root of n.

    The default lambda of 50 is the published 100 in these units. (The published code uses 0, 10
    and 100.) The published means count land as zero: on a grid of which the fraction f is sea,
    and with statistics over all cells, a local term [e^2] corresponds to a global term f [e]^2,
    and f is one half on the published grid. The published mean also covers the batch, ours one
    sample: an error common to all samples has the same weight, independent errors no longer
    cancel. The term corrects the bias but does not dominate: increments normalised over the ocean
    have unit variance; if their ocean mean varies by 0.05 (3 mm in 12 h where single cells vary by
    6 cm), the second term is an eighth of the first before training.

    Parameters
    ----------
    prediction, target : (batch, channel, y, x) normalised increments; values on land are ignored,
        NaN included
    ocean : (y, x) bool tensor, True where sea
    area : (y, x) cell areas in any unit; None means equal cells
    weights : LossWeights

    Returns
    -------
    total : scalar tensor with gradient
    terms : detached scalars "local", "global_mean", "spread" and "tikhonov", before weighting

    Raises
    ------
    InputError
        If the shapes differ: broadcasting would silently compare one output with several targets.
    """
    _require_equal_shapes(prediction, target, ocean)
    if area is not None and area.shape != ocean.shape:
        raise InputError(
            f"area: found shape {tuple(area.shape)}, expected {tuple(ocean.shape)}, that of "
            "the ocean mask; pass the cell areas of the same grid."
        )
    # Weights that are zero on land and sum to one, so that a weighted sum is an ocean mean.
    weight = ocean.double() if area is None else torch.where(ocean, area, 0.0)
    weight = (weight / weight.sum()).to(prediction.dtype)

    def ocean_mean(field):
        return (weight * field).sum((-2, -1))

    # where, not a product with the mask: NaN on land must reach neither the loss nor its gradient.
    error = torch.where(ocean, prediction - target, 0.0)
    squared_error = error**2
    local = ocean_mean(squared_error)
    variance = ocean_mean((squared_error - local[..., None, None]) ** 2)
    terms = {
        "local": local.mean(),
        "global_mean": (ocean_mean(error) ** 2).mean(),
        # The square root has no gradient at zero, where all cells have the same error.
        "spread": torch.sqrt(variance.clamp(min=1e-12)).mean(),
        "tikhonov": ocean_mean(torch.where(ocean, prediction, 0.0) ** 2).mean(),
    }
    return _weighted(terms, weights)


def _weighted(terms, weights):
    """The weighted sum of the terms, and the terms without gradient for the history."""
    total = terms["local"]
    for name, weight in asdict(weights).items():
        total = total + weight * terms[name]
    return total, {name: term.detach() for name, term in terms.items()}


def _require_equal_shapes(prediction, target, ocean):
    if prediction.shape != target.shape:
        raise InputError(
            f"target: found shape {tuple(target.shape)}, expected {tuple(prediction.shape)}, "
            "that of the prediction; give the network as many outputs as there are targets."
        )
    if prediction.shape[-2:] != ocean.shape:
        raise InputError(
            f"ocean: found shape {tuple(ocean.shape)}, expected {tuple(prediction.shape[-2:])}, "
            "the grid of the prediction; pass the mask of the same grid."
        )
