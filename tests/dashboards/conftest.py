"""A folder of runs made by the library, a server of it in a process of its own, and a browser."""

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from browser import ended, serving
from conftest import write_waves
from playwright.sync_api import sync_playwright

from seaice_lab import files
from seaice_lab.assimilation.cycle import run_cycle
from seaice_lab.assimilation.observations import write_table
from seaice_lab.assimilation.settings import AssimilationConfig
from seaice_lab.assimilation.twins import observe_tracks
from seaice_lab.config import FitConfig
from seaice_lab.emissivity import products
from seaice_lab.emissivity.run import load
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.emissivity.train import train as emissivity_train
from seaice_lab.surrogate.evaluation import evaluate
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.scaling import evaluate_scaling
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.train import train

LEADS = 8
# Bokeh reports an error if a browser leaves while it is being answered, which is no fault.
GONE = re.compile(
    r"(ERROR:asyncio:)?Task exception was never retrieved\nfuture.*?\n\S*WebSocketClosedError\n"
    r"|(ERROR:bokeh\S+ handling message|(ERROR:\S+:)?Uncaught exception GET /ws)"
    r"(?:(?!Traceback).)*Traceback(?:(?!Traceback).)*assert self\._session is not None\n"
    r"[ ^]*\nAssertionError\n",
    re.DOTALL,
)
HOSTILE = "<img src=x onerror=alert(1)>"
NOTEBOOK = (
    "<html><body><h1 id='kept'>Season</h1><script>document.title = 'it ran'</script>"
    "<img src='http://192.0.2.1/outside.png'><img src='data:image/gif;base64,"
    "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7'></body></html>"
)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A working folder with stores and ``runs``: two evaluated runs, and one of each other kind."""
    # One test process makes it, each one changes a copy of its own.
    parallel = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp()
    made = (base.parent if parallel else base) / "made_home"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make_home(tmp_path_factory.mktemp("unfinished_home")).rename(made)
    return shutil.copytree(made, base / "home", symlinks=True)


def make_home(folder):
    """Fill a folder, which the runs know by relative paths only."""
    with contextlib.chdir(folder):
        make_runs(folder)
    return folder


def make_runs(folder):
    """Fill the present folder."""
    write_waves(folder)
    prepare(PrepareConfig(state="waves"), "stores/waves.zarr", show=False)
    prepare(PrepareConfig(state="waves", coarsen=2), "stores/coarse.zarr", show=False)
    forecast_of("coarse", "coarse", 2)
    case = {"size": 24, "hemisphere": "both", "days": 3, "sensors": ("amsr2",)}
    simulated = SimulateConfig(**case, observations=(2000,))
    simulate(simulated, "simulated", show=False)
    short = {"starts": 1, "network_steps": 2, "state_steps": 1}
    config = {"data": "simulated", "method": "gauss_newton", "model": {"version": 2},
              "solve": short, "fit": {"epochs": 1}}  # fmt: skip
    emissivity_train(EmissivityConfig(**config), "runs/ice", show=False)
    products.write_grid(*load("runs/ice"), "runs/ice", "final")
    for name, seed in (("b", 1), ("a", 0)):
        forecast_of(name, "waves", seed)
        evaluate(f"runs/{name}", references=["persistence", "climatology"], show=False)
    assimilated("cycle", "a")
    evaluate_scaling("runs/a", starts=2, show=False)
    shutil.copy("runs/a/scaling.nc", "runs/b/scaling.nc")
    copied("a", f"runs/{HOSTILE}")
    ensemble = copied("a", "runs/members")
    forecast(ensemble, ForecastConfig(steps=LEADS, members=3, every=4), show=False)
    evaluate(ensemble, references=["persistence"], show=False)
    copied("a", "runs/sweep/inner")
    copied("a", "elsewhere/run")
    Path("runs/linked").symlink_to("../elsewhere/run")
    half_trained("runs/half")
    copied("a", "runs/broken")
    Path("runs/broken/config.yaml").write_text("store: [stores/wav", encoding="utf-8")
    copied("a", "runs/newer")
    facts = Path("runs/newer/provenance.json")
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 99'), encoding="utf-8")
    notebooks = Path("runs/a/notebooks")
    notebooks.mkdir()
    (notebooks / "07_season.html").write_text(NOTEBOOK, encoding="utf-8")
    (notebooks / "notes.txt").write_text("private", encoding="utf-8")
    (notebooks / "linked.html").symlink_to("../../../data_catalog.yaml")


def forecast_of(name, store, seed):
    """A run with forecasts of `LEADS` steps."""
    fit = FitConfig(epochs=1, batch_size=8, learning_rate=1e-3, seed=seed)
    config = TrainConfig(store=f"stores/{store}.zarr", width=4, network="CNN", fit=fit)
    run = train(config, f"runs/{name}", show=False)
    forecast(run, ForecastConfig(steps=LEADS), show=False)


def assimilated(target, name):
    """A cycle of two windows with observations of a run, without forecasts."""
    store = open_store("stores/waves.zarr")
    truth = store.isel(time=store.split.values == 2).sit.load()
    write_table(observe_tracks(truth, sigma=0.05, share=0.8), "tracks.nc")
    settings = {"run": f"runs/{name}", "start": str(truth.time.values[0]), "split": "test"}
    settings |= {"windows": 2, "window_steps": 2, "forecast_steps": 0}
    settings |= {"minimiser": {"iterations": 3}, "observations": ("tracks.nc",)}
    settings["background"] = {"first": "mean", "normalisation_probes": 20}
    run_cycle(AssimilationConfig(**settings), f"runs/{target}", show=False)
    earlier(f"runs/{target}")


def copied(name, target):
    """A copy of a run, as if made a little earlier than it."""
    shutil.copytree(f"runs/{name}", target)
    return earlier(Path(target))


def earlier(target):
    """Write that a run was made in 2020, so that it is not the newest one."""
    facts = Path(target, "provenance.json")
    created = yaml.safe_load(facts.read_text())["created"]
    facts.write_text(facts.read_text().replace(created, "2020" + created[4:]), encoding="utf-8")
    return target


def half_trained(target):
    """A run that has passed two of its epochs."""
    for name in ("finished", "forecast.zarr", "scores.nc", "spectra.nc", "scaling.nc"):
        path = copied("a", target) / name if name == "finished" else Path(target) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    files.write_text(
        Path(target) / "history.csv",
        "epoch,train_loss,validation_loss\n1,0.9,0.8\n2,0.7,0.75\n",
    )


@pytest.fixture(scope="session")
def served(home, tmp_path_factory):
    """The address of a server of ``home / "runs"``, and its log."""
    # from another folder: stores are found beside the runs
    process = serving(home / "runs", tmp_path_factory.mktemp("server"))
    yield process
    ended(process)


@pytest.fixture(scope="package")
def chromium():
    """The browser of all tests of this folder; others may need the thread's loop of events."""
    path = shutil.which("chromium")
    if path is None:
        sentence = "chromium is missing; install it (on Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def window(chromium):
    """A browser window that keeps what it has fetched; its ``faults`` say what went wrong in it."""
    # A turning sign of what is being drawn would take time from what draws it.
    window = chromium.new_context(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    window.set_default_timeout(60_000)
    faults = window.faults = []

    def listen(page):
        page.on("console", lambda m: m.type == "error" and faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))

    window.on("page", listen)
    window.on("request", lambda r: outside(r.url) and faults.append(f"asks for {r.url}"))
    yield window
    window.close()


@pytest.fixture
def context(window, served):
    """The browser window; whatever goes wrong in it or in the server fails the test."""
    said = served.log.stat().st_size
    window.faults.clear()
    yield window
    for page in window.pages:
        page.close()
    assert not window.faults
    with served.log.open() as log:
        log.seek(said)
        text = GONE.sub("", log.read())
    assert "Traceback" not in text and "ERROR" not in text, text[-3000:]


def outside(url):
    """Whether a request leaves the machine."""
    return not url.startswith(("http://localhost:", "ws://localhost:", "data:", "blob:"))


@pytest.fixture
def page(context):
    """A page of the browser."""
    return context.new_page()
