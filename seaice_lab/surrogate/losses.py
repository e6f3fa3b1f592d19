"""Training losses: the published one, and ours over the ocean.

Both take normalised increments (batch, channel, y, x) and return the total and its named parts.
"""

import torch

from seaice_lab.errors import InputError

# See ocean_loss for how this default follows from the published 100.
GLOBAL_MEAN_WEIGHT = 50.0


def published_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    ocean: torch.Tensor,
    global_mean_weight: float = 0.0,
    spread_weight: float = 0.0,
    tikhonov_weight: float = 0.0,
    tikhonov_of_mean: bool = False,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss of Durand et al. (2024, doi 10.5194/tc-18-1791-2024), land counted as zero.

    With y the target and f the prediction, both set to zero on land, and every mean over batch,
    channels and all cells of the image, land included:

    total = <(y - f)^2> + global_mean_weight (<y> - <f>)^2
            + spread_weight std[(y - f)^2] + tikhonov_weight <f^2>

    The global mean runs over the whole batch, so that errors of opposite sign in two samples
    cancel. With ``tikhonov_of_mean`` the last term is <f>^2, as in the authors' 4D-Var code.

    Parameters
    ----------
    prediction, target : (batch, channel, y, x) normalised increments, finite on land
    ocean : (y, x) bool tensor, True where sea
    global_mean_weight, spread_weight, tikhonov_weight : weights of the last three terms

    Returns
    -------
    total : scalar tensor with gradient
    parts : detached scalars "local", "global_mean", "spread", "tikhonov", before weighting

    Raises
    ------
    InputError
        If the shapes differ: broadcasting would pull one output to several targets unnoticed.
    """
    _require_equal_shapes(prediction, target, ocean)
    prediction, target = prediction * ocean, target * ocean
    square = (target - prediction) ** 2
    parts = {
        "local": square.mean(),
        "global_mean": (target.mean() - prediction.mean()) ** 2,
        "spread": square.std(correction=0),
        "tikhonov": prediction.mean() ** 2 if tikhonov_of_mean else (prediction**2).mean(),
    }
    total = (
        parts["local"]
        + global_mean_weight * parts["global_mean"]
        + spread_weight * parts["spread"]
        + tikhonov_weight * parts["tikhonov"]
    )
    return total, _detached(parts)


def ocean_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    ocean: torch.Tensor,
    area: torch.Tensor | None = None,
    global_mean_weight: float = GLOBAL_MEAN_WEIGHT,
    spread_weight: float = 0.0,
    tikhonov_weight: float = 0.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Mean square error over the ocean plus the squared error of each sample's ocean mean.

    With e = prediction - target and [.] the area-weighted mean over ocean cells of one sample
    and channel, averaged at the end over samples and channels:

    total = mean [e^2] + global_mean_weight mean [e]^2
            + spread_weight mean sqrt([(e^2 - [e^2])^2]) + tikhonov_weight mean [prediction^2]

    For increments of thickness, [e] is the error in the change of ice volume. It must be small
    because it adds up along a forecast: after n steps a constant error has grown n times,
    scattered ones only by the square root of n.

    The default weight of 50 is the published 100 in these units. (The published code uses 0, 10
    and 100.) The published means count land as zero: on a grid of which the fraction f is sea,
    and with statistics over all cells, a local term [e^2] goes with a global term f [e]^2, and
    f is one half on the published grid. The published mean also runs over the batch, ours over
    one sample: an error common to all samples weighs the same, scattered ones no longer cancel.
    The term steers and does not dominate: increments normalised over the ocean have unit
    variance; if their ocean mean varies by 0.05 (3 mm in 12 h where single cells vary by 6 cm),
    the second term is an eighth of the first before training.

    Parameters
    ----------
    prediction, target : (batch, channel, y, x) normalised increments; land may hold anything,
        NaN included
    ocean : (y, x) bool tensor, True where sea
    area : (y, x) cell areas in any unit; None means equal cells
    global_mean_weight : weight of the second term
    spread_weight : weight of the third term, which spreads the error evenly over the cells of each
        sample
    tikhonov_weight : weight of the last term, which shrinks what the network is unsure of; with
        little data it does better on weather that was not seen (Durand et al. 2024 call it nu)

    Returns
    -------
    total : scalar tensor with gradient
    parts : detached scalars "local", "global_mean", "spread" and "tikhonov", before weighting

    Raises
    ------
    InputError
        If the shapes differ: broadcasting would pull one output to several targets unnoticed.
    """
    _require_equal_shapes(prediction, target, ocean)
    if area is not None and area.shape != ocean.shape:
        raise InputError(
            f"area: found shape {tuple(area.shape)}, expected {tuple(ocean.shape)}, that of "
            "the ocean mask; pass the cell areas of the same grid."
        )
    weight = ocean.double() if area is None else torch.where(ocean, area, 0.0)
    weight = (weight / weight.sum()).to(prediction.dtype)

    def over_ocean(field):
        return (weight * field).sum((-2, -1))

    error = torch.where(ocean, prediction - target, 0.0)
    square = error**2
    local = over_ocean(square)
    variance = over_ocean((square - local[..., None, None]) ** 2)
    parts = {
        "local": local.mean(),
        "global_mean": (over_ocean(error) ** 2).mean(),
        # the root has no gradient at zero, where there is no error to spread
        "spread": torch.sqrt(variance.clamp(min=1e-12)).mean(),
        "tikhonov": over_ocean(torch.where(ocean, prediction, 0.0) ** 2).mean(),
    }
    total = (
        parts["local"]
        + global_mean_weight * parts["global_mean"]
        + spread_weight * parts["spread"]
        + tikhonov_weight * parts["tikhonov"]
    )
    return total, _detached(parts)


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


def _detached(parts):
    return {name: part.detach() for name, part in parts.items()}
