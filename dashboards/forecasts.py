"""Forecasts: truth, forecasts and their differences as linked maps, and one cell through time."""

from functools import partial

import numpy as np
import panel as pn
from bokeh.events import RangesUpdate
from bokeh.models import Span

from dashboards import layout, readers, selection
from dashboards.downloads import as_fields, as_figure
from dashboards.readers import TRUTH
from dashboards.selectable_maps import SelectableMaps, position_text
from dashboards.selection import DAY, HOUR
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, linked_maps, maps, rasters
from seaice_lab.surrogate.references import REFERENCES
from seaice_lab.torch_private import set_change_delay

# Coordinates of the fields that are downloaded.
COORDINATES = {"init_time", "lead_time", "y", "x", "latitude", "longitude", "ocean"}
LEAD_DELAY_MS = 5  # between a move of the player and new pictures
VIEW_DELAY_MS = 120  # between a change of the view and new pictures for it
CARD_WIDTH = 250  # pixels
LEAD_LINE = {"line_color": "#888888", "line_dash": "dotted"}
DIFFERENCE_QUANTILE = 0.98  # of the differences at the last lead time, for the limits of colours
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
    (panel.Column, panel.Column)
    """
    usable = library.names("forecast", "evaluated")
    if not usable:
        return layout.empty_page("No forecasts yet", HOW_TO_BEGIN)
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
        self.variable = state.connect(pn.widgets.Select(name="Variable"), "variable")
        self.start = state.connect(pn.widgets.Select(name="Start"), "start")
        player = pn.widgets.Player(
            name="Lead time",
            end=1,
            interval=400,
            loop_policy="loop",
            show_loop_controls=False,
            show_value=False,
            scale_buttons=0.9,
            visible_buttons=["first", "previous", "play", "pause", "next", "last"],
        )
        self.player = set_change_delay(player, LEAD_DELAY_MS)
        self.valid_time = pn.pane.HTML()
        self.limits = pn.Row(margin=0)
        self.png = layout.download_button("Figure (PNG)", "forecast.png", self.write_png)
        self.netcdf = layout.download_button("Fields (NetCDF)", "forecast.nc", self.write_netcdf)
        self.main = layout.stretched()
        widgets = (self.variable, self.start, self.valid_time, self.player, self.limits)
        lists = (self.runs.column, reference_list)
        self.controls = layout.controls(*lists, *widgets, self.png, self.netcdf)
        self.leads = {}  # of the first run, by hours
        self.maps = self.view = self.lead_line = None
        self.view_is_pending = False
        state.connect(self.references, "references")
        self.player.param.watch(self.select_lead, "value")
        state.on_change = self.show_change
        self.show_change({"runs"})

    def show_change(self, changed):
        """Show changes of the state; ``changed`` is the set of its changed parameters."""
        if "variable" in changed:
            self.state.correct(low=None, high=None, wide=None)
        try:
            if "runs" in changed or not self.leads:
                self.show_runs()
            elif changed & {"references", "variable"}:
                self.draw()
            elif changed & {"start", "lead"}:
                self.show_values(with_curves="start" in changed)
            elif "cell" in changed:
                self.draw_curves()
        except InputError as error:  # of the first run, on which all maps depend
            self.leads = {}
            self.main[:] = [layout.empty_state("This run cannot be shown", str(error))]

    def show_runs(self):
        """Offer variables, starts and lead times of the first run, then draw."""
        self.runs.update()
        self.png.disabled = self.netcdf.disabled = not self.state.runs
        self.leads = {}
        if not self.state.runs:
            self.main[:] = [selection.nothing_selected()]
            return
        dataset = self.forecast().dataset
        self.starts = {time_text(time): time for time in dataset.init_time.values}
        self.leads = {float(lead / HOUR): lead for lead in dataset.lead_time.values}
        variables = {long_name(name): name for name in dataset.data_vars}
        self.state.offer(self.variable, "variable", variables)
        self.state.offer(self.start, "start", list(self.starts))
        self.state.correct(lead=selection.nearest(self.leads, self.state.lead or 0))
        step = list(self.leads).index(self.state.lead)
        self.player.param.update(end=len(self.leads) - 1, value=step)
        self.draw()

    def forecast(self, run=None):
        """The forecast of a run, of the first one by default.

        Raises
        ------
        InputError
            If the run cannot be compared with the first one.
        """
        first = readers.forecast_of(self.library, self.state.runs[0])
        if run in (None, first.run):
            return first
        forecast = readers.forecast_of(self.library, run)
        readers.check_comparable(forecast, first)
        return forecast

    def list_sources(self):
        """What the maps show, by title: the run and the source of :func:`readers.frame`."""
        runs, first = self.state.runs, self.state.runs[0]
        titles = selection.run_titles(runs)
        forecasts = {titles[run]: (run, "forecast") for run in runs}
        references = {name.replace("_", " "): (first, name) for name in self.state.references}
        return {TRUTH: (first, TRUTH)} | forecasts | references

    def select_lead(self, event):
        """Take the lead time from the player."""
        if event.new < len(self.leads):  # there are none while the first run cannot be shown
            self.state.lead = list(self.leads)[event.new]

    def selection(self):
        """Variable, start and lead time that are selected."""
        return self.state.variable, self.starts[self.state.start], self.leads[self.state.lead]

    def draw(self):
        """Draw all maps again."""
        raster = readers.raster_of(self.forecast())
        if self.maps is None or raster is not self.maps.raster:
            if self.maps and not np.array_equal(raster.source, self.maps.raster.source):
                self.state.correct(cell=None)  # cells are numbered by grid
            self.view = self.state.view
            self.maps = SelectableMaps(raster, self.state, "cell", self.view)
        self.sources = self.list_sources()
        self.make_scales()
        self.maps.sources.clear()
        self.messages = {}
        self.curves = layout.stretched(min_height=250)
        truth, *titles = self.sources
        columns = [layout.stretched(self.add_map((truth,), truth, self.scale), self.curves)]
        for title in titles:
            values = self.add_map((title,), title, self.scale)
            difference_title = f"{title} \N{MINUS SIGN} truth"
            difference = self.add_map((title, truth), difference_title, self.difference_scale)
            columns.append(layout.stretched(values, difference))
        units = names.variable(self.state.variable).units
        bars = {
            f"{long_name(self.state.variable)} ({units})": self.scale,
            f"Difference from truth ({units})": self.difference_scale,
        }
        self.main[:] = [layout.colour_bars(bars), layout.cards(columns, CARD_WIDTH)]
        self.show_values(with_curves=True)

    def make_scales(self):
        """Make the colour scales, and inputs for their ends."""
        state, variable = self.state, names.variable(self.state.variable)
        low, high = variable.colour_range or (0.0, 1.0)
        low = low if state.low is None else state.low
        high = high if state.high is None else state.high
        if not low < high:
            low, high = 0.0, 1.0
        wide = state.wide if state.wide and state.wide > 0 else self.usual_difference()
        self.scale = linked_maps.colour_scale(variable.colour_map, (low, high))
        self.difference_scale = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-wide, wide))
        # New inputs, because new values of the old ones would look like changes by the user.
        number = partial(pn.widgets.FloatInput, step=0.1)
        self.low = number(name="Colours from", value=low, width=74)
        self.high = number(name="to", value=high, width=58)
        self.wide = number(name="Diff. ±", value=wide, width=58, start=1e-6)
        self.limits[:] = [self.low, self.high, self.wide]
        for widget in self.limits:
            widget.param.watch(self.change_colours, "value")

    def change_colours(self, _event):
        """Take the ends of the colours from their inputs."""
        low, high, wide = self.low.value, self.high.value, self.wide.value
        if None in (low, high, wide) or not low < high or not wide > 0:
            return
        self.scale.update(low=low, high=high)
        self.difference_scale.update(low=-wide, high=wide)
        self.state.param.update(low=low, high=high, wide=wide)

    def usual_difference(self):
        """Half-width of the colours of differences: rounded, from the last lead time."""
        _, start, _ = self.selection()
        truth, first = list(self.sources)[:2]
        last = list(self.leads.values())[-1]
        try:
            error = self.frame(first, start, last) - self.frame(truth, start, last)
        except InputError:
            return 1.0
        return maps.round_up(float(np.nanquantile(np.abs(error), DIFFERENCE_QUANTILE)))

    def add_map(self, key, title, scale):
        """A linked map with a message below it.

        Parameters
        ----------
        key : (str,) or (str, str)
            Titles of the sources whose values, or whose difference, the map shows.
        title : str
        scale : bokeh.models.LinearColorMapper

        Returns
        -------
        panel.Column
        """
        units = names.variable(self.state.variable).units
        figure = self.maps.add(key, title, units, scale)
        figure.on_event(RangesUpdate, self.change_view)
        self.messages[key] = layout.message_pane()
        return layout.stretched(layout.bokeh_pane(figure), self.messages[key])

    def frame(self, title, start, lead):
        """Values of a source on the map.

        Parameters
        ----------
        title : str
            Title of the source.
        start : numpy.datetime64
        lead : numpy.timedelta64

        Returns
        -------
        ndarray (y, x)
        """
        run, source = self.sources[title]
        return readers.frame(self.forecast(run), source, self.state.variable, start, lead)

    def show_values(self, with_curves):
        """Show the selected start and lead time; draw the curves again if the start changed."""
        variable, start, lead = self.selection()
        self.values, problems = {}, {}
        for title in self.sources:
            try:
                self.values[title] = self.frame(title, start, lead)
            except InputError as error:
                problems[title] = str(error)
        self.png.disabled, self.netcdf.disabled = TRUTH not in self.values, not self.values
        stem = f"{'_'.join(self.state.runs)}_{variable}_{self.state.start}_+{lead / HOUR:g}h"
        stem = stem.replace("/", "-").replace(":", "").replace(" ", "T")
        with pn.io.hold():
            self.send_pictures()
            valid_time = time_text(np.datetime64(start) + lead)
            self.valid_time.object = f"<b>+{lead / DAY:g} days</b><br>valid {valid_time} UTC"
            for key, message in self.messages.items():
                texts = [problems[title] for title in key if title in problems]
                layout.show_message(message, " ".join(texts))
            if with_curves:
                self.draw_curves()
            elif self.lead_line is not None:
                self.lead_line.location = float(lead / DAY)
            self.png.filename, self.netcdf.filename = f"{stem}.png", f"{stem}.nc"

    def send_pictures(self):
        """Send pictures of the values in the present view."""
        for key in self.maps.sources:
            values = [self.values[title] for title in key if title in self.values]
            if len(values) < len(key):
                self.maps.show(key, None, self.view)
            else:
                self.maps.show(key, values[0] if len(key) == 1 else np.subtract(*values), self.view)

    def change_view(self, event):
        """Take a new view, and soon send pictures for it."""
        view = tuple(round(end, 1) for end in (event.x0, event.x1, event.y0, event.y1))
        if view == self.view:
            return
        self.view = view
        if not self.view_is_pending:  # a drag reports many views; the last one is sent
            self.view_is_pending = True
            pn.state.add_periodic_callback(self.send_view, VIEW_DELAY_MS, count=1)

    def send_view(self):
        """Send pictures of the present view if the grid is finer than the screen."""
        self.view_is_pending = False
        self.state.view = self.view
        if max(self.maps.raster.source.shape) > rasters.PIXELS:
            with pn.io.hold():  # as in show_values, so that no picture overtakes another
                self.send_pictures()

    def draw_curves(self):
        """Draw curves of the selected cell through the lead times."""
        self.lead_line = None
        cell = self.maps.mark()
        if cell is None:
            text = "Click a cell on any map."
            self.curves[:] = [layout.empty_state("One cell through time", text)]
            return
        dataset = self.forecast().dataset
        variable, start, lead = self.selection()
        cell = np.unravel_index(cell, dataset.ocean.shape)
        series = {}
        for title, (run, source) in self.sources.items():
            try:
                forecast = self.forecast(run)
                values = readers.series(forecast, source, variable, start, cell)
            except InputError:
                continue  # the message below its map says why
            style = charts.line_style(len(series), first=0)
            series[title] = charts.Curve(selection.days(forecast.dataset), values, **style)
        y_label = f"{long_name(variable)} ({names.variable(variable).units})"
        title = position_text(float(dataset.latitude[cell]), float(dataset.longitude[cell]))
        panel = charts.overlay(series, "Lead time (days)", y_label, title)
        figure = charts.bokeh_figure(panel, height=290)
        self.lead_line = Span(location=float(lead / DAY), dimension="height", **LEAD_LINE)
        figure.add_layout(self.lead_line)
        self.curves[:] = [layout.bokeh_pane(figure)]

    def fields(self):
        """The fields of the maps as DataArrays (lead_time, y, x) by title."""
        variable, start, lead = self.selection()
        template = self.forecast().dataset[variable].sel(init_time=start, lead_time=[lead])
        template = template.isel(member=0, missing_dims="ignore")
        template = template.drop_vars(set(template.coords) - COORDINATES)
        template = template.assign_attrs(names.attributes(variable))
        return {title: template.copy(data=field[None]) for title, field in self.values.items()}

    def write_png(self):
        """The maps as a figure for print."""
        return as_figure(self.fields(), (self.low.value, self.high.value), self.wide.value)

    def write_netcdf(self):
        """The fields as CF NetCDF."""
        return as_fields(self.fields())


def time_text(time):
    """A date and time such as "2020-01-31 12:00"."""
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m").replace("T", " ")


def long_name(variable):
    """Name of a variable as a label."""
    return names.variable(variable).long_name.partition(" (")[0]
