"""Every page in a browser: it draws itself in any window, for everybody, and asks nobody else."""

import urllib.request
from pathlib import Path

from browser import FIGURES, bar, frames, go, images, settled, state, until, visit

PAGES = {"forecasts": 3, "scores": 3, "spectra": 4, "scaling": 5, "season": 3, "analyses": 6,
         "emissivity": 5, "runs": 1}  # fmt: skip
AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
# ``preload`` would fetch style sheets and media, which no rule needs that can be serious here.
SERIOUS = """async () => {
    const {violations} = await axe.run({resultTypes: ["violations"], preload: false})
    return violations.filter(({impact}) => ["serious", "critical"].includes(impact))
        .map(({id, nodes}) => [id, nodes.map(({html}) => html.slice(0, 120))])
}"""
# No text goes beyond the upper edge of a figure.
CUT = f"""() => {{ {FIGURES}
    const layers = figures.flatMap(({{canvas_view: view}}) => [view.primary, view.overlays])
    return layers.every(({{canvas}}) => {{
        const row = canvas.getContext("2d").getImageData(0, 0, canvas.width, 1).data
        return row.every((red, i) => i % 4 || red > 120 || row[i + 3] < 60)
    }})
}}"""
# What a page shows at its first paint.
FIRST_PAINT = """new PerformanceObserver(() => {
    const skeleton = document.getElementById("skeleton")
    window.first_painted ??= skeleton?.checkVisibility() ? skeleton.innerText : "no skeleton"
}).observe({type: "paint", buffered: true})"""
WINDOWS = ((1440, 900), (820, 1180), (390, 844))


def test_every_page_draws_itself_in_three_windows_and_an_audit_finds_nothing_serious(page, served):
    go(page, served, runs="a,b,members", run="a")
    page.add_script_tag(path=AXE)
    for name, count in PAGES.items():
        page.set_viewport_size({"width": WINDOWS[0][0], "height": WINDOWS[0][1]})
        visit(page, name)
        until(lambda count=count: page.locator("canvas").count() >= count)
        # nothing stays hidden behind a sign that it is being drawn
        until(lambda: page.locator(".pn-loading").count() == 0)
        assert until(lambda: page.locator(".headline div").first.inner_text())  # in one sentence
        if name == "scaling":
            assert page.get_by_text("Maps of a only").count() == 1
        for width, height in WINDOWS:
            page.set_viewport_size({"width": width, "height": height})
            audit(page, name, width)
    until(lambda: not images(page))  # no earlier page is still there


def audit(page, name, width):
    """Check the layout of a page in a window, and its accessibility."""
    settled(page)
    # it does not scroll sideways, and figures fit
    until(lambda: page.evaluate("document.documentElement.scrollWidth") <= width)
    until(lambda: all(
        frame["width"] > 100 and frame["left"] + frame["width"] <= width
        for frame in frames(page).values()
    ))  # fmt: skip
    until(lambda: page.evaluate(CUT))
    links = page.get_by_role("navigation").get_by_role("link").all()
    boxes = [link.bounding_box() for link in links]
    assert max(box["x"] + box["width"] for box in boxes) <= width
    assert len({box["y"] for box in boxes}) == 1  # in one row
    controls = page.get_by_role("button", name="Controls")
    if width < 1000:  # the controls are in a drawer
        assert not page.locator(".controls").first.is_visible()
        controls.click()
        page.locator(".controls").first.wait_for()
    else:
        assert controls.count() == 0
    if width != WINDOWS[1][0]:  # which shows the same elements as the narrowest window
        assert page.evaluate(SERIOUS) == [], (name, width)
    page.keyboard.press("Escape")


def test_a_page_says_that_it_loads_before_it_is_drawn(page, served):
    with urllib.request.urlopen(served.url, timeout=20) as answer:
        html = answer.read().decode()
    assert '<div id="skeleton" role="status">' in html and "Loading ..." in html
    page.add_init_script(FIRST_PAINT)
    go(page, served, page="runs")
    assert "Loading ..." in page.evaluate("window.first_painted")
    assert page.get_by_text("Loading ...").count() == 0


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
