"""Linked polar maps as Bokeh figures, for the dashboard and for notebooks.

Maps of one scene zoom and pan together. They are drawn in kilometres of the plane of the
hemisphere. A figure is made once; new values go into its data source, which is much faster than a
new figure.
In a notebook, call ``bokeh.io.output_notebook`` and then ``bokeh.io.show``.
"""

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import shapely
from bokeh import models
from bokeh.plotting import figure

from seaice_lab.figures.colours import palette
from seaice_lab.figures.places import add_places, place_sources
from seaice_lab.figures.plane import COAST, LAND, LINES, OUTSIDE, graticule, land_rings
from seaice_lab.figures.rasters import LAND_CELL, NO_CELL, PIXELS, Raster, picture
from seaice_lab.land import coastlines

POSITION = files("seaice_lab.figures").joinpath("position.js").read_text("utf-8")
IMAGE = {name: name for name in ("image", "x", "y", "dw", "dh")}  # columns of a picture


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
    coastlines: models.ColumnDataSource
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
        coastlines=_one_source(_coastlines(extent, raster.hemisphere)),
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


@lru_cache(maxsize=8)
def _coastlines(extent, hemisphere):
    """Coastlines of the Earth as lines (point, 2) in km.

    They are much finer than a pixel of the extent, because the user may zoom in. Around the extent,
    which only appears when the user zooms out, half a pixel is enough.
    """
    west, east, south, north = extent
    pixel, inside = (east - west) / PIXELS, shapely.box(west, south, east, north)
    lines = shapely.transform(coastlines(hemisphere), lambda points: points / 1000)
    around = shapely.clip_by_rect(lines, *inside.buffer((east - west) / 2).bounds) - inside
    lines = [
        shapely.simplify(piece, pixel / points, preserve_topology=False)
        for piece, points in ((shapely.clip_by_rect(lines, *inside.bounds), 8), (around, 2))
    ]
    return [shapely.get_coordinates(line) for line in shapely.get_parts(lines)]


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
    lines = {"line_color": COAST, "line_width": 0.8}
    cells = {"line_color": COAST, "line_width": 0.6, "line_alpha": 0.5}
    plot.add_glyph(scene.graticule, models.Line(x="x", y="y", **thin))
    plot.add_glyph(scene.coast, models.Line(x="x", y="y", **cells))
    # At this level, the many points are not painted again with every picture; places.js cuts the
    # lines off at the frame.
    plot.add_glyph(scene.coastlines, models.Line(x="x", y="y", **lines), level="overlay")
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
    # What is at the level "overlay" is not painted again with a new picture. It is not cut off at
    # the frame either, so it must not be larger.
    plot.title.update(text_font_size="13px", level="overlay")
    return plot
