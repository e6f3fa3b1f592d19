"""Interactive curves and category plots as Bokeh figures, for the dashboard and for notebooks.

In a notebook, call ``bokeh.io.output_notebook`` and then ``bokeh.io.show``.
"""

from itertools import cycle
from typing import NamedTuple

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, FixedTicker, HoverTool, Legend, Span
from bokeh.plotting import figure

from seaice_lab.figures.curves import COLOURS

FONT_SIZE = "12px"


class Curve(NamedTuple):
    """One curve of :func:`curves`.

    Parameters
    ----------
    x, y : array (point,)
        ``x`` holds numbers or dates.
    colour : str, optional
        The palette in turn by default.
    band : (array, array), optional
        Lower and upper end of a shaded band, (point,) each.
    dashed : bool
        Draw a dashed line.
    points : bool
        Mark the points.
    listed : bool
        Show the curve in the legend.
    """

    x: np.ndarray
    y: np.ndarray
    colour: str | None = None
    band: tuple = ()
    dashed: bool = False
    points: bool = False
    listed: bool = True


def new_figure(title, x_label, y_label, tools="pan,box_zoom,reset,save", **options):
    """An empty figure in the common style.

    Parameters
    ----------
    title, x_label, y_label : str
        With units.
    tools : str
        Tools of the toolbar.
    **options
        More options of ``bokeh.plotting.figure``.

    Returns
    -------
    bokeh.plotting.figure
    """
    style = {"sizing_mode": "stretch_width", "min_border": 8, "toolbar_location": "right"}
    plot = figure(title=title, tools=tools, **style, **options)
    plot.toolbar.update(logo=None, autohide=True)
    plot.title.text_font_size = "13px"
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = FONT_SIZE
    plot.xaxis.axis_label, plot.yaxis.axis_label = x_label, y_label
    plot.outline_line_color = None
    plot.grid.grid_line_color = "#e8e8e8"
    return plot


def curves(series, x_label, y_label, title="", logarithmic="", height=300, columns=4):
    """Figure of curves. A click in the legend hides a curve; the pointer shows its values.

    Parameters
    ----------
    series : dict of str to Curve
        Curves by label. The horizontal axis shows dates if ``x`` of the first curve is dates.
    x_label, y_label, title : str
        With units.
    logarithmic : str
        Logarithmic axes: "", "x", "y" or "xy".
    height : int
        Pixels.
    columns : int
        Columns of the legend.

    Returns
    -------
    bokeh.plotting.figure
    """
    has_dates = any(np.asarray(curve.x).dtype.kind == "M" for curve in series.values())
    position = "@x{%F %H:%M}" if has_dates else "@x{0.[000]}"
    axis_types = {"x_axis_type": "datetime"} if has_dates else {}
    axis_types |= {f"{axis}_axis_type": "log" for axis in logarithmic}
    plot = new_figure(title, x_label, y_label, height=height, **axis_types)
    legend = []
    for (label, curve), default in zip(series.items(), cycle(COLOURS), strict=False):
        glyphs = _draw_curve(plot, label, curve, curve.colour or default)
        if curve.listed:
            legend.append((label, glyphs))
        hover = HoverTool(
            renderers=glyphs[:1],
            tooltips=[(label, f"@y{{0.0000}} at {position}")],
            formatters={"@x": "datetime"} if has_dates else {},
            mode="mouse",
            visible=False,
        )
        plot.add_tools(hover)
    add_legend(plot, legend, columns)
    return plot


def _draw_curve(plot, label, curve, colour):
    """Line, points and band of one curve; the line comes first."""
    source = ColumnDataSource({"x": np.asarray(curve.x), "y": np.asarray(curve.y, float)})
    style = {"color": colour, "line_dash": "dashed" if curve.dashed else "solid"}
    glyphs = [plot.line("x", "y", source=source, line_width=2, name=label, **style)]
    if curve.points:
        glyphs.append(plot.scatter("x", "y", source=source, color=colour, size=7))
    if len(curve.band):
        glyphs.append(plot.varea(curve.x, *curve.band, fill_color=colour, fill_alpha=0.15))
    return glyphs


def category_points(series, categories, x_label, title, colours):
    """Figure of values by category: one row for each category, one colour for each label.

    Parameters
    ----------
    series : dict of str to array (category,)
        Values by label.
    categories : sequence of str
        Names of the rows, from top to bottom.
    x_label, title : str
        With units.
    colours : dict of str to str
        Colours by label.

    Returns
    -------
    bokeh.plotting.figure
    """
    rows = FactorRange(*categories[::-1])
    plot = new_figure(title, x_label, "", height=300, tools="save", y_range=rows)
    legend = []
    for label, values in series.items():
        source = ColumnDataSource({"x": np.asarray(values, float), "y": list(categories)})
        points = plot.scatter("x", "y", source=source, color=colours[label], size=9, alpha=0.85)
        tooltips = [(label, "@y: @x{0.0000}")]
        plot.add_tools(HoverTool(renderers=[points], tooltips=tooltips, visible=False))
        legend.append((label, [points]))
    add_legend(plot, legend)
    return plot


def add_legend(plot, entries, columns=4):
    """Add a legend below the figure if it has two entries or more; a click hides a curve.

    Parameters
    ----------
    plot : bokeh.plotting.figure
    entries : list of (str, list of renderer)
        Label and glyphs.
    columns : int
    """
    if len(entries) < 2:
        return
    legend = Legend(
        items=entries,
        click_policy="hide",
        orientation="horizontal",
        border_line_color=None,
        label_text_font_size=FONT_SIZE,
        spacing=8,
        padding=2,
        margin=2,
        ncols=columns,
    )
    plot.add_layout(legend, "below")


def horizontal_line(plot, value, dash="dashed"):
    """Draw a grey horizontal line.

    Parameters
    ----------
    plot : bokeh.plotting.figure
    value : float
    dash : str
        "dashed" or "solid".
    """
    line = Span(location=value, dimension="width", line_color="#888888", line_dash=dash)
    plot.add_layout(line)


def label_ticks(plot, values, labels):
    """Label the horizontal axis at the given values only.

    Parameters
    ----------
    plot : bokeh.plotting.figure
    values : sequence of float
    labels : sequence of str
    """
    plot.xaxis.ticker = FixedTicker(ticks=list(values))
    plot.xaxis.major_label_overrides = dict(zip(values, labels, strict=True))
