"""Kinds of files: open NetCDF and Zarr lazily, and say of any other file what it is.

A file is recognised by its first bytes, never by its name: a download is often saved under the
wrong name.
"""

import re
import time
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import xarray as xr
from xarray.backends.file_manager import FILE_CACHE
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

from seaice_lab.errors import InputError

HEAD_BYTES = 1024
PAUSE_S = 0.2
RAW = {"chunks": {}, "decode_times": False, "decode_timedelta": False}
# Attributes that CF defines as text.
TEXTS = ("standard_name", "long_name", "units", "calendar", "axis", "positive", "flag_meanings")

# First bytes of files that are not NetCDF: what such a file is, and what to do with it.
OTHER_KINDS = (
    (rb"PK\x03\x04|PK\x05\x06", "a zip archive", "unpack it and use the NetCDF files in it"),
    (rb"\x1f\x8b", "compressed with gzip", "unpack it with gunzip"),
    (rb"BZh", "compressed with bzip2", "unpack it with bunzip2"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with unzstd"),
    (rb"\xfd7zXZ", "compressed with xz", "unpack it with unxz"),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it and use the NetCDF files in it"),
    (rb"\x0e\x03\x13\x01", "an HDF4 file", "convert it to NetCDF, for example with h4tonccf"),
    (rb"(?s).{0,200}?GRIB", "a GRIB file",
     "choose NetCDF when you download it, or convert it, for example with `cdo -f nc4 copy`"),
    (rb"(?is)\s*(<!doctype html|<html|<head|<\?xml|<!--)", "a web page, not data",
     "the download failed: log in at the source and download it again"),
    (rb"%PDF", "a PDF document", "use the NetCDF file of the data"),
)  # fmt: skip
HDF5 = b"\x89HDF"
NETCDF3 = re.compile(rb"CDF[\x01\x02]")


@contextmanager
def closing_files():
    """Context at whose end the NetCDF files that it opened are closed; lazy fields reopen them.

    The NetCDF library fails or crashes when the garbage collector closes forgotten files at any
    time, and each open file needs some megabytes.
    """
    open_before = set(FILE_CACHE)
    try:
        yield
    finally:
        # After an error, other threads may still read.
        with NETCDF4_PYTHON_LOCK:
            for key in set(FILE_CACHE) - open_before:
                FILE_CACHE.pop(key).close()


def open_raw(path, variables):
    """Open a NetCDF file or a Zarr folder lazily; values are unpacked, times are not decoded.

    Parameters
    ----------
    path : Path
        NetCDF file, or a folder in Zarr format.
    variables : sequence of str
        Names in the file. If the root of the file has none of them and exactly one group has some,
        that group is opened.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If it is neither NetCDF nor Zarr, damaged, or has the variables in several groups.
    """
    return _with_text(_opened(path, lambda path: _open_netcdf(path, variables)))


def open_groups(path):
    """Open all groups of a NetCDF or HDF5 file lazily, as :func:`open_raw` opens one.

    Parameters
    ----------
    path : Path
        NetCDF or HDF5 file, or a folder in Zarr format, of which the root is opened.

    Returns
    -------
    dict of str to xarray.Dataset
        By the path of the group, "/" for the root.
    """
    groups = _opened(path, lambda path: xr.open_groups(path, engine="netcdf4", **RAW))
    groups = groups if isinstance(groups, dict) else {"/": groups}
    return {name: _with_text(group) for name, group in groups.items()}


def _opened(path, open_file):
    """What a function opens of a file, after its kind is checked; a Zarr folder as a dataset."""
    path = Path(path)
    try:
        if path.is_dir():
            return xr.open_zarr(path, **RAW)
        check_kind(path)
        try:
            return open_file(path)
        except (OSError, RuntimeError):
            # An error of a busy file system is gone at the next try.
            time.sleep(PAUSE_S)
            return open_file(path)
    except InputError:
        raise
    except Exception as error:  # the libraries raise many kinds for damaged files
        if path.is_dir():
            raise InputError(
                f"{path}: is a folder that cannot be read as Zarr ({type(error).__name__}); give "
                "the files in it, such as folder/*.nc, or a complete Zarr folder"
            ) from None
        raise InputError(
            f"{path}: cannot be read as NetCDF ({type(error).__name__}: {error}); the file may be "
            "cut short, copy or download it again"
        ) from None


def _with_text(dataset):
    """The dataset with text in every attribute that CF defines as text; some files hold numbers."""
    for variable in dataset.variables.values():
        texts = {name: str(variable.attrs[name]) for name in TEXTS if name in variable.attrs}
        variable.attrs.update(texts)
    return dataset


def _open_netcdf(path, variables):
    dataset = xr.open_dataset(path, engine="netcdf4", **RAW)
    if dataset.variables.keys() & set(variables):
        return dataset
    groups = xr.open_groups(path, engine="netcdf4", **RAW)
    matching = [name for name, group in groups.items() if set(variables) & group.data_vars.keys()]
    if len(groups) == 1:
        return dataset
    if len(matching) == 1:
        return _with_parents(groups, matching[0])
    content = "; ".join(
        f"{name}: {', '.join(group.data_vars) or 'nothing'}"
        for name, group in groups.items()
        if name != "/"
    )
    count = "several groups hold" if matching else "no group holds"
    raise InputError(
        f"{path}: {count} {', '.join(variables)} ({content}); correct the names in the catalogue, "
        "or copy one group to a file of its own, for example with `ncks -G : -g GROUP`"
    )


def _with_parents(groups, name):
    """A group with the variables of the groups above it that have its dimensions."""
    dataset = groups[name]
    for parent in PurePosixPath(name).parents:
        for key, variable in groups[str(parent)].variables.items():
            if key not in dataset.variables and variable.sizes.items() <= dataset.sizes.items():
                dataset = dataset.assign_coords({key: variable})
    return dataset


def check_kind(path):
    """Refuse a file that is not NetCDF, or a classic NetCDF file that is cut short.

    Parameters
    ----------
    path : Path

    Raises
    ------
    InputError
        The message says what the file is and what to do.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if not head:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    if NETCDF3.match(head):
        from scipy.io import netcdf_file  # slow to import, and seldom needed

        try:
            # The NetCDF library returns any numbers beyond the end of a classic file. This reader
            # maps the whole file by its header and fails where bytes are missing.
            netcdf_file(path, mmap=True).close()
        except ValueError:
            raise InputError(
                f"{path}: is cut short ({path.stat().st_size} bytes are fewer than its header "
                "says); copy or download it again"
            ) from None
        return
    if head.startswith((b"CDF", HDF5)):
        return
    for pattern, kind, advice in OTHER_KINDS:
        if re.match(pattern, head):
            raise InputError(f"{path}: is {kind}, expected NetCDF; {advice}")
    # A file in HDF5 may begin with a block of the user's own.
    if HDF5 not in head and all(byte >= 32 or byte in b"\t\r\n\f" for byte in head):
        start = head.decode("utf-8", errors="replace").split("\n")[0][:60]
        raise InputError(
            f"{path}: is text ({start!r}), expected NetCDF; the download may have failed, or "
            "convert the table to NetCDF"
        )
