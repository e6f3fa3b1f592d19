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

from seaice_lab import catalog, files, names, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import PrepareConfig, assemble, stamp
from seaice_lab.surrogate.store import in_split, open_store

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
    identity = files.fingerprint(config.model_dump(mode="json"), *source_files(config))
    if path.exists() and open_store(path).attrs["fingerprint"] == identity:
        return path
    journal = files.Journal(path, identity)
    # every open file holds some megabytes; without a limit more years would need more memory
    with files.disk_errors(path), xr.set_options(file_cache_maxsize=OPEN_FILES):
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


def source_files(config):
    """Name, size and time of change of every input file: what the store is made from."""
    entries = [catalog.find(config.state)]
    if config.forcing:
        entries.append(catalog.find(config.forcing))
    paths = [path for entry in entries for path in catalog.files(entry)]
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


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
