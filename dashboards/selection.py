"""Valid selections of runs, references and lead times, with their widgets: alike on all pages."""

import numpy as np
import panel as pn

from dashboards import components, layout
from dashboards.readers import TRUTH
from dashboards.state import one_of
from seaice_lab import names
from seaice_lab.diagnostics.score_tables import table_leads
from seaice_lab.errors import InputError
from seaice_lab.surrogate.references import REFERENCES

MAX_RUNS = 4
HOUR, DAY = np.timedelta64(1, "h"), np.timedelta64(1, "D")


def some_of(values, options, default):
    """The values that are among the options, or the default if nothing has been selected yet.

    Parameters
    ----------
    values : list of str or None
    options, default : sequence of str

    Returns
    -------
    list of str
    """
    valid = [value for value in dict.fromkeys(values or ()) if value in options]
    return valid if valid or values == [] else [value for value in default if value in options]


def nearest(numbers, wanted):
    """The number that is nearest to the wanted one.

    Parameters
    ----------
    numbers : iterable of float
    wanted : float

    Returns
    -------
    float
    """
    return min(numbers, key=lambda number: abs(number - wanted))


class RunSelection:
    """Checkboxes of runs, and a message about runs that cannot be read.

    Parameters
    ----------
    state : PageState
    usable : list of str
        Names of the runs that are offered.
    """

    def __init__(self, state, usable):
        self.state, self.usable = state, usable
        self.checkboxes, self.column = layout.checkbox_list(f"Runs (up to {MAX_RUNS})", usable)
        state.connect(self.checkboxes, "runs")
        self.message = layout.message_pane()
        self.note = ""  # which of the runs that were asked for cannot be shown

    def update(self):
        """Select valid runs only, at most `MAX_RUNS`, and at first the newest."""
        runs = some_of(self.state.runs, self.usable, self.usable[:1])
        missing = [name for name in self.state.runs or () if name not in self.usable]
        self.note = ""
        if missing:
            self.note = (
                f"This page has nothing of {', '.join(missing)}; it shows "
                f"{', '.join(runs[:MAX_RUNS]) or 'no run'} instead."
            )
        self.state.correct(runs=runs[:MAX_RUNS])
        self.checkboxes.value = self.state.runs

    def read(self, reader):
        """Read something of every selected run. A message names the runs that cannot be read.

        Parameters
        ----------
        reader : callable
            Takes the name of a run; may raise `InputError`.

        Returns
        -------
        dict
            Results by name of the run.
        """
        self.update()
        results, problems = {}, []
        for name in self.state.runs:
            try:
                results[name] = reader(name)
            except InputError as error:
                problems.append(f"{name}: {error}")
        layout.show_message(self.message, " ".join([self.note, *problems]).strip())
        return results

    def page(self, reader, draw, *widgets):
        """A page that shows something for every selected run.

        Parameters
        ----------
        reader : callable
            As of :meth:`read`.
        draw : callable
            Takes the results of the reader; returns the items of the main area.
        *widgets : panel.widgets.Widget
            Widgets below the list of runs.

        Returns
        -------
        controls, main : panel.Column
        """
        main = layout.stretched()

        def show(_names=None):
            results = self.read(reader)
            with main.param.update(loading=True):
                items = draw(results) if results else [nothing_selected()]
                main[:] = [self.message, *items]

        self.state.on_change = show
        show()
        return layout.controls(self.column, *widgets), main


def last_result():
    """A function ``(key, make)`` that calls ``make()`` only if the key differs from the last one.

    Pages use it for figures that do not depend on what changes most often.
    """
    last = {}

    def result(key, make):
        if key not in last:
            value = make()
            last.clear()
            last[key] = value
        return last[key]

    return result


def run_list(state, name, names):
    """A list of runs, on which a run that other pages show is selected at first.

    Parameters
    ----------
    state : PageState
    name : str
        Name of the parameter that holds the selected run.
    names : list of str
        Names of the runs.

    Returns
    -------
    panel.widgets.Select
    """
    preferred = [getattr(state, name), *(state.runs or []), *names]
    run = next((run for run in preferred if run in names), None)
    state.correct(**{name: run})
    return state.connect(pn.widgets.Select(name="Run", options=names, value=run), name)


def nothing_selected():
    """Message of a page on which no run is selected."""
    return layout.empty_state("No run selected", "Select one or more runs on the left.")


def time_bar(state, name, label, **options):
    """A small time bar for the controls of a page.

    Parameters
    ----------
    state, name, label, **options
        As of :func:`dashboards.components.time_bar`.

    Returns
    -------
    dashboards.components.TimeBar
    """
    options |= {"margin": (5, 10)} | layout.styled("small")
    return components.time_bar(state, name, label, **options)


def offer_leads(bar, state, leads):
    """Offer lead times; keep the selected one, or select one in the middle at first.

    Parameters
    ----------
    bar : dashboards.components.TimeBar
    state : PageState
    leads : array of timedelta64 (lead_time,)

    Returns
    -------
    numpy.timedelta64
        The selected lead time.
    """
    hours = {float(lead / HOUR): lead for lead in leads}
    wanted = middle_lead(leads) / HOUR if state.lead is None else state.lead
    state.correct(lead=nearest(hours, wanted))
    bar.offer(hours, [names.in_days(value / 24) for value in hours], state.lead)
    return hours[state.lead]


def middle_lead(leads):
    """The lead time of the tables of scores that is nearest to the middle of all lead times.

    Parameters
    ----------
    leads : array of timedelta64 (lead_time,)

    Returns
    -------
    numpy.timedelta64
    """
    in_tables = leads[table_leads(leads)]
    return nearest(in_tables, leads[len(leads) // 2])


def offer_starts(bar, state, times):
    """Offer start times; keep the selected one, or select the first one.

    Parameters
    ----------
    bar : dashboards.components.TimeBar
    state : PageState
    times : array of datetime64 (init_time,)

    Returns
    -------
    numpy.datetime64
        The selected start.
    """
    starts = {time_text(time): time for time in times}
    state.correct(start=one_of(state.start, starts))
    bar.offer(starts, list(starts), state.start)
    return starts[state.start]


def days(table):
    """Lead times of a dataset in days."""
    return table.lead_time.values / DAY


def time_text(time):
    """A date and time such as "2020-01-31 12:00"."""
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m").replace("T", " ")


def long_name(variable):
    """Name of a variable as a label."""
    return names.variable(variable).long_name.partition(" (")[0]


def labels(sources):
    """Labels of names, such as "Damped persistence", as a dict of label to name."""
    return {name.replace("_", " ").capitalize(): name for name in sources}


def run_titles(runs):
    """Titles of runs: their names, with "run" in front of names of the truth and of references.

    Parameters
    ----------
    runs : iterable of str

    Returns
    -------
    dict of str to str
        Titles by name; all titles differ.
    """
    reserved = {name.replace("_", " ").casefold() for name in (TRUTH, *REFERENCES)}
    titles = {}
    for run in runs:
        title = run
        while title.replace("_", " ").casefold() in reserved or title in titles.values():
            title = f"run {title}"
        titles[run] = title
    return titles
