"""Curves and points with hvplot and HoloViews: described once, drawn by Bokeh or by matplotlib.

`overlay` describes one panel. `bokeh_figure` draws it for a browser, where the pointer shows values
and a click in the legend hides a curve; `picture` draws panels with matplotlib. In a notebook,
`show` draws with Bokeh. While a notebook is executed unattended (see `seaice_lab.progress`), it
draws with matplotlib, because the result must be readable where no script runs.
"""

import io
import warnings
from functools import lru_cache, partial
from itertools import cycle
from typing import NamedTuple

import numpy as np

from seaice_lab import progress

# The colours are those of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
GREY = "#7f7f7f"
# Lengths of dashes and gaps in pixels, and the same marker in both libraries.
DASHES = ((), (7, 3), (2, 2), (8, 3, 2, 3), (14, 3), (8, 2, 2, 2, 2, 2), (4, 4))
MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "inverted_triangle": "v",
    "star": "*",
    "plus": "P",
}
DASHED = (6, 4)  # of lines that mark a value
FONT_SIZE = "12px"
LEGEND_CHARACTERS = 46  # in one row of a legend, about the width of a phone
LEGEND_ROW = 22  # pixels
MATPLOTLIB_STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "legend.frameon": False,
}
PANEL_INCHES = (3.8, 3.1)
PANEL_PIXELS = {"width": 430, "height": 320}
BOKEH_FONTS = {"title": "13px", "labels": FONT_SIZE, "ticks": "11px"}
POINTS_PER_PIXEL = 0.75


class Curve(NamedTuple):
    """One curve of :func:`overlay`.

    Parameters
    ----------
    x, y : array (point,)
        ``x`` holds numbers or dates.
    colour : str, optional
        The palette in turn by default.
    band : (array, array), optional
        Lower and upper end of a shaded band, (point,) each.
    dash : tuple of int, optional
        Lengths of dashes and gaps; ``()`` is a solid line, None draws no line.
    marker : str, optional
        A key of `MARKERS`, drawn at the points; none by default.
    width : float
        Of the line in pixels.
    listed : bool
        Show the curve in the legend.
    """

    x: np.ndarray
    y: np.ndarray
    colour: str | None = None
    band: tuple = ()
    dash: tuple | None = ()
    marker: str | None = None
    width: float = 2
    listed: bool = True


def line_style(position, first=1):
    """Colour and dash by position; the colour black (``first=0``) is kept for the truth.

    Parameters
    ----------
    position : int
    first : int
        Position of the first colour in `COLOURS`.

    Returns
    -------
    dict
        ``colour`` and ``dash`` of a `Curve`.
    """
    return {
        "colour": COLOURS[(first + position) % len(COLOURS)],
        "dash": DASHES[position % len(DASHES)],
    }


@lru_cache(maxsize=1)
def holoviews():
    """The module holoviews with both libraries loaded; the import takes half a second or more."""
    import holoviews
    from holoviews.plotting import bokeh, mpl  # noqa: F401  (each registers its plots)

    holoviews.Store.set_current_backend("bokeh")
    return holoviews


def overlay(series, x_label, y_label, title="", levels=(), **options):
    """One panel of curves.

    Parameters
    ----------
    series : dict of str to Curve
        Curves by label, the topmost first. The horizontal axis shows dates if ``x`` is dates.
    x_label, y_label, title : str
        With units.
    levels : dict of float to tuple or sequence of float
        Grey horizontal lines at these values, with their dashes; solid by default.
    **options
        Options of `holoviews.Overlay` that Bokeh and matplotlib share: ``xlim``, ``ylim``,
        ``xticks``, ``yticks``, ``logx``, ``logy``.

    Returns
    -------
    holoviews.Overlay
    """
    hv = holoviews()
    elements = [
        element
        for (label, curve), colour in reversed([*zip(series.items(), cycle(COLOURS))])
        for element in _elements(hv, label, curve._replace(colour=curve.colour or colour))
    ]
    listed = [label for label, curve in series.items() if curve.listed]
    options = {"title": title, "xlabel": x_label, "ylabel": y_label} | options
    levels = levels if isinstance(levels, dict) else dict.fromkeys(levels, ())
    panel = hv.Overlay(elements)
    for backend, finish in (("bokeh", _finish_bokeh), ("matplotlib", _finish_matplotlib)):
        options["hooks"] = [partial(finish, listed=listed, levels=levels)]
        special = PANEL_PIXELS | {"fontsize": BOKEH_FONTS} if backend == "bokeh" else {}
        common = {"padding": (0.01, 0.05), "show_legend": False, "show_grid": True}
        panel.opts(hv.opts.Overlay(**common, **options, **special, backend=backend))
    return panel


def _elements(hv, label, curve):
    """Band, line and points of one curve, from the lowest to the topmost."""
    import pandas as pd
    from hvplot import hvPlotTabular  # as `frame.hvplot`, but sends no script to a notebook

    data = pd.DataFrame({"x": np.asarray(curve.x), "y": np.asarray(curve.y, float)})
    common = {"label": label, "hover": False}
    if len(curve.band):
        low, high = (np.asarray(end, float) for end in curve.band)
        area = hvPlotTabular(data.assign(y=low, high=high)).area("x", "y", "high", **common)
        style = {"alpha": 0.15, "backend": "bokeh"}
        area.opts(hv.opts.Area(color=curve.colour, line_alpha=0, **style))
        style["backend"] = "matplotlib"
        colours = {"color": curve.colour, "facecolor": curve.colour}
        yield area.opts(hv.opts.Area(**colours, linewidth=0, **style))
    if curve.dash is not None:
        line, size = hvPlotTabular(data).line("x", "y", **common), POINTS_PER_PIXEL * curve.width
        # matplotlib counts dashes in widths of the line
        dash = (0, [length / curve.width for length in curve.dash]) if curve.dash else "solid"
        style = {"color": curve.colour, "line_dash": list(curve.dash), "line_width": curve.width}
        line.opts(hv.opts.Curve(**style, backend="bokeh"))
        style = {"color": curve.colour, "linestyle": dash, "linewidth": size}
        yield line.opts(hv.opts.Curve(**style, backend="matplotlib"))
    if curve.marker:
        points = hvPlotTabular(data).scatter("x", "y", **common)
        style = {"color": curve.colour, "marker": curve.marker, "size": 8, "alpha": 0.9}
        points.opts(hv.opts.Scatter(**style, backend="bokeh"))
        style |= {"marker": MARKERS[curve.marker], "s": style.pop("size") * 4}
        yield points.opts(hv.opts.Scatter(**style, backend="matplotlib"))


def _finish_bokeh(plot, _element, listed, levels):
    """Style of the Bokeh figure, one hover tool, the legend and the grey lines."""
    from bokeh.models import HoverTool, Legend, Span

    figure, entries = plot.state, {}
    for drawn in plot.subplots.values():
        renderer = drawn.handles["glyph_renderer"]
        renderer.name = drawn.current_frame.label
        entries.setdefault(renderer.name, []).insert(0, renderer)
    has_dates = figure.xaxis[0].__class__.__name__ == "DatetimeAxis"
    hover = HoverTool(
        renderers=[renderers[0] for renderers in entries.values()],
        tooltips=[("$name", f"@y{{0.[0000]}} at {'@x{%F %H:%M}' if has_dates else '@x{0.[000]}'}")],
        formatters={"@x": "datetime"} if has_dates else {},
        visible=False,
    )
    figure.add_tools(hover)
    style_figure(figure)
    for level, dash in levels.items():
        line = Span(location=level, dimension="width", line_color=GREY, line_dash=list(dash))
        figure.add_layout(line)
    # HoloViews adds an empty legend.
    figure.center = [item for item in figure.center if not isinstance(item, Legend)]
    if len(listed) > 1:
        legend = Legend(
            items=[(label, entries[label]) for label in listed],
            click_policy="hide",
            orientation="horizontal",
            border_line_color=None,
            label_text_font_size=FONT_SIZE,
            glyph_width=28,
            glyph_height=16,
            label_height=16,
            spacing=8,
            padding=2,
            margin=2,
            location="top_left",
            ncols=legend_columns(listed, LEGEND_CHARACTERS),
        )
        figure.add_layout(legend, "below")


def style_figure(figure):
    """The common style of Bokeh figures.

    Parameters
    ----------
    figure : bokeh.plotting.figure
    """
    figure.toolbar.update(logo=None, autohide=True)
    figure.title.text_font_size = "13px"
    figure.axis.axis_label_text_font_style = "normal"
    figure.axis.axis_label_text_font_size = FONT_SIZE
    figure.update(min_border=8, outline_line_color=None)
    figure.grid.grid_line_color = "#e8e8e8"


def _finish_matplotlib(plot, _element, listed, levels):
    """Grey lines of the axes, and the entries of its legend."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import NullFormatter

    axes, artists = plot.handles["axis"], {}
    axes.set_aspect("auto")
    axes.grid(True, color="0.9", which="major")
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # a logarithmic axis has legible ticks already
    if np.asarray(next(iter(plot.current_frame)).dimension_values("x")).dtype.kind == "M":
        locator = AutoDateLocator(maxticks=7)
        axes.xaxis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))
    for level, dash in levels.items():
        dash = (0, dash) if dash else "solid"
        axes.axhline(level, color=GREY, linewidth=0.9, linestyle=dash, zorder=0.5)
    for drawn in plot.subplots.values():
        artists.setdefault(drawn.current_frame.label, []).append(drawn.handles["artist"])
    axes.legend_entries = {label: tuple(artists[label]) for label in listed}


def bokeh_figure(panel, height=300):
    """Draw a panel for a browser.

    Parameters
    ----------
    panel : holoviews.Overlay
        From :func:`overlay`.
    height : int
        Pixels, without the second and further rows of the legend. The figure is as wide as its
        place.

    Returns
    -------
    bokeh.plotting.figure
    """
    figure = holoviews().render(panel, backend="bokeh")
    for legend in figure.below:
        if legend.__class__.__name__ == "Legend":
            height += LEGEND_ROW * (-(-len(legend.items) // legend.ncols) - 1)
    figure.update(width=None, height=height, sizing_mode="stretch_width")
    return figure


def picture(panels, columns=3):
    """Draw panels with matplotlib, with one legend for panels that have the same curves.

    Parameters
    ----------
    panels : holoviews.Overlay or holoviews.Layout
        From :func:`overlay`, or several of these.
    columns : int
        Panels in one row.

    Returns
    -------
    matplotlib.figure.Figure
        Not known to pyplot, so it need not be closed.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    hv = holoviews()
    panels = list(panels) if isinstance(panels, hv.Layout) else [panels]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    renderer = hv.renderer("matplotlib")
    with mpl.rc_context(MATPLOTLIB_STYLE), warnings.catch_warnings():
        # HoloViews gives curves over dates a second line style, which matplotlib passes over.
        warnings.filterwarnings("ignore", "linestyle is redundantly defined")
        width, height = PANEL_INCHES if len(panels) > 1 else (6.4, 3.8)
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, axes in zip(panels, all_axes, strict=False):
            options = {"axis": axes, "fig": figure, "renderer": renderer}
            renderer.plotting_class(panel)(panel, **options).initialize_plot()
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        _add_matplotlib_legend(figure, all_axes[: len(panels)])
    return figure


def _add_matplotlib_legend(figure, all_axes):
    """One legend below panels with as many curves each, or one in every panel."""
    entries = [axes.legend_entries for axes in all_axes if len(axes.legend_entries) > 1]
    if len({len(labels) for labels in entries}) == 1:
        columns = legend_columns(entries[0], 12 * figure.get_figwidth())
        options = {"loc": "outside lower center", "ncols": columns, "handlelength": 3}
        figure.legend(entries[0].values(), entries[0].keys(), **options)
        return
    for axes in all_axes:
        if len(axes.legend_entries) > 1:
            axes.legend(axes.legend_entries.values(), axes.legend_entries.keys(), handlelength=3)


def legend_columns(labels, width):
    """Columns of a legend.

    Parameters
    ----------
    labels : collection of str
    width : float
        Of the legend in characters.

    Returns
    -------
    int
    """
    labels = list(labels)
    for columns in range(min(5, len(labels)), 1, -1):
        longest = [max(map(len, labels[column::columns])) for column in range(columns)]
        if sum(longest) + 6 * columns <= width:  # 6 for a piece of the curve
            return columns
    return 1


def show(panels, columns=3):
    """Display panels in a notebook, by Bokeh, or as a picture if it is executed unattended.

    Parameters
    ----------
    panels : holoviews.Overlay or holoviews.Layout
    columns : int
        Panels in one row.
    """
    from IPython.display import Image, display

    hv = holoviews()
    if progress.in_batch():
        file = io.BytesIO()
        picture(panels, columns).savefig(file, format="png", dpi=100)
        display(Image(file.getvalue()))
    else:
        hv.extension("bokeh", logo=False)  # sends Bokeh's script to the page, from no other place
        display(panels.cols(columns) if isinstance(panels, hv.Layout) else panels)


def layout(*panels):
    """Several panels as one `holoviews.Layout`."""
    return holoviews().Layout(panels)
