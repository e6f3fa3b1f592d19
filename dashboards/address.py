"""The state of a page in its address: a link shows to another person what one sees."""

from collections.abc import Mapping
from urllib.parse import quote

import panel as pn

NONE = "-"  # a list of nothing
LONGEST = 2000  # characters of a value that are looked at
NAMES = ("page", "runs", "references", "variable", "start", "lead", "cell", "low", "high", "wide",
         "view", "score", "run", "emissivity_run", "tag", "day", "sensor", "point",
         "difference")  # fmt: skip


class Address:
    """Values of the query string, each checked against what there is to choose from.

    Names that no page knows are left out, and values that do not fit are not used: an address
    comes from anywhere.
    """

    def __init__(self):
        given: Mapping = pn.state.session_args or {}
        self.values = {
            name: given[name][0][:LONGEST].decode("utf-8", "replace")
            for name in NAMES
            if name in given
        }
        if pn.state.location is not None:
            pn.state.location.param.watch(self.keep, "search")

    def keep(self, event):
        """Put ours in place of the address that a page reports once it has loaded."""
        if event.new != self.search():
            pn.state.curdoc.add_next_tick_callback(self.put)

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
        if pn.state.location is not None:
            pn.state.location.search = self.search()

    def search(self):
        """The values as they stand in an address."""
        return "?" + "&".join(f"{name}={escape(value)}" for name, value in self.values.items())


def escape(text):
    """A value as it stands in an address, commas, slashes and colons legible."""
    return quote(text, safe=",/:")
