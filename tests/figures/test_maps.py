"""Maps: what is drawn, in which colours, and with which units."""

import socket

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from cartopy import crs
from conftest import wave_run
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from PIL import Image

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.figures import emissivity, maps
from seaice_lab.figures.animation import animate
from seaice_lab.figures.colours import WATER
from seaice_lab.land import coastlines


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def wave_field(hemisphere="north"):
    run = wave_run(times=6, hemisphere=hemisphere).assign_coords(
        init_time=np.datetime64("2010-01-01", "ns")
    )
    sit = run.sit.assign_attrs(units="m").rename(time="lead_time")
    sit["lead_time"] = np.arange(6) * np.timedelta64(12, "h")
    return sit, (run.mask == 1).drop_vars("init_time")


@pytest.fixture
def waves():
    return wave_field()


def drawn_cells(ax):
    """The image or mesh of the field, which is drawn above that of the mask."""
    drawn = [*ax.images, *(item for item in ax.collections if isinstance(item, QuadMesh))]
    return max(drawn, key=lambda item: item.zorder)


@pytest.mark.parametrize("hemisphere", ["north", "south"])
def test_a_map_shows_the_field_over_the_ocean_only_in_the_plane_of_its_hemisphere(hemisphere):
    sit, ocean = wave_field(hemisphere)
    ax, bar = maps.plot_map(sit[0], ocean).axes
    values = drawn_cells(ax).get_array()
    np.testing.assert_array_equal(values.filled(np.nan), sit[0].where(ocean))
    assert "(m)" in bar.get_ylabel()
    assert drawn_cells(ax).get_clim() == (0, 4)
    colours = drawn_cells(ax).get_cmap()
    assert to_hex(colours(0.01)) == WATER != to_hex(colours(0.04))  # 4 cm are open water
    assert ax.projection == maps.map_projection(sit)
    # The plane of cartopy is that of the grid, and the map shows every cell of the ocean.
    position = sit.longitude[5, 9].item(), sit.latitude[5, 9].item()
    x, y = ax.projection.transform_point(*position, crs.PlateCarree())
    assert (x, y) == pytest.approx((sit.x[9].item(), sit.y[5].item()), abs=1e-3)
    assert ax.get_xlim()[0] < sit.x.min() < sit.x.max() < ax.get_xlim()[1]
    west, east, south, north = drawn_cells(ax).get_extent()
    assert (west, south) == pytest.approx((float(sit.x[0]) - 12.5e3, float(sit.y[0]) - 12.5e3))


def test_a_map_has_the_coast_of_the_mask_and_that_of_the_earth(waves):
    sit, ocean = waves
    ax = maps.plot_map(sit[0], ocean).axes[0]
    coast, earth = (item for item in ax.get_children() if item.zorder == 4)
    (lines,) = coast._feature.geometries()
    sides = grid.coastline(ocean.values, sit.x.values, sit.y.values)
    assert lines.length == pytest.approx(len(sides) * 25e3)
    assert [*earth._feature.geometries()] == [coastlines("north")]


def test_rows_that_run_down_and_uneven_axes_show_the_same_map(waves):
    sit, ocean = waves
    expected = drawn_cells(maps.plot_map(sit[0], ocean).axes[0])
    down = drawn_cells(maps.plot_map(sit[0, ::-1], ocean[::-1]).axes[0])
    np.testing.assert_array_equal(down.get_array()[::-1], expected.get_array())
    assert down.get_extent()[2:] == pytest.approx(expected.get_extent()[3:1:-1])
    # Without cells of one size there is no image: every cell is drawn where it is.
    uneven = sit[0, :, [0, 1, 2, 5, 9, 20]], ocean[:, [0, 1, 2, 5, 9, 20]]
    mesh = drawn_cells(maps.plot_map(*uneven).axes[0])
    assert isinstance(mesh, QuadMesh)
    sides = (sit.x.values[[2, 5]] + sit.x.values[[5, 9]]) / 2
    np.testing.assert_allclose(mesh.get_coordinates()[0, 3:5, 0], sides)


def test_a_map_in_another_projection_shows_each_cell_at_its_place(waves):
    (sit, ocean), projection = waves, crs.PlateCarree()
    ax = plt.axes(projection=projection)
    maps.plot_map(sit[0], ocean, ax)
    assert isinstance(drawn_cells(ax), QuadMesh)
    ax.figure.canvas.draw()
    west, east, south, north = (*ax.get_xlim(), *ax.get_ylim())
    for row, column in ((5, 9), (20, 3)):
        cell = sit[0, row, column]
        position = cell.longitude.item(), cell.latitude.item()
        x, y = projection.transform_point(*position, crs.PlateCarree())
        assert west < x < east
        assert south < y < north
        # The colour on the picture is that of the value.
        across, up = (round(pixel) for pixel in ax.transData.transform((x, y)))
        colour = np.asarray(ax.figure.canvas.buffer_rgba())[-up - 1, across]
        expected = drawn_cells(ax).to_rgba(cell.item(), bytes=True)
        assert np.abs(colour.astype(int) - expected).max() < 60


def test_the_extent_of_given_axes_is_kept(waves):
    ax = plt.axes(projection=maps.map_projection(waves[0]))
    ax.set_extent([-5e5, 5e5, -5e5, 5e5], ax.projection)
    maps.plot_map(waves[0][0], waves[1], ax)
    assert ax.get_xlim() == (-5e5, 5e5)


def test_plain_axes_are_refused_with_how_to_create_geoaxes(waves):
    _, ax = plt.subplots()
    with pytest.raises(InputError, match=r"type Axes, expected GeoAxes .* plt.subplots\("):
        maps.plot_map(waves[0][0], waves[1], ax)


@pytest.mark.parametrize("is_round", [False, True])
def test_a_map_downloads_nothing_and_its_labels_do_not_overlap(waves, monkeypatch, is_round):
    def refuse(*_):
        raise AssertionError("a map opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    figure = maps.plot_map(waves[0][0], waves[1])
    ax = figure.axes[0]
    if is_round:
        maps.round_frame(ax)
    ax.plot([-45, 0], [88, 86], transform=crs.PlateCarree())
    figure.canvas.draw()
    assert (len(ax.spines["geo"].get_path().vertices) > 100) == is_round
    (graticule,) = (item for item in ax.get_children() if hasattr(item, "label_artists"))
    labels = [label for label in graticule.label_artists if label.get_visible()]
    assert {"45°W"} <= {label.get_text() for label in labels}
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    box = figure.bbox
    assert all(box.containsx(side) for label in boxes for side in (label.x0, label.x1))


def test_a_field_on_both_sides_of_the_equator_is_refused(waves):
    sit, ocean = waves
    crossing = sit[0].assign_coords(latitude=sit.latitude - 85)
    with pytest.raises(InputError, match="degrees north, expected one hemisphere"):
        maps.plot_map(crossing, ocean)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda sit, ocean: (sit, ocean), r"dimensions \('lead_time', 'y', 'x'\), expected \(y, x"),
        (lambda sit, ocean: (sit[0], ocean[:9]), "ocean mask {'y': 9, 'x': 32}, expected"),
        (lambda sit, ocean: (sit[0, :, :1], ocean[:, :1]), "at least 2 x 2 cells"),
        (lambda sit, ocean: (sit[0], ocean & False), "no ocean cell"),
        (lambda sit, ocean: (sit[0].assign_coords(latitude=sit.latitude[:, 0]), ocean), "expand"),
        (
            lambda sit, ocean: (
                sit[0].assign_coords(latitude=sit.latitude.where(ocean)).drop_vars(["x", "y"]),
                ocean.drop_vars(["x", "y"]),
            ),
            "not finite in 48 cells",
        ),
    ],
)
def test_fields_that_cannot_be_mapped_are_refused_in_a_sentence(waves, change, sentence):
    with pytest.raises(InputError, match=sentence):
        maps.plot_map(*change(*waves))


def test_positions_that_are_missing_on_land_do_no_harm_beside_axes_of_the_plane(waves):
    sit, ocean = waves
    some = sit[0].assign_coords(latitude=sit.latitude.where(ocean))
    assert drawn_cells(maps.plot_map(some, ocean).axes[0]).get_array().count() == ocean.sum()


def test_points_of_both_hemispheres_have_a_row_of_maps_each_or_are_chosen():
    latitude, longitude = np.array([80.0, 81, -70, -71, -72]), np.array([0.0, 5, 0, 5, 10])
    panels = {"Estimate": np.linspace(0, 1, 5), "Truth": np.linspace(0, 1, 5)}
    figure = emissivity.plot_points(panels, latitude, longitude, "Concentration")
    *axes, _ = figure.axes
    shown = [ax.collections[-1].get_offsets().shape[0] for ax in axes]
    assert shown == [2, 2, 3, 3]
    assert [ax.get_title() for ax in axes] == ["Estimate", "Truth"] * 2
    figure = emissivity.plot_points(panels, latitude, longitude, "", hemisphere="south")
    assert len(figure.axes) == 3
    with pytest.raises(InputError, match="hemisphere is 'south', expected north or south with"):
        emissivity.plot_points(panels, np.abs(latitude), longitude, "", hemisphere="south")


def test_differences_share_one_range_that_is_symmetric_about_zero(waves):
    sit, ocean = waves
    forecast = sit + 0.1 * np.sin(np.arange(6))[:, None, None]
    figure = maps.field_panels(
        sit, {"Surrogate": forecast, "Flat": sit * 0 + 1.0}, ["12h", "24h", "36h"], ocean
    )
    assert len(figure.axes) == 5 * 3 + 2
    limits = [drawn_cells(ax).get_clim() for ax in figure.axes[: 5 * 3]]
    fields, differences = set(limits[:9]), set(limits[9:])
    assert fields == {(0, 4)}
    assert len(differences) == 1
    ((low, high),) = differences
    assert low == -high < 0
    text = " ".join(item.get_text() for item in figure.findobj(plt.Text))
    assert all(words in text for words in ("+12 h", "+1 d", "+1.5 d", "Surrogate"))
    assert "Difference (m)" in text


def test_a_quantity_without_a_unit_has_no_unit_at_its_colour_bar(waves):
    sic = waves[0][0].rename("sic").assign_attrs(units="1")
    assert maps.plot_map(sic, waves[1]).axes[1].get_ylabel() == "Sea-ice concentration"


def test_a_lead_time_that_is_not_there_is_refused(waves):
    sit, ocean = waves
    with pytest.raises(InputError, match="lacks the lead times .*30 days"):
        maps.field_panels(sit, {"Surrogate": sit}, ["30D"], ocean)


def test_a_field_without_positions_is_refused(waves):
    sit, ocean = waves
    bare = xr.DataArray(sit.values[0], dims=("y", "x"), name="sit", attrs={"units": "m"})
    with pytest.raises(InputError, match="the coordinates none, expected latitude and longitude"):
        maps.plot_map(bare, ocean)


def test_an_animation_has_a_frame_a_time_and_another_ending_is_refused(waves, tmp_path):
    sit, ocean = waves
    dated = (
        sit[:2]
        .rename(lead_time="time")
        .assign_coords(
            time=np.datetime64("2010-01-01", "ns") + np.arange(2) * np.timedelta64(12, "h")
        )
    )
    made = animate(
        {"Truth": dated, "Twice": 2 * dated.assign_attrs(units="m")}, ocean, tmp_path / "season.gif"
    )
    with Image.open(made) as moving:
        assert moving.n_frames == 2
    assert [path.name for path in tmp_path.iterdir()] == ["season.gif"]
    with pytest.raises(InputError, match="season.avi: cannot be written here; use the ending .gif"):
        animate({"Truth": dated}, ocean, tmp_path / "season.avi")
