"""Every page in a browser: it draws itself, whatever the window, and asks nobody else."""

import pytest
from browser import frames, go, images, settled, state, until

pytestmark = pytest.mark.xdist_group("browser")

PAGES = {"forecasts": 3, "scores": 3, "spectra": 4, "season": 3, "emissivity": 5, "runs": 1}
WINDOWS = ((1440, 900), (1024, 768))


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
        page.get_by_role("button", name=name.capitalize(), exact=True).click()
        until(lambda name=name: state(page).get("page") == name)
        until(lambda count=count: page.locator("canvas").count() >= count)
    until(lambda: not images(page))  # no earlier page is still there
