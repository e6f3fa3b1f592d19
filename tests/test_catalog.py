"""The catalogue: what it accepts, where it looks, and what it says when something is wrong."""

import re

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, change, write_catalogue

from seaice_lab import catalog, datasets
from seaice_lab.errors import InputError
from seaice_lab.surrogate.check import check


def test_the_bundled_catalogue_is_valid_and_every_entry_names_licence_and_source():
    entries = catalog.load()
    assert {"sample", "synthetic-arctic", "nextsim-moorings", "era5", "era5-legacy", "nextsimdg",
            "nsidc0051"} <= set(entries)  # fmt: skip
    for name, entry in entries.items():
        assert entry.licence, name
        assert entry.source, name
    assert len(catalog.files(entries["sample"])) == 7


def test_the_splits_of_nextsim_are_the_published_years():
    splits = catalog.find("nextsim-moorings").splits
    assert {name: rule.period for name, rule in splits.items()} == {
        "train": ("2009", "2016"),
        "validation": ("2017", "2017"),
        "test": ("2018", "2018"),
    }


def test_a_wrong_key_is_refused_with_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_catalogue(tmp_path, {"waves": ENTRY | {"license": "CC0"}})
    with pytest.raises(InputError, match=r"entry waves: unknown key 'license'; .*licence"):
        catalog.load()


def test_a_missing_key_and_a_wrong_format_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_catalogue(tmp_path, {"a": {k: v for k, v in ENTRY.items() if k != "source"}})
    with pytest.raises(InputError, match="entry a: the key 'source' is missing; add it"):
        catalog.load()
    write_catalogue(tmp_path, {"a": ENTRY | {"format": "grib"}})
    with pytest.raises(InputError, match="entry a: format is 'grib', but: .*nextsimdg"):
        catalog.load()
    write_catalogue(tmp_path, {"a": ["files"]})
    with pytest.raises(
        InputError, match=r"entry a: configuration is .*, but: expected 'key: value' pairs"
    ):
        catalog.load()


def test_an_unknown_dataset_lists_the_known_ones(waves):
    with pytest.raises(InputError, match="dataset 'wave' is not in the catalogue; it has waves"):
        catalog.find("wave")


def test_data_are_looked_for_in_the_users_folder_first(waves, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere" / "waves"
    elsewhere.mkdir(parents=True)
    (waves / "test_1.nc").rename(elsewhere / "test_1.nc")
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path / "elsewhere"))
    assert catalog.files(catalog.find("waves")) == [elsewhere / "test_1.nc"]
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path / "nowhere"))
    assert len(catalog.files(catalog.find("waves"))) == 3


def test_a_path_beside_the_data_folder_needs_no_data_folder(waves, tmp_path):
    waves.rename(tmp_path / "waves")
    (tmp_path / "data").rmdir()
    write_catalogue(tmp_path, {"waves": ENTRY | {"paths": ["../waves/test_*.nc"]}})
    assert catalog.files(catalog.find("waves")) == [tmp_path / "waves" / "test_1.nc"]


def test_missing_files_say_where_they_were_looked_for_and_how_to_get_them(waves, tmp_path):
    for path in waves.glob("*.nc"):
        path.unlink()
    with pytest.raises(InputError, match=r"no file matches waves/\*.nc in .*/data; get them from"):
        datasets.open("waves")
    write_catalogue(tmp_path, {"waves": ENTRY | {"generator": {"size": 16}}})
    with pytest.raises(InputError, match="make them with `seaice-lab data make waves`"):
        datasets.open("waves")


def test_a_grid_of_another_size_is_refused(waves, tmp_path):
    write_catalogue(tmp_path, {"waves": ENTRY | {"shape": [64, 64]}})
    with pytest.raises(InputError, match=r"its grid is 32 x 32, but the entry waves says 64 x 64"):
        datasets.open("waves")


def test_runs_keep_their_own_times_and_names(waves):
    dataset = datasets.open("waves")
    assert dataset.sizes["time"] == 96
    assert list(dict.fromkeys(dataset.run.values)) == ["test_1", "train_1", "train_2", "val_1"]


def test_files_of_one_series_are_joined_in_time_order(waves, tmp_path):
    change(waves / "test_1.nc", lambda d: d.assign_coords(time=d.time + np.timedelta64(6, "D")))
    entry = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "splits")}
    entry |= {"paths": ["waves/test_1.nc", "waves/train_1.nc"]}
    write_catalogue(tmp_path, {"series": entry})
    dataset = datasets.open("series")
    assert dataset.get_index("time").is_monotonic_increasing
    assert dataset.sizes["time"] == 48
    assert set(dataset.run.values) == {"series"}


def test_a_check_tells_how_files_are_understood_and_takes_other_files(waves):
    lines, field, ocean = check("waves", [waves / "val_1.nc"])
    text = "\n".join(lines)
    assert f"waves (nextsimdg): 1 file, {waves / 'val_1.nc'}\n" in text
    assert "grid: curvilinear, 32 rows x 32 columns, cells of 2" in text
    assert "of 1024 cells are sea (variable mask)" in text
    assert "24 records in 1 runs, 2010-01-01T00:00 to 2010-01-06T18:00" in text
    assert "step: 6 h" in text
    assert "u10: u10 in the files, time, y, x, " in text
    assert field.dims == ocean.dims == ("y", "x")
    change(waves / "val_1.nc", lambda d: d.assign(t2m=(d.t2m - 273.15).assign_attrs(units="K")))
    with pytest.raises(InputError, match="t2m runs from .* expected values within 180 to 340 K"):
        check("waves")


def test_a_check_of_forcing_measures_how_far_it_is_from_the_places_around_the_pole(waves, tmp_path):
    def weather(west):
        axes = {"latitude": np.arange(60.0, 91, 3), "longitude": np.arange(west, 180.0, 6)}
        values = np.full((2, *map(len, axes.values())), 260.0)
        times = {"time": np.datetime64("2010-01-01", "ns") + np.arange(2) * np.timedelta64(6, "h")}
        path = tmp_path / "t2m.nc"
        xr.Dataset({"t2m": (("time", *axes), values, {"units": "K"})}, times | axes).to_netcdf(path)
        return "\n".join(check("air", [path])[0])

    variables = {"t2m": "t2m"}
    entry = ENTRY | {"format": "era5", "variables": variables, "separate_runs": False}
    write_catalogue(tmp_path, {"air": entry})
    assert "coverage from 60.0 N to the pole: complete; the place at " in weather(-180.0)
    sector = weather(-90.0)
    assert "because longitudes from 174.0 E eastward to 90.0 W are missing; the place" in sector
    assert re.search(
        r"is \d{4} km from the nearest point, where a cell .* measures \d{3} km", sector
    )
