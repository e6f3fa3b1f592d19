"""Servers of data: list their files, and download each file completely.

A file has a temporary name until it is whole. A download that breaks off is resumed, and a server
that is busy is asked again after a while.
"""

import calendar
import ftplib
import os
import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from seaice_lab import credentials, files, formats, progress
from seaice_lab.errors import InputError

CHUNK = 2**14  # bytes written at once; an interruption loses at most this many
LONGEST_WAIT_S = 3600  # the longest wait that a server may ask for
BUSY = {408, 416, 425, 429, 500, 502, 503, 504}  # answers after which to try again
# Broken connections (a ValueError is a wrong address), and local errors: waiting does not help.
BROKEN = (OSError, EOFError, ftplib.error_temp)
LOCAL = (PermissionError, FileNotFoundError, NotADirectoryError, FileExistsError)
AGENT = {"User-Agent": "seaice_lab", "Accept-Encoding": "identity"}


class Patience(NamedTuple):
    """How long to wait for a server: between attempts, and for an answer, seconds."""

    waits_s: tuple[float, ...] = (5, 15, 60, 180, 600)
    timeout_s: float = 60
    sleep: Callable = time.sleep


class Remote(NamedTuple):
    """A file of a server.

    ``get(path)`` writes it to a path, and continues what is there if the server allows it. Size in
    bytes and checksum ("md5:...") are None if they are unknown. ``version`` changes with the file.
    """

    name: str
    get: Callable
    size: int | None = None
    checksum: str | None = None
    version: str = ""
    day: date | None = None


def attempts(action, patience):
    """Repeat an action while the server is busy or the connection breaks.

    Parameters
    ----------
    action : callable
        Without arguments.
    patience : Patience
        A longer wait that the server asks for (Retry-After) replaces a shorter one.

    Returns
    -------
    object
        What the action returns.

    Raises
    ------
    InputError
        If the server refuses, or is still busy at the last attempt.
    """
    for wait in (*patience.waits_s, None):
        try:
            return action()
        except (InputError, *LOCAL):
            raise
        except Exception as error:  # the clients raise exceptions of many kinds
            if getattr(error, "errno", None) in files.DISK_ERRORS:
                raise
            status = getattr(getattr(error, "response", None), "status_code", None)
            is_broken = isinstance(error, BROKEN) and not isinstance(error, ValueError)
            is_passing = status in BUSY if status else is_broken
            if wait is None or not is_passing:
                raise InputError(_fault(error, status, is_passing)) from None
            asked = _asked_wait(error.response.headers) if status else 0
            wait = min(max(wait, asked), LONGEST_WAIT_S)
            progress.note(f"{status or type(error).__name__}; the next attempt is in {wait:.0f} s")
        patience.sleep(wait)


def _asked_wait(headers):
    """Seconds that the header Retry-After asks for; it is a number or a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return int(text)
    try:
        return (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0


def _fault(error, status, is_passing):
    """An exception of a server or a client as a sentence without credentials."""
    text = credentials.hidden(" ".join(str(error).split()))
    advice = "check the key 'fetch' of the catalogue, and the account if the server needs one"
    if is_passing:
        advice = "try again later, the files that are complete are not fetched again"
    elif status in (401, 403):
        advice = "use a valid key, and accept the terms of the dataset on its page"
    return f"the server did not give the files ({type(error).__name__}: {text}); {advice}"


def download(remote, path, patience):
    """Write a file of a server to a path, under a temporary name until it is complete.

    Parameters
    ----------
    remote : Remote
    path : Path
    patience : Patience

    Raises
    ------
    InputError
        If the server does not give the file, or gives another one than it announced.
    """
    if path.exists() and remote.size in (None, path.stat().st_size):
        return
    version = files.fingerprint(remote.name, remote.size, remote.checksum, remote.version)
    temporary = path.with_name(f".{path.name}.{version}.partial")
    if not (remote.size or remote.checksum or remote.version):
        temporary.unlink(missing_ok=True)  # it may belong to another version of the file
    attempts(lambda: _get_whole(remote, temporary), patience)
    os.replace(temporary, path)


def _get_whole(remote, temporary):
    """Get a file, and check its size, its checksum and its kind."""
    import pooch

    if not temporary.exists() or temporary.stat().st_size != remote.size:
        remote.get(temporary)
    size = temporary.stat().st_size
    algorithm, _, value = (remote.checksum or "").partition(":")
    fault = ""
    if remote.size not in (None, size):
        fault = f"{remote.name} has {size} bytes, but the server announced {remote.size}"
    elif value and pooch.file_hash(str(temporary), algorithm) != value.lower():
        fault = f"{remote.name} has another {algorithm} checksum than the server announced"
    if fault:
        temporary.unlink()
        raise OSError(fault)
    if remote.name.endswith(".nc"):
        try:
            formats.check_kind(temporary)
        except InputError as error:
            temporary.unlink()
            raise InputError(str(error).replace(str(temporary), remote.name)) from None


def _days(month):
    """All days of a month up to today."""
    count = calendar.monthrange(month.year, month.month)[1]
    days = [month.replace(day=number) for number in range(1, count + 1)]
    return [day for day in days if day <= date.today()]


def _daily_files(entry, month, patience):
    """Files that have an address for each day (HTTPS or FTP), without days that have no file."""
    remotes = []
    for source in entry.fetch.urls:
        days = [day for day in _days(month) if source.since <= day <= (source.until or day)]
        addresses = [(day, day.strftime(source.url)) for day in days]
        if source.url.startswith("ftp:") and days:
            remotes += attempts(lambda those=addresses: _ftp_files(those, patience), patience)
        else:
            remotes += [_http_file(*pair, patience) for pair in addresses]
    return [remote for remote in remotes if remote]


def _http_file(day, url, patience):
    """A file by HTTPS; None if the server does not have it."""
    import requests

    def ask():
        reply = requests.head(url, headers=AGENT, timeout=patience.timeout_s, allow_redirects=True)
        if reply.status_code not in (404, 405, 410, 501):  # 405, 501: it does not answer this
            reply.raise_for_status()
        return reply

    reply = attempts(ask, patience)
    if reply.status_code in (404, 410):
        return None
    headers = reply.headers if reply.ok else {}
    size = int(headers["Content-Length"]) if "Content-Length" in headers else None
    version = headers.get("ETag", headers.get("Last-Modified", ""))
    get = partial(_http_get, url, timeout_s=patience.timeout_s)
    return Remote(url.rsplit("/", 1)[1], get, size, version=version, day=day)


def _http_get(url, path, timeout_s):
    """Write a file by HTTPS to a path, or what is still missing of it."""
    import pooch

    with open(path, "ab") as file:

        def begin_again(response, **_):
            """Drop what is there if the server sends the whole file (200) or has less (416)."""
            if response.status_code in (200, 416):
                file.truncate(0)

        start = file.tell()
        headers = AGENT | ({"Range": f"bytes={start}-"} if start else {})
        options = {"headers": headers, "hooks": {"response": begin_again}, "chunk_size": CHUNK}
        pooch.HTTPDownloader(timeout=timeout_s, **options)(url, file, None)


def _ftp_files(addresses, patience):
    """Files of an FTP server without account, without those that it does not have."""
    remotes, parts = [], urlsplit(addresses[0][1])
    with ftplib.FTP(timeout=patience.timeout_s) as server:
        server.connect(parts.hostname, parts.port or 21)
        server.login()
        server.voidcmd("TYPE I")
        for day, url in addresses:
            try:
                size = server.size(urlsplit(url).path)
            except ftplib.error_perm as error:
                if not str(error).startswith("550"):  # 550: there is no such file
                    raise
                continue
            get = partial(_ftp_get, url, timeout_s=patience.timeout_s)
            remotes.append(Remote(url.rsplit("/", 1)[1], get, size, day=day))
    return remotes


def _ftp_get(url, path, timeout_s):
    import pooch

    parts = urlsplit(url)
    load = pooch.FTPDownloader(port=parts.port or 21, timeout=timeout_s)
    load(f"ftp://{parts.hostname}{parts.path}", str(path), None)


def _zenodo_files(entry, month, patience):
    """All files of a record of Zenodo."""
    import requests

    reply = requests.get(entry.fetch.dataset, headers=AGENT, timeout=patience.timeout_s)
    reply.raise_for_status()
    remotes = []
    for file in reply.json()["files"]:
        get = partial(_http_get, file["links"]["self"], timeout_s=patience.timeout_s)
        remotes.append(Remote(Path(file["key"]).name, get, file["size"], file["checksum"]))
    return remotes


def _cds_file(entry, month, patience):
    """One file that the Climate Data Store makes of a month; its size is unknown until then."""
    days = [f"{day:%d}" for day in _days(month)]
    request = entry.fetch.request | {"year": [f"{month:%Y}"], "month": [f"{month:%m}"], "day": days}

    def get(path):
        import cdsapi

        path.unlink(missing_ok=True)
        cdsapi.Client(quiet=True, progress=False).retrieve(entry.fetch.dataset, request, str(path))

    # The values of the last three months are preliminary: another day they are fetched again.
    is_final = (date.today() - month).days > 120
    version = files.fingerprint(request, "" if is_final else date.today())
    return [Remote(f"{entry.fetch.dataset}_{month:%Y%m}.nc", get, version=version)]


def _earthdata_files(entry, month, patience):
    """Files of NASA Earthdata whose names fit a month."""
    import earthaccess

    in_variables = credentials.in_variables(credentials.CLIENTS["earthdata"])
    earthaccess.login(strategy="environment" if in_variables else "netrc")
    request = entry.fetch.request | {"temporal": [str(month), str(_days(month)[-1])]}
    # The client takes several arguments of a condition as a tuple, not as a list.
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in request.items()}
    remotes = []
    for granule in earthaccess.search_data(short_name=entry.fetch.dataset, **options):
        name = granule.data_links()[0].rsplit("/", 1)[1]
        if re.search(month.strftime(entry.fetch.names), name):
            parts = granule["umm"].get("DataGranule", {}).get("ArchiveAndDistributionInformation")
            size, checksum = ((parts or [{}])[0].get(key) for key in ("SizeInBytes", "Checksum"))
            if checksum:
                algorithm = checksum["Algorithm"].lower().replace("-", "")
                checksum = f"{algorithm}:{checksum['Value']}"
            remotes.append(Remote(name, partial(_earthdata_get, granule), size, checksum))
    return remotes


def _earthdata_get(granule, path):
    import earthaccess

    folder = str(path.parent / "download")
    (file,) = earthaccess.download([granule], folder, threads=1, show_progress=False)
    os.replace(file, path)


def _copernicusmarine_files(entry, month, patience):
    """Original files of the Copernicus Marine Service whose names fit a month."""
    import copernicusmarine

    options = {"dataset_id": entry.fetch.dataset, "disable_progress_bar": True}
    options |= entry.fetch.request
    reply = copernicusmarine.get(**options, regex=month.strftime(entry.fetch.names), dry_run=True)

    def get(name, path):
        folder = path.parent / "download"
        place = {"output_directory": folder, "no_directories": True, "overwrite": True}
        copernicusmarine.get(**options, **place, filter=f"*{name}")
        os.replace(folder / name, path)

    return [
        Remote(f.filename, partial(get, f.filename), round(f.file_size * 2**20), version=f.etag)
        for f in reply.files
    ]


WAYS = {
    "urls": _daily_files,
    "zenodo": _zenodo_files,
    "cds": _cds_file,
    "earthdata": _earthdata_files,
    "copernicusmarine": _copernicusmarine_files,
}
