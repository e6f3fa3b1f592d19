"""Axes and legends of curves: labels, limits, logarithmic axes, columns of a legend."""

import numpy as np

from seaice_lab.names import typeset

LEAD_LABEL = "Lead time (days)"
SMALLEST_RANGE = 0.02  # of the axis of a season, as a share of the largest value
FARTHEST = 0.3  # extension of the axis towards a reference, as a share of the range


def axis_label(name, units):
    """Name and unit of a quantity at an axis or a colour bar.

    Parameters
    ----------
    name : str
    units : str
        CF units; "1" or an empty text is not written.

    Returns
    -------
    str
        Such as "Power (m² km)", or "Skill" for a number without a unit.
    """
    return f"{name} ({typeset(units)})" if units not in ("1", "") else name


def log_axis(values, *others, log=True):
    """Options of a logarithmic vertical axis with legible ticks.

    Parameters
    ----------
    values : array
        Those that are not positive are not shown.
    *others : float
        More values that the axis must contain.
    log : bool, optional
        False selects a linear axis from zero; None selects it for values within a factor of 20.

    Returns
    -------
    dict
        Options of `seaice_lab.figures.charts.overlay`.
    """
    values = np.append(np.ravel(values), others).astype(float)
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return {}
    low, high = values.min() / 1.2, values.max() * 1.2
    if log is False or (log is None and high < 20 * low):
        return {"ylim": (0, high)}
    decades = np.log10(high / low)
    steps = (1, 2, 5) if decades < 3 else (1,)
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    powers = powers if decades < 9 else powers[:: int(decades // 6)]
    ticks = [step * 10.0**power for power in powers for step in steps]
    ticks = [(tick, f"{tick:g}") for tick in ticks if low <= tick <= high]
    if len(ticks) < 2:  # values that are nearly equal
        ticks = [(tick, f"{tick:.3g}") for tick in np.unique([values.min(), values.max()])]
    return {"logy": True, "ylim": (low, high), "yticks": ticks}


def season_limits(values, reference=()):
    """Limits of the vertical axis of a season.

    Parameters
    ----------
    values : array
        All of them are within the limits. The axis has a smallest range, so that small changes
        do not look large.
    reference : array
        Values of a reference. The limits include only those near ``values``.

    Returns
    -------
    (float, float)
        The lower limit is negative only if a value is negative.
    """
    low, high = np.nanmin(values), np.nanmax(values)
    missing = max(SMALLEST_RANGE * high - (high - low), 0)
    low, high = max(low - missing / 2, min(low, 0)), high + missing / 2
    high = high if low < high else low + 1
    beyond = FARTHEST * (high - low)
    reference = np.append(reference, (low, high))
    low = max(low - beyond, np.nanmin(reference))
    high = min(high + beyond, np.nanmax(reference))
    margin = 0.05 * (high - low)
    return low - margin if low < 0 else max(low - margin, 0), high + margin


def lead_days(table):
    """Lead times of a dataset in days, an array (lead_time,)."""
    return table["lead_time"].values / np.timedelta64(1, "D")


def legend_columns(labels, width):
    """Columns of a legend.

    Parameters
    ----------
    labels : collection of str
    width : float
        Of the legend in characters.

    Returns
    -------
    int
    """
    labels = list(labels)
    for columns in range(min(5, len(labels)), 1, -1):
        longest = [max(map(len, labels[column::columns])) for column in range(columns)]
        if sum(longest) + 6 * columns <= width:  # 6 for a piece of the curve
            return columns
    return 1
