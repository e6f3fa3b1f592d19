"""Means over blocks of cells, and pairs of adjacent blocks, for losses that compare scales."""

from functools import lru_cache

import torch
import torch.nn.functional as F

BLOCKS = (1, 2, 4, 8)  # side of a block in cells, for each level


# Tensors are compared by identity, so a changed mask would go unnoticed. Without the cache, `any`
# would wait for the device in every call.
@lru_cache(maxsize=4)
def neighbours(ocean):
    """Pairs of adjacent blocks of 1, 2 and 4 cells of which both are at least half ocean.

    Parameters
    ----------
    ocean : (y, x) bool tensor, True where sea; the caller must not change it later

    Returns
    -------
    list of (level, dim, both)
        For each size of blocks and direction that has such a pair: the position of the size in
        :data:`BLOCKS`, the dimension along which the blocks are adjacent (-2 for y, -1 for x), and
        a float32 tensor that is 1 where both blocks are ocean, one shorter along ``dim`` than the
        grid of blocks.
    """
    pairs = []
    with torch.inference_mode(False):  # training may use the cached tensors of a forecast
        shares = block_means(ocean.float(), torch.ones_like(ocean, dtype=torch.float32))
        for level, (share, _) in enumerate(shares[:-1]):
            is_ocean = (share >= 0.5).float()
            for dim, size in ((-2, share.shape[-2]), (-1, share.shape[-1])):
                both = is_ocean.narrow(dim, 1, size - 1) * is_ocean.narrow(dim, 0, size - 1)
                if both.any():
                    pairs.append((level, dim, both))
    return pairs


def block_means(fields, weight):
    """Weighted means over blocks of 1, 2, 4 and 8 cells along each side.

    Parameters
    ----------
    fields : (..., y, x) tensor
    weight : (y, x) tensor, zero where a cell does not count

    Returns
    -------
    list of (means, weights)
        For each size of :data:`BLOCKS` the means (..., y, x), zero in blocks without weight, and
        the sums of the weights (y, x). A grid that 8 does not divide is extended by cells without
        weight.
    """
    largest = BLOCKS[-1]
    padding = (0, -weight.shape[-1] % largest, 0, -weight.shape[-2] % largest)
    weight = F.pad(weight, padding)
    fields = F.pad(fields, padding)
    result = [(fields, weight)]
    for _ in BLOCKS[1:]:
        sums, weight = _sums_of_four(fields * weight), _sums_of_four(weight)
        fields = sums / torch.where(weight > 0, weight, 1.0)
        result.append((fields, weight))
    return result


def _sums_of_four(fields):
    """Sums over blocks of 2 x 2 cells."""
    fields = fields.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2))
    return fields.sum((-3, -1))
