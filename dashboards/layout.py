"""How pages look: style sheet, column of controls, cards, messages."""

import re
from functools import cache
from html import escape
from pathlib import Path

import panel as pn
from bokeh.models import CustomJS, Div, Plot
from matplotlib.ticker import MaxNLocator

from dashboards.dark import dark_changes
from seaice_lab.figures import charts

CONTROLS_WIDTH = 270
SMALLEST_TITLE = 9  # pixels, of a map
ASSETS = Path(__file__).with_name("assets")
PAGE_STYLE = (ASSETS / "page.css").read_text("utf-8")
PAGE_TEMPLATE = (ASSETS / "page.html").read_text("utf-8")
STYLE_FILES = ("components.css", "narrow.css")
COMPONENT_STYLE = "".join((ASSETS / name).read_text("utf-8") for name in STYLE_FILES)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
STYLE_RULES = re.compile(r"(@[^{}]+)\{((?:[^{}]+\{[^{}]*\})*)\s*\}|([^{}]+\{[^{}]*\})", re.DOTALL)
LEGEND_STYLE = ".bk-label { color: var(--ink, #1d2b36) !important; }"
DARK_COLOURS = (ASSETS / "dark_colours.js").read_text("utf-8")
WRAP_TITLE = (ASSETS / "wrap_title.js").read_text("utf-8")


def styled(*names):
    """Options of a Panel object that takes the style of classes of `STYLE_FILES`."""
    return {"stylesheets": [style_for(*names)], "css_classes": list(names)}


@cache
def style_for(*names):
    """The rules of `STYLE_FILES` that some classes need.

    Every component of a page has a copy of its style sheet, so a short one makes pages faster.

    Parameters
    ----------
    *names : str
        Classes of components; "widget" stands for the inputs of Panel.

    Returns
    -------
    str
    """
    selectors = [f":host(.{name})" for name in names]
    selectors += [":focus-visible", ".bk-" if "widget" in names else "a {"]
    rules = []
    for media, inner, rule in STYLE_RULES.findall(COMMENT.sub("", COMPONENT_STYLE)):
        inside = re.findall(r"[^{}]+\{[^{}]*\}", inner or rule)
        needed = "".join(one for one in inside if any(text in one for text in selectors))
        rules.append(f"{media}{{{needed}}}" if media and needed else needed)
    return "".join(rules)


def bokeh_pane(figure):
    """A pane that takes the sizing of its Bokeh figure, whose title is never wider than it."""
    title = figure.title
    size = float(title.text_font_size.removesuffix("px"))
    # Maps stand side by side: a title of two lines would move one of them.
    smallest = SMALLEST_TITLE if title.level == "overlay" else size
    arguments = {"title": title, "text": title.text, "size": size, "smallest": smallest}
    wrap = CustomJS(args=arguments, code=WRAP_TITLE)
    for name in ("inner_width", "inner_height"):  # the height changes with the number of lines
        figure.js_on_change(name, wrap)
    return pn.pane.Bokeh(figure, sizing_mode=figure.sizing_mode, margin=0)


def chart(panel, height=300):
    """A pane of curves, which have other colours on a dark page.

    Parameters
    ----------
    panel : holoviews.Overlay or bokeh.plotting.figure
        From the functions of `seaice_lab.figures`, or its figure.
    height : int
        Pixels of a panel.

    Returns
    -------
    panel.pane.Bokeh
    """
    figure = panel if isinstance(panel, Plot) else charts.bokeh_figure(panel, height)
    figure.update(background_fill_alpha=0, border_fill_alpha=0)
    for legend in figure.legend:
        legend.update(background_fill_alpha=0, stylesheets=[LEGEND_STYLE])
    if changes := dark_changes(figure):
        figure.js_on_change("inner_width", CustomJS(args={"changes": changes}, code=DARK_COLOURS))
    return bokeh_pane(figure)


def stretched(*items, **options):
    """A column as wide as the page.

    Parameters
    ----------
    *items : Panel or Bokeh objects
    **options
        Options of `panel.Column`.

    Returns
    -------
    panel.Column
    """
    return pn.Column(*items, sizing_mode="stretch_width", **options)


def controls(*widgets):
    """The column of controls on the left."""
    for widget in widgets:
        if isinstance(widget, pn.widgets.Widget):
            widget.width = CONTROLS_WIDTH - 40
            widget.stylesheets = [style_for("widget")]
    return pn.Column(*widgets, width=CONTROLS_WIDTH, margin=0, **styled("panel", "controls"))


def checkbox_list(name, options):
    """A list of checkboxes that scrolls. Its labels are shown as plain text, not as HTML.

    Parameters
    ----------
    name : str
        Heading of the list.
    options : list of str or dict of str to str
        Values, or values by label.

    Returns
    -------
    checkboxes : panel.widgets.CheckBoxGroup
    column : panel.Column
        The heading and the checkboxes.
    """
    checkboxes = pn.widgets.CheckBoxGroup(name=name, options=options, margin=(0, 10))
    heading = pn.widgets.StaticText(value=name, margin=(8, 10, 0, 10))
    scrolling = pn.Column(checkboxes, margin=0, width=CONTROLS_WIDTH - 20, **styled("scrolling"))
    return checkboxes, pn.Column(heading, scrolling, margin=0)


def download_button(label, filename, callback):
    """A button that makes a file when it is clicked.

    Parameters
    ----------
    label, filename : str
    callback : callable
        Returns the file as `io.BytesIO`.

    Returns
    -------
    panel.widgets.FileDownload
    """
    return pn.widgets.FileDownload(label=label, filename=filename, callback=callback)


def cards(items, width):
    """Items in rows that they fill, in more rows if the page is narrow; then messages.

    Parameters
    ----------
    items : iterable of Panel objects
        Those of :func:`empty_state` are messages; those of the class "narrow" do not grow, and two
        of the class "half" are side by side on a phone.
    width : int
        Smallest width of an item in pixels.

    Returns
    -------
    panel.Column
    """
    boxes = []
    for item in items:
        kind = "message-row" if "empty" in item.css_classes else "figure"
        kind = next((name for name in ("narrow", "half") if name in item.css_classes), kind)
        boxes.append(stretched(item, **styled("panel", kind)))
    return stretched(*boxes, styles={"--width": f"{width}px"}, **styled("cards"))


def map_cards(items, width, count, rows=None, bars=None):
    """Maps in equal columns, in more rows if the page is narrow.

    Parameters
    ----------
    items : iterable of Panel objects
    width : int
        Smallest width of a column in pixels.
    count : int
        Largest number of columns.
    rows : int, optional
        Rows that can be seen together on a wide screen; there are two columns on a phone.
    bars : panel.Column, optional
        Colour bars, above the maps or, on a wide screen, at their right; only with ``rows``.

    Returns
    -------
    panel.Column
    """
    kinds = [["text"] * isinstance(item, pn.pane.HTML) for item in items]
    boxes = [stretched(i, **styled("panel", *k)) for i, k in zip(items, kinds, strict=True)]
    sizes = {"--width": f"{width}px", "--count": str(count)}
    sizes |= {"--rows": str(rows)} if rows else {}
    maps = stretched(*boxes, styles=sizes, **styled("map-cards", *["pairs"] * bool(rows)))
    return stretched(bars, maps, styles=sizes, **styled("beside")) if bars else maps


def forecast_maps(bars, values, seconds, curves, words):
    """Maps in columns, all visible together on a wide screen, with colour bars and descriptions.

    Parameters
    ----------
    bars : panel.Column
        Colour bars, from :func:`colour_bars`.
    values, seconds : sequence of Panel objects
        Maps of the first row, and of the second row. A single second map is in the first row.
    curves : Panel object
        At the beginning of the second row, or below a single row.
    words : bokeh.models.Div
        Description of the maps: beside the curves below a single row, else below the maps or,
        like the colour bars, at the right of three maps in two rows.

    Returns
    -------
    panel.Column
    """
    is_row = len(seconds) < 2
    boxes = [stretched(item, **styled("panel")) for item in (*values, *seconds)]
    sizes = {
        "--count": str(len(boxes) if is_row else len(values)),
        "--rows": "1" if is_row else "2",
    }
    below = [curves, words] if is_row else [curves]
    box = stretched(*below, **styled("panel", "probe" if is_row else "fitted"))
    boxes.insert(len(boxes) if is_row else len(values), box)
    maps = stretched(*boxes, **styled("maps", *["several"] * (not is_row)))
    items = [bars, maps] if is_row else [bars, maps, words]
    kinds = ["compared"] * (not is_row) + ["beside", "two"] * (len(seconds) == 2)
    return stretched(*items, styles=sizes, **styled(*kinds))


def colour_bars(scales, is_logarithm=False):
    """Horizontal colour bars side by side.

    Parameters
    ----------
    scales : dict of str to bokeh.models.LinearColorMapper
        By label.
    is_logarithm : bool
        The scales are those of decimal logarithms; the bars show the numbers themselves.

    Returns
    -------
    panel.Column
    """
    bars = [colour_bar(scale, label, is_logarithm) for label, scale in scales.items()]
    return stretched(*bars, **styled("bars"))


def colour_bar(scale, label, is_logarithm=False):
    """A horizontal colour bar that follows its scale.

    It is HTML, because its text then has the colours of the page, and a figure would be slow.

    Parameters
    ----------
    scale : bokeh.models.LinearColorMapper
    label : str
        Quantity and unit.
    is_logarithm : bool
        As of :func:`colour_bars`.

    Returns
    -------
    bokeh.models.Div
    """
    bar = text_block(style="colour-bar")

    def draw(_name, _old, _new):
        ticks = MaxNLocator(4, integer=is_logarithm).tick_values(scale.low, scale.high)
        marks = "".join(
            f"<span style='left:{100 * (tick - scale.low) / (scale.high - scale.low):.1f}%'>"
            f"{10**tick if is_logarithm else tick:g}</span>".replace("-", "\N{MINUS SIGN}")
            for tick in ticks
            if scale.low <= tick <= scale.high
        )
        shades = f"linear-gradient(to right, {', '.join(scale.palette)})"
        bar.text = (
            f"{escape(label)}<i style='background:{shades}'></i><div class='ticks'>{marks}</div>"
        )

    for name in ("low", "high", "palette"):
        scale.on_change(name, draw)
    draw(None, None, None)
    return bar


def text_block(html="", style="headline"):
    """A text as wide as the page. A new ``text`` costs much less than that of `panel.pane.HTML`.

    Parameters
    ----------
    html : str
    style : str
        Class of ``assets/components.css``. The headline says what is shown and how good it is.

    Returns
    -------
    bokeh.models.Div
    """
    size = {"sizing_mode": "stretch_width", "margin": (2, 6)}
    return Div(text=html, disable_math=True, **size, **styled(style))


def in_words(sentences):
    """A text block of sentences (str) by their subject (str), such as the name of a run."""
    lines = [f"<b>{escape(name)}</b> {escape(text)}" for name, text in sentences.items()]
    return text_block("".join(f"<div>{line}</div>" for line in lines))


def empty_state(title, text):
    """Message in place of content: what is missing and how to create it.

    Parameters
    ----------
    title, text : str
        Plain text; words of ``text`` between backquotes are set as code.

    Returns
    -------
    panel.pane.HTML
    """
    code = re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))
    pane = html_pane(f"<h3>{escape(title)}</h3><p>{code}</p>", "empty")
    pane.margin = (10, 20)
    return pane


def html_pane(html, *styles):
    """A pane of HTML as wide as the page.

    Parameters
    ----------
    html : str
    *styles : str
        Classes of ``assets/components.css``.

    Returns
    -------
    panel.pane.HTML
    """
    return pn.pane.HTML(html, sizing_mode="stretch_width", **styled(*styles))


def message_pane(text=""):
    """A pane for a warning in plain text, hidden as long as it is empty; see `show_message`."""
    pane = html_pane("", "message")
    pane.visible = False
    show_message(pane, text)
    return pane


def show_message(pane, text):
    """Show a plain text in a pane of :func:`message_pane`, or hide the pane if it is empty.

    Parameters
    ----------
    pane : panel.pane.HTML
    text : str
    """
    html = escape(text)
    if pane.object != html:  # an update without a change costs as much
        pane.param.update(object=html, visible=bool(html))
