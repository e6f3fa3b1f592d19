"""Runs that come, grow, break and go while the dashboard is open: pages say so and go on."""

import itertools
import re
import shutil
from contextlib import suppress

import numpy as np
import pytest
from browser import (
    bar,
    curves,
    ended,
    go,
    images,
    serving,
    settled,
    state,
    until,
    until_listed,
    visit,
)
from playwright.sync_api import TimeoutError

from seaice_lab import runs
from seaice_lab.surrogate.store import CHECKSUMS, open_store

BEGIN = {"forecasts": "make demo", "scores": "make demo", "spectra": "make demo",
         "scaling": "seaice-lab scaling RUN", "season": "seaice-lab forecast RUN",
         "analyses": "seaice-lab assimilate run", "emissivity": "seaice-lab emissivity train",
         "runs": "make demo"}  # fmt: skip
REASONS = {
    "broken": "config.yaml: is not valid YAML",
    "newer": "has run format 99, this version reads format 1",
    "linked": "is a link out of the runs folder",
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A folder without runs and its server."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "runs").mkdir()
    server = serving(folder / "runs", folder)
    yield folder / "runs", server
    ended(server)


def test_an_empty_folder_says_how_to_begin_on_every_page(page, empty):
    go(page, empty[1])
    for name, words in BEGIN.items():
        visit(page, name)
        until(lambda words=words: page.get_by_text(words).count() == 1)
        # only the page of the runs has controls at the left
        assert name == "runs" or page.get_by_role("heading", name="yet").bounding_box()["x"] < 60


def test_the_first_run_appears_by_itself(page, empty, home):
    folder, server = empty
    go(page, server, page="runs")
    shutil.copytree(home / "runs" / "half", folder / "first")
    page.get_by_role("cell", name="first").wait_for()
    page.get_by_role("cell", name="stopped").wait_for()
    shutil.copytree(home / "runs" / "a", folder / "second")
    page.get_by_role("cell", name="second").wait_for()


def test_a_run_in_training_grows(page, served, home):
    go(page, served, page="runs", run="half")
    assert page.get_by_text("stopped before its end").count() == 1
    np.testing.assert_array_equal(curves(page)["Loss"]["Training"], [[1, 2], [0.9, 0.7]])
    history = home / "runs" / "half" / "history.csv"
    before = history.read_text()
    history.write_text(before + "3,0.5,0.6\n")
    until(lambda: curves(page)["Loss"]["Training"].shape == (2, 3))
    assert curves(page)["Loss"]["Validation"][1].tolist() == [0.8, 0.75, 0.6]
    history.write_text(before + "3,0.5,0.6\n4,")  # in the middle of being written
    until(lambda: curves(page)["Loss"]["Training"].shape == (2, 4))
    history.write_text(before)
    until(lambda: curves(page)["Loss"]["Training"].shape == (2, 2))
    with runs.heartbeat(home / "runs" / "half", "training", "epoch", 5) as beat:
        beat(3)
        row = re.compile(r"half.*training, epoch 3 of 5, .*heartbeat \d+ s ago")
        page.get_by_role("row", name=row).wait_for()
        page.get_by_text("in training: the loss below grows by itself").wait_for()


def test_runs_that_cannot_be_used_are_named_and_the_others_work(page, served, home):
    go(page, served, page="runs", run="a")
    rows = {row.split("\t")[0]: row for row in page.get_by_role("row").all_inner_texts()}
    for name, reason in REASONS.items():
        assert reason in rows[name] and str(home) not in rows[name], name
    assert "evaluated" in rows["a"] and "evaluated" in rows["sweep/inner"]
    assert "forecast" in rows["coarse"] and "trained" in rows["ice"]
    page.get_by_label("Run", exact=True).select_option("broken")
    page.get_by_text("This run cannot be used").wait_for()
    page.get_by_label("Run", exact=True).select_option("b")
    page.get_by_text("surrogate, complete").wait_for()
    go(page, served, page="forecasts", runs="broken,newer,linked")
    offered = page.locator("label:has(input[type=checkbox])").all_inner_texts()
    assert not {"broken", "newer", "linked", "half", "ice"} & {name.strip() for name in offered}


@pytest.fixture
def doomed(home):
    """A run with a store of its own."""
    run, store = home / "runs" / "doomed", home / "stores" / "doomed.zarr"
    shutil.copytree(home / "stores" / "waves.zarr", store)
    shutil.copytree(home / "runs" / "a", run)
    for file in run.joinpath("forecast.zarr").rglob("zarr.json"):
        file.write_text(file.read_text().replace("stores/waves.zarr", "stores/doomed.zarr"))
    (run / "forecast.zarr" / CHECKSUMS).unlink()  # the change is intended
    until_listed()
    yield run, store
    shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(store, ignore_errors=True)


@pytest.fixture
def passing(home):
    """A run on the store of the others."""
    run = home / "runs" / "passing"
    shutil.copytree(home / "runs" / "a", run)
    until_listed()
    yield run
    shutil.rmtree(run, ignore_errors=True)


def damage(folder):
    """Cut every chunk of a variable to half."""
    for file in (folder / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_store_that_breaks_is_told_under_its_maps_and_the_rest_goes_on(page, served, doomed):
    run, store = doomed
    go(page, served, page="forecasts", runs="doomed,a", lead=12, cell=500)
    assert np.isfinite(images(page)["Truth"]).any()
    damage(store / "sit")
    bar(page, "Lead time").press("ArrowRight")
    page.get_by_text("doomed.zarr: cannot be read here").first.wait_for()
    assert np.isnan(images(page)["Truth"]).all() and np.isfinite(images(page)["doomed"]).any()
    bar(page, "Start").fill("3")
    until(lambda: "Truth" not in next(iter(curves(page).values())))
    visit(page, "season")
    page.get_by_text(re.compile("doomed.zarr: .*cannot be read")).first.wait_for()
    visit(page, "forecasts")
    shutil.rmtree(store)
    bar(page, "Lead time").press("ArrowRight")
    page.get_by_text("doomed.zarr: no such store").first.wait_for()
    visit(page, "season")
    page.get_by_text("doomed.zarr: no such store").first.wait_for()
    assert "a" in curves(page)["Ice extent: area of the cells with ice"]
    assert "volume " in page.locator(".headline div").first.inner_text()
    assert open_store(store.with_name("waves.zarr"))  # the other one is whole


def test_a_forecast_that_breaks_or_goes_is_told(page, served, passing):
    go(page, served, page="forecasts", runs="passing,a", lead=12, cell=500)
    damage(passing / "forecast.zarr" / "sit")
    bar(page, "Lead time").press("ArrowRight")
    page.get_by_text("forecast.zarr: cannot be read here").first.wait_for()
    bar(page, "Start").fill("3")
    until(lambda: set(next(iter(curves(page).values()))) == {"Truth", "a"})
    shutil.rmtree(passing)
    starts = itertools.cycle(("2", "1"))

    message = page.get_by_text("there is no usable run 'passing'")

    def is_missed():
        # The message may come late, and then it replaces the sliders.
        with suppress(TimeoutError):
            bar(page, "Start").fill(next(starts), timeout=1000)
        settled(page)
        return message.count() > 0

    until(is_missed)  # when the server lists the folder again
    page.get_by_role("link", name="Scores", exact=True).click()
    until(lambda: state(page)["page"] == "scores")
    page.reload()
    settled(page)
    assert "passing" not in state(page)["runs"]


def test_scores_that_break_are_told_and_the_other_run_is_shown(page, served, passing):
    for name in ("scores.nc", "spectra.nc"):
        file = passing / name
        file.write_bytes(file.read_bytes()[:1000])
    go(page, served, page="scores", runs="passing,a")
    page.get_by_text("passing: scores.nc: cannot be read").wait_for()
    assert "a (8 starts)" in next(iter(curves(page).values()))
    visit(page, "spectra")
    page.get_by_text("passing: spectra.nc: cannot be read").wait_for()
