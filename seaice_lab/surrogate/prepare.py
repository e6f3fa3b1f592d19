"""Preparation: write model output and forcing as one Zarr store of physical fields.

Every field is stored once, on one grid and in one unit, one time step a chunk, with the ocean mask,
the segments, the splits and the statistics of the training ocean. The fields are written block by
block in bounded memory, in this process or on a dask cluster. A killed preparation continues where
it stopped.
"""

import json
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from dask.system import CPU_COUNT

from seaice_lab import catalog, cluster, datasets, files, formats, metadata, progress
from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import assemble
from seaice_lab.surrogate.records import check_field, check_zero_records
from seaice_lab.surrogate.store import COMPRESSORS, in_split, moments, open_store, write_checksums
from seaice_lab.times import time_text

OPEN_FILES = 16
# Settings that were added later. At their defaults they leave the fingerprint of a store as it was.
LATER_SETTINGS = {"forcing_beyond_state"}
BLOCK_BYTES = 32e6  # of one field in one block; about twenty times this is in memory at once
PAUSES_S = (0.1, 0.5)  # before a read that failed is tried again
READING = threading.Lock()  # held while a thread of this process reads blocks


class ReadError(InputError):
    """A block that cannot be read; the message does not name the file."""


def prepare(config, path, scheduler=None, show=True, block_bytes=BLOCK_BYTES):
    """Write the prepared store.

    Parameters
    ----------
    config : PrepareConfig
    path : str or Path
        The store to write, ``*.zarr``. A store that was made from the same configuration and files
        is kept; another one is replaced when the new one is complete.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers write the blocks; they must reach the
        same files. Without it this process writes them.
    show : bool
        Show progress.
    block_bytes : float
        Size of one field in a block.

    Returns
    -------
    Path
        The store: ``<variable>(time, y, x)`` in physical units (ice is NaN on land),
        ``ocean(y, x)``, ``segment(time)``, ``split(time)``. The statistics are in the attributes;
        without a training split there are none.

    Raises
    ------
    InputError
        If a variable, unit, time step, split or value is not as expected, or the disk is full.
    """
    path = Path(path).expanduser()
    with _damaged_files(config, RuntimeError, OSError), formats.closing_files():
        source = assemble(config)
    unchanged = LATER_SETTINGS - config.model_dump(exclude_defaults=True).keys()
    settings = config.model_dump(mode="json", exclude=unchanged)
    identity = files.fingerprint(settings, *map(signature, source_files(config)), *_rules(config))
    if path.exists() and _is_current(open_store(path), source, identity):
        return path
    with files.journal(path, identity) as journal:
        if not journal.is_done("template"):
            shutil.rmtree(journal.target, ignore_errors=True)
            write_template(source, config, journal.target, identity)
            journal.mark("template")
        frame_bytes = 4 * source.sizes["y"] * source.sizes["x"]
        length = int(np.clip(block_bytes // frame_bytes, 1, 128))
        blocks = [slice(at, at + length) for at in range(0, source.sizes["time"], length)]
        missing = [block for block in blocks if not journal.is_done(block.start)]
        done = len(blocks) - len(missing)
        with progress.bar(len(blocks), f"prepare {path.name}", "block", done, show) as bar:
            with _damaged_files(config, ReadError):
                arguments = source, config, journal.target
                written = cluster.apply_to_blocks(write_block, missing, arguments, scheduler)
                for block, _ in written:
                    journal.mark(block.start)
                    bar.update()
        write_statistics(journal.target, length)
        write_checksums(journal.target, list(source.data_vars))
        journal.finish()
    return path


def source_files(config):
    """All files from which a store is made.

    Parameters
    ----------
    config : PrepareConfig

    Returns
    -------
    list of Path
    """
    return [path for entry in _entries(config) for path in catalog.input_files(entry)]


def _entries(config):
    """Entries of the catalogue from which a store is made."""
    return [catalog.find(name) for name in (config.state, config.forcing) if name]


def signature(path):
    """What identifies the content of a file: its name, its size and the time of its change.

    Parameters
    ----------
    path : Path
        A file, or a Zarr folder, whose metadata count by their content and whose chunks count
        like files.

    Returns
    -------
    tuple
    """
    if not path.is_dir():
        return path.name, path.stat().st_size, path.stat().st_mtime_ns
    content = []
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        is_metadata = file.suffix == ".json" or file.name.startswith(".z")
        stat = file.stat()
        facts = file.read_text() if is_metadata else [stat.st_size, stat.st_mtime_ns]
        content.append((str(file.relative_to(path)), facts))
    return path.name, files.fingerprint(content)


def _rules(config):
    """What the entries say about reading their files, apart from what is usual for the format."""
    for entry in _entries(config):
        rules = entry.model_dump(
            mode="json", include={"select", "mask", "missing_is_no_ice"}, exclude_defaults=True
        )
        renamed = {short: name for short, name in entry.variables.items() if short != name}
        usual = "geographic" if entry.format == "era5" else "grid"
        rules |= {"variables": renamed} if renamed else {}
        rules |= {"vectors": entry.vectors} if entry.vectors not in (None, usual) else {}
        if rules:
            yield entry.name, rules


def _is_current(store, source, identity):
    """Whether a store was made from the same files and rules, with the same mask and splits."""
    same = (store[name].variable.equals(source[name].variable) for name in ("ocean", "split"))
    return store.attrs.get("fingerprint") == identity and all(same)


def write_template(source, config, target, identity):
    """Write the metadata and coordinates of the store, without the fields.

    Parameters
    ----------
    source : xarray.Dataset
        From :func:`~seaice_lab.surrogate.assemble.assemble`.
    config : PrepareConfig
    target : str or Path
        The store to write.
    identity : str
        Fingerprint of the configuration and the input files.
    """
    coordinates = ("time", "latitude", "longitude", "y", "x")
    encoding = {name: {"_FillValue": None} for name in coordinates if name in source.coords}
    encoding["time"] |= {"units": "hours since 1970-01-01", "dtype": "float64"}
    for name in source.data_vars:
        chunks = (1, source.sizes["y"], source.sizes["x"])
        encoding[name] = {"chunks": chunks, "compressors": COMPRESSORS}
    entry, title = catalog.find(config.state), f"Prepared store of {config.state}"
    template = source.drop_encoding().assign_attrs(
        {
            **metadata.file_attributes(title, entry.source, "prepare", entry.licence),
            **metadata.coverage(source),
            "configuration": config.to_yaml(),
            "fingerprint": identity,
            "files": json.dumps([path.name for path in source_files(config)]),
        }
    )
    template.to_zarr(
        target, compute=False, zarr_format=3, consolidated=False, encoding=encoding, mode="w"
    )


def write_block(block, source, config, target):
    """Read, check and write the fields of one block; runs in any process.

    Parameters
    ----------
    block : slice
        Positions on the time axis.
    source : xarray.Dataset
        From :func:`~seaice_lab.surrogate.assemble.assemble`.
    config : PrepareConfig
    target : str or Path
        The store with its template.

    Raises
    ------
    InputError
        If an ocean cell holds NaN, or values that no field in the right unit takes, or a record of
        zeros is between others.
    """
    fields = read_block(block, source)
    for name in fields.data_vars:
        field = fields[name]
        if name in config.variables and "has_state" in fields.coords:
            field = field[fields.has_state.values]
        check_field(field, fields.ocean.values, config)
    check_zero_records(fields, source, block.start, config)
    # The template holds the coordinates already; a write to a region must not contain them.
    fields = fields.drop_vars(fields.coords)
    region = {"time": slice(block.start, block.start + fields.sizes["time"])}
    fields.to_zarr(target, region=region, consolidated=False)


def read_block(block, source):
    """Read the fields of one block; one thread of a process at a time, with a second try.

    NetCDF and HDF5 are not safe in threads. The lock of xarray does not protect a dask worker with
    several threads: it is another lock for each client, and files are closed without it when a
    dataset is discarded. So the threads of a worker read in turn, and each closes its files.

    Parameters
    ----------
    block : slice
        Positions on the time axis.
    source : xarray.Dataset
        From :func:`~seaice_lab.surrogate.assemble.assemble`.

    Returns
    -------
    xarray.Dataset
        In memory.

    Raises
    ------
    ReadError
        If reading fails several times. An error of a busy file system may be gone at the next try.
    """
    fields = source.isel(time=block)
    for pause in (*PAUSES_S, None):
        # Every open file needs some megabytes; without a limit, more years would need more memory.
        with (
            READING,
            xr.set_options(file_cache_maxsize=OPEN_FILES),
            formats.closing_files(),
            # After an error other threads still read: their end comes before that of the files.
            ThreadPoolExecutor(CPU_COUNT) as pool,
        ):
            try:
                # In a dask worker the default would send the reading to the cluster again.
                return fields.load(scheduler="threads", pool=pool)
            except (MemoryError, InputError):
                raise
            except Exception as error:  # the NetCDF library raises many kinds
                reason = f"{type(error).__name__}: {error}"
        if pause is not None:
            time.sleep(pause)
    first, last = (time_text(source.time.values[block][at]) for at in (0, -1))
    raise ReadError(
        f"the records from {first} to {last} cannot be read ({reason}), although each file can; "
        "run the same command again, or look at the file system"
    )


@contextmanager
def _damaged_files(config, *kinds):
    """Context in which errors of these kinds name the first input file that cannot be read."""
    try:
        yield
    except kinds:
        for entry in _entries(config):
            for path in catalog.files(entry):
                _check_readable(path, entry)
        raise


def _check_readable(path, entry):
    """Read a file once, and refuse it if that fails."""
    try:
        dataset = datasets.open_file(path, entry)
        dataset.coords.to_dataset().load()
        for first in range(0, dataset.sizes["time"], 64):
            dataset.isel(time=slice(first, first + 64)).load(scheduler="threads")
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read as a whole ({type(error).__name__}: {error}); the file may be "
            "cut short or damaged, copy or download it again"
        ) from None


def write_statistics(target, length):
    """Add mean, standard deviation and extremes over the training ocean to the attributes.

    Without a training split there are none.

    Parameters
    ----------
    target : str or Path
        The store with all its fields.
    length : int
        Time steps that are read at once.
    """
    store = xr.open_zarr(target, consolidated=False, chunks=None)
    train, ocean = in_split(store, "train"), store.ocean.values
    result = {}
    # Zarr lists the variables in the order of the disk.
    for name in sorted(store.data_vars) if len(train) else ():
        steps = (train[first : first + length] for first in range(0, len(train), length))
        result[name] = moments(store[name].isel(time=block).values[:, ocean] for block in steps)
    zarr.open_group(target, mode="r+").attrs["statistics"] = json.dumps(result)
