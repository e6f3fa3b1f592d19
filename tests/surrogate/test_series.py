"""Files and records of one series that do not fit together: right, or refused by name."""

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, change, write_catalogue
from test_regrid import polar_grid

from seaice_lab import positions
from seaice_lab.errors import InputError
from seaice_lab.grid import great_circle_km
from seaice_lab.surrogate.records import check_field, check_zero_records
from seaice_lab.surrogate.regrid import fill_positions
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.sources import open_state

CONFIG = PrepareConfig(state="model", forcing="era5")


def moved(**changes):
    """A polar grid with other positions: each value is a function of the old ones."""
    grid = polar_grid()
    return grid.assign_coords({name: change(grid[name]) for name, change in changes.items()})


@pytest.mark.parametrize(
    "same",
    [moved(latitude=lambda v: v.astype("f4"), longitude=lambda v: v.astype("f4")),
     moved(longitude=lambda v: v % 360), moved(latitude=lambda v: v.round(2)),
     moved(latitude=lambda v: v.where(v > 75))],
)  # fmt: skip
def test_positions_may_be_rounded_or_missing(same):
    positions.check_same(same, polar_grid(), "b.nc", "a.nc")


@pytest.mark.parametrize(
    "other",
    [moved(latitude=lambda v: v[::-1], longitude=lambda v: v[::-1]),
     moved(longitude=lambda v: v + 1.0), moved(latitude=lambda v: v - 0.2)],
)  # fmt: skip
def test_another_grid_is_refused_with_the_file_and_a_cell(other):
    with pytest.raises(InputError, match=r"b.nc: is on another grid than a.nc: the cell in row"):
        positions.check_same(other, polar_grid(), "b.nc", "a.nc")


def test_a_file_with_another_mask_or_other_positions_is_named(waves, tmp_path):
    plain = {k: v for k, v in ENTRY.items() if k not in ("splits", "variables")}
    entry = plain | {"variables": {"sit": "sit"}}
    write_catalogue(tmp_path, {"waves": entry})
    change(waves / "val_1.nc", lambda d: d.assign(mask=d.mask.where(d.x < 3e5, 0)))
    with pytest.raises(InputError, match=r"val_1.nc: its mask mask is not that of the first file"):
        open_state("waves")
    change(waves / "val_1.nc", lambda d: d.assign_coords(latitude=d.latitude + 0.1))
    with pytest.raises(InputError, match=r"val_1.nc: is on another grid than .*test_1.nc"):
        open_state("waves")


@pytest.mark.parametrize("nothing", [np.nan, 0.0])
def test_land_without_positions_gets_those_of_its_neighbourhood(nothing):
    grid = polar_grid(centre=(3e5, 2e5))
    land = np.zeros(grid.ocean.shape, bool)
    land[:3, :] = land[5:9, 4:12] = True
    holes = grid.assign_coords(
        latitude=grid.latitude.where(~land, nothing),
        longitude=grid.longitude.where(~land, nothing),
        ocean=grid.ocean & ~land,
    )
    filled = fill_positions(holes, "model")
    assert (filled.latitude.values == grid.latitude.values)[~land].all()
    axes = [source[axis].values for source in (filled, grid) for axis in ("latitude", "longitude")]
    assert great_circle_km(*axes).max() < 25  # a cell measures 150 km
    with pytest.raises(InputError, match="80 cells have no latitude and longitude but are sea"):
        fill_positions(holes.assign_coords(ocean=grid.ocean.variable), "model")


def records(values, hours=6, name="sit"):
    """Records of one value each, on a grid of 5 x 6 cells with a row of land."""
    field = np.asarray(values, "f4")[:, None, None] * np.ones((1, 5, 6), "f4")
    ocean = np.ones((5, 6), bool)
    ocean[0] = False
    times = np.datetime64("2010-01-01", "ns") + np.arange(len(values)) * np.timedelta64(hours, "h")
    return xr.Dataset(
        {name: (("time", "y", "x"), field)},
        {"time": times, "ocean": (("y", "x"), ocean), "segment": ("time", 0 * field[:, 0, 0])},
    )


ZEROS = {
    "in the middle": records([1, 1, 0, 1, 1]),
    "two of them": records([1, 1, 0, 0, 1]),
    "to the end": records([1, 1, 0, 0, 0]),
    "wind": records([3, 3, 0, -2, 3], name="u10"),
    "daily concentration": records([0.9, 0.8, 0, 0.8], hours=24, name="sic"),
}


@pytest.mark.parametrize("case", ZEROS)
def test_a_record_of_zeros_between_full_ones_is_refused(case):
    source = ZEROS[case].chunk(time=2)
    with pytest.raises(InputError, match=r"2010-01-0\dT.* is 0 in all 24 ocean cells, but not 0 i"):
        # Neighbours may be in other blocks.
        for first in range(0, source.sizes["time"], 2):
            block = source.isel(time=slice(first, first + 2)).load()
            check_zero_records(block, source, first, CONFIG)


@pytest.mark.parametrize(
    "source",
    [records([0, 0, 0, 0]), records([0, 1, 1, 1]), records([0, 0.1, 0.2], name="siu"),
     records([1, 1, 0, 0], hours=720), records([1, 0, 0, 2], name="damage"),
     records([1, 0, 1]).assign_coords(segment=("time", [0, 1, 2]))],
)  # fmt: skip
def test_a_sea_that_is_or_becomes_free_of_ice_is_right(source):
    check_zero_records(source, source, 0, CONFIG)


def test_a_record_of_the_forcing_without_values_is_named():
    source = records([250, np.nan, 250], name="t2m")
    with pytest.raises(InputError, match="era5: t2m at 2010-01-01T06:00 has no value in the ocean"):
        check_field(source.t2m, source.ocean.values, CONFIG)
