"""Spectra: power at each scale, and how fast a forecast loses the fine scales."""

from html import escape

import numpy as np
import panel as pn

from dashboards import layout, readers, selection
from dashboards.readers import TRUTH
from dashboards.selection import DAY, days
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

WAVENUMBERS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # labelled, cycles per km
WAVELENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # labelled, km
CONVENTION = (
    "Exponent of the power summed over directions at each wavenumber (ring sum): one more than "
    "that of the mean over directions. The fit spans {low:.0f} to {high:.0f} km."
)
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
    (panel.Column, panel.Column)
    """
    runs = selection.RunSelection(state, library.names("evaluated"))
    if not runs.usable:
        return layout.empty_page("No spectra yet", HOW_TO_BEGIN)
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


def sources(tables):
    """Title, spectra and colour of the truth of the first run, and of each forecast."""
    truth = next(iter(tables.values())).sel(source="truth")
    spectra = [truth, *(table.sel(source="forecast") for table in tables.values())]
    return zip([TRUTH, *tables], spectra, COLOURS, strict=False)


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
    for title, spectra, colour in sources(tables):
        spectrum = spectra.sel(lead_time=lead, method="nearest")
        slope = float(spectrum.slope)
        label = f"{title}: {slope:.2f}".replace("-", "\N{MINUS SIGN}")
        curves[label] = charts.Curve(spectrum.wavenumber.values, spectrum.power.values, colour)
        if "intercept" in spectrum and np.isfinite(spectrum.intercept):
            k = 1 / np.array(spectra.attrs["wavelength_km"])
            law = np.exp(float(spectrum.intercept)) * k**slope
            style = {"dashed": True, "listed": False}
            curves[f"{title}, power law"] = charts.Curve(k, law, colour, **style)
    units = next(iter(tables.values())).power.attrs.get("units", "").replace("m2", "m²")
    labels = ("Wavenumber (cycles per km)", f"Power spectral density ({units})")
    title = f"Power, {lead / DAY:g} days ahead; legend: exponents, dashed: fitted power laws"
    figure = charts.curves(curves, *labels, title, logarithmic="xy", height=HEIGHT)
    charts.label_ticks(figure, WAVENUMBERS, [f"{value:g}" for value in WAVENUMBERS])
    return figure


def exponent(tables):
    """Figure of the spectral exponent against lead time. It falls if the forecast smooths."""
    curves = {}
    for title, spectra, colour in sources(tables):
        slope, band = spectra.slope.values, ()
        if "slope_error" in spectra:
            error = 2 * spectra.slope_error.values
            band = (slope - error, slope + error)
        curves[title] = charts.Curve(days(spectra), slope, colour, band, dashed=title == TRUTH)
    labels = ("Lead time (days)", "Spectral exponent (1)")
    title = "Exponent, with two standard errors of the fit"
    return charts.curves(curves, *labels, title, height=HEIGHT)


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
    for (title, table), colour in zip(tables.items(), COLOURS[1:], strict=False):
        spectra = table.power.sel(lead_time=lead, method="nearest")
        share = (spectra / spectra.sel(source="truth")).isel(wavenumber=slice(None, None, -1))
        x, style = table.wavelength.values[::-1], {"dashed": True, "listed": False}
        curves[title] = charts.Curve(x, share.sel(source="forecast").values, colour)
        error = share.sel(source="error").values
        curves[f"{title}, error"] = charts.Curve(x, error, colour, **style)
    labels = ("Wavelength (km)", "Power divided by that of the truth (1)")
    title = "Power kept at each scale, and (dashed) power of the error"
    figure = charts.curves(curves, *labels, title, logarithmic="xy", height=HEIGHT)
    charts.horizontal_line(figure, 0.5)
    charts.label_ticks(figure, WAVELENGTHS, [f"{value:g}" for value in WAVELENGTHS])
    return figure


def resolution(tables):
    """Figure of the wavelength below which a forecast has less than half the truth's power."""
    curves = {
        title: charts.Curve(days(table), table.resolution.values, colour)
        for (title, table), colour in zip(tables.items(), COLOURS[1:], strict=False)
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
