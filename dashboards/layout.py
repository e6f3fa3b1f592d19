"""How pages look: style sheet, the column of controls, cards, notices."""

import re
from html import escape

import panel as pn

CONTROLS_WIDTH = 270
STYLE = """
:root { --ink: #1d2b36; --quiet: #5b6b77; --line: #d9e0e5; --accent: #0b6fa4; }
body { margin: 0; background: #f6f8f9; color: var(--ink);
       font-family: "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; }
"""
HEADER = """
:host { background: #12344a; padding: 6px 16px; align-items: center; }
"""
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
REMARK = """
:host { background: #fff6df; border: 1px solid #e5c877; border-radius: 6px; padding: 4px 10px; }
"""
SCROLL = """
:host { max-height: 150px; overflow-y: auto; }
"""
GRID = """
:host {{ display: grid !important; gap: 12px; align-items: start; width: 100%;
         grid-template-columns: repeat(auto-fill, minmax(
             min(100%, max({width}px, calc((100% - {gaps}px) / {count}))), 1fr)); }}
"""


def bare(figure):
    """A bokeh figure as a pane that takes the figure's own sizing."""
    return pn.pane.Bokeh(figure, sizing_mode=figure.sizing_mode, margin=0)


def controls(*widgets):
    """The column of controls on the left."""
    for widget in widgets:
        if isinstance(widget, pn.widgets.Widget):
            widget.width = CONTROLS_WIDTH - 40
    return pn.Column(
        *widgets, width=CONTROLS_WIDTH, stylesheets=[PANEL], margin=(0, 12, 12, 0),
        styles={"position": "sticky", "top": "8px", "align-self": "start"},
    )  # fmt: skip


def several(name, options, value):
    """A list of tick boxes that scrolls; labels are shown as plain text."""
    boxes = pn.widgets.CheckBoxGroup(name=name, options=options, value=value, margin=(0, 10))
    label = pn.widgets.StaticText(value=name, margin=(8, 10, 0, 10))
    return boxes, pn.Column(
        label, pn.Column(boxes, stylesheets=[SCROLL], margin=0, width=CONTROLS_WIDTH - 20), margin=0
    )


def cards(items, width):
    """Items side by side in equal columns, at least ``width`` pixels each, more rows if needed."""
    boxes = [pn.Column(item, stylesheets=[PANEL], sizing_mode="stretch_width") for item in items]
    count = len(boxes)
    grid = GRID.format(width=width, count=count, gaps=12 * (count - 1))
    return pn.Column(*boxes, stylesheets=[grid], sizing_mode="stretch_width")


def notice(title, text):
    """A designed empty place: what is missing and how to come by it; `code` in back quotes."""
    code = re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))
    return pn.pane.HTML(
        f"<h3>{escape(title)}</h3><p>{code}</p>", sizing_mode="stretch_width", margin=(10, 20)
    )


def remark():
    """A place for a warning; see :func:`tell`."""
    return pn.pane.HTML("", visible=False, sizing_mode="stretch_width", stylesheets=[REMARK])


def tell(place, text):
    """Show a text as it is, or nothing."""
    if place.object != escape(text):  # most often nothing, as before
        place.param.update(object=escape(text), visible=bool(text))
