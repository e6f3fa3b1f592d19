"""Disturb the library on purpose: killed processes, mutated inputs, many sessions of the dashboard.

python benchmarks/campaign.py kills [--count 100] [--seed 0] [--jobs train "emissivity train"]
python benchmarks/campaign.py mutations [--count 500] [--first 0] [--seed 0]
python benchmarks/campaign.py sessions [--count 20] [--moves 1000] [--minutes 600]

Each prints what failed and a summary. Jobs are processes that are forked from this one, where all
imports are done, so that a kill falls into the work.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # forked processes cannot use the threads of this one

import numpy as np
import pandas as pd
import xarray as xr
import yaml
from mutations import mutate_inputs
from processes import start, tail, wait

from seaice_lab.config import FitConfig
from seaice_lab.emissivity.jobs import run_training
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.surrogate import sources
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.prepare import prepare
from seaice_lab.surrogate.settings import ForecastConfig, PrepareConfig, TrainConfig
from seaice_lab.surrogate.train import train

ENTRY = {
    "title": "Small Arctic",
    "format": "nextsimdg",
    "paths": ["ice/*.nc"],
    "variables": {name: name for name in ("sit", "t2m", "u10", "v10")},
    "grid": "EPSG:3413",
    "step_h": 6,
    "vectors": "grid",
    "generator": {"size": 24, "days": 12},
    "splits": {
        "train": {"period": ["2001-01-01", "2001-01-06"]},
        "validation": {"period": ["2001-01-07", "2001-01-08"]},
        "test": {"period": ["2001-01-09", "2001-01-12"]},
    },
    "licence": "CC0",
    "source": "generated",
}
SECONDS = 3600  # after which a job hangs; long, since other work may share the machine
FIT = FitConfig(epochs=4, batch_size=4)


def content(folder):
    """What counts in a folder of results: a digest for each file, without times of creation."""
    digests = {}
    for path in sorted(Path(folder).rglob("*")):
        hidden = any(name.startswith(".") for name in path.relative_to(folder).parts)
        # Checksums cover the date of writing, which significant() leaves out.
        if path.is_file() and not hidden and path.name != "checksums.json":
            value = significant(path)
            digests[str(path.relative_to(folder))] = hashlib.sha256(value).hexdigest()[:12]
    return digests


def significant(path):
    """The bytes of a file that a repeated job must reproduce."""
    if path.suffix == ".nc":
        with xr.open_dataset(path, decode_times=False) as dataset:
            return b"".join(
                f"{name}{variable.dims}".encode() + variable.values.tobytes()
                for name, variable in sorted(dataset.variables.items())
            )
    if path.suffix == ".csv":
        return pd.read_csv(path).drop(columns="seconds", errors="ignore").to_csv().encode()
    if path.suffix == ".json":
        values = json.loads(path.read_text())
        for record in (values, values.get("attributes") or {}):
            for key in ("created", "command", "history", "date_created"):
                record.pop(key, None)
        return json.dumps(values).encode()
    return path.read_bytes()


def make_inputs(folder):
    """Write the inputs of the jobs: a dataset, a store, a trained run and observations."""
    sources.make("ice", show=False)
    case = {"layout": "month", "sensors": ("amsr2",), "observations": (2500,)}
    simulate(SimulateConfig(size=16, days=3, **case), folder / "observations", show=False)
    prepare(PrepareConfig(state="ice"), folder / "given.zarr", show=False)
    train(train_config(folder), folder / "given", show=False)


def train_config(folder):
    """A small network on the given store."""
    store = str(folder / "given.zarr")
    return TrainConfig(store=store, network="UNet2", width=4, fit=FIT)


def kill_jobs(folder):
    """The jobs that are killed by name; each takes the folder of its results."""
    emissivity = EmissivityConfig(
        data=str(folder / "observations"),
        sensors=("amsr2",),
        model={"version": 1},
        fit={"epochs": 4, "batch_size": 256},
    )

    def make_forecast(workspace):
        if not (workspace / "run").exists():
            shutil.copytree(folder / "given", workspace / "copy")
            (workspace / "copy").replace(workspace / "run")
        forecast(workspace / "run", ForecastConfig(steps=3, batch_size=1), show=False)

    four_frames = 4 * 4 * 24**2
    return {
        "prepare": lambda workspace: prepare(
            PrepareConfig(state="ice"), workspace / "s.zarr", show=False, block_bytes=four_frames
        ),
        "train": lambda workspace: train(train_config(folder), workspace / "run", show=False),
        "forecast": make_forecast,
        "emissivity train": lambda workspace: run_training(
            emissivity, workspace / "run", show=False
        ),
    }


def kills(options, folder):
    """Kill each job at random moments, start it again, and compare with an undisturbed run."""
    rng = np.random.default_rng(options.seed)
    Path("data_catalog.yaml").write_text(yaml.safe_dump({"ice": ENTRY}))
    # This process opens no store: forked processes would wait for the threads that Zarr starts.
    if wait(start(lambda: make_inputs(folder), folder / "log"), SECONDS) != 0:
        sys.exit(f"the inputs cannot be made: {tail(folder / 'log')}")
    failures, jobs = 0, kill_jobs(folder)
    for name in options.jobs or jobs:
        job = jobs[name]
        for label in ("warm", "undisturbed"):  # the first one compiles, and fills caches
            undisturbed = folder / name / label
            undisturbed.mkdir(parents=True)
            began = time.monotonic()
            status = wait(start(partial(job, undisturbed), folder / "log"), SECONDS)
            seconds = time.monotonic() - began
            if status != 0:
                sys.exit(f"{name}: the undisturbed job ended with {status}: {tail(folder / 'log')}")
        expected, in_work, equal = content(undisturbed), 0, 0
        count = options.count // 4
        for number in range(count):
            workspace = folder / name / str(number)
            workspace.mkdir()
            log = folder / name / f"{number}.log"
            process = start(partial(job, workspace), log)
            in_work += wait(process, rng.uniform(0, seconds)) is None
            status = wait(start(partial(job, workspace), log), SECONDS)
            result = content(workspace)
            if status == 0 and result == expected:
                equal += 1
                shutil.rmtree(workspace)
                continue
            failures += 1
            keys = {key for key in expected | result if expected.get(key) != result.get(key)}
            print(
                f"{name} {number}: status {status}, differs in {sorted(keys)[:8]}, {tail(log)}",
                flush=True,
            )
        print(
            f"{name}: {equal} of {count} equal to the undisturbed run ({seconds:.1f} s), "
            f"{in_work} of the kills fell into the work",
            flush=True,
        )
    return failures


def sessions(options, folder):
    """Move the times in many browser sessions at once, and watch the memory of both sides.

    A move is over when the page has painted the new pictures; nothing waits for a fixed time.
    """
    import dashboard
    from playwright.sync_api import sync_playwright

    rng = np.random.default_rng(options.seed)
    name = dashboard.make_run(folder, 64)
    process, address = dashboard.serve(folder / "runs", Path(__file__).parents[1])
    failures, memory_mb, moves, began = 0, [], 0, time.monotonic()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"),
                args=["--no-sandbox", "--disable-background-networking"],
            )
            pages = [dashboard.usable(browser, address, name)[0] for _ in range(options.count)]
            print(f"{len(pages)} pages in {time.monotonic() - began:.0f} s", flush=True)
            leads, began = [1] * len(pages), time.monotonic()
            while moves < options.moves and time.monotonic() < began + 60 * options.minutes:
                for number, page in enumerate(pages):  # start all moves, then wait for them
                    leads[number] = int((leads[number] + rng.integers(1, 18)) % 19) + 1
                    page.evaluate(f"() => {{ window.moved = ({dashboard.MOVE})({leads[number]}) }}")
                for page in pages:
                    try:
                        page.evaluate("() => window.moved")
                    except Exception as error:  # a browser error of any kind is a failure
                        failures += 1
                        print(f"move {moves}: {error}", flush=True)
                moves += 1
                if moves % max(options.moves // 40, 1) == 0:
                    memory_mb.append((resident_mb(process.pid), resident_mb(os.getpid())))
                    minutes = (time.monotonic() - began) / 60
                    print(f"{moves} moves, {minutes:.1f} min, {memory_mb[-1]} MB", flush=True)
            browser.close()
    finally:
        process.terminate()
    server = [of_server for of_server, _ in memory_mb]
    print(
        f"{len(pages)} sessions of {moves} moves; memory in MB of server and browser: {memory_mb}"
    )
    # The first half fills the caches.
    return failures + (len(server) > 2 and server[-1] > 1.05 * server[len(server) // 2])


def resident_mb(pid):
    """Memory of a process and of those that it started, MB; shared pages count once."""
    total_kb, waiting = 0, [pid]
    while waiting:
        folder = Path(f"/proc/{waiting.pop()}")
        with contextlib.suppress(OSError):
            text = (folder / "smaps_rollup").read_text()
            total_kb += int(text.partition("\nPss:")[2].split()[0])
            for task in (folder / "task").iterdir():
                waiting += (task / "children").read_text().split()
    return round(total_kb / 1024)


CAMPAIGNS = {"kills": kills, "mutations": mutate_inputs, "sessions": sessions}
COUNTS = {"kills": 100, "mutations": 500, "sessions": 20}


def main():
    """Run one campaign; exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("campaign", choices=list(CAMPAIGNS))
    parser.add_argument("--count", type=int)
    parser.add_argument("--moves", type=int, default=1000)
    parser.add_argument("--jobs", nargs="+", help="Jobs to kill; by default all four.")
    parser.add_argument("--minutes", type=float, default=600, help="Longest time of sessions.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first mutation.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder that is kept, for looking at failures.")
    options = parser.parse_args()
    options.count = options.count or COUNTS[options.campaign]
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        failures = CAMPAIGNS[options.campaign](options, folder.absolute())
        os.chdir("/")
    print(f"{options.campaign}: {failures} failures, {time.monotonic() - began:.0f} s")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
