"""Safe writing: nothing half-written ever stands under a final name."""

import errno
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from seaice_lab.errors import InputError

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def disk_errors(path):
    """Turn "no space left" under the block into one sentence that says how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise InputError(
            f"{path}: the disk is full or a quota is reached ({error.strerror}); free some space "
            "and run the same command again, nothing is left under the final name"
        ) from None


@contextmanager
def replacing(path):
    """Yield a temporary path beside ``path`` that takes its name when the block succeeds.

    Parameters
    ----------
    path : str or Path
        Final file. An existing one stays as it was until the new one is complete.

    Raises
    ------
    InputError
        If the disk is full; the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the ending stays last: writers of pictures go by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with disk_errors(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a small text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, values):
    """Write a JSON file atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_netcdf(path, dataset):
    """Write a small dataset as CF NetCDF atomically: compressed, no int64, no stray fill values."""
    encoding = {}
    for name, array in dataset.variables.items():
        if array.dtype.kind == "f":
            encoding[name] = {"zlib": True, "_FillValue": None if name in dataset.coords else -9e33}
        elif array.dtype.kind in "iu" and array.dtype.itemsize == 8:
            encoding[name] = {"dtype": "int32"}
        elif array.dtype.kind in "mM":
            encoding[name] = {"dtype": "float64", "_FillValue": None}
    with replacing(path) as temporary:
        dataset.to_netcdf(temporary, format="NETCDF4", engine="netcdf4", encoding=encoding)


@contextmanager
def create_netcdf(path, sizes, variables, attributes=None, **storage):
    """Create a NetCDF file that is filled slice by slice, and appears when it is complete.

    Parameters
    ----------
    path : str or Path
    sizes : dict of str to int
        Dimensions.
    variables : dict of str to (dtype, dimensions, attributes)
    attributes : dict, optional
        Attributes of the file.
    **storage
        Options of ``netCDF4.Dataset.createVariable`` for all variables, such as ``zlib=True``.

    Yields
    ------
    netCDF4.Dataset
        Write with ``file[name][rows] = values``.
    """
    import netCDF4

    with replacing(path) as temporary, netCDF4.Dataset(temporary, "w") as file:
        file.setncatts(attributes or {})
        for dimension, size in sizes.items():
            file.createDimension(dimension, size)
        for name, (dtype, dimensions, attrs) in variables.items():
            attrs = dict(attrs)
            fill_value = attrs.pop("_FillValue", None)
            variable = file.createVariable(
                name, dtype, dimensions, fill_value=fill_value, **storage
            )
            variable.setncatts(attrs)
        yield file


class Journal:
    """A long write in numbered blocks that a killed process can take up again.

    Blocks are written under ``<final>.partial/``; each finished block leaves a marker. When all
    are there, :meth:`finish` gives the result its final name.

    Parameters
    ----------
    final : str or Path
        Where the result stands when it is complete.
    fingerprint : str
        Identifies configuration and input; a partial result of another one is discarded.
    """

    def __init__(self, final, fingerprint):
        self.final = Path(final)
        self.folder = self.final.with_name(self.final.name + ".partial")
        self.target = self.folder / "result"
        stamp = self.folder / "fingerprint"
        if not stamp.exists() or stamp.read_text() != fingerprint:
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "done").mkdir(parents=True, exist_ok=True)
        write_text(stamp, fingerprint)

    def is_done(self, block):
        """Whether the block was finished by this or an earlier process."""
        return (self.folder / "done" / str(block)).exists()

    def mark(self, block):
        """Record that a block is completely written."""
        (self.folder / "done" / str(block)).touch()

    def finish(self):
        """Give the result its final name, replacing an older one, and remove the journal."""
        if self.final.exists():
            older = self.folder / "older"
            os.replace(self.final, older)
        os.replace(self.target, self.final)
        shutil.rmtree(self.folder)


def fingerprint(*parts):
    """A short hexadecimal digest of JSON-like values (configurations, file sizes and times)."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
