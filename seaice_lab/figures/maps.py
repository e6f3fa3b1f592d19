"""Static maps on cartopy axes: one field, or truth, forecasts and differences in panels.

The axes are GeoAxes in the polar stereographic plane of the hemisphere, or those that are given. So
``ax.plot(longitude, latitude, transform=cartopy.crs.PlateCarree())`` draws a track on every map.
On the grid, land and coastline follow from the ocean mask; outside the grid, land is that of
Natural Earth, from package data. Nothing is downloaded. Figures are made by pyplot: close them with
``plt.close`` if you write many of them.
"""

from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.path import Path

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import geoaxes
from seaice_lab.figures.axes import axis_label
from seaice_lab.figures.colours import palette_of
from seaice_lab.figures.plane import LAND, MISSING, OUTSIDE, grid_on_plane, hemisphere_of_field

DIFFERENCE_MAP = "cmo.balance"
DIFFERENCE_QUANTILE = 0.99  # of |difference|; with the maximum, a few cells would pale all others
PANELS_WIDTH = 11.0  # inches, a notebook page
FONT = {"font.size": 10, "axes.titlesize": 10}


@contextmanager
def styled(style):
    """Context, and decorator of a plotting function, with these matplotlib settings."""
    # Load the backend first. That of JupyterLab turns the interactive mode on while it loads;
    # inside the context this would be undone, and no later figure would be shown.
    plt.draw_if_interactive()
    with plt.rc_context(style):
        yield


@styled(FONT)
def plot_map(field, ocean, ax=None, colour_range=None, colour_map=None, label=None, title=""):
    """Map of one field.

    Parameters
    ----------
    field : DataArray (y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413. Its name
        is a short name of `seaice_lab.names`.
    ocean : DataArray of bool (y, x)
        True where sea. Values on land are not shown, missing values in the ocean are white.
    ax : cartopy.mpl.geoaxes.GeoAxes, optional
        Axes of any projection, such as ``plt.axes(projection=maps.map_projection(field))``; by
        default those of a new figure. If their extent is not set, they show the whole ocean. The
        lines have no labels in a projection that is made from an EPSG code, such as
        ``cartopy.crs.epsg(3413)``, because cartopy cannot place them there.
    colour_range : (float, float), optional
        By default that of the variable.
    colour_map, label : str, optional
        By default those of the variable; give both for a difference or an increment.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the field has no usable coordinates or cells on both sides of the equator, its name is
        unknown, its unit is not that of the variable, or `ax` has no projection.
    """
    if field.ndim != 2:
        raise InputError(
            f"the field has the dimensions {field.dims}, expected (y, x); select one with isel"
        )
    map_grid = grid_on_plane(field, ocean)
    default_map, colour_range, default_label = colours_and_label(field, colour_range)
    if ax is None:
        west, east, south, north = map_grid.extent
        size = (6.8, 5.6 * (north - south) / (east - west) + 0.6)  # inches; the map is 5.6 wide
        _, ax = plt.subplots(figsize=size, layout="compressed", subplot_kw=_in_plane(map_grid))
    cells = draw(ax, map_grid, field, colour_map or default_map, colour_range, labels=True)
    ax.set_title(title)
    extend = exceeded_ends([visible_values(map_grid, field).filled(np.nan)], colour_range)
    label = label or default_label
    ax.figure.colorbar(cells, ax=ax, label=label, extend=extend, shrink=0.8, pad=0.02)
    return ax.figure


@styled(FONT)
def field_panels(truth, forecasts, lead_times, ocean, colour_range=None, difference_limit=None):
    """Truth, forecasts and their differences from the truth, one column for each lead time.

    All fields have the same colour range. All differences have another one, symmetric about zero.

    Parameters
    ----------
    truth : DataArray (lead_time, y, x)
        One start with a scalar coordinate ``init_time``; name and positions as in `plot_map`.
    forecasts : dict of str to DataArray (lead_time, y, x)
        Forecasts by label, on the same grid and lead times.
    lead_times : sequence of timedelta or str
        Columns, such as ``["12h", "5D", "10D"]``.
    ocean : DataArray of bool (y, x)
        True where sea.
    colour_range : (float, float), optional
        By default that of the variable.
    difference_limit : float, optional
        Half-width of the colour range of the differences, in the unit of the field; by default a
        round number that at most 1 % of the ocean cells exceed.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        As `plot_map`, and if a lead time or ``init_time`` is missing.
    """
    map_grid = grid_on_plane(truth, ocean)
    colour_map, colour_range, label = colours_and_label(truth, colour_range)
    lead_times = [pd.Timedelta(lead) for lead in lead_times]
    fields = {
        title: _at_lead_times(field, lead_times, title)
        for title, field in {"Truth": truth, **forecasts}.items()
    }
    differences = {
        f"{title} \N{MINUS SIGN} truth": fields[title] - fields["Truth"] for title in forecasts
    }
    if not difference_limit:
        sizes = (abs(field).where(ocean) for field in differences.values())
        difference_limit = round_up(
            max(float(size.quantile(DIFFERENCE_QUANTILE)) for size in sizes)
        )
    limits = -difference_limit, difference_limit
    difference_label = axis_label("Difference", names.variable(truth.name).units)
    groups = [
        (fields, colour_map, colour_range, label),
        (differences, DIFFERENCE_MAP, limits, difference_label),
    ]
    fig, axes = _panel_axes(map_grid, len(fields) + len(differences), len(lead_times))
    for ax, lead in zip(axes[0], lead_times, strict=True):
        valid = pd.Timestamp(truth["init_time"].values) + lead
        ax.set_title(f"{_lead_text(lead)}\n{valid:%Y-%m-%d %H:%M}")
    rows, contents = iter(axes), []
    for panels, colours, limits, bar_label in groups:
        beside = []
        for title, field in panels.items():
            beside.append(next(rows))
            contents += [(ax, field[k], colours, limits) for k, ax in enumerate(beside[-1])]
            first, along_side = beside[-1][0], {"rotation": 90, "ha": "right", "va": "center"}
            first.text(-0.03, 0.5, title, transform=first.transAxes, **along_side)
        extend = exceeded_ends([field.where(ocean) for field in panels.values()], limits)
        bar = {"ax": np.ravel(beside), "aspect": 16 * len(beside), "pad": 0.01, "fraction": 0.03}
        colours = ScalarMappable(Normalize(*limits), colours)
        fig.colorbar(colours, label=bar_label, extend=extend, **bar)
    # The layout is computed once, while the axes are empty: much faster than with complete maps.
    fig.get_layout_engine().execute(fig)
    fig.set_layout_engine("none")
    for ax, field, colours, limits in contents:
        draw(ax, map_grid, field, colours, limits)
    return fig


def colours_and_label(field, colour_range=None):
    """Colours of a field and the label of its colour bar, from its name.

    Parameters
    ----------
    field : DataArray
    colour_range : (float, float), optional
        By default that of the variable.

    Returns
    -------
    colour_map : matplotlib.colors.ListedColormap
        With a colour of its own for open water.
    colour_range : (float, float)
    label : str
    """
    variable = names.variable(field.name)
    names.check_units(field.name, field.attrs.get("units"), "the field to map")
    label = axis_label(variable.long_name.partition(" (")[0], variable.units)
    colour_range = variable.colour_range if colour_range is None else colour_range
    return ListedColormap(palette_of(variable, colour_range)), colour_range, label


def _at_lead_times(field, lead_times, label):
    available = field["lead_time"].values
    missing = [lead for lead in lead_times if lead.to_timedelta64() not in available]
    if missing or "init_time" not in field.coords or field["init_time"].ndim:
        raise InputError(
            f"{label!r} lacks the lead times {[str(lead) for lead in missing]} or a single "
            f"init_time, expected one start with leads out of {pd.Timedelta(available.min())} "
            f"to {pd.Timedelta(available.max())}; select it with isel(init_time=...)"
        )
    return field.sel(lead_time=lead_times).transpose("lead_time", "y", "x")


def map_projection(field):
    """Cartopy projection in which a field is drawn by default.

    Parameters
    ----------
    field : DataArray (..., y, x)
        With coordinates as in `plot_map`.

    Returns
    -------
    cartopy.crs.Projection
        Polar stereographic, equal to EPSG:3413 in the north and to EPSG:3976 in the south.

    Raises
    ------
    InputError
        If the field has cells on both sides of the equator.
    """
    return geoaxes.projection(hemisphere_of_field(field))


def _in_plane(map_grid):
    return {"projection": geoaxes.projection(map_grid.hemisphere)}


def draw(ax, map_grid, field, colour_map, limits, labels=False):
    """Draw land, field, coastline and graticule.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
    map_grid : MapGrid
    field : DataArray (y, x)
    colour_map : str or matplotlib.colors.Colormap
    limits : (float, float)
        Colour range.
    labels : bool
        Label the graticule.

    Returns
    -------
    AxesImage or QuadMesh
        For the colour bar.

    Raises
    ------
    InputError
        If the axes have no projection.
    """
    if not hasattr(ax, "projection"):
        raise InputError(
            f"ax is of type {type(ax).__name__}, expected GeoAxes of cartopy; create them with "
            'plt.subplots(subplot_kw={"projection": maps.map_projection(field)})'
        )
    if ax.get_autoscale_on():
        geoaxes.show_ocean(ax, map_grid)
    ax.set_facecolor(OUTSIDE)
    geoaxes.draw_land(ax, map_grid.hemisphere)
    mask_colours = {"cmap": ListedColormap([MISSING, LAND]), "vmin": 0, "vmax": 1}
    geoaxes.draw_cells(ax, map_grid, ~map_grid.ocean, zorder=1, **mask_colours)
    values = visible_values(map_grid, field)
    colours = {"cmap": colour_map, "vmin": limits[0], "vmax": limits[1]}
    cells = geoaxes.draw_cells(ax, map_grid, values, zorder=2, **colours)
    geoaxes.draw_coast(ax, map_grid)
    geoaxes.draw_graticule(ax, map_grid.extent, labels)
    return cells


def round_frame(ax):
    """Cut a map to a circle as wide as the longer side of its frame.

    Parameters
    ----------
    ax : cartopy.mpl.geoaxes.GeoAxes
        Axes of a map in a polar projection.
    """
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    radius = max(east - west, north - south) / 2
    x, y = (west + east) / 2, (south + north) / 2
    ax.set(xlim=(x - radius, x + radius), ylim=(y - radius, y + radius))
    angle = np.linspace(0, 2 * np.pi, 361)
    circle = 0.5 + 0.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    ax.set_boundary(Path(circle), transform=ax.transAxes)


def visible_values(map_grid, field):
    """Values of a field (y, x) as a masked array: without land and missing values.

    Parameters
    ----------
    map_grid : MapGrid
    field : DataArray (y, x)

    Returns
    -------
    numpy.ma.MaskedArray (y, x)
    """
    values = field.transpose("y", "x").values
    return np.ma.masked_where(~map_grid.ocean | np.isnan(values), values)


def exceeded_ends(fields, limits):
    """Which limits of a colour bar the values exceed; the bar has an arrow there.

    Parameters
    ----------
    fields : iterable of array
        Missing values do not count.
    limits : (float, float)

    Returns
    -------
    str
        "neither", "min", "max" or "both", the argument ``extend`` of a matplotlib colour bar.
    """
    ends = np.array([(np.nanmin(values), np.nanmax(values)) for values in fields])
    below, above = ends[:, 0].min() < limits[0], ends[:, 1].max() > limits[1]
    return ("neither", "min", "max", "both")[int(below) + 2 * int(above)]


def round_up(value):
    """The smallest 1, 2 or 5 times a power of ten that is not less than the value; 1 for zero."""
    if value == 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step for step in (1, 2, 5, 10) if step * power >= value) * power)


def _lead_text(lead):
    hours = lead / pd.Timedelta("1h")
    return f"+{hours:g} h" if hours < 24 else f"+{hours / 24:.4g} d"


def _panel_axes(map_grid, n_rows, n_columns):
    """Figure, and axes of its panels [row, column]."""
    west, east, south, north = map_grid.extent
    width = min(2.7, (PANELS_WIDTH - 1.3) / n_columns)
    height = width * (north - south) / (east - west)
    size = n_columns * width + 1.3, n_rows * height + 0.6  # more for titles and colour bars
    grid = {"figsize": size, "layout": "compressed", "squeeze": False}
    fig, axes = plt.subplots(n_rows, n_columns, subplot_kw=_in_plane(map_grid), **grid)
    for ax in axes.flat:
        geoaxes.show_ocean(ax, map_grid)
    return fig, axes
