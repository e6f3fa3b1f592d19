"""Fetching from servers on the loopback, with their faults; no test leaves this machine."""

import copy
import hashlib
import inspect
import io
import json
import re
import sys
import tarfile
import zipfile
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import product_files
import pytest
import xarray as xr
import yaml
from loopback import ftp_server, http_server
from product_files import asi, cs2smos, emissivity_month, nsidc0051, osisaf

from seaice_lab import catalog, servers
from seaice_lab.errors import InputError
from seaice_lab.fetch import fetch
from seaice_lab.surrogate.check import check

ROOT = Path(__file__).parents[1]
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
    for client in servers.CLIENTS.values():
        for name in (name for group in client.variables for name in group):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(client.file_variable, str(tmp_path / "none"))
    monkeypatch.delenv("SEAICE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    entries = copy.deepcopy(ENTRIES)
    return SimpleNamespace(entries=entries, write=lambda: _write(entries))


def _write(entries):
    Path("data_catalog.yaml").write_text(yaml.safe_dump(entries))


def serve_osisaf(entries, server, days, root="/ice"):
    """Daily files of OSI SAF on a server, and an entry that points to it."""
    address = f"{server.address}{root}/%Y/%m/ice_conc_%Y%m%d1200.nc"
    entries.entries["osisaf"]["fetch"]["urls"] = [{"url": address, "since": "1978-10-25"}]
    entries.write()
    paths = {day: f"{root}/{day:%Y/%m}/ice_conc_{day:%Y%m%d}1200.nc" for day in days}
    server.files |= {path: osisaf(day) for day, path in paths.items()}
    return list(paths.values())


DAYS = [date(2010, 1, 1), date(2010, 1, 2), date(2010, 1, 4)]
TARGET = Path("data/osisaf/osisaf_nh_201001.nc")


def fetch_january(patience, **options):
    return fetch("osisaf", "2010", "1", patience=patience, **options)


def test_the_days_of_a_month_become_one_file_that_the_catalogue_reads(entries, http, patience):
    serve_osisaf(entries, http, DAYS)
    (line,) = fetch_january(patience)
    assert re.fullmatch(r"fetched 1 files, [\d,]+ bytes, into \S+/data and read them", line)
    with xr.open_dataset(TARGET) as dataset:
        assert [str(time)[:10] for time in dataset.time.values] == [str(day) for day in DAYS]
        assert dataset.ice_conc.dims == ("time", "yc", "xc")
        assert dataset.lat.dims == ("yc", "xc")
        assert float(dataset.ice_conc[2, 5, 5]) == pytest.approx(34.0)  # the file says the day
    assert [path.name for path in TARGET.parent.iterdir()] == [TARGET.name]
    lines, field, ocean = check("osisaf")
    assert lines[-1].endswith("0 to 0.34, 0% of the ocean cells of a record have no value")
    assert int(ocean.sum()) == 62 * 64
    count = len(http.requests)
    fetch_january(patience)
    asked = [command for command, *_ in http.requests[count:]]
    assert set(asked) == {"HEAD"}  # nothing is fetched twice


def test_a_new_day_of_a_month_is_added(entries, http, patience):
    serve_osisaf(entries, http, DAYS[:1])
    fetch_january(patience)
    serve_osisaf(entries, http, DAYS)
    fetch_january(patience)
    with xr.open_dataset(TARGET) as dataset:
        assert dataset.sizes["time"] == len(DAYS)


def test_a_month_with_more_days_than_the_server_has_now_is_kept(entries, http, patience, capsys):
    paths = serve_osisaf(entries, http, DAYS)
    fetch_january(patience)
    del http.files[paths[0]]
    fetch("osisaf", "2010", "1,2", patience=patience)
    told = capsys.readouterr().err
    assert "holds 3 files of the server, which has 2 now; it is kept" in told
    assert "the server has no file of 2010-02" in told
    with xr.open_dataset(TARGET) as dataset:
        assert dataset.sizes["time"] == len(DAYS)


def altered(content, change):
    """A file of a server after a change of its dataset."""
    Path("altered.nc").write_bytes(content)
    with xr.open_dataset("altered.nc", decode_cf=False) as dataset:
        return product_files.content(change(dataset.load()))


def test_a_part_of_another_version_is_not_used_and_attributes_hold_for_the_month(
    entries, http, patience
):
    def set_cell(dataset):
        dataset.ice_conc[0, 5, 5] = 7700
        return dataset

    paths = serve_osisaf(entries, http, DAYS[:2])
    for number, path in enumerate(paths):
        attrs = {"institution": "met", "start_date": f"day {number}"}
        http.files[path] = altered(http.files[path], lambda d, a=attrs: d.assign_attrs(a))
    http.faults[paths[1]] = [403]
    with pytest.raises(InputError, match="403"):
        fetch_january(patience)
    size = len(http.files[paths[0]])
    http.files[paths[0]] = altered(http.files[paths[0]], set_cell)
    assert len(http.files[paths[0]]) == size
    fetch_january(patience)
    with xr.open_dataset(TARGET) as dataset:
        assert float(dataset.ice_conc[0, 5, 5]) == pytest.approx(77)
        assert dataset.institution == "met" and "start_date" not in dataset.attrs


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda d: d.isel(yc=slice(1, None)), "has 63 cells along yc, but 64 in the first file"),
        (lambda d: d.isel(yc=slice(None, None, -1)), "has other values of yc than in the first"),
        (lambda d: d.drop_vars("lat"), "lacks lat, which is in the first file of its month"),
    ],
)
def test_another_grid_within_a_month_is_refused(entries, http, patience, change, words):
    paths = serve_osisaf(entries, http, DAYS[:2])
    http.files[paths[1]] = altered(http.files[paths[1]], change)
    with pytest.raises(InputError, match=words):
        fetch_january(patience)
    assert not TARGET.exists()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"file": "osisaf/all.nc"}, "is osisaf/all.nc, expected a name with year and month"),
        ({"variables": {}}, "the server has 3 files of this month; name 'variables'"),
    ],
)
def test_an_entry_that_would_lose_days_is_refused(entries, http, patience, change, words):
    entries.entries["osisaf"]["fetch"] |= change
    serve_osisaf(entries, http, DAYS)
    with pytest.raises(InputError, match=words):
        fetch_january(patience)


def test_a_dry_run_lists_files_and_bytes_and_writes_nothing(entries, http, patience):
    paths = serve_osisaf(entries, http, DAYS)
    sizes = [len(http.files[path]) for path in paths]
    *lines, total = fetch_january(patience, dry_run=True)
    names = [Path(path).name for path in paths]
    assert lines == [f"{n}: {size:,} bytes" for n, size in zip(names, sizes, strict=True)]
    assert total == f"3 files, {sum(sizes):,} bytes; nothing was fetched"
    assert not Path("data").exists()


def test_files_come_by_ftp(entries, ftp, patience, waits):
    paths = serve_osisaf(entries, ftp, DAYS)
    ftp.faults[paths[1]] = ["cut"]
    assert fetch_january(patience, dry_run=True)[-1].startswith("3 files, ")
    fetch_january(patience)
    assert waits == [1]
    with xr.open_dataset(TARGET) as dataset:
        assert dataset.sizes["time"] == 3


def test_a_file_of_the_user_is_not_overwritten(entries, http, patience):
    serve_osisaf(entries, http, DAYS)
    TARGET.parent.mkdir(parents=True)
    for before in (osisaf(DAYS[0]), b"not NetCDF"):
        TARGET.write_bytes(before)
        with pytest.raises(InputError, match="did not write it; move it away"):
            fetch_january(patience)
        assert TARGET.read_bytes() == before


def test_another_folder_is_named_with_the_variable_to_set(entries, http, patience, tmp_path):
    serve_osisaf(entries, http, DAYS)
    (line,) = fetch_january(patience, folder=tmp_path / "other")
    assert line.endswith(f"set SEAICE_DATA={tmp_path / 'other'} to use them")


@pytest.mark.parametrize(
    "name, years, months, words",
    [
        ("osisaf", "", "", "name the years to fetch, such as --years 2009-2018"),
        ("osisaf", "2010", "2", "the server has no file of 2010"),
        ("osisaf", "1950", "", "has 1978-10-25 to"),
        ("osisaf", "2010-2009", "", "--years: found '2010-2009'"),
        ("osisaf", "2010", "0-13", "--months: found '0-13', expected numbers from 1 to 12"),
        ("osisaf", "all", "", "--years: found 'all'"),
        ("nextsim-moorings", "2010", "", "has no key 'fetch'"),
        ("emissivity-2024", "2020", "", "is one archive; leave out --years"),
    ],
)
def test_wrong_questions_are_refused_in_one_sentence(
    entries, http, patience, name, years, months, words
):
    serve_osisaf(entries, http, [])
    with pytest.raises(InputError, match=re.escape(words)):
        fetch(name, years, months, patience=patience)


def test_the_daily_files_of_bremen_get_the_time_of_their_names(entries, http, patience):
    entries.entries["amsr2"]["fetch"]["urls"] = [
        {"url": f"{http.address}/%Y/asi-AMSR2-n6250-%Y%m%d-v5.4.nc", "since": "2012-07-02"}
    ]
    entries.write()
    for number in (1, 2):
        http.files[f"/2020/asi-AMSR2-n6250-2020030{number}-v5.4.nc"] = asi(hole=(2, 9)[number - 1])
    fetch("amsr2", "2020", "3", patience=patience)
    with xr.open_dataset("data/amsr2/amsr2_n6250_202003.nc") as dataset:
        times = dataset.time.values.astype("datetime64[h]").astype(str).tolist()
        assert times == ["2020-03-01T12", "2020-03-02T12"]
    lines, *_ = check("amsr2")
    assert "sic: sic in the files, time, y, x, 0 to 0.9091, 2% of the ocean" in lines[-1], lines


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


# Stand-ins for the client libraries: the methods and arguments that this project uses.


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


def copernicusmarine_get(dataset_id=None, no_directories=False, output_directory=None,  # noqa: PLR0913
                         overwrite=False, filter=None, regex=None, dry_run=False,
                         disable_progress_bar=False):  # fmt: skip
    ASKED.append({"dataset_id": dataset_id, "regex": regex, "filter": filter})
    name, content = "W_XX_20110104_20110110_r_v206.nc", cs2smos(date(2011, 1, 7))
    if not dry_run:
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
OF_CLIENT = {"era5": "cdsapi", "nsidc0051": "earthaccess", "cs2smos": "copernicusmarine"}


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


def test_a_busy_client_is_tried_again_and_a_secret_never_appears(clients, patience, waits):
    import requests

    busy = SimpleNamespace(status_code=429, headers={"Retry-After": "7"})
    refused = SimpleNamespace(status_code=401, headers={})
    FAULTS.append(requests.HTTPError("busy", response=busy))
    FAULTS.append(requests.HTTPError("key secret is wrong", response=refused))
    with pytest.raises(InputError, match=r"key \*\*\* is wrong\); use a valid key"):
        fetch("era5", "2010", "1", patience=patience)
    assert waits == [7]


@pytest.mark.parametrize("name", OF_CLIENT)
def test_missing_credentials_and_clients_are_one_sentence(clients, monkeypatch, patience, name):
    library = OF_CLIENT[name]
    monkeypatch.delenv(VARIABLES[library][-1])
    with pytest.raises(InputError, match=f"set .*{VARIABLES[library][-1]}.* is made at https://"):
        fetch(name, "2011", "1", patience=patience)
    monkeypatch.setattr(servers, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"needs the package {library}; .*\[fetch\]"):
        fetch(name, "2011", "1", patience=patience)


@pytest.mark.parametrize(
    "way, content",
    [
        ("cds", "url: https://server\nkey: 1"),
        ("earthdata", "machine urs.earthdata.nasa.gov login a password b"),
        ("copernicusmarine", "[credentials]"),
    ],
)
def test_credentials_in_files_of_the_clients_are_enough(entries, monkeypatch, way, content):
    entries.write()
    client = servers.CLIENTS[way]
    Path("credentials").write_text(content)
    monkeypatch.setenv(client.file_variable, "credentials")
    monkeypatch.setattr(servers, "find_spec", lambda _: True)
    name = next(name for name, library in OF_CLIENT.items() if library == client.library)
    servers.refuse_missing_client(catalog.find(name))


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


def test_the_advice_to_fetch_names_the_option_that_a_series_needs(entries):
    entries.write()
    for name, command in (("osisaf", "osisaf --years YYYY`"), ("emissivity-2024", "2024`")):
        with pytest.raises(InputError, match=f"fetch them with .*{command}"):
            catalog.files(catalog.find(name))


def test_every_entry_writes_where_its_paths_are():
    for name, entry in catalog.load().items():
        if entry.fetch is not None and entry.fetch.way != "zenodo":
            file = Path(date(2010, 1, 1).strftime(entry.fetch.file))
            assert any(file.match(pattern) for pattern in entry.paths), name
