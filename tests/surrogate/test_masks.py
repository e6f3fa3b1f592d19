"""The ocean mask: read by its meaning, compared with the ice, and refused where uncertain."""

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY

from seaice_lab.catalog import Entry
from seaice_lab.errors import InputError
from seaice_lab.flags import scaled
from seaice_lab.grid import project
from seaice_lab.land import on_land
from seaice_lab.surrogate.masks import ocean_mask, without_flags
from seaice_lab.surrogate.records import on_ocean

DIMS = ("time", "y", "x")
SEA = np.ones((6, 8), bool)
SEA[0] = SEA[2:4, 5] = False
ROMS = {"long_name": "land mask", "option_0": "land", "option_1": "water"}
FLAGS = {"flag_values": [0, 1, 2], "flag_meanings": "open_water land lake"}


def ice(land=np.nan, count=10):
    """Thickness that grows; ``land`` is its value on land."""
    values = np.where(SEA, 1.0, land) * np.linspace(1, 2, count)[:, None, None]
    return xr.DataArray(values, dims=DIMS, attrs={"units": "m"})


def dataset(sit=None, **others):
    sit = ice() if sit is None else sit
    others = {
        name: v if isinstance(v, (tuple, xr.DataArray)) else (("y", "x"), v)
        for name, v in others.items()
    }
    times = np.datetime64("2010-01-01", "ns") + np.arange(len(sit)) * np.timedelta64(6, "h")
    return xr.Dataset({"sit": sit, **others}, {"time": times})


def mask_of(raw, variables=("sit",), **settings):
    names = {name: name for name in ("sit", "siu") if name in raw}
    entry = Entry.model_validate(ENTRY | {"variables": names, "name": "model"} | settings)
    return ocean_mask(raw, entry, raw[list(variables)].chunk())


def grid_of(values, attrs=None):
    return (("y", "x"), np.asarray(values), attrs or {})


MEANINGS = {
    "1 is ocean by its description": grid_of(SEA, {"long_name": "1 = ocean, 0 = land"}),
    "1 is land by its description": grid_of(~SEA, {"comment": "ocean (0), land (1)"}),
    "ROMS options": grid_of(SEA, ROMS),
    "flag meanings": grid_of(np.where(SEA, 0, 2), FLAGS),
    "flag meanings with a negation": grid_of(
        np.where(SEA, 1, 2), {"flag_values": [1, 2], "flag_meanings": "ocean not_ocean"}),
    "flag meanings of ice": grid_of(np.where(SEA, np.arange(8) % 2, 2), {
        "flag_values": [0, 1, 2], "flag_meanings": "no_sea_ice sea_ice land"}),
    "flag meanings of two words": grid_of(
        np.where(SEA, 0, 1), {"flag_values": [0, 1], "flag_meanings": "Open water, Dry land"}),
    "a bit that is land beside other bits": grid_of(np.where(SEA, 4, 1 + np.arange(8) % 2 * 4), {
        "flag_masks": [1, 2, 4], "flag_meanings": "land lake land_spill_over_corrected"}),
    "bits with values": grid_of(np.where(SEA, 1, 2) + 8, {
        "flag_masks": [3, 3, 8], "flag_values": [1, 2, 8], "flag_meanings": "sea land quality"}),
    "land_binary_mask": grid_of(~SEA, {"standard_name": "land_binary_mask"}),
    "percent of sea": grid_of(SEA * 100.0, {"standard_name": "sea_area_fraction", "units": "%"}),
    "fraction of land": grid_of(np.where(SEA, 0.3, 0.8), {"standard_name": "land_area_fraction"}),
    "no attributes, 1 is ocean": grid_of(SEA.astype("int8")),
    "no attributes, 1 is land": grid_of((~SEA).astype("int8")),
    "1 in the sea, missing on land": grid_of(np.where(SEA, 1, np.nan)),
    "1 on land, missing in the sea": grid_of(np.where(SEA, np.nan, 1)),
    "transposed": (("x", "y"), SEA.T, {"long_name": "0: land, 1: sea"}),
    "along time": (DIMS, np.repeat(SEA[None], 10, axis=0).astype("f4"), {}),
}  # fmt: skip


@pytest.mark.parametrize("land", [np.nan, 0.0])
@pytest.mark.parametrize("name", ["mask", "lsm"])
@pytest.mark.parametrize("meaning", MEANINGS)
def test_a_mask_is_read_by_its_meaning(meaning, name, land):
    ocean = mask_of(dataset(ice(land), **{name: MEANINGS[meaning]}), variables=("sit",))
    np.testing.assert_array_equal(ocean, SEA)
    assert ocean.attrs["comment"] == f"variable {name}"


@pytest.mark.parametrize("name", ["tmask", "landmask", "ocean_mask", "sftof", "wet"])
def test_a_mask_without_attributes_is_found_by_the_usual_names(name):
    np.testing.assert_array_equal(mask_of(dataset(ice(0), **{name: SEA.astype("i1")})), SEA)


def test_drift_on_land_does_not_hide_where_the_ice_is():
    raw = dataset(ice(0), siu=ice(0.1), mask=SEA.astype("i1"))
    np.testing.assert_array_equal(mask_of(raw, ("sit", "siu")), SEA)


def test_levels_of_the_ocean_are_a_mask():
    levels = np.where(SEA, np.arange(8) + 1, 0)
    np.testing.assert_array_equal(mask_of(dataset(ice(0), kmt=levels)), SEA)


moving = np.repeat(SEA[None], 10, axis=0).astype("i1")
moving[7, 4, 4] = 0
UNCERTAIN = {
    "a mask that changes": (dict(mask=(DIMS, moving)), "mask changes with time; supply one"),
    "numbers without meaning": (
        dict(mask=SEA * 3), r"has the values 0, 3, and nothing says .* `mask: {variable: mask"),
    "ice everywhere": (
        dict(sit=ice(1.0), mask=SEA.astype("i1")), "nothing says whether 1 is sea .* on both"),
    "no ice at all": (
        dict(sit=0 * ice(0), mask=SEA.astype("i1")), "nothing says .* no ice shows it; say it in"),
    "attributes against the ice": (
        dict(sit=ice(0), mask=grid_of(SEA, {"comment": "1 = land"})), "ice of sit is on land by"),
    "two masks that differ": (
        dict(mask=SEA.astype("i1"), wet=grid_of(SEA & (np.arange(8) > 0), {"comment": "1 = sea"})),
        "the masks mask and wet differ in 5 cells"),
    "0 and 1 under a name that means nothing": (
        dict(sit=ice(0), field_7=SEA.astype("i1")), "its variable field_7 may be the mask, since"),
    "levels": (dict(tmask=(("z", "y", "x"), np.stack([SEA, SEA]))), "dimension z of 2; supply"),
    "no sea": (dict(mask=grid_of(0 * SEA, {"comment": "1 = sea"}), sit=0 * ice()), "no cell is"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNCERTAIN)
def test_an_uncertain_mask_is_refused(case):
    content, message = UNCERTAIN[case]
    with pytest.raises(InputError, match=message):
        mask_of(dataset(**content))


def test_the_entry_decides_what_the_files_do_not_say():
    raw = dataset(ice(0), regions=np.where(SEA, np.arange(8) % 2 + 3, 0))
    rule = {"variable": "regions", "ocean": [3, 4]}
    np.testing.assert_array_equal(mask_of(raw, mask=rule), SEA)
    with pytest.raises(InputError, match="no variable lsm, which is the mask by the entry"):
        mask_of(raw, mask={"variable": "lsm", "ocean": 0})
    raw = dataset(ice(1.0), mask=(~SEA).astype("i1"))
    np.testing.assert_array_equal(mask_of(raw, mask={"variable": "mask", "ocean": 0}), SEA)


def positions(order=slice(None), shift=0.0):
    """Positions of the test grid as a dataset, in any order of its rows."""
    rows, columns = np.meshgrid(np.arange(6), np.arange(8), indexing="ij")
    latitude = (("y", "x"), (70 + rows * 0.5 + shift)[order], {"units": "degrees_north"})
    return {"latitude": latitude, "longitude": (("y", "x"), columns * 1.5 + 0.2 * rows)}


def test_a_mask_in_another_file_is_read_at_the_cells_of_the_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("SEAICE_DATA", str(tmp_path))
    raw = dataset(ice(0)).assign_coords(positions())
    reversed_rows = {"nav_lev": [0, 50], **positions(slice(None, None, -1))}
    values = np.stack([SEA[::-1], 0 * SEA]).astype("i1")
    path = tmp_path / "mesh.nc"
    file = xr.Dataset({"tmask": (("nav_lev", "y", "x"), values)}, reversed_rows)
    file["longitude"] = file.longitude[::-1]
    file.to_netcdf(path)
    rule = {"variable": "tmask", "file": "mesh.nc", "select": {"nav_lev": 0}}
    ocean = mask_of(raw, mask=rule)
    np.testing.assert_array_equal(ocean, SEA)
    assert ocean.attrs["comment"] == "variable tmask of mesh.nc"
    with pytest.raises(InputError, match=r"mesh.nc, mask tmask: is on another grid than model"):
        mask_of(raw.assign_coords(positions(shift=0.2)), mask=rule)
    with pytest.raises(InputError, match=r"mesh.nc: tmask has the further dimension 'nav_lev'"):
        mask_of(raw, mask=rule | {"select": {}})
    with pytest.raises(InputError, match=r"mesh.nc: has no variable lsm, .*\(it has tmask\)"):
        mask_of(raw, mask=rule | {"variable": "lsm", "select": {}})
    with pytest.raises(InputError, match=r"no file matches nowhere.nc"):
        mask_of(raw, mask=rule | {"file": "nowhere.nc"})


def test_missing_values_that_mean_no_ice_need_a_mask():
    with pytest.raises(InputError, match="model: has no mask, so a missing value may be land or"):
        mask_of(dataset(), missing_is_no_ice=True)


def test_without_a_mask_all_records_of_what_is_asked_for_decide():
    drift = ice().where(ice() > 1.5)
    raw = dataset(siu=drift)
    ocean = mask_of(raw)
    np.testing.assert_array_equal(ocean, SEA)
    assert ocean.attrs["comment"] == "cells where sit has a value"
    np.testing.assert_array_equal(mask_of(raw, ("siu",)), SEA)


def test_zeros_on_the_land_of_the_earth_need_a_mask():
    greenland = (
        np.linspace(84, 66, 6)[:, None] + np.zeros(8),
        np.linspace(-70, 10, 8) * np.ones((6, 1)),
    )
    places = dict(zip(("latitude", "longitude"), map(grid_of, greenland), strict=True))
    land = on_land(*project(*(values for _, values, _ in places.values())))
    assert 10 < land.sum() < 30
    filled = ice(land=1).where(~xr.DataArray(land, dims=("y", "x")), 0)
    with pytest.raises(InputError, match=rf"are 0 in {land.sum()} cells that are land"):
        mask_of(dataset(filled).assign_coords(places))
    # Ice everywhere, or nowhere, does not tell land.
    for sit in (ice(land=1), 0 * ice(land=1)):
        assert mask_of(dataset(sit).assign_coords(places)).all()


def read(sit, ocean=None, **attrs):
    raw = dataset(sit.assign_attrs(attrs))
    ocean = mask_of(raw) if ocean is None else ocean
    return on_ocean(raw.sit.chunk(time=3), ocean, "model").compute()


def test_values_that_come_and_go_are_refused_with_the_time_and_the_cells():
    np.testing.assert_array_equal(read(ice()), ice())
    growing = ice()
    growing[0, 1] = np.nan
    with pytest.raises(InputError, match=r"sit at 2010-01-01T00:00 has values in 30 cells, .* 38 "):
        read(growing)
    # A record that is not among those that the mask was taken from.
    later = ice(count=50)
    later[20, 0, 0] = 1.0
    with pytest.raises(InputError, match=r"at 2010-01-06T00:00 has values in 39 .* no ice"):
        read(later)


@pytest.mark.parametrize("record", [0, 5])
def test_a_record_without_values_is_named(record):
    empty = ice()
    empty[record] = np.nan
    with pytest.raises(InputError, match=rf"sit at 2010-01-0{1 + record // 4}T.* has no value in"):
        read(empty)


def test_a_hole_at_the_pole_is_named_by_its_flag():
    attrs = {"flag_values": [251, 253, 254], "flag_meanings": "pole_hole, coast, land"}
    packed = np.where(SEA, 100, 254) * np.ones((10, 1, 1))
    hole = packed.copy()
    hole[:, 4, 4] = 251
    entry = Entry.model_validate(ENTRY | {"variables": {"sic": "sic"}, "name": "nsidc"})
    for values in (packed, hole):
        raw = dataset(sic=(DIMS, values * 0.01, attrs))
        raw.sic.attrs = scaled(raw.sic.attrs, 0.01, 0)
        fields = xr.Dataset({"sic": without_flags(raw.sic, entry)}).chunk()
        ocean = ocean_mask(raw, entry, fields)
        np.testing.assert_array_equal(ocean, SEA)
        if values is packed:
            np.testing.assert_allclose(on_ocean(fields.sic, ocean, "nsidc").max(), 1)
    with pytest.raises(InputError, match=r"sic at .* has 1 NaN in ocean .* file: pole_hole\); fil"):
        on_ocean(fields.sic, ocean, "nsidc").compute()
