"""Every page in a browser: it draws itself, whatever the window, and asks nobody else."""

import pytest
from browser import bar, frames, go, images, settled, state, until

pytestmark = pytest.mark.xdist_group("browser")

PAGES = {"forecasts": 3, "scores": 3, "spectra": 4, "season": 3, "emissivity": 5, "runs": 1}
WINDOWS = ((1440, 900), (820, 1180), (390, 844))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_draws_itself_in_wide_and_narrow_windows(name, page, served):
    go(page, served, page=name, runs="a,b", run="a")
    until(lambda: page.locator("canvas").count() >= PAGES[name])
    # nothing stays hidden behind a sign that it is being drawn
    until(lambda: page.locator(".pn-loading").count() == 0)
    for width, height in WINDOWS:
        page.set_viewport_size({"width": width, "height": height})
        settled(page)
        # it does not scroll sideways, and figures fit
        until(lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width)
        until(lambda width=width: all(
            frame["width"] > 100 and frame["left"] + frame["width"] <= width
            for frame in frames(page).values()
        ))  # fmt: skip


def test_the_tabs_lead_to_every_page(page, served):
    go(page, served, runs="a")
    for name, count in PAGES.items():
        page.get_by_role("link", name=name.capitalize(), exact=True).click()
        until(lambda name=name: state(page).get("page") == name)
        until(lambda count=count: page.locator("canvas").count() >= count)
    until(lambda: not images(page))  # no earlier page is still there


def test_back_and_forward_lead_through_the_pages_with_what_was_chosen(page, served):
    go(page, served, page="forecasts", runs="b", lead=24)
    bar(page, "Lead time").press("ArrowRight")
    until(lambda: state(page)["lead"] == "36")
    page.get_by_role("link", name="Scores", exact=True).click()
    until(lambda: "score" in state(page))
    score = page.get_by_label("Score", exact=True)
    score.select_option(index=1)
    until(lambda: state(page)["score"] == "bias")
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_role("cell", name="coarse").wait_for()
    page.evaluate("history.back()")
    score.wait_for()
    assert score.evaluate("(select) => select.selectedIndex") == 1
    assert state(page)["page"] == "scores" and state(page)["score"] == "bias"
    page.evaluate("history.back()")
    until(lambda: "b" in images(page))
    page.get_by_text("+1.5 days").first.wait_for()
    assert state(page)["lead"] == "36"
    page.evaluate("history.go(2)")
    page.get_by_role("cell", name="coarse").wait_for()
    assert state(page)["page"] == "runs"
