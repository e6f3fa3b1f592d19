"""Linked polar maps as Bokeh figures, for the dashboard and for notebooks.

Maps of one scene zoom and pan together. They are drawn in kilometres of the plane of the
hemisphere. A figure is made once; new values go into its data source, which is much faster than a
new figure.
In a notebook, call ``bokeh.io.output_notebook`` and then ``bokeh.io.show``.
"""

from functools import lru_cache
from typing import NamedTuple

import cmocean  # noqa: F401  (registers its colour maps as "cmo.<name>")
import numpy as np
import shapely
from bokeh import models
from bokeh.plotting import figure
from matplotlib import colormaps
from matplotlib.colors import to_hex

from seaice_lab.figures.charts import FONT_SIZE
from seaice_lab.figures.places import add_places, place_sources
from seaice_lab.figures.plane import COAST, LAND, LINES, OUTSIDE, graticule, land_rings
from seaice_lab.figures.rasters import LAND_CELL, NO_CELL, PIXELS, Raster, picture

# Latitude and longitude of the pointer: inverse polar stereographic projection of Snyder (1987, Map
# Projections, USGS Professional Paper 1395), WGS 84, true at 70 degrees, with 45 W downwards in the
# north and 0 E upwards in the south.
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
let lon = south ? Math.atan2(x, y) * 180 / Math.PI : Math.atan2(x, -y) * 180 / Math.PI - 45
lon = ((lon + 540) % 360) - 180
const latitude = `${(phi * 180 / Math.PI).toFixed(2)}°${south ? "S" : "N"}`
const degrees = (south ? -phi : phi) * 180 / Math.PI
const inside = Object.entries(regions).filter(([_, [from, to, west, width]]) =>
    from <= degrees && degrees <= to && (((lon - west) % 360) + 360) % 360 < width)
const names = inside.map(([name]) => name).join(", ")
return `${latitude} ${Math.abs(lon).toFixed(2)}°${lon < 0 ? "W" : "E"} ${names}`
"""

IMAGE = {name: name for name in ("image", "x", "y", "dw", "dh")}  # columns of a picture
SHADES = 256  # of a colour scale
WATER = "#a5cbe3"  # open water: unlike thin ice, which is nearly black, and unlike land


class Scene(NamedTuple):
    """What linked maps share; all lengths in km.

    ``selected`` has columns x and y: the position of the cell that the user clicked.
    ``pointer`` are the two lines through the position of the mouse.
    """

    raster: Raster
    x_range: models.Range1d
    y_range: models.Range1d
    land: models.ColumnDataSource
    mask: models.ColumnDataSource
    graticule: models.ColumnDataSource
    coast: models.ColumnDataSource
    places: dict[str, models.ColumnDataSource]
    selected: models.ColumnDataSource
    pointer: list[models.Span]


def scene(raster, window=None):
    """Make the parts that linked maps share.

    Parameters
    ----------
    raster : Raster
    window : (float, float, float, float), optional
        Part of the plane that is shown first: west, east, south, north in km. The extent of the
        raster by default.

    Returns
    -------
    Scene
        Maps drawn with it zoom and pan together.
    """
    extent = raster.extent
    west, east, south, north = window or extent
    side = raster.x[1] - raster.x[0]
    left, bottom = raster.x[0] - side / 2, raster.y[0] - side / 2
    width, height = len(raster.x) * side, len(raster.y) * side
    is_land = (raster.source == LAND_CELL).astype("uint8")
    mask = {"image": [is_land], "x": [left], "y": [bottom], "dw": [width], "dh": [height]}
    # The mask of a grid shows the land, unless the grid has no coast or does not fill the picture.
    has_land = len(raster.coast) and (raster.source != NO_CELL).all()
    covered = (left, bottom, left + width, bottom + height) if has_land else None
    pointer = {"line_color": "#555555", "line_alpha": 0.4, "line_dash": "dotted"}
    return Scene(
        raster=raster,
        x_range=models.Range1d(west, east, name="east", reset_start=extent[0], reset_end=extent[1]),
        y_range=models.Range1d(
            south, north, name="north", reset_start=extent[2], reset_end=extent[3]
        ),
        land=_one_source(_land(extent, covered, raster.hemisphere)),
        mask=models.ColumnDataSource(mask),
        graticule=_one_source(graticule(raster.hemisphere)),
        coast=_one_source(_coast(raster.coast)),
        places=place_sources(raster.hemisphere),
        selected=models.ColumnDataSource({"x": [], "y": []}),
        pointer=[models.Span(dimension=side, **pointer) for side in ("width", "height")],
    )


@lru_cache(maxsize=8)
def _land(extent, covered, hemisphere):
    """Outlines of the land as rings (point, 2) in km, with few points.

    The browser paints all of the land again with every picture. So the outlines are as fine as a
    pixel inside the extent and coarse outside, and there are none inside ``covered`` (west, south,
    east, north), where the mask of the grid shows the land.
    """
    west, east, south, north = extent
    pixel, inside = (east - west) / PIXELS, shapely.box(west, south, east, north)
    land = np.array([shapely.Polygon(ring) for ring in land_rings(extent, hemisphere)])
    # A buffer of width 0 makes the simplified polygons valid again.
    fine, coarse = (shapely.buffer(shapely.simplify(land, size * pixel), 0) for size in (1, 8))
    shapes = [*shapely.intersection(fine, inside), *shapely.difference(coarse, inside)]
    if covered is not None:
        shapes = shapely.difference(shapes, shapely.box(*covered))
    shapes = [shape for shape in shapely.get_parts(shapes) if shape.area > pixel**2]
    return [shapely.get_coordinates(shapely.get_exterior_ring(shape)) for shape in shapes]


def _coast(segments):
    """Segments (n, 2, 2) merged into long lines (point, 2), which the browser paints faster."""
    lines = shapely.line_merge(shapely.multilinestrings(shapely.linestrings(segments)))
    return [shapely.get_coordinates(line) for line in shapely.get_parts(shapely.simplify(lines, 0))]


def _one_source(lines):
    """Lines (point, 2) in one source with NaN between them: many small arrays are slow to send."""
    gap = np.full((1, 2), np.nan)
    points = np.concatenate([piece for line in lines for piece in (line, gap)] or [gap])
    points = points.astype("float32")
    return models.ColumnDataSource({"x": points[:, 0], "y": points[:, 1]})


def colour_scale(colour_map, limits, water=None):
    """Colour scale of one or more maps; values outside the limits take the end colours.

    Parameters
    ----------
    colour_map : str
        Name of a matplotlib colour map.
    limits : (float, float)
        Lowest and highest value of the scale.
    water : float, optional
        Smaller values are open water, which has a colour of its own.

    Returns
    -------
    bokeh.models.LinearColorMapper
    """
    shades = palette(colour_map, limits, water)
    return models.LinearColorMapper(
        shades, low=limits[0], high=limits[1], nan_color="rgba(0, 0, 0, 0)"
    )


def palette(colour_map, limits, water=None):
    """The colours of a scale.

    Parameters
    ----------
    colour_map, limits, water
        As of :func:`colour_scale`.

    Returns
    -------
    list of str
    """
    shades = [to_hex(shade) for shade in colormaps[colour_map](np.linspace(0, 1, SHADES))]
    if water is not None:
        count = round(SHADES * (water - limits[0]) / (limits[1] - limits[0]))
        count = int(np.clip(count, 0, SHADES))
        shades[:count] = [WATER] * count
    return shades


def polar_map(scene, scale, title, units, regions=None):
    """A map with land, coast and graticule.

    Parameters
    ----------
    scene : Scene
        From :func:`scene`; maps with the same scene zoom and pan together.
    scale : LinearColorMapper
        From :func:`colour_scale`; maps with the same scale share their colours.
    title, units : str
    regions : dict of str to (float, float, float, float), optional
        Boxes that the pointer names: south, north, west and the width eastwards in degrees.

    Returns
    -------
    plot : bokeh.plotting.figure
    source : ColumnDataSource
        Takes the columns of `seaice_lab.figures.rasters.picture`; empty at first.
    """
    raster = scene.raster
    plot = _empty_map(scene, title)
    # The functions of the figure, such as plot.patch, would make five glyphs each.
    plot.add_glyph(scene.land, models.Patch(x="x", y="y", fill_color=LAND, line_color=None))
    if len(raster.coast):
        land = models.LinearColorMapper(["rgba(0, 0, 0, 0)", LAND], low=0, high=1)
        plot.add_glyph(scene.mask, models.Image(**IMAGE, color_mapper=land))
    source = models.ColumnDataSource(picture(raster, np.full(raster.source.max() + 1, np.nan)))
    image = plot.add_glyph(source, models.Image(**IMAGE, color_mapper=scale))
    thin = {"line_color": LINES, "line_width": 0.5, "line_alpha": 0.6}
    # What is at the level "overlay" is not painted again with a new picture.
    lines = {"line_color": COAST, "line_width": 0.8}
    plot.add_glyph(scene.graticule, models.Line(x="x", y="y", **thin), level="overlay")
    plot.add_glyph(scene.coast, models.Line(x="x", y="y", **lines), level="overlay")
    add_places(plot, scene.places)
    cross = {"marker": "cross", "size": 16, "line_color": "#d7191c", "line_width": 2}
    plot.add_glyph(scene.selected, models.Scatter(x="x", y="y", **cross), level="overlay")
    arguments = {"south": raster.hemisphere == "south", "regions": regions or {}}
    hover = models.HoverTool(
        renderers=[image],
        tooltips=[("", f"@image{{0.000}} {units}"), ("", "$x{custom}")],
        formatters={"$x": models.CustomJSHover(code=POSITION, args=arguments)},
        point_policy="follow_mouse",
    )
    plot.add_tools(models.CrosshairTool(overlay=scene.pointer), hover)
    return plot, source


def _empty_map(scene, title):
    """A figure without axes that zooms with the wheel."""
    west, east, south, north = scene.raster.extent
    plot = figure(
        x_range=scene.x_range,
        y_range=scene.y_range,
        title=title,
        tools="pan,box_zoom,reset,save",
        toolbar_location="right",
        sizing_mode="scale_width",
        width=400,
        height=round(400 * (north - south) / (east - west)) + 28,  # 28 for the title
        background_fill_color=OUTSIDE,
        min_border=4,
        output_backend="canvas",
    )
    # The wheel scrolls the page unless Ctrl is held or the other wheel tool is switched on.
    wheel = models.WheelZoomTool(modifiers={"ctrl": True}, visible=False)
    plot.add_tools(wheel, models.WheelZoomTool())
    plot.toolbar.update(active_scroll=wheel, logo=None, autohide=True)
    plot.toolbar_inner = True  # a toolbar beside the map would take its width
    plot.axis.visible = plot.grid.visible = False
    plot.title.text_font_size = "13px"
    return plot


def colour_bar(scale, label):
    """A separate figure with a horizontal colour bar.

    Parameters
    ----------
    scale : LinearColorMapper
        From :func:`colour_scale`.
    label : str
        Quantity and unit.

    Returns
    -------
    bokeh.plotting.figure
    """
    # The bar needs a scale of its own: one that also colours pictures has its bar painted again
    # with each of them.
    bar_scale = scale.clone()
    for name in ("low", "high", "palette"):
        scale.js_link(name, bar_scale, name)
    borders = {"min_border": 0, "min_border_left": 24, "min_border_right": 24}
    size = {"height": 58, "sizing_mode": "stretch_width"}
    plot = figure(x_range=(0, 1), y_range=(0, 1), toolbar_location=None, **size, **borders)
    plot.outline_line_color = None
    plot.background_fill_alpha = plot.border_fill_alpha = 0
    plot.axis.visible = plot.grid.visible = False
    plot.scatter([], [])  # without a glyph Bokeh prints a warning
    bar = models.ColorBar(
        color_mapper=bar_scale,
        title=label,
        orientation="horizontal",
        height=12,
        width="auto",
        padding=4,
        title_text_font_size=FONT_SIZE,
        title_text_font_style="normal",
        major_label_text_font_size="11px",
        border_line_color=None,
        background_fill_alpha=0,
    )
    plot.add_layout(bar, "below")
    return plot
