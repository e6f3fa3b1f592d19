"""Inputs of real users: each is prepared with the right numbers, or refused in one sentence.

The folders of ``tests/data/cases`` hold what users had: a catalogue beside its files. Neighbours
are made from the same fields by small functions, so that a rule is tested and not a file.

Grid of the base files: 16 x 16 cells of 150 km around the pole (EPSG:3413), records every 6 h from
2010-01-01. Temperature depends on place and time alone. The wind is 5 m/s in one direction of the
plane, so that it is the same everywhere along the axes of the grid.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import assemble
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import PrepareConfig

CASES = Path(__file__).parents[1] / "data" / "cases"
BASE = CASES / "_base"
HOUR = np.timedelta64(1, "h")

# Expected of each case: "right", or what the sentence of the refusal says.
EXPECTED = {
    "dimension_order/a18_transposed": "right",
    "dimension_order/d01_number_last": r"t2m .*dimension 'number' .* 0, 1; .*select: {number: 0}",
    "dimension_order/a02_number_dimension": r"dimension 'number'.*`select: {number: 0}`",
    "dimension_order/d03_levels": r"dimension 'pressure_level' with the values 500.0, 1000.0;",
    "dimension_order/d06_positions_transposed": "right",
    "dimension_order/g02_region_time_x_y": "right",
    "dimension_order/d07_transposed_not_square": "right",
    "time_axis/b05_twenty_minutes_double_days": "right",
    "time_axis/b06_noleap": "right",
    "time_axis/b07_360_day_forcing": "right",
    "time_axis/b30_cdo_absolute_time": "right",
    "time_axis/b31_time_without_units": r"m01.nc: time has no units \(0 ... 23\), .*'hours since",
    "time_axis/d08_hourly_float32_forcing": "right",
    "time_axis/d09_hourly_float32_state": "right",
    "expver/a01_expver_only_preliminary": "right",
    "kinds_of_files/a03_accumulated_beside_instant": "right",
    "kinds_of_files/a31_grib_input": r"era5.nc: is a GRIB file, expected NetCDF; choose NetCDF",
    "kinds_of_files/a32_zip_named_nc": r"download.nc: is a zip archive, .*; unpack it",
    "kinds_of_files/b11_groups": "right",
    "kinds_of_files/b45_empty_file": r"Moorings_2010m02.nc: holds no records",
    "forcing_coverage/a09_half_of_the_longitudes": r"era5: .* from 180.0 W eastward to 0.0 E are",
    "forcing_coverage/a11_sector_40_missing": r"longitudes from 140.0 E eastward to 180.0 W are",
    "forcing_coverage/d12_coarse_sector": r"longitudes from 65.0 E eastward to 180.0 W are miss",
    "mask_from_first_record/b26_nan_where_no_ice_growing": r"sit at 2010-01-01T00:00 .* 81 cells",
    "mask_from_first_record/b27_nan_where_no_ice_melting": r"193 cells, .* 209 .* mean \"no ice\"",
    "mask_from_first_record/b28_first_record_nan": r"sit at 2010-01-01T00:00 has no value in the",
    "mask_from_first_record/g11_first_entry_variable_nan": "right",
}


def check_truth(store):
    """Compare a prepared store with what the base files hold at its places and times."""
    assert store.sit.dims == ("time", "y", "x")
    assert store.latitude.dims == ("y", "x")
    hours = (store.time.values - np.datetime64("2010-01-01")) / HOUR
    phi, lam = np.radians(store.latitude.values), np.radians(store.longitude.values)
    wanted = 250 + 32 * np.cos(lam) * np.cos(phi) + hours[:, None, None] / 60
    error = store.t2m.values - wanted
    assert np.abs(error).max() < 0.3  # the forcing is that of the nearest point
    assert abs(error.mean()) < 0.01  # one record late or early is 0.1 K
    for wind in (store.u10, store.v10):
        assert abs(float(wind.mean()) - 3.54) < 0.05
        assert float(wind.std()) < 0.05


def settings():
    """State and forcing of the catalogue, with the variables that the forcing has."""
    return PrepareConfig(state="moorings", forcing="era5")


@pytest.mark.parametrize("case", EXPECTED)
def test_a_case_is_prepared_right_or_refused_in_one_sentence(case, tmp_path, monkeypatch):
    monkeypatch.delenv("SEAICE_DATA", raising=False)
    monkeypatch.chdir(CASES / case)
    path = tmp_path / "out.zarr"
    if EXPECTED[case] == "right":
        prepare(settings(), path, show=False)
        check_truth(xr.open_zarr(path, consolidated=False).load())
        return
    with pytest.raises(InputError, match=EXPECTED[case]) as caught:
        prepare(settings(), path, show=False)
    assert "\n" not in str(caught.value)
    assert not path.exists()


@pytest.fixture(scope="session")
def base():
    """State and forcing of the base files, eight records in memory, without time encoding."""
    state = xr.open_dataset(BASE / "Moorings_2010m01.nc").isel(time=slice(8)).load()
    forcing = xr.open_dataset(BASE / "era5_2010m01.nc").isel(valid_time=slice(8)).load()
    for dataset in (state, forcing):
        for variable in dataset.variables.values():
            variable.encoding = {}
    return state, forcing


@pytest.fixture
def user(base, tmp_path, monkeypatch):
    """A function that assembles changed copies of the base files as a user's working folder.

    ``user(state=edit, forcing=edit)``: each edit maps the dataset to the one to be saved, or is a
    function of the path to write. Further keys change the entries of the catalogue.
    """

    def assembled(state=None, forcing=None, **entries):
        monkeypatch.delenv("SEAICE_DATA", raising=False)
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "data"
        shutil.rmtree(folder, ignore_errors=True)
        for name, dataset, edit in (("moorings", base[0], state), ("era5", base[1], forcing)):
            (folder / name).mkdir(parents=True)
            edited = dataset if edit is None else edit(dataset)
            edited.to_netcdf(folder / name / f"{name}.nc")
        write_catalogue(tmp_path, entries)
        return assemble(settings()).load()

    return assembled


def write_catalogue(folder, changes):
    """The catalogue of the cases with the paths of the fixture, changed by entry and key."""
    catalogue = yaml.safe_load((CASES / "time_axis/b06_noleap/data_catalog.yaml").read_text())
    catalogue["moorings"]["splits"] = {
        name: {"period": [f"2010-01-{day}"] * 2}
        for name, day in (("train", "01"), ("validation", "02"), ("test", "02"))
    }
    for name, entry in catalogue.items():
        entry["paths"] = [f"{name}/*"]
        entry.update(changes.get(name, {}))
    (folder / "data_catalog.yaml").write_text(yaml.safe_dump(catalogue))
