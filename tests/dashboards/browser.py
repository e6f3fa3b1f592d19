"""Reading the dashboard in a browser: the server's process, a page's pictures and its state."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode

import numpy as np

LISTING_S = 0.2
# The skeleton has gone, and every part of the page has been drawn.
READY = """() => {
    const complete = (view) => (view.model.children?.length ?? 0) <= (view.child_views?.length ?? 0)
        && (view.has_finished?.() ?? true) && (view.child_views ?? []).every(complete)
    return window.Bokeh && Bokeh.documents.length && !document.getElementById("skeleton")
        && [...Bokeh.index.roots].every(complete)
}"""
# Figures on the page; the document keeps models of what was there before for a while.
FIGURES = """
    const figures = []
    const visit = (view) => {
        if (view.model.type === "Figure") figures.push(view)
        for (const child of view.child_views ?? []) visit(child)
    }
    for (const root of Bokeh.index.roots) visit(root)
    const title_of = (model) => model.title.text.replaceAll("\\n", " ")  // of several lines
    const lists = (array) => Array.from(array, (value) => isFinite(value) ? value : null)
"""
# Every figure that holds a picture of numbers, by its title; land is a picture of bytes.
IMAGES = f"""() => {{ {FIGURES}
    const found = {{}}
    for (const {{model}} of figures) {{
        for (const one of model.renderers) {{
            if (one.glyph?.type !== "Image") continue
            const data = one.data_source.data
            const get = (name) => data[name].get ? data[name].get(0) : data[name][0]
            const image = get("image")
            if (image.dtype !== "float32") continue
            found[title_of(model)] = {{
                shape: image.shape, place: ["x", "y", "dw", "dh"].map(get), values: lists(image),
                limits: [one.glyph.color_mapper.low, one.glyph.color_mapper.high],
            }}
        }}
    }}
    return found
}}"""
# Every line that has a name, by the title of its figure and its name.
CURVES = f"""() => {{ {FIGURES}
    const found = {{}}
    for (const {{model}} of figures) {{
        for (const one of model.renderers) {{
            if (one.glyph?.type !== "Line" || !one.name) continue
            const data = one.data_source.data
            found[title_of(model)] ??= {{}}
            found[title_of(model)][one.name] = [lists(data.x), lists(data.y)]
        }}
    }}
    return found
}}"""
# Left, right, top and bottom of the texts on each map, as shares of its frame.
TEXTS = f"""() => {{ {FIGURES}
    const context = document.createElement("canvas").getContext("2d")
    const texts = []
    for (const {{model, frame}} of figures) {{
        const {{width, height}} = frame.bbox
        const share = (range, value) => (value - range.start) / (range.end - range.start)
        for (const {{glyph, visible, data_source}} of model.renderers) {{
            if (glyph?.type !== "Text" || !visible) continue
            const {{text, shown_x, shown_y}} = data_source.data
            context.font = `10px ${{glyph.text_font.value}}`
            for (const [i, name] of [...text].entries()) {{
                const x = share(model.x_range, shown_x[i]), y = share(model.y_range, shown_y[i])
                const half = context.measureText(name).width / width / 2
                if (isFinite(x)) texts.push([x - half, x + half, y - 5 / height, y + 5 / height])
            }}
        }}
    }}
    return texts
}}"""
# The frame of a figure on the screen, and what part of the plane it shows.
FRAMES = f"""() => {{ {FIGURES}
    const found = {{}}
    for (const {{model, el, frame}} of figures) {{
        const box = el.getBoundingClientRect()
        found[title_of(model)] = {{
            left: box.left + frame.bbox.left, top: box.top + frame.bbox.top,
            width: frame.bbox.width, height: frame.bbox.height,
            x: [model.x_range.start, model.x_range.end],
            y: [model.y_range.start, model.y_range.end],
        }}
    }}
    return found
}}"""


class Served(NamedTuple):
    """A running server: its process, address and log."""

    process: subprocess.Popen
    url: str
    log: Path


def serving(folder, log_folder, **options):
    """Start a server in a process of its own and wait for its address.

    Parameters
    ----------
    folder : str or Path
        Folder of runs, which the server lists again after `LISTING_S`.
    log_folder : str or Path
        Working folder of the server, which takes its log.
    **options
        Arguments of `dashboards.app.serve`.

    Returns
    -------
    Served
    """
    log = Path(log_folder) / "server.log"
    options = {"port": 0, "listing_s": LISTING_S} | options
    code = f"from dashboards.app import serve; serve({str(folder)!r}, **{options!r})"
    with log.open("w") as target:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=target,
            text=True,
            cwd=log_folder,
            env=os.environ | {"BOKEH_PY_LOG_LEVEL": "info"},  # tells of connections that end
        )
    line = process.stdout.readline()
    assert " at http://" in line, log.read_text()
    return Served(process, line.split(" at ")[1].split(" (")[0], log)


def ended(server):
    """Stop a server that this process started."""
    server.process.terminate()
    server.process.wait(20)
    server.process.stdout.close()


def go(page, server, /, **query):
    """Open the dashboard with these values in its address."""
    url = server.url if isinstance(server, Served) else server
    page.goto(f"{url}?{urlencode(query)}")
    settled(page)


def settled(page):
    """Wait until a page is drawn."""
    page.get_by_role("heading", name="Sea-Ice Lab").wait_for()
    page.wait_for_function(READY, polling=100)
    until(lambda: page.locator(".pn-loading").count() == 0)


def bar(page, name):
    """The slider of a time bar."""
    return page.get_by_role("slider", name=name, exact=True)


def until_listed():
    """Wait until the server lists new runs when a page asks for them."""
    time.sleep(2 * LISTING_S)


def visit(page, name):
    """Go to another page by its link."""
    page.get_by_role("link", name=name.capitalize(), exact=True).click()
    until(lambda: state(page).get("page") == name)
    settled(page)


def until(check, seconds=60):
    """The first true value of ``check()``; its last value or error after so long."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = check()
            assert value
            return value
        except AssertionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def state(page):
    """The values in a page's address."""
    query = page.evaluate("location.search.slice(1)")  # page.url is known only to the idle
    return {name: values[0] for name, values in parse_qs(query).items()}


def images(page):
    """Pictures of a page by their title, rows northwards; NaN where there is none."""
    found = page.evaluate(IMAGES)
    return {
        title: np.array(one["values"], float).reshape(one["shape"]) for title, one in found.items()
    }


def limits(page):
    """Ends of the colours by title."""
    return {title: one["limits"] for title, one in page.evaluate(IMAGES).items()}


def curves(page):
    """(x, y) of the named lines by title of the figure and name."""
    return {
        title: {name: np.array(pair, float) for name, pair in lines.items()}
        for title, lines in page.evaluate(CURVES).items()
    }


def frames(page):
    """Where figures are on the screen and what they show."""
    return page.evaluate(FRAMES)


def screen(page, title, x, y):
    """Pixels of a position (km) on a map."""
    frame = frames(page)[title]
    (west, east), (south, north) = frame["x"], frame["y"]
    return (
        frame["left"] + frame["width"] * (x - west) / (east - west),
        frame["top"] + frame["height"] * (north - y) / (north - south),
    )
