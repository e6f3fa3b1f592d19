"""Evaluation: truth and persistence at the right times, scores and spectra on disk."""

import shutil
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import ENTRY, SIZE, change, write_catalogue

from seaice_lab import grid, runs
from seaice_lab.config import FitConfig
from seaice_lab.diagnostics import ensembles, scores
from seaice_lab.errors import InputError
from seaice_lab.surrogate import block_scores, evaluation
from seaice_lab.surrogate.evaluation import evaluate, open_forecast, read_evaluation, report
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.references import REFERENCES
from seaice_lab.surrogate.results import read_table
from seaice_lab.surrogate.scaling import evaluate_scaling
from seaice_lab.surrogate.scaling import report as scaling_report
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import CHECKSUMS, open_store
from seaice_lab.surrogate.train import train
from seaice_lab.surrogate.truth import truth_for
from seaice_lab.surrogate.windows import Window


@pytest.fixture(scope="module")
def shared_run(shared_store, tmp_path_factory):
    """A surrogate with a forecast of four steps, from which tests copy it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(shared_store.parent)
        return trained_and_forecast(shared_store.name, tmp_path_factory.mktemp("runs") / "a")


@pytest.fixture
def run(shared_run, store, tmp_path):
    """A surrogate with a forecast of four steps."""
    return shutil.copytree(shared_run, tmp_path / "runs" / "a")


def trained_and_forecast(store, run):
    fit = FitConfig(epochs=1, batch_size=8, learning_rate=1e-3)
    train(TrainConfig(store=str(store), width=4, fit=fit), run, show=False)
    forecast(run, ForecastConfig(steps=4), show=False)
    return run


def test_the_truth_is_the_record_at_init_plus_lead(run, store, waves):
    sit = open_forecast(run).sit
    truth = truth_for(sit, open_store(store))
    raw = xr.load_dataset(waves / "test_1.nc").sit
    for start in (0, 7):
        for lead in range(4):
            valid = sit.init_time.values[start] + sit.lead_time.values[lead]
            np.testing.assert_array_equal(truth[start, lead].values, raw.sel(time=valid).values)


def test_the_scaling_of_a_run_is_compared_with_its_truth_and_written(run):
    table = evaluate_scaling(run, starts=2, show=False)
    xr.testing.assert_allclose(read_table(run, "scaling"), table)
    assert {"truth", "forecast", "persistence", "blurred"} <= set(table.source.values)
    assert table.sizes["lead_time"] == 4 and table.attrs["starts"] == 2
    zeta = table.zeta.sel(increment=1, q=1)
    assert (zeta.sel(source="blurred") > zeta.sel(source="truth")).all()
    assert "beta" not in table  # no drift
    # The two starts are of one run, whose ice does not change enough to count twice.
    assert table.zeta_significance.isnull().all() and table.zeta_spread.isnull().all()
    text = scaling_report(table)
    assert "no standard errors: the 2 start dates count as 1 independent period, because" in text
    assert "zeta(1)" in text and "gradient_tail_weight: higher, a heavier tail" in text
    pooled = table.assign(zeta_significance=xr.full_like(table.zeta_significance, 2.0))
    last = next(line for line in scaling_report(pooled).splitlines() if line.strip()[:3] == "all")
    assert last.split()[:3] == ["all", "(+2.0)", "unknown"]
    with pytest.raises(InputError, match="seaice-lab scaling"):
        read_table(run.parent, "scaling")


def test_drift_and_every_member_of_an_ensemble_are_scored(waves, tmp_path):
    rng = np.random.default_rng(0)

    def with_drift(raw):
        noise = (0.1 * rng.standard_normal(raw.sit.shape) for _ in range(2))
        u, v = ((raw.sit * 0 + each).assign_attrs(units="m s-1") for each in noise)
        return raw.assign(siu=u, siv=v)

    for path in waves.glob("*.nc"):
        change(path, with_drift)
    state = ("sit", "siu", "siv")
    entry = ENTRY | {"variables": ENTRY["variables"] | {name: name for name in state}}
    write_catalogue(tmp_path, {"waves": entry})
    prepare(PrepareConfig(state="waves", variables=state), tmp_path / "drift.zarr", show=False)
    window = Window(inputs=[(n, 0.0) for n in state], targets=[(n, 12.0) for n in state])
    fit = FitConfig(epochs=1, batch_size=8, learning_rate=1e-3)
    config = TrainConfig(store=str(tmp_path / "drift.zarr"), window=window, width=4, fit=fit)
    run = train(config, tmp_path / "runs" / "drift", show=False)
    forecast(run, ForecastConfig(steps=8, members=2, every=4), show=False)
    table = evaluate_scaling(run, starts=1, show=False)
    single = ["persistence", "climatology", "ensemble_mean", "member_1", "member_2"]
    assert {"truth", "forecast", "blurred", *single} <= set(table.source.values)
    beta = table.beta.sel(q=1)
    assert np.isfinite(beta).all()
    members = beta.sel(source=["member_1", "member_2"])
    np.testing.assert_allclose(members.mean("source"), beta.sel(source="forecast"))
    assert (members.std("source") > 0).all()
    # Drift that is random in time has the exponent one half.
    assert 0.3 < table.temporal_exponent.sel(q=1, source="truth") < 0.7
    assert "members" in scaling_report(table) and "beta(1)" in scaling_report(table)


def test_scores_are_those_computed_by_hand_and_are_written(run, store):
    table, spectrum = evaluate(run, show=False)
    sit = open_forecast(run).sit.load()
    truth = truth_for(sit, open_store(store))
    ocean = sit.ocean.values
    weight = grid.cell_area(sit).values[ocean]
    error = (sit - truth).values[..., ocean].astype("f8")
    expected = np.sqrt((error**2 * weight).sum(-1).mean(0) / weight.sum())
    ours = table.sel(source="forecast")
    np.testing.assert_allclose(ours.rmse, expected, rtol=1e-6)
    np.testing.assert_allclose(
        ours.bias, (error * weight).sum(-1).mean(0) / weight.sum(), atol=1e-9
    )
    assert list(table.source.values) == ["forecast", *REFERENCES]
    assert np.isfinite(table.rmse.values).all()
    persistence = table.sel(source="persistence")
    np.testing.assert_allclose(ours.skill, 1 - ours.rmse / persistence.rmse)
    np.testing.assert_allclose(persistence.skill, 0)
    assert np.isfinite(table.rmse_by_region).all()  # of every reference
    assert (ours.rmse_low <= ours.rmse).all() and (ours.rmse <= ours.rmse_high).all()
    read_table, read_spectrum = read_evaluation(run)
    np.testing.assert_allclose(read_table.rmse, table.rmse)
    np.testing.assert_array_equal(read_table.lead_time, table.lead_time)
    np.testing.assert_allclose(read_spectrum.slope, spectrum.slope)
    assert runs.state_of(run) == ("evaluated", "")


def test_scores_do_not_depend_on_the_block_length(run, monkeypatch):
    references = ["persistence"]
    together, spectrum = evaluate(run, references, show=False)
    monkeypatch.setattr(block_scores, "CELLS_AT_ONCE", 1)  # each lead time alone
    six_starts = 6 * 4 * 4 * SIZE**2  # of four steps; the last block has fewer
    blocks, spectrum_of_blocks = evaluate(run, references, None, six_starts, show=False)
    np.testing.assert_allclose(blocks.rmse, together.rmse, rtol=1e-12)
    np.testing.assert_allclose(spectrum_of_blocks.slope, spectrum.slope, rtol=1e-9)
    of_starts = spectrum_of_blocks.power_by_start.mean("init_time")
    np.testing.assert_allclose(of_starts, spectrum.power, rtol=1e-4)


FOUR_STARTS = 4 * 4 * 4 * SIZE**2  # bytes of four starts, each of four steps


def written_tables(run):
    """Scores and spectra as they are in the files, without the time at which they were written."""
    tables = []
    for name in ("scores", "spectra"):
        with xr.open_dataset(run / f"{name}.nc", decode_cf=False) as table:
            tables.append(table.load().drop_attrs(deep=False))
    return tables


def assert_same(tables, expected):
    for table, other in zip(tables, expected, strict=True):
        xr.testing.assert_identical(table, other)
        assert table.dtypes == other.dtypes


@contextmanager
def scored_blocks(killed_after=None):
    """Yield the list of blocks that are scored in the context, in which evaluations are killed."""
    scored, score = [], evaluation.score_block

    def score_block(starts, comparison):
        if len(scored) == killed_after:
            raise KeyboardInterrupt
        scored.append(starts.start)
        return score(starts, comparison)

    end = nullcontext() if killed_after is None else pytest.raises(KeyboardInterrupt)
    with pytest.MonkeyPatch.context() as patch, end:
        patch.setattr(evaluation, "score_block", score_block)
        yield scored


@pytest.mark.parametrize("members", [1, 2])
def test_a_killed_evaluation_scores_the_missing_blocks_only(run, members):
    if members > 1:
        forecast(run, ForecastConfig(steps=4, members=members), show=False)
    options = {"block_bytes": FOUR_STARTS * members, "show": False}
    undisturbed, files = evaluate(run, **options), written_tables(run)
    assert undisturbed[0].sizes["init_time"] == 16
    with scored_blocks(killed_after=3):
        evaluate(run, **options)
    (run / "scores.nc.partial" / "result" / "4.nc").write_bytes(b"cut short")
    with scored_blocks() as scored:
        continued = evaluate(run, **options)
    assert scored == [4, 12]
    assert_same(*([t.drop_attrs(deep=False) for t in each] for each in (continued, undisturbed)))
    assert_same(written_tables(run), files)
    assert not (run / "scores.nc.partial").exists()


def test_blocks_of_another_forecast_or_with_other_references_are_scored_again(run):
    options = {"block_bytes": FOUR_STARTS, "show": False}
    with scored_blocks(killed_after=2):
        evaluate(run, ["persistence"], **options)
    with scored_blocks(killed_after=2) as scored:
        evaluate(run, ["climatology"], **options)
    assert scored == [0, 4]
    forecast(run, ForecastConfig(steps=4, every=2), show=False)
    with scored_blocks() as scored:
        evaluate(run, ["climatology"], **options)
    assert scored == [0, 4]


def test_the_workers_of_a_dask_cluster_make_the_same_tables(run, tmp_path, monkeypatch):
    from distributed import LocalCluster

    options = {"block_bytes": FOUR_STARTS, "show": False}
    evaluate(run, **options)
    expected = written_tables(run)
    with scored_blocks(killed_after=2):
        evaluate(run, **options)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the workers start in another folder
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster:
        monkeypatch.chdir(tmp_path)
        evaluate(Path("runs") / "a", scheduler=cluster.scheduler_address, **options)
    assert_same(written_tables(run), expected)


def test_a_machine_that_does_not_reach_the_forecast_is_named(tmp_path):
    comparison = block_scores.Comparison(tmp_path, None, None, None, {}, None)
    with pytest.raises(InputError, match=r"forecast.zarr: is missing on the machine .*must reach"):
        block_scores.score_block(slice(0, 4), comparison)


def test_an_unreachable_cluster_is_named(run, monkeypatch):
    monkeypatch.setattr("seaice_lab.cluster.CLUSTER_S", 0.2)
    with pytest.raises(InputError, match=r"scheduler tcp://127.0.0.1:9: .* to continue"):
        evaluate(run, show=False, scheduler="tcp://127.0.0.1:9")


def test_the_report_has_a_line_a_lead_with_model_and_persistence(run):
    table, spectrum = evaluate(run, show=False)
    lines = report(table, spectrum).splitlines()
    assert len(lines) == 2 + 4
    first = [float(text) for text in lines[2].split()]
    row = table.isel(lead_time=0)
    ours = row.sel(source="forecast")
    ratio = ours.rmse / row.rmse.sel(source="persistence")
    expected = [0.5, ours.rmse, ours.bias, ratio]
    assert first[:4] == pytest.approx([float(value) for value in expected], abs=6e-4)


def test_an_ensemble_is_scored_by_its_mean_its_crps_and_its_spread(run):
    forecast(run, ForecastConfig(steps=2, members=3), show=False)
    table, spectrum = evaluate(run, references=["persistence"], show=False)
    ensemble = open_forecast(run).sit.load()
    single = ensemble.mean("member", keep_attrs=True)
    truth = truth_for(single, open_store(open_forecast(run).attrs["store"]))
    area = grid.cell_area(single)
    ours = table.sel(source="forecast")
    expected = scores.rmse(single, truth, single.ocean, area)
    np.testing.assert_allclose(ours.rmse_by_start, expected)
    expected = ensembles.crps(ensemble, truth, single.ocean, area).mean("init_time")
    np.testing.assert_allclose(table.crps.sel(source="forecast"), expected)
    # a single forecast has no spread, and its CRPS is its mean absolute error
    assert (ours.spread > 0).all() and table.spread.sel(source="persistence").isnull().all()
    persistence = table.sel(source="persistence")
    np.testing.assert_allclose(persistence.crps, persistence.mean_absolute_error)
    np.testing.assert_allclose(table.rank_histogram.sum("rank"), 1)
    assert set(spectrum.source.values) == {"truth", "forecast", "error"}


def test_a_grid_too_small_for_an_exponent_is_scored_all_the_same(waves, tmp_path, capsys):
    crop = PrepareConfig(state="waves", crop=(8, 16, 8, 16))
    store = prepare(crop, tmp_path / "small.zarr", show=False)
    run = trained_and_forecast(store, tmp_path / "runs" / "small")
    table, spectrum = evaluate(run, show=False)
    assert "no spectral exponent: wavelengths of" in capsys.readouterr().out
    assert np.isnan(spectrum.slope).all() and np.isfinite(spectrum.power).all()
    assert len(report(*read_evaluation(run)).splitlines()) == 2 + 4


def test_a_store_without_wind_is_scored_without_free_drift(run, store):
    for name in ("u10", "v10"):
        shutil.rmtree(store / name)
    (store / CHECKSUMS).unlink()  # the change is intended
    table, _ = evaluate(run, show=False)
    assert "free_drift" not in table.source.values and "climatology" in table.source.values


def test_an_unknown_reference_or_variable_is_refused(run):
    with pytest.raises(InputError, match="unknown reference 'tomorrow'; the known ones are persis"):
        evaluate(run, references=["tomorrow"], show=False)
    with pytest.raises(InputError, match="forecasts sit, not 'sic'"):
        evaluate(run, variable="sic", show=False)


def test_evaluating_against_a_store_with_other_times_is_refused(run, store, waves):
    change(waves / "test_1.nc", lambda d: d.assign_coords(time=d.time + np.timedelta64(3, "h")))
    prepare(PrepareConfig(state="waves"), store, show=False)
    with pytest.raises(InputError, match="is not the store from which the forecast was started"):
        evaluate(run, show=False)
    # A forecast that does not know its store still finds that its start is another time.
    sit = open_forecast(run).sit
    with pytest.raises(InputError, match="does not have the start 2010-01-01T00:00 where"):
        truth_for(sit, open_store(store))


def test_a_damaged_forecast_is_refused_when_it_is_read(run):
    shard = next((run / "forecast.zarr" / "sit" / "c" / "3").rglob("0"))
    shard = shard if shard.is_file() else next(p for p in shard.rglob("*") if p.is_file())
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"forecast.zarr: cannot be read .*seaice-lab forecast"):
        evaluate(run, show=False)
    shard.unlink()
    with pytest.raises(InputError, match="NaN in the ocean, probably because a chunk is missing"):
        evaluate(run, show=False)


def test_a_damaged_truth_is_refused_when_it_is_read(run, store):
    chunk = store / "sit" / "c" / str(open_forecast(run).position.values[0] + 1) / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"waves.zarr: sit cannot be read .*checksum.* is damaged"):
        evaluate(run, show=False)
    chunk.unlink()
    with pytest.raises(
        InputError, match="sit cannot be read .NaN in the ocean at 2010-01-01T06:00"
    ):
        evaluate(run, show=False)


def test_missing_forecasts_and_scores_say_which_command_makes_them(run, tmp_path):
    with pytest.raises(InputError, match="no such store; make it with `seaice-lab forecast"):
        open_forecast(tmp_path / "runs" / "none")
    with pytest.raises(InputError, match="scores.nc: cannot be read .*seaice-lab evaluate"):
        read_evaluation(run)
    (run / "forecast.zarr" / "zarr.json").write_text("{")
    with pytest.raises(InputError, match="zarr.json is damaged .* `seaice-lab forecast .*a` again"):
        open_forecast(run)
