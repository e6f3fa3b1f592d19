"""Forcing on the model grid: what covers the ocean, and which part of the sphere is missing."""

import numpy as np
import pytest
import xarray as xr
from numpy.polynomial.legendre import leggauss

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.surrogate.regrid import (
    is_on,
    local_spacing_km,
    nearest_neighbour,
    regrid,
)
from seaice_lab.surrogate.sources import move

TIMES = np.array(["2010-01-01", "2010-01-02"], "datetime64[ns]")


def polar_grid(size=16, spacing=150e3, centre=(0.0, 0.0)):
    along = (np.arange(size) - (size - 1) / 2) * spacing
    latitude, longitude = grid.unproject(*np.meshgrid(along + centre[0], along + centre[1]))
    return xr.Dataset(coords=grid.geographic_coordinates(
        latitude, longitude, np.ones((size, size), bool)))  # fmt: skip


def regular(latitude, longitude):
    """Forcing whose value is its latitude."""
    values = np.asarray(latitude, float)[None, :, None] + np.zeros((2, 1, len(longitude)))
    return xr.Dataset({"t2m": (("time", "latitude", "longitude"), values)},
                      {"time": TIMES, "latitude": latitude, "longitude": longitude})  # fmt: skip


def curvilinear(positions):
    field = np.broadcast_to(positions.latitude.values, (2, *positions.latitude.shape))
    return positions.drop_vars("ocean").assign(t2m=(("time", "y", "x"), field))


NORTH, ROUND = np.arange(60.0, 90.1, 1.0), np.arange(-180.0, 180.0, 2.0)
GAUSSIAN = np.degrees(np.arcsin(leggauss(94)[0]))
FULL = {
    "regular": regular(NORTH, ROUND),
    "from north to south, 0 to 360": regular(NORTH[::-1], ROUND + 180),
    "the circle closed": regular(NORTH, np.arange(0, 361, 2.0)),
    "global and coarse": regular(np.arange(-90, 90.1, 2.5), np.arange(0, 360, 2.5)),
    "global Gaussian": regular(GAUSSIAN, np.arange(0, 360, 1.875)),
    "longitudes first": regular(NORTH, ROUND).transpose("longitude", "time", "latitude"),
    "curvilinear, shifted": curvilinear(polar_grid(60, 50e3, (1e5, 0))),
    "curvilinear, same shape": curvilinear(polar_grid(16, 160e3)),
}
hole = curvilinear(polar_grid(60, 50e3))
near_pole = hole.latitude > 84
MISSING = {
    "half of the longitudes": (regular(NORTH, np.arange(0, 181, 2.0)),
                               "longitudes from 180.0 W eastward to 0.0 E are missing"),
    "a coarse sector": (regular(np.arange(60, 90.1, 2.5), np.arange(-180, 66, 2.5)),
                        "longitudes from 65.0 E eastward to 180.0 W are missing"),
    "a sector in Siberia": (regular(NORTH, ROUND[(ROUND < 100) | (ROUND > 140)]),
                            "longitudes from 98.0 E eastward to 142.0 E are missing"),
    "nothing north of 88": (regular(np.arange(60, 88.1, 0.5), ROUND),
                            "because latitudes north of 88.0 N are missing"),
    "nothing south of 80": (regular(np.arange(80, 90.1, 0.5), ROUND),
                            "because latitudes south of 80.0 N are missing"),
    "another region": (regular(np.arange(60, 75, 0.5), np.arange(-30, 30, 0.5)),
                       "north of 74.5 N and longitudes from 29.5 E eastward to 30.0 W"),
    "the other hemisphere": (regular(-NORTH[::-1], ROUND), "north of 60.0 S are missing"),
    "a smaller curvilinear grid": (curvilinear(polar_grid(30, 50e3)), "latitudes south of"),
    "a hole in the positions": (
        hole.assign_coords(latitude=hole.latitude.where(~near_pole)), "latitudes north of 8"),
}  # fmt: skip


def regridded(forcing, state=None, needed=None):
    state = polar_grid() if state is None else state
    return regrid(forcing, state, state.ocean.values if needed is None else needed, "era5")[0]


@pytest.mark.parametrize("case", FULL)
def test_forcing_that_covers_the_ocean_is_taken(case):
    values = regridded(FULL[case]).transpose("time", "y", "x").t2m
    latitude = polar_grid().latitude.values
    np.testing.assert_allclose(values[1], latitude, atol=1.3)


@pytest.mark.parametrize("case", MISSING)
def test_forcing_that_does_not_cover_the_ocean_is_refused_with_the_part_that_is_missing(case):
    forcing, message = MISSING[case]
    with pytest.raises(InputError, match=f"era5: does not cover .* of 256 ocean .*{message}"):
        regridded(forcing)


def test_wind_of_a_curvilinear_grid_keeps_its_direction_near_the_pole():
    state, source = polar_grid(), curvilinear(polar_grid(30, 90e3, (3e4, 4e4)))
    east_north = grid.rotate_to_geographic(3.0, 4.0, source.latitude, source.longitude)
    attrs = {"vectors": "geographic"}
    for name, component in zip(("u10", "v10"), east_north, strict=True):
        source[name] = source.t2m.copy(data=np.broadcast_to(component, source.t2m.shape))
        source[name].attrs = attrs
    moved = move(*regrid(source, state, state.ocean.values, "model"), "model")
    along = grid.rotate_to_grid(moved.u10, moved.v10, state.latitude, state.longitude)
    np.testing.assert_allclose(along[0], 3, atol=0.05)
    np.testing.assert_allclose(along[1], 4, atol=0.05)
    with pytest.raises(InputError, match="u10 must be turned to other axes, which needs both"):
        move(moved.drop_vars("v10"), 0.0, "model")


def test_a_sector_is_named_only_where_the_cells_that_lack_forcing_are_in_it():
    with pytest.raises(InputError, match=r"does not cover \d+ of 256 ocean cells(?!.*longitudes)"):
        regridded(curvilinear(polar_grid(16, 150e3, (4e5, 0))))


def test_only_the_ocean_must_be_covered():
    state = polar_grid()
    needed = (np.abs(state.longitude.values) < 60) & (state.latitude.values < 86)
    sector = regular(NORTH, np.arange(-60, 61, 2.0))
    values = regridded(sector, needed=needed).t2m.values[0]
    np.testing.assert_allclose(values[needed], state.latitude.values[needed], atol=1.3)
    # Cells without a position are land.
    state["latitude"] = state.latitude.where(needed)
    regridded(sector, state, needed)


def test_the_same_grid_is_recognised_but_for_rounding():
    state = polar_grid()
    for change, same in ((0.0, True), (1e-5, True), (0.05, False)):
        forcing = curvilinear(polar_grid())
        forcing["latitude"] = (forcing.latitude + change).astype("f4")
        assert is_on(forcing, state) is same
    assert not is_on(curvilinear(polar_grid(12)), state)
    forcing = curvilinear(polar_grid())
    forcing["longitude"] = forcing.longitude % 360
    assert is_on(forcing, state)


def test_distances_are_those_on_the_sphere():
    quarter = np.pi / 2 * grid.EARTH_RADIUS_M / 1e3
    distance = grid.great_circle_km([0, 0, 60], [0, 10, 180], [90, 0, 60], [7, 100, 0])
    np.testing.assert_allclose(distance, [quarter, quarter, quarter * 2 / 3])
    longitude, latitude = np.meshgrid(np.arange(0, 360, 2.0), np.array([0.0, 1.0, 60.0]))
    degree = quarter / 90
    spacing = local_spacing_km(latitude, longitude)
    np.testing.assert_allclose(spacing[0], np.hypot(2, 1) * degree, rtol=1e-3)
    # A gap of 59 degrees is no spacing on its near side, and on its far side the only one.
    np.testing.assert_allclose(spacing[1], np.hypot(2, 1) * degree, rtol=1e-3)
    np.testing.assert_allclose(spacing[2], np.hypot(1, 59) * degree, rtol=1e-3)


def test_the_nearest_point_is_that_of_a_search_through_all():
    rng = np.random.default_rng(0)
    latitude, longitude = rng.uniform(60, 90, 200), rng.uniform(-180, 180, 200)
    to = rng.uniform(60, 90, 50), rng.uniform(-180, 180, 50)

    def vector(lat, lon):
        lat, lon = np.radians(lat), np.radians(lon)
        return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], -1)

    nearness = vector(*to) @ vector(latitude, longitude).T
    index = nearest_neighbour(latitude, longitude, *to)
    # The search is on the ellipsoid: where two points are nearly as near, either may win.
    best = nearness.max(axis=1)
    nearest = nearness[np.arange(50), index]
    np.testing.assert_allclose(np.arccos(nearest), np.arccos(best), atol=2e-4)
    assert (index == nearness.argmax(axis=1)).mean() > 0.9
