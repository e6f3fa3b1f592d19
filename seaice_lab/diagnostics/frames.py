"""Functions of NumPy on the frames of labelled arrays, lazily; phase-randomised copies."""

import numpy as np
import xarray as xr
from scipy import ndimage

from seaice_lab.errors import InputError

FRAMES_AT_ONCE = 8  # computed in one call, so that the arrays stay in the cache of the processor


def reduce_frames(function, fields, mask, outputs):
    """Apply a function to every frame of fields with a common mask.

    Parameters
    ----------
    function : callable
        Takes values (field, frame, y, x), float64 and zero where masked, and the mask
        (frame, y, x). Returns one array (frame, ...) for each output.
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
    dims = ("y", "x")
    arrays = list(fields) if mask is None else [*fields, mask.astype(bool)]
    sizes = [{dim: array.sizes.get(dim) for dim in dims} for array in arrays]
    if any(size != sizes[0] for size in sizes):
        raise InputError(
            f"fields and mask have the sizes {sizes}, expected the same y and x; pass the mask of "
            "the grid of the fields"
        )
    try:
        xr.align(*arrays, join="exact", copy=False)
    except ValueError as error:
        raise InputError(
            f"fields and mask have other coordinates ({str(error).splitlines()[0]}); pass fields "
            "and a mask of the same grid and times"
        ) from None
    if 0 in fields[0].shape:
        raise InputError(f"a field has the sizes {dict(fields[0].sizes)}, expected some values")

    def in_groups(*values):
        values = np.broadcast_arrays(*values)
        shape = values[0].shape
        values = [array.reshape(-1, *shape[-2:]) for array in values]
        groups = [slice(at, at + FRAMES_AT_ONCE) for at in range(0, len(values[0]), FRAMES_AT_ONCE)]
        results = [function(*_masked(values, group, mask is None)) for group in groups]
        joined = (np.concatenate(parts) for parts in zip(*results, strict=True))
        joined = tuple(array.reshape((*shape[:-2], *array.shape[1:])) for array in joined)
        return joined if len(joined) > 1 else joined[0]

    # While it is computed, y of an output has another name, because its size may differ.
    renamed = [
        [f"new_{dim}" if dim in dims else dim for dim in output] for output in outputs.values()
    ]
    sizes = [size for output in outputs.values() for size in output.values()]
    sizes = dict(zip([dim for output in renamed for dim in output], sizes, strict=True))
    results = xr.apply_ufunc(
        in_groups,
        *arrays,
        input_core_dims=[list(dims)] * len(arrays),
        output_core_dims=renamed,
        dask="parallelized",
        output_dtypes=["float64"] * len(outputs),
        dask_gufunc_kwargs={"output_sizes": sizes, "allow_rechunk": True},
        keep_attrs=False,
    )
    results = results if len(outputs) > 1 else [results]
    dataset = xr.Dataset(dict(zip(outputs, results, strict=True)))
    for dim in {"y", "x"} & {name.removeprefix("new_") for name in dataset.dims}:
        dataset = dataset.drop_vars(dim, errors="ignore").rename({f"new_{dim}": dim})
        if dim in fields[0].coords:
            position = fields[0][dim]
            less = position.size - dataset.sizes[dim]
            values = (position.values[less:] + position.values[: position.size - less]) / 2
            dataset = dataset.assign_coords({dim: (dim, values, position.attrs)})
    return dataset


def _masked(values, group, missing_is_masked):
    """Fields as one array, zero where masked, and the mask, of a group of frames."""
    if missing_is_masked:
        fields = np.array([array[group] for array in values], "float64")
        mask = np.isfinite(fields).all(axis=0)
    else:
        fields, mask = np.array([array[group] for array in values[:-1]], "float64"), values[-1]
        mask = mask[group]
    fields = np.where(mask, fields, 0.0)
    if not np.isfinite(fields).all():
        raise InputError(
            "a field has missing values inside the mask, expected finite ones; pass a mask that "
            "leaves those cells out"
        )
    return fields, mask


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

    sizes = {dim: field.sizes[dim] for dim in ("y", "x")}
    result = reduce_frames(of_frames, [field], mask, {"field": sizes}).field
    return result.assign_attrs(field.attrs).rename(field.name)


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
    shape = fields[0].sizes["y"], fields[0].sizes["x"]
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal(shape))
    turn = noise / abs(noise)

    def of_frames(values, valid):
        count = np.maximum(valid.sum(axis=(-2, -1), keepdims=True), 1)
        mean = values.sum(axis=(-2, -1), keepdims=True) / count
        anomaly = np.where(valid, values - mean, 0.0)
        copy = np.fft.irfft2(np.fft.rfft2(anomaly) * turn, s=shape)
        copy -= np.where(valid, copy, 0).sum(axis=(-2, -1), keepdims=True) / count
        spread = [(np.where(valid, a, 0) ** 2).sum(axis=(-2, -1), keepdims=True)
                  for a in (anomaly, copy)]  # fmt: skip
        copy *= np.sqrt(spread[0] / np.maximum(spread[1], 1e-300))
        return tuple(np.where(valid, mean + copy, np.nan))

    outputs = {f"field_{n}": dict(zip(("y", "x"), shape, strict=True)) for n in range(len(fields))}
    copies = reduce_frames(of_frames, fields, mask, outputs)
    return [copies[name].assign_attrs(f.attrs) for name, f in zip(outputs, fields, strict=True)]
