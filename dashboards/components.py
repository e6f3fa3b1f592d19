"""Parts of the pages that Panel lacks: the header with links to the pages, and the time bar."""

import panel as pn
import param
from bokeh.models import CustomJS, TextInput

from dashboards import layout

SHOW_TEXT = (layout.ASSETS / "show_text.js").read_text("utf-8")


class Header(pn.custom.JSComponent):
    """Name of the project, links to the pages, and buttons for the controls and the colours."""

    page = param.String("", doc="Page that is shown; empty until the first page is drawn")
    pages = param.List([], doc="Names of all pages")

    _esm = (layout.ASSETS / "header.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]


def changing_text(style):
    """An empty text as wide as the page, which can change often by :func:`show_text`.

    A new text of Bokeh's Div or of `panel.pane.HTML` would lay out the page again.

    Parameters
    ----------
    style : str
        Class of ``assets/components.css``.

    Returns
    -------
    bokeh.models.Div
    """
    div, message = layout.text_block(style=style), TextInput(visible=False)
    message.js_on_change("value", CustomJS(args={"div": div}, code=SHOW_TEXT))
    div.tags = [message]
    return div


def show_text(div, html):
    """Show a new text in a text of :func:`changing_text`.

    Parameters
    ----------
    div : bokeh.models.Div
    html : str
    """
    if div.document is None:  # not on the page yet
        div.text = html
    div.tags[0].value = html


class TimeBar(pn.custom.JSComponent):
    """A wide slider over times, with dates below it and buttons to step and to play.

    `panel.widgets.Player` has no names for its slider and its buttons, which a screen reader needs,
    and shows no dates.
    """

    label = param.String("", doc="Name of the slider, such as Lead time")
    value = param.Integer(0, doc="Position of the selected time")
    texts = param.List([], doc="Text of each time, such as +5 days")
    marks = param.List([], doc="Dates below the slider as pairs of a position and a text")
    calendar = param.Boolean(False, doc="Whether a calendar selects the times, too")
    playable = param.Boolean(False, doc="Whether the bar can play, and the arrow keys move it")

    times = []  # of the positions, on the side of the server

    _esm = (layout.ASSETS / "time_bar.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]

    def offer(self, times, texts, selected):
        """Offer times, of which one is selected.

        Parameters
        ----------
        times : iterable
        texts : list of str
            Text of each time.
        selected : object
            One of the times.
        """
        self.times = list(times)
        self.param.update(texts=texts, value=self.times.index(selected))


def time_bar(state, name, label, **options):
    """A time bar that sets a parameter of the page; :meth:`TimeBar.offer` fills it.

    Parameters
    ----------
    state : dashboards.state.PageState
    name, label : str
        Name of the parameter, and label of the bar.
    **options
        Parameters of the bar.

    Returns
    -------
    TimeBar
    """
    bar = TimeBar(label=label, sizing_mode="stretch_width", **options)

    def select(event):
        """Take the time from the bar."""
        if event.new < len(bar.times):
            state.param.update(**{name: bar.times[event.new]})

    bar.param.watch(select, "value")
    return bar
