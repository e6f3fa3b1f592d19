"""Time the dashboard in a real browser: first page, new lead time, memory, many sessions.

python benchmarks/dashboard.py [--sizes 128 512 1024] [--moves 40] [--long 1000] [--sessions 20]

Needs chromium and playwright (pip install playwright). The script writes runs of random fields to
a temporary folder. The browser measures the time from the change of the slider to the painted
picture.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr
from playwright.sync_api import sync_playwright

from seaice_lab import grid, runs
from seaice_lab.config import Config

LEADS, STARTS = 20, 2
STEP = np.timedelta64(12, "h")
# Moves the slider and resolves when the last map has been painted with the new picture.
MOVE = """async (lead) => {
  const models = [...Bokeh.documents[0]._all_models.values()]
  const bar = models.find((m) => m.attributes?.playable)
  const maps = models.filter((m) => m.type == "ColumnDataSource" && m.data.image
                             && m.data.image[0].dtype == "float32")
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))
  const began = performance.now()
  const news = Promise.all(maps.map((m) => new Promise((done) => {
    const heard = () => { m.properties.data.change.disconnect(heard); done() }
    m.properties.data.change.connect(heard)
  })))
  const late = new Promise((_, fail) => setTimeout(() => fail(Error("no picture in 300 s")), 300e3))
  bar.value = lead
  await Promise.race([news, late])
  await painted()
  return performance.now() - began
}"""


class EmptyConfig(Config):
    """An empty configuration."""


def make_run(folder, size):
    """Write a run with a random forecast and its truth, in the format of the library."""
    store, run = folder / f"store{size}.zarr", folder / "runs" / f"grid{size}"
    centre = (np.arange(size) - size / 2 + 0.5) * (3.2e6 / size)
    x, y = np.meshgrid(centre, centre)
    latitude, longitude = (values.astype("float32") for values in grid.unproject(x, y))
    ocean = np.hypot(x, y) < 1.55e6
    coordinates = {
        "y": centre,
        "x": centre,
        "latitude": (("y", "x"), latitude),
        "longitude": (("y", "x"), longitude),
        "ocean": (("y", "x"), ocean),
    }
    rng = np.random.default_rng(0)
    times = np.datetime64("2020-01-01", "ns") + STEP * np.arange(LEADS + STARTS)
    truth = np.where(ocean, rng.random((len(times), size, size), "float32") * 4, np.nan)
    attrs = {"units": "m", "standard_name": "sea_ice_thickness"}
    truth = truth.astype("float32")
    prepared = xr.Dataset(
        {"sit": (("time", "y", "x"), truth, attrs)}, coordinates | {"time": times}
    ).assign_coords(segment=("time", np.zeros(len(times), "int32")))
    prepared.attrs = {"statistics": "{}", "configuration": "", "fingerprint": str(size)}
    prepared.to_zarr(
        store, zarr_format=3, consolidated=False, encoding={"sit": {"chunks": (1, size, size)}}
    )
    valid = times[np.arange(STARTS)[:, None] + 1 + np.arange(LEADS)]
    values = np.stack([truth[s + 1 : s + 1 + LEADS] for s in range(STARTS)])
    values += 0.1 * rng.standard_normal(values.shape, "float32")
    forecast = xr.Dataset(
        {"sit": (("init_time", "lead_time", "y", "x"), values, attrs)},
        coordinates
        | {
            "init_time": times[:STARTS],
            "lead_time": STEP * np.arange(1, LEADS + 1),
            "valid_time": (("init_time", "lead_time"), valid),
            "position": ("init_time", np.arange(STARTS, dtype="int32")),
        },
        {"store": str(store)},
    )
    runs.create(run, EmptyConfig(), "surrogate")
    forecast.to_zarr(
        run / "forecast.zarr",
        zarr_format=3,
        consolidated=False,
        encoding={
            "sit": {"chunks": (1, 1, size, size), "shards": (1, LEADS, size, size)},
            "lead_time": {"units": "hours", "dtype": "float64"},
        },
    )
    return run.name


def serve(folder):
    """Start a dashboard; returns its process and address."""
    command = [sys.executable, "-m", "seaice_lab.cli", "dashboard", "--port", "0", "--runs"]
    process = subprocess.Popen([*command, str(folder)], stdout=subprocess.PIPE, text=True)
    address = next(word for word in process.stdout.readline().split() if word.startswith("http"))
    urllib.request.urlopen(address).read()
    return process, address


def resident_mb(process):
    """Resident memory of a process in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def usable(browser, address, run):
    """Open a page and wait for its maps; returns the page and the time in seconds."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(300_000)
    began = time.perf_counter()
    page.goto(f"{address}?runs={run}")
    page.wait_for_selector(".bk-Figure canvas, canvas", state="visible")
    page.wait_for_function(
        "() => [...Bokeh.documents[0]._all_models.values()].some((m) => m.data && m.data.image"
        " && m.data.image[0].some((v) => Number.isFinite(v) && v > 1))"
    )
    return page, time.perf_counter() - began


def measure_moves(open_page, names, moves):
    """Print the times of a first page and of a new lead time; ``names`` are runs by size."""
    rng = np.random.default_rng(1)
    print(
        f"{'grid':>5s} {'page cold':>9s} {'warm':>6s} {'new lead p50':>12s} {'p95':>7s} {'max':>7s}"
    )
    for size, name in names.items():
        page, cold = open_page(name)
        page.close()
        page, warm = open_page(name)
        leads = [int(k) for k in rng.permutation(np.resize(np.arange(1, LEADS), 1000))]
        leads = [a for a, b in zip(leads, leads[1:], strict=False) if a != b]
        times_ms = [page.evaluate(MOVE, lead) for lead in leads[:moves]]
        median, slow = np.percentile(times_ms, (50, 95))
        print(
            f"{size:5d} {cold:7.2f} s {warm:4.2f} s {median:9.0f} ms {slow:4.0f} ms "
            f"{max(times_ms):4.0f} ms",
            flush=True,
        )
        page.close()


def measure_memory(open_page, process, name, moves):
    """Print the memory of the server during many moves on one page."""
    page, _ = open_page(name)
    memory = []
    for k in range(moves):
        page.evaluate(MOVE, k % (LEADS - 1) + 1)
        if (k + 1) % max(moves // 5, 1) == 0:
            memory.append(resident_mb(process))
    page.close()
    values = ", ".join(f"{value:.0f}" for value in memory)
    print(f"server memory over {moves} moves: {values} MB")


def measure_sessions(open_page, process, name, sessions):
    """Print the times and the memory of many sessions that move together."""
    before, failed, times_ms = resident_mb(process), 0, []
    pages = [open_page(name)[0] for _ in range(sessions)]
    memory_mb = (resident_mb(process) - before) / max(sessions, 1)
    for k in range(5):
        for page in pages:  # start all moves, then wait for them
            page.evaluate(f"() => {{ window.moved = ({MOVE})({k + 2}) }}")
        for page in pages:
            try:
                times_ms.append(page.evaluate("() => window.moved"))
            except Exception as error:
                failed += 1
                print(error)
    print(
        f"{sessions} sessions moving together: {failed} failed, new lead p50 "
        f"{np.percentile(times_ms, 50):.0f} ms, p95 {np.percentile(times_ms, 95):.0f} ms, "
        f"{memory_mb:.1f} MB per session"
    )


def main():
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--long", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        names = {size: make_run(folder, size) for size in options.sizes}
        process, address = serve(folder / "runs")
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        try:
            open_page = partial(usable, chromium, address)
            measure_moves(open_page, names, options.moves)
            name = names[min(options.sizes, key=lambda size: abs(size - 512))]
            measure_memory(open_page, process, name, options.long)
            measure_sessions(open_page, process, name, options.sessions)
        finally:
            chromium.close()
            process.terminate()


if __name__ == "__main__":
    main()
