"""Curves of spectra: power, exponents, power kept at each scale, effective resolution.

As in `seaice_lab.figures.curves`, each function returns one panel or several.
"""

import numpy as np

from seaice_lab.errors import InputError
from seaice_lab.figures.axes import LEAD_LABEL, lead_days, log_axis
from seaice_lab.figures.charts import DASHED, Curve, layout, line_style, overlay
from seaice_lab.names import typeset

WAVENUMBERS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # labelled, cycles per km
WAVELENGTHS = (10, 20, 50, 100, 200, 500, 1000, 2000)  # labelled, km

POWER_LAW = ", power law"  # end of the name of the fit of a spectrum


def plot_spectra(spectra, title="", with_exponents=True):
    """Power spectra on logarithmic axes, with the fitted power laws and their exponents.

    Parameters
    ----------
    spectra : dict of str to Dataset
        ``power`` (wavenumber) with ``slope`` and ``intercept``, as from
        `seaice_lab.diagnostics.spectra.spectral_exponent`, by label. The first one is black and
        should be the truth.
    title : str
    with_exponents : bool
        Write the exponents in the legend.

    Returns
    -------
    holoviews.Overlay

    Raises
    ------
    InputError
        If a spectrum has other dimensions than wavenumber.
    """
    series = {}
    for position, (label, spectrum) in enumerate(spectra.items()):
        power, style = spectrum.power, line_style(position, first=0)
        if power.dims != ("wavenumber",):
            raise InputError(
                f"the spectrum {label!r} has dimensions {power.dims}, expected only wavenumber; "
                "select a lead time or average over the others"
            )
        slope = float(spectrum.slope)
        exponent = f": exponent {slope:.2f}".replace("-", "\N{MINUS SIGN}")
        text = f"{label}{exponent if with_exponents else ''}"
        series[text] = Curve(power.wavenumber.values, power.values, **style)
        if "intercept" in spectrum and np.isfinite(spectrum.intercept):
            k = 1 / np.array(spectrum.attrs["wavelength_km"])
            law = np.exp(float(spectrum.intercept)) * k**slope
            thin = {"colour": style["colour"], "dash": (2, 3), "width": 1.2, "listed": False}
            series[f"{label}{POWER_LAW}"] = Curve(k, law, **thin)
    ticks = [(k, f"{k:g}\n{1 / k:g} km") for k in WAVENUMBERS]
    labels = (
        "Wavenumber (cycles per km), and wavelength",
        f"Power spectral density ({typeset(power.attrs.get('units', ''))})",
    )
    title = title or "Power; thin: power laws"
    return overlay(series, *labels, title, logx=True, logy=True, xticks=ticks)


def plot_exponent(spectra):
    """Spectral exponent against lead time; the curve of a forecast that smooths falls.

    Parameters
    ----------
    spectra : dict of str to Dataset
        ``slope`` (lead_time) and, for a band of two standard errors, ``slope_error``, by label. The
        first one is black and should be the truth.

    Returns
    -------
    holoviews.Overlay
    """
    series = {}
    for label, spectrum in spectra.items():
        slope, band = spectrum.slope.values, ()
        if "slope_error" in spectrum:
            error = 2 * spectrum.slope_error.values
            band = slope - error, slope + error
        series[label] = Curve(lead_days(spectrum), slope, band=band)
    has_errors = any(len(curve.band) for curve in series.values())
    title = "Exponent and two standard errors" if has_errors else "Exponent"
    return overlay(series, LEAD_LABEL, "Spectral exponent", title)


def plot_power_ratio(power):
    """Power of the forecast and of its error, divided by that of the truth, by wavelength.

    Parameters
    ----------
    power : dict of str to DataArray (source, wavenumber)
        With the sources "truth", "forecast" and "error" and the coordinate ``wavelength``, by
        label.

    Returns
    -------
    holoviews.Layout
        Left: the forecast, which crosses one half at its effective resolution. Right: the error;
        above one, the prediction of a wave is worse than no prediction.
    """
    panels = []
    titles = {
        "forecast": ("Power kept: forecast over truth", 0.5),
        "error": ("Error over truth", 1.0),
    }
    for source, (title, threshold) in titles.items():
        series = {}
        for label, values in power.items():
            ratio = values.sel(source=source) / values.sel(source="truth")
            style = line_style(len(series) + 1, first=0)  # as beside the truth
            series[label] = Curve(values.wavelength.values[::-1], ratio.values[::-1], **style)
        options = {"logx": True, "logy": True, "invert_xaxis": True}
        options["xticks"] = [(value, f"{value:g}") for value in WAVELENGTHS]
        options |= log_axis(np.concatenate([curve.y for curve in series.values()]), threshold)
        labels = "Wavelength (km)", "Ratio of power", title
        panels.append(overlay(series, *labels, {threshold: DASHED}, **options))
    return layout(*panels)


def plot_resolution(spectra):
    """The wavelength below which a forecast has less than half the truth's power, by lead time.

    Parameters
    ----------
    spectra : dict of str to Dataset
        ``resolution`` (lead_time) with the coordinate ``wavelength``, by label.

    Returns
    -------
    holoviews.Overlay
        A dashed line marks the smallest scale of the grid: a curve on it has lost nothing.
    """
    series = {
        label: Curve(lead_days(spectrum), spectrum.resolution.values, **line_style(k, first=0))
        for k, (label, spectrum) in enumerate(spectra.items(), 1)
    }
    smallest = min(float(spectrum.wavelength.min()) for spectrum in spectra.values())
    labels = LEAD_LABEL, "Effective resolution (km)"
    title = "Effective resolution; dashed: that of the grid"
    return overlay(series, *labels, title, {smallest: DASHED}, ylim=(0, None))
