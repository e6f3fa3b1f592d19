"""The forecasts page in a browser: maps show the right numbers, and go where one leads them."""

import io
import math
import re
import shutil
import urllib.request

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from browser import (
    FIGURES,
    bar,
    curves,
    frames,
    go,
    images,
    limits,
    screen,
    settled,
    state,
    until,
    until_listed,
    visit,
)
from conftest import SIZE
from PIL import Image

from seaice_lab import names
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.store import open_store

MINUS = "\N{MINUS SIGN}"
CLIPPED = f"""() => {{ {FIGURES}
    return figures.every((figure) => figure.computed_renderer_views.every((view) =>
        view.model.level !== "overlay" || view.model.type !== "GlyphRenderer" || view.needs_clip))
}}"""
DIFFERENCE = f"a {MINUS} truth"
CELL = 12 * SIZE + 9
COLOURS = {"low": "0.5", "high": "1.75", "wide": "0.3"}


@pytest.fixture(scope="module")
def raw(home):
    """The run of the model that the forecasts are of, as it was before it was prepared."""
    return xr.load_dataset(home / "data" / "waves" / "test_1.nc").sit


@pytest.fixture(scope="module")
def known(home, raw):
    """Forecast (init_time, lead_time, y, x) of run a, and the truth at the same times."""
    forecast = open_forecast(home / "runs" / "a").sit.load()
    truth = raw.sel(time=forecast.init_time + forecast.lead_time)
    return forecast.values, truth.transpose("init_time", "lead_time", "y", "x").values


def shows(page, title, values):
    """Wait until a map shows these values."""
    until(lambda: np.array_equal(images(page)[title], values.astype("f8"), equal_nan=True))


def starts(home):
    """Starts of run a as they are written."""
    times = open_forecast(home / "runs" / "a").init_time.values
    return [str(time)[:16].replace("T", " ") for time in times]


def lead(page):
    return bar(page, "Lead time")


def test_maps_show_truth_forecast_and_difference_of_the_chosen_lead_and_start(
    page, served, home, known
):
    forecast, truth = known
    go(page, served, page="forecasts", runs="a")
    for step in (0, 1, 2):
        shows(page, "Truth", truth[0, step])
        shows(page, "a", forecast[0, step])
        shows(page, DIFFERENCE, forecast[0, step] - truth[0, step])
        lead(page).press("ArrowRight")
    bar(page, "Start").fill("4")
    shows(page, "Truth", truth[4, 3])
    shows(page, "a", forecast[4, 3])
    shows(page, DIFFERENCE, forecast[4, 3] - truth[4, 3])
    assert np.nanmax(np.abs(truth[4, 3] - truth[0, 3])) > 0.01  # there was something to see
    date = starts(home)[2][:10]  # a calendar selects the first start of a day
    page.get_by_label("Date of the start").fill(date)
    first = next(k for k, text in enumerate(starts(home)) if text >= date)
    shows(page, "a", forecast[first, 3])
    assert page.evaluate(CLIPPED)  # no line of a map crosses its title


def test_references_stand_beside_the_runs(page, served, home, raw, known):
    _, truth = known
    go(page, served, page="forecasts", runs="a,b", lead=24)
    page.get_by_label("Persistence", exact=True).check()
    analysis = raw.sel(time=starts(home)[0].replace(" ", "T")).values
    until(lambda: "persistence" in images(page))
    shows(page, "persistence", analysis)
    shows(page, f"persistence {MINUS} truth", analysis - truth[0, 1])
    b = open_forecast(home / "runs" / "b").sit[0, 1].values
    shows(page, "b", b)


@pytest.fixture
def namesakes(home):
    """Copies of run b that are called like the truth and like a reference."""
    copies = [home / "runs" / name for name in ("Truth", "persistence")]
    for copy in copies:
        shutil.copytree(home / "runs" / "b", copy)
    until_listed()
    yield [copy.name for copy in copies]
    for copy in copies:
        shutil.rmtree(copy)


def test_runs_may_be_called_like_the_truth_or_a_reference(
    page, served, home, raw, known, namesakes
):
    query = {"runs": ",".join(namesakes), "references": "persistence"}
    go(page, served, page="forecasts", lead=24, cell=CELL, **query)
    b = open_forecast(home / "runs" / "b").sit.values
    shows(page, "Truth", known[1][0, 1])
    shows(page, "persistence", raw.sel(time=starts(home)[0].replace(" ", "T")).values)
    for title in ("run Truth", "run persistence"):
        shows(page, title, b[0, 1])
        shows(page, f"{title} {MINUS} truth", b[0, 1] - known[1][0, 1])
    titles = {"Truth", "persistence", "run Truth", "run persistence"}
    (drawn,) = curves(page).values()
    assert set(drawn) == titles
    np.testing.assert_array_equal(drawn["run Truth"][1], b[0, :, CELL // SIZE, CELL % SIZE])
    for name in ("scores", "spectra", "season"):
        visit(page, name)
        drawn = until(lambda: curves(page))
        titles = [{re.split(r":| \(", name)[0] for name in lines} for lines in drawn.values()]
        assert all({"run Truth", "run persistence"} <= of for of in titles if len(of) > 1), titles


def test_the_pointer_tells_value_and_position(page, served, home, known):
    forecast, _ = known
    go(page, served, page="forecasts", runs="a", lead=12)
    store = open_store(home / "stores" / "waves.zarr")
    row, column = 22, 11
    x, y = float(store.x[column]) / 1e3, float(store.y[row]) / 1e3
    page.mouse.move(*screen(page, "a", x, y), steps=3)
    tip = page.locator(".bk-tooltip-content:visible").first
    text = tip.inner_text()
    value, unit = text.split()[:2]
    assert (float(value), unit) == (pytest.approx(forecast[0, 0, row, column], abs=6e-4), "m")
    assert text.endswith("central Arctic")  # the region of the scores
    latitude, longitude = text.split()[2:4]
    east = float(store.longitude[row, column])
    assert float(latitude.split("°")[0]) == pytest.approx(
        float(store.latitude[row, column]), abs=0.03
    )
    assert longitude.endswith("W" if east < 0 else "E")
    # half a pixel is some hundred metres, which is much longitude so near the pole
    apart = (float(longitude.split("°")[0]) - abs(east)) * math.cos(math.radians(87.5))
    assert abs(apart) < 0.03


def test_a_click_draws_the_cell_through_the_lead_times(page, served, home, known):
    forecast, truth = known
    go(page, served, page="forecasts", runs="a")
    store = open_store(home / "stores" / "waves.zarr")
    row, column = divmod(CELL, SIZE)
    x, y = float(store.x[column]) / 1e3, float(store.y[row]) / 1e3
    page.mouse.click(*screen(page, "Truth", x, y))
    until(lambda: state(page).get("cell") == str(CELL))
    position = f"{float(store.latitude[row, column]):.2f}°N"
    drawn = until(lambda: {k: v for k, v in curves(page).items() if position in k})
    (title,) = drawn
    for name, values in (("a", forecast), ("Truth", truth)):
        days, curve = drawn[title][name]
        np.testing.assert_allclose(days, np.arange(1, 9) / 2)
        np.testing.assert_array_equal(curve, values[0, :, row, column].astype("f8"))
    bar(page, "Start").fill("3")
    until(lambda: curves(page)[title]["a"][1][0] == forecast[3, 0, row, column])
    # A click on land selects nothing. The later move shows that the click has been answered.
    page.mouse.click(*screen(page, "Truth", float(store.x[0]) / 1e3, float(store.y[0]) / 1e3))
    lead(page).press("ArrowRight")
    until(lambda: state(page)["lead"] == "24")
    assert state(page)["cell"] == str(CELL)


def test_a_link_shows_another_person_the_same(page, context, served, home, known):
    forecast, truth = known
    view = "-150,200,-120,180"
    query = {"page": "forecasts", "runs": "b,a", "references": "climatology", "variable": "sit",
             "start": starts(home)[2], "lead": "36", "cell": str(CELL), "view": view}  # fmt: skip
    go(page, served, **query, **COLOURS)
    shown = images(page)
    titles = ["b", "a", "climatology"]
    assert list(shown) == ["Truth", *titles, *(f"{title} {MINUS} truth" for title in titles)]
    np.testing.assert_array_equal(shown["Truth"], truth[2, 2].astype("f8"))
    np.testing.assert_array_equal(shown["a"], forecast[2, 2].astype("f8"))
    assert limits(page)["b"] == [0.5, 1.75] and limits(page)[DIFFERENCE] == [-0.3, 0.3]
    frame = frames(page)["Truth"]
    assert frame["x"] == [-150, 200] and frame["y"] == [-120, 180]
    assert next(iter(curves(page).values()))["a"][1][0] == forecast[2, 0].ravel()[CELL]
    page.get_by_label("Colours from").fill("0.25")
    page.get_by_label("Colours from").press("Enter")
    lead(page).press("ArrowRight")
    until(lambda: state(page)["lead"] == "48" and state(page)["low"] == "0.25")
    for name in ("references", "start", "cell", "view", "high", "wide"):
        assert state(page)[name] == (query | COLOURS)[name], name
    other = context.new_page()
    other.goto(page.evaluate("location.href"))
    settled(other)
    again = images(other)
    assert list(again) == list(images(page))
    for title, values in images(page).items():
        np.testing.assert_array_equal(again[title], values, title)
    assert limits(other) == limits(page)
    assert frames(other)["Truth"]["x"] == [-150, 200]


def test_zooming_moves_all_maps_and_stays_when_the_lead_changes(page, served, known):
    forecast, _ = known
    go(page, served, page="forecasts", runs="a")
    before = frames(page)["a"]["x"]
    page.mouse.move(*screen(page, "a", 50, 30))
    page.mouse.wheel(0, 300)  # scrolls the page
    until(lambda: page.evaluate("scrollY") > 0)
    assert frames(page)["a"]["x"] == before and "view" not in state(page)
    page.evaluate("scrollTo(0, 0)")
    page.mouse.move(*screen(page, "a", 50, 30))
    page.keyboard.down("Control")
    page.mouse.wheel(0, -400)
    page.keyboard.up("Control")
    until(lambda: "view" in state(page))
    after = frames(page)
    assert after["a"]["x"][1] - after["a"]["x"][0] < 0.9 * (before[1] - before[0])
    lead(page).press("ArrowRight")
    shows(page, "a", forecast[0, 1])
    for title in ("Truth", "a", DIFFERENCE):
        assert frames(page)[title]["x"] == after["a"]["x"], title
        assert frames(page)[title]["y"] == after["a"]["y"], title
    ends = after["a"]["x"] + after["a"]["y"]
    until(lambda: [float(end) for end in state(page)["view"].split(",")]
          == pytest.approx(ends, abs=0.06))  # fmt: skip


def test_play_goes_through_the_lead_times_until_it_is_stopped(page, served, known):
    forecast, _ = known
    go(page, served, page="forecasts", runs="a", lead=12)
    page.get_by_role("button", name="Play").click()
    until(lambda: int(state(page)["lead"]) >= 36)
    page.get_by_role("button", name="Pause").click()
    stopped = int(lead(page).input_value())
    shows(page, "a", forecast[0, stopped])
    # Time that still ran would not be at the next step after one press of a key.
    step = -1 if stopped else 1
    page.locator("body").press("ArrowLeft" if stopped else "ArrowRight")
    until(lambda: state(page)["lead"] == str(12 * (stopped + step + 1)))
    shows(page, "a", forecast[0, stopped + step])
    assert int(lead(page).input_value()) == stopped + step
    page.get_by_role("button", name="Play").click()
    said = len(served.log.read_text())
    page.close()  # while the server sends pictures
    until(lambda: "WebSocket connection closed" in served.log.read_text()[said:])
    urllib.request.urlopen(served.url, timeout=20).close()  # after what was being sent
    assert "WebSocketClosedError" not in served.log.read_text()[said:]


def test_everything_is_reached_and_moved_by_the_keyboard(page, served, known):
    forecast, _ = known
    go(page, served, page="forecasts", runs="a", lead=12)
    focus = """() => {
        let at = document.activeElement
        while (at.shadowRoot?.activeElement) at = at.shadowRoot.activeElement
        return `${at.tagName} ${at.type} ${at.parentElement?.innerText || at.innerText}`
    }"""

    def tab_to(start):
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focus).startswith(start):
                return
        raise AssertionError(f"{start} is not reached")

    tab_to("INPUT checkbox b")
    page.keyboard.press("Space")
    until(lambda: state(page)["runs"] in ("a,b", "b,a"))
    tab_to("INPUT range")  # of the start
    tab_to("INPUT range")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    shows(page, "a", forecast[0, 2])
    page.keyboard.press("ArrowLeft")
    shows(page, "a", forecast[0, 1])
    page.get_by_role("link", name="Forecasts", exact=True).focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    until(lambda: state(page)["page"] == "scores")


def test_the_fields_can_be_had_as_netcdf_as_geotiff_and_as_a_figure(page, served, known, tmp_path):
    forecast, truth = known
    go(page, served, page="forecasts", runs="a", lead=24, **COLOURS)
    with page.expect_download() as download:
        page.get_by_text("Fields (NetCDF)").click()
    assert download.value.suggested_filename == "a_sit_2010-01-01T0000_+24h.nc"
    file = tmp_path / "fields.nc"
    download.value.save_as(file)
    with xr.open_dataset(file) as found:
        assert found.attrs["Conventions"] == names.CONVENTIONS
        assert found.sit_a.attrs["standard_name"] == "sea_ice_thickness"
        assert found.sit_a.attrs["units"] == "m"
        np.testing.assert_array_equal(found.sit_a.squeeze(), forecast[0, 1])
        np.testing.assert_array_equal(found.sit_Truth.squeeze(), truth[0, 1])
    with page.expect_download() as download:
        page.get_by_text("Fields (GeoTIFF)").click()
    assert download.value.suggested_filename == "a_sit_2010-01-01T0000_+24h.tif"
    with Image.open(download.value.path()) as found:
        pages = {}
        for number in range(found.n_frames):
            found.seek(number)
            pages[found.tag_v2[270]] = np.array(found)
        tags = found.tag_v2
    for title, field in (("a", forecast), ("Truth", truth)):
        np.testing.assert_array_equal(pages[title][::-1], field[0, 1])  # north is up
    keys = np.reshape(tags[34735][4:], (-1, 4))[:, [0, 3]].tolist()
    assert [3072, 3413] in keys and [1025, 1] in keys  # EPSG code, values of areas
    assert tags[33550] == (25e3, 25e3, 0) and tags[33922][3:5] == (-400e3, 400e3)
    with page.expect_download() as download:
        page.get_by_text("Figure (PNG)").click()
    assert download.value.suggested_filename.endswith(".png")
    picture = matplotlib.image.imread(io.BytesIO(download.value.path().read_bytes()))
    assert 500 < picture.shape[0] < 5000 and 500 < picture.shape[1] < 5000
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 100  # not empty


def test_at_most_four_runs_are_shown(page, served):
    go(page, served, page="season", runs="coarse,a,b,sweep/inner")
    assert page.locator("input[type=checkbox]:checked").count() == 4
    page.get_by_label("<img", exact=False).click()
    until(lambda: page.locator("input[type=checkbox]:checked").count() == 4)
    until(lambda: len(state(page)["runs"].split(",")) == 4)


def test_a_forecast_on_another_grid_says_so_under_its_map(page, served, known):
    forecast, _ = known
    go(page, served, page="forecasts", runs="a,coarse")
    assert page.get_by_text("coarse has a grid of (16, 16) cells, a one of (32, 32)").count() == 2
    shows(page, "a", forecast[0, 0])
    assert np.isnan(images(page)["coarse"]).all()


def test_a_chosen_cell_is_given_up_when_the_grid_changes(page, served):
    go(page, served, page="forecasts", runs="a,coarse", cell=900)
    assert curves(page)
    page.get_by_label("a", exact=True).uncheck()
    until(lambda: "cell" not in state(page))
    until(lambda: images(page)["Truth"].shape == (16, 16))
    assert curves(page)  # of a cell in the middle


def test_maps_of_the_emissivity_show_the_hemisphere_that_is_switched_on(page, served, home):
    product = xr.load_dataset(
        home / "runs" / "ice" / "emissivity_grid_final.nc", decode_times=False
    )
    estimate, latitude = product.sea_ice_concentration.values[0], product.lat.values

    def shows_values_of(points):
        shown = images(page).get("Estimate", np.zeros(0))
        return np.array_equal(np.sort(shown[np.isfinite(shown)]), np.sort(estimate[points]))

    go(page, served, page="emissivity", emissivity_run="ice")
    until(lambda: shows_values_of(latitude >= 0))
    page.get_by_role("button", name="South").click()
    until(lambda: shows_values_of(latitude < 0))
    until(lambda: state(page).get("hemisphere") == "south")
    page.reload()
    until(lambda: shows_values_of(latitude < 0))
