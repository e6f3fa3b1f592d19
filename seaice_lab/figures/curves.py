"""Static curves: scores against lead time, spectra and their exponents, training histories.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish. Each function
returns a matplotlib Figure, made by pyplot: close it with ``plt.close`` if you write many of them.
"""

import re

import matplotlib.pyplot as plt
import numpy as np

from seaice_lab.errors import InputError
from seaice_lab.figures.maps import styled

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.9",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
    "date.converter": "concise",
    "axes.prop_cycle": plt.cycler(color=COLOURS),
}


@styled(STYLE)
def plot_scores(table, against="persistence", label="Forecast"):
    """RMSE and bias of a forecast and reference forecasts, and the ratio of RMSEs, by lead time.

    Parameters
    ----------
    table : Dataset
        From `seaice_lab.surrogate.evaluation.evaluate`: scores by ``source`` and lead time. If it
        has bootstrap intervals over starts, they are drawn as bands.
    against : str
        Source whose RMSE divides the others in the third panel.
    label : str
        Name of the source "forecast" in the legend.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If the table lacks the source ``against``.
    """
    sources = [str(name) for name in table.source.values]
    if against not in sources:
        raise InputError(f"the scores have the sources {', '.join(sources)}, not {against!r}")
    days = _days(table)
    units = _typeset(table["rmse"].attrs["units"])
    fig, axes = plt.subplots(1, 3, figsize=(10.8, 3.4))
    # The axes are those of the forecast and its reference: a much worse one must not hide them.
    compared = table.sel(source=["forecast", against])
    largest_rmse = 1.6 * float(compared.rmse.max())
    largest_bias = max(1.5 * float(abs(compared.bias).max()), 0.1 * float(compared.rmse.max()))
    for source, colour in [*zip(sources, COLOURS[1:], strict=False)][::-1]:  # the forecast on top
        row = table.sel(source=source)
        name = label if source == "forecast" else source.replace("_", " ").capitalize()
        if float(row.rmse.min()) > largest_rmse:
            name += " (beyond the axes)"
        style = {"color": colour, "lw": 2.2 if source == "forecast" else 1.4}
        for ax, score in zip(axes, ("rmse", "bias"), strict=False):
            ax.plot(days, row[score], label=name, **style)
            if f"{score}_low" in row:
                low, high = row[f"{score}_low"], row[f"{score}_high"]
                ax.fill_between(days, low, high, color=colour, alpha=0.15, linewidth=0)
        axes[2].plot(days, row.rmse / table.rmse.sel(source=against), **style)
    axes[0].set(title="Root-mean-square error", ylabel=f"RMSE ({units})", ylim=(0, largest_rmse))
    axes[1].set(title="Mean error", ylabel=f"Bias ({units})", ylim=(-largest_bias, largest_bias))
    _grey_line(axes[1], 0)
    axes[2].set(title=_ratio_title(against), ylabel="Ratio (1)", ylim=(0, 1.6))
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(sources))
    for ax in axes:
        ax.set(xlabel="Lead time (days)", xlim=(days.min(), days.max()))
    return fig


@styled(STYLE)
def plot_runs(results, against="persistence"):
    """Error, bias and loss of detail of several runs, by lead time.

    Parameters
    ----------
    results : dict of str to (Dataset, Dataset)
        Scores and spectra of each run, from `seaice_lab.surrogate.evaluation.read_evaluation`.
    against : str
        Source whose RMSE divides that of the forecasts.

    Returns
    -------
    Figure
        RMSE divided by that of the reference, bias, and the exponent of the forecast's spectrum
        minus that of the truth (negative for a forecast that smooths).
    """
    fig, axes = plt.subplots(1, 3, figsize=(11.4, 4.0))
    for ax, value in zip(axes, (1, 0, 0), strict=True):
        ax.set_prop_cycle(color=plt.get_cmap("tab20" if len(results) > 10 else "tab10").colors)
        _grey_line(ax, value)
        ax.set_xlabel("Lead time (days)")
        ax.margins(x=0)
    for name, (table, spectrum) in results.items():
        days = _days(table)
        forecast = table.sel(source="forecast")
        lost = spectrum.slope.sel(source="forecast") - spectrum.slope.sel(source="truth")
        axes[0].plot(days, forecast.rmse / table.rmse.sel(source=against), label=name)
        axes[1].plot(days, forecast.bias)
        axes[2].plot(days, lost)
    units = _typeset(table["rmse"].attrs["units"])
    axes[0].set(title=_ratio_title(against), ylabel="Ratio (1)")
    axes[1].set(title="Mean error", ylabel=f"Bias ({units})")
    axes[2].set(title="Exponent minus the truth's", ylabel="Difference (1)")
    fig.legend(loc="outside lower center", ncols=min(len(results), 5))
    return fig


@styled(STYLE)
def plot_season(volume, extent):
    """Volume and extent of the ice through the year.

    Parameters
    ----------
    volume, extent : dict of str to DataArray (valid_time)
        m3 and m2, under the same labels. The first one is black and should be the truth.

    Returns
    -------
    Figure
    """
    fig, axes = plt.subplots(2, 1, figsize=(7.2, 5.6), sharex=True)
    labels = ("Volume (10³ km³)", "Extent (10⁶ km²)")
    for ax, curves, label in zip(axes, (volume, extent), labels, strict=True):
        for name, curve in curves.items():
            ax.plot(curve["valid_time"], curve / 1e12, label=name)
        ax.set(ylabel=label, ylim=(0, None))
        ax.margins(x=0)
    axes[0].legend()
    return fig


@styled(STYLE)
def plot_spectra(spectra, fits):
    """Power spectra on logarithmic axes, with the fitted power laws and their exponents.

    Parameters
    ----------
    spectra : dict of str to DataArray (wavenumber)
        From `seaice_lab.diagnostics.spectra.power_spectrum`, of one field or a mean. The first one
        is black and should be the truth.
    fits : dict of str to Dataset
        From `seaice_lab.diagnostics.spectra.spectral_exponent`, under the same labels.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If a spectrum has other dimensions than wavenumber.
    """
    fig, ax = plt.subplots(figsize=(6.4, 4.6))
    for (label, spectrum), colour in zip(spectra.items(), COLOURS, strict=False):
        if spectrum.dims != ("wavenumber",):
            raise InputError(
                f"the spectrum {label!r} has dimensions {spectrum.dims}, expected only wavenumber; "
                "select a lead time or average over the others"
            )
        slope, intercept = fits[label]["slope"].item(), fits[label]["intercept"].item()
        text = f"{label}: exponent {slope:.2f}".replace("-", "\N{MINUS SIGN}")
        ax.loglog(spectrum["wavenumber"], spectrum, color=colour, label=text)
        k = 1 / np.array(fits[label].attrs["wavelength_km"])
        ax.loglog(k, np.exp(intercept) * k**slope, color=colour, linestyle="--", linewidth=1.2)
    top = ax.secondary_xaxis("top", functions=(_inverse, _inverse))
    top.set_xlabel("Wavelength (km)")
    top.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("Wavenumber (cycles per km)")
    ax.set_ylabel(f"Power spectral density ({_typeset(spectrum.attrs['units'])})")
    ax.legend(loc="lower left", title="dashed: fitted power law", alignment="left")
    return fig


@styled(STYLE)
def plot_exponent(exponents):
    """Spectral exponent against lead time; the curve of a forecast that smooths falls.

    Parameters
    ----------
    exponents : dict of str to DataArray (lead_time)
        Slopes from `seaice_lab.diagnostics.spectra.spectral_exponent`. The first one is black and
        should be the truth.

    Returns
    -------
    Figure
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.4))
    for label, exponent in exponents.items():
        ax.plot(_days(exponent), exponent, label=label)
    ax.set(xlabel="Lead time (days)", ylabel="Spectral exponent (1)\npower summed over directions")
    ax.margins(x=0)
    ax.legend()
    return fig


@styled(STYLE)
def plot_power_ratio(spectrum, leads=4):
    """Power of the forecast and of its error, divided by that of the truth, by wavelength.

    Parameters
    ----------
    spectrum : Dataset
        From `seaice_lab.surrogate.evaluation.evaluate`.
    leads : int
        Number of lead times, from the first to the last.

    Returns
    -------
    Figure
        Left: the forecast, which crosses one half at its effective resolution. Right: the error;
        above one, the prediction of a wave is worse than no prediction.
    """
    steps = np.unique(np.linspace(0, spectrum.sizes["lead_time"] - 1, leads).round().astype(int))
    days = _days(spectrum)
    shades = plt.get_cmap("cmo.dense")(np.linspace(0.25, 0.9, len(steps)))
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), sharey=True)
    truth = spectrum.power.sel(source="truth")
    for ax, source, threshold in zip(axes, ("forecast", "error"), (0.5, 1), strict=True):
        for step, shade in zip(steps, shades, strict=True):
            ratio = (spectrum.power.sel(source=source) / truth).isel(lead_time=step)
            ax.loglog(ratio.wavelength, ratio, color=shade, label=f"{days[step]:g} days")
        ax.axhline(threshold, color="0.4", linewidth=1, linestyle="--")
        ax.set(xlabel="Wavelength (km)", title=f"{source.capitalize()} over truth")
        ax.invert_xaxis()
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0].set_ylabel("Ratio of power (1)")
    axes[0].legend(title="Lead time")
    return fig


@styled(STYLE)
def plot_history(history):
    """Training and validation loss, and the learning rate, against the epoch.

    Parameters
    ----------
    history : pandas.DataFrame
        With columns ``epoch``, ``train_loss``, ``validation_loss`` and ``learning_rate``, as in
        ``history.csv`` of a run.

    Returns
    -------
    Figure
    """
    fig, (losses, rate) = plt.subplots(2, 1, figsize=(6.4, 4.4), height_ratios=(3, 1), sharex=True)
    epoch, validation = history["epoch"], history["validation_loss"]
    best = validation.idxmin()
    lowest = f"Lowest validation loss: {validation[best]:.3g}, epoch {epoch[best]}"
    losses.semilogy(epoch, history["train_loss"], color=COLOURS[1], label="Training")
    losses.semilogy(epoch, validation, color=COLOURS[2], label="Validation")
    losses.plot(epoch[best], validation[best], "o", color=COLOURS[2], label=lowest)
    losses.set_ylabel("Loss (normalised units)")
    losses.legend()
    rate.semilogy(epoch, history["learning_rate"], color=COLOURS[0])
    rate.set(xlabel="Epoch", ylabel="Learning\nrate")
    rate.margins(x=0.02)
    return fig


def _ratio_title(against):
    return f"RMSE over that of {against.replace('_', ' ')}"


def _grey_line(ax, value):
    ax.axhline(value, color="0.5", linewidth=0.8, zorder=1)


def _days(table):
    return table["lead_time"].values / np.timedelta64(1, "D")


def _inverse(value):
    with np.errstate(divide="ignore"):
        return 1 / np.asarray(value, dtype=float)


def _typeset(units):
    """CF units with superscripts in matplotlib's notation, such as m^2 km for ``m2 km``."""
    return re.sub(r"(?<=[A-Za-z)])(-?\d+)", r"$^{\1}$", units)
