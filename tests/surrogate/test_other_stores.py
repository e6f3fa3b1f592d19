"""A trained network on other data: another store, a start without truth, partly missing truth."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, wave_run, write_catalogue

from seaice_lab import files, runs
from seaice_lab.catalog import SplitRule
from seaice_lab.config import FitConfig
from seaice_lab.errors import InputError
from seaice_lab.surrogate import calibration
from seaice_lab.surrogate.calibration import calibrate
from seaice_lab.surrogate.evaluation import evaluate, open_forecast, report
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.references import reference_for
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import open_store, statistics
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.truth import open_truth, truth_for
from seaice_lab.surrogate.windows import Window

HOME = ("train_1", "val_1")
DAY = {"train": SplitRule(files=["train_1"]), "validation": SplitRule(files=["val_1"])}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working folder with a trained run, its store, and a store whose forcing goes on."""
    folder = tmp_path_factory.mktemp("home")
    data = folder / "data" / "waves"
    data.mkdir(parents=True)
    for seed, name in enumerate(HOME):
        wave_run(times=8, seed=seed).to_netcdf(data / f"{name}.nc")
    year = wave_run(times=24, start="2011-01-01", seed=5)
    year.isel(time=slice(16)).to_netcdf(data / "year_2011.nc")
    year.drop_vars("sit").to_netcdf(data / "weather.nc")
    weather = {k: v for k, v in ENTRY.items() if k not in ("separate_runs", "splits")}
    weather |= {"paths": ["waves/weather.nc"],
                "variables": {name: name for name in ("t2m", "u10", "v10")}}  # fmt: skip
    year_entry = ENTRY | {"paths": ["waves/year_2011.nc"]}
    waves = ENTRY | {"paths": [f"waves/{name}.nc" for name in HOME]}
    write_catalogue(folder, {"waves": waves, "weather": weather, "year": year_entry})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SEAICE_DATA", raising=False)
        prepare(PrepareConfig(state="waves", splits=DAY), "home.zarr", show=False)
        prepare(other(), "year.zarr", show=False)
        fit = FitConfig(epochs=1, batch_size=2, learning_rate=1e-3)
        train(TrainConfig(store="home.zarr", width=2, fit=fit), "runs/a", show=False)
        yield folder


def other(**settings):
    """The configuration of the store of another year, whose forcing goes on for two days."""
    settings = {"splits": {"test": SplitRule(files=["year_2011"])}} | settings
    return PrepareConfig(state="year", forcing="weather", forcing_beyond_state=True, **settings)


@pytest.fixture(autouse=True)
def in_home(home, monkeypatch):
    """Each test works in the folder, without the results of the tests before it."""
    monkeypatch.chdir(home)
    yield
    for path in ("runs/a/forecast.zarr", "runs/a_on_year", "runs/today"):
        shutil.rmtree(home / path, ignore_errors=True)


def make(**settings):
    return forecast("runs/a", ForecastConfig(**{"steps": 2} | settings), show=False)


def test_a_forecast_on_another_store_is_kept_beside_the_run_and_knows_its_store():
    assert make(store="year.zarr").as_posix() == "runs/a_on_year/forecast.zarr"
    dataset, store = open_forecast("runs/a_on_year"), open_store("year.zarr")
    assert dataset.attrs["store"] == "year.zarr"
    assert dataset.attrs["store_fingerprint"] == store.attrs["fingerprint"]
    assert str(dataset.init_time.values.min())[:10] == "2011-01-01"
    facts = runs.open_run("runs/a_on_year")
    assert facts.config == {"trained": "runs/a", "store": "year.zarr"}
    assert facts.provenance["data"] == store.attrs["fingerprint"]
    assert [(row.name, row.state) for row in runs.list_runs("runs")][-1] == (
        "a_on_year",
        "forecast",
    )
    # The store has no statistics: those of the run are used.
    assert statistics(store) == {}
    table, _ = evaluate("runs/a", store="year.zarr", show=False)
    again, _ = evaluate("runs/a_on_year", show=False)
    np.testing.assert_array_equal(table.rmse, again.rmse)
    assert not (open_forecast("runs/a_on_year").init_time == np.datetime64("2010")).any()
    # Climatology is the one of the training data of the run.
    sit = dataset.sit
    expected = reference_for("climatology", sit, store, open_store("home.zarr"))
    error = np.sqrt(((expected - truth_for(sit, store)) ** 2).where(sit.ocean).mean(("y", "x")))
    ours = table.rmse_by_start.sel(source="climatology")
    np.testing.assert_allclose(ours, error, rtol=0.05)


def test_the_results_of_two_stores_are_never_mixed(home):
    make(store="year.zarr")
    with pytest.raises(
        InputError, match="no such store; make it with `seaice-lab forecast runs/a`"
    ):
        evaluate("runs/a", show=False)
    with pytest.raises(InputError, match="forecasts of runs/a on year.zarr, not of runs/a on home"):
        make(output="runs/a_on_year", split="train")
    with pytest.raises(InputError, match="runs/a: is the run itself, whose results belong to home"):
        make(store="year.zarr", output="runs/a")
    with pytest.raises(InputError, match="^runs/b: holds a run of its own; choose another folder"):
        shutil.copytree("runs/a", "runs/b", dirs_exist_ok=True)
        make(store="year.zarr", output="runs/b")
    shutil.rmtree("runs/b")
    with pytest.raises(InputError, match="^data: holds other files; choose another folder"):
        make(store="year.zarr", output="data")
    with pytest.raises(InputError, match="has no forecast; .*forecast runs/a --store year.zarr`"):
        shutil.rmtree(home / "runs" / "a_on_year")
        evaluate("runs/a", store="year.zarr", show=False)
    with pytest.raises(InputError, match="a_on_year: holds forecasts of runs/a, no network; use"):
        make(store="year.zarr")
        forecast("runs/a_on_year", ForecastConfig(), show=False)
    with pytest.raises(InputError, match="forecasts of runs/a on year.zarr; use that run for an"):
        evaluate("runs/a_on_year", store="home.zarr", show=False)
    with pytest.raises(InputError, match="^data: is no Zarr store .zarr.json is missing"):
        make(store="data")
    # The run's own store, under any path, belongs into the run folder.
    assert make(store=str(home / "home.zarr"), split="train").parent.as_posix() == "runs/a"


def test_a_store_that_was_prepared_again_is_not_the_truth_of_an_old_forecast(home):
    shutil.copytree(home / "year.zarr", home / "moved.zarr")
    make(store="moved.zarr", output="runs/today")
    assert open_truth(open_forecast("runs/today"), "year.zarr")  # a copy
    shutil.rmtree(home / "moved.zarr")
    prepare(other(rotate_winds=False), "moved.zarr", show=False)
    with pytest.raises(
        InputError, match="moved.zarr: is not the store from which .* prepared again"
    ):
        evaluate("runs/today", show=False)
    shutil.rmtree(home / "moved.zarr")
    with pytest.raises(InputError, match="moved.zarr: no such store"):
        evaluate("runs/today", show=False)


def test_a_run_finds_its_moved_store_by_its_fingerprint(home, capfd):
    (home / "home.zarr").rename(home / "moved.zarr")
    try:
        with pytest.raises(InputError, match="home.zarr: no such store, .* another one .* --store"):
            make(split="train", steps=1)
        assert make(store="moved.zarr", split="train", steps=1).parent.as_posix() == "runs/a"
        table, _ = evaluate("runs/a", store="moved.zarr", show=False)
        assert "climatology" in table.source
        assert make(store="moved.zarr", split="train").exists()
        assert not (home / "runs" / "a" / "scores.nc").exists()  # they belonged to one step
        assert "runs/a: removed scores.nc" in capfd.readouterr().err
    finally:
        (home / "moved.zarr").rename(home / "home.zarr")


GRIDS = {
    "other size": (
        {"crop": (0, 16, 0, 16)},
        "has a grid of 16 x 16 cells, runs/a was trained on 32",
    ),
    "coarser": ({"coarsen": 2}, "has a grid of 16 x 16 cells"),
}


@pytest.mark.parametrize("case", GRIDS)
def test_a_store_of_another_size_is_refused(case):
    settings, message = GRIDS[case]
    path = prepare(other(**settings), "size.zarr", show=False)
    with pytest.raises(InputError, match=f"^size.zarr: {message}.*; prepare it on the grid"):
        make(store=str(path))


def changed(store, edit):
    """A copy of a store with other positions or another mask."""
    shutil.rmtree("changed.zarr", ignore_errors=True)
    edit(open_store(store).load()).to_zarr("changed.zarr", consolidated=False)
    return "changed.zarr"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda d: d.assign_coords(latitude=d.latitude - 0.1),
            r"up to 11.1 km away from those .*25",
        ),
        (
            lambda d: d.assign_coords(longitude=d.longitude[::-1].variable),
            "rows and columns in the",
        ),
        (
            lambda d: d.assign_coords(ocean=d.ocean & (d.y > d.y[4])),
            r"mask differs .* in \d+ of 1024",
        ),
        (lambda d: d.drop_vars("t2m"), "lacks the variable 't2m' that the window needs"),
    ],
)
def test_a_store_of_another_grid_is_refused_with_what_differs(edit, message):
    with pytest.raises(InputError, match=message) as caught:
        make(store=changed("year.zarr", edit))
    assert "\n" not in str(caught.value)
    assert [path.name for path in runs.run_folders("runs")] == ["a"]


def test_a_run_whose_store_is_lost_is_calibrated_on_another_one(home, monkeypatch):
    monkeypatch.setattr(calibration, "SCORE_DAYS", 2)
    validation = {"splits": {"validation": SplitRule(files=["year_2011"])}}
    prepare(other(**validation), "validation.zarr", show=False)
    lost, result = home / "home.zarr", home / "runs" / "a" / "calibration.json"
    lost.rename(home / "lost")
    try:
        with pytest.raises(InputError, match="home.zarr: no such store"):
            calibrate("runs/a", show=False)
        size = calibrate("runs/a", store="validation.zarr", show=False)
        assert json.loads(result.read_text()) == size and size["perturbation"] > 0
        assert [path.name for path in runs.run_folders("runs")] == ["a"]
        with pytest.raises(InputError, match="year.zarr: has no validation split"):
            calibrate("runs/a", store="year.zarr", show=False)
    finally:
        (home / "lost").rename(lost)
        result.unlink()


def test_a_run_whose_store_is_lost_forecasts_on_another_one(home, capsys):
    make(store="year.zarr")
    expected = open_forecast("runs/a_on_year").sit.values
    shutil.rmtree(home / "runs" / "a_on_year")
    grid, lost = home / "runs" / "a" / "grid.nc", home / "home.zarr"
    lost.rename(home / "lost")
    try:
        make(store="year.zarr")
        np.testing.assert_array_equal(open_forecast("runs/a_on_year").sit.values, expected)
        table, _ = evaluate("runs/a", store="year.zarr", show=False)
        assert "climatology" not in table.source
        note = "note: home.zarr: the prepared store of the training is not here"
        assert note in capsys.readouterr().err
        shutil.rmtree(home / "runs" / "a_on_year")
        copy = xr.load_dataset(grid)
        grid.rename(home / "grid.nc")
        with pytest.raises(InputError, match="home.zarr: no such store"):
            make(store="year.zarr")
        copy["ocean"][5, 5] = 0
        copy.to_netcdf(grid)
        with pytest.raises(InputError, match="mask differs .* in 1 of 1024"):
            make(store="year.zarr")
        grid.write_bytes(b"damaged")
        with pytest.raises(InputError, match="grid.nc: cannot be read"):
            make(store="year.zarr")
    finally:
        (home / "lost").rename(lost)
        (home / "grid.nc").replace(grid)


def test_a_store_prepared_again_on_another_grid_is_refused_under_its_old_name(home):
    shutil.copytree("home.zarr", "kept.zarr")
    try:
        prepare(PrepareConfig(state="waves", splits=DAY, coarsen=2), "home.zarr", show=False)
        with pytest.raises(InputError, match="a grid of 16 x 16 cells, runs/a was trained on 32"):
            make(split="train")
    finally:
        shutil.rmtree("home.zarr")
        Path("kept.zarr").rename("home.zarr")


def test_a_forecast_tells_how_far_it_is_and_leaves_the_state_of_its_run():
    with pytest.raises(RuntimeError), runs.heartbeat("runs/a", "forecasting", "step", 6) as beat:
        beat(2)
        row = next(row for row in runs.list_runs("runs") if row.name == "a")
        assert (row.state, row.detail[:34]) == ("trained", "trained; forecasting, step 2 of 6,")
        raise RuntimeError("no more")
    row = next(row for row in runs.list_runs("runs") if row.name == "a")
    assert row.detail == "trained; forecasting failed in step 2 of 6: RuntimeError: no more"
    make(split="train")
    assert [row.detail for row in runs.list_runs("runs") if row.name == "a"] == [""]


def test_a_forecast_needs_no_truth():
    path = make(store="year.zarr", starts=["latest", "2011-01-04T18"], steps=4, output="runs/today")
    dataset, store = open_forecast(path), open_store("year.zarr")
    assert dataset.init_time.values.astype("datetime64[h]").astype(str).tolist() == [
        "2011-01-04T18"
    ]
    assert store.has_state.values.nonzero()[0].max() == int(dataset.position[0])
    assert np.isfinite(dataset.sit.values[..., dataset.ocean.values]).all()
    assert np.isnan(truth_for(dataset.sit, store)).all()
    with pytest.raises(
        InputError, match="no truth for any start: the first valid time is 2011-01-05"
    ):
        evaluate("runs/today", show=False)
    # Where there is truth, the same forecast is the one of the split.
    truth = make(store="year.zarr", output="runs/today", steps=4)
    of_split = open_forecast(truth).sit[3].load()
    given = open_forecast(make(store="year.zarr", starts=["2011-01-01T18:00"], steps=4)).sit[0]
    np.testing.assert_allclose(given, of_split, atol=1e-6)


def test_starts_with_a_part_of_their_truth_are_scored_where_it_is(capsys):
    starts = ["2011-01-01", "2011-01-04T00:00", "2011-01-04 18:00"]
    make(store="year.zarr", starts=starts, steps=3)
    table, spectrum = evaluate("runs/a_on_year", show=False)
    assert (
        "truth until 2011-01-04T18:00: 2 of 3 starts are scored, 1 of them at all lead times"
        in (capsys.readouterr().out)
    )
    assert table.start_count.values.tolist() == [2, 1, 1]
    dataset, store = open_forecast("runs/a_on_year"), open_store("year.zarr")
    sit = dataset.sit.load()
    error = ((sit - truth_for(sit, store)) ** 2).where(sit.ocean).mean(("y", "x"))
    assert np.isnan(error.values).tolist() == [[False] * 3, [False, True, True], [True] * 3]
    np.testing.assert_allclose(
        table.rmse.sel(source="forecast"), np.sqrt(error.mean("init_time")), rtol=0.02
    )
    by_start = table.rmse_by_start.sel(source="forecast")
    assert np.isnan(by_start.values).tolist() == [[False] * 3, [False, True, True]]
    assert np.isfinite(table.rmse_by_region.sel(region="central Arctic")).all()
    assert np.isfinite(spectrum.power).all()
    assert [line.split()[-1] for line in report(table, spectrum).splitlines()[1:]] == [
        "starts", "2", "1", "1"]  # fmt: skip
    # A single start is scored as it is alone.
    make(store="year.zarr", starts=starts[:1], steps=3)
    alone, spectrum_alone = evaluate("runs/a_on_year", show=False)
    assert "start_count" not in alone
    np.testing.assert_allclose(alone.rmse[:, 1:], table.rmse[:, 1:], rtol=1e-12)
    np.testing.assert_allclose(spectrum_alone.power[:, 1:], spectrum.power[:, 1:], rtol=1e-9)


def test_the_dashboard_shows_a_forecast_without_truth_and_says_why():
    from dashboards import forecasts, readers
    from dashboards.library import Library
    from dashboards.state import PageState

    make(store="year.zarr", starts=["2011-01-04T06:00"], steps=2)
    library = Library("runs")
    forecast = readers.forecast_of(library, "a_on_year")
    start, (first, second) = forecast.dataset.init_time.values[0], forecast.dataset.lead_time.values
    assert np.isfinite(readers.frame(forecast, readers.TRUTH, "sit", start, first)).any()
    with pytest.raises(InputError, match="There is no truth at 2011-01-05 06:00 in year.zarr, so"):
        readers.frame(forecast, readers.TRUTH, "sit", start, second)
    truth = readers.series(forecast, readers.TRUTH, "sit", start, (12, 12))
    assert np.isfinite(truth).tolist() == [True, False]
    assert np.isfinite(readers.series(forecast, "forecast", "sit", start, (12, 12))).all()
    season = readers.season(forecast, start)
    volume, error = season.volume, season.volume_error.sel(source="forecast").values
    assert np.isnan(volume.sel(source="truth")).values.tolist() == [False, True]
    assert np.isfinite(volume.sel(source=["forecast", "climatology"])).all()
    difference = 1000 * (volume.sel(source="forecast") - volume.sel(source="truth"))  # km3
    np.testing.assert_allclose(error, difference)
    page = forecasts.ForecastView(library, PageState({"runs": [b"a_on_year"]}), ["a_on_year"])
    page.state.lead = 24.0
    shown = {key: message.object for key, message in page.messages.items() if message.visible}
    assert list(shown) == [(readers.TRUTH, "value"), ("a_on_year", "difference")]
    assert all("no truth at 2011-01-05 06:00" in text for text in shown.values())
    assert not any(button.disabled for button in page.downloads.buttons)


IMPOSSIBLE = {
    "before the store": ({"starts": ["2010-01-01"]}, "no state at this time; its states go from"),
    "after the state": (
        {"starts": ["2011-01-05T00"]},
        "year.zarr has no state at this time; its states go from 2011-01-01T00:00 to 2011-01-04T18",
    ),
    "between records": (
        {"starts": ["2011-01-02T01"]},
        "the nearest are 2011-01-02T00:00 and 2011-01-02T06:00",
    ),
    "no date": ({"starts": ["soon"]}, "'soon': is not a date and time; write it as 2021-03-01T00"),
    "an empty text": ({"starts": [""]}, "'': is not a date and time"),
    "longer than the forcing": (
        {"starts": ["2011-01-04T18:00"], "steps": 9},
        r"lacks forcing at \+54 h from it \(its series goes on to 2011-01-06T18:00 in steps of 6 "
        r"h\), which is enough for 4 steps of 12 h",
    ),
    "not in the split": (
        {"starts": ["2011-01-02"], "split": "train"},
        "is not in the train split of",
    ),
    "no such split": (
        {"starts": ["2011-01-02"], "split": "tests"},
        "split is 'tests', but: .*'train', 'val",
    ),
    "a split that is not there": ({"split": "train"}, r"has no train split \(it has test\)"),
    "longer than the split": (
        {"steps": 9},
        r"no start has all of \+0 to \+108 h in the test split \(16 times, the longest series "
        r"spans 90 h in steps of 6 h\)",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_the_store_lacks_is_refused_with_what_is_possible(case):
    settings, message = IMPOSSIBLE[case]
    with pytest.raises(InputError, match=message) as caught:
        make(store="year.zarr", **settings)
    assert "\n" not in str(caught.value)


def test_a_default_forecast_of_a_store_without_test_split_says_what_it_has():
    with pytest.raises(InputError, match=r"has no test split \(it has train, validation\); choose"):
        make()


def test_a_start_that_two_runs_have_needs_the_split():
    with pytest.raises(InputError, match="2 runs of .*home.zarr have this time; name the split"):
        make(starts=["2010-01-01"], steps=1)
    assert (
        open_forecast(make(starts=["2010-01-01"], split="train", steps=1)).sizes["init_time"] == 1
    )


def test_a_start_with_a_time_zone_is_utc_and_doubled_starts_count_once():
    path = make(store="year.zarr", starts=["2011-01-02T01:00+01:00", "2011-01-02"])
    assert open_forecast(path).init_time.values.tolist() == [
        np.datetime64("2011-01-02", "ns").astype(int)
    ]


def test_a_window_with_past_states_and_one_without_forcing(home):
    fit = FitConfig(epochs=1, batch_size=2, learning_rate=1e-3)
    past = Window(inputs=(("sit", 0.0), ("sit", -12.0), ("latitude", 0.0)))
    train(TrainConfig(store="home.zarr", width=2, fit=fit, window=past), "runs/past", show=False)
    config = ForecastConfig(store="year.zarr", starts=["2011-01-01T06"], steps=50)
    with pytest.raises(InputError, match="also needs the state -12 h .* starts from 2011-01-01T12"):
        forecast("runs/past", config, show=False)
    # No forcing, so the forecast may be as long as you like.
    config = ForecastConfig(store="year.zarr", starts=["latest"], steps=50)
    dataset = open_forecast(forecast("runs/past", config, show=False))
    assert np.isfinite(dataset.sit.values[..., dataset.ocean.values]).all()
    drift = reference_for("free_drift", dataset.sit, open_store("year.zarr"))
    missing = np.isnan(drift.where(dataset.ocean, 0)).any(("y", "x"))[0].values
    assert missing.tolist() == [False] * 4 + [True] * 46
    shutil.rmtree(home / "runs" / "past")
    shutil.rmtree(home / "runs" / "past_on_year")


def test_an_old_forecast_keeps_its_fingerprint_and_has_the_order_of_its_run():
    """A forecast that does not name its store, its variables or the fingerprint of the store."""
    path = make(split="train", steps=1)
    dataset = xr.open_zarr(path, consolidated=False)
    facts = runs.open_run("runs/a")
    weights = facts.path / "weights.safetensors"
    store = open_store("home.zarr")
    assert dataset.attrs["fingerprint"] == files.fingerprint(
        facts.provenance, store.attrs["fingerprint"], 1, "train", 1, weights.stat().st_mtime_ns
    )
    old = dataset.load().assign(b=dataset.sit, a=dataset.sit)[["a", "b", "sit"]]
    for name in ("variables", "store_fingerprint", "training_store"):
        del old.attrs[name]
    shutil.rmtree(path)
    old.drop_encoding().to_zarr(path, consolidated=False)
    assert list(open_forecast(path))[0] == "sit"
    table, _ = evaluate("runs/a", show=False)
    assert "start_count" not in table
