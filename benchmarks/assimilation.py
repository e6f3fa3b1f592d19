"""Twin experiments of the assimilation and the cost of a gradient, as one table.

python benchmarks/assimilation.py [--cases cost t1 t2 t3 t4] [--run data/pretrained/sample]
                                  [--store STORE] [--lengths 100] [--stds 0.4]
                                  [--threads 1] [--folder FOLDER]

T1: all cells every two days; T2: tracks; T3: smooth weekly maps; T4: concentrations that the
emissivity model infers from simulated brightness temperatures. The truth is the test run, which the
network has not seen and with which nothing is chosen. The folder keeps all analyses, so that the
same command continues after an interruption.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from assimilation_bridge import bridge
from assimilation_twins import (
    METHODS,
    NOTHING,
    ahead,
    assimilated,
    rmse,
    row,
    twin_of,
    window_errors,
)

from seaice_lab import grid
from seaice_lab.assimilation import twins
from seaice_lab.assimilation.interpolation import cell_weights
from seaice_lab.assimilation.model import states
from seaice_lab.diagnostics.spectra import power_spectrum, spectral_exponent
from seaice_lab.surrogate.store import in_split

AT = 2 * np.array([1, 2, 5, 10])  # steps of the forecasts whose errors are printed
HYBRID = {"length_km": 100.0, "std": 0.5, "ensemble_weight": 0.5}  # background of T2
COLUMNS = "start, middle, end, mean"  # of a window
STATES = "start, middle, end, 5 d ahead"
DAYS = "1, 2, 5, 10 days ahead"


def all_cells(options):
    """T1: all cells every two days with noise of 0.15 m, windows of 10 days."""
    steps, sigma = 20, 0.15
    twin = twin_of(options, "validation")
    table, results = twins.observe_cells(twin.window(steps).sit, sigma), {}
    for length_km, interval in ((60.0, None), (120.0, None), (60.0, 4)):
        background, key = {"length_km": length_km}, (length_km, interval)
        results[key] = assimilated(twin, table, steps, background, model_error_steps=interval)
        forecast = ahead(twin, results[key].end, steps)
        name = f"T1 validation, {length_km:g} km, model error {interval}"
        row(name, rmse(twin, forecast[AT - 1], steps + AT), DAYS, f"2J/p {results[key].ratio:.2f}")
    # The error of the end of the window is that of the state from which the forecasts start.
    length_km, interval = min(results, key=lambda key: rmse(twin, results[key].states[-1], steps))
    # The assumed errors of the observations also cover those of the surrogate: 2J/p of the
    # validation run says by how much they are too small.
    factor = np.sqrt(results[length_km, interval].ratio)
    twin = twin_of(options, "test")
    table = twins.observe_cells(twin.window(steps).sit, sigma)
    assumed = table.assign(sigma=table.sigma * factor)
    background = {"length_km": length_km}
    result = assimilated(twin, assumed, steps, background, model_error_steps=interval)
    text = f"{length_km:g} km, model error {interval}, sigma x {factor:.2f}"
    row("T1 test, states of the window", window_errors(twin, result.states), COLUMNS)
    forecast, at = ahead(twin, result.end, steps), steps + AT
    text += f": 2J/p {result.ratio:.2f} (goal 0.9 to 1.1), {result.seconds:.0f} s"
    row("T1 test, forecast of the analysis", rmse(twin, forecast[AT - 1], at), DAYS, text)
    free = assimilated(twin, NOTHING, steps, {})
    row("T1 test, free run", rmse(twin, ahead(twin, free.end, steps)[AT - 1], at), DAYS)
    for name, field in observed_fields(twin, table).items():
        field = np.broadcast_to(field, (len(AT), *field.shape))
        row(f"T1 test, {name}", rmse(twin, field, at), DAYS)
    truth = np.nan_to_num(twin.truth.sit.values[[steps]]).astype(float)
    row("T1 test, forecast of the truth", rmse(twin, ahead(twin, truth, steps)[AT - 1], at), DAYS)


def observed_fields(twin, table):
    """Fields of observations of all cells: the last one, the mean, and that of the last three."""
    ocean = twin.truth.ocean.values
    observed = table["value"].values.reshape(-1, ocean.sum())
    fields = {"last observation": observed[-1], "mean of all observations": observed.mean(0)}
    fields["mean of the last three observations"] = observed[-3:].mean(0)
    images = {name: np.full(ocean.shape, np.nan) for name in fields}
    for name, values in fields.items():
        images[name][ocean] = values
    return images


def tracks(options):
    """T2: tracks over 5 % of the cells a day with noise of 0.3 m, windows of 16 and 20 days."""
    for split in ("validation", "test"):
        twin = twin_of(options, split)
        cases = [(method, 32, 8, {"length_km": length_km, "std": std})
                 for length_km in options.lengths for std in options.stds
                 for method in METHODS]  # fmt: skip
        cases += [("4D-Var", 32, 8, {"length_km": 0.0, "std": std}) for std in options.stds]
        cases += [(method, 40, 4, HYBRID) for method in METHODS]
        for method, steps, interval, background in cases:
            table = twins.observe_tracks(twin.window(steps).sit, 0.3)
            interval = interval if method == "4D-Var" else None
            result = assimilated(twin, table, steps, background, method, model_error_steps=interval)
            text = ", ".join(f"{name} {value}" for name, value in background.items())
            text += f", {steps // 2} days, 2J/p {result.ratio:.2f}, {result.seconds:.0f} s"
            row(f"T2 {split}, {method}", window_errors(twin, result.states), COLUMNS, text)
        free = assimilated(twin, NOTHING, steps, {})
        row(f"T2 {split}, free run", window_errors(twin, free.states), COLUMNS, "20 days")


def weekly_maps(options, steps=28):
    """T3: smooth weekly maps, two weeks; exponents of spectra against those of the free run."""
    factor = 1.0
    for split in ("validation", "test"):
        twin = twin_of(options, split)
        table = twins.observe_weekly_maps(twin.window(steps).sit, 0.1)
        assumed = table.assign(sigma=table.sigma * factor)
        # Not a mean, because it has no small scales.
        background = {"length_km": 200.0, "std": 0.3, "first": closest_state(twin, table)}
        exponents, powers = {}, {}
        for name, observed in (("free run", NOTHING), ("analysis", assumed)):
            result = assimilated(twin, observed, steps, background)
            fields = [*result.states[[0, steps // 2, -1]], ahead(twin, result.end, steps)[9]]
            exponents[name], powers[name] = spectrum_of(twin, fields)
            errors = window_errors(twin, result.states)
            row(f"T3 {split}, RMSE of the {name}", errors, COLUMNS, background["first"][:13])
            row(f"T3 {split}, exponent of the {name}", exponents[name], STATES)
        difference = exponents["analysis"] - exponents["free run"]
        text = f"goal: within 0.2; sigma x {factor:.2f}: 2J/p {result.ratio:.2f}"
        row(f"T3 {split}, difference of exponents", difference, STATES, text)
        factor = np.sqrt(result.ratio)  # as in T1, the validation run says how large errors are
        ratio = powers["analysis"] / powers["free run"]
        row(f"T3 {split}, ratio of power at 100 to 200 km", ratio, STATES)


def closest_state(twin, table):
    """Time of the training state that is closest to the first map, of times in no other run."""
    store = twin.source.store
    times, counts = np.unique(store.time.values, return_counts=True)
    is_single = np.isin(store.time.values, times[counts == 1])
    training = np.intersect1d(np.flatnonzero(is_single), in_split(store, "train"))
    candidates = store.sit.isel(time=training).load()
    first = table.isel(observation=(table.time == table.time[0]).values)
    cells = cell_weights(first.latitude.values, first.longitude.values, store)[0][:, 0]
    departures = candidates.values.reshape(len(candidates), -1)[:, cells] - first["value"].values
    return str(candidates.time.values[(departures**2).mean(1).argmin()])


def spectrum_of(twin, fields):
    """Exponent of the spectrum of each field, and its power at wavelengths of 100 to 200 km."""
    mask = xr.DataArray(twin.truth.ocean.values, dims=("y", "x"))
    fields = xr.DataArray(np.stack(fields), dims=("time", "y", "x"))
    power = power_spectrum(fields, mask, grid.spacing_m(twin.truth, twin.truth.ocean))
    is_short = (power.wavelength >= 100) & (power.wavelength <= 200)
    return spectral_exponent(power).slope.values, power.where(is_short).sum("wavenumber").values


def gradient_cost(options):
    """Time of a gradient in forward runs, with and without recomputation, and peak memory."""
    twin = twin_of(options, "test")
    initial = torch.from_numpy(np.nan_to_num(twin.truth.sit.values[[0]])).double()[None]
    for segment in (1, 0):  # peak memory only grows, so the smaller one is first
        model, seconds = twin.model._replace(segment=segment), {False: [], True: []}
        for is_gradient in (False, True) * 2:
            state, began = initial.clone().requires_grad_(is_gradient), time.process_time()
            with torch.set_grad_enabled(is_gradient):
                total = (states(model, state, (32,)) ** 2).sum()
                if is_gradient:
                    total.backward()
            seconds[is_gradient].append(time.process_time() - began)
        forward, gradient = min(seconds[False]), min(seconds[True])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        goal, kept = (4.5, "recomputed") if segment else (3.2, "all kept")
        text = f"processor seconds; goal {goal} forward runs; peak memory {peak:.2f} GB"
        values = forward, gradient, gradient / forward
        row(f"gradient of 32 steps, {kept}", values, "forward, gradient, ratio", text)


CASES = {"cost": gradient_cost, "t1": all_cells, "t2": tracks, "t3": weekly_maps, "t4": bridge}


def main():
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", default="data/pretrained/sample", help="surrogate of thickness")
    parser.add_argument("--store", help="its store; default: that of the run")
    parser.add_argument("--lengths", nargs="+", type=float, default=[100.0],
                        help="correlation lengths of B in T2, km")  # fmt: skip
    parser.add_argument("--stds", nargs="+", type=float, default=[0.4],
                        help="standard deviations of B in T2")  # fmt: skip
    parser.add_argument("--folder", type=Path, help="of the analyses",
                        default=Path(tempfile.gettempdir()) / "assimilation")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.cases:
        CASES[name](options)


if __name__ == "__main__":
    main()
