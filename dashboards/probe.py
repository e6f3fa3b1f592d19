"""One cell through all lead times: truth, forecasts with their members, and references."""

import re

import numpy as np
import panel as pn
from bokeh.models import Span

from dashboards import layout, readers, selection
from dashboards.selectable_maps import position_text
from dashboards.selection import DAY, long_name
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import charts
from seaice_lab.figures.axes import LEAD_LABEL, axis_label, legend_columns

# A line at the level "overlay" moves without new painting of the curves.
LEAD_LINE = {"line_color": "#888888", "line_dash": "dotted", "level": "overlay"}
HEIGHT = 245  # pixels
LEGEND_CHARACTERS = 32  # in a row of the legend of a card as wide as a map


class Probe:
    """The curves of the selected cell; at first of a cell in the middle of the grid.

    Parameters
    ----------
    view : dashboards.forecasts.ForecastView
    """

    def __init__(self, view):
        self.view, self.line = view, None
        self.pane = layout.stretched(min_height=HEIGHT)
        self.position = pn.widgets.TextInput(
            name="Cell at latitude, longitude", placeholder="85.0, -12.5"
        )
        self.position.param.watch(self.select_position, "value")

    def select_position(self, event):
        """Select the cell that is nearest to the position that was typed."""
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", event.new)]
        if len(numbers) != 2 or self.view.maps is None:
            return
        ocean = self.view.forecast().dataset.ocean
        latitude, longitude = np.deg2rad(ocean.latitude.values), np.deg2rad(ocean.longitude.values)
        wanted, meridian = np.deg2rad(numbers)
        # cosine of the angle between the positions, seen from the centre of the Earth
        cosine = np.sin(latitude) * np.sin(wanted)
        cosine += np.cos(latitude) * np.cos(wanted) * np.cos(longitude - meridian)
        self.view.state.cell = int(np.where(ocean.values, cosine, -2).argmax())

    def draw(self):
        """Draw the curves of all sources and the members of ensembles."""
        view, self.line = self.view, None
        cell = view.maps.mark(view.maps.central_cell())
        dataset = view.forecast().dataset
        variable, start, lead = view.selection()
        cell = np.unravel_index(cell, dataset.ocean.shape)
        series = {}
        for title, (run, source) in view.sources.items():
            try:
                forecast = view.forecast(run)
                values = readers.series(forecast, source, variable, start, cell)
                days = selection.days(forecast.dataset)
                members = np.empty((0, len(days)))
                if source == "forecast":
                    members = readers.members(forecast, variable, start, cell)
            except InputError:
                continue  # the message below its map says why
            band = (members.min(0), members.max(0)) if len(members) else ()
            series[title] = charts.Curve(days, values, band=band)
        y_label = axis_label(long_name(variable), names.variable(variable).units)
        position = position_text(float(dataset.latitude[cell]), float(dataset.longitude[cell]))
        title = f"At the cross, {position}"
        if any(len(curve.band) for curve in series.values()):
            title += "; band: range of the members"
        panel = charts.overlay(series, LEAD_LABEL, y_label, title)
        figure = charts.bokeh_figure(panel, HEIGHT)
        # With two sources the card is as wide as the page, with more as a map.
        columns = legend_columns(series, LEGEND_CHARACTERS) if len(series) > 2 else 2
        figure.legend.ncols = columns
        rows = max(-(-len(series) // columns), 1)
        figure.height = HEIGHT + charts.LEGEND_ROW * (rows - 1)
        self.line = Span(location=float(lead / DAY), dimension="height", **LEAD_LINE)
        figure.add_layout(self.line)
        self.pane[:] = [layout.chart(figure)]

    def show_lead(self, lead):
        """Move the line that marks the selected lead time."""
        if self.line is not None:
            self.line.location = float(lead / DAY)
