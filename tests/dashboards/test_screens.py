"""The look of the pages: phones, dark colours, words and ensembles."""

import json
import re

import numpy as np
from browser import FIGURES, TEXTS, bar, curves, frames, go, images, limits, settled, state, until

from dashboards.colours import DIFFERENCE_QUANTILE
from seaice_lab.figures.maps import round_up
from seaice_lab.surrogate.evaluation import open_forecast

MINUS = "\N{MINUS SIGN}"
MAPS = ("Truth", "a", f"a {MINUS} truth")
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
# Whether each part of a curve is visible, by its name.
NAMED = f"""() => {{ {FIGURES}
    const found = {{}}
    for (const {{model}} of figures) {{
        for (const {{name, visible}} of model.renderers) (found[name] ??= []).push(visible)
    }}
    return found
}}"""
# Names of places and degrees that are written on the maps.
PLACES = f"""() => {{ {FIGURES}
    const texts = figures.flatMap(({{model}}) => model.renderers)
        .filter(({{glyph, visible}}) => glyph?.type === "Text" && visible)
    return texts.flatMap(({{data_source}}) => {{
        const {{text, shown_x}} = data_source.data
        return text.filter((_, i) => isFinite(shown_x[i]))
    }})
}}"""
# Colours of the lines by name.
COLOURS = f"""() => {{ {FIGURES}
    const found = {{}}
    for (const {{model}} of figures) {{
        for (const {{name, glyph}} of model.renderers) {{
            if (name && glyph.type === "Line") found[name] = glyph.line_color.value
        }}
    }}
    return found
}}"""


def below(part):
    """Lower edge of a part of a page in pixels."""
    box = part.bounding_box()
    return box["y"] + box["height"]


def test_maps_are_as_wide_as_a_phone_and_all_can_be_seen_on_a_desk(page, served):
    go(page, served, page="forecasts", runs="a", view="0,300,-100,200")
    shown = [frames(page)[title] for title in MAPS]
    assert max(frame["top"] + frame["height"] for frame in shown) < 900
    bottom = bar(page, "Lead time").bounding_box()
    assert bottom["y"] + bottom["height"] <= 900  # the time bar stays in sight
    page.set_viewport_size({"width": 390, "height": 844})
    until(lambda: all(frames(page)[title]["width"] > 300 for title in MAPS))
    until(lambda: page.evaluate("document.documentElement.scrollWidth") <= 390)
    texts = np.array(page.evaluate(TEXTS))  # one is at the western edge
    assert len(texts) >= 3 and 0 <= texts.min() < 0.1 and texts.max() <= 1
    assert page.get_by_role("button", name="Play").bounding_box()["height"] >= 44
    start = page.get_by_role("button", name="Previous start").bounding_box()
    assert below(bar(page, "Lead time")) - start["y"] < 110  # the bars leave room for the maps


def test_two_forecasts_are_compared_side_by_side_on_small_screens(page, served):
    go(page, served, page="forecasts", runs="a,b")
    for width, height in ((390, 844), (820, 1180)):
        page.set_viewport_size({"width": width, "height": height})
        until(lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width)

        def are_compared(width=width):
            shown = {key: frame for key, frame in frames(page).items() if "cross" not in key}
            left, top = ({k: round(f[side]) for k, f in shown.items()} for side in ("left", "top"))
            differences = top[f"a {MINUS} truth"], top[f"b {MINUS} truth"]
            if width < 700:  # each forecast beside its difference from the truth
                below = left["Truth"] == left["a"] == left["b"]
                return below and differences == (top["a"], top["b"])
            return top["Truth"] == top["a"] == top["b"] and differences[0] == differences[1]

        until(are_compared)
    page.set_viewport_size({"width": 1440, "height": 900})


def test_colours_follow_the_system_and_the_switch(page, served):
    page.emulate_media(color_scheme="dark")
    go(page, served, page="runs")
    dark = page.evaluate(BACKGROUND)
    page.get_by_role("button", name="Light colours").click()
    page.get_by_role("button", name="Dark colours").wait_for()
    settled(page)
    assert page.evaluate(BACKGROUND) != dark
    assert page.get_by_role("navigation").is_visible()
    page.emulate_media(media="print")
    assert not page.get_by_role("navigation").is_visible()
    page.emulate_media(media="screen")
    page.evaluate("localStorage.clear()")


def test_pages_are_links_and_a_headline_says_how_good_a_forecast_is(page, served):
    go(page, served, page="forecasts", runs="a", lead=24)
    link = page.get_by_role("link", name="Forecasts", exact=True)
    assert link.get_attribute("aria-current") == "page"
    scores = page.get_by_role("link", name="Scores", exact=True)
    scores.focus()
    assert "page=scores" in scores.get_attribute("href") and "runs=a" in scores.get_attribute(
        "href"
    )
    assert page.get_by_text("persistence").first.inner_text()
    text = page.locator(".headline div").first.inner_text()
    assert text.startswith("+1 day") and "RMSE 0." in text, text
    assert "starts; may be chance)" in text, text  # as few starts are independent
    assert any(f"{word} persistence" in text for word in ("% below", "% above", "equal to")), text
    assert bar(page, "Lead time").get_attribute("aria-valuetext").startswith("+1 day, valid 2010-")
    words = page.get_by_text("largest difference")
    words.wait_for()  # the maps in words, above the time bar on a desk and on a tablet
    for width, height in ((1440, 900), (820, 1180)):
        page.set_viewport_size({"width": width, "height": height})
        until(lambda: below(words) <= bar(page, "Lead time").bounding_box()["y"])
    page.set_viewport_size({"width": 1440, "height": 900})


def test_a_dead_link_says_what_is_shown_instead(page, served):
    go(page, served, page="forecasts", runs="gone,a", start="2050-01-01", lead=999)
    page.get_by_text("This page has nothing of gone; it shows a instead.").wait_for()
    assert page.get_by_text("a has no forecast from 2050-01-01").count()
    assert page.get_by_text("a has no forecast 999 hours ahead; shown: 4 days").count()
    go(page, served, page="scores", runs="half")
    page.get_by_text("This page has nothing of half; it shows").wait_for()


def test_members_of_an_ensemble_have_a_mean_a_spread_and_probabilities(page, served, home):
    members = open_forecast(home / "runs" / "members").sit[0, :, 1].values
    go(page, served, page="forecasts", runs="members", lead=24, second="spread")
    title = "members, mean of 3"
    np.testing.assert_allclose(images(page)[title], members.mean(0), rtol=1e-5)
    spread = images(page)[f"{title}: spread"]
    np.testing.assert_allclose(spread, members.std(0, ddof=1), atol=1e-6)
    page.get_by_label("Maps of an ensemble").select_option("Probability of thicker ice")
    name = f"{title}: probability > 1 m"
    until(lambda: name in images(page))
    shown = images(page)[name]
    sea = np.isfinite(shown)
    np.testing.assert_allclose(shown[sea], (members > 1).mean(0)[sea], atol=1e-6)
    assert limits(page)[name] == [0, 1]
    ((above, lines),) = curves(page).items()
    assert set(lines) == {"Truth", title} and above.endswith("band: range of the members")
    parts = page.evaluate(NAMED)
    assert (len(parts["Truth"]), len(parts[title])) == (1, 2)  # a line, and one with a band
    page.get_by_label("Maps of an ensemble").select_option("Probability of ice")
    name = f"{title}: probability of ice (> 0.1 m)"
    until(lambda: name in images(page))
    np.testing.assert_allclose(images(page)[name][sea], (members > 0.1).mean(0)[sea], atol=1e-6)


def test_colours_come_from_the_data_or_are_fixed(page, served):
    go(page, served, page="forecasts", runs="a", lead=24)
    low, high = limits(page)["a"]
    assert low == 0 and np.nanmax(images(page)["Truth"]) * 0.9 < high < 4
    page.get_by_label("Range of the colours").select_option("Fixed")
    until(lambda: limits(page)["a"] == [0, 4])
    page.get_by_label("Range of differences").select_option("Of each lead time")
    title = f"a {MINUS} truth"
    for step in (1, 2):
        top = round_up(float(np.nanquantile(np.abs(images(page)[title]), DIFFERENCE_QUANTILE)))
        until(lambda top=top: limits(page)[title] == [-top, top])
        bar(page, "Lead time").press("ArrowRight")
        until(lambda step=step: state(page)["lead"] == str(12 * (step + 2)))


def test_a_run_is_selected_in_the_table_and_its_command_can_be_copied(page, served, home):
    go(page, served, page="runs", run="a")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    command = json.loads((home / "runs" / "a" / "provenance.json").read_text())["command"]
    until(lambda: page.evaluate("navigator.clipboard.readText()") == command)
    page.get_by_role("link", name="coarse", exact=True).click()
    until(lambda: state(page)["run"] == "coarse")
    row = page.get_by_role("row", name="Learning rate")  # settings in words
    row.wait_for()
    assert row.get_attribute("title").startswith("fit.learning_rate: ")
    row = page.get_by_role("row", name="Window")
    assert row.get_attribute("title") == "window: self_consistent"
    assert row.get_by_role("cell").inner_text() == "self-consistent"
    assert page.get_by_role("button", name="Copy").count() == 1
    page.evaluate("history.back()")
    until(lambda: state(page)["run"] == "a")


def test_a_position_selects_its_nearest_cell_and_an_animation_is_made(page, served, home):
    go(page, served, page="forecasts", runs="a", lead=24)
    ocean = open_forecast(home / "runs" / "a").ocean
    text = f"{float(ocean.latitude[9, 12]):.3f}, {float(ocean.longitude[9, 12]):.3f}"
    page.get_by_label("Cell at latitude, longitude").fill(text)
    page.get_by_label("Cell at latitude, longitude").press("Enter")
    until(lambda: state(page).get("cell") == str(9 * ocean.shape[1] + 12))
    with page.expect_download() as download:
        page.get_by_text("Animation (GIF)").click()
    assert download.value.path().read_bytes().startswith(b"GIF8")


def test_wide_tables_fit_on_a_phone(page, served):
    page.set_viewport_size({"width": 390, "height": 844})
    go(page, served, page="analyses", cycle="cycle")
    cells = page.get_by_role("region", name="Departures").locator("td").all()
    boxes = [cell.bounding_box() for cell in cells]
    assert len(boxes) >= 7 and all(0 <= box["x"] <= 390 - box["width"] for box in boxes)
    assert len({box["y"] for box in boxes[:7]}) == 1  # a region is one row
    go(page, served, page="runs", run="a")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="coarse", exact=True))
    name, _, _, state_of_run, *_ = [cell.bounding_box() for cell in row.locator("td").all()]
    assert name["x"] < state_of_run["x"] <= 390 - state_of_run["width"]
    assert abs(name["y"] - state_of_run["y"]) < 2  # in one line
    page.set_viewport_size({"width": 1440, "height": 900})
    until(lambda: page.get_by_role("columnheader", name="System").is_visible())


def test_one_legend_hides_a_curve_in_all_figures_at_every_lead_time(page, served):
    go(page, served, page="scaling", runs="a")
    legend = page.get_by_role("group", name="Curves of all figures")
    button = legend.get_by_role("button", name="Persistence")
    assert button.get_attribute("aria-pressed") == "true"
    assert legend.get_by_role("button", name="Truth", exact=True).count() == 1

    def hidden():
        parts = page.evaluate(NAMED)["Persistence"]
        return len(parts) >= 4 and not any(parts)

    assert not hidden()
    button.click()
    until(hidden)
    assert button.get_attribute("aria-pressed") == "false"
    bar(page, "Lead time").press("ArrowRight")  # new figures for the orders
    until(lambda: state(page).get("lead"))
    settled(page)
    until(hidden)
    assert all(page.evaluate(NAMED)["Truth"])
    button.click()
    until(lambda: all(page.evaluate(NAMED)["Persistence"]))


def test_a_curve_of_a_season_stays_hidden_at_another_start(page, served):
    go(page, served, page="season", runs="a,b")
    legend = page.get_by_role("group", name="Curves of all figures")
    legend.get_by_role("button", name="b", exact=True).click()
    until(lambda: not any(page.evaluate(NAMED)["b"]))
    bar(page, "Start").press("ArrowRight")
    until(lambda: state(page).get("start"))
    settled(page)
    parts = until(lambda: page.evaluate(NAMED))
    assert len(parts["b"]) >= 3 and not any(parts["b"]) and all(parts["a"])


def test_an_emissivity_has_one_legend_for_both_polarisations(page, served):
    go(page, served, page="emissivity", emissivity_run="ice")
    assert {"Beaufort Sea", "Barents Sea", "80°N", "90°E"} <= set(page.evaluate(PLACES))
    legend = page.get_by_role("group", name="Curves of all figures")
    legend.get_by_role("button", name="melting ice").click()
    until(lambda: not any(page.evaluate(NAMED)["melting ice"]))
    parts = page.evaluate(NAMED)
    assert len(parts["melting ice"]) >= 2  # one in each figure
    assert all(parts["first-year ice"])


def test_black_curves_are_light_on_a_dark_page_and_amber_stays(page, served):
    page.emulate_media(color_scheme="dark")
    go(page, served, page="scaling", runs="a")
    colours = until(lambda: page.evaluate(COLOURS))
    assert colours["Truth"] == "#e6e6e6" and colours["Blurred truth"] == "#E69F00"
    page.emulate_media(color_scheme="light")
    go(page, served, page="scaling", runs="a")
    assert until(lambda: page.evaluate(COLOURS))["Truth"] == "#000000"


def test_the_chosen_hemisphere_is_unlike_the_other_one(page, served):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        go(page, served, page="emissivity", emissivity_run="ice")
        colours = [
            page.locator(".bk-btn", has_text=name).evaluate(
                "button => getComputedStyle(button).backgroundColor"
            )
            for name in ("North", "South")
        ]
        assert luminance_ratio(*colours) > 3, (scheme, colours)


def luminance_ratio(*colours):
    """Contrast of two CSS colours without transparency, as of WCAG."""
    lights = []
    for colour in colours:
        parts = np.array(re.findall(r"[\d.]+", colour)[:3], float) / 255
        parts = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        lights.append(parts @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(lights) / min(lights)
