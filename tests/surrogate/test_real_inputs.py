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
from seaice_lab.formats import open_raw
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
    catalogue["moorings"]["splits"] = {"train": {"period": ["2009", "2013"]}}
    for name, entry in catalogue.items():
        entry["paths"] = [f"{name}/*"]
        entry.update(changes.get(name, {}))
    (folder / "data_catalog.yaml").write_text(yaml.safe_dump(catalogue))


def renamed(**names):
    return lambda d: d.rename({k: v for k, v in names.items() if k in d.variables or k in d.dims})


def with_attributes(name, **attrs):
    return lambda d: d.assign_coords({name: d[name].assign_attrs(attrs)})


def coded_time(name, calendar="standard", dtype="f8", units="days since 1900-01-01", shift_h=0):
    """Times as numbers of any type, unit and calendar, counted from the same dates."""

    def edit(d):
        import cftime

        stamps = (d[name].values + np.timedelta64(int(shift_h * 60), "m")).astype("M8[us]").tolist()
        dates = [cftime.datetime(*stamp.timetuple()[:6], calendar=calendar) for stamp in stamps]
        numbers = np.asarray(cftime.date2num(dates, units, calendar), dtype)
        attrs = {"units": units, "calendar": calendar, "standard_name": "time"}
        return d.assign_coords({name: (d[name].dims, numbers, attrs)})

    return edit


def both(*edits):
    def edit(d):
        for step in edits:
            d = step(d)
        return d

    return edit


def members(d):
    """Two members along a dimension in the middle; the second is warmer by 100 K."""
    second = d.assign(t2m=d.t2m + 100)
    both_members = xr.concat([d, second], dim=xr.Variable("member", [3, 7]))
    return both_members.transpose("latitude", "member", ...)


def forecasts(d):
    """Starts every 12 h with steps of 0 and 6 h instead of one time axis."""
    d = d.drop_vars(["number", "expver"])
    pieces = [
        d.isel(valid_time=[at, at + 1]).drop_vars("valid_time").rename(valid_time="step")
        for at in range(0, 8, 2)
    ]
    start = xr.Variable("time", d.valid_time.values[::2], {"long_name": "initial time of forecast"})
    step = xr.Variable("step", [0, 6], {"units": "hours", "standard_name": "forecast_period"})
    return xr.concat(pieces, dim=start).assign_coords(step=step)


def positions_with_time(d, moving=0.0):
    drift = xr.DataArray(np.arange(d.sizes["time"]) * moving, dims="time")
    return d.assign_coords(latitude=d.latitude - drift, longitude=d.longitude + 0 * drift)


def projected(d):
    """Only x and y in km with a polar stereographic grid mapping."""
    centre = (np.arange(16) - 7.5) * 150
    mapping = {
        "grid_mapping_name": "polar_stereographic",
        "straight_vertical_longitude_from_pole": -45.0,
        "latitude_of_projection_origin": 90.0,
        "standard_parallel": 70.0,
    }
    d = d.drop_vars(["latitude", "longitude"]).assign(crs=((), 0, mapping))
    d.sit.attrs["grid_mapping"] = "crs"
    d = d.assign_coords(
        x=("x", centre, {"standard_name": "projection_x_coordinate", "units": "km"}),
        y=("y", centre, {"standard_name": "projection_y_coordinate", "units": "km"}),
    )
    return d.rename(x="xc", y="yc")


def celsius_and_knots(d):
    return d.assign(
        t2m=(d.t2m - 273.15).assign_attrs(units="degC"),
        u10=(d.u10 * 3600 / 1852).assign_attrs(units="knots"),
        v10=(d.v10 * 100).assign_attrs(units="[cm/s]"),
    )


def no_ice_is_missing(d):
    """A mask, and no value in the first columns of the first records, where there is no ice."""
    sea = d.sit.notnull().any("time").astype("i1").assign_attrs(comment="1 = sea")
    return d.assign(sit=d.sit.where((d.x > d.x[4]) | (d.time > d.time[2])), lsm=sea)


def in_a_group(d):
    """Coordinates in the root of the file, fields in a group."""

    class Tree:
        def to_netcdf(self, path):
            d.coords.to_dataset().to_netcdf(path)
            d.drop_vars(list(d.coords)).to_netcdf(path, group="output", mode="a")

    return Tree()


def versions(d):
    """Final values of the first half and preliminary ones of the second along `expver`."""
    d = d.drop_vars(["expver", "number"])
    first = d.valid_time < d.valid_time[4]
    pieces = [d.where(~first), d.where(first)]
    return xr.concat(pieces, dim=xr.Variable("expver", ["0005", "0001"]))


NEIGHBOURS = {
    "any order of the dimensions of both files": (
        lambda d: d.transpose("x", "time", "y"), lambda d: d.transpose("longitude", ...), {}),
    "names of NEMO": (
        both(renamed(time="time_counter", latitude="nav_lat", longitude="nav_lon"),
             lambda d: d.transpose("y", "x", "time_counter")), None, {}),
    "names of CICE, with positions of two kinds of points": (
        both(lambda d: d.assign_coords(ULAT=d.latitude - 1, ULON=d.longitude),
             renamed(latitude="TLAT", longitude="TLON", x="ni", y="nj"),
             lambda d: d.assign(sit=d.sit.assign_attrs(coordinates="TLON TLAT time"))), None, {}),
    "attributes only, names without meaning": (
        both(renamed(latitude="a", longitude="b", x="c", y="d", time="e"),
             with_attributes("a", units="degrees_north"), with_attributes("b", units="degreeE"),
             with_attributes("e", axis="T")),
        both(renamed(latitude="p", longitude="q", valid_time="r"),
             with_attributes("p", standard_name="latitude"),
             with_attributes("q", standard_name="longitude")), {}),
    "upper case": (
        renamed(time="TIME", latitude="LAT", longitude="LON", x="X", y="Y"),
        renamed(latitude="LATITUDE", longitude="LONGITUDE", valid_time="Time"), {}),
    "longitudes from 0 to 360 and north first": (
        lambda d: d.assign_coords(longitude=d.longitude % 360),
        lambda d: d.assign_coords(longitude=d.longitude % 360).sortby("latitude", False), {}),
    "positions that do not change with time": (positions_with_time, None, {}),
    "positions from a projection": (projected, None, {}),
    "a chosen member": (None, members, {"era5": {"select": {"member": 3}}}),
    "further dimensions of length one": (
        lambda d: d.expand_dims(category=[1]).transpose(..., "category"),
        lambda d: d.expand_dims("height", -1), {}),
    "forecast steps": (None, forecasts, {}),
    "versions as text": (None, versions, {}),
    "float32 days": (coded_time("time", dtype="f4"), coded_time("valid_time", dtype="f4"), {}),
    "calendar noleap": (None, coded_time("valid_time", "noleap"), {}),
    "a counter named step": (
        None, lambda d: d.assign_coords(step=("valid_time", np.arange(8))), {}),
    "coordinates in the root, fields in a group": (in_a_group, None, {}),
    "absolute times": (
        lambda d: d.assign_coords(time=("time", 20100101 + np.arange(8) // 4 + np.arange(8) % 4 / 4,
                                        {"units": "day as %Y%m%d.%f"})), None, {}),
    "records out of order": (lambda d: d.isel(time=[1, 0, *range(7, 1, -1)]), None, {}),
    "other units": (
        lambda d: d.assign(sit=(d.sit * 100).assign_attrs(units="centimeters")),
        celsius_and_knots, {}),
}  # fmt: skip

REFUSED = {
    "a member that is not chosen": (
        None, members, {}, r"era5.nc: t2m .*'member' with the values 3, 7; .*{member: 3}`"),
    "a member that is not there": (
        None, members, {"era5": {"select": {"member": 0}}}, r"member has no value 0 \(it has 3, 7"),
    "a choice of a dimension that is not there": (
        None, None, {"era5": {"select": {"level": 0}}}, r"has no dimension 'level', which"),
    "categories of ice": (
        lambda d: d.expand_dims(ncat=5), None, {}, r"sit has the further dimension 'ncat'"),
    "positions that move": (
        lambda d: positions_with_time(d, 0.01), None, {}, r"expected positions that do not move"),
    "no positions": (
        lambda d: d.drop_vars(["latitude", "longitude"]), None, {},
        r"moorings.nc: has no latitude and longitude of sit"),
    "several positions": (
        lambda d: d.assign_coords(tlat=d.latitude).drop_vars("latitude").assign_coords(
            plat=d.latitude), None, {}, r"several coordinates .*latitude of sit \((tlat|plat), "),
    "percent by the unit, fractions by the values": (
        lambda d: d.assign(sit=(d.sit / 4).assign_attrs(units="mm")), None, {},
        r"moorings: sit has the units 'mm', by which its largest value is only 0.0"),
    "a step without a unit": (
        None, lambda d: d.rename(valid_time="time").assign_coords(step=6.0), {},
        r"step has units 'None', expected a duration"),
    "no ice by missing values, but no mask": (
        None, None, {"moorings": {"missing_is_no_ice": True}}, r"moorings: has no mask, so a miss"),
    "axes in kilometres that say metres": (
        both(projected, lambda d: d.assign_coords(xc=d.xc.assign_attrs(units="m"))), None, {},
        r"its cells are 150 m apart along xc by the units 'm'; correct the units"),
    "a calendar that lacks a day": (
        lambda d: d.assign_coords(time=("time", np.arange(8) / 4,
            {"units": "days since 2012-02-28", "calendar": "noleap"})), None, {},
        r"moorings.nc: time has the calendar 'noleap', in which 2012-02-28 .* 2012-03-01"),
    "the calendar of 360 days with 30 February": (
        lambda d: d.assign_coords(time=("time", 58 + np.arange(8) / 4,
            {"units": "days since 2010-01-01", "calendar": "360_day"})), None, {},
        r"calendar '360_day', with a date that the Gregorian calendar lacks"),
    "the Julian calendar": (
        coded_time("time", "julian"), None, {}, r"time has the calendar 'julian', whose dates"),
    "float32 seconds that lost their times": (
        both(lambda d: d.assign_coords(time=d.time[0].values + 41 * np.arange(8, dtype="m8[s]")),
             coded_time("time", dtype="f4", units="seconds since 1970-01-01")), None, {},
        r"time resolves only 128 s in its floating-point type"),
    "units of time that mean nothing": (
        lambda d: d.assign_coords(time=("time", np.arange(8), {"units": "ells since 2010-01-01"})),
        None, {}, r"time has the units 'ells since 2010-01-01' .* cannot be decoded"),
    "stamps at half past": (
        None, coded_time("valid_time", shift_h=0.5, units="minutes since 2010-01-01"), {},
        r"no record at 2010-01-01T00:00 .*its records are at 2010-01-01T00:30, 2010-01-01T06:30"),
    "a time twice": (
        lambda d: d.isel(time=[0, 1, 1, 2]), None, {}, r"time repeats 2010-01-01T06:00; keep one"),
    "a time without a value": (
        lambda d: d.assign_coords(time=("time", [0, np.nan, *range(2, 8)],
                                        {"units": "days since 2010-01-01"})),
        None, {}, r"time has no value at record 1"),
    "a unit of another quantity": (
        lambda d: d.assign(sit=d.sit.assign_attrs(units="kg m-2")), None, {},
        r"sit has units 'kg m-2', expected 'm'"),
    "flags without meanings": (
        lambda d: d.assign(sit=d.sit.assign_attrs(flag_values=[30, 31], flag_meanings="land")),
        None, {}, r"sit has the flag_values \[30 31\] and the flag_meanings 'land', expected one"),
    "forecasts that overlap": (
        None, lambda d: forecasts(d).assign_coords(
            step=("step", [0, 12], {"units": "hours", "standard_name": "forecast_period"})), {},
        r"its forecasts overlap: .*choose one step .*`select: {step: 0}`"),
}  # fmt: skip


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_what_an_input_means_does_not_depend_on_its_form(case, user, base):
    state, forcing, entries = NEIGHBOURS[case]
    result = user(state, forcing, **entries)
    check_truth(result)
    np.testing.assert_allclose(result.latitude, base[0].latitude, atol=1e-6)
    np.testing.assert_allclose(result.sit, base[0].sit, rtol=1e-6)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_certain_is_refused_in_one_sentence(case, user):
    state, forcing, entries, message = REFUSED[case]
    with pytest.raises(InputError, match=message) as caught:
        user(state, forcing, **entries)
    assert "\n" not in str(caught.value)


OTHER_FILES = {
    "nothing": (b"", r"is empty \(0 bytes\)"),
    "gzip": (b"\x1f\x8b\x08data", "is compressed with gzip, .* gunzip"),
    "an error page": (b"\n<!DOCTYPE html><html>login", "is a web page, not data, .*failed"),
    "a table": (b"time,sit\n0,1.5\n", r"is text \('time,sit'\), expected NetCDF"),
    "GRIB behind a header": (b"\x01\r\r\n123 GRIB\x00\x02", "is a GRIB file"),
    "anything": (bytes(range(256)), "cannot be read as NetCDF"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_says_what_it_is(kind, tmp_path):
    content, message = OTHER_FILES[kind]
    (tmp_path / "x.nc").write_bytes(content)
    with pytest.raises(InputError, match=f"x.nc: {message}"):
        open_raw(tmp_path / "x.nc", ["sit"])


def test_a_classic_file_cut_short_is_refused_although_the_library_reads_it(base, tmp_path):
    path = tmp_path / "x.nc"
    base[0].to_netcdf(path, format="NETCDF3_64BIT")
    assert set(open_raw(path, ["sit"]).data_vars) == {"sit"}
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 2000)
    with pytest.raises(InputError, match="x.nc: is cut short"):
        open_raw(path, ["sit"])


def test_a_zarr_folder_is_opened_and_another_folder_is_refused(base, tmp_path):
    base[0].to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=False)
    opened = open_raw(tmp_path / "x.zarr", ["sit"])
    assert opened.time.dtype.kind == "i"
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="folder: is a folder that cannot be read as Zarr"):
        open_raw(tmp_path / "folder", ["sit"])


def test_numbers_in_attributes_of_text_are_read_as_text(base, tmp_path):
    path = tmp_path / "x.nc"
    base[0].assign(sit=base[0].sit.assign_attrs(standard_name=7, units=1)).to_netcdf(path)
    attrs = open_raw(path, ["sit"]).sit.attrs
    assert (attrs["standard_name"], attrs["units"]) == ("7", "1")


def test_variables_in_several_groups_are_refused_with_their_names(base, tmp_path):
    for group in ("first", "second/inner"):
        base[0].to_netcdf(tmp_path / "x.nc", group=group, mode="a")
    with pytest.raises(InputError, match=r"several groups hold sit \(/first: .*; /second/inner: "):
        open_raw(tmp_path / "x.nc", ["sit"])


def test_a_state_on_latitudes_and_longitudes_has_rows_and_columns(user, base):
    latitude, longitude = np.arange(85.0, 72, -1.5), np.arange(150.0, 210, 5)
    values = np.broadcast_to(latitude[:, None], (8, len(latitude), len(longitude)))

    def regular(d):
        field = (("time", "lon", "lat"), values.transpose(0, 2, 1) / 50, {"units": "m"})
        axes = {"lat": latitude, "lon": longitude}
        return xr.Dataset({"sit": field}, {"time": d.time, **axes})

    result = user(regular)
    assert result.latitude.dims == result.longitude.dims == ("y", "x")
    np.testing.assert_allclose(result.sit, result.latitude.broadcast_like(result.sit) / 50)
    assert float(np.hypot(result.u10, result.v10).mean()) == pytest.approx(5, abs=0.05)
    with pytest.raises(InputError, match="moorings: has a row at the pole"):
        user(lambda d: regular(d).assign_coords(lat=np.linspace(90, 60, len(latitude))))


def test_two_versions_of_a_time_give_the_final_one(user, base):
    def twice(d):
        preliminary = d.assign(t2m=d.t2m + 50).assign_coords(expver=("valid_time", ["0005"] * 8))
        return xr.concat([preliminary, d.assign_coords(expver=("valid_time", ["0001"] * 8))],
                         "valid_time", coords="minimal", compat="override")  # fmt: skip

    check_truth(user(forcing=twice))
    with pytest.raises(InputError, match="time repeats .*; keep one record of each time"):
        user(forcing=lambda d: xr.concat([d, d.isel(valid_time=[3])], "valid_time"))


def test_missing_values_are_no_ice_if_the_entry_says_so(user, base, capsys):
    with pytest.raises(InputError, match="NaN in ocean .* add `missing_is_no_ice: true`"):
        user(no_ice_is_missing)
    result = user(no_ice_is_missing, moorings={"missing_is_no_ice": True})
    assert "missing values in the ocean are no ice (0)" in capsys.readouterr().err
    expected = base[0].sit.copy(deep=True)
    expected[:3] = expected[:3].where(expected.x > expected.x[4], 0 * expected[0])
    np.testing.assert_allclose(result.sit, expected, rtol=1e-6)


def test_notes_tell_what_was_converted(user, capsys):
    user(lambda d: d.assign(sit=(d.sit * 100).assign_attrs(units="cm")), forecasts)
    notes = capsys.readouterr().err.splitlines()
    assert "note: moorings: sit is converted from 'cm' to 'm'" in notes
    assert "note: era5: the time is time + step" in notes


def test_a_note_tells_the_assumed_unit_of_a_field_without_units(user, capsys):
    user(lambda d: d.assign(sit=d.sit.drop_attrs()))
    assert "note: moorings: sit has no units, 'm' is assumed" in capsys.readouterr().err
