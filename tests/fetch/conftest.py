"""Fixtures: the entries of the catalogue, and servers on the loopback."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from loopback import ftp_server, http_server

from seaice_lab import credentials, servers

ROOT = Path(__file__).parents[2]
CATALOGUE = yaml.load((ROOT / "data_catalog.yaml").read_text(), yaml.CSafeLoader)
# Without the shapes: the files of the tests are small.
ENTRIES = {
    name: {key: value for key, value in entry.items() if key != "shape"}
    for name, entry in CATALOGUE.items()
    if "fetch" in entry or name == "nextsim-moorings"
}


@pytest.fixture(scope="module")
def http():
    with http_server() as server:
        yield server


@pytest.fixture(scope="module")
def ftp():
    with ftp_server() as server:
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def patience(waits):
    return servers.Patience(waits_s=(1, 2, 3), timeout_s=30, sleep=waits.append)


@pytest.fixture
def entries(tmp_path, monkeypatch, http, ftp):
    """The entries of the catalogue, to be changed; the tests run beside a copy of it."""
    for server in (http, ftp):
        server.files.clear()
        server.faults.clear()
    http.requests.clear()
    for client in credentials.CLIENTS.values():
        for name in (name for group in client.variables for name in group):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(client.file_variable, str(tmp_path / "none"))
    monkeypatch.delenv("SEAICE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    entries = copy.deepcopy(ENTRIES)
    return SimpleNamespace(entries=entries, write=lambda: _write(entries))


def _write(entries):
    Path("data_catalog.yaml").write_text(yaml.safe_dump(entries))
