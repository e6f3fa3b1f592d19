"""What pages are made of, without a browser: pictures, scenes, addresses and the runs' folder."""

import json
import logging
import os
import shutil
from urllib.parse import parse_qs

import numpy as np
import pytest
import shapely
import xarray as xr
from matplotlib.colors import to_rgb
from tornado.websocket import WebSocketClosedError

from dashboards import layout, readers, scaling, season
from dashboards.app import is_fault
from dashboards.dark import dark_colour
from dashboards.library import Library, is_inside
from dashboards.runs import OF_PROVENANCE, settings_table
from dashboards.selectable_maps import SelectableMaps
from dashboards.selection import middle_lead, run_titles, some_of
from dashboards.state import PageState, one_of
from dashboards.times import marks
from seaice_lab import grid, names, runs
from seaice_lab.errors import InputError
from seaice_lab.figures import colours, linked_maps, rasters
from seaice_lab.figures.plane import OUTSIDE
from seaice_lab.figures.rasters import Raster, picture
from seaice_lab.land import coastlines, land_polygons

COUNT = 12
LAND = (0, 1, 14)


def square(count=COUNT, side=10.0):
    """A raster that shows the cells of a square grid as they are; some are land."""
    centres = side * (np.arange(count) + 0.5)
    cells = np.arange(count**2)
    cells[list(LAND)] = -1
    ends = (0.0, side * count, 0.0, side * count)
    return Raster(centres, centres, cells.reshape(count, count), np.empty((0, 2, 2)), ends, "north")


VALUES = np.random.default_rng(0).random((COUNT, COUNT)).astype("float32")
WHOLE = np.where(square().source < 0, np.nan, VALUES)


def test_a_small_grid_is_shown_cell_by_cell_wherever_one_looks():
    for window in (None, (20, 40, 60, 80)):
        made = picture(square(), VALUES, window, pixels=COUNT)
        np.testing.assert_array_equal(made["image"][0], WHOLE)
        assert [made[name] for name in ("x", "y", "dw", "dh")] == [[0.0], [0.0], [120.0], [120.0]]


def test_a_large_grid_is_averaged_over_the_sea_of_each_block():
    made = picture(square(), VALUES, pixels=6)["image"][0]
    np.testing.assert_allclose(made, np.nanmean(WHOLE.reshape(6, 2, 6, 2), axis=(1, 3)), rtol=1e-6)


def test_blocks_without_sea_are_empty_and_cut_ones_average_what_they_have():
    raster = square()._replace(source=np.where(np.eye(COUNT, dtype=bool), square().source, -1))
    made = picture(raster, VALUES, pixels=5)["image"][0]  # blocks of 3
    assert np.isnan(made[0, 1]) and made[3, 3] == pytest.approx(VALUES[9:, 9:].diagonal().mean())
    cut = picture(square(), VALUES, pixels=3)  # 12 = 4 * 3
    np.testing.assert_allclose(cut["image"][0][2, 2], VALUES[8:, 8:].mean(), rtol=1e-6)
    odd = Raster(*(part[:11] for part in square()[:2]), square().source[:11, :11], *square()[3:])
    made = picture(odd, VALUES, pixels=4)
    assert made["dw"] == [120.0]  # as wide as its blocks
    np.testing.assert_allclose(made["image"][0][3, 3], VALUES[9:11, 9:11].mean(), rtol=1e-6)


def test_a_window_of_a_large_grid_is_finer_and_lies_where_it_belongs():
    made = picture(square(), VALUES, (40, 60, 70, 90), pixels=6)
    image, (west,), (south,) = made["image"][0], made["x"], made["y"]
    column, row = round(west / 10), round(south / 10)
    there = WHOLE[row : row + image.shape[0], column : column + image.shape[1]]
    np.testing.assert_array_equal(image, there)
    assert west <= 40 and west + made["dw"][0] >= 60
    assert south <= 70 and south + made["dh"][0] >= 90
    assert image.shape[1] < COUNT


def test_blocks_stay_where_they_are_while_a_map_is_dragged():
    corners = {
        tuple(np.mod([made["x"][0], made["y"][0]], 20))
        for west in range(0, 40, 7)
        for made in [picture(square(), VALUES, (west, west + 70, west, west + 70), pixels=6)]
    }
    assert corners == {(0.0, 0.0)}


@pytest.mark.parametrize("window", [(-1e6, -9e5, 0, 1), (1e6, 2e6, 1e6, 2e6), (50, 40, 50, 40)])
def test_a_window_beside_the_grid_gives_a_small_picture(window):
    made = picture(square(), VALUES, window, pixels=6)
    assert 0 < made["image"][0].size <= 36


def test_axes_that_fall_are_turned():
    x = np.arange(-3, 3) * 25e3
    y = x[::-1]
    values = xr.DataArray(np.arange(36.0).reshape(6, 6), {"y": y, "x": x}, ("y", "x"))
    values.x.attrs["units"] = values.y.attrs["units"] = "m"
    ocean = xr.ones_like(values, bool)
    raster = rasters.raster_of(values, ocean)
    assert (np.diff(raster.x) > 0).all() and (np.diff(raster.y) > 0).all()
    np.testing.assert_array_equal(picture(raster, values.values)["image"][0], values[::-1])


def on_plane(x_m, y_m):
    """Cells at positions in the plane: a field of ones with latitude and longitude."""
    positions = zip(("latitude", "longitude"), grid.unproject(x_m, y_m), strict=True)
    return xr.DataArray(np.ones(x_m.shape), {k: (("y", "x"), v) for k, v in positions}, ("y", "x"))


def test_a_turned_grid_has_its_land_but_none_of_its_own_beyond_its_edge():
    x, y = np.meshgrid(np.arange(-10, 11) * 50e3, np.arange(-10, 11) * 50e3)
    turned = (x + 1j * y) * np.exp(0.25j * np.pi)
    field = on_plane(turned.real, turned.imag - 1.5e6)  # around the north of Greenland
    ocean = xr.ones_like(field, bool)
    ocean[8:13, 8:13] = False
    raster = rasters.raster_of(field, ocean)
    scene = linked_maps.scene(raster)
    mask, middle = scene.mask.data["image"][0], len(raster.y) // 2
    assert mask[middle, middle] == 1 and mask[0, 0] == mask[-1, -1] == 0
    assert mask.sum() * 50**2 == pytest.approx(25 * 50**2, rel=0.2)
    drawn = np.array([scene.land.data[axis] for axis in "xy"])
    assert (np.hypot(drawn[0] - 500, drawn[1] + 2000) < 500).any()  # Natural Earth in the corner
    # Coastlines of the Earth are everywhere, much finer than a pixel.
    west, east, south, north = raster.extent
    coast = shapely.clip_by_rect(coastlines("north"), *np.multiply((west, south, east, north), 1e3))
    points = np.column_stack([scene.coastlines.data[axis] for axis in "xy"])
    lines = np.split(points, np.flatnonzero(np.isnan(points[:, 0])))
    lines = [line[np.isfinite(line[:, 0])] for line in lines]
    drawn = shapely.union_all([shapely.LineString(line) for line in lines if len(line)])
    pixel = (east - west) / rasters.PIXELS
    distance = shapely.distance(shapely.points(shapely.get_coordinates(coast) / 1e3), drawn)
    assert distance.max() < pixel / 4


def test_coastlines_are_no_edges_of_the_polygons_of_the_land():
    lines = coastlines("north")
    perimeter = sum(shapely.LineString(ring).length for ring in land_polygons("north"))
    assert 0.5 < lines.length / perimeter < 0.98
    distance = np.hypot(*shapely.get_coordinates(lines).T)
    limit = np.hypot(*grid.project(30.0, 0.0))
    assert distance.max() < limit
    assert (distance > limit - 1.1e4).mean() < 0.01  # few where coasts cross the limit


def test_cells_of_any_shape_leave_no_gaps():
    latitude, longitude = np.meshgrid(np.arange(60.0, 90), np.arange(360.0), indexing="ij")
    field = on_plane(*grid.project(latitude, longitude))
    raster = rasters.raster_of(field, xr.ones_like(field, bool))
    distance = np.hypot(*np.meshgrid(raster.x, raster.y))
    inside = (distance > 100) & (distance < 3200)  # km: 89 to 61 degrees north
    assert (raster.source[inside] >= 0).all()
    assert (raster.source[distance > 3500] < 0).all()


def test_points_are_shown_where_they_are_and_gaps_stay_empty():
    x, y = np.meshgrid(np.arange(-100e3, 101e3, 25e3), np.arange(-200e3, 1e3, 25e3))
    kept = np.ones(x.size, bool)
    kept[[0, 40]] = False
    latitude, longitude = grid.unproject(x.ravel()[kept], y.ravel()[kept])
    raster = rasters.raster_of_points(latitude, longitude)
    assert raster.source.shape == x.shape
    values = np.arange(float(kept.sum()))
    expected = np.full(x.size, np.nan)
    expected[kept] = values
    made = picture(raster, values)
    np.testing.assert_array_equal(made["image"][0].ravel(), expected)
    assert made["x"][0] == pytest.approx(-112.5, abs=0.01)


def test_maps_of_a_scene_share_ranges_colours_and_the_chosen_cell():
    scene = linked_maps.scene(square(), (10, 50, 20, 60))
    scale = linked_maps.colour_scale("sea_ice", (0, 3))
    one, source = linked_maps.polar_map(scene, scale, "One", "m")
    two, other = linked_maps.polar_map(scene, scale, "Two", "m")
    assert one.x_range is two.x_range and one.y_range is two.y_range
    assert (one.x_range.start, one.x_range.end) == (10, 50)
    assert (one.y_range.start, one.y_range.end) == (20, 60)
    assert (one.x_range.reset_start, one.x_range.reset_end) == (0.0, 120.0)
    assert source is not other
    drawn = [r.data_source for plot in (one, two) for r in plot.renderers]
    assert drawn.count(scene.selected) == 2
    mappers = {r.glyph.color_mapper for drawn in (one, two) for r in drawn.renderers
               if r.data_source in (source, other)}  # fmt: skip
    assert mappers == {scale} and (scale.low, scale.high) == (0, 3)


def test_the_ice_edge_is_drawn_where_its_value_is_crossed():
    maps = SelectableMaps(square(), PageState({}), "cell")
    maps.add("map", "Truth", "m", linked_maps.colour_scale("sea_ice", (0, 1), 0.1), edge=0.5)
    maps.show("map", np.where(np.arange(COUNT**2) % COUNT < 6, 0.0, 1.0))  # ice in the east
    _, edge = maps.edges["map"]
    x, y = (np.asarray(edge.data[axis]) for axis in "xy")
    assert np.isfinite(x).sum() >= COUNT - 1
    np.testing.assert_allclose(x[np.isfinite(x)], 60)
    assert np.nanmin(y) < 30 and np.nanmax(y) > 110
    maps.show("map", np.ones(COUNT**2))
    assert not len(edge.data["x"])


def test_pages_open_at_a_lead_time_of_the_tables():
    leads = np.arange(1, 21) * np.timedelta64(12, "h")
    assert middle_lead(leads) == np.timedelta64(5, "D")
    assert middle_lead(leads[:3]) == np.timedelta64(1, "D")


def test_settings_have_one_heading_for_each_group_and_their_names_in_the_file():
    values = {"run": "a", "background": {"first": "mean", "std": {"sit": 0.3}, "length_km": 150.0}}
    table = settings_table("Configuration", values)
    headings = [row.partition("<")[0] for row in table.split("<th colspan='2'>")[1:]]
    assert headings == ["Background", "Background, std"]
    assert "<tr title='background.length_km: 150.0'><th scope='row'>Length (km)</th>" in table
    origin = settings_table("Origin", {"data": "4436eba5"}, OF_PROVENANCE)
    assert "<tr title='data: 4436eba5'><th scope='row'>Checksum of the data</th>" in origin


def test_the_log_says_nothing_of_a_closed_tab():
    for error, is_logged in ((WebSocketClosedError(), False), (ValueError(), True)):
        record = logging.LogRecord("asyncio", 40, "", 0, "", (), (type(error), error, None))
        assert is_fault(record) == is_logged


def test_ice_is_unlike_water_and_unlike_what_is_beyond_the_data():
    ice = np.array([to_rgb(shade) for shade in colours.palette("sea_ice", (0, 3))])
    assert ice.max(axis=1).min() > 0.3  # not black
    for other in (colours.WATER, OUTSIDE):
        assert abs(ice[[0, -1]] - to_rgb(other)).max(axis=1).min() > 0.2


@pytest.mark.parametrize(
    ("days", "text"),
    [
        (1, "1 day"),
        (5.5, "5.5 days"),
        (5 / 24, "5 hours"),
        (1 / 24, "1 hour"),
        (41.625, "999 hours"),
    ],
)
def test_a_lead_time_in_words_has_few_digits(days, text):
    assert names.in_days(days) == text


def test_a_season_is_told_in_cubic_kilometres():
    sources = ["truth", "forecast", "climatology"]
    coords = {"source": sources, "lead_time": [np.timedelta64(10, "D")]}
    table = xr.Dataset(
        {
            "volume": (("source", "lead_time"), [[8.1], [8.06], [10.4984]]),
            "rmse": (("source", "lead_time"), [[np.nan], [0.0831], [0.429]]),
        },
        coords,
    )
    text = season.headline(table).replace(season.NARROW_SPACE, " ")
    assert text == (
        "+10 days: volume 8 060 km³ (truth 8 100, climatology 10 498), "
        "RMSE 0.083 m (climatology 0.429)"
    )


@pytest.mark.parametrize(
    ("forecast", "words"),
    [(0.65, "too smooth"), (0.4, "too rough"), (0.51, "as smooth as the truth")],
)
def test_the_character_of_a_forecast_is_told_in_words(forecast, words):
    coords = {"source": ["truth", "forecast"], "lead_time": [np.timedelta64(5, "D")], "q": [1.0]}
    table = xr.Dataset({"zeta": (("source", "lead_time", "q"), [[[0.5]], [[forecast]]])}, coords)
    text = scaling.headline(table, np.timedelta64(5, "D"))
    assert text == f"+5 days: {words} (ζ(1) {forecast:.2f}, truth 0.50)"


def test_bands_of_starts_that_did_not_count_their_model_runs_are_not_drawn():
    values = xr.Dataset({"zeta": ("lead_time", [0.5]), "zeta_error": ("lead_time", [0.1])})
    assert list(scaling.table_without_old_errors(values)) == ["zeta"]
    new = values.assign_attrs(significance="difference from the truth in standard errors")
    assert scaling.table_without_old_errors(new) is new


@pytest.mark.parametrize(
    ("colour", "dark"),
    [("#000000", "#e6e6e6"), ("black", "#e6e6e6"), ("#E69F00", "#E69F00"), ("#0072B2", "#3a97dc")],
)
def test_only_dark_and_grey_curves_change_on_a_dark_page(colour, dark):
    assert dark_colour(colour) == dark


def test_dates_below_a_time_bar_stand_at_their_first_times():
    times = [f"2010-03-{day:02d} {hour}:00" for day in range(3, 9) for hour in ("00", "12")][1:-1]
    dates = marks(times)
    assert dates[0] == [0, "2010-03-03"] and dates[-1] == [9, "2010-03-08"]
    assert all(times[k].startswith(f"{date} 00") for k, date in dates[1:-1]) and len(dates) == 5
    assert marks(["2010-03-03 00:00", "2010-03-03 12:00"]) == [[0, "2010-03-03"], [1, "2010-03-03"]]
    assert marks(["2010-03-03 00:00"]) == [[0, "2010-03-03"]]


def test_a_bar_of_logarithms_shows_the_numbers():
    bar = layout.colour_bar(linked_maps.colour_scale("cmo.amp", (-4, -1)), "Gradient", True)
    assert all(f">{number}<" in bar.text for number in ("0.0001", "0.001", "0.01", "0.1"))


def state_of(**query):
    """The state of a page with this query in its address."""
    return PageState({name: [text.encode()] for name, text in query.items()})


def test_a_state_takes_the_values_of_an_address_and_pages_take_valid_ones():
    state = state_of(run="b", runs="b,x,a,../a,b", lead="36", view="1,2,3,4", references="-")
    assert state.lead == 36 and state.view == (1, 2, 3, 4)
    assert one_of(state.run, ["a", "b"]) == "b"
    assert one_of(state.runs, ["a", "b"]) == "a" and one_of(state.tag, []) is None
    assert some_of(state.runs, ["a", "b"], ["a"]) == ["b", "a"]
    assert some_of(state.references, ["a", "b"], ["a"]) == []  # nothing is selected, on purpose
    assert state.score is None and some_of(None, ["a", "b"], ["b", "c"]) == ["b"]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "x", "", "0x10", "1e99", "\0"])
def test_numbers_of_an_address_are_finite(text):
    state = state_of(lead=text, view=f"1,2,3,{text}", cell=f"1,{text}")
    assert state.lead is None and state.view is None and state.cell is None


def test_an_address_is_written_so_that_it_is_read_the_same():
    name = "<img src=x>&run=b#%"
    state = state_of(score="bias")
    state.param.update(runs=["a", name], references=[], score=None, lead=36.0, low=0.1, wide=1e8)
    state.view = (-150.0, 200.5, -120.0, 180.0)
    address = state.address()
    assert "<" not in address and address.count("&") == 5 and address == state.bar.value
    assert address.startswith("?runs=a,%3Cimg") and "view=-150,200.5,-120,180" in address
    again = PageState({name: [text.encode() for text in texts]
                       for name, texts in parse_qs(address[1:]).items()})  # fmt: skip
    assert again.param.values() | {"name": ""} == state.param.values() | {"name": ""}


def test_long_and_broken_values_are_cut_and_read():
    state = PageState({"runs": [b"x" * 10_000], "start": [b"\xff\xfe"], "b": [b"unknown"]})
    assert len(state.runs[0]) == 2000 and isinstance(state.start, str)
    assert "b=" not in state.address()


def test_a_page_hears_of_a_change_once_and_not_of_its_own_corrections():
    state, changes = state_of(runs="a"), []
    state.on_change = lambda names: (changes.append(names), state.correct(lead=12.0))
    state.param.update(runs=["b"], start="2020-01-01 00:00")
    assert changes == [{"runs", "start"}]
    assert state.bar.value == "?runs=b&start=2020-01-01%2000:00&lead=12"


def test_titles_of_runs_are_like_no_other():
    runs = ["a", "truth", "Damped persistence", "damped_persistence", "run truth", "A"]
    titles = ["a", "run truth", "run Damped persistence", "run damped_persistence",
              "run run truth", "A"]  # fmt: skip
    assert run_titles(runs) == dict(zip(runs, titles, strict=True))


@pytest.fixture
def library(tmp_path):
    """A library of a run ``a`` with a file, beside a folder that is none of its business."""
    for folder in (tmp_path / "runs" / "a", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "provenance.json").write_text(json.dumps(runs.provenance("surrogate")))
        (folder / "config.yaml").write_text("store: stores/a.zarr\n")
        (folder / "scores.nc").write_text("")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "outside")
    (tmp_path / "runs" / "a" / "leak.nc").symlink_to(tmp_path / "outside" / "scores.nc")
    return Library(tmp_path / "runs")


def test_paths_of_a_library_lie_in_its_folder(library):
    assert library.path("a", "scores.nc").samefile(library.folder / "a" / "scores.nc")
    for name in ("linked", "..", "../outside", ".", "", "a/../../outside", "a\0", "b" * 5000,
                 str(library.folder / "a")):  # fmt: skip
        with pytest.raises(InputError, match="there is no usable run"):
            library.path(name, "scores.nc")
    for part in ("leak.nc", "../../outside/scores.nc", "/etc/passwd"):
        with pytest.raises(InputError, match="is outside the runs folder"):
            library.path("a", part)


def test_a_run_that_is_gone_since_the_listing_is_refused_without_its_path(library):
    assert library.names() == ["a"]
    with pytest.raises(InputError, match="^a: has no forecast.zarr; make it with .* RUN`"):
        readers.forecast_of(library, "a")
    shutil.rmtree(library.folder / "a")
    with pytest.raises(InputError, match="there is no usable run 'a' in runs$"):
        library.path("a", "scores.nc")


def test_a_run_that_is_a_link_out_is_listed_with_what_is_wrong(library):
    rows = {row.name: row for row in library.runs()}
    assert rows["linked"].kind == "?" and "is a link out" in rows["linked"].state
    assert library.names() == ["a"] and library.names("training") == []


def test_inside_follows_links(tmp_path, library):
    assert is_inside(library.folder / "a", library.folder)
    assert not is_inside(library.folder / "linked", library.folder)
    assert not is_inside(library.folder / "a" / ".." / "..", library.folder)
    assert is_inside(library.folder / "none", library.folder)


def test_a_folder_that_is_not_there_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="none: no such folder of runs; make a run with `make"):
        Library(tmp_path / "none")
    if os.geteuid():  # root reads everything
        (tmp_path / "shut").mkdir(mode=0)
        with pytest.raises(InputError, match="cannot be read"):
            Library(tmp_path / "shut")
