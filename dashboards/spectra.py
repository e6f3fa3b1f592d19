"""Spectra: power at each scale, and how fast a forecast loses the fine scales."""

from html import escape

import numpy as np
import panel as pn

from dashboards import layout, readers, selection
from dashboards.readers import TRUTH
from dashboards.selection import DAY
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

WAVENUMBERS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # labelled, cycles per km
WAVELENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # labelled, km
CONVENTION = (
    "Exponent of the power summed over directions at each wavenumber (ring sum): one more than "
    "that of the mean over directions. The fit spans {low:.0f} to {high:.0f} km."
)
HEIGHT = 340  # pixels of a figure


def page(library, state):
    """Controls and main area of the page.

    Parameters
    ----------
    library : dashboards.library.Library
    state : dashboards.state.PageState

    Returns
    -------
    (panel.Column, panel.Column)
    """
    runs = selection.RunSelection(state, library.names("evaluated"))
    if not runs.usable:
        return layout.controls(), layout.empty_state(
            "No spectra yet",
            "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run with a forecast.",
        )
    slider = selection.lead_slider(state)

    def draw(tables):
        """The figures of the spectra by name of the run."""
        first = next(iter(tables.values()))
        lead = selection.offer_leads(slider, state, first.lead_time.values)
        titles = selection.run_titles(state.runs)
        tables = {titles[run]: table for run, table in tables.items()}
        figures = (power(tables, lead), exponent(tables), ratio(tables, lead), resolution(tables))
        return [layout.cards(map(layout.bokeh_pane, figures), 460), convention_pane(first)]

    def read(run):
        return readers.load_table(readers.current_file(library.path(run, "spectra.nc")))

    return runs.page(read, draw, slider)


def colours(tables):
    """Colours by title: black for the truth, then one for each run."""
    return dict(zip([TRUTH, *tables], COLOURS, strict=False))


def days(table):
    """Lead times of a table in days."""
    return table.lead_time.values / DAY


def sources(tables):
    """Spectra of the truth of the first run and of each forecast, by title."""
    first = next(iter(tables.values()))
    forecasts = {title: table.sel(source="forecast") for title, table in tables.items()}
    return {TRUTH: first.sel(source="truth")} | forecasts


def power(tables, lead):
    """Figure of power spectra at one lead time, with the power laws that were fitted.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``spectra.nc`` by title of the run.
    lead : numpy.timedelta64

    Returns
    -------
    bokeh.plotting.figure
    """
    curves = {}
    for title, table in sources(tables).items():
        spectrum = table.sel(lead_time=lead, method="nearest")
        colour, slope = colours(tables)[title], float(spectrum.slope)
        label = f"{title}: {slope:.2f}".replace("-", "\N{MINUS SIGN}")
        curves[label] = charts.Curve(spectrum.wavenumber.values, spectrum.power.values, colour)
        if "intercept" in spectrum and np.isfinite(spectrum.intercept):
            k = 1 / np.array(table.attrs["wavelength_km"])
            law = charts.Curve(k, np.exp(float(spectrum.intercept)) * k**slope, colour)
            curves[f"{title}, power law"] = law._replace(dashed=True, listed=False)
    units = next(iter(tables.values())).power.attrs.get("units", "").replace("m2", "m²")
    labels = ("Wavenumber (cycles per km)", f"Power spectral density ({units})")
    title = f"Power, {lead / DAY:g} days ahead; numbers are exponents, dashed the fits"
    figure = charts.curves(curves, *labels, title, logarithmic="xy", height=HEIGHT)
    charts.label_ticks(figure, WAVENUMBERS, [f"{value:g}" for value in WAVENUMBERS])
    return figure


def exponent(tables):
    """Figure of the spectral exponent against lead time. It falls if the forecast smooths."""
    curves = {}
    for title, table in sources(tables).items():
        curve = charts.Curve(days(table), table.slope.values, colours(tables)[title])
        if "slope_error" in table:
            error = 2 * table.slope_error.values
            curve = curve._replace(band=(curve.y - error, curve.y + error))
        curves[title] = curve._replace(dashed=title == TRUTH)
    labels = ("Lead time (days)", "Spectral exponent (1)")
    return charts.curves(
        curves, *labels, "Exponent, with two standard errors of the fit", height=HEIGHT
    )


def ratio(tables, lead):
    """Figure of the power of forecast and error divided by that of the truth.

    Parameters
    ----------
    tables : dict of str to xarray.Dataset
        Content of ``spectra.nc`` by title of the run.
    lead : numpy.timedelta64

    Returns
    -------
    bokeh.plotting.figure
    """
    curves = {}
    for title, table in tables.items():
        spectra = table.power.sel(lead_time=lead, method="nearest")
        wavelength = table.wavelength.values[::-1]
        for source, label in (("forecast", title), ("error", f"{title}, error")):
            share = (spectra.sel(source=source) / spectra.sel(source="truth")).values[::-1]
            curve = charts.Curve(wavelength, share, colours(tables)[title])
            is_error = source == "error"
            curves[label] = curve._replace(dashed=is_error, listed=not is_error)
    labels = ("Wavelength (km)", "Ratio of power to the truth's (1)")
    title = "Power kept at each scale, and (dashed) power of the error"
    figure = charts.curves(curves, *labels, title, logarithmic="xy", height=HEIGHT)
    charts.horizontal_line(figure, 0.5)
    charts.label_ticks(figure, WAVELENGTHS, [f"{value:g}" for value in WAVELENGTHS])
    return figure


def resolution(tables):
    """Figure of the wavelength below which a forecast has less than half the truth's power."""
    curves = {
        title: charts.Curve(days(table), table.resolution.values, colours(tables)[title])
        for title, table in tables.items()
        if "resolution" in table
    }
    labels = ("Lead time (days)", "Effective resolution (km)")
    title = "Scale below which less than half of the truth's power is left"
    return charts.curves(curves, *labels, title, height=HEIGHT)


def convention_pane(table):
    """The convention of the exponents, and the region and window of the spectra."""
    text = table.attrs.get("comment", "")
    if "wavelength_km" in table.attrs:
        low, high = sorted(np.atleast_1d(table.attrs["wavelength_km"]))
        text = f"{CONVENTION.format(low=low, high=high)} Region and window: {text}."
    return pn.pane.HTML(escape(text), styles={"color": "#5b6b77"}, sizing_mode="stretch_width")
