"""The state of the pages, kept in the address: a link shows another person the same page."""

from urllib.parse import parse_qs, quote

import panel as pn
import param
from bokeh.models import CustomJS, TextInput
from param.parameterized import discard_events

from dashboards import layout

EMPTY_LIST = "-"  # the text of a list without entries; a missing text means "not selected yet"
MAX_LENGTH = 2000  # characters of a value in the address; the rest is ignored
MAX_NUMBER = 1e9
SYNCHRONISE = (layout.ASSETS / "address.js").read_text("utf-8")


class PageState(param.Parameterized):
    """What the user has selected, synchronised with the address of the browser.

    Pages read the parameters, and widgets change them (:meth:`connect`). After a change the state
    calls ``on_change(names)`` of the page that is shown, and then writes the address. It calls
    ``show_page()`` for another page, and after Back or Forward in the browser.

    Values of an address can come from anywhere: values of the wrong type become None, and each page
    replaces values that are not among its options (:meth:`correct`).

    `panel.state.location.sync` is not used: it makes an entry of the browser's history for every
    change, does not notice Back and Forward, turns texts such as the run name "7" into numbers,
    stops at the first value that is invalid, and leaves that value in the address.

    Parameters
    ----------
    arguments : dict of str to list of bytes
        Query of the address (`panel.state.session_args`).
    """

    page = param.String(None)
    runs = param.List(None)
    references = param.List(None)
    variable = param.String(None)
    start = param.String(None)
    lead = param.Number(None, doc="Hours")
    cell = param.Number(None, doc="Number of the selected cell of the grid")
    low = param.Number(None, doc="Lower end of the colours; None selects it automatically")
    high = param.Number(None, doc="Upper end of the colours")
    wide = param.Number(None, doc="Half-width of the colours of differences")
    colours = param.String(None, doc="Range of the colours: that of the data, or fixed")
    differences = param.String(None, doc="Range of differences: one for all lead times, or each")
    second = param.String(None, doc="What the second map of an ensemble shows")
    above = param.Number(None, doc="Value above which probabilities are shown")
    view = param.NumericTuple(None, length=4, doc="West, east, south, north of the maps in km")
    score = param.String(None)
    against = param.String(None, doc="Reference or run with which scores are compared")
    run = param.String(None)
    cycle = param.String(None, doc="Run of an assimilation")
    window = param.String(None, doc="Start of an assimilation window")
    emissivity_run = param.String(None)
    tag = param.String(None)
    day = param.String(None)
    sensor = param.String(None)
    hemisphere = param.String(None, doc="Of the emissivity maps, where a run has both")
    point = param.Number(None, doc="Number of the selected point of an emissivity product")
    difference = param.Number(None, doc="Half-width of the colours of emissivity differences")

    def __init__(self, arguments):
        super().__init__()
        self.on_change = self.show_page = lambda *names: None
        self.bar = TextInput(visible=False)  # carries the address to the browser and back
        texts = {name: values[0].decode("utf-8", "replace") for name, values in arguments.items()}
        self.read(texts)
        self.param.watch(self._show_change, NAMES)
        self.bar.on_change("value", self._show_address)
        if pn.state.curdoc is not None:
            synchronise = CustomJS(args={"bar": self.bar}, code=SYNCHRONISE)
            pn.state.curdoc.js_on_event("document_ready", synchronise)

    def read(self, texts):
        """Replace all values by those of an address, a dict of str to str, without an event."""
        self.correct(**{name: parse(self.param[name], texts.get(name, "")) for name in NAMES})

    def correct(self, **values):
        """Set values without a call of ``on_change``, while a page is being drawn."""
        with discard_events(self):
            self.param.update(**values)

    def connect(self, widget, name):
        """Set a parameter whenever the user changes a widget.

        Parameters
        ----------
        widget : panel.widgets.Widget
        name : str
            Name of the parameter.

        Returns
        -------
        panel.widgets.Widget
            The same widget.
        """
        widget.param.watch(lambda event: self.param.update(**{name: event.new}), "value")
        return widget

    def select(self, label, name, options=()):
        """A list of options whose selection sets a parameter.

        Parameters
        ----------
        label, name : str
            Label of the list, and name of the parameter.
        options
            As of :meth:`offer`, which can also offer them later.

        Returns
        -------
        panel.widgets.Select
        """
        widget = self.connect(pn.widgets.Select(name=label), name)
        if options:
            self.offer(widget, name, options)
        return widget

    def offer(self, widget, name, options):
        """Offer options on a widget. Keep the selected one if it is valid, or select the first.

        Parameters
        ----------
        widget : panel.widgets.Widget
        name : str
            Name of the parameter.
        options : list of str or dict of str to str
            Values, or values by label.
        """
        values = list(options.values()) if isinstance(options, dict) else options
        self.correct(**{name: one_of(getattr(self, name), values)})
        widget.param.update(options=options, value=getattr(self, name))

    def _show_change(self, *events):
        names = {event.name for event in events}
        if "page" in names:
            self.show_page()
            self.write()
        else:
            with pn.io.hold():  # one message, in which no change overtakes another
                self.on_change(names)
                self.bar.value = self.address()

    def _show_address(self, _attribute, _old, address):
        if address != self.address():  # Back or Forward, not a change by this class
            texts = parse_qs(address.removeprefix("?"))
            self.read({name: values[0] for name, values in texts.items()})
            self.show_page()
            self.write()

    def write(self):
        """Write the address."""
        # Held and other changes reach the browser on two ways, and one can overtake the other. So
        # every write is held, which keeps the writes in order.
        with pn.io.hold():
            self.bar.value = self.address()

    def address(self):
        """The query of the address, such as ``?page=scores&runs=a,b``."""
        values = {name: getattr(self, name) for name in NAMES}
        return "?" + "&".join(
            f"{name}={quote(as_text(value), safe=',/:')}"  # legible commas, slashes and colons
            for name, value in values.items()
            if value not in (None, "")
        )


NAMES = [name for name in PageState.param if name != "name"]


def parse(parameter, text):
    """Convert a text of the address to the type of a parameter.

    Parameters
    ----------
    parameter : param.Parameter
    text : str
        Lists and tuples have commas between their entries.

    Returns
    -------
    str, list of str, float, tuple of float or None
        None if the text is empty or is not a value of this type.
    """
    text = text[:MAX_LENGTH]
    if not text or isinstance(parameter, param.String):
        return text or None
    if isinstance(parameter, param.List):
        return [] if text == EMPTY_LIST else text.split(",")
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        return None
    count = parameter.length if isinstance(parameter, param.Tuple) else 1
    if len(numbers) != count or not all(abs(number) < MAX_NUMBER for number in numbers):
        return None
    return numbers if isinstance(parameter, param.Tuple) else numbers[0]


def as_text(value):
    """The text of a value in the address; :func:`parse` reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(value) or EMPTY_LIST
    numbers = value if isinstance(value, tuple) else (value,)
    return ",".join(f"{number:.10g}" for number in numbers)


def one_of(value, options):
    """The value if it is among the options, otherwise the first option or None.

    Parameters
    ----------
    value : str or None
    options : sequence of str

    Returns
    -------
    str or None
    """
    return value if value in options else next(iter(options), None)
