"""A small map of the regions of the scores, coloured by the score of the first run."""

from functools import lru_cache

import numpy as np
import shapely
from bokeh import models
from bokeh.plotting import figure

from dashboards import layout
from seaice_lab.diagnostics.regions import REGIONS
from seaice_lab.figures import linked_maps, maps
from seaice_lab.figures.plane import COAST, LAND, OUTSIDE, land_rings
from seaice_lab.grid import project

LIMIT_SOUTH = -50.0  # degrees; the sectors of the Southern Ocean have no northern edge
COARSE_KM = 12  # to which outlines of land are simplified
WIDTH = 240  # pixels


def region_map(fields, name, label):
    """The regions as a map; a region under the pointer is named with the scores of all runs.

    Parameters
    ----------
    fields : dict of str to DataArray (region,)
        A score by title of the run or reference.
    name, label : str
        The score; its name and unit at the colour bar.

    Returns
    -------
    panel.Column
    """
    title, first = next(iter(fields.items()))
    regions = [str(region) for region in first.region.values]
    hemisphere = "north" if REGIONS[regions[0]][1] > 0 else "south"
    outlines = [outline(*REGIONS[region], hemisphere) for region in regions]
    points = np.concatenate(outlines)
    (west, south), (east, north) = points.min(0), points.max(0)
    top = float(np.nanmax(np.abs(first.values))) or 1.0
    is_signed = name == "bias"
    colours = linked_maps.colour_scale(
        maps.DIFFERENCE_MAP if is_signed else "cmo.amp", (-top if is_signed else 0.0, top)
    )
    data = {"xs": [ring[:, 0] for ring in outlines], "ys": [ring[:, 1] for ring in outlines]}
    data |= {"region": regions, "value": first.values}
    data |= {f"score {k}": field.values for k, field in enumerate(fields.values())}
    plot = figure(
        x_range=(west, east),
        y_range=(south, north),
        title=f"Regions: {title}",
        tools="",
        toolbar_location=None,
        sizing_mode="scale_width",
        width=WIDTH,
        height=round(WIDTH * (north - south) / (east - west)) + 24,  # 24 for the title
        background_fill_color=OUTSIDE,
        min_border=4,
    )
    plot.axis.visible = plot.grid.visible = False
    plot.title.text_font_size = "13px"
    shapes = plot.patches(
        "xs",
        "ys",
        source=models.ColumnDataSource(data),
        fill_color={"field": "value", "transform": colours},
        line_color=COAST,
        hover_line_width=2.5,
    )
    # Land over the regions, because only the sea counts.
    xs, ys = zip(*(ring.T for ring in coarse_land(hemisphere)), strict=True)
    plot.patches(list(xs), list(ys), fill_color=LAND, line_color=None)
    scores = [(title, f"@{{score {k}}}{{0.0000}}") for k, title in enumerate(fields)]
    plot.add_tools(models.HoverTool(renderers=[shapes], tooltips=[("", "@region"), *scores]))
    bar = layout.colour_bar(colours, label)
    return layout.stretched(layout.bokeh_pane(plot), bar, **layout.styled("narrow"))


def outline(south, north, west, width, hemisphere):
    """Outline of a region in the plane of its hemisphere.

    Parameters
    ----------
    south, north, west, width : float
        Degrees, as in `seaice_lab.diagnostics.regions.REGIONS`.
    hemisphere : "north" or "south"

    Returns
    -------
    ndarray (point, 2)
        Kilometres.
    """
    north = min(north, LIMIT_SOUTH) if hemisphere == "south" else north
    longitude = np.linspace(west, west + width, 2 + width)
    edges = [np.column_stack([np.full_like(longitude, south), longitude])]
    edges += [np.column_stack([np.full_like(longitude, north), longitude[::-1]])]
    if width == 360:  # a cap around the North Pole has one edge
        edges = edges[:1]
    latitude, longitude = np.concatenate(edges).T
    return np.column_stack(project(latitude, longitude, hemisphere)) / 1e3


@lru_cache(maxsize=2)
def coarse_land(hemisphere):
    """Outlines of the land with few points.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    list of ndarray (point, 2)
        Rings in km.
    """
    extent = (-6e3, 6e3, -6e3, 6e3)
    land = [shapely.Polygon(ring) for ring in land_rings(extent, hemisphere)]
    shapes = [
        shape for shape in shapely.simplify(land, COARSE_KM) if shape.area > (2 * COARSE_KM) ** 2
    ]
    return [shapely.get_coordinates(shape.exterior) for shape in shapes]
