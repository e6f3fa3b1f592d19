"""Observations are read by meaning from files of the documented layouts.

No real file of these products was available. The tests write small files with the variables,
dimensions, packing, units and attributes of the products' documentation.
"""

import numpy as np
import pytest
import xarray as xr
from small_tables import NOON, table_of

from seaice_lab import grid
from seaice_lab.assimilation import commands as assimilation_commands
from seaice_lab.assimilation.observation_files import (
    REJECTED,
    read_observations,
    thickness_of_freeboard,
)
from seaice_lab.assimilation.observations import counts, read_table, write_table
from seaice_lab.assimilation.settings import ObservationFilesConfig
from seaice_lab.errors import InputError

EPOCH, SINCE = np.datetime64("1978-01-01", "s"), "seconds since 1978-01-01 00:00:00"
PACKED = {"dtype": "int32", "scale_factor": 1e-3, "_FillValue": -2147483647}
START = np.datetime64("2021-03-01", "s")
DAY_S = 86400
X, Y = np.arange(-2, 3) * 25.0 - 600, np.arange(-1, 3) * 25.0  # km
LATITUDE, LONGITUDE = grid.unproject(*np.meshgrid(X * 1e3, Y * 1e3))
SHAPE = (1, *LATITUDE.shape)


def seconds(time):
    return (np.asarray(time, "M8[s]") - EPOCH).astype(float)


def gridded(fields, days):
    """A map of `days` days from 1 March 2021 with fields of (values, attributes)."""
    time, y, x = dims = ("time", "yc", "xc")
    bounds = seconds(START) + np.array([[0, days * DAY_S]])
    variables = {name: (dims, values, attrs) for name, (values, attrs) in fields.items()}
    variables["time_bnds"] = ((time, "nv"), bounds)
    attrs = {"standard_name": "time", "units": SINCE, "bounds": "time_bnds"}
    coords = {
        time: (time, bounds.mean(1), attrs),
        y: (y, Y, {"units": "km", "standard_name": "projection_y_coordinate"}),
        x: (x, X, {"units": "km", "standard_name": "projection_x_coordinate"}),
        "lat": ((y, x), LATITUDE, {"standard_name": "latitude", "units": "degrees_north"}),
        "lon": ((y, x), LONGITUDE, {"standard_name": "longitude", "units": "degrees_east"}),
    }
    return xr.Dataset(variables, coords)


def cs2smos(old=False):
    """A weekly map, with two missing cells; SMOS has no value in one row, CryoSat-2 in another."""
    thickness = 1 + (np.arange(20.0) / 10).reshape(SHAPE)
    thickness[0, 0, :2] = np.nan
    cryosat, smos = np.full(SHAPE, 0.3), np.full(SHAPE, 0.4)
    cryosat[0, 1], smos[0, 2] = np.nan, np.nan
    metres, name = {"units": "m"}, "thickness" if old else "sea_ice_thickness"
    fields = {
        f"analysis_{'ice_' if old else 'sea_ice_'}thickness": (thickness, metres),
        f"analysis_{name}_unc": (np.full(SHAPE, 0.25), metres),
        "sea_ice_concentration": (np.full(SHAPE, 90.0), {"units": "%"}),
        "correlation_length_scale": (np.full(SHAPE, 75e3), metres),
    }
    if not old:
        fields |= {
            "weighted_mean_sea_ice_thickness": (thickness + 0.5, metres),
            "cryosat_sea_ice_thickness_uncertainty": (cryosat, metres),
            "smos_sea_ice_thickness_uncertainty": (smos, metres),
        }
    return gridded(fields, 7)


def osisaf(error="total_standard_uncertainty"):
    """A daily map of concentration in percent with flags: one cell is land, one interpolated."""
    status = np.zeros(SHAPE, "int8")
    status[0, 0, 0], status[0, 0, 1], status[0, 0, 2] = 1, 32, 4
    bits = {"flag_masks": np.array([1, 4, 8, 32], "int8")}
    bits["flag_meanings"] = "land open_water_filter land_spill_over spatial_interp"
    raw = np.full(SHAPE, np.nan)
    raw[0, 1] = 104.0
    percent = {"units": "%", "standard_name": "sea_ice_area_fraction"}
    fields = {
        "ice_conc": (np.full(SHAPE, 100.0), percent),
        error: (np.full(SHAPE, 5.0), {"units": "%"}),
        "raw_ice_conc_values": (raw, {"units": "%"}),
        "status_flag": (status, bits),
    }
    return gridded(fields, 1)


def track(count=6):
    """CryoSat-2 along track (L2P): everything along time, one value missing."""
    thickness = np.linspace(-0.2, 3, count)
    thickness[2] = np.nan
    metres = {"units": "m"}
    return xr.Dataset(
        {
            "sea_ice_thickness": ("time", thickness, metres),
            "sea_ice_thickness_uncertainty": ("time", np.full(count, 0.6), metres),
            "radar_freeboard": ("time", np.full(count, 0.2), metres),
            "radar_freeboard_uncertainty": ("time", np.full(count, 0.05), metres),
            "snow_depth": ("time", np.full(count, 0.2), metres),
            "snow_depth_uncertainty": ("time", np.full(count, 0.06), metres),
            "latitude": ("time", 80 + 0.1 * np.arange(count), {"units": "degrees_north"}),
            "longitude": ("time", np.full(count, -150.0), {"units": "degrees_east"}),
        },
        {"time": ("time", seconds(START) + 7.05 * np.arange(count), {"units": SINCE})},
    )


def write(dataset, tmp_path, name="file.nc", **encoding):
    dataset.to_netcdf(tmp_path / name, encoding=encoding)
    return [tmp_path / name]


def test_cs2smos_is_a_weekly_mean_with_the_errors_of_its_sensors(tmp_path):
    dataset = cs2smos()
    packed = dict.fromkeys(dataset.data_vars.keys() - {"time_bnds"}, PACKED)
    table = read_observations(write(dataset, tmp_path, **packed))
    assert table.sizes["observation"] == 18 and (table.kind == "sit_of_ice").all()
    assert (table.time_end - table.time_start == np.timedelta64(7, "D")).all()
    assert (table.time == np.datetime64("2021-03-04T12")).all()
    expected = dataset.weighted_mean_sea_ice_thickness.values.ravel()
    np.testing.assert_allclose(table.value, expected[np.isfinite(expected)], atol=6e-4)
    both = 1 / np.sqrt(1 / 0.3**2 + 1 / 0.4**2)
    np.testing.assert_allclose(table.sigma, [both] * 3 + [0.4] * 5 + [0.3] * 5 + [both] * 5)
    np.testing.assert_allclose(table.latitude, LATITUDE.ravel()[2:])
    assert (table.correlation_length == 75e3).all() and np.allclose(table.concentration, 0.9)


@pytest.mark.parametrize("old", [False, True])
def test_the_analysis_is_read_if_asked_for_or_in_files_of_older_names(tmp_path, old):
    name = None if old else "analysis_sea_ice_thickness"
    paths = write(cs2smos(old), tmp_path)
    table = read_observations(paths, ObservationFilesConfig(variable=name, kind="sit"))
    assert (table.sigma == 0.25).all() and (table.kind == "sit").all()
    smooth = read_observations(paths, ObservationFilesConfig(smoothing_km=75))
    assert (smooth.smoothing == 75e3).all() and (table.smoothing == 0).all()


def test_the_order_of_dimensions_and_the_unit_do_not_matter(tmp_path):
    expected = read_observations(write(cs2smos(), tmp_path))
    dataset = cs2smos().transpose("xc", "yc", "time", "nv")
    for name in [name for name in dataset if name.endswith("thickness") or "uncert" in name]:
        dataset[name] = (dataset[name] * 100).assign_attrs(units="cm")
    table = read_observations(write(dataset, tmp_path, "turned.nc"))
    order = [np.lexsort((t.longitude, t.latitude)) for t in (expected, table)]
    for name in ("latitude", "longitude", "value", "sigma", "concentration"):
        np.testing.assert_allclose(table[name][order[1]], expected[name][order[0]])


def test_positions_come_from_the_projection_where_a_file_lacks_them(tmp_path):
    dataset = osisaf().drop_vars(["lat", "lon"]).assign(crs=((), 0, grid_mapping()))
    table = read_observations(write(dataset, tmp_path))
    np.testing.assert_allclose(table.latitude, LATITUDE.ravel(), atol=1e-6)


def grid_mapping():
    from pyproj import CRS

    return CRS("EPSG:3413").to_cf()


@pytest.mark.parametrize(
    "error", ["total_standard_uncertainty", "total_standard_error", "total_uncertainty"]
)
def test_osisaf_is_a_daily_mean_whose_flags_reject_what_is_no_observation(tmp_path, error):
    table = read_observations(write(osisaf(error), tmp_path))
    assert counts(table) == {"used": 18, "rejected_by_its_source": 2}
    assert (table.value == 1).all() and (table.sigma == 0.05).all() and (table.kind == "sic").all()
    assert (table.time_end - table.time_start == np.timedelta64(1, "D")).all()


def test_raw_concentrations_may_exceed_one(tmp_path):
    config = ObservationFilesConfig(variable="raw_ice_conc_values")
    table = read_observations(write(osisaf(), tmp_path), config)
    assert np.allclose(table.value, [1.0] * 5 + [1.04] * 5 + [1.0] * 10)


def amsr2():
    """The daily ASI map: no time, no uncertainty, positions from the projection."""
    attrs = {"standard_name": "sea_ice_area_fraction", "units": "percent"}
    attrs["grid_mapping"] = "polar_stereographic"
    fields = {"z": (("y", "x"), np.full(SHAPE[1:], 80.0), attrs)}
    axis = {"units": "m"}
    fields["polar_stereographic"] = ((), 0, grid_mapping())
    coords = {
        "x": ("x", X * 1e3, axis | {"standard_name": "projection_x_coordinate"}),
        "y": ("y", Y * 1e3, axis | {"standard_name": "projection_y_coordinate"}),
    }
    return xr.Dataset(fields, coords)


def test_amsr2_needs_the_error_and_the_day_that_its_file_lacks(tmp_path):
    paths = write(amsr2(), tmp_path)
    with pytest.raises(InputError, match="has no errors of z.*setting sigma"):
        read_observations(paths)
    with pytest.raises(InputError, match="no time coordinate of z"):
        read_observations(paths, ObservationFilesConfig(sigma=0.1))
    with pytest.raises(InputError, match="setting period_h"):
        read_observations(paths, ObservationFilesConfig(sigma=0.1, time="2021-03-01T12"))
    table = read_observations(
        paths, ObservationFilesConfig(sigma=0.1, time="2021-03-01T12", period_h=24)
    )
    assert (table.value == 0.8).all() and (table.sigma == 0.1).all()
    assert (table.time_start == START).all() and (table.time == NOON).all()
    with pytest.raises(InputError, match="kind is sit, expected sic, because the file holds sic"):
        read_observations(paths, ObservationFilesConfig(kind="sit"))


def test_a_track_has_a_time_for_each_value(tmp_path):
    table = read_observations(write(track(), tmp_path))
    assert table.value.values.tolist() == pytest.approx([-0.2, 0.44, 1.72, 2.36, 3])
    assert (table.sigma == 0.6).all() and (table.time_end == table.time_start).all()
    assert (table.source == "thickness").all()  # SMOS has the same variables
    seconds_after = (table.time.values - START) / np.timedelta64(1, "s")
    np.testing.assert_allclose(seconds_after, 7.05 * np.array([0, 1, 3, 4, 5]), atol=1e-3)


def test_freeboard_becomes_thickness_by_the_formula_of_floating_ice(tmp_path):
    config = ObservationFilesConfig(ice_density=900, snow_density=320)
    # Ice of 2 m with 0.2 m of snow floats with a freeboard f: 1024 (2 - f) = 900 2 + 320 0.2.
    freeboard = 2 - (900 * 2 + 320 * 0.2) / 1024
    snow, none = (0.2, 0.0), 0.0
    laser, _ = thickness_of_freeboard((freeboard + 0.2, none), snow, config, True)
    slowing = (1 + 0.51 * 0.32) ** 1.5 - 1
    radar, _ = thickness_of_freeboard((freeboard - 0.2 * slowing, none), snow, config, False)
    assert laser == pytest.approx(2) and radar == pytest.approx(2)
    step = 1e-6
    moved, _ = thickness_of_freeboard((freeboard + 0.2, none), (0.2 + step, none), config, True)
    _, sigma = thickness_of_freeboard((freeboard + 0.2, none), (0.2, 0.1), config, True)
    denser = ObservationFilesConfig(ice_density=900 + 1e-3, snow_density=320)
    changed, _ = thickness_of_freeboard((freeboard + 0.2, none), snow, denser, True)
    errors = 0.1 * (moved - laser) / step, 20 * (changed - laser) / 1e-3
    assert sigma == pytest.approx(np.hypot(*errors), rel=1e-4)
    table = read_observations(
        write(track(), tmp_path), ObservationFilesConfig(variable="radar_freeboard")
    )
    assert table.sizes["observation"] == 6 and (table.sigma > 0.4).all()


def test_the_beams_of_icesat2_are_read_together_and_need_snow(tmp_path):
    path = tmp_path / "ATL10.h5"
    xr.Dataset(attrs={"short_name": "ATL10"}).to_netcdf(path)
    epoch = {"units": "seconds since 2018-01-01"}
    for beam in ("gt1l", "gt3r"):
        segments = xr.Dataset(
            {
                "beam_fb_height": ("delta_time", [0.3, np.nan, 0.4], {"units": "meters"}),
                "beam_fb_unc": ("delta_time", [0.05] * 3, {"units": "meters"}),
                "latitude": ("delta_time", [80.0, 80.1, 80.2], {"units": "degrees_north"}),
                "longitude": ("delta_time", [10.0] * 3, {"units": "degrees_east"}),
            },
            {"delta_time": ("delta_time", 1e8 + np.arange(3.0), epoch)},
        )
        segments.to_netcdf(path, group=f"{beam}/freeboard_segment", mode="a")
    with pytest.raises(InputError, match="no snow thickness.*snow_m"):
        read_observations([path])
    table = read_observations([path], ObservationFilesConfig(snow_m=0.2))
    assert table.sizes["observation"] == 4 and (table.kind == "sit_of_ice").all()
    expected = (1024 * 0.3 - (1024 - 320) * 0.2) / (1024 - 900)
    assert table.value.values[0] == pytest.approx(expected)
    assert table.time.values[0] == np.datetime64("2018-01-01") + np.timedelta64(100_000_000, "s")


def test_tables_and_products_are_read_together(tmp_path):
    write_table(table_of(), tmp_path / "table.nc")
    table = read_observations([tmp_path / "table.nc", *write(osisaf(), tmp_path)])
    assert set(table.source.values) == {"test", "osisaf"}


@pytest.mark.parametrize(
    "edit, message",
    [
        (lambda d: d.drop_vars("total_standard_uncertainty"), "has no errors of ice_conc"),
        (
            lambda d: d.drop_vars(["ice_conc", "raw_ice_conc_values"]),
            "no variable of a known product",
        ),
        (lambda d: d.assign(ice_conc=d.ice_conc.assign_attrs(units="m")), "units 'm'"),
        (lambda d: d.assign(ice_conc=d.ice_conc.drop_attrs()), "check the units"),
        (lambda d: d.assign(ice_conc=d.ice_conc.where(False)), "none of 0 observations"),
        (lambda d: d.isel(time=slice(0, 0)), "all values are missing"),
        (
            lambda d: d.assign(total_standard_uncertainty=d.ice_conc * 0),
            "18 value or error missing",
        ),
        (lambda d: d.expand_dims(level=2), "further dimension level"),
        (lambda d: d.drop_vars("time_bnds"), "does not say of which period"),
        (lambda d: d.drop_vars(["lat", "lon"]), "no latitude and longitude"),
        (lambda d: d.assign_coords(lat=d.lat * 10), "no latitude in degrees"),
    ],
)
def test_what_is_not_certain_is_refused_in_a_sentence(tmp_path, edit, message):
    with pytest.raises(InputError, match=message):
        read_observations(write(edit(osisaf()), tmp_path))


def test_settings_do_not_replace_the_errors_and_times_of_a_file(tmp_path):
    dataset = osisaf()
    dataset.total_standard_uncertainty[0, 3, :2] = np.nan
    paths = write(dataset, tmp_path)
    table = read_observations(paths, ObservationFilesConfig(sigma=0.5))
    assert counts(table)["value_or_error_missing"] == 2
    with pytest.raises(InputError, match="file.nc: has the times time, expected none"):
        read_observations(paths, ObservationFilesConfig(time="2021-05-01", period_h=24))


def test_the_mean_of_the_emissivity_model_is_that_of_its_day_or_of_the_setting(tmp_path):
    names = {"ice_conc": "seaice", "total_standard_uncertainty": "seaice_std"}
    paths = write(osisaf().rename(names)[[*names.values()]], tmp_path)
    for period_h, start_h, end_h in ((None, 9, 33), (6, 9, 15), (0, 12, 12)):
        table = read_observations(paths, ObservationFilesConfig(period_h=period_h))
        assert (table.time_start == START + np.timedelta64(start_h, "h")).all()
        assert (table.time_end == START + np.timedelta64(end_h, "h")).all()


@pytest.mark.parametrize(
    "rejected, meanings",
    [
        (True, "land lake no_data no_valid_data missing_data pole_hole unusable low_quality"),
        (True, "suspect spatial_interp climatology bad not_used_land_missing"),
        (False, "land_spill_over not_missing no_missing_data no_bad_data good_quality ice"),
    ],
)
def test_the_meaning_of_a_flag_tells_whether_a_value_is_an_observation(rejected, meanings):
    assert {bool(REJECTED.search(meaning)) for meaning in meanings.split()} == {rejected}


def test_a_field_with_errors_is_preferred_to_one_without(tmp_path):
    sensors = [f"{sensor}_sea_ice_thickness_uncertainty" for sensor in ("cryosat", "smos")]
    paths = write(cs2smos().drop_vars(sensors), tmp_path)
    for config in (None, ObservationFilesConfig(sigma=0.5)):
        assert (read_observations(paths, config).sigma == 0.25).all()


def test_the_command_writes_one_table_of_what_can_be_used(tmp_path, capsys):
    paths = write(osisaf(), tmp_path) + write(track(), tmp_path, "track.nc")
    output = tmp_path / "table.nc"
    assimilation_commands.observations([*paths, paths[0]], output, None, ["thin_km=1"])
    table = read_table(output)
    assert counts(table)["used"] == 18 + 5 and counts(table)["duplicate"] == 18
    assert "23 used" in capsys.readouterr().out
