"""Fetching: get the files of a dataset of the catalogue, one file for each month.

The daily files of a month are joined into one file; archives are unpacked. The files are
then read as the catalogue describes them, and refused if this fails.
"""

import json
import math
import os
import re
import shutil
import tarfile
import zipfile
from contextlib import ExitStack, contextmanager, suppress
from datetime import date
from pathlib import Path

import numpy as np

from seaice_lab import catalog, credentials, files, progress, servers
from seaice_lab.errors import InputError

# Attributes that say how values are stored; the files of one month must agree in them.
PACKING = ("units", "calendar", "scale_factor", "add_offset", "_FillValue", "flag_values")
LINKS = ("coordinates", "grid_mapping", "bounds")  # attributes that name further variables
TIME = {"standard_name": "time", "units": "hours since 1970-01-01 00:00:00", "axis": "T"}
READ_BYTES = 2**24  # at once, of a file that is read to find damage
MONTH_OF_NAME = re.compile(r"_(\d{6})\.nc$")


def fetch(name, years="", months="", folder=None, dry_run=False, patience=None):
    """Fetch the files of a dataset, and read them back as the catalogue describes them.

    Parameters
    ----------
    name : str
        Entry of the catalogue that has the key ``fetch``.
    years, months : str
        Such as "2009-2018" and "1-4,10-12"; by default all months. An archive needs neither.
    folder : str or Path, optional
        Data folder to write into; by default the first one of the catalogue.
    dry_run : bool
        Only ask the server for the files and their sizes.
    patience : seaice_lab.servers.Patience, optional

    Returns
    -------
    list of str
        Lines that say what was written, or would be.

    Raises
    ------
    InputError
        If the entry cannot be fetched, credentials or the client are missing, the server refuses or
        does not answer, a file is damaged, or the catalogue cannot read the result.
    """
    entry = catalog.find(name)
    if entry.fetch is None:
        raise InputError(f"{name}: has no key 'fetch' in the catalogue; get it from {entry.source}")
    patience = patience or servers.Patience()
    periods = _periods(entry, years, months)
    credentials.refuse_missing_client(entry)
    folders = [each.absolute() for each in catalog.data_folders()]
    folder = Path(folder or folders[0]).expanduser().absolute()
    remotes, paths = [], []
    for month in progress.bar_over(periods, f"fetch {name}", "month"):
        remotes += (there := _listed(entry, month, patience))
        if month and not there:
            progress.note(f"{name}: the server has no file of {month:%Y-%m}")
        if there and not dry_run:
            with files.disk_errors(folder):
                paths += _write(folder, entry.fetch, month, there, patience)
    if not remotes:
        raise InputError(f"{name}: the server has no file of {years}, months {months or '1-12'}")
    if dry_run:
        lines = [f"{remote.name}: {_size_text([remote])}" for remote in remotes]
        return [*lines, f"{len(remotes)} files, {_size_text(remotes)}; nothing was fetched"]
    _read_back(entry, paths)
    size = sum(path.stat().st_size for path in paths)
    advice = "" if folder in folders else f"; set SEAICE_DATA={folder} to use them"
    return [f"fetched {len(paths)} files, {size:,} bytes, into {folder} and read them{advice}"]


def _listed(entry, month, patience):
    """The files of a server for a month."""
    return servers.attempts(lambda: servers.WAYS[entry.fetch.way](entry, month, patience), patience)


def _size_text(remotes):
    """Total size of some files; it is unknown if that of one file is."""
    sizes = [remote.size for remote in remotes]
    return "size unknown" if None in sizes else f"{sum(sizes):,} bytes"


def _periods(entry, years, months):
    """First days of the months that are asked for and that the dataset has; None is an archive."""
    if entry.fetch.way == "zenodo":
        if years or months:
            raise InputError(f"{entry.name}: is one archive; leave out --years and --months")
        return [None]
    first, last = entry.period or ("1940-01-01", None)
    first, last = date.fromisoformat(first), date.fromisoformat(last or "2999-12-31")
    last = min(last, date.today())
    if not years:
        raise InputError(
            f"{entry.name}: name the years to fetch, such as --years 2009-2018; it has {first} to "
            f"{last}"
        )
    _refuse_common_file(entry)
    days = [
        date(year, month, 1)
        for year in _numbers(years, "--years", 1900, 2100)
        for month in _numbers(months or "1-12", "--months", 1, 12)
    ]
    days = [day for day in days if first.replace(day=1) <= day <= last]
    if not days:
        raise InputError(
            f"{entry.name}: has {first} to {last}, but --years is {years} and --months is "
            f"{months or '1-12'}; name months of this period"
        )
    return days


def _refuse_common_file(entry):
    """Refuse a file of the catalogue to which several months would be written."""
    some = (date(2001, 1, 1), date(2001, 2, 1), date(2002, 1, 1))
    if len({day.strftime(entry.fetch.file) for day in some}) < len(some):
        raise InputError(
            f"{entry.name}: 'file' of 'fetch' in the catalogue is {entry.fetch.file}, expected a "
            "name with year and month, such as name_%Y%m.nc"
        )


def _numbers(text, option, low, high):
    """Numbers such as "1-4,10" as a sorted list."""
    numbers = set()
    for item in text.split(","):
        span = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", item)
        start, end = (int(span[1]), int(span[2] or span[1])) if span else (0, 0)
        if not low <= start <= end <= high:
            raise InputError(
                f"{option}: found {text!r}, expected numbers from {low} to {high}, such as "
                f"{low}-{low + 1} or {low},{low + 3}"
            )
        numbers |= set(range(start, end + 1))
    return sorted(numbers)


def _write(folder, rule, month, remotes, patience):
    """Fetch the files of a month or an archive; return the paths that they are written to."""
    if month is None:
        return _write_archive(folder / rule.file, remotes, patience)
    target = folder / month.strftime(rule.file)
    if len(remotes) > 1 and not rule.variables:
        raise InputError(
            f"{target}: the server has {len(remotes)} files of this month; name 'variables' of "
            "'fetch' in the catalogue, and they are joined"
        )
    stamp = files.fingerprint([remote._replace(get=None) for remote in remotes])
    if not _is_written(target, stamp, len(remotes)):
        _write_month(target, stamp, remotes, rule, patience)
    return [target]


def _is_written(target, stamp, count):
    """Whether a file is there that was made of the same files of the server, or of more."""
    import netCDF4

    if not target.exists():
        return False
    present, number = None, 0
    with suppress(OSError), netCDF4.Dataset(target) as file:  # it may be of another kind
        present = getattr(file, "fetched_from", None)
        number = int(getattr(file, "fetched_files", 0))
    if present is None:
        raise InputError(
            f"{target}: exists, but `seaice-lab data fetch` did not write it; move it away, or "
            "choose another folder with --to"
        )
    if number > count:
        progress.note(
            f"{target}: holds {number} files of the server, which has {count} now; it is kept, "
            "move it away to fetch the month again"
        )
    return present == stamp or number > count


def _write_month(target, stamp, remotes, rule, patience):
    """Fetch the files of a month, and write them as one file."""
    import netCDF4

    parts = target.with_name(f".{target.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    with files.only_writer(parts):
        for remote in remotes:
            part = _part(parts, remote)
            servers.download(remote, part, patience)
            with _refusing_damage(part, remote), netCDF4.Dataset(part) as file:
                if not rule.variables:  # else the file is read when it is joined
                    _read_to_the_end(file)
        with files.replacing(target) as temporary:
            if rule.variables:
                _join(parts, remotes, rule, temporary)
            else:
                os.replace(_part(parts, remotes[0]), temporary)
            with netCDF4.Dataset(temporary, "a") as file:
                file.fetched_from, file.fetched_files = stamp, str(len(remotes))
        shutil.rmtree(parts)


def _read_to_the_end(file):
    """Read all values of a NetCDF file, about 16 MB or a row of chunks at a time."""
    file.set_auto_maskandscale(False)
    for variable in file.variables.values():
        chunks = variable.chunking()
        chunk = 1 if chunks in ("contiguous", None) or not variable.ndim else chunks[0]
        row_bytes = max(math.prod(variable.shape[1:]) * getattr(variable.dtype, "itemsize", 8), 1)
        rows = max(READ_BYTES // row_bytes // chunk, 1) * chunk  # whole chunks
        for first in range(0, variable.shape[0], rows) if variable.ndim else ():
            variable[first : first + rows]


@contextmanager
def _refusing_damage(path, remote):
    """Remove and refuse a file that cannot be read in this context; then it is fetched again."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (getattr(error, "errno", None) or 0) > 0:  # of the operating system, not NetCDF
            raise
        path.unlink()
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{remote.name}: cannot be read ({reason}) and was removed; the same command fetches "
            "it again, and if that fails too, fetch other months"
        ) from None


def _part(parts, remote):
    """Path of a file of a month until it is joined; another version of it has another path."""
    version = files.fingerprint(remote.size, remote.checksum, remote.version)
    return parts / f"{version}_{remote.name}"


def _join(parts, remotes, rule, target):
    """Join the files of a month along time; packed values and flags stay as they are."""
    import xarray as xr

    with ExitStack() as stack:
        datasets = []
        for remote in remotes:
            path, options = _part(parts, remote), {"engine": "netcdf4", "decode_cf": False}
            raw = stack.enter_context(xr.open_dataset(path, **options))
            with _refusing_damage(path, remote):
                datasets.append(_selected(raw, remote, rule).load())
            _refuse_other_grid(datasets[-1], datasets[0], remote)
            _refuse_other_packing(datasets[-1], datasets[0], remote)
        options = {"data_vars": "minimal", "coords": "minimal", "compat": "override"}
        # Attributes such as the period of the first file do not hold for the month.
        options |= {"join": "override", "combine_attrs": "drop_conflicts"}
        joined = xr.concat(datasets, "time", **options)
        if joined.get_index("time").has_duplicates:
            raise InputError(f"{target.parent}: two files of the server have the same time")
        packed = [name for name, field in joined.variables.items() if field.ndim > 1]
        encoding = {name: {"zlib": True, "complevel": 4} for name in packed}
        joined.sortby("time").to_netcdf(target, engine="netcdf4", encoding=encoding)


def _selected(dataset, remote, rule):
    """The variables of one file that are kept, with their names in the joined file."""
    names = {}
    for name, alternatives in rule.variables.items():
        present = [each for each in alternatives if each in dataset.variables]
        if not present:
            raise InputError(
                f"{remote.name}: has none of {', '.join(alternatives)}, but "
                f"{', '.join(map(str, dataset.data_vars))}; correct 'fetch' in the catalogue"
            )
        names[present[0]] = name
    needed = [*names, *dataset[list(names)].dims, "time"]
    for name in tuple(needed):
        attrs = dataset[name].attrs if name in dataset.variables else {}
        needed += [part for key in LINKS for part in str(attrs.get(key, "")).split()]
    kept = dataset[[name for name in dict.fromkeys(needed) if name in dataset.variables]]
    kept = kept.rename({old: new for old, new in names.items() if old != new})
    for name, attrs in rule.attributes.items():
        kept[name].attrs = attrs | kept[name].attrs
    if "time" not in kept.variables:
        if remote.day is None:
            raise InputError(f"{remote.name}: has no variable 'time'; choose a product with times")
        # A file without time is the mean over the day of its name, whose middle is noon.
        hours = (remote.day - date(1970, 1, 1)).days * 24 + 12
        kept = kept.assign_coords(time=((), hours, TIME))
    if "time" not in kept.dims:
        fields = kept[list(rule.variables)].set_coords("time").expand_dims("time")
        kept = kept.drop_vars([*rule.variables, "time"]).merge(fields)
    return kept


def _refuse_other_grid(dataset, first, remote):
    """Refuse a file without a variable of the first file of its month, or with other cells."""
    missing = sorted(map(str, first.variables.keys() - dataset.variables.keys()))
    fault = f"lacks {', '.join(missing)}, which is" if missing else ""
    for dim in () if missing else first.sizes.keys() - {"time"}:
        size, expected = dataset.sizes.get(dim), first.sizes[dim]
        if size != expected:
            fault = f"has {size} cells along {dim}, but {expected}"
        elif dim in first.variables and size > 1:
            # Another ellipsoid moves the cells by less than half of their distance.
            axes = [each[dim].values.astype(float) for each in (dataset, first)]
            if abs(axes[0] - axes[1]).max() > abs(np.diff(axes[1])).min() / 2:
                fault = f"has other values of {dim} than"
    if fault:
        raise InputError(
            f"{remote.name}: {fault} in the first file of its month; the server changed its files, "
            "so fetch other months"
        )


def _refuse_other_packing(dataset, first, remote):
    for name in first.variables:
        for key in PACKING:
            values = [str(each[name].attrs.get(key)) for each in (dataset, first)]
            if values[0] != values[1]:
                raise InputError(
                    f"{remote.name}: {name} has the {key} {values[0]}, but {values[1]} in the "
                    "first file of its month; the server changed its files, so fetch other months"
                )


def _write_archive(folder, remotes, patience):
    """Fetch the files of a record, unpack archives, and return all NetCDF files of the folder.

    The readers expect the files of one month in one folder. Archives hold several months in one
    folder, so each file whose name ends with a month goes to a folder of that month.
    """
    parts, record = folder / ".parts", folder / "fetched.json"
    is_empty = all(parts in path.parents for path in folder.rglob("*.nc"))
    if not (is_empty or record.exists()):
        raise InputError(
            f"{folder}: holds files that `seaice-lab data fetch` did not write; move them away, or "
            "choose another folder with --to"
        )
    parts.mkdir(parents=True, exist_ok=True)
    done = {} if is_empty else json.loads(record.read_text(encoding="utf-8"))
    missing = [remote for remote in remotes if done.get(remote.name) != remote.checksum]
    with files.only_writer(parts):
        files.write_json(record, done)
        for remote in progress.bar_over(missing, "archive", "file"):
            servers.download(remote, parts / remote.name, patience)
            unpacked = _unpacked(parts / remote.name)
            for path in sorted(each for each in unpacked.rglob("*") if each.is_file()):
                month = MONTH_OF_NAME.search(path.name)
                target = folder / path.relative_to(unpacked).parent / (month[1] if month else "")
                target.mkdir(parents=True, exist_ok=True)
                os.replace(path, target / path.name)
            done[remote.name] = remote.checksum
            files.write_json(record, done)
            (parts / remote.name).unlink(missing_ok=True)
        shutil.rmtree(parts)
    return sorted(folder.rglob("*.nc"))


def _unpacked(path):
    """A folder with the files of an archive (tar, zip), or with the file if it is no archive."""
    folder = path.with_name("unpacked")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            try:
                archive.extractall(folder, filter="data")
            except tarfile.TarError as error:
                raise InputError(
                    f"{path.name}: cannot be unpacked ({error}); nothing of it was used, look at "
                    "the record of the dataset"
                ) from None
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)  # takes no ".." and no link from an archive
    else:
        os.replace(path, folder / path.name)
    return folder


def _read_back(entry, paths):
    """Refuse files that cannot be read as the entry describes them."""
    if entry.format == "emissivity":
        from seaice_lab.emissivity.layouts import describe

        describe(paths)
        return
    from seaice_lab.surrogate.check import check

    check(entry, paths)
