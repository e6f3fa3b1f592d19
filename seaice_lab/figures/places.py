"""Names of seas, islands and stations, and degrees on the graticule, for interactive maps."""

import csv
from functools import lru_cache
from importlib.resources import files

import numpy as np
from bokeh import models
from bokeh.events import RangesUpdate

from seaice_lab.figures.plane import MERIDIANS, PARALLELS
from seaice_lab.grid import project

# Width of the visible part of a map in km, below which names of this rank are shown.
VISIBLE_BELOW = {"0": 1e9, "1": 1e9, "2": 2200, "3": 1200}
STYLES = {
    "0": {"text_font_size": "9px", "text_color": "#55646f"},
    "1": {"text_font_size": "10px", "text_color": "#22303a", "text_font_style": "italic"},
    "2": {"text_font_size": "10px", "text_color": "#22303a"},
    "3": {"text_font_size": "10px", "text_color": "#22303a"},
}
# The edge of a map cuts no text: it moves inwards. A text that would cover one before it is hidden,
# and so is the text of a position outside the map.
UPDATE = """
const {start: west, end: east} = plot.x_range, {start: south, end: north} = plot.y_range
const km = (east - west) / plot.inner_width  // of a pixel
const inside = (value, low, high, half) => Math.min(Math.max(value, low + half), high - half)
const boxes = []
for (const [renderer, limit] of names) {
    renderer.visible = east - west < limit
    if (!renderer.visible) continue
    const source = renderer.data_source
    const {text, x, y, shown_x, shown_y} = source.data
    let is_changed = false
    for (let i = 0; i < text.length; i++) {
        const [width, height] = [(6.2 * text[i].length + 6) * km, 17 * km]
        const column = inside(x[i], west, east, width / 2)
        const row = inside(y[i], south, north, height / 2)
        const is_free = west <= x[i] && x[i] <= east && south <= y[i] && y[i] <= north
            && boxes.every(([other_x, other_y, other_width]) =>
                Math.abs(column - other_x) > (width + other_width) / 2
                || Math.abs(row - other_y) > height)
        if (is_free) boxes.push([column, row, width])
        const position = is_free ? [column, row] : [NaN, NaN]
        is_changed ||= !Object.is(position[0], shown_x[i]) || !Object.is(position[1], shown_y[i]);
        [shown_x[i], shown_y[i]] = position
    }
    if (is_changed) source.change.emit()
}
"""
LABELLED_MERIDIAN, LABELLED_PARALLEL = 157.5, 70  # degrees are written along them
TEXT = {
    "x": "shown_x",
    "y": "shown_y",
    "text": "text",
    "text_align": "center",
    "text_baseline": "middle",
    "background_fill_color": "rgba(255, 255, 255, 0.6)",
    "border_radius": 3,
    "padding": 1,
}


@lru_cache(maxsize=2)
def places_of(hemisphere):
    """Names and positions in km by rank, from package data.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    dict of str to dict
        Columns text, x and y. Seas have rank "1", islands and straits "2", and stations "3".
    """
    lines = files("seaice_lab").joinpath("data/places.csv").read_text("utf-8").splitlines()
    rows = csv.DictReader(lines)
    rows = [row for row in rows if (float(row["latitude"]) > 0) == (hemisphere == "north")]
    return {
        rank: _columns([row for row in rows if row["rank"] == rank], hemisphere) for rank in "123"
    }


def _columns(rows, hemisphere):
    degrees = np.array([[float(row["latitude"]), float(row["longitude"])] for row in rows])
    x, y = np.divide(project(*degrees.reshape(-1, 2).T, hemisphere), 1000)
    return {"text": [row["name"] for row in rows], "x": x, "y": y}


@lru_cache(maxsize=2)
def degrees_of(hemisphere):
    """Latitudes and longitudes on the lines of the graticule: columns text, x and y."""
    sign, letter = (1, "N") if hemisphere == "north" else (-1, "S")
    rows = [
        {"name": f"{degree}°{letter}", "latitude": sign * degree, "longitude": LABELLED_MERIDIAN}
        for degree in PARALLELS
    ]
    for longitude in MERIDIANS:
        side = "" if longitude in (0, -180) else "E" if longitude > 0 else "W"
        text = f"{abs(longitude)}°{side}"
        latitude = sign * (LABELLED_PARALLEL + 5)
        rows.append({"name": text, "latitude": latitude, "longitude": longitude})
    return _columns(rows, hemisphere)


def place_sources(hemisphere):
    """Data of the names and degrees, which all maps of a scene share.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    dict of str to bokeh.models.ColumnDataSource
        By rank; the degrees have rank "0" and come last.
    """
    ranks = places_of(hemisphere) | {"0": degrees_of(hemisphere)}
    return {
        rank: models.ColumnDataSource(rows | {"shown_x": rows["x"], "shown_y": rows["y"]})
        for rank, rows in ranks.items()
    }


def add_places(plot, sources):
    """Write names and degrees on a map; more of them when the user zooms in.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        A map in kilometres of the plane of the hemisphere.
    sources : dict of str to bokeh.models.ColumnDataSource
        From :func:`place_sources`.
    """
    span, names = plot.x_range.end - plot.x_range.start, []
    for rank, source in sources.items():
        # plot.text would make five glyphs, one for each state of a selection.
        glyph = models.Text(**TEXT, **STYLES[rank])
        renderer = plot.add_glyph(source, glyph, level="overlay")
        renderer.visible = bool(span < VISIBLE_BELOW[rank])
        names.append((renderer, VISIBLE_BELOW[rank]))
    # Events of the plot: a new callback of the range, which belongs to all maps of the document,
    # makes Bokeh search the whole document for models.
    update = models.CustomJS(args={"plot": plot, "names": names}, code=UPDATE)
    plot.js_on_event(RangesUpdate, update)
    plot.js_on_change("inner_width", update)
