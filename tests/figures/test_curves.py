"""Curves: units on every axis, and the fitted numbers in the legend."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from seaice_lab.diagnostics import score_tables, spectra
from seaice_lab.errors import InputError
from seaice_lab.figures import curves

LEADS = (np.arange(1, 6) * 12).astype("timedelta64[h]").astype("timedelta64[ns]")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return " ".join(item.get_text() for item in figure.findobj(plt.Text))


def test_scores_are_drawn_against_lead_time_in_days_with_units():
    rng = np.random.default_rng(0)
    init = pd.date_range("2010-01-01", periods=3)
    truth = xr.DataArray(
        rng.random((3, 5, 4, 4)),
        dims=("init_time", "lead_time", "y", "x"),
        coords={"init_time": init, "lead_time": LEADS},
        attrs={"units": "m"},
    )
    ocean = xr.DataArray(np.ones((4, 4), bool), dims=("y", "x"))
    both = [score_tables.scores_by_start(truth + error, truth, ocean) for error in (0.1, 0.2)]
    sources = xr.Variable("source", ["forecast", "persistence"])
    table = score_tables.pool_starts(xr.concat(both, sources))
    figure = curves.plot_scores(table, label="Surrogate")
    lines = [line for ax in figure.axes for line in ax.lines if len(line.get_xdata()) == 5]
    drawn = [np.asarray(line.get_ydata(), float) for line in lines]
    for expected in (0.1, 0.2, 0.5):
        assert any(np.allclose(values, expected) for values in drawn), expected
    np.testing.assert_allclose(lines[0].get_xdata(), [0.5, 1, 1.5, 2, 2.5])
    with pytest.raises(InputError, match="sources forecast, persistence, not 'climatology'"):
        curves.plot_scores(table, against="climatology")
    assert "days" in texts(figure)
    assert "(m)" in texts(figure)
    assert "Surrogate" in texts(figure)


def test_spectra_have_the_fitted_exponent_in_the_legend():
    k = np.arange(1, 33) / 1000
    spectrum = xr.DataArray(
        k**-2.25,
        dims="wavenumber",
        attrs={"units": "m2 km"},
        coords={"wavenumber": k, "wavelength": ("wavenumber", 1 / k)},
    )
    fit = spectra.spectral_exponent(spectrum)
    figure = curves.plot_spectra({"Truth": spectrum}, {"Truth": fit})
    assert "\N{MINUS SIGN}2.25" in texts(figure)
    assert "Wavelength (km)" in texts(figure)
    ax = figure.axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"][0]
    np.testing.assert_allclose(dashed.get_ydata(), np.asarray(dashed.get_xdata()) ** -2.25)


def test_the_exponent_is_drawn_for_every_source():
    slope = xr.DataArray(np.linspace(-1, -2, 5), dims="lead_time", coords={"lead_time": LEADS})
    figure = curves.plot_exponent({"Truth": slope * 0 - 1, "Forecast": slope})
    np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), slope)
    assert "Lead time (days)" in texts(figure)


def test_the_history_shows_both_losses_and_the_learning_rate():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [1, 0.5, 0.3],
            "validation_loss": [1.1, 0.7, 0.6],
            "learning_rate": [1e-3, 1e-3, 1e-4],
        }
    )
    figure = curves.plot_history(history)
    drawn = [list(line.get_ydata()) for ax in figure.axes for line in ax.lines]
    assert [1, 0.5, 0.3] in drawn
    assert [1.1, 0.7, 0.6] in drawn
    assert [1e-3, 1e-3, 1e-4] in drawn
