"""How pages look: style sheet, column of controls, cards, messages."""

import re
from html import escape

import panel as pn

from seaice_lab.figures import linked_maps

CONTROLS_WIDTH = 270
STYLE = """
body { margin: 0; background: #f6f8f9; color: #1d2b36;
       font-family: "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
"""
HEADER = ":host { background: #12344a; padding: 6px 16px; align-items: center; }"
TABS = """
.bk-btn-group { gap: 4px; background: transparent; border: none; box-shadow: none; }
.bk-btn, .bk-btn.bk-btn-default { background: transparent !important; color: #d5e3ec !important;
    box-shadow: none !important; border: none; border-radius: 6px; font-size: 14px;
    padding: 6px 12px; }
.bk-btn:hover { background: rgba(255, 255, 255, 0.12); color: white !important; }
.bk-btn.bk-active, .bk-btn.bk-btn-default.bk-active { background: white !important;
    color: #12344a !important; font-weight: 600; box-shadow: none; }
"""
PANEL = """
:host { background: white; border: 1px solid #d9e0e5; border-radius: 8px; padding: 8px;
        box-sizing: border-box; }
"""
MESSAGE = """
:host { background: #fff6df; border: 1px solid #e5c877; border-radius: 6px; padding: 4px 10px; }
"""
SCROLL = ":host { max-height: 150px; overflow-y: auto; }"
GRID = """
:host {{ display: grid !important; gap: 12px; align-items: start; width: 100%;
         grid-template-columns: repeat(auto-fill, minmax(
             min(100%, max({width}px, calc((100% - {gaps}px) / {count}))), 1fr)); }}
"""


def bokeh_pane(figure):
    """A pane that takes the sizing of its Bokeh figure."""
    return pn.pane.Bokeh(figure, sizing_mode=figure.sizing_mode, margin=0)


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
    sticky = {"position": "sticky", "top": "8px", "align-self": "start"}
    return pn.Column(
        *widgets, width=CONTROLS_WIDTH, stylesheets=[PANEL], margin=(0, 12, 12, 0), styles=sticky
    )


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
    width = CONTROLS_WIDTH - 20
    scrolling = pn.Column(checkboxes, stylesheets=[SCROLL], margin=0, width=width)
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
    return pn.widgets.FileDownload(
        label=label, filename=filename, callback=callback, embed=False, button_type="default"
    )


def cards(items, width):
    """Items in equal columns, in more rows if the page is narrow.

    Parameters
    ----------
    items : iterable of Panel or Bokeh objects
    width : int
        Smallest width of a column in pixels.

    Returns
    -------
    panel.Column
    """
    boxes = [stretched(item, stylesheets=[PANEL]) for item in items]
    count = len(boxes)
    grid = GRID.format(width=width, count=count, gaps=12 * (count - 1))
    return stretched(*boxes, stylesheets=[grid])


def colour_bars(scales):
    """Horizontal colour bars in one row.

    Parameters
    ----------
    scales : dict of str to bokeh.models.LinearColorMapper
        By label.

    Returns
    -------
    panel.Row
    """
    bars = [bokeh_pane(linked_maps.colour_bar(scale, label)) for label, scale in scales.items()]
    return pn.Row(*bars, sizing_mode="stretch_width")


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
    html = f"<h3>{escape(title)}</h3><p>{code}</p>"
    return pn.pane.HTML(html, sizing_mode="stretch_width", margin=(10, 20))


def message_pane():
    """A hidden pane for a warning; :func:`show_message` fills it."""
    return pn.pane.HTML("", visible=False, sizing_mode="stretch_width", stylesheets=[MESSAGE])


def show_message(pane, text):
    """Show a plain text in a pane of :func:`message_pane`, or hide the pane if it is empty.

    Parameters
    ----------
    pane : panel.pane.HTML
    text : str
    """
    if pane.object != escape(text):  # on most updates nothing changes
        pane.param.update(object=escape(text), visible=bool(text))
