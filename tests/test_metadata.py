"""Global attributes by which catalogues of data find a file (ACDD 1.3)."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab import files, grid, metadata


def at(latitude, longitude, **more):
    return xr.Dataset({"lat": ("point", latitude), "lon": ("point", longitude)} | more)


@pytest.mark.parametrize(
    ("longitudes", "west_east"),
    [
        ([10, 20.5, 30], (10, 30)),
        ([350, 0, 5.5], (-10, 5.5)),
        ([170, 175, 185.25], (170, -174.75)),  # across 180 degrees, west is larger than east
        ([-170.5, -160], (-170.5, -160)),
        ([0, 90, 180], (0, 180)),
        ([42.5], (42.5, 42.5)),
        ([180], (180, 180)),
        ([270, 270], (-90, -90)),
        (np.arange(0, 360, 10), (-180, 180)),
        ([5, np.nan, 7], (5, 7)),
    ],
)
def test_the_ends_of_the_longitudes_are_west_and_east_of_the_region(longitudes, west_east):
    facts = metadata.coverage(at(np.linspace(60, 70, len(longitudes)), longitudes))
    ends = facts["geospatial_lon_min"], facts["geospatial_lon_max"]
    np.testing.assert_allclose(ends, west_east, atol=1e-9)
    assert facts["geospatial_lat_min"] == 60


def test_a_grid_around_the_pole_has_all_longitudes():
    centre = (np.arange(8) - 3.5) * 25e3
    latitude, longitude = grid.unproject(*np.meshgrid(centre, centre), "south")
    positions = {"latitude": (("y", "x"), latitude), "longitude": (("y", "x"), longitude)}
    facts = metadata.coverage(xr.Dataset(positions))
    # The widest gap of these 64 cells is 17 degrees.
    assert (facts["geospatial_lon_min"], facts["geospatial_lon_max"]) == (-180, 180)
    assert facts["geospatial_lat_max"] == pytest.approx(latitude.max())


def test_the_period_is_that_of_the_valid_times():
    start = np.array(["2010-01-01", "2010-01-03"], "datetime64[ns]")
    lead = np.array([6, 12], "timedelta64[h]").astype("timedelta64[ns]")
    valid = (("init_time", "lead_time"), start[:, None] + lead, {"standard_name": "time"})
    forecast = xr.Dataset(coords={"init_time": start, "lead_time": lead, "valid_time": valid})
    period = {"time_coverage_start": "2010-01-01T06:00:00Z"}
    assert metadata.coverage(forecast) == period | {"time_coverage_end": "2010-01-03T12:00:00Z"}
    scores = metadata.coverage(forecast.drop_vars("valid_time"))
    assert scores["time_coverage_end"] == "2010-01-03T00:00:00Z"
    days = at([60], [5], day=("point", [1.5], {"units": "days since 2020-01-01"}))
    assert metadata.coverage(days)["time_coverage_start"] == "2020-01-02T12:00:00Z"
    assert metadata.coverage(xr.Dataset({"sit": ("x", [1.0])})) == {}


def test_a_file_of_the_project_tells_its_region_period_and_licence(tmp_path):
    dataset = at([60, 61], [5, 6]).assign_coords(time=np.datetime64("2010-01-01", "ns"))
    attributes = metadata.file_attributes("Sea ice", "a model", "forecast", "CC0")
    files.write_netcdf(tmp_path / "a.nc", dataset.assign_attrs(attributes))
    written = xr.load_dataset(tmp_path / "a.nc").attrs
    assert written["Conventions"] == "CF-1.11, ACDD-1.3" and written["license"] == "CC0"
    assert written["geospatial_lat_max"] == 61 and written["date_created"][:2] == "20"
    assert written["time_coverage_start"] == written["time_coverage_end"] == "2010-01-01T00:00:00Z"
    files.write_netcdf(tmp_path / "b.nc", dataset)
    assert xr.load_dataset(tmp_path / "b.nc").attrs == {}  # of other programs
