"""Axes of wind and drift: stated by attributes or by the entry, and turned to those of the grid."""

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, SIZE, change, wave_run, write_catalogue
from numpy.testing import assert_allclose as assert_close

from seaice_lab import grid
from seaice_lab.catalog import Entry
from seaice_lab.errors import InputError
from seaice_lab.surrogate.assemble import assemble
from seaice_lab.surrogate.settings import PrepareConfig
from seaice_lab.surrogate.sources import open_state, vector_axes

PAIR = ("u10", "v10")
NEARLY = dict(rtol=1e-6, atol=1e-6)
EAST = ({"standard_name": "eastward_wind"}, {"standard_name": "northward_wind"})
ALONG = ({"standard_name": "x_wind"}, {"standard_name": "y_wind"})
ROTATED = ({"standard_name": "grid_eastward_wind"}, {"standard_name": "grid_northward_wind"})
DRIFT = ({"standard_name": "sea_ice_x_velocity"}, {"standard_name": "sea_ice_y_velocity"})
EAST_DRIFT = ({"standard_name": "eastward_sea_ice_velocity"},
              {"standard_name": "northward_sea_ice_velocity"})  # fmt: skip
NONE = ({"units": "m s-1"}, {"long_name": "10 metre V wind component"})
LAMBERT = {"standard_name": "unknown", "GRIB_gridType": "lambert"}


def grib(flag, **attrs):
    return (LAMBERT | attrs | {"GRIB_uvRelativeToGrid": flag},) * 2


def axes(attributes, regular=False, form="nextsim", **settings):
    position = ("latitude", [80.0, 81.0]) if regular else (("y", "x"), np.full((2, 2), 80.0))
    raw = xr.Dataset({name: ((), 1.0, a) for name, a in zip(PAIR, attributes, strict=True)},
                     {"latitude": position})  # fmt: skip
    settings |= {"format": form, "name": "model", "vectors": settings.get("vectors")}
    return vector_axes(raw, Entry.model_validate(ENTRY | settings), PAIR)


@pytest.mark.parametrize(
    "attributes, expected",
    [(EAST, "geographic"), (ALONG, "grid"), (ROTATED, "grid"), (DRIFT, "grid"),
     (EAST_DRIFT, "geographic"), (grib(0), "geographic"), (grib(1), "grid")],
)  # fmt: skip
def test_the_attributes_say_which_axes_a_vector_has(attributes, expected):
    assert axes(attributes) == expected
    assert axes(attributes, vectors=expected) == expected
    other = {"grid": "geographic", "geographic": "grid"}[expected]
    with pytest.raises(InputError, match=f"are {expected} vectors by .* but {other} vectors by"):
        axes(attributes, vectors=other)


def test_without_attributes_the_entry_or_the_format_says_it():
    assert axes(NONE, vectors="grid") == "grid"
    assert axes(NONE, vectors="geographic") == "geographic"
    assert axes(NONE, form="era5") == "geographic"
    for form in ("nextsim", "nextsimdg"):
        with pytest.raises(InputError, match="nothing says whether u10 and v10 .* add `vectors: g"):
            axes(NONE, form=form)


def test_the_axes_of_a_regular_grid_are_east_and_north():
    assert axes(ALONG, regular=True) == "geographic"
    regular_ll = grib(1, GRIB_gridType="regular_ll", standard_name="eastward_wind")[0]
    assert axes((regular_ll, {}), regular=True) == "geographic"


def test_statements_that_contradict_each_other_are_refused_until_the_entry_decides():
    for mixed in ((EAST[0], ALONG[1]), (grib(1, standard_name="eastward_wind")[0], {})):
        with pytest.raises(InputError, match="contradict each other.*`vectors: grid`"):
            axes(mixed)
        assert axes(mixed, vectors="grid") == "grid"
    with pytest.raises(InputError, match="u10 is taken as the component towards x or east, but"):
        axes(EAST[::-1])


def write(waves, attributes, change_to=lambda d: d):
    """One run whose wind and drift of 3 and 4 m/s have these attributes."""
    run = wave_run()
    for name, value, attrs in zip(("u10", "v10"), (3.0, 4.0), attributes, strict=True):
        run[name] = (xr.full_like(run.u10, value).drop_attrs()).assign_attrs(attrs)
    run = run.assign(siu=run.u10 * 0.1, siv=run.v10 * 0.1)
    for name, attrs in zip(("siu", "siv"), attributes, strict=True):
        run[name].attrs = {"standard_name": attrs["standard_name"].replace("wind", "velocity")}
    for path in waves.glob("*.nc"):
        change_to(run).to_netcdf(path)
    names = {name: name for name in ("sit", "siu", "siv", "t2m", *PAIR)}
    entry = {k: v for k, v in ENTRY.items() if k != "vectors"} | {"variables": names}
    write_catalogue(waves.parents[1], {"waves": entry})
    return run


def test_drift_towards_east_and_north_is_turned_to_the_grid(waves):
    run = write(waves, EAST)
    state = open_state("waves", ("siu", "siv")).isel(time=0)
    expected = grid.rotate_to_grid(0.3, 0.4, run.latitude.values, run.longitude.values)
    assert_close(state.siu, expected[0], **NEARLY)
    assert_close(state.siv, expected[1], **NEARLY)
    # One component alone is turned with the help of the other.
    assert_close(open_state("waves", ("siv",)).siv[0], expected[1], **NEARLY)
    prepared = assemble(PrepareConfig(state="waves", variables=("sit", "siu"))).isel(time=[0])
    assert_close(prepared.u10[0], 10 * expected[0], **NEARLY)
    assert set(prepared.u10.attrs) == {"long_name", "units", "standard_name"}
    without_wind = PrepareConfig(state="waves", forcing_variables=("t2m", "v10"))
    assert_close(assemble(without_wind).v10[0], 10 * expected[1], **NEARLY)
    assert set(assemble(PrepareConfig(state="waves", forcing_variables=("t2m",)))) == {"sit", "t2m"}


def test_a_single_component_that_must_be_turned_is_refused(waves):
    write(waves, EAST)
    variables = {name: name for name in ("sit", "siu", "t2m", "u10")}
    write_catalogue(waves.parents[1], {"waves": ENTRY | {"vectors": None, "variables": variables}})
    with pytest.raises(InputError, match="siu must be turned to other axes, .* siu and siv"):
        open_state("waves", ("siu",))


def test_a_component_of_cf_is_turned_where_rows_run_towards_decreasing_y(waves):
    write(waves, ALONG, lambda run: run.isel(y=slice(None, None, -1)))
    state = open_state("waves", ("siu", "siv"))
    assert_close(state.siu, 0.3, **NEARLY)
    assert_close(state.siv, -0.4, **NEARLY)
    geographic = grid.rotate_to_geographic(0.3, -0.4, state.latitude.values, state.longitude.values)
    upright = grid.rotate_to_geographic(
        0.3, 0.4, state.latitude.values[::-1], state.longitude.values[::-1]
    )
    assert_close(geographic[1][::-1], upright[1], atol=1e-9)


def test_axes_are_told_by_coordinates_of_any_unit_or_refused(waves):
    def indices(run):
        return run.isel(y=slice(None, None, -1)).assign_coords(y=np.arange(SIZE)[::-1])

    write(waves, ALONG, lambda run: run.drop_vars(["x", "y"]).rename(x="b", y="a"))
    with pytest.raises(InputError, match="siu and siv are along .* nothing says which dimension"):
        open_state("waves", ("siu", "siv"))
    write(waves, ALONG, indices)
    assert_close(open_state("waves", ("siv",)).siv, -0.4, **NEARLY)


def test_files_with_vectors_of_different_axes_are_refused(waves):
    write(waves, ALONG)
    change(waves / "val_1.nc", lambda d: d.assign(
        siu=d.siu.assign_attrs(standard_name="eastward_sea_ice_velocity")))  # fmt: skip
    with pytest.raises(InputError, match="contradict each other"):
        open_state("waves", ("siu", "siv"))


def test_wind_along_the_axes_of_another_grid_is_turned_twice(waves):
    write(waves, ALONG)
    # The other grid is the same plane, turned by 90 degrees: its x axis is -y here, its y axis x.
    turned = wave_run().rename(x="y", y="x").transpose("time", "y", "x")
    turned = turned.isel(x=slice(None, None, -1)).drop_vars(["x", "y"])
    for name, value, attrs in zip(PAIR, (3.0, 4.0), ALONG, strict=True):
        turned[name] = (turned.u10.dims, np.full(turned.u10.shape, value, "f4"), attrs)
    (waves / "other").mkdir()
    for path in waves.glob("*.nc"):
        turned.to_netcdf(waves / "other" / path.name)
    names = {name: name for name in ("t2m", *PAIR)}
    entry = {k: v for k, v in ENTRY.items() if k != "vectors"}
    other = entry | {"paths": ["waves/other/*.nc"], "variables": names}
    state = entry | {"variables": {"sit": "sit"}}
    write_catalogue(waves.parents[1], {"waves": state, "other": other})
    prepared = assemble(PrepareConfig(state="waves", forcing="other")).isel(time=0)
    inner = dict(y=slice(1, SIZE - 1), x=slice(1, SIZE - 1))
    assert_close(prepared.u10.isel(inner), 4, atol=0.02)
    assert_close(prepared.v10.isel(inner), -3, atol=0.02)


def test_east_and_north_are_the_way_back():
    run = wave_run(times=1)
    positions = run.latitude.values, run.longitude.values
    back = grid.rotate_to_geographic(*grid.rotate_to_grid(3.0, 4.0, *positions), *positions)
    assert_close(back[0], 3, rtol=1e-12)
    assert_close(back[1], 4, rtol=1e-12)


def test_a_wind_that_no_file_holds_is_named(waves):
    for path in waves.glob("*.nc"):
        change(path, lambda d: d.drop_vars("t2m"))
    era5 = {"format": "era5", "variables": {name: name for name in ("t2m", *PAIR)}}
    entry = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "vectors")} | era5
    state = ENTRY | {"variables": {"sit": "sit"}}
    write_catalogue(waves.parents[1], {"waves": state, "wind": entry | {"paths": ["waves/v*.nc"]}})
    with pytest.raises(InputError, match=r"wind: none of its files holds t2m \(they hold u10, v10"):
        assemble(PrepareConfig(state="waves", forcing="wind"))
