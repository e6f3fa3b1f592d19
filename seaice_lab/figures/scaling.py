"""Curves of scaling: moments against scale, exponents against order and lead time.

As in `seaice_lab.figures.curves`, functions of curves return one panel. `plot_lines` draws maps.
"""

import numpy as np

from seaice_lab.figures import maps
from seaice_lab.figures.axes import LEAD_LABEL, axis_label, lead_days, log_axis
from seaice_lab.figures.charts import DASHED, Curve, line_style, overlay
from seaice_lab.figures.plane import grid_on_plane

SHOWN_ORDERS = (1.0, 2.0, 3.0)
SOURCES = {"truth": "Truth", "forecast": "Forecast", "persistence": "Persistence",
           "climatology": "Climatology", "blurred": "Blurred truth",
           "phase_randomised": "Random phases", "ensemble_mean": "Ensemble mean"}  # fmt: skip
FAR_AWAY = 3  # a reference further away, in ranges of the other curves, is off scale
MEMBERS = "Members"  # label of the first member; the others are not listed


def select_sources(table, names=None):
    """The sources of a table by the label of their curve.

    Parameters
    ----------
    table : Dataset
        Content of ``scaling.nc``.
    names : sequence of str, optional
        By default those of `SOURCES`, and then the members of an ensemble.

    Returns
    -------
    dict of str to Dataset
        Those that the table has, the truth first.
    """
    if names is None:
        names = [*SOURCES, *members_of(table)]
    labels = SOURCES | {name: name.replace("_", " ") for name in members_of(table)}
    labels["member_1"] = MEMBERS
    return {labels[n]: table.sel(source=n) for n in names if n in table.source}


def members_of(table):
    """Names of the members of an ensemble among the sources of a table.

    Parameters
    ----------
    table : Dataset
        Content of ``scaling.nc``.

    Returns
    -------
    list of str
    """
    return [name for name in table.source.values.tolist() if name.startswith("member_")]


def _style(position, label):
    """Style of the curve of a source; members are thin and grey, and the first one is listed."""
    if label == MEMBERS or label.startswith("member "):
        return {"colour": "#9a9a9a", "width": 0.8, "listed": label == MEMBERS}
    return line_style(position, first=0) | {"width": 2, "listed": True}


def _curve(x, table, name, style, marker=None):
    """A statistic, with two standard errors if known, and not for the thin lines of members."""
    values, band = table[name].values, ()
    if f"{name}_error" in table and style["width"] >= 1:
        error = 2 * table[f"{name}_error"].values
        band = (values - error, values + error) if np.isfinite(error).any() else ()
        style = style | {"marker": marker}
    return Curve(x, values, band=band, **style)


def plot_orders(sources, name="beta", title=""):
    """An exponent against the order q, with two standard errors.

    Parameters
    ----------
    sources : dict of str to Dataset
        ``<name>`` (q) and, for bars, ``<name>_error``, by label; the first one is black and should
        be the truth.
    name : str
    title : str

    Returns
    -------
    holoviews.Overlay
        The dashed line is straight: what the first one would be without multifractality.
    """
    first = next(iter(sources.values()))[name]
    series = {
        label: _curve(first.q.values, table, name, _style(position, label), marker="circle")
        for position, (label, table) in enumerate(sources.items())
    }
    line = np.array([0, first.q.values[-1]])
    style = {"colour": "#7f7f7f", "dash": DASHED, "width": 1.2, "listed": False}
    series["straight"] = Curve(line, line * float(first.sel(q=1.0)), **style)
    symbol = "ζ" if name == "zeta" else "K" if name == "gradient_k" else "β"
    return overlay(series, "Order q of the moment", f"{symbol}(q)", title)


def plot_statistic(sources, name, title=""):
    """A statistic against lead time, with two standard errors of the bootstrap.

    Parameters
    ----------
    sources : dict of str to Dataset
        ``<name>`` (lead_time), by label; the first one is black and should be the truth.
    name : str
    title : str
        By default the description of the statistic.

    Returns
    -------
    holoviews.Overlay
        Random phases may be so far away that the other curves would be flat; they are off scale
        then, and the legend says so.
    """
    series = {}
    for position, (label, table) in enumerate(sources.items()):
        table = table.isel(lead_time=table[name].notnull().values)  # references have fewer
        if table.sizes["lead_time"]:
            series[label] = _curve(lead_days(table), table, name, _style(position, label))
    attrs = next(iter(sources.values()))[name].attrs
    title = title or attrs.get("long_name", name)
    quantity = title.rpartition(", ")[2]  # such as "tail exponent"
    label = axis_label(quantity[:1].upper() + quantity[1:], attrs.get("units", "1"))
    random, options = SOURCES["phase_randomised"], {}
    if random in series and len(series) > 1:
        shown = [curve for name, curve in series.items() if name != random]
        values = np.concatenate([part for curve in shown for part in (curve.y, *curve.band)])
        low, high = np.nanmin(values), np.nanmax(values)
        gap = max(np.nanmin(series[random].y) - high, low - np.nanmax(series[random].y))
        if gap > FAR_AWAY * (high - low) > 0:
            margin = 0.1 * (high - low)
            options["ylim"] = low - margin, high + margin
            series[f"{random} (off scale)"] = series.pop(random)
    return overlay(series, LEAD_LABEL, label, title, **options)


def plot_moments(sources, name="rate_moment", title=""):
    """Moments of orders 1, 2 and 3 against scale on logarithmic axes.

    Parameters
    ----------
    sources : dict of str to Dataset
        ``rate_moment`` (q, scale) with ``scale_km``, or ``structure_function`` (q, distance) with
        ``distance_km``, by label; the first one is black.
    name : {"rate_moment", "structure_function"}
    title : str

    Returns
    -------
    holoviews.Overlay
        Each order is divided by the truth's value at the smallest scale.
    """
    length = "scale_km" if name == "rate_moment" else "distance_km"
    series, scale = {}, {}
    for position, (label, table) in enumerate(sources.items()):
        for q in SHOWN_ORDERS:
            values = table[name].sel(q=q).values
            scale.setdefault(q, values[0])
            style = _style(position, label)
            style |= {"width": style["width"] * (0.5 + q / 4), "listed": style["listed"] and q == 1}
            text = label if q == 1 else f"{label}, q = {q:g}"
            series[text] = Curve(table[length].values, values / scale[q], **style)
    ticks = [(km, f"{km:g}") for km in (10, 20, 50, 100, 200, 500, 1000)]
    options = {"logx": True, "xticks": ticks}
    options |= log_axis(np.concatenate([curve.y for curve in series.values()]))
    labels = "Scale (km)", "Moment (relative)", title or "Moments of order 1, 2, 3 (thin to wide)"
    return overlay(series, *labels, **options)


def on_cells(corners, field):
    """Values at the corners of cells on the cells themselves, to draw them.

    Parameters
    ----------
    corners : DataArray (..., y, x)
        One row and one column less than the field.
    field : DataArray (..., y, x)
        On the grid with ``latitude`` and ``longitude``.

    Returns
    -------
    DataArray (..., y, x)
        Each value at the cell below and left of its corner, half a cell away.
    """
    values = corners.drop_vars(["y", "x"], errors="ignore").pad(y=(0, 1), x=(0, 1))
    coords = {
        name: field[name] for name in ("y", "x", "latitude", "longitude") if name in field.coords
    }
    return values.assign_coords(coords)


@maps.styled({"font.size": 10})
def plot_lines(fields, lines, ocean, label, limits):
    """Maps of a rate with logarithmic colours, its linear features in black.

    Parameters
    ----------
    fields : dict of str to DataArray (y, x)
        Positive values by title, from `on_cells`.
    lines : dict of str to DataArray (y, x)
        Positive on linear features, by the same titles, from `on_cells`.
    ocean : DataArray of bool (y, x)
    label : str
        Name and unit of the rate.
    limits : (float, float)
        Smallest and largest colour.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter

    first = next(iter(fields.values()))
    map_grid = grid_on_plane(first, ocean)
    figure, axes = plt.subplots(
        1,
        len(fields),
        figsize=(3.4 * len(fields) + 1, 3.6),
        layout="constrained",
        squeeze=False,
        subplot_kw={"projection": maps.map_projection(first)},
    )
    low, high = np.log10(limits)
    for ax, (title, field) in zip(axes[0], fields.items(), strict=True):
        values = np.log10(field.where(field > 0))
        cells = maps.draw(ax, map_grid, values, "cmo.amp", (low, high))
        on_line = values.where(lines[title] > 0) * 0
        black = maps.visible_values(map_grid, on_line)
        maps.geoaxes.draw_cells(ax, map_grid, black, zorder=2.5, cmap="gray", vmin=0, vmax=1)
        ax.set_title(title)
    bar = figure.colorbar(cells, ax=axes, label=label, extend="both", shrink=0.85)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda log, _: f"{10**log:.2g}"))
    return figure
