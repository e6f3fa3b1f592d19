"""The prepared store: open it, read its statistics, and find time steps by split and offset.

:mod:`seaice_lab.surrogate.prepare` writes it.
"""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import SPLITS


def open_store(path, dask=True):
    """Open a prepared store lazily.

    Parameters
    ----------
    path : str or Path
    dask : bool
        Use dask, one time step a chunk. Without it, single frames are read fastest.

    Returns
    -------
    xarray.Dataset
        ``<variable>(time, y, x)`` in physical units, with ``ocean(y, x)``, ``latitude(y, x)``,
        ``longitude(y, x)``, ``segment(time)`` and ``split(time)``.

    Raises
    ------
    InputError
        If the store is missing, incomplete or damaged, or is not a prepared store.
    """
    store = open_zarr(path, "seaice-lab prepare", chunks={} if dask else None)
    if "statistics" not in store.attrs or "ocean" not in store.coords:
        raise InputError(
            f"{path}: is a Zarr store without the mask or the statistics of a prepared one; make "
            "it with `seaice-lab prepare`"
        )
    return store


def open_zarr(path, command, chunks):
    """Open a Zarr store lazily, with a message that names the command which writes it.

    Parameters
    ----------
    path : str or Path
    command : str
        Command that writes the store.
    chunks : dict, "auto" or None
        As in ``xarray.open_zarr``.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the store is missing, incomplete or damaged.
    """
    path = Path(path)
    if not path.exists():
        is_partial = path.with_name(path.name + ".partial").exists()
        problem = "is incomplete; complete it" if is_partial else "no such store; make it"
        raise InputError(f"{path}: {problem} with `{command}`")
    try:
        return xr.open_zarr(path, consolidated=False, decode_timedelta=True, chunks=chunks)
    except Exception as error:  # zarr raises many kinds of exceptions for damaged metadata
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); check its "
            f"permissions, or move it away and run `{command}` again"
        ) from None


def statistics(store):
    """Statistics by name: ``{variable: {"mean", "std", "minimum", "maximum"}}``, physical units."""
    return json.loads(store.attrs["statistics"])


def moments(blocks):
    """Mean, standard deviation and extremes of values that come in blocks.

    Parameters
    ----------
    blocks : iterable of ndarray

    Returns
    -------
    dict of str to float
        "mean", "std", "minimum" and "maximum".
    """
    count, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for block in blocks:
        values = block.astype("float64")
        if count == 0:
            # Deviations from a value near the mean keep the sum of squares accurate.
            shift = values.mean()
        count += values.size
        total += (values - shift).sum()
        squares += ((values - shift) ** 2).sum()
        low, high = min(low, values.min()), max(high, values.max())
    mean = total / count
    std = np.sqrt(max(squares / count - mean**2, 0))
    result = {"mean": shift + mean, "std": std, "minimum": low, "maximum": high}
    return {name: float(value) for name, value in result.items()}


def in_split(store, split):
    """Positions on the time axis that belong to a split.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    split : str
        "train", "validation" or "test".

    Returns
    -------
    ndarray of int

    Raises
    ------
    InputError
        If the name of the split is unknown.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    return np.flatnonzero(store.split.values == SPLITS.index(split))


def locate(store, offsets_h, split=None, every=1):
    """Find every start of which all offsets exist, as positions on the time axis.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    offsets_h : iterable of float
        Offsets from the start, hours. A start counts only if each of them is a time of the same
        segment (and split).
    split : str, optional
        Take the starts whose offsets are all in this split. Without it, take all starts.
    every : int
        Keep every n-th start.

    Returns
    -------
    dict
        ``{offset: ndarray of int (start,)}``, with the starts themselves under 0.0.

    Raises
    ------
    InputError
        If no start has all offsets.
    """
    offsets_h = sorted({0.0, *offsets_h})
    hours = store.time.values.astype("datetime64[s]").astype("int64") / 3600
    # One sorted number for (segment, hour), since segments follow each other on the time axis.
    key = store.segment.values.astype("float64") * 1e8 + hours
    starts = np.arange(len(key)) if split is None else in_split(store, split)
    is_allowed = np.isin(np.arange(len(key)), starts)
    wanted = key[starts] + np.array(offsets_h)[:, None]
    nearest = np.searchsorted(key, wanted - 1e-3).clip(max=len(key) - 1)
    complete = ((np.abs(key[nearest] - wanted) < 1e-3) & is_allowed[nearest]).all(axis=0)
    if not complete.any():
        where = f"the {split} split" if split else "the whole store"
        raise InputError(
            f"no start has all of {offsets_h[0]:+g} to {offsets_h[-1]:+g} h in {where} "
            f"({len(starts)} times); prepare longer series, or ask for fewer steps or other offsets"
        )
    return dict(zip(offsets_h, nearest[:, complete][:, ::every], strict=True))
