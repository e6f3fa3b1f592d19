"""Geometry: areas, axes, nearest points and coastlines against known answers."""

import numpy as np
import pytest
import shapely
import xarray as xr

from seaice_lab import grid, land
from seaice_lab.errors import InputError


def polar_grid(size=20, dx_m=25e3, x0=0.0, y0=0.0, hemisphere="north"):
    centre = (np.arange(size) - (size - 1) / 2) * dx_m
    x, y = np.meshgrid(centre + x0, centre + y0)
    return (*grid.unproject(x, y, hemisphere), x, y)


def on_grid(values):
    return xr.DataArray(values, dims=("y", "x"))


def positions(latitude, longitude):
    return xr.Dataset(coords={"latitude": on_grid(latitude), "longitude": on_grid(longitude)})


def test_the_pole_is_the_origin_and_forty_five_west_points_down():
    x, y = grid.project(90.0, 0.0)
    assert (x, y) == pytest.approx((0, 0), abs=1e-3)
    x, y = grid.project(70.0, -45.0)
    assert x == pytest.approx(0, abs=1e-3)
    assert y == pytest.approx(-2187e3, rel=2e-3)
    latitude, longitude = grid.unproject(*grid.project(75.0, 120.0))
    assert (latitude, longitude) == pytest.approx((75, 120))


def test_cells_of_25_km_have_625_square_km_at_seventy_north_where_the_map_is_true():
    latitude, longitude, *_ = polar_grid(x0=2187e3)
    area = grid.cell_area(positions(latitude, longitude))
    assert area.dims == ("y", "x")
    assert area.attrs["units"] == "m2"
    assert area[10, 10] == pytest.approx(625e6, rel=0.01)
    # At the pole the map enlarges: scale 1/0.9698.
    latitude, longitude, *_ = polar_grid()
    area = grid.cell_area(positions(latitude, longitude))
    assert area[10, 10] == pytest.approx(625e6 * 1.0316**2, rel=0.02)


def test_the_spacing_is_the_side_of_the_mean_cell_and_of_the_ocean_alone_with_a_mask():
    latitude, longitude, *_ = polar_grid(x0=2187e3)
    cells = positions(latitude, longitude)
    assert grid.spacing_m(cells) == pytest.approx(25e3, rel=0.01)
    ocean = xr.DataArray(np.eye(20, dtype=bool), dims=("y", "x"))
    diagonal = np.diag(grid.cell_area(cells).values)
    assert grid.spacing_m(cells, ocean) == pytest.approx(np.sqrt(diagonal.mean()), rel=1e-12)


def test_areas_of_a_regular_band_add_up_to_the_band():
    latitude, longitude = np.meshgrid(np.arange(60.5, 80), np.arange(0.5, 360), indexing="ij")
    inner = grid.cell_area(positions(latitude, longitude))[1:-1].sum()
    band = 2 * np.pi * grid.EARTH_RADIUS_M**2 * (np.sin(np.radians(79)) - np.sin(np.radians(61)))
    assert inner == pytest.approx(band, rel=1e-3)


def test_positions_that_are_not_finite_are_refused():
    latitude, longitude, *_ = polar_grid()
    latitude[3, 4] = np.nan
    with pytest.raises(InputError, match="finite values; .* crop cells without a position"):
        grid.cell_area(positions(latitude, longitude))


def test_a_wind_along_the_grid_axis_becomes_the_x_component_and_speed_is_kept():
    latitude, longitude, x, y = polar_grid(x0=5e5, y0=-8e5)
    # East at longitude l makes the angle l + 45 degrees with the grid's x axis.
    angle = np.radians(longitude + 45)
    u_x, v_y = grid.rotate_to_grid(np.cos(-angle), np.sin(-angle), latitude, longitude)
    np.testing.assert_allclose(u_x, 1, atol=2e-3)
    np.testing.assert_allclose(v_y, 0, atol=2e-2)
    u_x, v_y = grid.rotate_to_grid(3.0, 4.0, latitude, longitude)
    np.testing.assert_allclose(np.hypot(u_x, v_y), 5, rtol=1e-12)


def test_rows_that_run_down_turn_the_second_component():
    latitude, longitude, *_ = polar_grid(x0=5e5)
    up = grid.rotate_to_grid(1.0, 2.0, latitude, longitude)
    down = grid.rotate_to_grid(1.0, 2.0, latitude[::-1], longitude[::-1])
    np.testing.assert_allclose(down[0][::-1], up[0], atol=1e-9)
    np.testing.assert_allclose(down[1][::-1], -up[1], atol=1e-9)


def test_the_coast_of_one_land_cell_is_its_four_sides():
    ocean = np.ones((3, 3), bool)
    ocean[1, 1] = False
    segments = grid.coastline(ocean, [0.0, 10.0, 20.0], [0.0, 10.0, 20.0])
    sides = {tuple(sorted(map(tuple, segment))) for segment in segments.tolist()}
    assert sides == {
        ((5, 5), (5, 15)), ((15, 5), (15, 15)), ((5, 5), (15, 5)), ((5, 15), (15, 15)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hemisphere", "dry", "sea"),
    [
        ("north", [(72.5, -38.5), (64, 135), (79, 17)], [(90, 0), (75, -150), (72.5, -67)]),
        ("south", [(-90, 0), (-75, 120), (-45, 170)], [(-72, -40), (-63, 100), (-60, -60)]),
    ],
)
def test_the_land_files_hold_the_continents_and_leave_the_seas_open(hemisphere, dry, sea):
    polygons = [shapely.polygons(ring) for ring in land.land_polygons(hemisphere)]

    def is_land(position):
        return shapely.contains(polygons, shapely.points(*grid.project(*position))).any()

    assert all(is_land(position) for position in dry)
    assert not any(is_land(position) for position in sea)


def test_the_plane_of_the_south_has_zero_degrees_upwards_and_is_true_at_seventy_degrees():
    assert grid.project(-90.0, 0.0) == pytest.approx((0, 0), abs=1e-3)
    x, y = grid.project(-70.0, 0.0)
    assert (x, y) == pytest.approx((0, 2187e3), rel=2e-3, abs=1e-3)
    assert grid.unproject(x, y, "south") == pytest.approx((-70, 0))
    latitude, longitude, *_ = polar_grid(x0=2187e3, hemisphere="south")
    assert grid.cell_area(positions(latitude, longitude))[10, 10] == pytest.approx(625e6, rel=0.01)


def test_positions_on_both_sides_of_the_equator_are_in_no_plane():
    with pytest.raises(InputError, match="from -70.0 to 80.0 degrees north, expected one hemis"):
        grid.project(np.array([80.0, -70.0, np.nan]), np.zeros(3))
    assert grid.hemisphere_of([0.0, np.nan]) == "north"
    assert grid.hemisphere_of([0.0, -1.0]) == "south"


def test_a_mirrored_grid_has_the_same_areas_and_the_same_components_of_mirrored_vectors():
    latitude, longitude, *_ = polar_grid(x0=5e5, y0=-8e5)
    south, north = positions(-latitude, longitude), positions(latitude, longitude)
    xr.testing.assert_identical(grid.cell_area(south), grid.cell_area(north))
    # Seen from above, the mirrored grid is left-handed: the same columns and rows, east as before,
    # north to the other side.
    assert not grid.is_right_handed(-latitude, longitude).any()
    mirrored = grid.rotate_to_grid(3.0, -4.0, -latitude, longitude)
    np.testing.assert_allclose(mirrored, grid.rotate_to_grid(3.0, 4.0, latitude, longitude))
