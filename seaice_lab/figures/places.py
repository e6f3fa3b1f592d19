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
# Size of the letters as a share of the width of a map, for a map of 350 pixels; larger maps have
# more space.
LETTER_WIDTH, LETTER_HEIGHT = 6 / 350, 14 / 350
STYLES = {
    "0": {"text_font_size": "9px", "text_color": "#55646f"},
    "1": {"text_font_size": "10px", "text_color": "#22303a", "text_font_style": "italic"},
    "2": {"text_font_size": "10px", "text_color": "#22303a"},
    "3": {"text_font_size": "10px", "text_color": "#22303a"},
}
# Near the edge of a map, a text is beside its position instead of over it, so that the edge does
# not cut it. The text of a position outside the map is outside too. As `side_of`, in the browser.
UPDATE = """
const {x0, x1, y0, y1} = cb_obj
const width = x1 - x0
const side = (value, low, high, half, [after, over, before]) => {
    if (value < low || (high - half < value && value <= high)) return before
    return value > high || value < low + half ? after : over
}
names.forEach((renderer, k) => {
    renderer.visible = width < limits[k]
    const source = renderer.data_source
    const {text, x, y, align, baseline} = source.data
    const columns = [...text].map((one, i) =>
        side(x[i], x0, x1, one.length * letter_width * width / 2, ["left", "center", "right"]))
    const rows = [...text].map((_, i) =>
        side(y[i], y0, y1, letter_height * width / 2, ["bottom", "middle", "top"]))
    if (columns.some((one, i) => one !== align[i]) || rows.some((one, i) => one !== baseline[i])) {
        source.data.align = columns
        source.data.baseline = rows
        source.change.emit()
    }
})
"""
LABELLED_MERIDIAN, LABELLED_PARALLEL = 157.5, 70  # degrees are written along them
TEXT = {
    "text_align": "align",  # both are columns, from `side_of`
    "text_baseline": "baseline",
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


def side_of(positions, low, high, half, sides):
    """On which side of its position a text is, so that the edges of a map do not cut it.

    Parameters
    ----------
    positions : ndarray (text,)
    low, high : float
        Edges of the map.
    half : ndarray (text,) or float
        Half the size of each text.
    sides : (str, str, str)
        Names of the sides: after its position, over it and before it.

    Returns
    -------
    list of str
    """
    after, over, before = sides
    is_before = (positions < low) | ((high - half < positions) & (positions <= high))
    is_after = (positions > high) | (positions < low + half)
    return np.select([is_before, is_after], [before, after], over).tolist()


def place_sources(hemisphere, window):
    """Data of the names and degrees, which all maps of a scene share.

    Parameters
    ----------
    hemisphere : "north" or "south"
    window : (float, float, float, float)
        Part of the plane that is shown first: west, east, south, north in km.

    Returns
    -------
    dict of str to bokeh.models.ColumnDataSource
        By rank; the degrees have rank "0".
    """
    west, east, south, north = window
    width, sources = east - west, {}
    for rank, rows in ({"0": degrees_of(hemisphere)} | places_of(hemisphere)).items():
        half = np.array([len(text) for text in rows["text"]]) * LETTER_WIDTH * width / 2
        align = side_of(rows["x"], west, east, half, ("left", "center", "right"))
        half = LETTER_HEIGHT * width / 2
        baseline = side_of(rows["y"], south, north, half, ("bottom", "middle", "top"))
        sources[rank] = models.ColumnDataSource(rows | {"align": align, "baseline": baseline})
    return sources


def add_places(plot, sources):
    """Write names and degrees on a map; more of them when the user zooms in.

    Parameters
    ----------
    plot : bokeh.plotting.figure
        A map in kilometres of the plane of the hemisphere.
    sources : dict of str to bokeh.models.ColumnDataSource
        From :func:`place_sources`.
    """
    span = plot.x_range.end - plot.x_range.start
    names, limits = [], [VISIBLE_BELOW[rank] for rank in sources]
    for (rank, source), limit in zip(sources.items(), limits, strict=True):
        renderer = plot.text("x", "y", "text", source=source, **TEXT, **STYLES[rank])
        renderer.visible = bool(span < limit)
        names.append(renderer)
    # An event of the plot: a new callback of the range, which belongs to all maps of the document,
    # makes Bokeh search the whole document for models.
    letters = {"letter_width": LETTER_WIDTH, "letter_height": LETTER_HEIGHT}
    args = {"names": names, "limits": limits, **letters}
    plot.js_on_event(RangesUpdate, models.CustomJS(args=args, code=UPDATE))
