"""Every page in a browser: it draws itself, whatever the window, and asks nobody else."""

import pytest
from browser import go, images, state, until

pytestmark = pytest.mark.xdist_group("browser")

PAGES = {"forecasts": 3, "scores": 3, "spectra": 4, "season": 3, "emissivity": 5, "runs": 1}
WINDOWS = ((1440, 900), (1024, 768))


@pytest.mark.parametrize("window", WINDOWS, ids=["wide", "narrow"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_draws_itself(name, window, page, served):
    page.set_viewport_size(dict(zip(("width", "height"), window, strict=True)))
    go(page, served, page=name, runs="a,b", run="a")
    until(lambda: page.locator("canvas").count() >= PAGES[name])
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= window[0], "scrolls sideways"
    # nothing stays hidden behind a sign that it is being drawn
    until(lambda: page.locator(".pn-loading").count() == 0)


def test_the_tabs_lead_to_every_page(page, served):
    go(page, served, runs="a")
    for name, count in PAGES.items():
        page.get_by_role("button", name=name.capitalize(), exact=True).click()
        until(lambda name=name: state(page).get("page") == name)
        until(lambda count=count: page.locator("canvas").count() >= count)
    until(lambda: not images(page))  # no earlier page is still there
