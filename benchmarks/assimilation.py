"""Twin experiments of the assimilation and the cost of a gradient, as one table.

python benchmarks/assimilation.py [--cases cost t1 t2 t3] [--run data/pretrained/sample]
                                  [--store STORE] [--lengths 75 100 150] [--threads 1]

T1: all cells every two days; T2: tracks; T3: smooth weekly maps. The truth is the test run, which
the network has not seen; what is chosen is chosen in the validation run.
"""

import argparse
import resource
import time
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from seaice_lab import grid
from seaice_lab.assimilation import cycle, twins
from seaice_lab.assimilation.background import block_diagonal
from seaice_lab.assimilation.model import (
    OpenedWindow,
    Source,
    WindowModel,
    open_source,
    states,
    window_model,
)
from seaice_lab.assimilation.model_error import model_error_root
from seaice_lab.assimilation.settings import AssimilationConfig
from seaice_lab.assimilation.window_analysis import analyse
from seaice_lab.diagnostics.spectra import power_spectrum, spectral_exponent
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.store import in_split

STEPS = 40  # of the surrogate in a run of 20 days
AT = 2 * np.array([1, 2, 5, 10])  # steps of the forecasts whose errors are printed
COLUMNS = "start, middle, end, mean"  # of a window
DAYS = "1, 2, 5, 10 days ahead"
BACKGROUND = {"first": "mean", "std": 0.6, "pattern": "training", "normalisation_probes": 200}
MINIMISER = {"iterations": 40, "gradient": 0.02, "segment": 0}


class Twin(NamedTuple):
    """A run of 20 days: its truth, every 12 hours, and the surrogate with the forcing of the run.

    ``truth`` is a Dataset with all variables of the state, and ``model`` has all steps of the run.
    """

    source: Source
    split: str
    truth: xr.Dataset
    model: WindowModel

    @property
    def start(self):
        """Time of the first state."""
        return self.truth.time.values[0]

    def window(self, steps):
        """The truth at the times of the first window."""
        return self.truth.isel(time=slice(0, steps + 1))


def twin_of(run, store, split):
    """The twin experiment of a split from its first time on."""
    source = open_source(run, store)
    names = list(source.surrogate.window.variables)
    truth = source.store[names].isel(time=in_split(source.store, split))
    start, step = truth.time.values[0], source.surrogate.window.step
    truth = truth.sel(time=start + step * np.arange(STEPS + 1)).load()
    job = ForecastConfig(starts=[str(start)], steps=STEPS, split=split)
    positions = start_positions(source.store, source.surrogate.window, job, False)
    return Twin(source, split, truth, window_model(source, positions, STEPS))


class Result(NamedTuple):
    """Analysis of a window.

    ``states`` (step, y, x) has the first variable, ``end`` (batch, channel, y, x) the last state,
    ``ratio`` is 2J/p, ``seconds`` processor time.
    """

    states: np.ndarray
    end: torch.Tensor
    ratio: float
    seconds: float


def assimilated(twin, table, steps, background, model=None, **changes):
    """Analyse the first window of a twin experiment."""
    began, config = time.process_time(), settings(twin, steps, background, changes)
    first = torch.from_numpy(cycle.first_background(twin.source, config, twin.start))
    root = cycle.background_root(twin.source, config.background)
    if config.intervals:
        error = model_error_root(twin.source, config.model_error_steps, config.background)
        root = block_diagonal([root, *[error] * config.intervals])
    model = model or twin.model._replace(forcing=twin.model.forcing[:steps])
    opened = OpenedWindow(model, first, twin.source.surrogate, twin.source.store)
    window, departures = analyse(opened, table, config, root, twin.start)
    fields = window[twin.source.surrogate.window.variables[0]].sel(state="analysis").values
    ratio = np.nan
    if departures is not None:
        total = window.cost_of_background + window.cost_of_model_error + window.cost_of_observations
        ratio = 2 * float(total) / departures.sizes["observation"]
    end = torch.from_numpy(window.end_state.values)[None]
    return Result(fields, end, ratio, time.process_time() - began)


def settings(twin, steps, background, changes):
    """Settings of a cycle with one window."""
    values = {"run": "run", "split": twin.split, "start": str(twin.start), "probes": 0}
    values |= {"window_steps": steps, "minimiser": MINIMISER}
    return AssimilationConfig(**values | changes, background=BACKGROUND | background)


def ahead(twin, end, steps):
    """Forecast of the first variable from the end of a window, (step, y, x)."""
    model = twin.model._replace(forcing=twin.model.forcing[steps:])
    with torch.no_grad():
        return states(model, end, range(1, len(model.forcing) + 1))[0, :, 0].cpu().numpy()


def rmse(twin, fields, at):
    """Root-mean-square error of the first variable over the ocean, at some steps of the run."""
    truth = twin.truth[twin.source.surrogate.window.variables[0]].values[at]
    errors = (np.asarray(fields, float) - truth)[..., twin.truth.ocean.values]
    return np.sqrt(np.mean(errors**2, axis=-1))


def window_errors(twin, fields):
    """Errors at the start, in the middle and at the end of a window, and their mean."""
    errors = rmse(twin, fields, np.arange(len(fields)))
    return [*errors[[0, len(fields) // 2, -1]], errors.mean()]


def row(name, values, columns, text=""):
    """Print one row of the table."""
    numbers = "".join(f"{value:8.3f}" for value in values)
    print(f"{name:46s}{numbers:34s}  {columns:26s} {text}", flush=True)


def all_cells(options):
    """T1: all cells every two days with noise of 0.15 m, windows of 10 days."""
    steps, sigma = 20, 0.15
    twin = twin_of(options.run, options.store, "validation")
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
    twin = twin_of(options.run, options.store, "test")
    table = twins.observe_cells(twin.window(steps).sit, sigma)
    assumed = table.assign(sigma=table.sigma * factor)
    background = {"length_km": length_km}
    result = assimilated(twin, assumed, steps, background, model_error_steps=interval)
    text = f"{length_km:g} km, model error {interval}, sigma x {factor:.2f}"
    row("T1 test, states of the window", window_errors(twin, result.states), COLUMNS)
    forecast, at = ahead(twin, result.end, steps), steps + AT
    text += f": 2J/p {result.ratio:.2f} (goal 0.9 to 1.1), {result.seconds:.0f} s"
    row("T1 test, forecast of the analysis", rmse(twin, forecast[AT - 1], at), DAYS, text)
    free = assimilated(twin, None, steps, {})
    row("T1 test, free run", rmse(twin, ahead(twin, free.end, steps)[AT - 1], at), DAYS)
    for name, field in observed_fields(twin, table).items():
        field = np.broadcast_to(field, (len(AT), *field.shape))
        row(f"T1 test, {name}", rmse(twin, field, at), DAYS)
    truth = torch.from_numpy(np.nan_to_num(twin.truth.sit.values[[steps]])).double()[None]
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
    """T2: tracks over 5 % of the cells a day with noise of 0.3 m, windows of 16 days."""
    steps, sigma, errors = 32, 0.3, {}
    for split, lengths in (("validation", options.lengths), ("test", None)):
        twin = twin_of(options.run, options.store, split)
        table = twins.observe_tracks(twin.window(steps).sit, sigma)
        free = assimilated(twin, None, steps, {})
        row(f"T2 {split} free run", window_errors(twin, free.states), COLUMNS)
        if lengths is None:
            # The correlation length is the best one of optimal interpolation.
            lengths = [min(errors, key=errors.get)]
        for length_km in lengths:
            background = {"length_km": length_km}
            for name, model in at_rest(twin, steps, background).items():
                result = assimilated(twin, table, steps, background, model)
                report_tracks(twin, f"optimal interpolation, {name}", length_km, result)
                errors[length_km] = rmse(twin, result.states, np.arange(steps + 1)).mean()
            if split == "test" or len(lengths) == 1:
                result = assimilated(twin, table, steps, background)
                report_tracks(twin, "4D-Var, diffusion B", length_km, result)
    background = background | {"correlation": "none"}
    report_tracks(twin, "4D-Var, diagonal B", 0, assimilated(twin, table, steps, background))


def at_rest(twin, steps, background):
    """Models of optimal interpolation, whose increments do not change with time.

    The background is constant too, or it is the forecast (the stronger competitor, which is last).
    """
    model = twin.model._replace(forcing=twin.model.forcing[:steps])
    config = settings(twin, steps, background, {})
    first = torch.from_numpy(cycle.first_background(twin.source, config, twin.start))
    with torch.no_grad():
        trajectory = states(model, first, range(steps + 1))[0]
    tendency = (trajectory[1:] - trajectory[:-1])[:, None]
    return {
        "constant background": model._replace(step=lambda state, forcing: state),
        "forecast background": model._replace(
            forcing=tendency, step=lambda state, forcing: state + forcing
        ),
    }


def report_tracks(twin, name, length_km, result):
    """Print the errors of a window of T2."""
    text = f"{length_km:g} km, 2J/p {result.ratio:.2f}, {result.seconds:.0f} s"
    row(f"T2 {twin.split} {name}", window_errors(twin, result.states), COLUMNS, text)


def weekly_maps(options):
    """T3: smooth weekly maps, two weeks; exponents of spectra against those of the free run."""
    twin, steps = twin_of(options.run, options.store, "test"), 28
    times, counts = np.unique(twin.source.store.time.values, return_counts=True)
    # The background is a state of another run, because a mean has no small scales.
    background = {"length_km": 200.0, "first": str(times[counts == 1][0])}
    table = twins.observe_weekly_maps(twin.window(steps).sit, 0.1)
    exponents, spacing_m = {}, grid.spacing_m(twin.truth, twin.truth.ocean)
    ocean, columns = twin.truth.ocean, "start, middle, end, 5 d ahead"
    for name, observed in (("free run", None), ("analysis", table)):
        result = assimilated(twin, observed, steps, background)
        fields = [*result.states[[0, steps // 2, -1]], ahead(twin, result.end, steps)[9]]
        row(f"T3 test, RMSE of the {name}", window_errors(twin, result.states), COLUMNS)
        fields = xr.DataArray(np.stack(fields), dims=("time", "y", "x"))
        mask = xr.DataArray(ocean.values, dims=("y", "x"))
        slope = spectral_exponent(power_spectrum(fields, mask, spacing_m)).slope.values
        exponents[name] = slope
        row(f"T3 test, exponent of the {name}", slope, columns)
    difference = exponents["analysis"] - exponents["free run"]
    row("T3 test, difference of the exponents", difference, columns, "goal: within 0.2")


def gradient_cost(options):
    """Time of a gradient in forward runs, with and without recomputation, and peak memory."""
    twin = twin_of(options.run, options.store, "test")
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


CASES = {"cost": gradient_cost, "t1": all_cells, "t2": tracks, "t3": weekly_maps}


def main():
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--run", default="data/pretrained/sample", help="surrogate of thickness")
    parser.add_argument("--store", help="its store; default: that of the run")
    parser.add_argument("--lengths", nargs="+", type=float, default=[75.0, 100.0, 150.0],
                        help="correlation lengths that T2 chooses from, km")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.cases:
        CASES[name](options)


if __name__ == "__main__":
    main()
