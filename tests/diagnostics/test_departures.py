"""Departures: ratios of errors and of the cost for errors that are known."""

import numpy as np
import pytest
import xarray as xr

from seaice_lab.diagnostics.departures import cost_ratio, departure_statistics, report


def departures(count=20_000, sigma=0.3, background=0.4, assumed=1.0, seed=0):
    """Scalar analyses x_a = x_b + K (y - x_b) of a truth of 0 with the given errors."""
    rng = np.random.default_rng(seed)
    observed, first = sigma * rng.standard_normal(count), background * rng.standard_normal(count)
    weight = background**2 / (background**2 + sigma**2)
    analysis = first + weight * (observed - first)
    row = "observation"
    return xr.Dataset(
        {
            "value": (row, observed),
            "sigma": (row, np.full(count, assumed * sigma)),
            "background_sigma": (row, np.full(count, background)),
            "kind": (row, np.where(np.arange(count) < count // 2, "sit", "sic")),
            "lead_h": (row, np.tile([12.0, 24.0, 30.0, 48.0], count // 4)),
            "equivalent": (("state", row), [first, analysis]),
        },
        {
            "latitude": (row, np.full(count, 85.0)),
            "longitude": (row, np.zeros(count)),
            "state": ["background", "analysis"],
        },
    )


def test_ratios_of_errors_are_one_for_correct_errors_and_show_wrong_ones():
    statistics = departure_statistics(departures())
    kind = statistics.isel(group=np.flatnonzero(statistics.by == "kind"))
    assert list(kind.group) == ["sic", "sit"] and list(kind["count"]) == [10_000] * 2
    for name in ("innovation", "sigma", "background"):
        np.testing.assert_allclose(kind[f"{name}_ratio"], 1, atol=0.05)
    rms = np.sqrt(0.3**2 + 0.4**2)
    np.testing.assert_allclose(kind.rms.sel(state="background"), rms, rtol=0.03)
    np.testing.assert_allclose(kind.rms.sel(state="analysis"), 0.3**2 / rms, rtol=0.03)
    wrong = departure_statistics(departures(assumed=2.0))
    np.testing.assert_allclose(wrong.sigma_ratio[wrong.by == "kind"], 0.25, atol=0.02)


def test_groups_are_kinds_regions_and_days_of_the_window():
    statistics = departure_statistics(departures(count=80))
    groups = dict(zip(statistics.group.values, statistics["count"].values, strict=True))
    assert groups["sit, central Arctic"] == groups["sit"] == 40
    assert groups["sit, day 1"] == groups["sit, day 2"] == 20
    assert not [name for name in groups if "Weddell" in name]


def test_the_interval_of_the_cost_holds_95_percent_of_consistent_minima():
    count = 50
    rng = np.random.default_rng(0)
    cost = xr.DataArray((rng.standard_normal((4000, count)) ** 2).sum(1) / 2, dims="window")
    result = cost_ratio(cost, xr.full_like(cost, count, int))
    assert float(result.cost_ratio.mean()) == pytest.approx(1, abs=0.02)
    within = (result.low < result.cost_ratio) & (result.cost_ratio < result.high)
    assert float(within.mean()) == pytest.approx(0.95, abs=0.01)
    assert np.isnan(cost_ratio(cost[:1], xr.DataArray([0], dims="window")).cost_ratio)


def test_the_report_has_a_line_for_each_window_and_kind():
    statistics = departure_statistics(departures(count=80))
    time = np.array(["2010-01-01", "2010-01-11"], "M8[ns]")
    windows = xr.Dataset({"used": ("window", [80, 0])}, {"window": time})
    cost = xr.DataArray([40.0, np.nan], dims="window")
    text = report(windows.merge(cost_ratio(cost, windows.used)).merge(statistics))
    assert "2010-01-01T00:00" in text and "2010-01-11" not in text
    assert "1.000   0.7" in text and text.count("\nsi") == 2
    assert report(windows) == "no observations were used"
