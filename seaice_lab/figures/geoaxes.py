"""What all static maps draw on axes of cartopy: land, cells, coastline and graticule."""

from functools import cache

import numpy as np
import shapely
from matplotlib.patheffects import withStroke

from seaice_lab.errors import InputError
from seaice_lab.figures.plane import COAST, LAND, LINES, MARGIN
from seaice_lab.land import coastlines, land_polygons

# Degrees of latitude and of longitude between the lines on a map that is wider than so many km.
GRATICULE_DEG = {2500: (10, 45), 1000: (5, 15), 0: (2, 10)}


@cache
def projection(hemisphere):
    """The plane of a hemisphere as a projection of cartopy, in metres.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    cartopy.crs.Projection
    """
    from cartopy import crs  # slow to load, and the dashboard does not need it

    # crs.epsg(3413) would cut the plane at 60 N and at x = 0.
    if hemisphere == "north":
        return crs.NorthPolarStereo(central_longitude=-45, true_scale_latitude=70)
    return crs.SouthPolarStereo(central_longitude=0, true_scale_latitude=-70)


@cache
def land_shapes(hemisphere):
    """Land of a hemisphere as polygons in metres of its plane; cartopy caches their paths.

    Parameters
    ----------
    hemisphere : "north" or "south"

    Returns
    -------
    list of shapely.Polygon
        Shared: do not change it.
    """
    return [shapely.Polygon(ring) for ring in land_polygons(hemisphere)]


def show_ocean(ax, map_grid):
    """Set the limits of axes so that they show all ocean cells.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    map_grid : seaice_lab.figures.plane.MapGrid

    Raises
    ------
    InputError
        If the projection of the axes shows none of them.
    """
    plane = projection(map_grid.hemisphere)
    limits = np.reshape(map_grid.extent, (2, 2)) * 1000
    if ax.projection != plane:
        x, y = map_grid.x, map_grid.y
        x, y = (
            axis[map_grid.ocean] * 1000 for axis in (np.meshgrid(x, y) if x.ndim == 1 else (x, y))
        )
        # Points that the projection cannot show are infinite or NaN.
        points = ax.projection.transform_points(plane, x, y)[:, :2]
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            raise InputError(
                f"ax has the projection {type(ax.projection).__name__}, which shows no ocean cell "
                f"of the field in the {map_grid.hemisphere}; choose another centre"
            )
        margin = MARGIN * np.ptp(points, axis=0).max()
        possible = np.array([ax.projection.x_limits, ax.projection.y_limits])
        limits = np.stack([points.min(axis=0) - margin, points.max(axis=0) + margin], axis=1)
        limits = np.clip(limits, possible[:, :1], possible[:, 1:])
    ax.set(xlim=limits[0], ylim=limits[1])


def draw_cells(ax, map_grid, values, **style):
    """Draw one value for each cell: as an image if the grid follows the plane of the axes.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    map_grid : seaice_lab.figures.plane.MapGrid
    values : ndarray (y, x)
    **style
        Colour map, its range, and the order of drawing.

    Returns
    -------
    AxesImage or QuadMesh
    """
    plane = projection(map_grid.hemisphere)
    x, y = map_grid.x * 1000, map_grid.y * 1000
    if x.ndim == 1 and ax.projection == plane:
        side_x, side_y = np.diff(x), np.diff(y)
        if np.ptp(side_x) < 1e-3 * abs(side_x[0]) and np.ptp(side_y) < 1e-3 * abs(side_y[0]):
            half_x, half_y = side_x[0] / 2, side_y[0] / 2
            extent = (x[0] - half_x, x[-1] + half_x, y[0] - half_y, y[-1] + half_y)
            style |= {"origin": "lower", "interpolation": "nearest", "transform": plane}
            return ax.imshow(values, extent=extent, **style)
    style |= {"shading": "nearest", "rasterized": True, "transform": plane}
    return ax.pcolormesh(x, y, values, **style)


def draw_coast(ax, map_grid):
    """Draw the coastline of the Earth and, fainter, the edge of the ocean mask.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    map_grid : seaice_lab.figures.plane.MapGrid
    """
    # A few long lines are projected faster than thousands of sides of cells.
    sides = shapely.multilinestrings(shapely.linestrings(1000 * map_grid.coast))
    style = {"facecolor": "none", "edgecolor": COAST, "zorder": 4}
    plane = projection(map_grid.hemisphere)
    ax.add_geometries([shapely.line_merge(sides)], plane, linewidth=0.4, alpha=0.5, **style)
    ax.add_geometries([coastlines(map_grid.hemisphere)], plane, linewidth=0.5, **style)


def draw_land(ax, hemisphere, **style):
    """Draw the land of Natural Earth, from package data, on GeoAxes.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    hemisphere : "north" or "south"
    **style
        Line width and colour of the edges.
    """
    style = {"edgecolor": "none"} | style
    plane = projection(hemisphere)
    ax.add_geometries(land_shapes(hemisphere), plane, facecolor=LAND, zorder=0, **style)


def draw_graticule(ax, extent, labels=False):
    """Draw parallels and meridians on GeoAxes, closer together on a small map.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    extent : (float, float, float, float)
        West, east, south, north of the map in the polar plane, km.
    labels : bool
        Label them: meridians at the left and lower edge, parallels on the lines in a polar plane.
    """
    west, east, south, north = extent
    width = max(east - west, north - south)
    along, across = next(steps for limit, steps in GRATICULE_DEG.items() if width > limit)
    if west < 0 < east and south < 0 < north:
        across = 45  # meridians that are close together would meet at the pole
    # The labels of cartopy fail in projections that are made from an EPSG code.
    labels = labels and not hasattr(ax.projection, "epsg_code")
    halo = [withStroke(linewidth=2, foreground="white")]
    lines = ax.gridlines(
        xlocs=np.arange(-180, 180, across),
        ylocs=np.arange(-90 + along, 90, along),
        draw_labels={"bottom": "x", "left": ["x", "y"], "geo": "x"} if labels else False,
        rotate_labels=False,
        color=LINES,
        linewidth=0.4,
        zorder=3,
    )
    lines.xlabel_style = {"fontsize": 9, "path_effects": halo}
    lines.ylabel_style = {"fontsize": 8, "path_effects": halo}
