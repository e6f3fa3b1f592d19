"""Fetching months of a dataset from servers on the loopback; nothing leaves this machine."""

import re
from datetime import date
from pathlib import Path

import product_files
import pytest
import xarray as xr
from loopback import CUT
from product_files import asi, osisaf

from seaice_lab import catalog
from seaice_lab.errors import InputError
from seaice_lab.fetch import fetch
from seaice_lab.surrogate.check import check


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


def altered(content, change, **encoding):
    """A file of a server after a change of its dataset."""
    Path("altered.nc").write_bytes(content)
    with xr.open_dataset("altered.nc", decode_cf=False) as dataset:
        return product_files.content(change(dataset.load()), **encoding)


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


def with_wrong_bytes(content):
    """A file whose concentration contradicts its own checksum."""
    whole = altered(content, lambda d: d, ice_conc={"fletcher32": True})
    values = (3100).to_bytes(4, "little") * 8
    assert values in whole
    return whole.replace(values, bytes(len(values)))


@pytest.mark.parametrize("damage", [lambda content: content[:CUT], with_wrong_bytes])
def test_a_file_that_is_damaged_on_the_server_is_refused_and_not_kept(
    entries, http, patience, damage
):
    (path,) = serve_osisaf(entries, http, DAYS[:1])
    http.files[path] = damage(http.files[path])
    with pytest.raises(InputError, match="^ice_conc_201001011200.nc: cannot be read .NetCDF: HDF"):
        fetch_january(patience)
    assert not list(Path("data").rglob("*.nc"))
    serve_osisaf(entries, http, DAYS[:1])
    fetch_january(patience)


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
