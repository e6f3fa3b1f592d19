"""Parts of the pages that Panel lacks: the header with links to the pages, and the time bar."""

import panel as pn
import param

from dashboards import layout


class Header(pn.custom.JSComponent):
    """Name of the project, links to the pages, and buttons for the controls and the colours."""

    page = param.String("", doc="Page that is shown; empty until the first page is drawn")
    pages = param.List([], doc="Names of all pages")

    _esm = (layout.ASSETS / "header.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]


class Words(pn.custom.JSComponent):
    """A text that changes often.

    A new text of Bokeh's Div or of `panel.pane.HTML` lays out the page again.
    """

    text = param.String("", doc="HTML")

    _esm = """
export function render({model}) {
    const box = document.createElement("div")
    const show = () => { box.innerHTML = model.text }
    model.on("text", show)
    show()
    return box
}
"""


def words(style):
    """An empty text as wide as the page.

    Parameters
    ----------
    style : str
        Class of ``assets/components.css``.

    Returns
    -------
    Words
    """
    return Words(sizing_mode="stretch_width", margin=(2, 6), **layout.styled(style))


class TimeBar(pn.custom.JSComponent):
    """A wide slider over times, with dates below it and buttons to step and to play.

    `panel.widgets.Player` has no names for its slider and its buttons, which a screen reader needs,
    and shows no dates.
    """

    label = param.String("", doc="Name of the slider, such as Lead time")
    value = param.Integer(0, doc="Position of the selected time")
    texts = param.List([], doc="Text of each time, such as +5 days")
    marks = param.List([], doc="Dates below the slider as pairs of a position and a text")
    playable = param.Boolean(False, doc="Whether the bar can play, and the arrow keys move it")

    values = []  # what the positions stand for, for the page that made the bar

    _esm = (layout.ASSETS / "time_bar.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]
