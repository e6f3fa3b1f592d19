"""Curves: described once, drawn alike by Bokeh and by matplotlib."""

import json
import os
import subprocess
import sys

import holoviews as hv
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from bokeh.models import DatetimeAxis, HoverTool, Legend, LogScale
from matplotlib.colors import to_hex

from seaice_lab import progress
from seaice_lab.diagnostics import comparison, score_tables
from seaice_lab.diagnostics import spectra as power_spectra
from seaice_lab.errors import InputError
from seaice_lab.figures import charts, curves, emissivity, ensembles, scaling, spectra

LEADS = (np.arange(1, 6) * 12).astype("timedelta64[h]").astype("timedelta64[ns]")
MINUS = "\N{MINUS SIGN}"


def by_both(panels):
    """Lines by name, texts and axes of a panel or of panels, from Bokeh and from matplotlib."""
    listed = list(panels) if isinstance(panels, hv.Layout) else [panels]
    figures = [charts.bokeh_figure(panel) for panel in listed]
    lines, texts = [], []
    for figure in figures:
        lines.append({})
        for renderer in figure.renderers:
            data = renderer.data_source.data
            if renderer.glyph.__class__.__name__ in ("Line", "Scatter"):
                lines[-1].setdefault(renderer.name, np.array([data["x"], data["y"]], float))
        texts += [figure.title.text, *(axis.axis_label for axis in figure.axis)]
        texts += [item.label.value for legend in figure.select(Legend) for item in legend.items]
    picture = charts.picture(panels)
    drawn = [
        {str(line.get_label()): np.array(line.get_data(), float) for line in axes.lines}
        for axes in picture.axes
    ]
    written = " ".join(
        item.get_text() for item in picture.findobj(lambda a: hasattr(a, "get_text"))
    )
    return figures, lines, " ".join(map(str, texts)), picture, drawn, written


@pytest.fixture(scope="module")
def table():
    """Scores of a forecast and of two references, of which one is much worse."""
    rng = np.random.default_rng(0)
    truth = xr.DataArray(
        rng.random((8, 5, 4, 4)),
        dims=("init_time", "lead_time", "y", "x"),
        coords={"init_time": pd.date_range("2010-01-01", periods=8, freq="5D"), "lead_time": LEADS},
        attrs={"units": "m"},
    )
    ocean = xr.DataArray(np.ones((4, 4), bool), dims=("y", "x"))
    size = xr.DataArray(np.linspace(0.9, 1.1, 8), dims="init_time")
    errors = {"forecast": 0.1, "climatology": 30.0, "persistence": 0.2}
    both = [score_tables.scores_by_start(truth + e * size, truth, ocean) for e in errors.values()]
    return comparison.pool_scores(xr.concat(both, xr.Variable("source", list(errors))))


def test_scores_are_drawn_alike_by_both_libraries_with_days_units_and_bands(table):
    panels = curves.plot_scores(table, label="Surrogate")
    figures, lines, texts, picture, drawn, written = by_both(panels)
    for text in (texts, written):
        for word in ("RMSE (m)", "Bias (m)", "Lead time (days)", "Surrogate", "Persistence",
                     "Climatology (off scale)", "RMSE over that of persistence"):  # fmt: skip
            assert word in text, word
    expected = [[0.5, 1, 1.5, 2, 2.5], table.rmse.sel(source="forecast")]
    np.testing.assert_allclose(lines[0]["Surrogate"], expected)
    np.testing.assert_allclose(drawn[0]["Surrogate"], expected)
    np.testing.assert_allclose(lines[2]["Surrogate"][1], 0.5)
    # The much worse source does not hide the others, and the limits are the same.
    assert figures[0].y_range.end < 0.5 and figures[0].y_range.start == 0
    assert picture.axes[0].get_ylim() == pytest.approx((0, figures[0].y_range.end))
    assert figures[1].y_range.start < 0 < figures[1].y_range.end
    areas = [r for r in figures[0].renderers if r.glyph.__class__.__name__ == "Patch"]
    assert len(areas) == 3 and len(picture.axes[0].collections) == 3
    # A band has the colour of its curve in both libraries.
    line = next(r for r in figures[0].renderers if r.glyph.__class__.__name__ == "Line")
    (colour,) = {to_hex(area.get_facecolor()[0]) for area in picture.axes[0].collections[:1]}
    assert colour == line.glyph.line_color.lower() == areas[0].glyph.fill_color.lower()
    with pytest.raises(InputError, match="sources forecast, climatology, persistence, not 'x'"):
        curves.plot_scores(table, against="x")


def test_curves_differ_by_dash_as_well_as_colour_and_a_click_hides_them(table):
    sources = {str(name): table.sel(source=name) for name in table.source.values}
    figure = charts.bokeh_figure(curves.plot_score(sources, "bias"))
    styles = [
        (r.glyph.line_color, tuple(r.glyph.line_dash))
        for r in figure.renderers
        if r.glyph.__class__.__name__ == "Line"
    ]
    colours, dashes = zip(*styles, strict=True)
    assert len(set(colours)) == len(set(dashes)) == 3
    (legend,) = figure.select(Legend)
    assert legend.click_policy == "hide"
    assert [item.label.value for item in legend.items] == list(sources)
    assert all(len(item.renderers) == 2 for item in legend.items)  # the curve and its band
    assert len([tool for tool in figure.tools if isinstance(tool, HoverTool)]) == 1


def test_runs_are_compared_by_skill_bias_and_exponent(table):
    slope = xr.DataArray(np.array([[-1.0] * 5, [-2.0] * 5]), dims=("source", "lead_time"))
    spectrum = xr.Dataset({"slope": slope}, {"source": ["truth", "forecast"], "lead_time": LEADS})
    panels = curves.plot_runs({"a": (table, spectrum), "b": (table, spectrum)})
    _, lines, texts, *_ = by_both(panels)
    np.testing.assert_allclose(lines[0]["a"][1], 0.5)
    np.testing.assert_allclose(lines[2]["b"][1], -1)
    assert "Skill against persistence" in texts


def test_spectra_have_the_fitted_exponent_in_the_legend_and_wavelengths_at_the_axis():
    k = np.arange(1, 33) / 1000
    power = xr.DataArray(
        k**-2.25,
        dims="wavenumber",
        attrs={"units": "m2 km"},
        coords={"wavenumber": k, "wavelength": ("wavenumber", 1 / k)},
    )
    fit = power_spectra.spectral_exponent(power).assign(power=power)
    (figure,), (lines,), texts, picture, (drawn,), written = by_both(
        spectra.plot_spectra({"Truth": fit})
    )
    assert f"Truth: exponent {MINUS}2.25" in lines and f"Truth: exponent {MINUS}2.25" in drawn
    for text in (texts, written):
        assert "Power spectral density (m² km)" in text and "wavelength" in text
    assert "0.002\n500 km" in written
    assert isinstance(figure.x_scale, LogScale) and isinstance(figure.y_scale, LogScale)
    assert picture.axes[0].get_xscale() == picture.axes[0].get_yscale() == "log"
    x, y = lines["Truth, power law"]
    np.testing.assert_allclose(y, x**-2.25)
    with pytest.raises(InputError, match="expected only wavenumber"):
        spectra.plot_spectra({"Truth": fit.expand_dims("lead_time")})


def test_exponents_power_ratios_and_resolution_are_drawn_for_every_source():
    slope = xr.DataArray(np.linspace(-1, -2, 5), dims="lead_time", coords={"lead_time": LEADS})
    sources = {"Truth": (slope * 0 - 1).to_dataset(name="slope")}
    sources["Forecast"] = xr.Dataset({"slope": slope, "slope_error": slope * 0 + 0.1})
    (figure,), (lines,), *_ = by_both(spectra.plot_exponent(sources))
    np.testing.assert_allclose(lines["Forecast"][1], slope)
    assert figure.renderers[0].glyph.__class__.__name__ == "Patch"
    power = xr.DataArray(
        [[1.0, 1.0], [0.8, 0.2], [0.1, 1.5]],
        {"source": ["truth", "forecast", "error"], "wavelength": ("wavenumber", [100.0, 50.0])},
        ("source", "wavenumber"),
    )
    figures, lines, *_ = by_both(spectra.plot_power_ratio({"2 days": power}))
    np.testing.assert_allclose(lines[0]["2 days"], [[50, 100], [0.2, 0.8]])
    np.testing.assert_allclose(lines[1]["2 days"], [[50, 100], [1.5, 0.1]])
    # Not only whole decades of the logarithmic axis have a number.
    assert figures[0].yaxis[0].ticker.ticks == [0.2, 0.5]
    known = xr.Dataset({"resolution": slope * -60}, {"wavelength": ("wavenumber", [100.0, 50.0])})
    _, (lines,), *_ = by_both(spectra.plot_resolution({"a": known}))
    np.testing.assert_allclose(lines["a"][1], slope * -60)


def test_the_history_shows_both_losses_the_kept_epoch_and_the_learning_rate():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [1, 0.5, 0.3],
            "validation_loss": [1.1, 0.6, 0.7],
            "learning_rate": [1e-3, 1e-3, 1e-4],
        }
    )
    _, lines, texts, *_ = by_both(curves.plot_history(history))
    assert lines[0]["Training"].tolist() == [[1, 2, 3], [1, 0.5, 0.3]]
    assert lines[0]["Validation"][1].tolist() == [1.1, 0.6, 0.7]
    assert "Lowest: 0.6 in epoch 2" in texts
    assert lines[1]["Learning rate"][1].tolist() == [1e-3, 1e-3, 1e-4]
    # A constant learning rate has a tick too.
    _, lines, _, picture, *_ = by_both(curves.plot_history(history.iloc[:1] * 1.3))
    assert [label.get_text() for label in picture.axes[1].get_yticklabels()] == ["0.0013"]


def test_a_season_has_dates():
    time = pd.date_range("2020-01-01", periods=5, freq="30D")
    season = xr.DataArray(np.arange(5.0), dims="valid_time", coords={"valid_time": time})
    panel = curves.plot_season({"Truth": season, "a": season + 1}, "volume")
    (figure,), (lines,), _, picture, *_ = by_both(panel)
    assert isinstance(figure.xaxis[0], DatetimeAxis) and figure.yaxis[0].axis_label
    np.testing.assert_array_equal(lines["a"][1], np.arange(5) + 1)
    assert figure.renderers[-1].name == "a"  # not hidden below the truth
    assert figure.y_range.start == 0 and figure.y_range.end > 5  # zero is one of the values
    # A small change of a large volume is visible, but not as large as the figure.
    (figure,), *_ = by_both(curves.plot_season({"a": 8 + season / 1000}, "volume"))
    assert 7.8 < figure.y_range.start < 8 < 8.05 < figure.y_range.end < 8.2
    # A climatology far away does not make the others flat.
    panel = curves.plot_season({"Climatology": season + 20, "a": 8 + season / 1000}, "volume")
    (figure,), (lines,), *_ = by_both(panel)
    assert 8.05 < figure.y_range.end < 8.3 and "Climatology" in lines
    assert figure.title.text == "Ice volume; climatology off scale"
    panel = curves.plot_season({"Climatology": 8.1 + 0 * season, "a": 8 + season / 1000}, "volume")
    (figure,), (lines,), *_ = by_both(panel)
    assert 8.1 < figure.y_range.end < 8.2 and "Climatology" in lines
    assert figure.title.text == "Ice volume"
    (figure,), *_ = by_both(curves.plot_season({"a": season + 0.1}, "extent"))
    assert figure.y_range.start == 0
    (figure,), *_ = by_both(curves.plot_season({"a": -season - 1}, "volume_error"))
    assert figure.y_range.start < -5 and figure.y_range.end >= 0
    picture.canvas.draw()
    labels = [label.get_text() for label in picture.axes[0].get_xticklabels()]
    assert max(map(len, labels)) <= 4 and "Feb" in labels


@pytest.mark.parametrize("level, is_far", [(0.27, True), (0.05, False), (-0.2, True)])
def test_random_phases_far_away_do_not_squeeze_the_other_curves(level, is_far):
    def table(values):
        coords = {"lead_time": LEADS}
        return xr.Dataset({"tail_weight": ("lead_time", values)}, coords)

    forecast = np.linspace(0.02, 0.04, 5)
    sources = {"Truth": table(forecast + 0.002), "a": table(forecast)}
    sources["Random phases"] = table(np.full(5, level))
    (figure,), (lines,), texts, picture, *_ = by_both(
        scaling.plot_statistic(sources, "tail_weight")
    )
    name = "Random phases (off scale)" if is_far else "Random phases"
    assert name in texts
    low, high = picture.axes[0].get_ylim()
    assert low < 0.02 and high > 0.042 and (low < level < high) != is_far
    if is_far:
        assert (figure.y_range.start, figure.y_range.end) == pytest.approx((0.0178, 0.0442))


def test_categories_far_away_do_not_squeeze_the_others():
    values = {"a": np.array([1.0, 2.0]), "b": np.array([1.5, 100.0])}
    colours = {"a": "#0072B2", "b": "#D55E00"}
    arguments = ["north", "Bellingshausen and Amundsen Seas"], "RMSE (m)", "By region", colours
    (figure,), (lines,), texts, picture, *_ = by_both(
        curves.plot_categories(values, *arguments, compared=["a"])
    )
    assert figure.x_range.end < 3 and "b (partly off scale)" in texts
    assert figure.y_range.start > figure.y_range.end  # the first category is at the top
    labels = [label.get_text() for label in picture.axes[0].get_yticklabels()]
    assert labels == ["north", "Bellingshausen and\nAmundsen Seas"]  # short rows, for a phone
    assert picture.axes[0].yaxis_inverted()


def test_an_ensemble_is_drawn_with_the_spread_that_its_error_demands(table):
    forecast = table.sel(source="forecast")
    ranks = xr.DataArray(np.full((4, 5), 0.25), {"lead_time": LEADS}, ("rank", "lead_time"))
    forecast = forecast.assign(spread=forecast.rmse, rank_histogram=ranks)
    _, lines, texts, *_ = by_both(curves.plot_ensemble(forecast, "ens", LEADS[2]))
    ratio = lines[0]["Spread of a reliable ensemble"][1] / lines[0]["Spread"][1]
    np.testing.assert_allclose(ratio, (3 / 4) ** 0.5)  # the variance of the error is 4/3 of it
    assert lines[1]["ens"][1].max() == 0.25 and "ens: ranks, 1.5 days ahead" in texts


def test_emissivities_departures_and_costs_tell_apart_what_differs():
    frequency = (np.array([10.0, 40.0, 90.0]), np.array([10.0, 40.0]))
    values = (np.array([[0.9, 0.8, 0.7]]), np.array([[0.8, 0.7]]))
    figures, lines, texts, *_ = by_both(emissivity.plot_emissivity({"here": values}, frequency))
    np.testing.assert_array_equal(lines[0]["here"][1], values[0][0])
    np.testing.assert_array_equal(lines[1]["here"][0], frequency[1])
    assert "Vertical polarisation" in texts and "Horizontal polarisation" in texts
    # V and H of the same type of ice have a panel each.
    assert not np.allclose(lines[0]["first-year ice"][1], lines[1]["first-year ice"][1])
    scores = xr.DataArray(
        [[[100.0, 50.0, np.nan]], [[0.1, 0.2, np.nan]]],
        {"stage": ["before", "after"], "sensor": ["amsr2"], "channel": ["10v", "10h", "166v"]},
        ("stage", "sensor", "channel"),
    )
    table = xr.Dataset({"bias": scores, "std": scores})
    figures, lines, *_ = by_both(emissivity.plot_departures(table, "amsr2"))
    assert [figure.title.text for figure in figures] == [
        f"{name} {stage} training"
        for name in ("Mean departure", "Standard deviation")
        for stage in ("before", "after")
    ]
    assert figures[0].x_range.end > 100 and figures[1].x_range.end < 0.3
    stages = ["start 1"] * 2 + ["network 2"] * 2 + ["state"]
    history = pd.DataFrame({"stage": stages, "cost": [100, 9, 90, 8, 1.5]})
    _, (lines,), *_ = by_both(emissivity.plot_cost(history))
    assert list(lines)[::-1] == ["first network 1", "best network 2", "all cells"]
    assert lines["best network 2"].tolist() == [[3, 4], [90, 8]]


def test_a_notebook_shows_pictures_only_where_no_script_runs(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    monkeypatch.setenv(progress.BATCH, "1")
    panel = charts.overlay({"a": charts.Curve([1, 2], [3, 4])}, "x", "y")
    charts.show(panel)
    assert shown[0].data.startswith(b"\x89PNG")


def test_importing_the_figures_does_not_load_holoviews():
    code = (
        "import sys, json; from seaice_lab.figures import curves, emissivity, spectra; "
        "print(json.dumps([name for name in ('holoviews', 'hvplot', 'bokeh') "
        "if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ)
    assert json.loads(done.stdout) == [], done.stderr


def test_reliability_is_drawn_with_the_diagonal_and_without_rare_probabilities():
    coords = {"probability": [0.0, 0.5, 1.0]}
    observed = xr.DataArray([0.1, 0.4, 0.9], coords, ("probability",))
    share = observed.copy(data=[0.6, 0.0005, 0.3995])
    table = xr.Dataset({"observed": observed, "share": share})
    bins = xr.Dataset({"spread": ("bin", [0.1, 0.3]), "rmse": ("bin", [0.2, 0.4])})
    _, lines, texts, *_ = by_both(ensembles.plot_reliability({"above 1 m": table}, {"ens": bins}))
    np.testing.assert_array_equal(lines[0]["above 1 m"], [[0, 1], [0.1, 0.9]])
    np.testing.assert_array_equal(lines[0]["Reliable"], [[0, 1], [0, 1]])
    np.testing.assert_array_equal(lines[1]["Reliable"], [[0, 0.4], [0, 0.4]])
    assert "Observed frequency" in texts and "Predicted spread (m)" in texts
