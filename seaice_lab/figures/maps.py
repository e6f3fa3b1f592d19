"""Static maps in the EPSG:3413 plane: one field, or truth, forecasts and differences in panels.

Plain matplotlib axes in kilometres with equal scales: the plane is already the projection, so no
map library is needed and nothing is ever downloaded. Land on the grid and its coastline are traced
from the ocean mask, hence right for that grid; land beyond it is Natural Earth's.
Figures are made by pyplot: close them with ``plt.close`` when many are written to files.
"""

from functools import wraps
from typing import NamedTuple

import cmocean  # noqa: F401  (registers its colour maps as "cmo.<name>")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.grid import coastline, land_polygons, project

LAND, MISSING, OUTSIDE, COAST, LINES = "#cfcbc4", "#ffffff", "#eef3f6", "#3c3a37", "#7d8a93"
DIFFERENCE_MAP = "cmo.balance"
DIFFERENCE_QUANTILE = 0.99  # of |difference|: a few ridged cells must not bleach the panels
MARGIN = 0.03  # of the larger extent of the ocean, shown around it
PARALLELS, MERIDIANS = np.arange(40, 90, 10), np.arange(-180, 180, 45)
LABELLED_MERIDIAN = 157.5  # latitudes stand beside it, between two drawn meridians
PANELS_WIDTH = 11.0  # inches, a notebook page
FONT = {"font.size": 10, "axes.titlesize": 10}


class Scene(NamedTuple):
    """What all panels of one grid share; lengths in km of the EPSG:3413 plane."""

    x: np.ndarray
    y: np.ndarray
    ocean: np.ndarray
    coast: np.ndarray
    extent: tuple[float, float, float, float]


def styled(style):
    """Decorator: run a plotting function with these matplotlib settings."""

    def decorate(plot):
        @wraps(plot)
        def in_style(*args, **kwargs):
            # Loads the backend first: JupyterLab's turns the interactive mode on while it loads,
            # which the context would undo, and no later figure would be shown.
            plt.draw_if_interactive()
            with plt.rc_context(style):
                return plot(*args, **kwargs)

        return in_style

    return decorate


@styled(FONT)
def plot_map(
    field, ocean, ax=None, name=None, colour_range=None, colour_map=None, label=None, title=""
):
    """Map of one field.

    Parameters
    ----------
    field : DataArray (y, x)
        With coordinates latitude and longitude (y, x), or x and y in metres of EPSG:3413.
    ocean : DataArray of bool (y, x)
        True where sea; values on land are not shown, missing values on the ocean are white.
    ax : Axes, optional
        Where to draw; a new figure by default.
    name : str, optional
        Short name that decides colours and label, by default the name of the field.
    colour_range : (float, float), optional
        By default that of `seaice_lab.names`.
    colour_map, label : str, optional
        Likewise; give both for a difference or an increment.
    title : str

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the field has no usable coordinates, its name is unknown or its unit is another one.
    """
    scene = scene_of(field, ocean)
    known_map, colour_range, known_label = colours_of(field, name, colour_range)
    colour_map, label = colour_map or known_map, label or known_label
    if ax is None:
        west, east, south, north = scene.extent
        width = 5.6
        _, ax = plt.subplots(
            figsize=(width + 1.2, width * (north - south) / (east - west) + 0.6),
            layout="constrained",
        )
    mesh = draw(ax, scene, field, colour_map, colour_range)
    _label_graticule(ax, scene.extent)
    ax.set_title(title)
    extend = ends_of([field], scene, colour_range)
    ax.figure.colorbar(mesh, ax=ax, label=label, extend=extend, shrink=0.8, pad=0.02)
    return ax.figure


@styled(FONT)
def field_panels(
    truth, forecasts, lead_times, ocean, name=None, colour_range=None, widest=None,
    truth_label="Truth",
):  # fmt: skip
    """Truth, forecasts and their differences from the truth, one column a lead time.

    All fields share one colour range; all differences share another, symmetric about zero.

    Parameters
    ----------
    truth : DataArray (lead_time, y, x)
        One start, told by a scalar ``init_time`` coordinate; positions as in `plot_map`.
    forecasts : dict of str to DataArray (lead_time, y, x)
        Forecasts by label, on the same grid and lead times.
    lead_times : sequence of timedelta or str
        Columns, e.g. ``["12h", "5D", "10D"]``.
    ocean : DataArray of bool (y, x)
        True where sea.
    name, colour_range : optional
        As in `plot_map`.
    widest : float, optional
        End of the colours of differences; by default, what 99 % of the ocean cells need.
    truth_label : str
        Label of the first row.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        As `plot_map`, and if a lead time or ``init_time`` is missing.
    """
    scene = scene_of(truth, ocean)
    colour_map, colour_range, label = colours_of(truth, name, colour_range)
    lead_times = [pd.Timedelta(lead) for lead in lead_times]
    fields = {
        key: _at_leads(field, lead_times, key)
        for key, field in {truth_label: truth, **forecasts}.items()
    }
    differences = {
        f"{key} \N{MINUS SIGN} {truth_label.lower()}": fields[key] - fields[truth_label]
        for key in forecasts
    }
    widest = widest or round_up(
        max(
            float(abs(each).where(ocean).quantile(DIFFERENCE_QUANTILE))
            for each in differences.values()
        )
    )
    kinds = [
        (fields, colour_map, colour_range, label),
        (
            differences,
            DIFFERENCE_MAP,
            (-widest, widest),
            f"Difference{label[label.rindex(' (') :]}",
        ),
    ]
    fig, axes, bars = _panel_axes(scene.extent, [len(fields), len(differences)], len(lead_times))
    row = 0
    for (rows, colours, limits, bar_label), bar in zip(kinds, bars, strict=True):
        for row_label, values in rows.items():
            for column, ax in enumerate(axes[row]):
                mesh = draw(ax, scene, values.isel(lead_time=column), colours, limits)
            axes[row][0].set_ylabel(row_label)
            row += 1
        extend = ends_of(rows.values(), scene, limits)
        fig.colorbar(mesh, cax=bar, label=bar_label, extend=extend)
    for ax, lead in zip(axes[0], lead_times, strict=True):
        valid = pd.Timestamp(truth["init_time"].values) + lead
        ax.set_title(f"{_lead_text(lead)}\n{valid:%Y-%m-%d %H:%M}")
    return fig


def scene_of(field, ocean):
    x_m, y_m = _positions(field)
    ocean = ocean.transpose("y", "x").values
    x, y = np.asarray(x_m, dtype=float) / 1000, np.asarray(y_m, dtype=float) / 1000
    coast = coastline(ocean, x, y)
    sea_x, sea_y = (part[ocean] for part in (np.meshgrid(x, y) if x.ndim == 1 else (x, y)))
    margin = MARGIN * max(np.ptp(sea_x), np.ptp(sea_y))
    extent = (
        sea_x.min() - margin, sea_x.max() + margin, sea_y.min() - margin, sea_y.max() + margin
    )  # fmt: skip
    return Scene(x, y, ocean, coast, extent)


def _positions(field):
    """Cell centres in metres of EPSG:3413: x and y as axes where the grid follows the plane."""
    coords = field.coords
    axes = None
    if {"x", "y"} <= set(coords) and coords["x"].attrs.get("units") in names.UNIT_ALIASES["m"]:
        axes = coords["x"].values, coords["y"].values
    if not {"latitude", "longitude"} <= set(coords):
        if axes is None:
            raise InputError(
                f"the field has the coordinates {', '.join(map(str, coords)) or 'none'}, expected "
                "latitude and longitude (y, x), or x and y with units m in the EPSG:3413 plane; "
                "assign them from the prepared store"
            )
        return axes
    x_m, y_m = project(coords["latitude"].values, coords["longitude"].values)
    if axes is not None:
        # x and y of another projection must not be taken for ours.
        off = np.hypot(x_m - axes[0], y_m - axes[1][:, None]).max()
        if off < 0.1 * np.abs(np.diff(axes[0])).min():
            return axes
    return x_m, y_m


def colours_of(field, name, colour_range):
    name = name or field.name
    known = names.variable(name)
    names.check_units(name, field.attrs.get("units"), "the field to map")
    if colour_range is None:
        colour_range = known.colour_range
    label = f"{known.long_name.partition(' (')[0]} ({known.units})"
    return known.colour_map, colour_range, label


def _at_leads(field, lead_times, label):
    known = field["lead_time"].values
    missing = [lead for lead in lead_times if lead.to_timedelta64() not in known]
    if missing or "init_time" not in field.coords or field["init_time"].ndim:
        raise InputError(
            f"{label!r} lacks the lead times {[str(lead) for lead in missing]} or a single "
            f"init_time, expected one start with leads out of {pd.Timedelta(known.min())} to "
            f"{pd.Timedelta(known.max())}; select it with isel(init_time=...)"
        )
    return field.sel(lead_time=lead_times).transpose("lead_time", "y", "x")


def draw(ax, scene, field, colour_map, limits):
    """Land, field, coastline and graticule on one axes; returns the mesh for the colour bar."""
    west, east, south, north = scene.extent
    ax.set(xlim=(west, east), ylim=(south, north), xticks=[], yticks=[], facecolor=OUTSIDE)
    ax.set_aspect("equal")
    rings = [ring / 1000 for ring in land_polygons()]
    seen = [ring for ring in rings if overlaps(ring, scene.extent)]
    ax.add_collection(PolyCollection(seen, facecolor=LAND, zorder=0), autolim=False)
    on_grid = {"shading": "nearest", "rasterized": True}
    ax.pcolormesh(
        scene.x, scene.y, ~scene.ocean, cmap=ListedColormap([MISSING, LAND]), zorder=1, **on_grid
    )
    values = np.ma.masked_where(~scene.ocean, field.transpose("y", "x").values)
    mesh = ax.pcolormesh(
        scene.x, scene.y, np.ma.masked_invalid(values), cmap=colour_map,
        vmin=limits[0], vmax=limits[1], zorder=2, **on_grid,
    )  # fmt: skip
    ax.add_collection(
        LineCollection(graticule(), colors=LINES, linewidths=0.4, zorder=3, label="graticule"),
        autolim=False,
    )
    ax.add_collection(
        LineCollection(scene.coast, colors=COAST, linewidths=0.6, zorder=4, label="coastline"),
        autolim=False,
    )
    return mesh


def graticule():
    """Parallels and meridians as lines (n, 2) in km."""
    around, along = np.arange(0, 361, 2.0), np.linspace(PARALLELS[0], 90, 2)
    lines = [project(np.full_like(around, latitude), around) for latitude in PARALLELS]
    lines += [project(along, np.full_like(along, longitude)) for longitude in MERIDIANS]
    return [np.stack(line, axis=-1) / 1000 for line in lines]


def _label_graticule(ax, extent):
    """Longitudes as ticks where meridians leave the frame, latitudes beside one meridian."""
    west, east, south, north = extent
    at_bottom, at_left = {}, {}
    for longitude in MERIDIANS:
        # In this plane a meridian is a straight ray from the pole, the origin.
        x, y = np.divide(project(60, longitude), 1000)
        if y < 0 and west < x * south / y < east:
            at_bottom[x * south / y] = _longitude_text(longitude)
        if x < 0 and south < y * west / x < north:
            at_left[y * west / x] = _longitude_text(longitude)
    ax.set_xticks(list(at_bottom), at_bottom.values(), fontsize=9)
    ax.set_yticks(list(at_left), at_left.values(), fontsize=9)
    for latitude in PARALLELS:
        x, y = np.divide(project(latitude, LABELLED_MERIDIAN), 1000)
        if west < x < east and south < y < north:
            text = ax.text(x, y, f"{latitude}°N", fontsize=8, ha="center", va="center", zorder=5)
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])


def _longitude_text(longitude):
    side = "" if longitude in (0, -180) else "E" if longitude > 0 else "W"
    return f"{abs(longitude)}°{side}"


def overlaps(ring, extent):
    west, east, south, north = extent
    low, high = ring.min(axis=0), ring.max(axis=0)
    return low[0] < east and high[0] > west and low[1] < north and high[1] > south


def ends_of(fields, scene, limits):
    """Which ends of the colour bar hide larger values: an arrow there says so."""
    values = [field.transpose(..., "y", "x").values[..., scene.ocean] for field in fields]
    low = min(np.nanmin(part) for part in values) < limits[0]
    high = max(np.nanmax(part) for part in values) > limits[1]
    return ("both" if high else "min") if low else ("max" if high else "neither")


def round_up(value):
    """The next 1, 2 or 5 times a power of ten; 1 for differences that are zero everywhere."""
    if value == 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step for step in (1, 2, 5, 10) if step * power >= value) * power)


def _lead_text(lead):
    hours = lead / pd.Timedelta("1h")
    return f"+{hours / 24:g} d" if hours % 24 == 0 or hours > 120 else f"+{hours:g} h"


def _panel_axes(extent, row_kinds, n_columns):
    """Axes of the panels, [row][column], and a colour bar axes for each kind of row.

    Placed by hand in inches: panels of a fixed shape leave gaps under every automatic layout.
    """
    west, east, south, north = extent
    gap, left, right, top, bottom = 0.08, 0.35, 1.0, 0.5, 0.08
    width = min(2.6, (PANELS_WIDTH - left - right) / n_columns - gap)
    height = width * (north - south) / (east - west)
    n_rows = sum(row_kinds)
    total = (
        left + n_columns * (width + gap) + right,
        bottom + n_rows * (height + gap) + top,
    )
    fig = plt.figure(figsize=total)

    def place(x, y, wide, high):
        return fig.add_axes((x / total[0], y / total[1], wide / total[0], high / total[1]))

    rows = [bottom + (n_rows - 1 - row) * (height + gap) for row in range(n_rows)]
    axes = [
        [place(left + column * (width + gap), y, width, height) for column in range(n_columns)]
        for y in rows
    ]
    bars, first = [], 0
    for count in row_kinds:
        y, high = rows[first + count - 1], count * (height + gap) - gap
        bars.append(place(total[0] - right + 0.05, y + 0.05 * high, 0.14, 0.9 * high))
        first += count
    return fig, axes, bars
