"""Spectra: power at each scale, and how fast a forecast loses the fine ones."""

from html import escape

import numpy as np
import panel as pn

from dashboards.choice import TRUTH, LeadChoice, RunChoice, titled
from dashboards.layout import bare, cards, controls, notice
from seaice_lab.figures import charts
from seaice_lab.figures.curves import COLOURS

DAY = np.timedelta64(1, "D")
WAVENUMBERS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # labelled, cycles per km
WAVELENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # labelled, km
CONVENTION = (
    "Exponent of the power summed over directions at each wavenumber (ring sum): one more than "
    "that of the mean over directions. The fit spans {low:.0f} to {high:.0f} km."
)


def page(library, address):
    """Controls and main area of the page."""
    choice = RunChoice(
        library, address, lambda name: library.table(name, "spectra.nc"), "evaluated"
    )
    if not choice.usable:
        return controls(), notice(
            "No spectra yet", "Make them with `make demo`, or `seaice-lab evaluate RUN` for a run "
            "that has a forecast.",
        )  # fmt: skip
    lead = LeadChoice()
    main = pn.Column(sizing_mode="stretch_width")
    tables, settling = {}, [False]

    def read(_=None):
        found = choice.read()
        titles = titled(found)
        tables.clear()
        tables.update({titles[run]: table for run, table in found.items()})
        if not tables:
            main[:] = [choice.note, notice("Nothing chosen", "Choose runs on the left.")]
            return
        settling[0] = True
        lead.fit(next(iter(tables.values())).lead_time.values, address)
        settling[0] = False
        draw()

    def draw(_=None):
        if settling[0] or not tables:
            return
        address.put(runs=choice.runs.value, lead=lead.hours())
        drawn = (power(tables, lead.value), exponent(tables), ratio(tables, lead.value),
                 resolution(tables))  # fmt: skip
        main[:] = [choice.note, cards(map(bare, drawn), 460), remark_on(tables)]

    choice.runs.param.watch(read, "value")
    lead.widget.param.watch(draw, "value")
    read()
    return controls(choice.widgets[0], lead.widget), main


def palette(tables):
    """Black for the truth, a colour a run."""
    return dict(zip([TRUTH, *tables], COLOURS, strict=False))


def days(table):
    return table.lead_time.values / DAY


def lines(tables):
    """The truth of the first run and the forecast of each: (table of one source) by label."""
    first = next(iter(tables.values()))
    return {TRUTH: first.sel(source="truth")} | {
        name: table.sel(source="forecast") for name, table in tables.items()
    }


def power(tables, lead):
    """Power spectra at one lead time with their fitted power laws."""
    series = {}
    for name, table in lines(tables).items():
        one = table.sel(lead_time=lead, method="nearest")
        colour = palette(tables)[name]
        label = f"{name}: {float(one.slope):.2f}".replace("-", "\N{MINUS SIGN}")
        series[label] = charts.Curve(one.wavenumber.values, one.power.values, colour)
        if "intercept" in one and np.isfinite(one.intercept):
            k = 1 / np.array(table.attrs["wavelength_km"])
            power_law = np.exp(float(one.intercept)) * k ** float(one.slope)
            series[f"{name}, power law"] = charts.Curve(
                k, power_law, colour, dashed=True, listed=False
            )
    units = next(iter(tables.values())).power.attrs.get("units", "").replace("m2", "m²")
    drawn = charts.curves(
        series, "Wavenumber (cycles per km)", f"Power spectral density ({units})",
        f"Power, {lead / DAY:g} days ahead; numbers are exponents, dashed the fits",
        logarithmic="xy", height=340,
    )  # fmt: skip
    charts.label_ticks(drawn, WAVENUMBERS, [f"{value:g}" for value in WAVENUMBERS])
    return drawn


def exponent(tables):
    """The exponent against lead time; falling: the forecast smooths."""
    series = {}
    for name, table in lines(tables).items():
        band = ()
        if "slope_error" in table:
            band = (table.slope - 2 * table.slope_error, table.slope + 2 * table.slope_error)
        series[name] = charts.Curve(
            days(table), table.slope.values, palette(tables)[name],
            [end.values for end in band], dashed=name == TRUTH,
        )  # fmt: skip
    return charts.curves(
        series, "Lead time (days)", "Spectral exponent (1)",
        "Exponent, with two standard errors of the fit", height=340,
    )  # fmt: skip


def ratio(tables, lead):
    """Power of forecast and error over the truth's at one lead time."""
    series = {}
    for name, table in tables.items():
        one = table.power.sel(lead_time=lead, method="nearest")
        for source in ("forecast", "error"):
            label = name if source == "forecast" else f"{name}, error"
            share = one.sel(source=source) / one.sel(source="truth")
            of_error = source == "error"
            series[label] = charts.Curve(
                table.wavelength.values[::-1], share.values[::-1], palette(tables)[name],
                dashed=of_error, listed=not of_error,
            )  # fmt: skip
    drawn = charts.curves(
        series, "Wavelength (km)", "Ratio of power to the truth's (1)",
        "Power kept at each scale, and (dashed) power of the error",
        logarithmic="xy", height=340,
    )  # fmt: skip
    charts.horizontal_line(drawn, 0.5)
    charts.label_ticks(drawn, WAVELENGTHS, [f"{value:g}" for value in WAVELENGTHS])
    return drawn


def resolution(tables):
    """The wavelength under which a forecast holds less than half of the truth's power."""
    series = {
        name: charts.Curve(days(table), table.resolution.values, palette(tables)[name])
        for name, table in tables.items()
        if "resolution" in table
    }
    return charts.curves(
        series, "Lead time (days)", "Effective resolution (km)",
        "Scale below which less than half of the truth's power is left",
        height=340,
    )  # fmt: skip


def remark_on(tables):
    """Which convention and which part of the sea the numbers are of."""
    first = next(iter(tables.values()))
    text = first.attrs.get("comment", "")
    if "wavelength_km" in first.attrs:
        low, high = sorted(np.atleast_1d(first.attrs["wavelength_km"]))
        text = f"{CONVENTION.format(low=low, high=high)} Region and window: {text}."
    return pn.pane.HTML(escape(text), styles={"color": "#5b6b77"}, sizing_mode="stretch_width")
