"""Forecasts: truth, forecasts and their differences as linked maps, and one cell through time."""

from html import escape

import numpy as np
import panel as pn
from bokeh.events import RangesUpdate

from dashboards import layout, readers, selection
from dashboards.colours import Colours
from dashboards.components import changing_text, show_text
from dashboards.downloads import Downloads
from dashboards.headlines import Headlines, map_in_words
from dashboards.probe import Probe
from dashboards.readers import TRUTH
from dashboards.selectable_maps import SelectableMaps
from dashboards.selection import DAY, long_name
from dashboards.times import Times
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import rasters
from seaice_lab.surrogate.references import REFERENCES

VIEW_DELAY_MS = 120  # between a change of the view and new pictures for it
DETAILS_DELAY_MS = 200  # between new pictures and what belongs to them
SECOND = {
    "Difference from truth": "difference",
    "Spread of the members": "spread",
    "Probability of thicker ice": "above",
    "Probability of ice": "edge",
}
# Parameters after whose change all maps are drawn again.
REDRAW = {"references", "variable", "second", "above", "colours", "differences"}
SECOND_TITLES = {
    "spread": "{}: spread",
    "above": "{}: probability > {:g} {}",
    "edge": "{}: probability of ice (> {:g} {})",
}
HOW_TO_BEGIN = (
    "Make one with `make demo` (train, forecast and evaluate on the bundled sample), or "
    "`seaice-lab forecast RUN` for a trained run."
)


def page(library, state):
    """Controls and main area of the page.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState

    Returns
    -------
    (panel.Column, panel.Column) or [panel.pane.HTML]
    """
    usable = library.names("forecast", "evaluated")
    if not usable:
        return [layout.empty_state("No forecasts yet", HOW_TO_BEGIN)]
    view = ForecastView(library, state, usable)
    return view.controls, view.main


class ForecastView:
    """The page of one session: its widgets, its maps and the answers to changes.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState
    usable : list of str
        Names of runs with a forecast.
    """

    def __init__(self, library, state, usable):
        self.library, self.state = library, state
        self.runs = selection.RunSelection(state, usable)
        state.correct(references=selection.some_of(state.references, REFERENCES, ()))
        self.references, reference_list = layout.checkbox_list(
            "References", selection.labels(REFERENCES)
        )
        self.references.value = state.references
        self.variable = state.select("Variable", "variable")
        self.second = state.select("Maps of an ensemble", "second", SECOND)
        self.above = state.connect(pn.widgets.FloatInput(name="Ice thicker than (m)"), "above")
        self.colours = Colours(self)
        self.times = Times(state)
        self.headline, self.words = changing_text("headline"), changing_text("faint")
        self.probe = Probe(self)
        self.downloads = Downloads(self)
        self.main, self.content = layout.stretched(), layout.stretched()
        self.parts = [self.runs.message, self.headline, self.content, self.times.column]
        widgets = (self.variable, self.second, self.above, *self.colours.widgets)
        lists = (self.runs.column, reference_list)
        self.controls = layout.controls(
            *lists, *widgets, self.probe.position, *self.downloads.buttons
        )
        self.maps = self.view = None
        self.opened = {}  # forecasts by run, found once for each change
        self.pending = set()  # methods that are called soon
        state.connect(self.references, "references")
        state.on_change = self.show_change
        self.show_change({"runs"})

    def show_change(self, changed):
        """Show changes of the state; ``changed`` is the set of its changed parameters."""
        self.opened.clear()
        if changed & {"variable", "colours", "differences"}:
            self.state.correct(low=None, high=None, wide=None)
        try:
            self.show(changed)
        except InputError as error:  # of the first run, on which all maps depend
            self.times.leads = {}
            self.main[:] = [layout.empty_state("This run cannot be shown", str(error))]

    def show(self, changed):
        """Draw what depends on the changed parameters."""
        if "runs" in changed or not self.times.leads:
            self.show_runs()
        elif changed & REDRAW:
            self.draw()
        elif changed & {"start", "lead"}:
            self.show_values(with_curves="start" in changed)
        elif "cell" in changed:
            self.probe.draw()

    def show_runs(self):
        """Offer variables, starts and lead times of the first run, then draw."""
        self.runs.update()
        state = self.state
        self.downloads.disable(not state.runs)
        self.times.leads = {}
        if not state.runs:
            self.main[:] = [selection.nothing_selected()]
            return
        dataset = self.forecast().dataset
        variables = {long_name(name): name for name in dataset.data_vars}
        state.offer(self.variable, "variable", variables)
        notes = [self.runs.note, *self.times.offer(state.runs[0], dataset)]
        layout.show_message(self.runs.message, " ".join(note for note in notes if note))
        self.draw()

    def forecast(self, run=None):
        """The forecast of a run, of the first one by default.

        Raises
        ------
        InputError
            If the run cannot be compared with the first one.
        """
        first = self.state.runs[0]
        run = run or first
        if run not in self.opened:
            forecast = readers.forecast_of(self.library, run)
            if run != first:
                readers.check_comparable(forecast, self.forecast())
            self.opened[run] = forecast
        return self.opened[run]

    def list_sources(self):
        """What the maps show, by title: the run and the source of :func:`readers.frame`."""
        runs, first = self.state.runs, self.state.runs[0]
        titles = selection.run_titles(runs)
        self.members = {run: self.count_members(run) for run in runs}
        for run, count in self.members.items():
            if count:
                titles[run] = f"{titles[run]}, mean of {count}"
        forecasts = {titles[run]: (run, "forecast") for run in runs}
        references = {name.replace("_", " "): (first, name) for name in self.state.references}
        self.headlines = Headlines(self.library, titles, self.state.variable)
        return {TRUTH: (first, TRUTH)} | forecasts | references

    def count_members(self, run):
        """Number of members of a forecast, 0 if it is no ensemble or cannot be read."""
        try:
            return self.forecast(run).dataset.sizes.get("member", 0)
        except InputError:
            return 0

    def selection(self):
        """Variable, start and lead time that are selected."""
        return self.state.variable, *self.times.selected()

    def threshold(self):
        """The value from which a cell has ice; None if the variable does not tell."""
        return names.ICE_THRESHOLDS.get(names.variable(self.state.variable).standard_name)

    def second_kind(self, title):
        """What the second map of a source shows: the difference, or a statistic of the members."""
        run, source = self.sources[title]
        kind = self.state.second
        is_possible = (
            source == "forecast" and self.members[run] and (kind != "edge" or self.threshold())
        )
        return kind if is_possible else "difference"

    def draw(self):
        """Draw all maps again."""
        forecast = self.forecast()
        raster, self.ocean = readers.raster_of(forecast), forecast.dataset.ocean
        if self.maps is None or raster is not self.maps.raster:
            if self.maps and not np.array_equal(raster.source, self.maps.raster.source):
                self.state.correct(cell=None)  # cells are numbered by grid
            self.view = self.state.view
            self.maps = SelectableMaps(raster, self.state, "cell", self.view)
        self.sources = self.list_sources()
        is_ensemble = any(self.members.values())
        self.second.visible = is_ensemble
        self.above.visible = is_ensemble and self.state.second == "above"
        if self.state.above is None:
            self.state.correct(above=1.0)
        self.above.value = self.state.above
        self.colours.make()
        self.maps.sources.clear()
        self.messages, self.shown = {}, {}
        show_text(self.words, "")
        truth, *titles = self.sources
        values = [self.add_map((truth, "value"), truth, self.colours.value)]
        values += [self.add_map((title, "value"), title, self.colours.value) for title in titles]
        seconds = [self.add_second(title) for title in titles]
        bars = self.colours.bars([scale for _, scale in self.shown.values()])
        self.probe.pane = layout.stretched(min_height=250)
        # First the values, because new values of models that are shown already are slow.
        self.show_values(with_curves=True)
        parts = layout.colour_bars(bars), values, seconds, self.probe.pane, self.words
        self.content[:] = [layout.forecast_maps(*parts)]
        if self.content not in self.main.objects:
            self.main[:] = self.parts

    def add_second(self, title):
        """The second map of a source: its difference from the truth, or how its members differ."""
        kind = self.second_kind(title)
        if kind == "difference":
            text = f"{title} \N{MINUS SIGN} truth"
            return self.add_map((title, kind), text, self.colours.difference)
        units = names.variable(self.state.variable).units
        level = self.threshold() if kind == "edge" else self.state.above
        scale = self.colours.spread if kind == "spread" else self.colours.probability
        return self.add_map((title, kind), SECOND_TITLES[kind].format(title, level, units), scale)

    def add_map(self, key, title, scale):
        """A linked map with a message below it.

        Parameters
        ----------
        key : (str, str)
            Title of the source, and what of it the map shows: "value" or a value of `SECOND`.
        title : str
        scale : bokeh.models.LinearColorMapper

        Returns
        -------
        panel.Column
        """
        units = "" if key[1] in ("above", "edge") else names.variable(self.state.variable).units
        edge = self.threshold() if key[1] == "value" else None
        self.shown[key] = (title, scale)
        figure = self.maps.add(key, title, units, scale, edge)
        figure.on_event(RangesUpdate, self.change_view)
        self.messages[key] = layout.message_pane()
        return layout.stretched(layout.bokeh_pane(figure), self.messages[key])

    def frame(self, title, start, lead, statistic="mean", above=0.0):
        """Values of a source on the map.

        Parameters
        ----------
        title : str
            Title of the source.
        start : numpy.datetime64
        lead : numpy.timedelta64
        statistic, above
            As of :func:`readers.frame`.

        Returns
        -------
        ndarray (y, x)
        """
        run, source = self.sources[title]
        arguments = (source, self.state.variable, start, lead, statistic, above)
        return readers.frame(self.forecast(run), *arguments)

    def field(self, title, kind):
        """What a map shows, or the reason why it shows nothing.

        Parameters
        ----------
        title, kind : str
            Key of :meth:`add_map`.

        Returns
        -------
        ndarray (y, x) or None
        """
        if kind == "value":
            return self.values.get(title)
        if kind == "difference":
            both = title in self.values and TRUTH in self.values
            return self.values[title] - self.values[TRUTH] if both else None
        _, start, lead = self.selection()
        level = self.threshold() if kind == "edge" else self.state.above
        statistic = "spread" if kind == "spread" else "above"
        try:
            return self.frame(title, start, lead, statistic, level)
        except InputError:
            return None

    def show_values(self, with_curves):
        """Show the selected start and lead time; draw the curves again if the start changed."""
        _, start, lead = self.selection()
        self.lead, self.values, problems = lead, {}, {}
        for title in self.sources:
            try:
                self.values[title] = self.frame(title, start, lead)
            except InputError as error:
                problems[title] = str(error)
        self.fields = {key: self.field(*key) for key in self.maps.sources}
        if with_curves:
            self.times.show_valid_times()
        self.send_pictures()
        self.colours.show_lead()
        text = self.headlines.text(self.state.lead, f"+{names.in_days(lead / DAY)}")
        show_text(self.headline, text)
        for (title, kind), message in self.messages.items():
            titles = (title, TRUTH) if kind == "difference" else (title,)
            texts = [problems[name] for name in titles if name in problems]
            layout.show_message(message, " ".join(texts))
        if with_curves:
            self.probe.draw()
        self.later(self.show_details, DETAILS_DELAY_MS)
        self.downloads.disable(not self.values)

    def later(self, method, delay_ms):
        """Call a method after a delay, once for all requests until then.

        Parameters
        ----------
        method : callable
        delay_ms : int
        """
        if method in self.pending:
            return
        self.pending.add(method)

        def call():
            self.pending.discard(method)
            with pn.io.hold():  # one message, which keeps the pictures in order
                method()

        if pn.state.curdoc is None:  # a notebook
            call()
        else:
            pn.state.curdoc.add_timeout_callback(call, delay_ms)

    def show_details(self):
        """Mark the lead time on the curves, and describe the maps in words."""
        self.probe.show_lead(self.lead)
        sentences = []
        for key, values in self.fields.items():
            if values is not None:
                units = "" if key[1] in ("above", "edge") else self.headlines.units
                is_difference = key[1] == "difference"
                title, _ = self.shown[key]
                sentences.append(map_in_words(title, values, units, self.ocean, is_difference))
        lines = "".join(f"<div class='row'>{escape(sentence)}</div>" for sentence in sentences)
        show_text(self.words, f"<b>The maps in words</b>{lines}")

    def send_pictures(self):
        """Send pictures of the fields in the present view."""
        for key, values in self.fields.items():
            self.maps.show(key, values, self.view)

    def change_view(self, event):
        """Take a new view, and soon send pictures for it."""
        view = tuple(round(end, 1) for end in (event.x0, event.x1, event.y0, event.y1))
        if view == self.view:
            return
        self.view = view
        self.later(self.send_view, VIEW_DELAY_MS)  # a drag reports many views; the last is sent

    def send_view(self):
        """Send pictures of the present view if the grid is finer than the screen."""
        self.state.view = self.view
        if max(self.maps.raster.source.shape) > rasters.PIXELS:
            self.send_pictures()
