"""Spectra: power at each scale, and how fast a forecast loses the fine scales."""

from functools import partial
from html import escape

import numpy as np

from dashboards import layout, run_files, selection
from dashboards.legend import SharedLegend
from dashboards.readers import TRUTH
from dashboards.selection import DAY
from seaice_lab.diagnostics import comparison
from seaice_lab.figures import spectra
from seaice_lab.names import in_days

CONVENTION = (
    "Exponent of the power summed over directions at each wavenumber (ring sum): one more than "
    "that of the mean over directions. The fit spans {low:.0f} to {high:.0f} km."
)
NO_RESOLUTION = "These runs were evaluated by an older version: evaluate them again."
HEIGHT = 340  # pixels of a figure
HOW_TO_BEGIN = "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run with a forecast."


def page(library, state):
    """Controls and main area of the page.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState

    Returns
    -------
    (panel.Column, panel.Column) or [panel.pane.HTML]
    """
    runs = selection.RunSelection(state, library.names("evaluated"))
    if not runs.usable:
        return [layout.empty_state("No spectra yet", HOW_TO_BEGIN)]
    slider = selection.time_bar(state, "lead", "Lead time")

    # These do not depend on the lead time: common starts, exponents and resolution.
    pooled, drawn = selection.last_result(), selection.last_result()

    def draw(tables):
        """The figures of the spectra by name of the run."""
        first = next(iter(tables.values()))
        lead = selection.offer_leads(slider, state, first.lead_time.values)
        titles = selection.run_titles(state.runs)
        key = tuple((run, id(table)) for run, table in tables.items())
        common, notes = pooled(key, lambda: comparison.spectra_on_common_starts(tables))
        tables = {titles[run]: table for run, table in common.items()}
        legend, exponent, resolution = drawn(key, lambda: over_leads(tables))
        power, *ratios = at_lead(tables, lead, legend)
        return [
            layout.in_words({title: headline(table, lead) for title, table in tables.items()}),
            layout.message_pane(" ".join(f"{run}: {note}." for run, note in notes.items())),
            legend,
            layout.cards((power, exponent, *ratios, resolution), 350),
            layout.html_pane(escape(convention(first)), "faint"),
        ]

    return runs.page(partial(run_files.table_of, library, name="spectra.nc"), draw, slider)


def with_truth(tables):
    """Spectra of the truth of the first run, and of each forecast, by title."""
    forecasts = {title: table.sel(source="forecast") for title, table in tables.items()}
    return {TRUTH: next(iter(tables.values())).sel(source="truth")} | forecasts


def over_leads(tables):
    """Legend of the page, and figures of exponent and effective resolution against lead time.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``spectra.nc`` by title of the run.

    Returns
    -------
    list of Panel objects
    """
    legend = SharedLegend()
    known = {title: table for title, table in tables.items() if "resolution" in table}
    exponent = legend.take("exponent", spectra.plot_exponent(with_truth(tables)), HEIGHT)
    if not known:
        return legend, exponent, layout.empty_state("Effective resolution", NO_RESOLUTION)
    return legend, exponent, legend.take("resolution", spectra.plot_resolution(known), HEIGHT)


def at_lead(tables, lead, legend):
    """Figures of the power and of the power ratios at one lead time.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``spectra.nc`` by title of the run.
    lead : numpy.timedelta64
    legend : SharedLegend

    Returns
    -------
    list of panel.pane.Bokeh
    """
    now = {title: table.sel(lead_time=lead, method="nearest") for title, table in tables.items()}
    title = f"Power, {in_days(lead / DAY)} ahead; thin: power laws"
    power = spectra.plot_spectra(with_truth(now), title, with_exponents=False)
    ratios = spectra.plot_power_ratio({title: table.power for title, table in now.items()})
    return [legend.take(k, panel, HEIGHT) for k, panel in enumerate((power, *ratios))]


def headline(table, lead):
    """The loss of detail of a run at a lead time in words.

    Parameters
    ----------
    table : xarray.Dataset
        Content of ``spectra.nc``.
    lead : numpy.timedelta64

    Returns
    -------
    str
    """
    now = table.sel(lead_time=lead, method="nearest")
    days, sentences = now.lead_time.values / DAY, []
    if "resolution" in now and np.isfinite(now.resolution):
        smallest, resolution = float(table.wavelength.min()), float(now.resolution)
        is_lost = resolution > 1.01 * smallest
        sentences.append(
            f"structures below {resolution:.0f} km have less than half of the truth's power"
            if is_lost
            else f"at least half of the truth's power down to {smallest:.0f} km, the finest scale"
        )
    forecast, truth = (float(now.slope.sel(source=name)) for name in ("forecast", "truth"))
    if np.isfinite(forecast) and np.isfinite(truth):
        numbers = f"exponent {forecast:.2f}, truth {truth:.2f}".replace("-", "\N{MINUS SIGN}")
        sentences.append(numbers)
    # The mean spectra of runs with other starts belong to other weather.
    starts = f" ({table.attrs['starts']} starts)" if "starts" in table.attrs else ""
    return f"+{in_days(days)}: {'; '.join(sentences)}{starts}"


def convention(table):
    """The convention of the exponents, and the region and window of the spectra, as a text."""
    text = table.attrs.get("comment", "")
    if "wavelength_km" not in table.attrs:
        return text
    low, high = sorted(np.atleast_1d(table.attrs["wavelength_km"]))
    return f"{CONVENTION.format(low=low, high=high)} Region and window: {text}."
