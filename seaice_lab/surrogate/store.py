"""The prepared store: open it, read its statistics, and find time steps by split and offset.

:mod:`seaice_lab.surrogate.prepare` writes it.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from xarray.core import indexing
from zarr.codecs import BloscCodec, Crc32cCodec

from seaice_lab import files
from seaice_lab.errors import InputError
from seaice_lab.surrogate.frame_files import open_frames
from seaice_lab.surrogate.time_axis import HOUR, SPLITS
from seaice_lab.times import time_text

# Three times as fast to read as Zstandard, the default of Zarr; the checksum reveals damage.
COMPRESSORS = (BloscCodec(cname="lz4", shuffle="shuffle", typesize=4), Crc32cCodec())
# Checksums of all files of a store but its fields, which have a checksum in each chunk. They are
# inside the folder of an array, since Zarr warns of a foreign file beside arrays.
CHECKSUMS = "ocean/checksums.json"
SMALL_BYTES = 128e6  # a field that is kept in memory while a forecast is evaluated


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
        ``longitude(y, x)``, ``segment(time)`` and ``split(time)``; with forcing beyond the state
        also ``has_state(time)``.

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
        If the store is missing, incomplete or damaged, or the path is no store.
    """
    path = Path(path).expanduser()
    if not path.exists():
        is_partial = path.with_name(path.name + ".partial").exists()
        problem = "is incomplete; complete it" if is_partial else "no such store; make it"
        raise InputError(f"{path}: {problem} with `{command}`")
    if not (path / "zarr.json").exists():
        raise InputError(
            f"{path}: is no Zarr store (zarr.json is missing in {path.absolute()}); name one that "
            f"`{command}` made"
        )
    _check_checksums(path, command)
    try:
        dataset = xr.open_zarr(path, consolidated=False, decode_timedelta=True, chunks=chunks)
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        folder = path.absolute()  # a worker of a dask cluster may run in another folder
        opened = {name: open_frames(folder / name, group[name]) for name in dataset.data_vars}
    except Exception as error:  # zarr raises many kinds of exceptions for damaged metadata
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); check its "
            f"permissions, or move it away and run `{command}` again"
        ) from None
    for name, frames in opened.items():
        if frames is not None:
            field, lazy = dataset[name].variable, indexing.LazilyIndexedArray(frames)
            if field.chunks is None:  # assigned values stay in memory, as with Zarr
                lazy = indexing.CopyOnWriteArray(lazy)
            lazy = xr.Variable(field.dims, lazy, field.attrs, field.encoding)
            dataset[name] = lazy.chunk(field.chunksizes) if field.chunks else lazy
    return dataset


def write_checksums(path, variables):
    """Keep checksums of the metadata and the coordinates of a complete store.

    A changed byte there could move times or cells without a word.

    Parameters
    ----------
    path : str or Path
        Zarr store.
    variables : sequence of str
        Names of the fields, whose chunks are left out.
    """
    path = Path(path)
    paths = [path / "zarr.json", *(path / name / "zarr.json" for name in variables)]
    for folder in path.iterdir():
        if folder.is_dir() and folder.name not in variables:
            paths += [file for file in folder.rglob("*") if file.is_file()]
    sums = {file.relative_to(path).as_posix(): zlib.crc32(file.read_bytes()) for file in paths}
    files.write_json(path / CHECKSUMS, dict(sorted(sums.items())))


def _check_checksums(path, command):
    """Refuse a store whose metadata or coordinates were changed since it was written."""
    if not (path / CHECKSUMS).exists():  # of an older version
        return
    try:
        sums = json.loads((path / CHECKSUMS).read_text(encoding="utf-8"))
        sums = dict.items(sums)
    except (OSError, ValueError, TypeError):
        sums = [(CHECKSUMS, None)]
    for name, expected in sums:
        try:
            is_complete = zlib.crc32((path / name).read_bytes()) == expected
        except OSError:
            is_complete = False
        if not is_complete:
            raise InputError(
                f"{path}: {name} is damaged or was changed after the store was written; restore "
                f"it, move the store away and run `{command}` again, or, if the change was "
                f"intended, move {CHECKSUMS} away"
            )


def statistics(store):
    """Statistics by name: ``{variable: {"mean", "std", "minimum", "maximum"}}``, physical units.

    Empty for a store without training split.
    """
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


def name_of(store):
    """Path of a store for messages."""
    return store.encoding.get("source", "the store")


def has_state(store):
    """Whether a store holds the state at each time, ndarray of bool (time,)."""
    if "has_state" in store.coords:
        return store.has_state.values
    return np.ones(store.sizes["time"], bool)


def read_frames(store, name, positions, read=None):
    """Read one variable at some times.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    name : str
    positions : sequence of int or slice
        Positions on the time axis.
    read : function, optional
        Faster than xarray: it returns the values at given positions.

    Returns
    -------
    ndarray (len(positions), y, x)

    Raises
    ------
    InputError
        If the store is damaged: a chunk cannot be read, or is missing.
    """
    fault = None
    try:
        values = read(positions) if read else store[name].isel(time=positions).values
        lacks = (np.isnan(values) & store.ocean.values).any((1, 2))
        if "has_state" in store.coords and name in store.has_state.attrs["variables"].split():
            lacks &= has_state(store)[positions]
        if lacks.any():  # a missing chunk is read as NaN
            first = time_text(store.time.values[positions][lacks][0])
            fault = f"NaN in the ocean at {first}, probably because a chunk is missing"
    except Exception as error:  # each codec raises its own kind for a damaged chunk
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise InputError(
            f"{name_of(store)}: {name} cannot be read ({fault}); the store is damaged, move it "
            "away and run `seaice-lab prepare` again"
        )
    return values


def with_small_fields_in_memory(store, variables):
    """A store whose mask and small fields are in memory, where single times are read at once.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    variables : sequence of str
        Those that the store lacks are ignored.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the store is damaged.
    """
    times = np.arange(store.sizes["time"])
    store = store.assign_coords(ocean=store.ocean.compute())
    small = [name for name in variables if name in store and store[name].nbytes < SMALL_BYTES]
    fields = {name: store[name].copy(data=read_frames(store, name, times)) for name in small}
    return store.assign(fields)


def positions_at(store, starts, offsets_h):
    """Positions on the time axis at offsets from some starts, within their segments.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    starts : sequence of int
        Positions on the time axis.
    offsets_h : sequence of float
        Offsets from the starts, hours.

    Returns
    -------
    ndarray of int (offset, start)
        -1 where the segment of the start has no such time.
    """
    hours = store.time.values.astype("datetime64[s]").astype("int64") / 3600
    # One sorted number for (segment, hour), since segments follow each other on the time axis.
    key = store.segment.values.astype("float64") * 1e8 + hours
    wanted = key[starts] + np.asarray(offsets_h, "float64")[:, None]
    nearest = np.searchsorted(key, wanted - 1e-3).clip(max=len(key) - 1)
    return np.where(np.abs(key[nearest] - wanted) < 1e-3, nearest, -1)


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
        If the store has no such split, or no start has all offsets.
    """
    offsets_h = sorted({0.0, *offsets_h})
    starts = np.arange(store.sizes["time"]) if split is None else in_split(store, split)
    if not len(starts):
        raise InputError(
            f"{name_of(store)}: has no {split} split (it has {_split_names(store)}); choose one of "
            f"these, or prepare the store with a {split} split"
        )
    positions = positions_at(store, starts, offsets_h)
    complete = ((positions >= 0) & np.isin(positions, starts)).all(axis=0)
    if not complete.any():
        where = f"the {split} split" if split else "the whole store"
        raise InputError(
            f"{name_of(store)}: no start has all of {offsets_h[0]:+g} to {offsets_h[-1]:+g} h in "
            f"{where} ({len(starts)} times, {_longest_series(store, starts)}); prepare longer "
            "series, or ask for fewer steps or other offsets"
        )
    return dict(zip(offsets_h, positions[:, complete][:, ::every], strict=True))


def _split_names(store):
    """The splits of a store, as text."""
    return ", ".join(name for name in SPLITS if len(in_split(store, name))) or "no split at all"


def _longest_series(store, positions):
    """Length of the longest series of times in one segment, and the step between times, as text."""
    times, segment = store.time.values[positions], store.segment.values[positions]
    series = [times[segment == number] for number in np.unique(segment)]
    longest = max(series, key=lambda series: series[-1] - series[0])
    if len(longest) < 2:
        return "none of which follow each other"
    hours, step = (longest[-1] - longest[0]) / HOUR, np.median(np.diff(longest)) / HOUR
    return f"the longest series spans {hours:g} h in steps of {step:g} h"
