"""Departures of observations from background and analysis, in words, figures and a table."""

from functools import partial
from html import escape

import numpy as np

from dashboards import selection
from seaice_lab import names
from seaice_lab.assimilation.observations import KINDS
from seaice_lab.diagnostics.comparison import decimals
from seaice_lab.figures import charts
from seaice_lab.figures.axes import axis_label

STATES = "background", "analysis"
DEPARTURES = {state: f"O \N{MINUS SIGN} {state[0].upper()}" for state in STATES}
RATIOS = {"sigma_ratio": "Observations", "background_ratio": "Background"}
SHORT = {"Observations": "Obs.", "Background": "Backgr."}  # in the table
DEFINITION = (
    "O \N{MINUS SIGN} B, O \N{MINUS SIGN} A: observation minus background or analysis. Ratios: "
    "variances estimated from the departures (Desroziers et al. 2005) divided by the assumed "
    "ones, 1 if these are right. 2J/p: cost at the minimum divided by its expectation; 95 % of "
    "consistent windows are within the band."
)


def headline(window, table, diagnostics):
    """What the observations of a window say, and whether the assumed errors are right.

    Parameters
    ----------
    window : xarray.Dataset
    table : xarray.Dataset or None
        Its departures.
    diagnostics : xarray.Dataset or None

    Returns
    -------
    dict of str to str
        Sentences by their subject.
    """
    start = selection.time_text(window.analysis_time.values)
    subject, sentences = f"Window from {start} UTC:", {}
    if table is None or not table.sizes["observation"]:
        return {subject: "no observations were used, so the analysis is the background"}
    texts = []
    for kind in np.unique(table.kind.values):
        departure = (table["value"] - table.equivalent).isel(
            observation=(table.kind == kind).values
        )
        before, after = (
            float(np.sqrt((departure.sel(state=state) ** 2).mean())) for state in STATES
        )
        count, digits = departure.sizes["observation"], decimals([before, after])
        units = "" if units_of(kind) == "1" else f" {units_of(kind)}"
        texts.append(
            f"the analysis is {after:.{digits}f}{units} (RMS) from {count} observations of "
            f"{in_words(kind)}, the background {before:.{digits}f}{units}"
        )
    sentences[subject] = "; ".join(texts)
    if diagnostics is not None and "cost_ratio" in diagnostics:
        sentences |= consistency(diagnostics, window.analysis_time.values)
    return sentences


def consistency(diagnostics, start):
    """Whether the minimum of the cost is consistent with the assumed errors.

    Parameters
    ----------
    diagnostics : xarray.Dataset
        Content of ``diagnostics.nc``.
    start : numpy.datetime64
        Start of the window.

    Returns
    -------
    dict of str to str
        A sentence by its subject.
    """
    row = diagnostics.sel(window=start)
    ratio, low, high = (float(row[name]) for name in ("cost_ratio", "low", "high"))
    text = f"2J/p of this window is {ratio:.2f}"
    if np.isfinite(low):
        verdict = "consistent with the departures"
        if not low <= ratio <= high:
            verdict = f"too {'small' if ratio > high else 'large'}"
        text = f"{verdict} ({text}; 95 % of consistent windows are from {low:.2f} to {high:.2f})"
    else:
        text += "; its interval is unknown with the Huber norm"
    return {"Assumed errors:": text}


def in_words(kind):
    """A kind of observation in words, such as "sea-ice thickness"."""
    text = selection.long_name(KINDS[kind].variable).lower()
    return f"{text} per area of ice" if KINDS[kind].divisor else text


def units_of(kind):
    """The unit of a kind of observation."""
    return names.variable(KINDS[kind].variable).units


def figures_of(diagnostics):
    """2J/p of the windows, and for each kind departures and ratios by day of the window.

    Parameters
    ----------
    diagnostics : xarray.Dataset
        Content of ``diagnostics.nc``, with at least one group.

    Returns
    -------
    list of holoviews.Overlay
    """
    windows = diagnostics.isel(window=diagnostics.used.values > 0)
    band = windows.low.values, windows.high.values
    ratio = partial(charts.Curve, windows.window.values, windows.cost_ratio.values)
    ratio = ratio(band=band if np.isfinite(band).all() else (), marker="circle")
    title = "Cost over its expectation"
    figures = [charts.overlay({"2J/p": ratio}, "Start of the window", "2J/p", title, levels=[1])]
    for kind in diagnostics.group.values[diagnostics.by.values == "kind"]:
        is_day = diagnostics.by.values == "day"
        is_day &= np.array([group.startswith(f"{kind}, ") for group in diagnostics.group.values])
        days = diagnostics.isel(group=is_day)
        number = [int(group.rpartition(" ")[2]) for group in days.group.values]
        label, units, options = "Day of the window", units_of(kind), {"xticks": number}
        quantity = in_words(kind).capitalize()
        rms = {
            text: charts.Curve(number, days.rms.sel(state=state).values, marker="circle")
            for state, text in DEPARTURES.items()
        }
        figures.append(
            charts.overlay(
                rms, label, axis_label("RMS departure", units), f"{quantity}: departures", **options
            )
        )
        ratios = {
            text: charts.Curve(number, days[name].values, marker="circle")
            for name, text in RATIOS.items()
        }
        labels = label, "Estimated / assumed variance", f"{quantity}: error variances"
        figures.append(charts.overlay(ratios, *labels, levels=[1], first=2, **options))
    return figures


def departure_table(diagnostics):
    """Departures and ratios by kind and by region as an HTML table.

    Parameters
    ----------
    diagnostics : xarray.Dataset
        Content of ``diagnostics.nc``, with at least one group.

    Returns
    -------
    str
    """
    pairs = {"RMS": DEPARTURES, "Mean": DEPARTURES, "Ratio": RATIOS}
    body = ""
    groups = diagnostics.group.values[np.isin(diagnostics.by, ["kind", "region"])]
    for group in sorted(groups, key=lambda name: name.partition(",")[0]):  # regions after kinds
        row = diagnostics.sel(group=group)
        kind, _, region = group.partition(", ")
        unit = "" if units_of(kind) == "1" else f" ({units_of(kind)})"
        group = region or f"{in_words(kind).capitalize()}{unit}, everywhere"
        values = [float(row[name].sel(state=s)) for name in ("rms", "mean") for s in DEPARTURES]
        texts = [f"{value:.3f}" for value in values]
        texts += [f"{float(row[name]):.2f}" for name in RATIOS]
        texts = [str(int(row["count"])), *texts]
        cells = "".join(f"<td>{text.replace('-', chr(0x2212))}</td>" for text in texts)
        body += f"<tr><th scope='row'>{escape(group)}</th>{cells}</tr>"
    two = "".join(f"<th scope='colgroup' colspan='2'>{name}</th>" for name in pairs)
    texts = [text for texts in pairs.values() for text in texts.values()]
    one = "".join(f"<th title='{text}'>{SHORT.get(text, text)}</th>" for text in texts)
    head = f"<tr><th rowspan='2'>Kind or region</th><th rowspan='2'>Number</th>{two}</tr>"
    scrolling = "tabindex='0' role='region' aria-label='Departures' style='overflow-x:auto'"
    return f"<div {scrolling}><table>{head}<tr>{one}</tr>{body}</table></div>"
