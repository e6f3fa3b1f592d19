"""Forecasts: truth, forecasts and their differences as linked maps, and one cell through time."""

import numpy as np
import panel as pn
import xarray as xr
from bokeh.events import RangesUpdate, Tap
from bokeh.models import Span

from dashboards.choice import HOUR, MOST_RUNS, TRUE, TRUTH, Source, readable, titled
from dashboards.downloads import as_fields, as_figure
from dashboards.layout import bare, cards, controls, notice, remark, several, tell
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, linked_maps, maps, rasters
from seaice_lab.surrogate.references import REFERENCES

DAY = np.timedelta64(1, "D")
SETTLE_MS = 120  # between a change of the view and its picture
MOST_OF_ERRORS = 0.98  # of the cells lie within the colours of differences at the last lead time


def page(library, address):
    """Controls and main area of the page.

    Returns
    -------
    (panel.Column, panel.Column)
    """
    usable = library.names("forecast", "evaluated")
    if not usable:
        return controls(), notice(
            "No forecasts yet",
            "Make one with `make demo` (train, forecast and evaluate on the bundled sample), or "
            "`seaice-lab forecast RUN` for a run that is trained.",
        )
    view = ForecastView(library, address, usable)
    return view.controls, view.main


class LeadPlayer(pn.widgets.Player):
    """A player that is answered soon."""

    _debounce = 5  # ms to wait for further changes, of 50: still skips what a drag has passed


class ForecastView:
    """The page of one session: its widgets, its maps, and what changes when."""

    def __init__(self, library, address, usable):
        self.library, self.address = library, address
        self.runs, run_list = several(
            f"Runs (up to {MOST_RUNS})",
            usable,
            address.some("runs", usable, usable[:1])[:MOST_RUNS],
        )
        self.references, reference_list = several(
            "References", readable(REFERENCES), address.some("references", REFERENCES)
        )
        self.variable = pn.widgets.Select(name="Variable")
        self.start = pn.widgets.Select(name="Start")
        self.lead = LeadPlayer(
            name="Lead time", start=0, end=1, interval=400, loop_policy="loop", value=0,
            show_loop_controls=False, show_value=False, scale_buttons=0.9,
            visible_buttons=["first", "previous", "play", "pause", "next", "last"],
        )  # fmt: skip
        self.when = pn.pane.HTML(css_classes=["when"])
        self.low = pn.widgets.FloatInput(name="Colours from", step=0.1, width=74)
        self.high = pn.widgets.FloatInput(name="to", step=0.1, width=58)
        self.wide = pn.widgets.FloatInput(name="Diff. ±", step=0.1, start=1e-6, width=58)
        self.png = pn.widgets.FileDownload(
            label="Figure (PNG)", callback=self.write_png, filename="forecast.png", embed=False,
            button_type="default",
        )  # fmt: skip
        self.netcdf = pn.widgets.FileDownload(
            label="Fields (NetCDF)", callback=self.write_netcdf, filename="forecast.nc",
            embed=False, button_type="default",
        )  # fmt: skip
        self.main = pn.Column(sizing_mode="stretch_width")
        self.controls = controls(
            run_list, reference_list, self.variable, self.start, self.when, self.lead,
            pn.Row(self.low, self.high, self.wide, margin=0), self.png, self.netcdf,
        )  # fmt: skip
        self.raster = self.window = self.cell = None
        self.waiting = False
        self.settling = False
        self.choose()
        self.runs.param.watch(lambda _: self.choose(), "value")
        self.references.param.watch(lambda _: self.draw(), "value")
        self.variable.param.watch(lambda _: self.change_variable(), "value")
        self.start.param.watch(lambda _: self.change(probe=True), "value")
        self.lead.param.watch(lambda _: self.change(), "value")
        for widget in (self.low, self.high, self.wide):
            widget.param.watch(lambda _: self.recolour(), "value")

    def choose(self):
        """Fit variables, starts and leads to the first run, then draw."""
        if len(self.runs.value) > MOST_RUNS:
            self.runs.value = self.runs.value[:MOST_RUNS]
            return
        if not self.runs.value:
            self.main[:] = [notice("No run chosen", "Choose one or more runs on the left.")]
            self.png.disabled = self.netcdf.disabled = True
            return
        self.settling = True
        try:
            dataset = self.library.forecast(self.runs.value[0])
            variables = list(dataset.data_vars)
            starts = {moment(t): t for t in dataset.init_time.values}
            leads = dataset.lead_time.values
            known = self.start.value in list(starts.values()) and self.start.value
            self.variable.options = {long_name(name): name for name in variables}
            self.variable.value = self.address.one("variable", variables, variables[0])
            self.start.options = starts
            wanted = self.address.one("start", starts)
            self.start.value = known or (starts[wanted] if wanted else next(iter(starts.values())))
            self.leads = leads
            self.lead.end = len(leads) - 1
            hours = self.address.number("lead")
            at = 0 if hours is None else int(np.abs(leads / HOUR - hours).argmin())
            self.lead.value = min(at, len(leads) - 1)
        except InputError as error:
            self.main[:] = [notice("This run cannot be shown", str(error))]
            return
        finally:
            self.settling = False
        self.draw()

    def change_variable(self):
        """Draw another variable in its own colours."""
        if not self.settling:
            self.address.put(low=None, high=None, wide=None)
            self.draw()

    def at(self):
        """Variable, start and lead time now chosen."""
        return self.variable.value, self.start.value, self.leads[self.lead.value]

    def draw(self):
        """Make all maps anew."""
        if self.settling or not self.runs.value:
            return
        first, variable = self.runs.value[0], self.variable.value
        known = names.variable(variable)
        try:
            raster = self.library.raster(first)
        except InputError as error:
            self.main[:] = [notice("This run cannot be shown", str(error))]
            return
        if self.raster is not None and not np.array_equal(raster.source, self.raster.source):
            self.cell = None  # cells are numbered by grid
            self.address.put(cell=None)
        if raster is not self.raster:
            self.raster, self.window = raster, self.address.numbers("view", 4)
            self.scene = linked_maps.scene(raster, self.window)
        low, high = known.colour_range or (0.0, 1.0)
        self.settling = True
        low, high = self.address.number("low", low), self.address.number("high", high)
        self.low.value, self.high.value = (low, high) if low < high else (0.0, 1.0)
        wide = self.address.number("wide", 0)
        self.wide.value = wide if wide > 0 else self.usual_difference()
        self.settling = False
        label = long_name(variable)
        self.scale = linked_maps.colour_scale(known.colour_map, (self.low.value, self.high.value))
        self.contrast = linked_maps.colour_scale(
            maps.DIFFERENCE_MAP, (-self.wide.value, self.wide.value)
        )
        self.sources, self.notes = {}, {}
        truth = self.map_of((TRUE,), TRUTH, self.scale)
        self.probe = pn.Column(sizing_mode="stretch_width", min_height=250)
        shown = [pn.Column(truth, self.probe, sizing_mode="stretch_width")]
        for source in self.compared():
            title = self.title(source)
            shown.append(pn.Column(
                self.map_of((source,), title, self.scale),
                self.map_of((source, TRUE), f"{title} \N{MINUS SIGN} truth", self.contrast),
                sizing_mode="stretch_width",
            ))  # fmt: skip
        bars = pn.Row(
            bare(linked_maps.colour_bar(self.scale, f"{label} ({known.units})")),
            bare(linked_maps.colour_bar(self.contrast, f"Difference from truth ({known.units})")),
            sizing_mode="stretch_width",
        )  # fmt: skip
        self.main[:] = [bars, cards(shown, 250)]
        self.change(probe=True)

    def compared(self):
        """What is compared with the truth: runs, then references."""
        runs = [Source(name, True) for name in self.runs.value]
        return runs + [Source(name) for name in self.references.value]

    def title(self, source):
        """The name of a source as it is shown, unlike those of all others."""
        if source.is_run:
            return titled(self.runs.value)[source.name]
        return source.name.replace("_", " ")

    def usual_difference(self):
        """Half-width of the colours of differences: rounded, from the last lead time."""
        variable, start, _ = self.at()
        try:
            error = self.frame(self.compared()[0], variable, start, self.leads[-1])
            error = error - self.frame(TRUE, variable, start, self.leads[-1])
        except InputError:
            return 1.0
        return maps.round_up(float(np.nanquantile(np.abs(error), MOST_OF_ERRORS)))

    def map_of(self, key, title, scale):
        """A linked map of a source or of the difference of two; a line says why it is empty."""
        units = names.variable(self.variable.value).units
        drawn, source = linked_maps.polar_map(self.scene, scale, title, units)
        drawn.on_event(Tap, self.tap)
        drawn.on_event(RangesUpdate, self.zoom)
        self.sources[key] = source
        self.notes[key] = remark()
        return pn.Column(bare(drawn), self.notes[key], sizing_mode="stretch_width")

    def frame(self, source, variable, start, lead):
        """Values (y, x) of the truth, a run or a reference."""
        first = self.runs.value[0]
        if source == TRUE:
            return self.library.truth_frame(first, variable, start, lead)
        if source.is_run:
            self.library.check(source.name, variable, first)
            return self.library.frame(source.name, variable, start, lead)
        return self.library.reference_frame(source.name, first, variable, start, lead)

    def change(self, probe=False):
        """Put the values of the chosen start and lead time on the maps."""
        if self.settling or not self.runs.value:
            return
        variable, start, lead = self.at()
        days = lead / DAY
        self.values, reasons = {}, {}
        for source in (TRUE, *self.compared()):
            try:
                self.values[source] = self.frame(source, variable, start, lead)
            except InputError as error:
                reasons[source] = str(error)
        self.png.disabled = self.netcdf.disabled = TRUE not in self.values
        with pn.io.hold():
            self.paint()
            self.when.object = (
                f"<b>+{days:g} days</b><br>valid {moment(np.datetime64(start) + lead)} UTC"
            )
            for key, note in self.notes.items():
                tell(note, " ".join(reasons[source] for source in key if source in reasons))
            if probe:
                self.draw_probe()
            elif hasattr(self, "now"):
                self.now.location = float(days)
            self.remember()

    def paint(self):
        """Send the pictures of the values there are, in the window that is looked at."""
        for key, source in self.sources.items():
            parts = [self.values[part] for part in key if part in self.values]
            if len(parts) < len(key):
                values = np.full(self.raster.source.max() + 1, np.nan, "float32")
            else:
                values = parts[0] if len(parts) == 1 else parts[0] - parts[1]
            source.data = rasters.picture(self.raster, values, self.window)

    def zoom(self, event):
        """Remember the part of the maps that is looked at, and soon send it."""
        window = [round(end, 1) for end in (event.x0, event.x1, event.y0, event.y1)]
        if window != self.window:
            self.window = window
            if not self.waiting:  # a drag reports many windows; the last one counts
                self.waiting = True
                pn.state.add_periodic_callback(self.settle_view, SETTLE_MS, count=1)

    def settle_view(self):
        """Send the window that is looked at, finer where the grid is finer than the screen."""
        self.waiting = False
        self.address.put(view=self.window)
        if max(self.raster.source.shape) > rasters.PIXELS:
            with pn.io.hold():  # as in change(), so that no picture overtakes another
                self.paint()

    def tap(self, event):
        """Choose the cell under the pointer."""
        column = np.abs(self.raster.x - event.x).argmin()
        row = np.abs(self.raster.y - event.y).argmin()
        cell = self.raster.source[row, column]
        if cell >= 0:
            self.cell = int(cell)
            self.scene.selected.data = {"x": [self.raster.x[column]], "y": [self.raster.y[row]]}
            self.draw_probe()
            self.remember()

    def draw_probe(self):
        """Curves of the chosen cell through the lead times."""
        try:
            dataset = self.library.forecast(self.runs.value[0])
        except InputError as error:
            self.probe[:] = [notice("This run cannot be shown", str(error))]
            return
        if self.cell is None:
            cell = self.address.number("cell", -1)
            inside = 0 <= cell < dataset.ocean.size and dataset.ocean.values.ravel()[int(cell)]
            if not inside:
                self.probe[:] = [notice("One cell through time", "Click a cell on any map.")]
                return
            self.cell = int(cell)
        row, column = np.unravel_index(self.cell, dataset.ocean.shape)
        spot = np.argwhere(self.raster.source == self.cell)
        if len(spot):
            self.scene.selected.data = {
                "x": [self.raster.x[spot[0, 1]]],
                "y": [self.raster.y[spot[0, 0]]],
            }
        variable, start, _ = self.at()
        known = names.variable(variable)
        series = {}
        for source in (TRUE, *self.compared()):
            try:
                values, leads = self.through_time(source, variable, start, row, column)
            except InputError:
                continue  # the map beside it says why
            series[self.title(source)] = charts.Curve(leads / DAY, values)
        latitude, longitude = (float(dataset[c].values[row, column])
                               for c in ("latitude", "longitude"))  # fmt: skip
        title = f"{latitude:.2f}°N {abs(longitude):.2f}°{'W' if longitude < 0 else 'E'}"
        drawn = charts.curves(
            series, "Lead time (days)", f"{long_name(variable)} ({known.units})",
            title, height=290, columns=2,
        )  # fmt: skip
        self.now = Span(location=float(self.at()[2] / DAY), dimension="height",
                        line_color="#888888", line_dash="dotted")  # fmt: skip
        drawn.add_layout(self.now)
        self.probe[:] = [bare(drawn)]

    def through_time(self, source, variable, start, row, column):
        """Values and lead times at one cell."""
        first = self.runs.value[0]
        if source == TRUE:
            return self.library.truth_series(first, variable, start, row, column), self.leads
        if source.is_run:
            self.library.check(source.name, variable, first)
            values = self.library.series(source.name, variable, start, row, column)
            return values.values, values.lead_time.values
        values = self.library.reference_series(source.name, first, variable, start, row, column)
        return values, self.leads

    def recolour(self):
        """Take the colour ranges from their fields."""
        given = (self.low.value, self.high.value, self.wide.value)
        if self.settling or None in given or not given[0] < given[1] or not given[2] > 0:
            return
        self.scale.update(low=self.low.value, high=self.high.value)
        self.contrast.update(low=-self.wide.value, high=self.wide.value)
        self.address.put(low=self.low.value, high=self.high.value, wide=self.wide.value)

    def remember(self):
        """Write the state into the address."""
        variable, start, lead = self.at()
        self.address.put(
            runs=self.runs.value, references=self.references.value, variable=variable,
            start=moment(start), lead=f"{lead / HOUR:g}", cell=self.cell,
        )  # fmt: skip
        stem = f"{'_'.join(self.runs.value)}_{variable}_{moment(start)}_+{lead / HOUR:g}h"
        stem = stem.replace("/", "-").replace(":", "").replace(" ", "T")
        self.png.filename, self.netcdf.filename = f"{stem}.png", f"{stem}.nc"

    def fields(self):
        """What the maps show, with one start and lead time, as labelled arrays by title."""
        variable, start, lead = self.at()
        dataset = self.library.forecast(self.runs.value[0])
        place = dataset[variable].isel(init_time=0, lead_time=0).coords
        coords = {name: place[name] for name in ("y", "x", "latitude", "longitude", "ocean")
                  if name in place}  # fmt: skip
        coords |= {"init_time": np.datetime64(start, "ns"), "lead_time": [lead]}
        like = {"coords": coords, "dims": ("lead_time", "y", "x"), "name": variable,
                "attrs": names.attributes(variable)}  # fmt: skip
        return {
            self.title(source): xr.DataArray(values[None], **like)
            for source, values in self.values.items()
        }

    def write_png(self):
        """The maps as a figure for print."""
        return as_figure(self.fields(), (self.low.value, self.high.value), self.wide.value)

    def write_netcdf(self):
        """The fields as CF NetCDF."""
        return as_fields(self.fields())


def moment(time):
    """A date as text, to the minute."""
    return np.datetime_as_string(np.datetime64(time, "ns"), unit="m").replace("T", " ")


def long_name(variable):
    """Name of a variable as a label."""
    return names.variable(variable).long_name.partition(" (")[0]
