"""The state of a page in its address: a link shows to another person what one sees."""

from urllib.parse import parse_qs, quote

import panel as pn
from bokeh.models import CustomJS, TextInput

NONE = "-"  # a list of nothing
LONGEST = 2000  # characters of a value that are looked at
NAMES = ("page", "runs", "references", "variable", "start", "lead", "cell", "low", "high", "wide",
         "view", "score", "run", "emissivity_run", "tag", "day", "sensor", "point",
         "difference")  # fmt: skip
# The address follows the bar: another page is a step of the browser's history, another choice is
# not. It is written once a change has rested: browsers refuse more than some writes a second.
FOLLOW = """
const page = (search) => new URLSearchParams(search).get("page")
let shown = page(bar.value)
let resting
const write = () => {
    const next = page(bar.value)
    history[next === shown ? "replaceState" : "pushState"](null, "", bar.value)
    shown = next
}
write()
bar.properties.value.change.connect(() => {
    clearTimeout(resting)
    if (page(bar.value) === shown) resting = setTimeout(write, 200)
    else write()
})
addEventListener("popstate", () => {
    clearTimeout(resting)
    shown = page(location.search)
    bar.value = location.search
})
"""


class Address:
    """Values of the query string, each checked against what there is to choose from.

    Names that no page knows are left out, and values that do not fit are not used: an address
    comes from anywhere.
    """

    def __init__(self):
        self.bar = TextInput(visible=False)  # holds the address on its way to the browser and back
        given = pn.state.session_args or {}
        self.read({name: parts[0].decode("utf-8", "replace") for name, parts in given.items()})
        if pn.state.curdoc is not None:
            follow = CustomJS(args={"bar": self.bar}, code=FOLLOW)
            pn.state.curdoc.js_on_event("document_ready", follow)

    def read(self, given):
        """Take the values that are known from others' texts by name."""
        self.values = {name: given[name][:LONGEST] for name in NAMES if name in given}

    def on_return(self, show):
        """Call ``show()`` when the browser has gone back or forward."""

        def look(_attribute, _old, new):
            if new != self.search():
                given = parse_qs(new.removeprefix("?"))
                self.read({name: parts[0] for name, parts in given.items()})
                show()

        self.bar.on_change("value", look)

    def one(self, name, options, default=None):
        """The value of a name if it is among the options (by their text), else the default."""
        known = {str(option): option for option in options}
        return known.get(self.values.get(name), default)

    def some(self, name, options, default=()):
        """As :meth:`one`, for several values separated by commas."""
        known = {str(option): option for option in options}
        given = self.values.get(name, "")
        found = [known[part] for part in given.split(",") if part in known]
        if found or given == NONE:
            return found
        return [option for option in default if option in known.values()]

    def number(self, name, default=None):
        """A finite number, or the default."""
        try:
            value = float(self.values[name])
        except (KeyError, ValueError):
            return default
        return value if abs(value) < 1e9 else default

    def numbers(self, name, count):
        """So many finite numbers separated by commas, or None."""
        try:
            found = [float(part) for part in self.values[name].split(",")]
        except (KeyError, ValueError):
            return None
        return found if len(found) == count and all(abs(v) < 1e9 for v in found) else None

    def put(self, **values):
        """Set values, lists with commas between; None takes one out."""
        for name, value in values.items():
            text = ",".join(map(str, value)) or NONE if isinstance(value, list) else value
            if text is None or text == "":
                self.values.pop(name, None)
            else:
                self.values[name] = str(text)
        # held and other changes reach the browser by two ways, and one may overtake the other
        with pn.io.hold():
            self.bar.value = self.search()

    def search(self):
        """The values as they stand in an address."""
        return "?" + "&".join(f"{name}={escape(value)}" for name, value in self.values.items())


def escape(text):
    """A value as it stands in an address, commas, slashes and colons legible."""
    return quote(text, safe=",/:")
