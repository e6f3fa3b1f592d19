"""Fetching by the client libraries: stand-ins with the methods and arguments that are used."""

import base64
import errno
import hashlib
import inspect
import os
import re
import sys
from datetime import date
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from product_files import cs2smos, nsidc0051, topaz

from seaice_lab import catalog, credentials
from seaice_lab.errors import InputError
from seaice_lab.fetch import fetch
from seaice_lab.surrogate.check import check


class CdsClient:
    def __init__(self, url=None, key=None, quiet=False, debug=False, verify=None, timeout=60,
                 progress=True, **options):  # fmt: skip
        pass

    def retrieve(self, name, request, target=None):
        ASKED.append((name, request))
        if FAULTS:
            raise FAULTS.pop(0)
        first = np.datetime64(f"{request['year'][0]}-{request['month'][0]}-01")
        times = first + np.arange(8) * np.timedelta64(6, "h")
        shape = ("valid_time", "latitude", "longitude")
        axes = {"latitude": np.arange(90, 39, -5.0), "longitude": np.arange(-180, 180, 30.0)}
        axes["latitude"] = ("latitude", axes["latitude"], {"units": "degrees_north"})
        axes["longitude"] = ("longitude", axes["longitude"], {"units": "degrees_east"})
        values = np.full((8, 11, 12), 5.0, "float32")
        fields = {"t2m": (shape, values + 255, {"units": "K"})}
        fields |= {name: (shape, values, {"units": "m s**-1"}) for name in ("u10", "v10")}
        xr.Dataset(fields, axes | {"valid_time": times}).to_netcdf(target)


class DamagedCdsClient(CdsClient):
    """Its file contradicts its own checksum in the last record of the last variable."""

    def retrieve(self, name, request, target=None):
        super().retrieve(name, request, target)
        month = xr.load_dataset(target)
        month.v10[-1] = 7.0
        checked = {"v10": {"fletcher32": True, "chunksizes": (1, 11, 12)}}
        month.to_netcdf(target, encoding=checked)
        whole, last = Path(target).read_bytes(), month.v10[-1].values.tobytes()
        assert last in whole
        Path(target).write_bytes(whole.replace(last, bytes(len(last))))


ASKED, FAULTS = [], []
METHODS = ("__init__", "retrieve")


class Granule(dict):
    def data_links(self, access=None, in_region=False):
        return [f"https://archive/{self['name']}"]


def earthaccess_login(strategy="all", persist=False, system=None):
    ASKED.append(strategy)


def earthaccess_search_data(count=-1, **kwargs):
    assert not any(isinstance(value, list) for value in kwargs.values())  # it refuses lists
    content = nsidc0051(date(2011, 1, 1))
    checksum = {"Algorithm": "MD5", "Value": hashlib.md5(content).hexdigest()}
    said = {"SizeInBytes": len(content), "Checksum": checksum}
    umm = {"DataGranule": {"ArchiveAndDistributionInformation": [said]}}
    names = (f"NSIDC0051_SEAICE_PS_{side}25km_20110101_v2.0.nc" for side in "NS")
    return [Granule(name=name, umm=umm) for name in names]


def earthaccess_download(granules, local_path=None, provider=None, threads=8, *,  # noqa: PLR0913
                         show_progress=None, credentials_endpoint=None, pqdm_kwargs=None,
                         force=False):  # fmt: skip
    path = Path(local_path) / granules[0]["name"]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(nsidc0051(date(2011, 1, 1)))
    return [path]


PRODUCTS = {
    "esa_obs-si_arc_phy-sit_nrt_l4-multi_P1D-m": (
        "W_XX_20110104_20110110_r_v206.nc",
        cs2smos(date(2011, 1, 7)),
    ),
    "cmems_mod_arc_phy_my_topaz4_P1D-m": (
        "20110107_dm-12km-NERSC-MODEL-TOPAZ4B-ARC-RAN.fv2.0.nc",
        topaz(date(2011, 1, 7)),
    ),
}


def copernicusmarine_get(dataset_id=None, no_directories=False, output_directory=None,  # noqa: PLR0913
                         overwrite=False, filter=None, regex=None, dry_run=False,
                         disable_progress_bar=False):  # fmt: skip
    ASKED.append({"dataset_id": dataset_id, "regex": regex, "filter": filter})
    name, content = PRODUCTS[dataset_id]
    if dry_run:
        assert re.search(regex, f"root/2011/01/{name}")
    else:
        assert fnmatch(f"root/2011/01/{name}", filter)
        Path(output_directory).mkdir(exist_ok=True)
        (Path(output_directory) / name).write_bytes(content)
    file = SimpleNamespace(filename=name, file_size=len(content) / 2**20, etag="1")
    return SimpleNamespace(files=[file])


STAND_INS = {
    "cdsapi": SimpleNamespace(Client=CdsClient, __spec__=SimpleNamespace()),
    "earthaccess": SimpleNamespace(
        login=earthaccess_login,
        search_data=earthaccess_search_data,
        download=earthaccess_download,
        __spec__=SimpleNamespace(),
    ),
    "copernicusmarine": SimpleNamespace(get=copernicusmarine_get, __spec__=SimpleNamespace()),
}
VARIABLES = {
    "cdsapi": ("CDSAPI_URL", "CDSAPI_KEY"),
    "earthaccess": ("EARTHDATA_TOKEN",),
    "copernicusmarine": (
        "COPERNICUSMARINE_SERVICE_USERNAME",
        "COPERNICUSMARINE_SERVICE_PASSWORD",
    ),
}
OF_CLIENT = {
    "era5": "cdsapi",
    "nsidc0051": "earthaccess",
    "cs2smos": "copernicusmarine",
    "topaz": "copernicusmarine",
}


@pytest.fixture
def clients(entries, monkeypatch):
    entries.write()
    ASKED.clear()
    FAULTS.clear()
    for library, stand_in in STAND_INS.items():
        monkeypatch.setitem(sys.modules, library, stand_in)
        for name in VARIABLES[library]:
            monkeypatch.setenv(name, "secret")


@pytest.mark.parametrize("name", OF_CLIENT)
def test_each_client_fetches_a_month_that_is_read_back(clients, name, patience):
    lines = fetch(name, "2011", "1", dry_run=True, patience=patience)
    assert ("size unknown" in lines[-1]) == (name == "era5")
    assert fetch(name, "2011", "1", patience=patience)[0].startswith("fetched 1 files, ")
    (path,) = catalog.files(catalog.find(name))
    assert path.parent == Path("data").absolute() / name
    assert not list(path.parent.glob(".*"))
    assert "secret" not in path.read_bytes().decode("latin-1")


def test_the_request_for_era5_is_that_of_the_entry_and_the_month(clients, patience):
    fetch("era5", "2010", "2", patience=patience)
    ((dataset, request),) = ASKED
    assert dataset == "reanalysis-era5-single-levels"
    assert (request["year"], request["month"]) == (["2010"], ["02"])
    assert request["day"][0] == "01" and request["day"][-1] == "28"
    assert request["area"] == [90, -180, 40, 180]


def test_a_month_that_is_damaged_at_its_end_is_refused_and_not_kept(clients, monkeypatch, patience):
    client = SimpleNamespace(Client=DamagedCdsClient, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "cdsapi", client)
    with pytest.raises(InputError, match="cannot be read .*and was removed; the same command"):
        fetch("era5", "2011", "1", patience=patience)
    assert not list(Path("data").rglob("*.nc"))


def test_a_busy_client_is_tried_again_and_a_secret_never_appears(clients, patience, waits):
    import requests

    busy = SimpleNamespace(status_code=429, headers={"Retry-After": "7"})
    refused = SimpleNamespace(status_code=401, headers={})
    FAULTS.append(requests.HTTPError("busy", response=busy))
    FAULTS.append(requests.HTTPError("key secret is wrong", response=refused))
    with pytest.raises(InputError, match=r"key \*\*\* is wrong\); use a valid key"):
        fetch("era5", "2010", "1", patience=patience)
    assert waits == [7]


def test_a_full_disk_is_named_with_the_folder(clients, patience, waits, tmp_path):
    FAULTS.append(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(InputError, match=f"{tmp_path / 'data'}: the disk is full"):
        fetch("era5", "2010", "1", patience=patience)
    assert waits == []


def test_the_ice_of_topaz_is_on_a_plane_whose_axes_have_the_unit_100_km(clients, patience):
    fetch("topaz", "2011", "1", patience=patience)
    lines, *_ = check("topaz")
    text = "\n".join(lines)
    assert "cells of 12.5 km" in text and "80 of 100 cells are sea" in text
    assert "siu: vxsi in the files, time, y, x, 0 to 0.1596 m s-1, along the axes of the gr" in text


@pytest.mark.parametrize("name", OF_CLIENT)
def test_missing_credentials_and_clients_are_one_sentence(clients, monkeypatch, patience, name):
    library = OF_CLIENT[name]
    monkeypatch.delenv(VARIABLES[library][-1])
    with pytest.raises(InputError, match=f"set .*{VARIABLES[library][-1]}.* a key at https://"):
        fetch(name, "2011", "1", patience=patience)
    monkeypatch.setattr(credentials, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"needs the package {library}; .*\[fetch\]"):
        fetch(name, "2011", "1", patience=patience)


COPERNICUS = base64.b64encode(b"[credentials]\nusername=a\npassword=k-123\n").decode()


@pytest.mark.parametrize(
    "way, file, content",
    [
        ("cds", "", "url: https://server\nkey: k-123"),
        ("earthdata", "", "machine urs.earthdata.nasa.gov login a password k-123"),
        ("earthdata", "", 'machine urs.earthdata.nasa.gov login a password "k-123"'),
        ("copernicusmarine", ".copernicusmarine/.copernicusmarine-credentials", COPERNICUS),
    ],
)
def test_credentials_in_files_of_the_clients_are_enough(entries, monkeypatch, way, file, content):
    entries.write()
    client = credentials.CLIENTS[way]
    path = Path("credentials", file)  # the clients are told the file or its folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    monkeypatch.setenv(client.file_variable, "credentials")
    monkeypatch.setattr(credentials, "find_spec", lambda _: True)
    name = next(name for name, library in OF_CLIENT.items() if library == client.library)
    credentials.refuse_missing_client(catalog.find(name))
    assert credentials.hidden("k-123 is wrong") == "*** is wrong"


def test_a_password_that_begins_with_the_user_name_is_hidden_wholly(clients, monkeypatch):
    monkeypatch.setenv("EARTHDATA_USERNAME", "me")
    monkeypatch.setenv("EARTHDATA_PASSWORD", "me-1234")
    monkeypatch.setenv("CDSAPI_URL", "https://server")
    assert credentials.hidden("me-1234 of me at https://server") == "*** of *** at https://server"


def test_a_user_name_without_password_leaves_earthdata_to_the_file(clients, monkeypatch, patience):
    monkeypatch.delenv("EARTHDATA_TOKEN")
    monkeypatch.setenv("EARTHDATA_USERNAME", "me")
    Path("credentials").write_text("machine urs.earthdata.nasa.gov login a password b")
    monkeypatch.setenv("NETRC", "credentials")
    fetch("nsidc0051", "2011", "1", dry_run=True, patience=patience)
    assert ASKED == ["netrc"]


@pytest.mark.parametrize("library", STAND_INS)
def test_the_stand_ins_have_the_signatures_of_the_clients(library):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    module = __import__(library)
    for name, stand_in in vars(STAND_INS[library]).items():
        if name == "__spec__":
            continue
        pairs = [(stand_in, getattr(module, name))]
        if inspect.isclass(stand_in):
            pairs = [(getattr(stand_in, n), getattr(module.Client, n)) for n in METHODS]
        for ours, theirs in pairs:
            ours, theirs = (inspect.signature(each).parameters for each in (ours, theirs))
            named = [n for n, p in ours.items() if p.kind is not p.VAR_KEYWORD]
            assert set(named) <= set(theirs), f"{library}.{name}"
            assert all(ours[n].kind == theirs[n].kind for n in named)
