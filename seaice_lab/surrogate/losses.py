"""Training losses: the published one, ours over the ocean, and that of an ensemble.

All compare normalised increments (batch, channel, y, x) and return the weighted total and its
terms before weighting.
"""

from dataclasses import asdict, dataclass
from functools import cache

import torch

from seaice_lab.errors import InputError
from seaice_lab.surrogate.blocks import block_means, neighbours

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


ALMOST_FAIR = 0.95  # alpha of Lang et al. (2024, arXiv 2412.15832)
SPECTRAL_EXPONENT = 0.5  # of the amplitude of the truth, in the weights of the Fourier modes


def crps(members, target, alpha=ALMOST_FAIR):
    """Almost fair CRPS of each value: alpha times the fair plus 1 - alpha times the standard one.

    With m members x_i, the truth y and eps = (1 - alpha) / m it is

    1 / (m (m - 1)) sum_(i < j) [ |x_i - y| + |x_j - y| - (1 - eps) |x_i - x_j| ].

    No bracket is negative, so that no digits cancel. The fair score (alpha = 1; Ferro 2014,
    doi:10.1002/qj.2270) does not see the second of two members if the first one equals the truth,
    as in open water; alpha below 1 (Lang et al. 2024, arXiv 2412.15832) removes this freedom.

    Parameters
    ----------
    members : (batch, member, ...) tensor with at least 2 members, or complex values
    target : (batch, ...) tensor
    alpha : 1 for the fair score, 0 for the standard one

    Returns
    -------
    (batch, ...) tensor
    """
    count = members.shape[1]
    keep = 1 - (1 - alpha) / count
    errors = [(member - target).abs() for member in members.unbind(1)]
    total = 0.0
    for i in range(count):
        for j in range(i):
            distance = (members[:, i] - members[:, j]).abs()
            total = total + errors[i] + errors[j] - keep * distance
    return total / (count * (count - 1))


def ensemble_loss(members, target, ocean, area=None, alpha=ALMOST_FAIR, spectral=0.0, square=None):
    """Almost fair CRPS over scales: bands of block means, and differences between neighbours.

    With P_s the mean over the ocean cells of blocks of s x s cells, the bands of a field are the
    mean over the ocean, P_8 minus this mean, and P_s - P_2s for s = 4, 2, 1; they add up to the
    field (Lang, Leutbecher, Maciel 2025, arXiv 2506.10868). The CRPS of each band is averaged over
    its blocks, weighted by their area of ocean, and the bands are added. For increments of
    thickness, the mean over the ocean is the change of volume.

    The second term is the mean CRPS of the differences between adjacent blocks of 1, 2 and 4 cells
    of which both are at least half ocean. It sees errors in gradients, which the CRPS of single
    cells does not. All terms are proper scores, and none looks across land.

    Parameters
    ----------
    members : (batch, member, channel, y, x) normalised increments; values on land are ignored, NaN
        included
    target : (batch, channel, y, x) normalised increments
    ocean : (y, x) bool tensor, True where sea; the caller must not change it later
    area : (y, x) cell areas in any unit; None means equal cells
    alpha : as in :func:`crps`
    spectral : weight of :func:`spectral_score`, which needs a square
    square : (rows, columns), slices of a square of ocean cells for the spectral term

    Returns
    -------
    total : scalar tensor with gradient
    terms : detached scalars "crps" (single cells), "bands", "differences" and, with its weight,
        "spectral", before weighting

    Raises
    ------
    InputError
        If there are fewer than two members, or the shapes differ.
    """
    if members.ndim != 5 or members.shape[1] < 2:
        raise InputError(
            f"members: found shape {tuple(members.shape)}, expected (batch, member, channel, y, x) "
            "with at least 2 members; one member has no spread."
        )
    _require_equal_shapes(members[:, 0], target, ocean)
    members, target = members.float(), target.float()
    area = torch.ones_like(ocean, dtype=members.dtype) if area is None else area
    weight = torch.where(ocean, area, 0.0).to(members.dtype)
    # All operations on a field apply to the members and the truth alike: the truth is the last one.
    fields = torch.where(ocean, torch.cat([members, target[:, None]], 1), 0.0)

    def score(values, cell_weight):
        values = crps(values[:, :-1], values[:, -1], alpha)
        return (values * cell_weight).sum((-2, -1)).mean() / cell_weight.sum()

    levels = block_means(fields, weight)
    ocean_mean = (fields * weight).sum((-2, -1), keepdim=True) / weight.sum()
    bands, coarser = score(ocean_mean, weight.new_ones(1, 1)), ocean_mean
    for mean, block_weight in reversed(levels):
        if coarser is not ocean_mean:
            coarser = coarser.repeat_interleave(2, -2).repeat_interleave(2, -1)
        bands, coarser = bands + score(mean - coarser, block_weight), mean

    scores = [score(levels[n][0].diff(dim=dim), both) for n, dim, both in neighbours(ocean)]
    differences = torch.stack(scores).mean() if scores else bands.new_zeros(())

    terms = {"crps": score(fields, weight), "bands": bands, "differences": differences}
    total = bands + differences
    if spectral:
        terms["spectral"] = spectral_score(fields, square, alpha)
        total = total + spectral * terms["spectral"]
    return total, {name: term.detach() for name, term in terms.items()}


def spectral_score(fields, square, alpha=ALMOST_FAIR):
    """Energy score of the Fourier coefficients in a square, averaged over the modes.

    Each mode has the weight 1 / sqrt(amplitude) of the truth at its wavelength, scaled to a mean of
    1, so that short waves count although their amplitudes are small. Coefficients are multiplied by
    the side n of the square: then those of white noise are as large as the noise in a cell, and the
    score has the size of the CRPS whatever the square.

    Parameters
    ----------
    fields : (batch, member + 1, channel, y, x) tensor
        The members and, as the last one, the truth.
    square : (rows, columns), slices of a square of ocean cells
    alpha : as in :func:`crps`

    Returns
    -------
    scalar tensor with gradient
    """
    modes, rings = square_modes(fields, square)
    power = ring_power(modes[:, -1].detach(), rings)
    _, inside = _rings(len(rings), rings.device)
    ring = rings.flatten()[inside]
    weight = power.clamp(min=1e-30).sqrt()[ring - 1] ** -SPECTRAL_EXPONENT
    modes = modes.flatten(-2).index_select(-1, inside)
    distances = crps(modes[:, :-1], modes[:, -1], alpha)
    return len(rings) * (distances * (weight / weight.mean())).mean()


def square_modes(fields, square):
    """Fourier coefficients in a square, without the plane and under a periodic Hann window.

    Parameters
    ----------
    fields : (..., y, x) tensor
    square : (rows, columns), slices of n cells each

    Returns
    -------
    modes : (..., n, n) complex tensor, divided by n^2
    rings : (n, n) tensor of int
        Wavenumber of each mode in cycles per side, rounded.
    """
    fields = fields[..., square[0], square[1]].float()
    size = fields.shape[-1]
    position = torch.arange(size, device=fields.device, dtype=fields.dtype) - (size - 1) / 2
    fields = fields - fields.mean((-2, -1), keepdim=True)
    for slope in (position[:, None], position[None, :]):  # the two directions are orthogonal
        norm = size * (position**2).sum()
        fields = fields - (fields * slope).sum((-2, -1), keepdim=True) / norm * slope
    hann = 0.5 - 0.5 * torch.cos(2 * torch.pi * (position + (size - 1) / 2) / size)
    rings, _ = _rings(size, fields.device)
    return torch.fft.fft2(fields * hann[:, None] * hann) / size**2, rings


@cache  # without limit: a recorded CUDA graph reads this memory at each step
def _rings(size, device):
    """Ring of each mode of a square, and positions of those in rings 1 to n / 2, made once."""
    with torch.inference_mode(False):  # training may use the cached tensors of a forecast
        wavenumber = torch.fft.fftfreq(size, 1 / size, device=device)
        rings = torch.hypot(wavenumber[:, None], wavenumber[None, :]).round().long()
        inside = (rings > 0) & (rings <= size // 2)
        return rings, inside.flatten().nonzero()[:, 0]


def ring_power(modes, rings):
    """Mean square of the modes of each ring of wavenumbers, averaged over the other dimensions.

    Parameters
    ----------
    modes, rings : as from :func:`square_modes`

    Returns
    -------
    (n // 2,) tensor
        For 1 to n / 2 cycles per side.
    """
    power = modes.abs().square().flatten(0, -3).mean(0).flatten()
    count = len(rings) // 2
    # The numbers of all rings are below the side n. With this length of the sums, the processor
    # need not wait for the device to find the largest number.
    ring = rings.flatten()
    sums = power.new_zeros(len(rings)).index_add(0, ring, power)
    sizes = power.new_zeros(len(rings)).index_add(0, ring, torch.ones_like(power))
    return sums[1 : count + 1] / sizes[1 : count + 1]
