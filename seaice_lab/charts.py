"""Interactive pictures: polar maps, curves and spectra as bokeh figures.

The dashboard and the notebooks show the same ones (in a notebook: ``bokeh.io.show`` after
``bokeh.io.output_notebook``). Maps stand in the EPSG:3413 plane in kilometres; a figure is made
once, and new values go into its source.
"""

from typing import NamedTuple

import numpy as np
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CrosshairTool,
    CustomJSHover,
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
from scipy.spatial import cKDTree

from seaice_lab import grid, maps
from seaice_lab.plots import COLOURS

PIXELS = 560  # along each side of a picture that is sent: about what a map covers of a screen
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


class Raster(NamedTuple):
    """A grid as a picture in the EPSG:3413 plane; lengths in km.

    ``x`` and ``y`` are the centres of the picture's cells, both rising; ``source`` (y, x) says
    which cell of the grid each shows, -1 for none; ``coast`` holds the coast's segments and
    ``extent`` west, east, south, north of what is worth seeing.
    """

    x: np.ndarray
    y: np.ndarray
    source: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]


def raster_of(field, ocean):
    """How to show the fields of a grid as pictures.

    Parameters
    ----------
    field : DataArray (y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413.
    ocean : DataArray of bool (y, x)
        True where sea.

    Returns
    -------
    Raster
        A grid that does not follow the plane is shown by its nearest cells.

    Raises
    ------
    InputError
        If the field has no usable coordinates.
    """
    scene = maps.scene_of(field, ocean)
    cells = np.where(scene.ocean, np.arange(scene.ocean.size).reshape(scene.ocean.shape), -1)
    if scene.x.ndim == 1:
        flip_y, flip_x = scene.y[0] > scene.y[-1], scene.x[0] > scene.x[-1]
        cells = cells[:: -1 if flip_y else 1, :: -1 if flip_x else 1]
        return Raster(np.sort(scene.x), np.sort(scene.y), cells, scene.coast, scene.extent)
    x, y, cells = nearest_cells(scene.x, scene.y, cells)
    return Raster(x, y, cells, scene.coast, scene.extent)


def raster_of_points(latitude, longitude):
    """As :func:`raster_of`, for values at single grid points, (point,) degrees each."""
    x, y = (part / 1e3 for part in grid.project(np.asarray(latitude), np.asarray(longitude)))
    columns, rows, cells = nearest_cells(x, y, np.arange(len(x)))
    side = columns[1] - columns[0]
    extent = (columns[0] - side, columns[-1] + side, rows[0] - side, rows[-1] + side)
    return Raster(columns, rows, cells, np.empty((0, 2, 2)), extent)


def nearest_cells(x, y, cells):
    """Columns, rows and the nearest of ``cells`` on axes that follow the plane."""
    points = np.stack([x.ravel(), y.ravel()], 1)
    tree = cKDTree(points)
    some = points[:: max(len(points) // 2000, 1)]
    side = float(np.median(tree.query(some, 2)[0][:, 1]))
    columns = np.arange(points[:, 0].min(), points[:, 0].max() + side / 2, side)
    rows = np.arange(points[:, 1].min(), points[:, 1].max() + side / 2, side)
    wanted = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    distance, index = tree.query(wanted, distance_upper_bound=0.8 * side)
    found = np.where(np.isfinite(distance), cells.ravel()[np.minimum(index, cells.size - 1)], -1)
    return columns, rows, found.reshape(len(rows), len(columns))


def picture(raster, values, window=None, pixels=PIXELS):
    """The part of a field that a window shows, no finer than a screen can.

    Parameters
    ----------
    raster : Raster
    values : ndarray
        Of the grid, any shape with as many cells.
    window : (float, float, float, float), optional
        West, east, south, north in km; the extent of the raster by default.
    pixels : int
        The picture has at most so many along each side; cells beyond are averaged over the sea.

    Returns
    -------
    dict
        Columns of a source for :func:`polar_map`: one image, float32, NaN where there is none.
    """
    columns, west, width, column_block = _visible(raster.x, window and window[:2], pixels)
    rows, south, height, row_block = _visible(raster.y, window and window[2:], pixels)
    cells = raster.source[rows, columns]
    image = np.where(cells < 0, np.float32(np.nan), values.ravel()[cells]).astype("float32")
    if row_block > 1 or column_block > 1:
        image = _block_mean(image, row_block, column_block)
    return {"image": [image], "x": [west], "y": [south], "dw": [width], "dh": [height]}


def _visible(centres, limits, pixels):
    """Slice, start and length of the centres within limits, and how many share a pixel."""
    side, first, last = centres[1] - centres[0], 0, len(centres)
    if limits is not None:
        first = int(np.clip((limits[0] - centres[0]) // side - 1, 0, last - 1))
        last = int(np.clip((limits[1] - centres[0]) // side + 3, first + 1, last))
    block = -(-(last - first) // pixels)
    first -= first % block  # blocks stay where they are while the map is dragged
    last = min(-(-last // block) * block, len(centres))
    return slice(first, last), centres[first] - side / 2, (last - first) * side, block


def _block_mean(image, rows, columns):
    high, wide = -(-image.shape[0] // rows) * rows, -(-image.shape[1] // columns) * columns
    padded = np.full((high, wide), np.nan, "float32")
    padded[: image.shape[0], : image.shape[1]] = image
    blocks = padded.reshape(high // rows, rows, wide // columns, columns)
    there = ~np.isnan(blocks)
    count = there.sum((1, 3))
    total = np.where(there, blocks, 0).sum((1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype("float32")


def ranges(raster):
    """A pair of ranges that linked maps share."""
    west, east, south, north = raster.extent
    return Range1d(west, east, name="east"), Range1d(south, north, name="north")


def colours(colour_map, limits):
    """Colour scale of one or more maps; values outside take the end colours."""
    shades = [to_hex(shade) for shade in colormaps[colour_map](np.linspace(0, 1, 256))]
    return LinearColorMapper(shades, low=limits[0], high=limits[1], nan_color="rgba(0, 0, 0, 0)")


def polar_map(raster, scale, title, units, linked, cross=None, pointer=None):
    """A map with land, coast and graticule.

    Parameters
    ----------
    raster : Raster
    scale : LinearColorMapper
        From :func:`colours`; maps that share it share their colours.
    title, units : str
    linked : (Range1d, Range1d)
        From :func:`ranges`; maps that share them zoom and pan together.
    cross : ColumnDataSource, optional
        With ``x`` and ``y``: marks the cell that was chosen.
    pointer : (Span, Span), optional
        Lines through the pointer, the same on all maps that share them.

    Returns
    -------
    map : figure
    source : ColumnDataSource
        For the columns of :func:`picture`.
    """
    west, east, south, north = raster.extent
    height = round(400 * (north - south) / (east - west)) + 28  # with the title
    drawn = figure(
        x_range=linked[0], y_range=linked[1], title=title,
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
    rings = [
        ring / 1e3 for ring in grid.land_polygons() if maps.overlaps(ring / 1e3, raster.extent)
    ]
    drawn.patches([r[:, 0] for r in rings], [r[:, 1] for r in rings], fill_color=maps.LAND,
                  line_color=None)  # fmt: skip
    side = raster.x[1] - raster.x[0]
    if len(raster.coast):
        drawn.image(
            [(raster.source < 0).astype("uint8")], raster.x[0] - side / 2, raster.y[0] - side / 2,
            len(raster.x) * side, len(raster.y) * side,
            color_mapper=LinearColorMapper(["rgba(0, 0, 0, 0)", maps.LAND], low=0, high=1),
        )  # fmt: skip
    source = ColumnDataSource(picture(raster, np.full(raster.source.max() + 1, np.nan)))
    shown = drawn.image("image", "x", "y", "dw", "dh", source=source, color_mapper=scale)
    lines = maps.graticule()
    drawn.multi_line([line[:, 0] for line in lines], [line[:, 1] for line in lines],
                     line_color=maps.LINES, line_width=0.5, line_alpha=0.6)  # fmt: skip
    if len(raster.coast):
        drawn.multi_line(list(raster.coast[..., 0]), list(raster.coast[..., 1]),
                         line_color=maps.COAST, line_width=0.8)  # fmt: skip
    if cross is not None:
        drawn.scatter("x", "y", source=cross, marker="cross", size=16, line_color="#d7191c",
                      line_width=2)  # fmt: skip
    if pointer is not None:
        drawn.add_tools(CrosshairTool(overlay=list(pointer)))
    drawn.add_tools(HoverTool(
        renderers=[shown], tooltips=[("", f"@image{{0.000}} {units}"), ("", "$x{custom}")],
        formatters={"$x": CustomJSHover(code=POSITION)}, point_policy="follow_mouse",
    ))  # fmt: skip
    return drawn, source


def colour_bar(scale, label):
    """A horizontal colour bar of its own, with the quantity and its unit."""
    bar = figure(height=58, sizing_mode="stretch_width", toolbar_location=None, min_border=0,
                 min_border_left=24, min_border_right=24, outline_line_color=None,
                 x_range=(0, 1), y_range=(0, 1))  # fmt: skip
    bar.axis.visible = bar.grid.visible = False
    bar.scatter([], [])  # a figure without a glyph is warned of
    bar.add_layout(
        ColorBar(color_mapper=scale, title=label, orientation="horizontal", height=12,
                 width="auto", padding=4, title_text_font_size=FONT_SIZE,
                 title_text_font_style="normal", major_label_text_font_size="11px",
                 border_line_color=None, background_fill_alpha=0), "below",
    )  # fmt: skip
    return bar


def curves(series, x_label, y_label, title="", colour=None, dashed=(), height=300, y_range=None,
           logarithmic=False, dates=False, zero=False):  # fmt: skip
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
    logarithmic : bool
        Both axes.
    dates : bool
        Whether x are dates.
    zero : bool
        Draw a line at zero.

    Returns
    -------
    figure
    """
    kind = {"x_axis_type": "log", "y_axis_type": "log"} if logarithmic else {}
    kind |= {"x_axis_type": "datetime"} if dates else {}
    kind |= {"y_range": y_range} if y_range is not None else {}
    drawn = figure(title=title, height=height, sizing_mode="stretch_width", min_border=8,
                   tools="pan,box_zoom,reset,save", toolbar_location="right", **kind)  # fmt: skip
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.title.text_font_size = "13px"
    drawn.axis.axis_label_text_font_style = "normal"
    drawn.axis.axis_label_text_font_size = FONT_SIZE
    drawn.xaxis.axis_label, drawn.yaxis.axis_label = x_label, y_label
    drawn.outline_line_color = None
    drawn.grid.grid_line_color = "#e8e8e8"
    if zero:
        drawn.add_layout(Span(location=0, dimension="width", line_color="#888888", line_width=1))
    palette = dict(zip(series, COLOURS, strict=False)) if colour is None else colour
    entries = []
    for label, (x, y, *band) in series.items():
        source = ColumnDataSource({"x": np.asarray(x), "y": np.asarray(y, float)})
        line = drawn.line("x", "y", source=source, color=palette[label], line_width=2, name=label,
                          line_dash="dashed" if label in dashed else "solid")  # fmt: skip
        parts = [line]
        if band:
            parts.append(drawn.varea(x, *band, fill_color=palette[label], fill_alpha=0.15))
        entries.append((label, parts))
        at = "@x{%F %H:%M}" if dates else "@x{0.[000]}"
        drawn.add_tools(HoverTool(
            renderers=[line], tooltips=[(label, f"@y{{0.0000}} at {at}")], mode="mouse",
            formatters={"@x": "datetime"} if dates else {}, visible=False,
        ))  # fmt: skip
    if len(entries) > 1:
        drawn.add_layout(
            Legend(items=entries, click_policy="hide", orientation="horizontal",
                   border_line_color=None, label_text_font_size=FONT_SIZE, spacing=8, padding=2,
                   margin=2, ncols=4),
            "below",
        )  # fmt: skip
    return drawn


def ticks_at(drawn, values, labels):
    """Label the horizontal axis at given values only."""
    drawn.xaxis.ticker = FixedTicker(ticks=list(values))
    drawn.xaxis.major_label_overrides = dict(zip(values, labels, strict=True))
