"""Choosing runs, references and a lead time: the same on every page, kept in the address."""

from typing import NamedTuple

import numpy as np
import panel as pn

from dashboards.layout import remark, several, tell
from seaice_lab.errors import InputError
from seaice_lab.surrogate.references import REFERENCES

MOST_RUNS = 4
TRUTH = "Truth"
HOUR = np.timedelta64(1, "h")


class RunChoice:
    """Tick boxes of runs and references, and what could not be read.

    Parameters
    ----------
    library : Library
    address : Address
    reader : callable
        Of a run's name; what :meth:`read` collects.
    states : str
        Of the runs that are offered.
    """

    def __init__(self, library, address, reader, *states):
        self.address, self.reader = address, reader
        self.usable = library.names(*states)
        chosen = address.some("runs", self.usable, self.usable[:1])[:MOST_RUNS]
        self.runs, runs = several(f"Runs (up to {MOST_RUNS})", self.usable, chosen)
        self.references, references = several("References", [], [])
        self.widgets = (runs, references)
        self.note = remark()

    def read(self):
        """What the reader gives for each chosen run, by name; the others are named in a note."""
        if len(self.runs.value) > MOST_RUNS:
            self.runs.value = self.runs.value[:MOST_RUNS]
        found, reasons = {}, []
        for name in self.runs.value:
            try:
                found[name] = self.reader(name)
            except InputError as error:
                reasons.append(f"{name}: {error}")
        tell(self.note, "; ".join(reasons))
        return found

    def offer(self, references):
        """Offer references, persistence chosen at first."""
        kept = [name for name in self.references.value if name in references]
        given = self.address.some("references", references, ("persistence",))
        self.references.param.update(options=readable(references), value=kept or given)


def readable(known):
    """Options of a widget: names with spaces for names with underscores."""
    return {name.replace("_", " ").capitalize(): name for name in known}


class Source(NamedTuple):
    """Whose values a map shows: truth, a reference, or a run, which may be called like them."""

    name: str
    is_run: bool = False


TRUE = Source(TRUTH)


def titled(runs):
    """Titles of runs by name: their names, unless truth or a reference is called so."""
    taken = {name.replace("_", " ").casefold() for name in (TRUTH, *REFERENCES)}
    titles = {}
    for run in runs:
        title = run
        while title.replace("_", " ").casefold() in taken or title in titles.values():
            title = f"run {title}"
        titles[run] = title
    return titles


class LeadChoice:
    """A slider over lead times; ``value`` is a timedelta64."""

    def __init__(self):
        self.widget = pn.widgets.DiscreteSlider(name="Lead time", options={"": None})

    def fit(self, leads, address):
        """Offer lead times; stay at the one that was chosen, by hand or in the address."""
        options = {f"{lead / np.timedelta64(1, 'D'):g} days": lead for lead in leads}
        hours = address.number("lead") if self.value is None else self.value / HOUR
        at = len(leads) // 2 if hours is None else int(np.abs(leads / HOUR - hours).argmin())
        self.widget.param.update(options=options, value=leads[at])

    @property
    def value(self):
        return self.widget.value

    def hours(self):
        """As it stands in the address."""
        return f"{self.value / HOUR:g}"
