"""Axes and legends of curves: lead times in days, logarithmic axes, columns of a legend."""

import numpy as np

LEAD_LABEL = "Lead time (days)"


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
