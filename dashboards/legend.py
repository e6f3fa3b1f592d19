"""One legend for several figures of curves."""

import panel as pn
import param
from bokeh.models import Legend, Line

from dashboards import layout
from dashboards.dark import dark_colour
from seaice_lab.figures import charts
from seaice_lab.figures.scaling import MEMBERS
from seaice_lab.figures.spectra import POWER_LAW


class SharedLegend(pn.custom.JSComponent):
    """A legend whose entries hide and show a curve in all figures that :meth:`take` has drawn."""

    entries = param.List([], doc="Name, colours, dashes and width of each curve")
    hidden = param.List([], doc="Names of the curves that are hidden")

    _esm = (layout.ASSETS / "legend.js").read_text("utf-8")
    _stylesheets = [layout.COMPONENT_STYLE]

    def __init__(self, **options):
        super().__init__(sizing_mode="stretch_width", margin=0, **options)
        self.drawn = {}  # renderers by entry of the legend, by key of the figure
        self.param.watch(self._show, "hidden")

    def take(self, key, panel, height):
        """Draw a panel without a legend of its own, and add its curves to this legend.

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
        figure, entries = charts.bokeh_figure(panel, height), list(self.entries)
        self.drawn[key] = {}
        for renderer in figure.renderers:
            self.drawn[key].setdefault(entry_of(renderer.name), []).append(renderer)
        for legend in figure.legend:
            for item in legend.items:
                name = item.label.value
                line = next(r.glyph for r in item.renderers if isinstance(r.glyph, Line))
                dash = " ".join(map(str, line.line_dash))
                colour = line.line_color
                entry = [name, colour, dark_colour(colour), dash, line.line_width]
                entries += [entry] if name not in [other[0] for other in entries] else []
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
    return MEMBERS if name.startswith("member ") else name.removesuffix(POWER_LAW)
