"""Linear kinematic features: the lines in which deformation concentrates, and their angles.

The detector follows the steps of Hutter et al. (2019, doi:10.5194/tc-13-627-2019) with own code:
equalised rates, difference of Gaussians, thinning, segments, reconnection. It marks lines in noise
too, so compare every number with that of a phase-randomised copy (`frames.phase_randomised`). The
number of features carries no information at 25 km; their length and direction do.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage, stats
from scipy.cluster.hierarchy import DisjointSet
from scipy.spatial import cKDTree

from seaice_lab.diagnostics import frames
from seaice_lab.diagnostics.frames import histograms, reduce_frames

FINE_CELLS, COARSE_CELLS = 0.5, 2.5  # Gaussians of the detector
CONTRAST = 15 / 255  # of equalised rates
SHORTEST_CELLS = 4  # from end to end
GAP_CELLS, GAP_DEGREES, ACROSS = 4.0, 35.0, 3.0  # reconnection; distances across count three times
CROSSING_CELLS, CROSSING_LENGTH, CROSSING_PIXELS, CONTINUATION = 3.0, 5.0, 10, 20.0
LONGEST_CELLS = 200  # of the histogram of lengths
ORIENTATION_BINS, ANGLE_BINS = 12, 36  # of 15 and 5 degrees
FAR = 1e5  # between frames in a tree of points

# After Zhang and Suen (1984): the eight neighbours clockwise from the north, as bits of a number.
_NEIGHBOURS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
_BITS = (np.arange(256)[:, None] >> np.arange(8)) & 1
_NUMBER = _BITS.sum(axis=1)
_RISES = ((_BITS == 0) & (np.roll(_BITS, -1, axis=1) == 1)).sum(axis=1)
_N, _NE, _E, _SE, _S, _SW, _W, _NW = _BITS.T.astype(bool)
# Corners of stairs stay after the thinning; without them a line has two neighbours everywhere
# (after Holt et al. 1987). Inside the loop only those go that no other line touches.
_STAIRS = (_N & ((_E & ~_NE & ~_SW & ~(_W & _S)) | (_W & ~_NW & ~_SE & ~(_E & _S))),
           _S & ((_E & ~_SE & ~_NW & ~(_W & _N)) | (_W & ~_SW & ~_NE & ~(_E & _N))))  # fmt: skip
_ONE_RISE = (_NUMBER >= 2) & (_NUMBER <= 6) & (_RISES == 1)
# The first of the two passes keeps ends of lines (two neighbours), so that lines do not shrink.
_REMOVED = (
    (_ONE_RISE & (_NUMBER > 2) & ~(_N & _E & _S) & ~(_E & _S & _W))
    | (_STAIRS[0] & ~(_N & _S) & ~(_E & _W)),
    (_ONE_RISE & ~(_N & _E & _W) & ~(_N & _S & _W)) | (_STAIRS[1] & ~(_N & _S) & ~(_E & _W)),
)


class Features(NamedTuple):
    """Linear features of several frames.

    Parameters
    ----------
    pixels : ndarray of int (pixel, 3)
        Frame, row and column.
    owner : ndarray of int (pixel,)
        Feature of each pixel.
    ends : ndarray of int (feature, 2, 3)
        Frame, row and column of both ends.
    lines : ndarray of bool (frame, y, x)
        The thinned lines before they were cut into segments.
    """

    pixels: np.ndarray
    owner: np.ndarray
    ends: np.ndarray
    lines: np.ndarray

    @property
    def vector(self):
        """Rows and columns from end to end, (feature, 2)."""
        return (self.ends[:, 1] - self.ends[:, 0])[:, 1:].astype(float)

    @property
    def length(self):
        """Distance from end to end in cells, both ends included, (feature,)."""
        return np.hypot(*self.vector.T) + 1

    @property
    def numbers(self):
        """Number of the feature of each cell from 1 on, zero elsewhere, (frame, y, x)."""
        numbers = np.zeros(self.lines.shape, int)
        numbers[tuple(self.pixels.T)] = self.owner + 1
        return numbers


def find_features(values, valid, threshold=None, reconnect=True):
    """Find linear features in frames of deformation rates.

    Parameters
    ----------
    values : ndarray (frame, y, x)
        Total deformation rates, zero where they do not count.
    valid : ndarray of bool (frame, y, x)
        Corners that count.
    threshold : float, optional
        Limit of the difference of Gaussians of the rate itself, in 1/day. By default the rates of
        a frame are first replaced by their ranks, so that only the pattern counts.
    reconnect : bool
        Join segments across gaps, for example where lines cross.

    Returns
    -------
    Features
    """
    if threshold is None:
        values, threshold = _equalised(values, valid), CONTRAST
    fine, coarse = (
        frames.masked_gaussian(values, valid, sigma) for sigma in (FINE_CELLS, COARSE_CELLS)
    )
    lines = _thinned(valid & (fine - coarse > threshold))
    # Without the pixels where lines meet, every connected piece is one segment or a ring.
    segments = lines & (_NUMBER[_neighbours(lines)] <= 2)
    label, _ = ndimage.label(segments, np.pad(np.ones((1, 3, 3)), ((1, 1), (0, 0), (0, 0))))
    pixels, owner = np.argwhere(segments), label[segments]
    is_end = (_NUMBER[_neighbours(segments)] == 1)[segments]
    order = np.argsort(owner[is_end], kind="stable")
    ends, of_segment = pixels[is_end][order].reshape(-1, 2, 3), owner[is_end][order][::2]
    # Segments are numbered from zero; rings and single pixels have no ends and are dropped.
    has_ends = np.isin(owner, of_segment)
    owner = np.searchsorted(of_segment, owner[has_ends])
    features = Features(pixels[has_ends], owner, ends, lines)
    features = _reconnected(features) if reconnect and len(ends) else features
    return _longer(features, SHORTEST_CELLS)


def _longer(features, cells):
    """Features of at least a length, numbered from zero."""
    is_long = features.length >= cells
    kept = is_long[features.owner]
    owner = (np.cumsum(is_long) - 1)[features.owner[kept]]
    return Features(features.pixels[kept], owner, features.ends[is_long], features.lines)


def _equalised(values, valid):
    """Ranks of the valid values of each frame, from 0 to 1."""
    # Masked values are the largest, so that they change no rank of the others.
    rates = np.where(valid, values, np.inf).reshape(len(values), -1)
    rank = stats.rankdata(rates, "max", axis=1).reshape(values.shape)
    return np.where(valid, rank / np.maximum(valid.sum(axis=(1, 2), keepdims=True), 1), 0.0)


def _neighbours(mask):
    """The eight neighbours of each cell as bits of a number."""
    padded = np.pad(mask.astype(np.uint8), ((0, 0), (1, 1), (1, 1)))
    shifted = sliding_window_view(padded, mask.shape[1:], axis=(1, 2))
    return sum(shifted[:, 1 + dy, 1 + dx] << bit for bit, (dy, dx) in enumerate(_NEIGHBOURS))


def _thinned(mask):
    while True:
        before = mask.sum()
        for removed in _REMOVED:
            mask = mask & ~removed[_neighbours(mask)]
        if mask.sum() == before:
            for corner in _STAIRS:
                mask = mask & ~corner[_neighbours(mask)]
            return mask


def _nearest(points, owner, features, count):
    """Offsets x + iy (point, neighbour) to the nearest pixels of the same feature, zero beyond."""
    # The feature is the first coordinate. Some more neighbours make ties independent of the tree.
    positions, centres = (
        np.column_stack([FAR * number, pixels[:, 1:]])
        for number, pixels in ((features.owner, features.pixels), (owner, points))
    )
    distance, near = cKDTree(positions).query(
        centres, k=np.arange(min(2 * count, len(positions))) + 1
    )
    near = np.take_along_axis(near, np.lexsort((near, distance.round(6))), axis=1)[:, :count]
    same = features.owner[near] == owner[:, None]
    rows, columns = (features.pixels[near] - points[:, None])[..., 1:].T
    return (columns + 1j * rows).T * same, same


def _reconnected(features):
    """Join segments that continue each other across a gap, the closest ones first."""
    ends = features.ends.reshape(-1, 3)
    pairs = cKDTree(ends * np.array([FAR, 1, 1])).query_pairs(GAP_CELLS, output_type="ndarray")
    distance = np.hypot(*(ends[pairs[:, 0]] - ends[pairs[:, 1]])[:, 1:].T)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))]
    position = (ends[:, 2] + 1j * ends[:, 1]).tolist()
    # A chain is known by its two ends; joining two chains needs no more than that.
    other_end = (np.arange(len(ends)) ^ 1).tolist()
    joined = DisjointSet(range(len(features.ends)))
    smallest_cosine = np.cos(np.radians(GAP_DEGREES))
    for first, second in pairs.tolist():
        far = [other_end[first], other_end[second]]
        if None in far or far[0] == second:
            continue
        chains = position[first] - position[far[0]], position[far[1]] - position[second]
        cosine = (chains[0] * chains[1].conjugate()).real / abs(chains[0] * chains[1])
        axis = chains[0] / abs(chains[0]) + chains[1] / abs(chains[1])
        # The gap in coordinates along and across the mean direction of both chains.
        gap = (position[second] - position[first]) * axis.conjugate() / max(abs(axis), 1e-9)
        is_near = gap.real > 0 and abs(gap.real + 1j * ACROSS * gap.imag) <= GAP_CELLS
        if cosine >= smallest_cosine and is_near:
            other_end[first] = other_end[second] = None
            other_end[far[0]], other_end[far[1]] = far[::-1]
            joined.merge(first // 2, second // 2)
    chain, _ = pd.factorize(np.array([joined[segment] for segment in joined]))
    free = np.flatnonzero([end is not None for end in other_end])
    free = free[np.argsort(chain[free // 2], kind="stable")]
    new_ends = ends[free].reshape(-1, 2, 3)
    return Features(features.pixels, chain[features.owner], new_ends, features.lines)


def _crossings(features, vorticity=None):
    """Frames and angles (degrees) of the pairs of features that come close to each other.

    The acute angle; with vorticity, of conjugate pairs only (opposite signs), the angle on the
    side of the compressive direction.
    """
    pixels, owner, ends, _ = features = _longer(features, CROSSING_LENGTH)
    if not len(ends):
        return np.zeros(0, int), np.zeros(0)
    tree = cKDTree(pixels * np.array([FAR, 1, 1]))
    pairs = tree.query_pairs(CROSSING_CELLS, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    # The closest pixels of each pair of features.
    key = np.sort(owner[pairs], axis=1)
    distance = ((pixels[pairs[:, 0]] - pixels[pairs[:, 1]]) ** 2).sum(axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distance, key[:, 1], key[:, 0]))
    _, first = np.unique(key[order], axis=0, return_index=True)
    pairs = pairs[order][first]
    angles = []
    for end in pairs.T:
        offsets, same = _nearest(pixels[end], owner[end], features, CROSSING_PIXELS)
        centred = (offsets - (offsets.sum(1) / same.sum(1))[:, None]) * same
        # The square turns both ends of a line into one direction.
        angles.append(np.degrees(np.angle((centred**2).sum(axis=1))) / 2)
    difference = abs(angles[0] - angles[1]).round(6) % 180
    acute, frame = np.minimum(difference, 180 - difference), pixels[pairs[:, 0], 0]
    counted = acute >= CONTINUATION
    if vorticity is not None:
        along = ndimage.mean(vorticity[tuple(pixels.T)], owner, np.arange(len(ends)))
        signs = np.sign(along)[owner[pairs]].T
        counted &= signs[0] * signs[1] < 0
        # Simple shear compresses at 45 degrees to its line, on the side that its sign tells. So
        # with opposite signs, both compress along the bisector of the obtuse angle if
        # sign(vorticity 1) sin(2 (angle 1 - angle 2)) > 0, else along that of the acute one.
        is_obtuse = signs[0] * np.sin(np.radians(2 * (angles[0] - angles[1]))) > 0
        acute = np.where(is_obtuse, 180 - acute, acute)
    return frame[counted], acute[counted]


def feature_sums(rate, dx_m, threshold=None, reconnect=True, vorticity=None):
    """Numbers, lengths, directions and crossings of linear features, for every frame.

    Parameters
    ----------
    rate : DataArray (..., y, x), 1/day
        Total deformation rate, NaN where masked.
    dx_m : float
        Distance between cells, m. The detector works in cells; its widths suit 12.5 to 25 km.
    threshold, reconnect
        As in `find_features`. The usual fixed threshold is 0.02 1/day.
    vorticity : DataArray (..., y, x), 1/day, optional
        With it only crossings of conjugate features count: opposite vorticity, angle on the side
        of the compressive direction, which may exceed 90 degrees (after Ringeisen et al. 2023,
        doi:10.5194/tc-17-4047-2023).

    Returns
    -------
    Dataset
        Sums for `feature_statistics`: ``count``, ``length`` (km, from end to end), ``skeleton``
        (km, pixels of the thinned lines), ``area`` (1e3 km2), ``cells``, ``feature_cells``,
        ``rate``, ``feature_rate`` (...), and the histograms ``lengths`` (..., length_bin),
        ``orientations`` (..., sector; km) and ``angles`` (..., angle).
    """
    dx_km = dx_m / 1e3

    def of_frames(values, valid):
        features = find_features(values[0], valid, threshold, reconnect)
        count, frame, length = len(valid), features.ends[:, 0, 0], features.length
        direction = np.degrees(np.arctan2(*features.vector.T)) % 180 * ORIENTATION_BINS / 180
        crossing_frame, angle = _crossings(features, *values[1:])
        on_feature = features.numbers > 0
        fields = features.lines * dx_km, valid, on_feature, values[0], values[0] * on_feature
        return (
            *(field.sum(axis=(1, 2)) for field in fields),
            histograms(frame, length, (count, LONGEST_CELLS)),
            histograms(crossing_frame, angle * ANGLE_BINS / 180, (count, ANGLE_BINS)),
            histograms(frame, direction, (count, ORIENTATION_BINS), length * dx_km),
        )

    outputs = dict.fromkeys(("skeleton", "cells", "feature_cells", "rate", "feature_rate"), {})
    outputs |= {"lengths": {"length_bin": LONGEST_CELLS}, "angles": {"angle": ANGLE_BINS}}
    outputs |= {"orientations": {"sector": ORIENTATION_BINS}}
    fields = [rate] if vorticity is None else [rate, vorticity]
    sums = reduce_frames(of_frames, fields, None, outputs)
    sums = sums.assign(
        count=sums.lengths.sum("length_bin"),
        length=sums.orientations.sum("sector"),
        area=sums.cells * dx_km**2 / 1e3,
    )
    return sums.assign_coords(
        length_bin=("length_bin", (np.arange(LONGEST_CELLS) + 0.5) * dx_km, {"units": "km"}),
        sector=("sector", (np.arange(ORIENTATION_BINS) + 0.5) * 15, {"units": "degree"}),
        angle=("angle", (np.arange(ANGLE_BINS) + 0.5) * 5, {"units": "degree"}),
    )


def feature_statistics(sums, over=None):
    """Statistics of linear features from sums over frames.

    Parameters
    ----------
    sums : Dataset
        From `feature_sums`.
    over : sequence of str, optional
        Dimensions that are pooled; by default all but those of the histograms.

    Returns
    -------
    Dataset
        ``number_density`` (per 1e6 km2), ``length_density`` and ``skeleton_density`` (km per
        1e3 km2), ``mean_length`` and ``length_90`` (km), ``orientation`` (..., sector; share of the
        length), ``angle_distribution`` (..., angle; share of the crossings), ``median_angle``
        (degrees), ``rate_share`` and ``area_share`` (of the features) and ``contrast`` (mean rate
        on features over mean rate elsewhere).
    """
    sums = frames.pool(sums, over)
    count, length = sums["count"].where(sums["count"] > 0), sums.length.where(sums.length > 0)
    elsewhere = (sums.rate - sums.feature_rate) / (sums.cells - sums.feature_cells)
    result = {
        "number_density": (1e3 * sums["count"] / sums.area, "1e-6 km-2"),
        "length_density": (sums.length / sums.area, "1e-3 km-1"),
        "skeleton_density": (sums.skeleton / sums.area, "1e-3 km-1"),
        "mean_length": (length / count, "km"),
        "length_90": (_quantile(sums.lengths, "length_bin", 0.9), "km"),
        "orientation": (sums.orientations / length, "1"),
        "angle_distribution": (sums.angles / sums.angles.sum("angle").where(lambda n: n > 0), "1"),
        "median_angle": (_quantile(sums.angles, "angle", 0.5), "degree"),
        "rate_share": (sums.feature_rate / sums.rate, "1"),
        "area_share": (sums.feature_cells / sums.cells, "1"),
        "contrast": (sums.feature_rate / sums.feature_cells / elsewhere, "1"),
    }
    result = {name: values.assign_attrs(units=units) for name, (values, units) in result.items()}
    return xr.Dataset(result)


def _quantile(histogram, dim, share):
    """Quantile of a histogram with equal bins, interpolated within its bin."""
    step = float(histogram[dim][1] - histogram[dim][0])
    total = histogram.sum(dim).where(lambda n: n > 0)
    up_to, inside = histogram.cumsum(dim) / total, histogram / total
    bins = xr.Dataset({"up_to": up_to, "inside": inside, "end": histogram[dim] + step / 2})
    position = (up_to < share).sum(dim).clip(max=histogram.sizes[dim] - 1)
    at = bins.isel({dim: position}).drop_vars(dim)
    return at.end - step * (at.up_to - share) / at.inside


def feature_map(rate):
    """Numbers of the linear features on the grid of a deformation rate, to draw them.

    Parameters
    ----------
    rate : DataArray (..., y, x), 1/day
        Total deformation rate, NaN where masked.

    Returns
    -------
    DataArray (..., y, x)
        From 1 on in each group of frames; zero where no feature is.
    """

    def of_frames(values, valid):
        return (find_features(values[0], valid).numbers,)

    return reduce_frames(of_frames, [rate], None, {"feature": frames.grid_sizes(rate)}).feature
