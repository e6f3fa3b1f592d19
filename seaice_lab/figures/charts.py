"""Interactive pictures: polar maps, curves and spectra as bokeh figures.

The dashboard and the notebooks show the same ones (in a notebook: ``bokeh.io.show`` after
``bokeh.io.output_notebook``). Maps stand in the EPSG:3413 plane in kilometres; a figure is made
once, and new values go into its source.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import shapely
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    CustomJSHover,
    FactorRange,
    FixedTicker,
    HoverTool,
    Legend,
    LinearColorMapper,
    Range1d,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from seaice_lab import grid
from seaice_lab.figures import maps
from seaice_lab.figures.curves import COLOURS
from seaice_lab.figures.rasters import PIXELS, Raster, picture

FONT_SIZE = "12px"

# Position under the pointer, back from the plane: Snyder (1987, Map Projections, USGS
# Professional Paper 1395), polar stereographic, true at 70 N, WGS 84, 45 W downwards.
POSITION = """
const [x, y] = [special_vars.x * 1e3, special_vars.y * 1e3]
const e = 0.0818191908426215, a = 6378137, phi_c = 70 * Math.PI / 180
const half = (phi) => Math.tan(Math.PI / 4 - phi / 2)
    / Math.pow((1 - e * Math.sin(phi)) / (1 + e * Math.sin(phi)), e / 2)
const m_c = Math.cos(phi_c) / Math.sqrt(1 - (e * Math.sin(phi_c)) ** 2)
const t = Math.hypot(x, y) * half(phi_c) / (a * m_c)
let phi = Math.PI / 2 - 2 * Math.atan(t)
for (let i = 0; i < 6; i++) {
    const s = e * Math.sin(phi)
    phi = Math.PI / 2 - 2 * Math.atan(t * Math.pow((1 - s) / (1 + s), e / 2))
}
let lon = Math.atan2(x, -y) * 180 / Math.PI - 45
lon = ((lon + 540) % 360) - 180
return `${(phi * 180 / Math.PI).toFixed(2)}°N ${Math.abs(lon).toFixed(2)}°${lon < 0 ? "W" : "E"}`
"""


class Scene(NamedTuple):
    """What linked maps share: ranges, land and lines, the chosen cell, lines at the pointer."""

    raster: Raster
    x_range: Range1d
    y_range: Range1d
    land: ColumnDataSource
    mask: ColumnDataSource
    graticule: ColumnDataSource
    coast: ColumnDataSource
    chosen: ColumnDataSource
    pointer: tuple[Span, Span]


def scene(raster, window=None):
    """A scene for one or more maps.

    Parameters
    ----------
    raster : Raster
    window : (float, float, float, float), optional
        West, east, south, north in km to look at first; all by default.

    Returns
    -------
    Scene
        Maps made with it zoom and pan together; ``chosen`` has columns x and y (km).
    """
    ends = raster.extent
    west, east, south, north = ends if window is None else window
    side = raster.x[1] - raster.x[0]
    mask = {
        "image": [(raster.source < 0).astype("uint8")],
        "x": [raster.x[0] - side / 2], "y": [raster.y[0] - side / 2],
        "dw": [len(raster.x) * side], "dh": [len(raster.y) * side],
    }  # fmt: skip
    covered = None
    if len(raster.coast):  # the mask shows the land
        x, y, wide, high = (mask[name][0] for name in ("x", "y", "dw", "dh"))
        covered = (x, y, x + wide, y + high)
    style = {"line_color": "#555555", "line_alpha": 0.4, "line_dash": "dotted"}
    return Scene(
        raster,
        Range1d(west, east, name="east", reset_start=ends[0], reset_end=ends[1]),
        Range1d(south, north, name="north", reset_start=ends[2], reset_end=ends[3]),
        _joined(_land(ends, covered)),
        ColumnDataSource(mask),
        _joined(maps.graticule()),
        _joined(_coast(raster.coast)),
        ColumnDataSource({"x": [], "y": []}),
        (Span(dimension="width", **style), Span(dimension="height", **style)),
    )


@lru_cache(maxsize=8)
def _land(extent, covered):
    """Land as rings in km, all of which is painted with every picture: hence few points.

    It is no finer than a map of the extent shows, coarse beyond, and left out where a grid covers
    it (west, south, east, north).
    """
    west, east, south, north = extent
    pixel, near = (east - west) / PIXELS, shapely.box(west, south, east, north)
    rings = [ring / 1e3 for ring in grid.land_polygons()]
    whole = np.array([shapely.Polygon(ring) for ring in rings if maps.overlaps(ring, extent)])
    fine, coarse = (shapely.buffer(shapely.simplify(whole, size * pixel), 0) for size in (1, 8))
    shapes = [*shapely.intersection(fine, near), *shapely.difference(coarse, near)]
    if covered is not None:
        shapes = shapely.difference(shapes, shapely.box(*covered))
    shapes = [shape for shape in shapely.get_parts(shapes) if shape.area > pixel**2]
    return [shapely.get_coordinates(shapely.get_exterior_ring(shape)) for shape in shapes]


def _coast(segments):
    """Segments (n, 2, 2) as long lines, which are painted faster."""
    lines = shapely.line_merge(shapely.multilinestrings(shapely.linestrings(segments)))
    return [shapely.get_coordinates(line) for line in shapely.get_parts(shapely.simplify(lines, 0))]


def _joined(lines):
    """Lines (n, 2) as one source with gaps: many small arrays are slow to send."""
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([part for line in lines for part in (line, gap)] or [gap])
    points = points.astype("float32")
    return ColumnDataSource({"x": points[:, 0], "y": points[:, 1]})


def colours(colour_map, limits):
    """Colour scale of one or more maps; values outside take the end colours."""
    shades = [to_hex(shade) for shade in colormaps[colour_map](np.linspace(0, 1, 256))]
    return LinearColorMapper(shades, low=limits[0], high=limits[1], nan_color="rgba(0, 0, 0, 0)")


def polar_map(scene, scale, title, units):
    """A map with land, coast and graticule.

    Parameters
    ----------
    scene : Scene
        From :func:`scene`; maps that share it zoom and pan together.
    scale : LinearColorMapper
        From :func:`colours`; maps that share it share their colours.
    title, units : str

    Returns
    -------
    map : figure
    source : ColumnDataSource
        For the columns of `seaice_lab.figures.rasters.picture`.
    """
    raster = scene.raster
    west, east, south, north = raster.extent
    height = round(400 * (north - south) / (east - west)) + 28  # with the title
    drawn = figure(
        x_range=scene.x_range, y_range=scene.y_range, title=title,
        tools="pan,box_zoom,reset,save", toolbar_location="right",
        sizing_mode="scale_width", width=400, height=height,
        background_fill_color=maps.OUTSIDE, min_border=4, output_backend="canvas",
    )  # fmt: skip
    wheel = WheelZoomTool()
    drawn.add_tools(wheel)
    drawn.toolbar.active_scroll = wheel
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.axis.visible = False
    drawn.grid.visible = False
    drawn.title.text_font_size = "13px"
    drawn.patch("x", "y", source=scene.land, fill_color=maps.LAND, line_color=None)
    if len(raster.coast):
        land = LinearColorMapper(["rgba(0, 0, 0, 0)", maps.LAND], low=0, high=1)
        drawn.image("image", "x", "y", "dw", "dh", source=scene.mask, color_mapper=land)
    source = ColumnDataSource(picture(raster, np.full(raster.source.max() + 1, np.nan)))
    shown = drawn.image("image", "x", "y", "dw", "dh", source=source, color_mapper=scale)
    drawn.line("x", "y", source=scene.graticule, line_color=maps.LINES, line_width=0.5,
               line_alpha=0.6)  # fmt: skip
    drawn.line("x", "y", source=scene.coast, line_color=maps.COAST, line_width=0.8)
    drawn.scatter("x", "y", source=scene.chosen, marker="cross", size=16, line_color="#d7191c",
                  line_width=2)  # fmt: skip
    drawn.add_tools(CrosshairTool(overlay=list(scene.pointer)))
    drawn.add_tools(HoverTool(
        renderers=[shown], tooltips=[("", f"@image{{0.000}} {units}"), ("", "$x{custom}")],
        formatters={"$x": CustomJSHover(code=POSITION)}, point_policy="follow_mouse",
    ))  # fmt: skip
    return drawn, source


def colour_bar(scale, label):
    """A horizontal colour bar of its own, with the quantity and its unit."""
    own = scale.clone()  # one that colours pictures has its bar painted with each of them
    for end in ("low", "high"):
        scale.js_link(end, own, end)
    bar = figure(height=58, sizing_mode="stretch_width", toolbar_location=None, min_border=0,
                 min_border_left=24, min_border_right=24, outline_line_color=None,
                 x_range=(0, 1), y_range=(0, 1))  # fmt: skip
    bar.axis.visible = bar.grid.visible = False
    bar.scatter([], [])  # a figure without a glyph is warned of
    bar.add_layout(
        ColorBar(color_mapper=own, title=label, orientation="horizontal", height=12,
                 width="auto", padding=4, title_text_font_size=FONT_SIZE,
                 title_text_font_style="normal", major_label_text_font_size="11px",
                 border_line_color=None, background_fill_alpha=0), "below",
    )  # fmt: skip
    return bar


def curves(series, x_label, y_label, title="", colour=None, dashed=(), height=300, y_range=None,
           logarithmic="", dates=False, zero=False, points=False, unlisted=(),
           columns=4):  # fmt: skip
    """Curves with a legend below that hides them at a click, and the values under the pointer.

    Parameters
    ----------
    series : dict of str to (array, array) or (array, array, array, array)
        x, y and, for a band, its lower and upper end, by label.
    x_label, y_label, title : str
        With units.
    colour : dict of str to str, optional
        By label; by default the palette in turn.
    dashed : sequence of str
        Labels drawn dashed.
    height : int
        Pixels.
    y_range : (float, float), optional
    logarithmic : str
        Axes that are: "", "x", "y" or "xy".
    dates : bool
        Whether x are dates.
    zero : bool
        Draw a line at zero.
    points : bool
        Mark the points.
    unlisted : sequence of str
        Labels that the legend leaves out.
    columns : int
        Of the legend.

    Returns
    -------
    figure
    """
    kind = {f"{axis}_axis_type": "log" for axis in logarithmic}
    kind |= {"x_axis_type": "datetime"} if dates else {}
    kind |= {"y_range": y_range} if y_range is not None else {}
    drawn = figure(title=title, height=height, sizing_mode="stretch_width", min_border=8,
                   tools="pan,box_zoom,reset,save", toolbar_location="right", **kind)  # fmt: skip
    dressed(drawn, x_label, y_label)
    if zero:
        drawn.add_layout(Span(location=0, dimension="width", line_color="#888888", line_width=1))
    palette = dict(zip(series, COLOURS, strict=False)) if colour is None else colour
    entries = []
    for label, (x, y, *band) in series.items():
        source = ColumnDataSource({"x": np.asarray(x), "y": np.asarray(y, float)})
        line = drawn.line("x", "y", source=source, color=palette[label], line_width=2, name=label,
                          line_dash="dashed" if label in dashed else "solid")  # fmt: skip
        parts = [line]
        if points:
            parts.append(drawn.scatter("x", "y", source=source, color=palette[label], size=7))
        if band:
            parts.append(drawn.varea(x, *band, fill_color=palette[label], fill_alpha=0.15))
        if label not in unlisted:
            entries.append((label, parts))
        at = "@x{%F %H:%M}" if dates else "@x{0.[000]}"
        drawn.add_tools(HoverTool(
            renderers=[line], tooltips=[(label, f"@y{{0.0000}} at {at}")], mode="mouse",
            formatters={"@x": "datetime"} if dates else {}, visible=False,
        ))  # fmt: skip
    add_legend(drawn, entries, columns)
    return drawn


def dots(series, regions, x_label, title="", colour=None):
    """Values of named places, one row a place, one colour a label.

    Parameters
    ----------
    series : dict of str to array (region,)
    regions : sequence of str
        Names of the rows, from above.
    x_label, title : str
    colour : dict of str to str
        By label.

    Returns
    -------
    figure
    """
    drawn = figure(title=title, height=300, sizing_mode="stretch_width", min_border=8, tools="save",
                   y_range=FactorRange(*regions[::-1]), toolbar_location="right")  # fmt: skip
    dressed(drawn, x_label, "")
    entries = []
    for label, values in series.items():
        source = ColumnDataSource({"x": np.asarray(values, float), "y": list(regions)})
        mark = drawn.scatter("x", "y", source=source, color=colour[label], size=9, alpha=0.85)
        drawn.add_tools(
            HoverTool(renderers=[mark], tooltips=[(label, "@y: @x{0.0000}")], visible=False)
        )
        entries.append((label, [mark]))
    add_legend(drawn, entries)
    return drawn


def dressed(drawn, x_label, y_label):
    """Give a figure the style of all."""
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.title.text_font_size = "13px"
    drawn.axis.axis_label_text_font_style = "normal"
    drawn.axis.axis_label_text_font_size = FONT_SIZE
    drawn.xaxis.axis_label, drawn.yaxis.axis_label = x_label, y_label
    drawn.outline_line_color = None
    drawn.grid.grid_line_color = "#e8e8e8"


def add_legend(drawn, entries, columns=4):
    """A legend below the figure; a click hides what it names."""
    if len(entries) > 1:
        drawn.add_layout(
            Legend(items=entries, click_policy="hide", orientation="horizontal",
                   border_line_color=None, label_text_font_size=FONT_SIZE, spacing=8, padding=2,
                   margin=2, ncols=columns),
            "below",
        )  # fmt: skip


def level(drawn, value):
    """A dashed horizontal line."""
    drawn.add_layout(Span(location=value, dimension="width", line_color="#888888",
                          line_dash="dashed"))  # fmt: skip


def ticks_at(drawn, values, labels):
    """Label the horizontal axis at given values only."""
    drawn.xaxis.ticker = FixedTicker(ticks=list(values))
    drawn.xaxis.major_label_overrides = dict(zip(values, labels, strict=True))
