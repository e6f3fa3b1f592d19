"""Colour scales of the forecasts page, and the inputs for their ends."""

from functools import partial

import numpy as np
import panel as pn

from dashboards import layout
from dashboards.selection import long_name
from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.figures import linked_maps, maps
from seaice_lab.figures.axes import axis_label
from seaice_lab.figures.colours import palette

VALUE_QUANTILE = 0.995  # of the truth and the first forecast, for the limits of colours
DIFFERENCE_QUANTILE = 0.98  # of the differences, for the limits of colours
RANGES = {"From the data": "data", "Fixed": "fixed"}
DIFFERENCE_RANGES = {"One for all lead times": "all", "Of each lead time": "each"}


class Colours:
    """The scales of values, differences, spreads and probabilities.

    Parameters
    ----------
    view : dashboards.forecasts.ForecastView
    """

    def __init__(self, view):
        self.view = view
        select = view.state.select
        ranges = select("Range of the colours", "colours", RANGES)
        differences = select("Range of differences", "differences", DIFFERENCE_RANGES)
        self.limits = pn.Row(margin=0)
        self.widgets = (ranges, differences, self.limits)

    def make(self):
        """Make the scales, and inputs for their ends."""
        state, variable = self.view.state, names.variable(self.view.state.variable)
        low, high = self.usual_range()
        low = low if state.low is None else state.low
        high = high if state.high is None else state.high
        if not low < high:
            low, high = 0.0, 1.0
        wide = state.wide if state.wide and state.wide > 0 else self.usual_difference()
        water = self.view.threshold()
        self.value = linked_maps.colour_scale(variable.colour_map, (low, high), water)
        self.difference = linked_maps.colour_scale(maps.DIFFERENCE_MAP, (-wide, wide))
        self.probability = linked_maps.colour_scale("cmo.dense", (0, 1))
        self.spread = linked_maps.colour_scale("cmo.amp", (0, wide))
        # New inputs, because new values of the old ones would look like changes by the user.
        number = partial(
            pn.widgets.FloatInput,
            step=0.1,
            margin=(5, 4, 5, 8),
            stylesheets=[layout.style_for("widget")],
        )
        self.low = number(name="Colours from", value=low, width=76)
        self.high = number(name="to", value=high, width=62)
        self.wide = number(name="Diff. ±", value=wide, width=66, start=1e-6)
        self.limits[:] = [self.low, self.high, self.wide]
        for widget in self.limits:
            widget.param.watch(self.change, "value")

    def change(self, _event):
        """Take the ends of the colours from their inputs."""
        low, high, wide = self.low.value, self.high.value, self.wide.value
        if None in (low, high, wide) or not low < high or not wide > 0:
            return
        colour_map = names.variable(self.view.state.variable).colour_map
        shades = palette(colour_map, (low, high), self.view.threshold())
        self.value.update(palette=shades, low=low, high=high)
        self.difference.update(low=-wide, high=wide)
        self.spread.update(high=wide)
        self.view.state.param.update(low=low, high=high, wide=wide)

    def usual_range(self):
        """Ends of the colours: fixed ones of the variable, or from the truth and the forecast."""
        variable = names.variable(self.view.state.variable)
        low, high = variable.colour_range or (0.0, 1.0)
        if self.view.state.colours == "fixed" or variable.maximum is not None:
            return low, high
        _, start, lead = self.view.selection()
        values = []
        for title in list(self.view.sources)[:2]:
            try:
                values.append(self.view.frame(title, start, lead).ravel())
            except InputError:
                continue  # the message below its map says why
        if not values or not np.isfinite(values).any():
            return low, high
        top = float(np.nanquantile(np.abs(values), VALUE_QUANTILE))
        top = upper_end(top)
        return (0.0 if low == 0 else -top if low < 0 else low), (top if low <= 0 else high)

    def usual_difference(self):
        """Half-width of the colours of differences: rounded, by default from the last lead time."""
        _, start, selected = self.view.selection()
        truth, first = list(self.view.sources)[:2]
        last = list(self.view.times.leads.values())[-1]
        lead = selected if self.view.state.differences == "each" else last
        try:
            error = self.view.frame(first, start, lead) - self.view.frame(truth, start, lead)
        except InputError:
            return 1.0
        if not np.isfinite(error).any():
            return 1.0
        return maps.round_up(float(np.nanquantile(np.abs(error), DIFFERENCE_QUANTILE)))

    def show_lead(self):
        """Scale the differences by those of the selected lead time, if each has its own range."""
        state = self.view.state
        if state.differences == "each" and state.wide is None:
            wide = self.usual_difference()
            self.difference.update(low=-wide, high=wide)

    def bars(self, used):
        """Labels of the scales that are among the used ones, as a dict of label to scale."""
        units = names.variable(self.view.state.variable).units
        edge = "" if self.view.threshold() is None else "; orange line: ice edge"
        scales = {
            axis_label(long_name(self.view.state.variable), units) + edge: self.value,
            axis_label("Difference from truth", units): self.difference,
            axis_label("Spread", units): self.spread,
            "Probability": self.probability,
        }
        return {label: scale for label, scale in scales.items() if scale in used}


def upper_end(value):
    """Upper end of a colour scale for values up to this one: a little larger, with few digits.

    Parameters
    ----------
    value : float

    Returns
    -------
    float
        1 for zero.
    """
    step = maps.round_up(value) / 10
    return float(np.ceil(value / step) * step) or 1.0
