"""The pages of scores and spectra: common starts, score card, headlines; emissivity, analyses."""

import shutil

import numpy as np
import pytest
import xarray as xr
from browser import curves, go, images, limits, screen, settled, state, until, until_listed

from dashboards import analyses
from dashboards.departures import figures_of, headline
from dashboards.library import Library
from dashboards.state import PageState
from seaice_lab.files import write_netcdf
from seaice_lab.surrogate.evaluation import read_evaluation

AGAINST_LEAD = "Against lead time, 95 % interval over the starts"


@pytest.fixture
def fewer(home):
    """A copy of the run ``b`` whose scores have every second start only."""
    from seaice_lab.diagnostics import comparison

    run = home / "runs" / "fewer"
    shutil.copytree(home / "runs" / "b", run)
    table, _ = read_evaluation(run)
    some = table.isel(init_time=slice(None, None, 2))
    regions = comparison.starts_of(some, comparison.BY_REGION)
    pooled = comparison.pool_scores(comparison.starts_of(some), regions or None)
    write_netcdf(run / "scores.nc", pooled)
    until_listed()
    yield pooled
    shutil.rmtree(run)


def test_runs_are_compared_on_common_starts_and_the_card_says_how_well(page, served, home, fewer):
    go(page, served, page="scores", runs="a,fewer", references="persistence", lead=48)
    count = fewer.sizes["init_time"]
    table, _ = read_evaluation(home / "runs" / "a")
    both = table.sel(init_time=fewer.init_time)
    expected = {
        f"a ({count} starts)": both.sel(source="forecast"),
        f"fewer ({count} starts)": fewer.sel(source="forecast"),
        f"Persistence ({count} starts)": both.sel(source="persistence"),
    }
    lines = curves(page)[AGAINST_LEAD]
    assert set(lines) == set(expected)
    page.mouse.move(*screen(page, "Regions: a", 0, 0), steps=3)  # at the pole
    told = page.locator(".bk-tooltip-content:visible").first.inner_text()
    assert "central Arctic" in told and {"a:", "fewer:", "Persistence:"} <= set(told.split())
    for label, scores in expected.items():
        pooled = (scores.rmse_by_start**2).mean("init_time") ** 0.5
        np.testing.assert_allclose(lines[label][1], pooled, rtol=1e-6)
    rows = [row.split("\t") for row in page.locator("table tr").all_inner_texts()]
    head, first, *_ = rows
    assert head[1:4] == ["Starts", "0.5 d", "1 d"]
    assert first[:2] == ["a", str(count)]
    decimals = {len(cell.split(".")[1]) for row in rows[1:] for cell in row[2:]}
    assert len(decimals) == 1
    rmse = float((expected[f"a ({count} starts)"].rmse_by_start[:, 3] ** 2).mean() ** 0.5)
    pattern = f"+2 days: RMSE {rmse:.3g}"[:18]
    assert page.get_by_text(pattern).count() >= 1
    # The few days of these starts have one weather.
    reason = (
        f"persistence, which may be chance, because few starts are independent ({count} starts)"
    )
    assert page.get_by_text(reason).count() >= 2
    page.get_by_text("Nothing is bold").wait_for()
    # A card coloured by the skill against another run, which is 0 for the run itself.
    page.get_by_label("Compared with").select_option("fewer")
    until(lambda: state(page).get("against") == "run:fewer")
    until(lambda: page.get_by_text("Blue: better than fewer").count() == 1)
    cells = page.locator("table tr:has(th:text-is('fewer')) td")
    assert all("background" not in (cell.get_attribute("style") or "") for cell in cells.all())


def test_what_is_missing_is_said(page, served, home):
    run = home / "runs" / "other"
    shutil.copytree(home / "runs" / "a", run)
    try:
        with xr.open_dataset(run / "scores.nc", decode_timedelta=True) as file:
            table = file.load()
        later = table.assign_coords(init_time=table.init_time + np.timedelta64(400, "D"))
        later["init_time"].attrs = table.init_time.attrs
        write_netcdf(run / "scores.nc", later)
        until_listed()
        go(page, served, page="scores", runs="a,other", score="bias")
        page.get_by_text("other is not compared: it shares no start date with a").wait_for()
        assert not any("other" in name for name in curves(page)[AGAINST_LEAD])
        drawn = curves(page)["By start, 2 days ahead"]  # a lead time of the score card
        starts = read_evaluation(home / "runs" / "a")[0].bias_by_start
        for title, source in (("a", "forecast"), ("Persistence", "persistence")):
            expected = starts.sel(source=source, lead_time=np.timedelta64(48, "h"))
            np.testing.assert_allclose(drawn[f"{title} (8 starts)"][1], expected, rtol=1e-6)
        assert not any("month" in name for name in curves(page))  # all starts are in one
    finally:
        shutil.rmtree(run)


def test_an_ensemble_has_its_spread_and_its_ranks(page, served, home):
    go(page, served, page="scores", runs="members", lead=24)
    table = read_evaluation(home / "runs" / "members")[0].sel(source="forecast")
    lines = curves(page)
    spread = lines["members: spread of 3 members"]
    np.testing.assert_allclose(spread["Spread"][1], table.spread, rtol=1e-6)
    reliable = (3 / 4) ** 0.5 * table.rmse
    np.testing.assert_allclose(spread["Spread of a reliable ensemble"][1], reliable, rtol=1e-6)
    _, shares = lines["members: ranks, 1 day ahead; dashed: reliable"]["members"]
    ranks = table.rank_histogram.sel(lead_time=np.timedelta64(24, "h"))
    assert ranks.sizes["rank"] == 4 and float(ranks.sum()) == pytest.approx(1)
    np.testing.assert_allclose(shares[1:-1:2], ranks, rtol=1e-6)


def test_spectra_say_in_words_how_much_detail_is_lost(page, served, home):
    go(page, served, page="spectra", runs="a,b", lead=96)
    _, spectrum = read_evaluation(home / "runs" / "a")
    slope = float(spectrum.slope.sel(source="forecast")[-1])
    minus = "\N{MINUS SIGN}"
    text = f"exponent {slope:.2f}".replace("-", minus)
    assert page.get_by_text(text).count() >= 1
    lines = curves(page)["Power kept: forecast over truth"]
    power = spectrum.power.isel(lead_time=-1)
    ratio = (power.sel(source="forecast") / power.sel(source="truth")).values
    np.testing.assert_allclose(np.sort(lines["a"][1]), np.sort(ratio), rtol=1e-6)


def test_the_emissivity_page_shows_the_truth_and_readable_departures(page, served, home):
    go(page, served, page="emissivity", emissivity_run="ice")  # a point is selected already
    maps = until(lambda: images(page))
    assert {"Estimate", "Truth", "Estimate \N{MINUS SIGN} truth"} <= set(maps)
    difference = maps["Estimate"] - maps["Truth"]
    np.testing.assert_allclose(maps["Estimate \N{MINUS SIGN} truth"], difference, atol=1e-6)
    assert page.get_by_text("against the truth").count() == 1
    lines = curves(page)
    vertical = lines["Vertical polarisation; grey: published types of ice"]
    horizontal = lines["Horizontal polarisation; grey: published types of ice"]
    assert not np.allclose(vertical["melting ice"][1], horizontal["melting ice"][1])
    assert any("start of the solver" in title for title in lines)
    settled(page)


def test_the_analyses_page_shows_the_states_of_a_window_and_its_departures(page, served, home):
    folder = home / "runs" / "cycle"
    window = xr.load_dataset(folder / "window_0001.nc")
    start = str(window.analysis_time.values)[:16].replace("T", " ")
    go(page, served, page="analyses", cycle="cycle", window=start, lead=12)
    maps = until(lambda: images(page))
    for name in ("background", "analysis"):
        values, shown = window.sit.sel(state=name)[1].values, maps[name.capitalize()]
        np.testing.assert_allclose(
            np.sort(values[np.isfinite(values)]), np.sort(shown[np.isfinite(shown)]), rtol=1e-6
        )
    increment = maps["Analysis \N{MINUS SIGN} background"]
    np.testing.assert_allclose(increment, maps["Analysis"] - maps["Background"], atol=1e-6)
    # Both windows have the same colours, wide enough for each.
    sizes = [xr.load_dataset(path).sit for path in sorted(folder.glob("window_*.nc"))]
    largest = max(float(abs(sit).isel(valid_time=[0, -1]).quantile(0.99)) for sit in sizes)
    assert largest <= limits(page)["Background"][1] <= 1.2 * largest
    diagnostics = xr.load_dataset(folder / "diagnostics.nc")
    count = int(diagnostics.used[1])
    assert page.get_by_text(f"{count} observations of sea-ice thickness").count() == 1
    rms = diagnostics.isel(group=0).rms.sel(state="analysis")
    assert page.get_by_role("cell", name=f"{float(rms):.3f}").count() >= 1
    lines = curves(page)["Sea-ice thickness: departures"]
    assert {"O \N{MINUS SIGN} B", "O \N{MINUS SIGN} A"} <= set(lines)
    assert list(headline(window, None, None).values()) == [
        "no observations were used, so the analysis is the background"
    ]


def test_departures_of_an_unknown_kind_are_reported_as_text(home, tmp_path):
    shutil.copytree(home / "runs" / "cycle", tmp_path / "cycle")
    path = tmp_path / "cycle" / "departures_0000.nc"
    table = xr.load_dataset(path)
    kinds = np.full(table.sizes["observation"], "<b>thick</b>")
    write_netcdf(path, table.assign(kind=("observation", kinds)))
    _, main = analyses.page(Library(tmp_path), PageState({}))
    assert "cannot be read here (KeyError" in main[0].object
    assert "&lt;b&gt;thick" in main[0].object


def test_a_window_without_observations_does_not_hide_the_band_of_the_others(home):
    diagnostics = xr.load_dataset(home / "runs" / "cycle" / "diagnostics.nc")
    columns = diagnostics[["used", "cost_ratio", "low", "high"]]
    is_later = diagnostics.window > diagnostics.window[0]
    figure = figures_of(diagnostics.assign(columns.where(is_later)))[0]
    assert "Area" in [type(element).__name__ for element in figure]
