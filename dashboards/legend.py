"""One legend for several figures of curves."""

import re

import panel as pn
import param
from bokeh.models import Legend, Line, Scatter

from dashboards import layout
from dashboards.dark import dark_colour
from seaice_lab.figures import charts
from seaice_lab.figures.scaling import MEMBERS
from seaice_lab.figures.spectra import POWER_LAW

OFF_SCALE = re.compile(r" \((partly off scale|off scale)\)$")  # end of the name of a curve


class SharedLegend(pn.custom.JSComponent):
    """A legend whose entries hide and show a curve in all figures that :meth:`take` has drawn."""

    entries = param.List([], doc="Name, colours, dashes, width and marker of each curve")
    hidden = param.List([], doc="Names of the curves that are hidden")

    _esm = (layout.ASSETS / "legend.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]

    def __init__(self):
        super().__init__(css_classes=["common-legend"], sizing_mode="stretch_width", margin=0)
        self.drawn = {}  # renderers by entry of the legend, by key of the figure
        self.param.watch(self._show, "hidden")

    def take(self, key, panel, height):
        """Draw a panel without a legend, and add its curves to this legend.

        Parameters
        ----------
        key : hashable
            A new figure of the same key replaces the former one.
        panel : holoviews.Overlay
            From `seaice_lab.figures`.
        height : int
            Pixels.

        Returns
        -------
        panel.pane.Bokeh
        """
        figure, entries = charts.bokeh_figure(panel, height), {e[0]: e for e in self.entries}
        self.drawn[key] = {}
        for renderer in figure.renderers:
            self.drawn[key].setdefault(entry_of(renderer.name), []).append(renderer)
        for legend in figure.legend:
            for item in legend.items:
                name, glyphs = entry_of(item.label.value), [r.glyph for r in item.renderers]
                entry = entry_from(name, glyphs)
                known = entries.setdefault(name, entry)
                entries[name] = [*known[:5], known[5] or entry[5]]
                if off_scale := OFF_SCALE.search(item.label.value):
                    figure.title.text += f"; {name} {off_scale[1]}"
        entries = list(entries.values())
        figure.below = [part for part in figure.below if not isinstance(part, Legend)]
        figure.height = height - charts.LEGEND_ROW
        self._show()
        if entries != self.entries:
            self.entries = entries
        return layout.chart(figure)

    def _show(self, _event=None):
        for renderers in self.drawn.values():
            for name, parts in renderers.items():
                for renderer in parts:
                    renderer.visible = name not in self.hidden


def entry_of(name):
    """Entry of a curve: all members share one, and a power law shares that of its spectrum."""
    name = OFF_SCALE.sub("", name)
    return MEMBERS if name.startswith("member ") else name.removesuffix(POWER_LAW)


def entry_from(name, glyphs):
    """Name, colours, dashes, width and marker of a curve, which the legend draws an entry from.

    Parameters
    ----------
    name : str
    glyphs : list of bokeh.models.Glyph
        One of them is a line or a scatter.

    Returns
    -------
    list
        Six values: name, colour on a light page, colour on a dark page, lengths of dashes and gaps
        in pixels (str), width in pixels (0 without a line) and marker ("" without one).
    """
    line = next((glyph for glyph in glyphs if isinstance(glyph, Line)), None)
    points = next((glyph for glyph in glyphs if isinstance(glyph, Scatter)), None)
    marker = points.marker if points else ""
    colour = (line or points).line_color
    dash, width = (" ".join(map(str, line.line_dash)), line.line_width) if line else ("", 0)
    return [name, colour, dark_colour(colour), dash, width, str(marker)]


def with_starts(scores, tables):
    """Replace titles, the keys of a dict, by names of curves such as "sample (41 starts)".

    Parameters
    ----------
    scores : dict of str to xarray.Dataset
        Scores with the dimension ``init_time``, by title of the run or reference.
    tables : dict of str to object
        What is drawn, by some of the same titles.

    Returns
    -------
    dict of str to object
        The same values by the names of their curves.
    """
    counts = {title: scores[title].sizes["init_time"] for title in tables}
    names = {title: f"{title} ({n} start{'s' if n > 1 else ''})" for title, n in counts.items()}
    return {names[title]: table for title, table in tables.items()}
