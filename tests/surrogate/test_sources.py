"""Readers on excerpts of real files: one convention out of every format."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, write_catalogue

from seaice_lab.errors import InputError
from seaice_lab.surrogate.sources import open_forcing, open_state

REAL = Path(__file__).parents[1] / "data" / "real"
PLAIN = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "splits", "variables")}
WINDS = {"u10": "u10", "v10": "v10"}
ENTRIES = {
    "frame": {"format": "nextsim", "paths": ["nextsim_arctic*.nc"], "variables": {"sit": "sit"}},
    "dg": {"format": "nextsimdg", "paths": ["nextsimdg*.nc"], "separate_runs": True,
           "variables": {"sit": "sit", "sic": "sic", "t2m": "t2m", **WINDS}},
    "legacy": {"format": "era5", "paths": ["era5_legacy*.nc"], "variables": WINDS},
    "new": {"format": "era5", "paths": ["era5_new*.nc"], "variables": WINDS},
    "nsidc": {"format": "nsidc0051", "paths": ["nsidc*.nc"], "variables": {"sic": "siconc"}},
}  # fmt: skip


@pytest.fixture
def real(tmp_path, monkeypatch):
    """A catalogue of the excerpts, which are in the folder SEAICE_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEAICE_DATA", str(REAL))
    write_catalogue(tmp_path, {name: PLAIN | entry for name, entry in ENTRIES.items()})
    return tmp_path


def raw(name, **settings):
    return xr.open_dataset(REAL / name, **settings)


def test_the_nextsim_frame_has_its_mask_its_time_and_its_thickness(real):
    frame = open_state("frame")
    original = raw("nextsim_arctic_96x96_20150101.nc")
    assert frame.sit.dims == ("time", "y", "x")
    assert str(frame.time.values[0])[:16] == "2015-01-01T03:00"
    np.testing.assert_array_equal(frame.ocean, original.mask == 1)
    np.testing.assert_array_equal(frame.sit[0], original.sit)
    assert 0 < float(frame.sit.where(frame.ocean).mean()) < 5
    assert frame.sit.attrs["standard_name"] == "sea_ice_thickness"


def test_without_a_mask_the_first_record_says_where_the_sea_is(real, tmp_path, monkeypatch):
    frame = raw("nextsim_arctic_96x96_20150101.nc").load()
    ocean = frame.mask == 1
    frame.assign(sit=frame.sit.where(ocean)).drop_vars("mask").to_netcdf(tmp_path / "m.nc")
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path))
    write_catalogue(tmp_path, {"frame": PLAIN | ENTRIES["frame"] | {"paths": ["m.nc"]}})
    np.testing.assert_array_equal(open_state("frame").ocean, ocean)


def test_a_nextsimdg_run_gives_state_and_forcing_along_the_grid(real):
    state, forcing = open_state("dg", ("sit", "sic")), open_forcing("dg")
    original = raw("nextsimdg_train_r01.nc")
    assert set(state.run.values) == {"nextsimdg_train_r01"}
    assert forcing.u10.attrs["vectors"] == "grid"
    np.testing.assert_array_equal(forcing.u10, original.u10)
    np.testing.assert_array_equal(state.ocean, original.mask == 1)
    np.testing.assert_array_equal(state.x, original.x)


def test_legacy_era5_is_unpacked_and_its_latitude_ascends(real):
    forcing = open_forcing("legacy", ("u10", "v10"))
    original = raw("era5_legacy_nain.nc")
    assert np.all(np.diff(original.latitude) < 0)
    assert np.all(np.diff(forcing.latitude) > 0)
    np.testing.assert_allclose(forcing.u10, original.u10[:, ::-1])
    assert forcing.u10.attrs["vectors"] == "geographic"
    assert forcing.u10.attrs["units"] == "m s-1"
    assert np.abs(forcing.u10).max() < 40


def test_new_era5_has_its_valid_time_as_time_and_no_version_left(real):
    forcing = open_forcing("new", ("u10", "v10"))
    original = raw("era5_new_germany.nc")
    np.testing.assert_array_equal(forcing.time, original.valid_time)
    order = np.argsort(original.latitude.values)
    np.testing.assert_allclose(forcing.v10, original.v10[:, order])
    assert not {"expver", "number", "valid_time"} & set(forcing.variables)


def test_final_era5_values_win_over_preliminary_ones(real, tmp_path, monkeypatch):
    original = raw("era5_new_germany.nc").load().drop_vars(["expver", "number"])
    final = original.where(original.valid_time < original.valid_time[2])
    both = xr.concat([original + 100, final], dim=xr.Variable("expver", [5, 1]))
    both.u10.attrs = both.v10.attrs = {"units": "m s**-1"}
    both.to_netcdf(tmp_path / "mixed.nc")
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path))
    write_catalogue(tmp_path, {"new": PLAIN | ENTRIES["new"] | {"paths": ["mixed.nc"]}})
    winds = open_forcing("new", ("u10",)).u10.values
    order = np.argsort(original.latitude.values)
    expected = original.u10.values[:, order]
    np.testing.assert_allclose(winds[:2], expected[:2])
    np.testing.assert_allclose(winds[2:], expected[2:] + 100, rtol=1e-6)


def test_nsidc_flags_are_no_concentrations(real):
    state = open_state("nsidc", ("sic",))
    packed = raw("nsidc0051_daily_20170601.nc", mask_and_scale=False).siconc.values
    flagged = packed > 250
    assert flagged.any()
    assert np.isnan(state.sic.values[flagged]).all()
    np.testing.assert_allclose(state.sic.values[~flagged], packed[~flagged] * 0.004, atol=1e-6)
    np.testing.assert_array_equal(state.ocean, ~np.isin(packed[0], (253, 254)))


def test_opening_is_lazy(real):
    assert open_state("nsidc", ("sic",)).sic.chunks is not None
    assert open_forcing("legacy", ("u10",)).u10.chunks is not None


def test_forcing_is_not_taken_as_sea_ice_and_a_missing_variable_is_named(real):
    with pytest.raises(InputError, match="legacy: is forcing, not sea ice"):
        open_state("legacy", ("u10",))
    with pytest.raises(InputError, match=r"frame: holds no sic \(it has sit\)"):
        open_state("frame", ("sic",))
    with pytest.raises(InputError, match="unknown variable 'thickness'"):
        open_state("frame", ("thickness",))


def test_files_in_the_bundled_sample_are_complete_runs():
    folder = Path(__file__).parents[2] / "data" / "sample"
    names = sorted(path.name for path in folder.glob("*.nc"))
    assert len(names) == 7
    for name in names:
        with xr.open_dataset(folder / name) as run:
            assert run.sizes["time"] == 81
            ocean = run.mask.values == 1
            assert np.isfinite(run.sit.values[:, ocean]).all()
            assert run.attrs["license"].startswith("CC BY 4.0")


def test_a_file_cut_short_is_refused(real, tmp_path, monkeypatch):
    complete = REAL / "nextsimdg_train_r01.nc"
    shutil.copy(complete, tmp_path / "nextsimdg_cut.nc")
    with open(tmp_path / "nextsimdg_cut.nc", "r+b") as file:
        file.truncate(complete.stat().st_size // 2)
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path))
    with pytest.raises(InputError, match=r"nextsimdg_cut.nc: cannot be read .* cut short"):
        open_state("dg")
