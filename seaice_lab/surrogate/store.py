"""Preparation: raw model output and forcing become one Zarr store of physical fields.

Every field is stored once, on one grid, in one unit, one time step a chunk, with the ocean mask,
the segments, the split and the statistics of the training ocean. The work goes block by block in
bounded memory, here or on a dask cluster, and a killed preparation is taken up again.
"""

import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from seaice_lab import catalog, names, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import SPLITS, PrepareConfig, assemble, stamp

OPEN_FILES = 16
BLOCK_BYTES = 32e6  # of one field in one block; about twenty times this is in memory at once


def prepare(config, path, scheduler=None, show=True):
    """Write the prepared store.

    Parameters
    ----------
    config : PrepareConfig
    path : str or Path
        The store to make, ``*.zarr``. One that was made from the same configuration and files is
        kept as it is; another one is replaced when the new one is complete.
    scheduler : str, optional
        Address of a dask.distributed scheduler; its workers, which must see the same files, then
        make the blocks. Without it this process does.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The store: ``<variable>(time, y, x)`` in physical units (ice is NaN on land),
        ``ocean(y, x)``, ``segment(time)``, ``split(time)``, statistics in the attributes.

    Raises
    ------
    InputError
        If a variable, unit, time step, split or value is not as expected, or the disk is full.
    """
    path = Path(path)
    source = assemble(config)
    identity = runs.fingerprint(config.model_dump(mode="json"), *source_files(config))
    if path.exists() and open_store(path).attrs["fingerprint"] == identity:
        return path
    journal = runs.Journal(path, identity)
    # every open file holds some megabytes; without a limit more years would need more memory
    with runs.disk_errors(path), xr.set_options(file_cache_maxsize=OPEN_FILES):
        if not journal.is_done("template"):
            shutil.rmtree(journal.target, ignore_errors=True)
            write_template(source, config, journal.target, identity)
            journal.mark("template")
        frame_bytes = 4 * source.sizes["y"] * source.sizes["x"]
        length = int(np.clip(BLOCK_BYTES // frame_bytes, 1, 128))
        starts = range(0, source.sizes["time"], length)
        todo = [start for start in starts if not journal.is_done(start)]
        done = len(starts) - len(todo)
        with progress.bar(len(starts), f"prepare {path.name}", "block", done, show) as bar:
            for start in _make_blocks(todo, length, config, identity, journal.target, scheduler):
                journal.mark(start)
                bar.update()
        write_statistics(journal.target, length)
        journal.finish()
    return path


def open_store(path, dask=True):
    """Open a prepared store lazily, by default with dask, one time step a chunk.

    Parameters
    ----------
    path : str or Path
    dask : bool
        Without, single frames are read fastest.

    Raises
    ------
    InputError
        If it is missing, half-written, damaged or no prepared store.
    """
    path = Path(path)
    if path.with_name(path.name + ".partial").exists() and not path.exists():
        raise InputError(
            f"{path}: is only half prepared; run `seaice-lab prepare` again, it goes on where it "
            "stopped"
        )
    if not path.exists():
        raise InputError(f"{path}: no such store; make it with `seaice-lab prepare`")
    try:
        store = xr.open_zarr(path, consolidated=False, chunks={} if dask else None)
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise InputError(
            f"{path}: cannot be read as a prepared store ({type(error).__name__}: {error}); "
            "remove it and run `seaice-lab prepare` again"
        ) from None
    if "statistics" not in store.attrs or "ocean" not in store.coords:
        raise InputError(
            f"{path}: is a Zarr store without the mask or the statistics of a prepared one; make "
            "it with `seaice-lab prepare`"
        )
    return store


def statistics(store):
    """Statistics by name: ``{variable: {"mean", "std", "minimum", "maximum"}}``, physical units."""
    return json.loads(store.attrs["statistics"])


def in_split(store, split):
    """Positions on the time axis that belong to a split, ndarray of int."""
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; the known ones are {', '.join(SPLITS)}")
    return np.flatnonzero(store.split.values == SPLITS.index(split))


def locate(store, offsets_h, split=None, every=1):
    """Positions on the time axis of every start whose offsets all exist.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    offsets_h : iterable of float
        Offsets from the start, hours. A start counts only when every one of them is a time of
        the same segment (and split).
    split : str, optional
        Take starts whose offsets all lie in this split; all starts without it.
    every : int
        Keep every n-th start.

    Returns
    -------
    dict
        ``{offset: ndarray of int (start,)}``, with the starts themselves under 0.0.

    Raises
    ------
    InputError
        If no start is complete.
    """
    offsets_h = sorted({0.0, *offsets_h})
    hours = store.time.values.astype("datetime64[s]").astype("int64") / 3600
    # One sorted number for (segment, hour): segments follow each other on the time axis.
    key = store.segment.values.astype("float64") * 1e8 + hours
    allowed = np.arange(len(key)) if split is None else in_split(store, split)
    is_allowed = np.zeros(len(key), bool)
    is_allowed[allowed] = True
    positions, complete = {}, np.ones(len(allowed), bool)
    for offset in offsets_h:
        wanted = key[allowed] + offset
        nearest = np.searchsorted(key, wanted - 1e-3).clip(max=len(key) - 1)
        complete &= (np.abs(key[nearest] - wanted) < 1e-3) & is_allowed[nearest]
        positions[offset] = nearest
    if not complete.any():
        raise InputError(
            f"no start has all of {offsets_h[0]:+g} to {offsets_h[-1]:+g} h in the "
            f"{split or 'whole'} part of the store ({len(allowed)} times); prepare longer "
            "uninterrupted pieces, ask for fewer steps, or choose offsets that are times of the "
            "store"
        )
    return {offset: nearest[complete][::every] for offset, nearest in positions.items()}


def source_files(config):
    """Name, size and time of change of every input file: what the store is made from."""
    entries = [catalog.find(config.state)]
    if config.forcing:
        entries.append(catalog.find(config.forcing))
    files = [path for entry in entries for path in catalog.files(entry)]
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def write_template(source, config, target, identity):
    """Write the metadata and coordinates of the store, without the fields."""
    encoding = {"time": {"units": "hours since 1970-01-01", "dtype": "float64"}}
    for name in ("time", "latitude", "longitude", "y", "x"):
        if name in source.coords:
            encoding.setdefault(name, {})["_FillValue"] = None
    for name in source.data_vars:
        encoding[name] = {"chunks": (1, source.sizes["y"], source.sizes["x"])}
    entry = catalog.find(config.state)
    source.attrs = {
        "Conventions": names.CONVENTIONS,
        "title": f"Prepared store of {config.state}",
        "source": entry.source,
        "license": entry.licence,
        "history": f"{runs.now()} seaice-lab prepare",
        "configuration": config.to_yaml(),
        "fingerprint": identity,
        "files": json.dumps([name for name, *_ in source_files(config)]),
    }
    for variable in source.variables.values():
        variable.encoding = {}
    source.to_zarr(
        target, compute=False, zarr_format=3, consolidated=False, encoding=encoding, mode="w"
    )


def _make_blocks(todo, length, config, identity, target, scheduler):
    """Make the blocks, yielding the start of each one that is written."""
    job = config.to_yaml()
    if scheduler is None:
        for start in todo:
            yield make_block(start, length, job, identity, target)
        _assembled.cache_clear()  # closes the input files
        return
    from distributed import Client, as_completed

    with Client(scheduler) as client:
        futures = [
            client.submit(make_block, start, length, job, identity, target) for start in todo
        ]
        for future in as_completed(futures):
            yield future.result()


@lru_cache(maxsize=1)
def _assembled(job, identity):
    return assemble(PrepareConfig.from_yaml(job))


def make_block(start, length, job, identity, target):
    """Read, check and write the time steps from ``start`` on; runs in any process.

    ``job`` is the configuration as YAML, ``identity`` the fingerprint of it and of the files.

    Raises
    ------
    InputError
        If an ocean cell holds NaN, or values that no field in the right unit takes.
    """
    source = _assembled(job, identity)
    config = PrepareConfig.from_yaml(job)
    block = source.isel(time=slice(start, start + length)).load()
    for name in block.data_vars:
        check_field(block[name], block.ocean.values, config)
    # Coordinates stand in the template already; a region write must not carry them.
    block = block.drop_vars(block.coords)
    block.to_zarr(target, region={"time": slice(start, start + block.sizes["time"])},
                  consolidated=False)  # fmt: skip
    return start


def check_field(field, ocean, config):
    """Refuse NaN in the ocean and implausible values."""
    entry = config.state if field.name in config.variables else config.forcing or config.state
    sea = field.values[:, ocean]
    bad = np.isnan(sea).sum(axis=1)
    if bad.any():
        at = int(np.argmax(bad > 0))
        raise InputError(
            f"{entry}: {field.name} at {stamp(field.time.values[at])} has {bad[at]} NaN in ocean "
            f"cells of the mask, expected none; fill them at the source or correct the mask"
        )
    if sea.size:
        names.check_range(field.name, sea.min(), sea.max(), entry)


def write_statistics(target, length):
    """Add mean, standard deviation and extremes over the training ocean to the attributes."""
    store = xr.open_zarr(target, consolidated=False, chunks=None)
    train, ocean = in_split(store, "train"), store.ocean.values
    result = {}
    for name in store.data_vars:
        count, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
        for first in range(0, len(train), length):
            block = store[name].isel(time=train[first : first + length]).values
            sea = block[:, ocean].astype("float64")
            if count == 0:
                shift = sea.mean()  # keeps the sum of squares free of cancellation
            count += sea.size
            total += (sea - shift).sum()
            squares += ((sea - shift) ** 2).sum()
            low, high = min(low, sea.min()), max(high, sea.max())
        mean = total / count
        result[name] = {
            "mean": float(shift + mean),
            "std": float(np.sqrt(max(squares / count - mean**2, 0))),
            "minimum": float(low),
            "maximum": float(high),
        }

    zarr.open_group(target, mode="r+").attrs["statistics"] = json.dumps(result)
