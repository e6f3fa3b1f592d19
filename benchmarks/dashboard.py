"""Time the dashboard in a real browser: first paint and page, new lead time, memory, sessions.

python benchmarks/dashboard.py [CHECKOUT] [--sizes 128 512 1024] [--moves 40] [--long 1000]
    [--sessions 20]

Needs chromium and playwright (pip install playwright). The script writes runs of random fields to
a temporary folder. The browser measures the time from the change of the slider to the painted
picture. With CHECKOUT, the folder of another version of the project, both versions are measured
alternately, so that other work on the machine slows both.
"""

import argparse
import os
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
from seaice_lab.surrogate.store import COMPRESSORS

LEADS, STARTS = 20, 2
STEP = np.timedelta64(12, "h")
# Moves the slider and resolves when the last map has been painted with the new picture.
MOVE = """async (lead) => {
  const models = [...Bokeh.documents[0]._all_models.values()]
  // Older versions have a Player of Panel.
  const bar = models.find((m) => m.attributes?.playable || m.type.endsWith("Player"))
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


FIRST_PAINT = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN"


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
    encoding = {"sit": {"chunks": (1, size, size), "compressors": COMPRESSORS}}
    prepared.to_zarr(store, zarr_format=3, consolidated=False, encoding=encoding)
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


def serve(folder, checkout):
    """Start the dashboard of a checkout; returns its process and address."""
    command = [sys.executable, "-m", "seaice_lab.cli", "dashboard", "--port", "0", "--runs"]
    process = subprocess.Popen(
        [*command, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout)},
    )
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


def processor_ms(process):
    """Processor time of a process in ms."""
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return 1e3 * (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def measure_moves(browser, servers, names, moves):
    """Print the times of a first page and of a new lead time.

    Parameters
    ----------
    browser : playwright.sync_api.Browser
    servers : dict of str to (subprocess.Popen, str)
        Process and address by the name of the version; all versions are measured alternately.
    names : dict of int to str
        Names of runs by the size of their grid.
    moves : int
    """
    rng = np.random.default_rng(1)
    print(
        "grid  version       page cold   warm  first paint   server   new lead p50     p95   "
        "server per move"
    )
    for size, name in names.items():
        pages, opened, times_ms, server_ms = {}, {}, {}, {}
        for version, (process, address) in servers.items():
            page, cold = usable(browser, address, name)
            page.close()
            before = processor_ms(process)
            pages[version], warm = usable(browser, address, name)
            first_paint = pages[version].evaluate(FIRST_PAINT) / 1e3
            server = (processor_ms(process) - before) / 1e3
            opened[version] = (cold, warm, first_paint, server)
            times_ms[version], server_ms[version] = [], 0
        leads = [int(k) for k in rng.permutation(np.resize(np.arange(1, LEADS), 1000))]
        leads = [a for a, b in zip(leads, leads[1:], strict=False) if a != b]
        for lead in leads[:moves]:
            for version, (process, _) in servers.items():
                before = processor_ms(process)
                times_ms[version].append(pages[version].evaluate(MOVE, lead))
                time.sleep(0.4)  # for what follows the pictures, such as the maps in words
                server_ms[version] += processor_ms(process) - before
        for version in servers:
            cold, warm, first_paint, server = opened[version]
            median, slow = np.percentile(times_ms[version], (50, 95))
            print(
                f"{size:4d}  {version:12s} {cold:8.2f} s {warm:4.2f} s {first_paint:10.2f} s "
                f"{server:6.2f} s "
                f"{median:11.0f} ms {slow:4.0f} ms {server_ms[version] / moves:14.1f} ms",
                flush=True,
            )
            pages[version].close()


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
    parser.add_argument("checkout", nargs="?", type=Path, help="folder of another version")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 512, 1024])
    parser.add_argument("--moves", type=int, default=40)
    parser.add_argument("--long", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=20)
    options = parser.parse_args()
    checkouts = {"this": Path(__file__).parents[1]}
    if options.checkout:
        checkouts["other"] = options.checkout.resolve()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        names = {size: make_run(folder, size) for size in options.sizes}
        servers = {name: serve(folder / "runs", path) for name, path in checkouts.items()}
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        try:
            measure_moves(chromium, servers, names, options.moves)
            process, address = servers["this"]
            open_page = partial(usable, chromium, address)
            name = names[min(options.sizes, key=lambda size: abs(size - 512))]
            if options.long:
                measure_memory(open_page, process, name, options.long)
            if options.sessions:
                measure_sessions(open_page, process, name, options.sessions)
        finally:
            chromium.close()
            for process, _ in servers.values():
                process.terminate()


if __name__ == "__main__":
    main()
