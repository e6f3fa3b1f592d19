"""Runs are compared on the starts that they share, and a skill knows its significance."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from seaice_lab.diagnostics import comparison, ensembles, score_tables
from seaice_lab.diagnostics.score_tables import table_leads

STARTS, LEADS = 24, 3


def evaluation(size, starts=slice(None), units="m"):
    """Scores of a forecast whose error is ``size`` and of persistence, on some of the starts."""
    weather = np.random.default_rng(0).uniform(0.5, 1.5, (STARTS, LEADS, 1, 1))
    truth = xr.DataArray(
        np.ones((STARTS, LEADS, 3, 3)),
        {
            "init_time": pd.date_range("2020-01-01", periods=STARTS, freq="4D"),
            "lead_time": pd.timedelta_range("12h", periods=LEADS, freq="12h"),
        },
        ("init_time", "lead_time", "y", "x"),
        attrs={"units": units},
    ).isel(init_time=starts)
    ocean = xr.DataArray(np.ones((3, 3), bool), dims=("y", "x"))
    weather = weather[starts]
    fields = [truth + size * weather, truth + weather]
    source = xr.Variable("source", ["forecast", "persistence"])
    return comparison.pool_scores(
        xr.concat([score_tables.scores_by_start(f, truth, ocean) for f in fields], source)
    )


def test_runs_with_other_starts_are_pooled_over_the_common_ones_with_their_references():
    tables = {"few": evaluation(0.5, slice(0, None, 4)), "all": evaluation(0.6)}
    pooled, left_out = comparison.on_common_starts(tables)
    assert list(pooled) == ["few", "all"] and not left_out
    few, both = pooled["few"], pooled["all"]
    assert few.sizes["init_time"] == both.sizes["init_time"] == 6
    np.testing.assert_array_equal(few.rmse, tables["few"].rmse)
    # The reference of the longer run now is that of the same starts.
    expected = few.rmse.sel(source="persistence")
    np.testing.assert_allclose(both.rmse.sel(source="persistence"), expected)
    assert not np.allclose(tables["all"].rmse.sel(source="persistence"), expected)
    np.testing.assert_allclose(both.skill.sel(source="forecast"), 0.4)
    assert (both.rmse_low < both.rmse).all() and (both.rmse < both.rmse_high).all()


def test_runs_that_share_nothing_or_have_other_units_are_left_out_with_the_reason():
    tables = {"a": evaluation(1, slice(0, 8)), "b": evaluation(1, slice(8, None)),
              "cm": evaluation(1, slice(0, 4), "cm"), "c": evaluation(1, slice(4, 9))}  # fmt: skip
    pooled, left_out = comparison.on_common_starts(tables, "a")
    assert list(pooled) == ["a", "c"] and pooled["a"].sizes["init_time"] == 4
    assert left_out["b"] == "it shares no start date with a and the runs before it"
    assert left_out["cm"] == "its scores are in cm, those of a in m"
    pooled, _ = comparison.on_common_starts(tables)  # the run with most starts
    assert set(pooled) == {"b", "c"}


def spectrum_of(starts, forecast=1.0):
    """Spectra whose truth grows with the number of the start, as in ``spectra.nc``."""
    wavelength = 100 / np.arange(1.0, 31)
    dims = ("source", "init_time", "lead_time", "wavenumber")
    strength = xr.DataArray(1.0 + np.arange(STARTS), dims="init_time")[starts]
    power = strength * xr.DataArray(np.ones((2, LEADS, 30)), dims=("source", *dims[2:]))
    power = power.transpose(*dims) * xr.DataArray([1.0, forecast], dims="source")
    power = power.assign_coords(
        source=["truth", "forecast"],
        init_time=pd.date_range("2020-01-01", periods=STARTS, freq="4D")[starts],
        lead_time=pd.timedelta_range("12h", periods=LEADS, freq="12h"),
        wavenumber=1 / wavelength,
        wavelength=("wavenumber", wavelength),
    )
    power.attrs["comment"] = "made by the test"
    return comparison.pool_spectra(power).assign(power_by_start=power.astype("float32"))


def test_spectra_are_averaged_over_common_starts_and_old_files_say_that_they_are_not():
    old = spectrum_of(slice(None)).drop_vars(["power_by_start", "init_time"])
    spectra = {"few": spectrum_of(slice(0, 6)), "all": spectrum_of(slice(None), 0.4), "old": old,
               "other": spectrum_of(slice(6, None))}  # fmt: skip
    pooled, notes = comparison.spectra_on_common_starts(spectra)
    assert list(pooled) == ["few", "all", "old"] and set(notes) == {"old", "other"}
    assert "own starts" in notes["old"] and "left out" in notes["other"]
    truth = pooled["all"].power.sel(source="truth")
    np.testing.assert_allclose(truth, pooled["few"].power.sel(source="truth"), rtol=1e-6)
    assert float(spectra["all"].power.sel(source="truth").max()) > 2 * float(truth.max())
    assert [pooled[name].attrs["starts"] for name in pooled] == [6, 6, STARTS]
    np.testing.assert_allclose(pooled["all"].slope, 0, atol=1e-6)
    np.testing.assert_allclose(pooled["all"].resolution, 100, rtol=1e-6)
    assert comparison.spectra_on_common_starts({"old": old}) == ({"old": old}, {})


def test_the_interval_of_a_skill_is_paired():
    table = evaluation(0.9)
    forecast, persistence = (table.sel(source=name) for name in table.source.values)
    result = comparison.skill_with_interval(forecast, persistence)
    # The weather makes the scores of the starts differ, but not their ratio.
    for name in ("skill", "low", "high"):
        np.testing.assert_allclose(result[name], 0.1, err_msg=name)
    assert float(forecast.rmse_high[0] - forecast.rmse_low[0]) > 0.1


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_fewer_than_six_starts_are_never_significant_and_this_is_said(count):
    table = evaluation(0.5, slice(0, 2 * count, 2))
    forecast, persistence = (table.sel(source=name) for name in table.source.values)
    result = comparison.skill_with_interval(forecast, persistence)
    np.testing.assert_allclose(result.skill, 0.5)
    arguments = "persistence", "rmse", np.timedelta64(12, "h")
    headline = comparison.headline(forecast, persistence, *arguments)
    reason = comparison.too_few_starts(table)
    if count < 6:
        assert result.low.isnull().all() and result.high.isnull().all()
        assert "may be chance, because few starts are independent" in headline
        assert reason.startswith(f"{count} start date") and "at least 6" in reason
    else:
        assert (result.low > 0).all() and "chance" not in headline and not reason


def test_starts_in_the_same_weather_count_as_one():
    table = evaluation(0.5)
    hourly = pd.date_range("2020-01-01", periods=STARTS, freq="6h")
    table = table.assign_coords(init_time=hourly)
    forecast, persistence = (table.sel(source=name) for name in table.source.values)
    assert comparison.skill_with_interval(forecast, persistence).low.isnull().all()
    assert comparison.too_few_starts(table).startswith("24 start dates, 1 of them independent")


def test_a_lead_time_with_truth_from_few_starts_has_no_interval():
    table = evaluation(0.5)
    number = xr.DataArray(np.arange(STARTS), {"init_time": table.init_time}, ("init_time",))
    first = table.lead_time < np.timedelta64(1, "D")
    table["verified_by_start"] = (number < 5) | first
    forecast, persistence = (table.sel(source=name) for name in table.source.values)
    low = comparison.skill_with_interval(forecast, persistence).low
    assert low.isnull().values.tolist() == [False, True, True]


def test_starts_with_truth_in_the_same_weather_have_no_interval():
    table = evaluation(0.5)
    days = np.concatenate([np.arange(12) / 2, 10 * np.arange(1, 13)])  # half of them in six days
    table = table.assign_coords(init_time=pd.Timestamp("2020-01-01") + pd.to_timedelta(days, "D"))
    number = xr.DataArray(np.arange(STARTS), {"init_time": table.init_time}, ("init_time",))
    first = table.lead_time < np.timedelta64(1, "D")
    table["verified_by_start"] = (number < 12) | first
    forecast, persistence = (table.sel(source=name) for name in table.source.values)
    low = comparison.skill_with_interval(forecast, persistence).low
    assert low.isnull().values.tolist() == [False, True, True]


def test_a_correlation_has_a_skill_relative_to_one():
    table = evaluation(1).sel(source="forecast")
    reference = table.assign(correlation_by_start=table.rmse_by_start * 0 + 0.6)
    table = table.assign(correlation_by_start=table.rmse_by_start * 0 + 0.9)
    result = comparison.skill_with_interval(table, reference, "correlation")
    np.testing.assert_allclose(result.skill, 0.75)


def test_tables_show_round_lead_times_that_exist():
    def days(lead_time):
        lead_time = xr.DataArray(lead_time, dims="lead_time")
        return list((lead_time.values / np.timedelta64(1, "D"))[table_leads(lead_time)])

    assert days(pd.timedelta_range("12h", periods=20, freq="12h")) == [0.5, 1, 2, 3, 5, 7, 10]
    assert days(pd.timedelta_range("12h", periods=11, freq="12h")) == [0.5, 1, 2, 3, 5, 5.5]
    assert days(pd.timedelta_range("1D", periods=4, freq="1D")) == [1, 2, 3, 4]
    assert len(days(pd.timedelta_range("1h", periods=5, freq="1h"))) == 5
    assert len(days(pd.timedelta_range("7h", periods=40, freq="7h"))) <= 12


def test_ranks_of_the_truth_are_even_for_a_reliable_ensemble_and_shared_among_ties():
    rng = np.random.default_rng(0)
    dims = ("member", "y", "x")
    ocean = xr.DataArray(rng.random((60, 60)) > 0.3, dims=dims[1:])
    ensemble = xr.DataArray(rng.normal(size=(3, 60, 60)), dims=dims)
    truth = xr.DataArray(rng.normal(size=(60, 60)), dims=dims[1:])
    ranks = ensembles.rank_histogram(ensemble, truth, ocean)
    np.testing.assert_allclose(ranks, 0.25, atol=0.03)
    assert float(ranks.sum()) == pytest.approx(1)
    np.testing.assert_allclose(ensembles.rank_histogram(ensemble - 9, truth, ocean), [0, 0, 0, 1])
    open_water = xr.zeros_like(ensemble)
    np.testing.assert_allclose(ensembles.rank_histogram(open_water, open_water[0], ocean), 0.25)
    missing = truth.where(truth < 2)
    assert ensembles.rank_histogram(ensemble, missing, ocean).isnull().all()


@pytest.mark.parametrize(
    ("units", "text"), [("m", "m"), ("1", ""), ("m2", "m²"), ("m s-1", "m s⁻¹")]
)
def test_a_headline_writes_the_unit_of_its_score(units, text):
    table = evaluation(0.5, units=units).sel(source="forecast")
    words = comparison.headline(table, None, "persistence", "rmse", np.timedelta64(12, "h"))
    number = words.removeprefix("+0.5 days: RMSE ").removesuffix(f" ({STARTS} starts)")
    assert number == f"{table.rmse.values[0]:.3f} {text}".rstrip()
