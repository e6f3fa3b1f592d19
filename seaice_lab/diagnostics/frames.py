"""Functions of NumPy on the frames of labelled arrays, lazily; phase-randomised copies."""

from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import xarray as xr
from scipy import ndimage

from seaice_lab.errors import InputError
from seaice_lab.processors import processors

GRID = ("y", "x")
CELLS_AT_ONCE = 2**17  # in one call, so that the arrays stay in the cache of the processor


def reduce_frames(function, fields, mask, outputs):
    """Apply a function to every frame of fields with a common mask.

    Parameters
    ----------
    function : callable
        Takes values (field, frame, y, x), float64 and zero where masked, and the mask
        (frame, y, x). Returns one array (frame, ...) of numbers for each output.
    fields : sequence of DataArray (..., y, x)
    mask : DataArray of bool (..., y, x) or None
        True where values count. None: where all fields are finite.
    outputs : dict of str to dict of str to int
        Sizes of the dimensions of each output, by its name. Along y and x, outputs can be as large
        as the fields, or smaller by one (between the cells) or two (at the inner cells).

    Returns
    -------
    Dataset
        The outputs, each (..., dimensions of the output). Lazy if a field is lazy.

    Raises
    ------
    InputError
        If fields and mask have other grids or times or no values, or a value inside the mask is
        missing (of a lazy field, when it is computed).
    """
    try:
        if mask is None:
            mask = reduce(np.logical_and, map(np.isfinite, fields))
        arrays = [*fields, mask.astype(bool)]
        xr.align(*arrays, join="exact", copy=False)
    except ValueError as error:
        raise InputError(
            f"fields and mask have other coordinates or sizes ({str(error).splitlines()[0]}); pass "
            "fields and a mask of the same grid and times"
        ) from None
    if 0 in fields[0].shape:
        raise InputError(f"a field has the sizes {dict(fields[0].sizes)}, expected some values")

    def in_groups(*arrays):
        arrays = np.broadcast_arrays(*arrays)
        shape = arrays[0].shape
        frames = [array.reshape(-1, *shape[-2:]) for array in arrays]
        count = max(CELLS_AT_ONCE // frames[0][0].size, 1)
        firsts = range(0, len(frames[0]), count)
        groups = ([each[at : at + count] for each in frames] for at in firsts)
        with ThreadPoolExecutor(min(processors(), len(firsts))) as pool:
            results = list(pool.map(lambda group: function(*_masked(*group)), groups))
        joined = (np.concatenate(each, dtype="float64") for each in zip(*results, strict=True))
        joined = tuple(array.reshape((*shape[:-2], *array.shape[1:])) for array in joined)
        return joined if len(joined) > 1 else joined[0]

    sizes = {dim: size for output in outputs.values() for dim, size in output.items()}
    results = xr.apply_ufunc(
        in_groups,
        *arrays,
        input_core_dims=[GRID] * len(arrays),
        output_core_dims=[list(output) for output in outputs.values()],
        exclude_dims=set(GRID),
        dask="parallelized",
        output_dtypes=["float64"] * len(outputs),
        dask_gufunc_kwargs={"output_sizes": sizes, "allow_rechunk": True},
        keep_attrs=False,
    )
    results = results if len(outputs) > 1 else [results]
    dataset = xr.Dataset(dict(zip(outputs, results, strict=True)))
    for dim in set(GRID) & set(sizes) & set(fields[0].coords):
        position = fields[0][dim]
        less = position.size - sizes[dim]
        values = (position.values[less:] + position.values[: position.size - less]) / 2
        dataset = dataset.assign_coords({dim: (dim, values, position.attrs)})
    return dataset


def _masked(*fields_and_mask):
    """Fields as one array, zero where masked, and the mask."""
    *fields, mask = fields_and_mask
    values = np.array(fields, "float64")
    values = values if mask.all() else np.where(mask, values, 0.0)
    if not np.isfinite(values).all():
        raise InputError(
            "a field has missing values inside the mask, expected finite ones; pass a mask that "
            "leaves those cells out"
        )
    return values, mask


def of_ocean_cells(function, fields, ocean, weights, output):
    """Apply a function to the ocean cells of every frame, one frame after the other.

    A frame stays in the cache of the processor while the function works on it.

    Parameters
    ----------
    function : callable
        Takes the weights (cell, ...) and the values (cell,) of each field, float64 without NaN;
        returns an ndarray with the shape of the output.
    fields : sequence of DataArray (..., y, x)
        With the same dimensions and equal coordinates.
    ocean : DataArray of bool (y, x)
    weights : DataArray (y, x, ...)
    output : dict of str to int
        Sizes of the dimensions of the output.

    Returns
    -------
    DataArray (..., dimensions of the output), float64
        NaN in a frame with a NaN in an ocean cell of any field. Lazy if a field is lazy.
    """
    cells = ocean.transpose(*GRID).values
    weights = weights.transpose(*GRID, ...).values[cells]

    def of_frame(frame):
        values = [field[cells].astype("float64") for field in frame]
        if any(np.isnan(each).any() for each in values):
            return np.full(tuple(output.values()), np.nan)
        return function(weights, *values)

    def of_frames(*arrays):
        frames = zip(*(array.reshape(-1, *cells.shape) for array in arrays), strict=True)
        results = [of_frame(frame) for frame in frames]
        return np.reshape(results, (*arrays[0].shape[:-2], *output.values()))

    return xr.apply_ufunc(
        of_frames,
        *fields,
        input_core_dims=[GRID] * len(fields),
        output_core_dims=[list(output)],
        dask="parallelized",
        output_dtypes=["float64"],
        dask_gufunc_kwargs={"output_sizes": output, "allow_rechunk": True},
        keep_attrs=False,
    )


def masked_gaussian(values, valid, sigma, truncate=2.0):
    """Gaussian mean over the valid cells.

    Parameters
    ----------
    values : ndarray (frame, y, x)
        Zero where masked.
    valid : ndarray of bool (frame, y, x)
    sigma : float
        Standard deviation in cells.
    truncate : float
        Reach in standard deviations.

    Returns
    -------
    ndarray (frame, y, x)
    """
    options = {"sigma": (0, sigma, sigma), "truncate": truncate, "mode": "constant"}
    weight = ndimage.gaussian_filter(valid.astype(float), **options)
    return ndimage.gaussian_filter(values, **options) / np.maximum(weight, 1e-12)


def blurred(field, mask, cells=1.0):
    """A field smoothed by a Gaussian: what a network that damps fine scales looks like.

    Parameters
    ----------
    field : DataArray (..., y, x)
    mask : DataArray of bool (..., y, x)
        Only these cells count; elsewhere the result is NaN.
    cells : float
        Standard deviation.

    Returns
    -------
    DataArray (..., y, x)
    """

    def of_frames(values, valid):
        smooth = masked_gaussian(values[0], valid, cells, truncate=4.0)
        return (np.where(valid, smooth, np.nan),)

    result = reduce_frames(of_frames, [field], mask, {"field": grid_sizes(field)}).field
    return result.assign_attrs(field.attrs).rename(field.name)


def pool(sums, over=None):
    """Sums over frames, pooled and computed.

    Parameters
    ----------
    sums : Dataset
        Sums of each frame; the dimensions of ``count`` are those of the frames, except for
        increment and scale.
    over : sequence of str, optional
        Dimensions to pool; by default all of the frames.

    Returns
    -------
    Dataset
    """
    if over is None:
        over = [dim for dim in sums["count"].dims if dim not in ("increment", "scale")]
    return sums.sum(over, keep_attrs=True).compute()


def histograms(frame, bins, shape, weights=None):
    """Histogram of the items of each frame.

    Parameters
    ----------
    frame : ndarray of int (item,)
        Frame of each item.
    bins : ndarray (item,)
        Position of each item in units of the bins; larger ones count in the last bin.
    shape : (int, int)
        Numbers of frames and of bins.
    weights : ndarray (item,), optional
        By default every item counts 1.

    Returns
    -------
    ndarray (frame, bin)
    """
    index = np.ravel_multi_index((frame, np.clip(bins, 0, shape[1] - 1).astype(int)), shape)
    return np.bincount(index, weights, np.prod(shape)).reshape(shape)


def grid_sizes(field, less=0):
    """Sizes of an output of `reduce_frames` along y and x.

    Parameters
    ----------
    field : DataArray (..., y, x)
    less : int
        By how much the output is smaller than the field.

    Returns
    -------
    dict of str to int
    """
    return {dim: field.sizes[dim] - less for dim in GRID}


def phase_randomised(fields, mask, seed=0):
    """Copies of fields with the same spectrum and random phases: the null of their structures.

    Parameters
    ----------
    fields : sequence of DataArray (..., y, x)
        All get the same phases, so that the coherence between them stays.
    mask : DataArray of bool (..., y, x)
        Elsewhere the field is filled with its mean, and the copy is NaN.
    seed : int
        Equal seeds give equal phases.

    Returns
    -------
    list of DataArray (..., y, x)
        With the mean and the standard deviation of the fields inside the mask, in each frame.
    """
    sizes = grid_sizes(fields[0])
    shape = tuple(sizes.values())
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    turn = noise / abs(noise)

    def total(values):
        return values.sum(axis=(-2, -1), keepdims=True)

    def of_frames(values, valid):
        count = np.maximum(total(valid), 1)
        mean = total(values) / count
        anomaly = np.where(valid, values - mean, 0.0)
        copy = np.fft.irfft2(np.fft.rfft2(anomaly) * turn, s=shape)
        copy = np.where(valid, copy - total(np.where(valid, copy, 0.0)) / count, 0.0)
        copy *= np.sqrt(total(anomaly**2) / np.maximum(total(copy**2), 1e-300))
        return tuple(np.where(valid, mean + copy, np.nan))

    outputs = {f"field_{n}": sizes for n in range(len(fields))}
    copies = reduce_frames(of_frames, fields, mask, outputs)
    return [copies[name].assign_attrs(f.attrs) for name, f in zip(outputs, fields, strict=True)]
