"""Safe writing: a file has its final name only when it is complete."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from seaice_lab.errors import InputError
from seaice_lab.metadata import coverage

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FULL_BYTES = 1e6  # a disk with less free space counts as full


@contextmanager
def disk_errors(path):
    """Context in which a file that cannot be written raises an InputError.

    Parameters
    ----------
    path : str or Path
        File to name in the message.

    Raises
    ------
    InputError
        If the disk is full or a quota is reached, or an OSError has an error number: the path is
        missing, read-only, forbidden or of the wrong kind.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number = getattr(error, "errno", None)
        # On a full disk the NetCDF library reports missing permissions, or an error of HDF.
        if number in DISK_ERRORS or _is_full(path):
            raise InputError(
                f"{path}: the disk is full or a quota is reached ({os.strerror(errno.ENOSPC)}); "
                "free some space and run the same command again; no incomplete file has the final "
                "name"
            ) from None
        if number is None or error.strerror is None:
            raise
        raise InputError(os_error_text(error, path)) from None


def os_error_text(error, path=None):
    """A sentence about an OSError: which file, what is wrong, what to check.

    Parameters
    ----------
    error : OSError
    path : str or Path, optional
        File to name if the error names none.

    Returns
    -------
    str
    """
    reason = error.strerror or str(error)
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        reason = "a file is where a folder is needed"
    subject = error.filename or path or "a file or the working folder"
    return f"{subject}: cannot be read or written ({reason}); check the path and its permissions"


def _is_full(path):
    """Whether the disk of a path has no free space."""
    folder = next((folder for folder in Path(path).absolute().parents if folder.exists()), None)
    return folder is not None and shutil.disk_usage(folder).free < FULL_BYTES


def reserve(path):
    """Give a new file all its space on the disk before it is written through a memory map.

    A write through a memory map on a full disk kills the process; here it is an OSError.
    """
    with suppress(AttributeError), open(path, "r+b") as file:  # macOS has no such function
        try:
            os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on every file system
                raise


@contextmanager
def replacing(path):
    """Write a file under a temporary name; it gets its final name when the block succeeds.

    Parameters
    ----------
    path : str or Path
        Final file. An existing file is not changed until the new one is complete.

    Yields
    ------
    Path
        Temporary path in the same folder. It is removed if the block fails.
    """
    path = Path(path).expanduser()
    # The suffix stays at the end, because writers of pictures choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write a small text file atomically.

    Parameters
    ----------
    path : str or Path
    text : str
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, values):
    """Write a JSON file atomically.

    Parameters
    ----------
    path : str or Path
    values : dict or list
    """
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_netcdf(path, dataset):
    """Write a small dataset as CF NetCDF atomically: compressed, without int64.

    A dataset with global attributes of ACDD receives those of its region and period.

    Parameters
    ----------
    path : str or Path
    dataset : Dataset
    """
    if "ACDD" in dataset.attrs.get("Conventions", ""):
        dataset = dataset.assign_attrs(coverage(dataset))
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
    """Create a NetCDF file to fill slice by slice; it gets its final name when it is complete.

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


@contextmanager
def only_writer(folder):
    """Context in which no other process may write into a folder.

    Two processes that write the same files would mix their results. The lock ends with the process,
    also when it is killed. File systems that have no locks are not protected.

    Parameters
    ----------
    folder : str or Path
        An existing folder.

    Raises
    ------
    InputError
        If another process is in this context.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # raised by file systems without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{folder}: another process is writing here; wait until it ends, or stop it, "
                    "and run the command again"
                ) from None
        yield
    finally:
        os.close(descriptor)


@contextmanager
def journal(final, fingerprint, is_main=True):
    """Context of a long write in numbered blocks, with which a killed process can be continued.

    Parameters
    ----------
    final : str or Path
        Final file or folder.
    fingerprint : str
        Identifies configuration and input. A partial result with another fingerprint is deleted.
    is_main : bool
        Whether this process guards and cleans the folder. Others that write parts of the same
        result wait for it before they begin.

    Yields
    ------
    Journal

    Raises
    ------
    InputError
        If another process writes the same result, or the disk cannot be written.
    """
    record = Journal(Path(final))
    with disk_errors(record.final):
        if not is_main:
            yield record
            return
        record.folder.mkdir(parents=True, exist_ok=True)
        with only_writer(record.folder):
            stamp = record.folder / "fingerprint"
            if not stamp.exists() or stamp.read_text() != fingerprint:
                for name in ("result", "done", "older"):
                    shutil.rmtree(record.folder / name, ignore_errors=True)
            (record.folder / "done").mkdir(exist_ok=True)
            write_text(stamp, fingerprint)
            # A killed process leaves chunks that Zarr had not renamed yet.
            for unfinished in record.target.rglob("*.partial"):
                unfinished.unlink()
            yield record


class Journal:
    """Record of the blocks that are written, from :func:`journal`.

    The result is written to ``target``, in the folder ``<final>.partial/``. The writer asks
    :meth:`is_done` before each block, and calls :meth:`mark` after it, which leaves a marker file.
    A process that is started again finds the markers and writes only the missing blocks. When all
    blocks are written, :meth:`finish` moves the result to its final name.

    Parameters
    ----------
    final : Path
        Final file or folder.
    """

    def __init__(self, final):
        self.final = final
        self.folder = final.with_name(final.name + ".partial")
        self.target = self.folder / "result"

    def is_done(self, block):
        """Whether this or an earlier process has written the block."""
        return (self.folder / "done" / str(block)).exists()

    def mark(self, block):
        """Record that a block is written completely."""
        (self.folder / "done" / str(block)).touch()

    def finish(self):
        """Move the result to its final name, replace an older one, and remove the journal."""
        if self.final.exists():
            shutil.rmtree(self.folder / "older", ignore_errors=True)  # of a process killed here
            os.replace(self.final, self.folder / "older")
        os.replace(self.target, self.final)
        self.remove()

    def remove(self):
        """Remove the journal with all that is still in it."""
        shutil.rmtree(self.folder)


def fingerprint(*values):
    """Short hexadecimal digest of JSON-like values (configurations, file sizes and times)."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
