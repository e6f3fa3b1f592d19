"""Curves of an ensemble: reliability of its probabilities, and error against its spread.

As in `seaice_lab.figures.curves`, each function returns one panel or several.
"""

import numpy as np

from seaice_lab.figures.charts import DASHED, GREY, Curve, layout, overlay
from seaice_lab.names import typeset

SMALLEST_SHARE = 1e-3  # of the ocean; a frequency in fewer cells is mostly chance


def plot_reliability(tables, bins, units="m"):
    """Observed frequency against forecast probability, and error against predicted spread.

    Parameters
    ----------
    tables : dict of str to Dataset
        ``observed`` and ``share`` (probability), as from
        `seaice_lab.diagnostics.reliability.reliability`, by the name of the event.
    bins : dict of str to Dataset
        ``spread`` and ``rmse`` (bin), as from
        `seaice_lab.diagnostics.reliability.spread_skill_by_spread`, by label.
    units : str
        Unit of spread and error.

    Returns
    -------
    holoviews.Layout
        Curves of a reliable ensemble lie on the dashed diagonals. Left: below the diagonal, events
        happen less often than forecast. Probabilities in less than 0.1 % of the ocean are left out.
        Right: above the diagonal, the spread is too small.
    """
    events = {
        label: _points(table.probability, table.observed.where(table["share"] > SMALLEST_SHARE))
        for label, table in tables.items()
    }
    errors = {label: _points(table.spread, table.rmse) for label, table in bins.items()}
    largest = max(max(curve.x.max(), curve.y.max()) for curve in errors.values())
    unit = typeset(units)
    labels = "Forecast probability", "Observed frequency", "Reliability of probabilities"
    events = overlay(events | _diagonal(1.0), *labels, first=1)
    labels = f"Predicted spread ({unit})", f"RMSE of the mean ({unit})"
    title = "Error where the spread is small or large"
    return layout(events, overlay(errors | _diagonal(largest), *labels, title, first=1))


def _points(x, y):
    """A curve with a marker at each point that is not missing."""
    inside = np.isfinite(y.values)
    return Curve(x.values[inside], y.values[inside], marker="circle")


def _diagonal(end):
    ends = np.array([0.0, end])
    return {"Reliable": Curve(ends, ends, colour=GREY, dash=DASHED, width=1.2)}
