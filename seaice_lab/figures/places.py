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
VISIBLE_BELOW = {"1": 1e9, "2": 2200, "3": 1200}
STYLES = {
    "0": {"text_font_size": "9px", "text_color": "#55646f"},
    "1": {"text_font_size": "10px", "text_color": "#22303a", "text_font_style": "italic"},
    "2": {"text_font_size": "10px", "text_color": "#22303a"},
    "3": {"text_font_size": "10px", "text_color": "#22303a"},
}
LABELLED_MERIDIAN, LABELLED_PARALLEL = 157.5, 70  # degrees are written along them
TEXT = {
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
        rank: _columns([row for row in rows if row["rank"] == rank], hemisphere)
        for rank in VISIBLE_BELOW
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
        By rank; the degrees have rank "0".
    """
    columns = {"0": degrees_of(hemisphere)} | places_of(hemisphere)
    return {rank: models.ColumnDataSource(dict(rows)) for rank, rows in columns.items()}


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
    names, limits = [], []
    for rank, source in sources.items():
        renderer = plot.text("x", "y", "text", source=source, **TEXT, **STYLES[rank])
        if rank in VISIBLE_BELOW:
            renderer.visible = bool(span < VISIBLE_BELOW[rank])
            names.append(renderer)
            limits.append(VISIBLE_BELOW[rank])
    # An event of the plot: a new callback of the range, which belongs to all maps of the document,
    # makes Bokeh search the whole document for models.
    code = "names.forEach((name, k) => name.visible = cb_obj.x1 - cb_obj.x0 < limits[k])"
    args = {"names": names, "limits": limits}
    plot.js_on_event(RangesUpdate, models.CustomJS(args=args, code=code))
