"""Curves and points with HoloViews: described once, drawn by Bokeh or by matplotlib.

`overlay` describes one panel. `bokeh_figure` draws it for a browser, where the pointer shows values
and a click in the legend hides a curve; `picture` draws panels with matplotlib. In a notebook,
`show` draws with Bokeh. While a notebook is executed unattended (see `seaice_lab.progress`), it
draws with matplotlib, because the result must be readable where no script runs.
"""

import io
import warnings
from functools import lru_cache, partial
from itertools import count
from textwrap import fill
from typing import NamedTuple

import numpy as np

from seaice_lab import progress
from seaice_lab.figures.axes import legend_columns

# The colours are those of Okabe and Ito, which colour-blind readers can distinguish.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
GREY = "#7f7f7f"
# Lengths of dashes and gaps in pixels, and the same marker in both libraries.
DASHES = ((), (7, 3), (2, 2), (8, 3, 2, 3), (14, 3), (8, 2, 2, 2, 2, 2), (4, 4))
MARKERS = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D", "inverted_triangle": "v"}
MARKERS |= {"star": "*", "plus": "P"}
DASHED = (6, 4)  # of lines that mark a value
FONT_SIZE = "12px"
LEGEND_CHARACTERS = 41  # in one row of a legend, which fits on a phone
LEGEND_ROW = 22  # pixels
TITLE_CHARACTERS = 9.5  # in one row of a title in a picture, for each inch
MATPLOTLIB_STYLE = {"font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left"}
MATPLOTLIB_STYLE |= dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False)
PANEL_INCHES, FRAME_INCHES = (3.8, 3.1), (4.7, 4.4)  # of curves, and of a map with sliders
PANEL_PIXELS = {"width": 430, "height": 320}
BOKEH_FONTS = {"title": "13px", "labels": FONT_SIZE, "ticks": "11px", "legend": FONT_SIZE}
BOKEH_LEGEND = {"click_policy": "hide", "orientation": "horizontal", "border_line_color": None}
BOKEH_LEGEND |= {"location": "top_left", "glyph_width": 28, "glyph_height": 16, "label_height": 16}
BOKEH_LEGEND |= {"spacing": 8, "padding": 2, "margin": 2}
POINTS_PER_PIXEL = 0.75


class Curve(NamedTuple):
    """One curve of :func:`overlay`.

    Parameters
    ----------
    x, y : array (point,)
        ``x`` holds numbers or dates.
    colour : str, optional
        By default colour and dash follow from the position: see `overlay`.
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
    colour = COLOURS[(first + position) % len(COLOURS)]
    return {"colour": colour, "dash": DASHES[position % len(DASHES)]}


@lru_cache(maxsize=1)
def holoviews():
    """The module holoviews with both libraries loaded; the import takes half a second or more."""
    import holoviews
    from holoviews.plotting import bokeh, mpl  # noqa: F401  (each registers its plots)

    holoviews.Store.set_current_backend("bokeh")
    return holoviews


def overlay(
    series,
    x_label,
    y_label,
    title="",
    levels=(),
    first=0,
    legend_width=LEGEND_CHARACTERS,
    **options,
):
    """One panel of curves.

    Parameters
    ----------
    series : dict of str to Curve
        Curves by label, the topmost first. The horizontal axis shows dates if ``x`` is dates.
        Curves without a colour take the styles of `line_style` in turn.
    x_label, y_label, title : str
        With units.
    levels : dict of float to tuple or sequence of float
        Grey horizontal lines at these values, with their dashes; solid by default.
    first : int
        Position in `COLOURS` of the first curve without a colour: 1 keeps black for the truth.
    legend_width : int
        Characters in a row of the legend.
    **options
        Options of `holoviews.Overlay` that Bokeh and matplotlib share: ``xlim``, ``ylim``,
        ``xticks``, ``yticks``, ``logx``, ``logy``.

    Returns
    -------
    holoviews.Overlay
    """
    hv, styles, elements = holoviews(), map(partial(line_style, first=first), count()), []
    for label, curve in series.items():
        if curve.colour is None:
            style = next(styles)
            dash = style["dash"] if curve.dash == () else curve.dash
            curve = curve._replace(colour=style["colour"], dash=dash)
        elements = [*_elements(hv, label, curve), *elements]
    listed = [label for label, curve in series.items() if curve.listed]
    levels = levels if isinstance(levels, dict) else dict.fromkeys(levels, ())
    options = {"title": title, "xlabel": x_label, "ylabel": y_label} | options
    # more room for markers, so that those at the ends are not cut
    has_markers = any(curve.marker for curve in series.values())
    options |= {"padding": (0.03 if has_markers else 0.01, 0.05), "show_grid": True}
    bokeh = PANEL_PIXELS | {"fontsize": BOKEH_FONTS, "legend_opts": BOKEH_LEGEND}
    bokeh |= {"legend_position": "bottom", "show_legend": len(listed) > 1}
    bokeh |= {"legend_cols": legend_columns(listed, legend_width)}
    bokeh["hooks"] = [partial(_finish_bokeh, levels=levels)]
    pictures = {"show_legend": False, "hooks": [partial(_finish_matplotlib, levels=levels)]}
    return hv.Overlay(elements).opts(
        hv.opts.Overlay(**options, **bokeh, backend="bokeh"),
        hv.opts.Overlay(**options, **pictures, backend="matplotlib"),
    )


def _elements(hv, label, curve):
    """Band, line and points of one curve, from the lowest to the topmost."""
    x, y, colour = np.asarray(curve.x), np.asarray(curve.y, float), curve.colour
    if len(curve.band):
        low, high = (np.asarray(end, float) for end in curve.band)
        style = {"color": colour, "alpha": 0.15}
        yield hv.Area((x, low, high), "x", ["y", "high"], label=label).opts(
            hv.opts.Area(**style, line_alpha=0, backend="bokeh"),
            hv.opts.Area(**style, facecolor=colour, linewidth=0, backend="matplotlib"),
        )
    common = {"color": colour, "show_legend": curve.listed}
    if curve.dash is not None:
        style = {"line_dash": list(curve.dash), "line_width": curve.width}
        # matplotlib counts dashes in widths of the line
        dash = (0, [length / curve.width for length in curve.dash]) if curve.dash else "solid"
        size = POINTS_PER_PIXEL * curve.width
        yield hv.Curve((x, y), "x", "y", label=label).opts(
            hv.opts.Curve(**common, **style, backend="bokeh"),
            hv.opts.Curve(**common, linestyle=dash, linewidth=size, backend="matplotlib"),
        )
    if curve.marker:
        common["alpha"], marker = 0.9, MARKERS[curve.marker]
        yield hv.Scatter((x, y), "x", "y", label=label).opts(
            hv.opts.Scatter(**common, marker=curve.marker, size=8, backend="bokeh"),
            hv.opts.Scatter(**common, marker=marker, s=32, backend="matplotlib"),
        )


def _finish_bokeh(plot, _element, levels):
    """Style of the Bokeh figure, one hover tool, the order of the legend and the grey lines."""
    from bokeh.models import HoverTool, Span

    figure, topmost = plot.state, {}
    for drawn in plot.subplots.values():
        renderer = drawn.handles["glyph_renderer"]
        renderer.name = drawn.current_frame.label
        topmost[renderer.name] = renderer
    has_dates = figure.xaxis[0].__class__.__name__ == "DatetimeAxis"
    hover = HoverTool(
        renderers=[*topmost.values()],
        tooltips=[("$name", f"@y{{0.[0000]}} at {'@x{%F %H:%M}' if has_dates else '@x{0.[000]}'}")],
        formatters={"@x": "datetime"} if has_dates else {},
        visible=False,
    )
    figure.add_tools(hover)
    figure.update(min_border=8, outline_line_color=None)
    figure.toolbar.update(logo=None, autohide=True)
    figure.axis.axis_label_text_font_style = "normal"
    figure.axis.minor_tick_line_color = None
    figure.grid.grid_line_color = "#e8e8e8"
    for level, dash in levels.items():
        line = Span(location=level, dimension="width", line_color=GREY, line_dash=list(dash))
        figure.add_layout(line)
    for legend in figure.legend:
        legend.items = legend.items[::-1]  # the topmost curve is the first


def _finish_matplotlib(plot, _element, levels):
    """Order of drawing, dates, and the grey lines."""
    axes = plot.handles["axis"]
    axes.set_aspect("auto")
    axes.grid(True, color="0.9", which="major")
    for axis in (axes.xaxis, axes.yaxis):
        # Grid and grey lines are below the curves, which HoloViews draws from order 0 upwards. A
        # logarithmic axis has legible ticks already.
        axis.set(zorder=-2, minor_formatter="")
    if next(iter(plot.current_frame)).dimension_values(0).dtype.kind == "M":
        short_dates(plot)
    for level, dash in levels.items():
        dash = (0, dash) if dash else "solid"
        axes.axhline(level, color=GREY, linewidth=0.9, linestyle=dash, zorder=-1)


def short_dates(plot, _element=None):
    """Hook of HoloViews with matplotlib: few and short dates on the horizontal axis.

    Parameters
    ----------
    plot : holoviews.plotting.mpl.ElementPlot
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(maxticks=7)
    axis = plot.handles["axis"].xaxis
    axis.set(major_locator=locator, major_formatter=ConciseDateFormatter(locator))


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
    # HoloViews asks for WebGL, which paints such figures more slowly than the canvas.
    figure.update(width=None, height=height, sizing_mode="stretch_width", output_backend="canvas")
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
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    hv = holoviews()
    panels = list(panels) if isinstance(panels, hv.Layout) else [panels]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    renderer = hv.renderer("matplotlib")
    with rc_context(MATPLOTLIB_STYLE), warnings.catch_warnings():
        # HoloViews gives curves over dates a second line style, which matplotlib passes over.
        warnings.filterwarnings("ignore", "linestyle is redundantly defined")
        width, height = PANEL_INCHES if len(panels) > 1 else (6.4, 3.8)
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, axes in zip(panels, all_axes, strict=False):
            options = {"axis": axes, "fig": figure, "renderer": renderer}
            renderer.plotting_class(panel)(panel, **options).initialize_plot()
            axes.set_title(fill(axes.get_title("left"), int(TITLE_CHARACTERS * width)))
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        _add_matplotlib_legend(figure, all_axes[: len(panels)])
    return figure


def _add_matplotlib_legend(figure, all_axes):
    """One legend below panels with as many curves each, or one in every panel."""
    entries = []
    for axes in all_axes:
        entries.append({})
        for artist, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries[-1] = {label: (artist, *entries[-1].pop(label, ()))} | entries[-1]
    counts = {len(labels) for labels in entries if len(labels) > 1}
    if len(counts) == 1:
        labels = next(labels for labels in entries if len(labels) > 1)
        columns = legend_columns(labels, 10 * figure.get_figwidth())
        options = {"loc": "outside lower center", "ncols": columns, "handlelength": 3}
        figure.legend(labels.values(), labels.keys(), **options)
        return
    for axes, labels in zip(all_axes, entries, strict=True):
        if len(labels) > 1:
            axes.legend(labels.values(), labels.keys(), handlelength=3)


def show(panels, columns=3):
    """Display panels in a notebook, by Bokeh, or as a picture if it is executed unattended.

    Parameters
    ----------
    panels : holoviews.Overlay or holoviews.Layout
    columns : int
        Panels in one row.
    """
    from IPython.display import Image, display

    hv = load_notebook()
    if progress.in_batch():
        file = io.BytesIO()
        picture(panels, columns).savefig(file, format="png", dpi=100)
        display(Image(file.getvalue()))
    else:
        display(panels.cols(columns) if isinstance(panels, hv.Layout) else panels)


@lru_cache(maxsize=1)
def load_notebook():
    """The module holoviews, ready to show its elements in the notebook that runs this process.

    Bokeh's script is sent to the page: nothing is loaded from the internet. In a notebook that is
    executed unattended, a map with sliders is shown as a picture of its first frame.
    """
    from IPython import get_ipython
    from matplotlib import pyplot

    hv = holoviews()
    if not progress.in_batch():
        hv.extension("bokeh", inline=True, logo=False)
    elif shell := get_ipython():
        # Must precede HoloViews' first picture, or the notebook shows no other figures.
        pyplot.switch_backend(pyplot.get_backend())
        hv.Store.set_current_backend("matplotlib")  # hvplot takes the options of this library
        formatter = shell.display_formatter.formatters["image/png"]
        for kind in (hv.DynamicMap, hv.Layout):
            formatter.for_type(kind, first_frame)
    return hv


def first_frame(maps):
    """The first frame of maps with sliders as a picture.

    Parameters
    ----------
    maps : holoviews.DynamicMap or holoviews.Layout
        From :func:`seaice_lab.figures.explore.explore`.

    Returns
    -------
    bytes
        A file in the format PNG.
    """
    from matplotlib import rc_context

    hv = holoviews()
    maps = [maps] if isinstance(maps, hv.DynamicMap) else maps
    frames = [one[tuple(slider.values[0] for slider in one.kdims)] for one in maps]
    inches = len(frames) * FRAME_INCHES[0], FRAME_INCHES[1]
    row = hv.opts.Layout(sublabel_format="", hspace=0.6, fig_inches=inches, backend="matplotlib")
    frames = hv.Layout(frames).cols(len(frames)).opts(row)
    with rc_context(MATPLOTLIB_STYLE):
        return hv.renderer("matplotlib").instance(dpi=90)(frames, fmt="png")[0]


def layout(*panels):
    """Several panels as one `holoviews.Layout`."""
    return holoviews().Layout(panels)
