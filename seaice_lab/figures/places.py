"""Names of seas, islands and stations, and degrees on the graticule, for interactive maps."""

from functools import lru_cache
from importlib.resources import files

import numpy as np
import pandas as pd
from bokeh import models
from bokeh.events import RangesUpdate

from seaice_lab.figures.plane import MERIDIANS, PARALLELS
from seaice_lab.grid import project

# Width of the visible part of a map in km, below which names of this rank are shown.
VISIBLE_BELOW = {"1": 1e9, "2": 2200, "3": 1200, "0": 1e9}
STYLES = {
    "0": {"text_font_size": "9px", "text_color": "#55646f"},
    "1": {"text_font_size": "10px", "text_color": "#22303a", "text_font_style": "italic"},
    "2": {"text_font_size": "10px", "text_color": "#22303a"},
    "3": {"text_font_size": "10px", "text_color": "#22303a"},
}
UPDATE = files("seaice_lab.figures").joinpath("places.js").read_text("utf-8")
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
    """Names and positions of a hemisphere, and the degrees on the lines of the graticule.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    dict of str to dict
        Columns text, x and y (km) by rank. Seas have rank "1", islands and straits "2", stations
        "3" and degrees, which come last, "0".
    """
    sign, letter = (1, "N") if hemisphere == "north" else (-1, "S")
    table = files("seaice_lab").joinpath("data/places.csv")
    places = pd.read_csv(table, dtype={"rank": str}).rename(columns={"name": "text"})
    degrees = [(f"{degree}°{letter}", degree, LABELLED_MERIDIAN) for degree in PARALLELS]
    for longitude in MERIDIANS:
        side = "" if longitude in (0, -180) else "E" if longitude > 0 else "W"
        degrees.append((f"{abs(longitude)}°{side}", LABELLED_PARALLEL + 5, longitude))
    degrees = pd.DataFrame(degrees, columns=["text", "latitude", "longitude"]).assign(rank="0")
    degrees["latitude"] *= sign
    places = pd.concat([places[sign * places.latitude > 0], degrees], ignore_index=True)
    x, y = np.divide(project(places.latitude, places.longitude, hemisphere), 1000)
    places = places[["text", "rank"]].assign(x=x, y=y).set_index("rank")
    return {rank: places.loc[[rank]].to_dict("list") for rank in VISIBLE_BELOW}


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
    return {
        rank: models.ColumnDataSource(rows | {"shown_x": rows["x"], "shown_y": rows["y"]})
        for rank, rows in places_of(hemisphere).items()
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
