"""Fetching a record of Zenodo, whose archives are unpacked."""

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from product_files import emissivity_month

from seaice_lab import catalog
from seaice_lab.errors import InputError
from seaice_lab.fetch import fetch


def archive(files):
    """A tar archive of some files, as bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def serve_record(entries, http, tar):
    """A record of Zenodo with one archive on the server."""
    checksum = f"md5:{hashlib.md5(tar).hexdigest()}"
    links = {"self": f"{http.address}/files/month.tar/content"}
    file = {"key": "month.tar", "size": len(tar), "checksum": checksum, "links": links}
    http.files["/api/records/1"] = json.dumps({"id": 2, "files": [file]}).encode()
    http.files["/files/month.tar/content"] = tar
    entries.entries["emissivity-2024"]["fetch"]["dataset"] = f"{http.address}/api/records/1"
    entries.write()


def test_a_record_of_zenodo_is_unpacked_into_the_published_layout(entries, http, patience):
    months = emissivity_month("202008") | emissivity_month("202009")
    serve_record(entries, http, archive({f"sensitivity/{n}": c for n, c in months.items()}))
    assert fetch("emissivity-2024", dry_run=True, patience=patience)[0].startswith("month.tar: ")
    fetch("emissivity-2024", patience=patience)
    folder = Path("data/emissivity-2024/sensitivity")
    assert sorted(path.name for path in (folder / "202008").iterdir()) == sorted(
        emissivity_month("202008")
    )
    assert len(catalog.files(catalog.find("emissivity-2024"))) == 2
    count = len(http.requests)
    fetch("emissivity-2024", patience=patience)
    assert [path for _, path, _ in http.requests[count:]] == ["/api/records/1"]


def test_an_archive_does_not_replace_files_of_the_user(entries, http, patience):
    month = emissivity_month("202008")
    serve_record(entries, http, archive(month))
    path = Path("data/emissivity-2024/202008/amsr2_v2_202008.nc")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    with pytest.raises(InputError, match="holds files that .* did not write; move them away"):
        fetch("emissivity-2024", patience=patience)
    assert path.read_bytes() == b"mine"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as packed:
        for name, content in month.items():
            packed.writestr(f"../{name}", content)
    for content in (archive(month), stream.getvalue()):  # files that are gone are fetched again
        serve_record(entries, http, content)
        path.unlink(missing_ok=True)
        for other in path.parent.glob("*"):
            other.unlink()
        fetch("emissivity-2024", patience=patience)
        assert path.read_bytes() == month[path.name]


def test_an_archive_cannot_write_outside_of_its_folder(entries, http, patience):
    serve_record(entries, http, archive({"../../outside.nc": b"CDF"}))
    with pytest.raises(InputError, match="month.tar: cannot be unpacked .* outside"):
        fetch("emissivity-2024", patience=patience)
    assert not Path("outside.nc").exists()
    assert not Path("data/outside.nc").exists()
