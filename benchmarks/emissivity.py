"""Time the emissivity training: exact Adam and Gauss-Newton, compared with the published code.

python benchmarks/emissivity.py [--version 1] [--days 31] [--observations 1000000] [--size 140]
                                [--epochs 3] [--solve] [--folder ...]

Set OMP_NUM_THREADS=1 for a training on a CPU: its operations are too small for several threads. The
matrix product runs on two threads, as for the published figures, before and after each measurement.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from yardstick import matmul_gflops

from seaice_lab.emissivity import evaluation
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.model import MAPS, PUBLISHED_BATCH, EmpiricalState
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.run import initial_state, load
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig, SolveConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.emissivity.train import read_batches, total_cost, train

# Published code: observations/s by version and days (10 000 cells, batch 1024, two idle cores at
# 200 GFLOP/s), epochs of a training, and peak memory in GB for a million observations.
PUBLISHED = {(1, 31): 158_000, (1, 366): 15_700, (2, 31): 83_500, (2, 366): 11_900}
PUBLISHED_GFLOPS, EPOCHS, PEAK_GB = 200, {1: 8, 2: 25}, {1: 3.3, 2: 1.5}


def peak_gb():
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def copy_gb_per_second():
    """Speed of a copy in GPU memory (bytes read and written), median of five, in GB/s."""
    values = torch.randn(2**28, device="cuda")
    there, times = torch.empty_like(values), []
    for _ in range(6):
        torch.cuda.synchronize()
        began = time.perf_counter()
        there.copy_(values)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * values.nbytes / 1e9 / statistics.median(times[1:])


def yardstick():
    """GFLOP/s of the matrix product on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    gflops = matmul_gflops()
    torch.set_num_threads(threads)
    return gflops


def published(options, speeds):
    """Observations/s of the published code on this machine; prints the matrix-product speed."""
    gflops = sum(speeds) / len(speeds)
    print(f"matrix product {gflops:.0f} GFLOP/s")
    return published_speed(options) * gflops / PUBLISHED_GFLOPS


def published_speed(options):
    """Observations/s of the published code where it was measured, for the nearest case."""
    days = min((31, 366), key=lambda length: abs(length - options.days))
    return PUBLISHED[options.version, days]


def main():
    """Measure and print the results."""
    options = parse_options()
    torch.manual_seed(0)
    print(f"version {options.version}, {options.days} days, {torch.get_num_threads()} threads")
    config = make_case(options)
    columns = Path(config.data) / "columns"
    began = time.perf_counter()
    observations = prepare(config, columns, show=False)
    print(
        f"preparation of {observations.size} observations in {len(observations.latitude)} cells: "
        f"{time.perf_counter() - began:.1f} s, peak {peak_gb():.2f} GB"
    )
    if options.epochs:
        time_adam(options, config, observations)
    if options.solve:
        time_solver(options, config, observations)
    # The first guess comes last, because it would raise the peak memory of the measurements above.
    print("first guess: ", end="")
    show_truth(config.data, observations, initial_state(config, observations))


def parse_options():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--version", type=int, default=1, choices=(1, 2))
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--observations", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=140, help="140: about 10 000 cells")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of exact Adam; 0 skips it")
    parser.add_argument("--solve", action="store_true", help="also time Gauss-Newton")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "emissivity")
    return parser.parse_args()


def make_case(options):
    """Simulate the observations if they are missing; returns the configuration of the training."""
    layout, sensors, shares = "year", ("amsr2",), (1.0,)
    if options.version == 2:
        layout, sensors, shares = "sensors", ("amsr2", "gmi", "ssmisf17"), (0.4, 0.3, 0.3)
    name = f"v{options.version}-{options.days}-{options.observations}-{options.size}"
    data = options.folder / name
    if not (data / "truth.nc").exists():
        case = SimulateConfig(
            layout=layout,
            sensors=sensors,
            size=options.size,
            observations=[int(share * options.observations) for share in shares],
            days=options.days,
        )
        simulate(case, data)
    return EmissivityConfig(
        data=str(data),
        sensors=sensors,
        model={"version": options.version},
        fit={"epochs": max(options.epochs, 1), "compile": "auto"},
    )


def time_adam(options, config, observations):
    """Time a training with exact Adam, and print the quality of its state."""
    speeds = [yardstick()]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run = Path(folder) / "run"
        began = time.perf_counter()
        history = train(config, run, show=False)
        peak = peak_gb()
        print(f"{options.epochs} epochs of exact Adam: {time.perf_counter() - began:.0f} s")
        show_truth(config.data, observations, load(run, observations)[0])
    rate = observations.size / history.seconds[1:].median()  # the first epoch compiles
    if torch.cuda.is_available():
        model = initial_state(config, observations)
        show_gpu(rate, published_speed(options), config, model)
        return
    reference = published(options, speeds + [yardstick()])
    print(
        f"exact Adam: {rate:,.0f} observations/s, {rate / reference:.1f} times the published code, "
        f"peak {peak:.2f} GB (published code: {PEAK_GB[options.version]} GB for a million "
        "observations)"
    )


def time_solver(options, config, observations):
    """Time Gauss-Newton, and print the quality of its state."""
    model = initial_state(config, observations)
    speeds, began = [yardstick()], time.perf_counter()
    history, _ = solve(model, observations, SolveConfig(), show=False)
    seconds = time.perf_counter() - began
    epochs = EPOCHS[options.version]
    published_seconds = epochs * observations.size / published(options, speeds + [yardstick()])
    print(
        f"Gauss-Newton: {seconds:.0f} s, cost {history[-1]['cost']:.3f} per observation; the "
        f"published {epochs} epochs would take {published_seconds:,.0f} s here, "
        f"{published_seconds / seconds:.0f} times as long; peak {peak_gb():.2f} GB"
    )
    show_truth(config.data, observations, model)


def show_gpu(rate, reference, config, model):
    """Print the speed on a GPU, and the share of its memory bandwidth in use."""
    peak = torch.cuda.max_memory_allocated() / 1e9
    step, copy = config.fit.batch_size / rate, copy_gb_per_second()
    maps = sum(getattr(model, name).numel() for name in MAPS)
    moved = 2 * 4 * 4 * maps / 1e9 / step  # values, gradient and two moments, read and written
    print(
        f"exact Adam on {torch.cuda.get_device_name()}: {rate:,.0f} observations/s, "
        f"{rate / reference:.0f} times the published code on two cores with {PUBLISHED_GFLOPS} "
        f"GFLOP/s; {1e6 * step:.0f} us per step; the maps use {moved:,.0f} GB/s of memory "
        f"bandwidth, {moved / copy:.0%} of the speed of a copy; peak {peak:.2f} GB of GPU memory"
    )


@torch.no_grad()
def show_truth(data, observations, model: EmpiricalState):
    """Print the cost of a state and the errors of its concentration."""
    total = model.map_costs(epoch=0)["sea_ice"]
    for batch in read_batches(observations, np.arange(observations.size), 8 * PUBLISHED_BATCH):
        share = len(batch.number) / observations.size
        total = total + share * total_cost(model, batch)["loss"]
    truth = xr.load_dataset(Path(data) / "truth.nc").sic.values
    scores = evaluation.concentration_scores(evaluation.sea_ice_maps(model), truth)
    errors = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    print(f"cost {total:.4f} per observation; error of the concentration: {errors}")


if __name__ == "__main__":
    main()
