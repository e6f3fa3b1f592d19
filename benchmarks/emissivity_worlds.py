"""Concentration on simulated worlds of many kinds: published training and Gauss-Newton solver.

python benchmarks/emissivity_worlds.py [--worlds 24] [--first 0] [--versions 1 2] [--size 32]
                                       [--observations 30000] [--no-adam] [--folder ...]

Each world has its own seed, season, hemisphere, biases, emissivity and first guess. The first table
has one row for a world, a version and a method, the second one the medians; `worlds.csv` has all.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from seaice_lab.emissivity import evaluation, infer
from seaice_lab.emissivity.gauss_newton import solve
from seaice_lab.emissivity.observations import prepare
from seaice_lab.emissivity.run import initial_state, load
from seaice_lab.emissivity.settings import EmissivityConfig, SimulateConfig
from seaice_lab.emissivity.simulate import simulate
from seaice_lab.emissivity.train import train

FIRST_GUESSES = ("climatology", "shifted_edge", "low_closed_ice", "good")
ICE_KINDS = ("table", "formula", "scatter", "new_type")
HEMISPHERES = ("north", "south", "both")
STARTS = ("2021-03-01", "2021-06-10", "2021-09-05", "2021-12-20")
SENSORS = {1: ("amsr2",), 2: ("amsr2", "gmi")}


def world(number, version, size=32, observations=30_000):
    """Settings of a world; 24 successive numbers combine all kinds.

    Parameters
    ----------
    number, version, size, observations : int

    Returns
    -------
    SimulateConfig
    """
    rng = np.random.default_rng(number)
    sensors = SENSORS[version]
    return SimulateConfig(
        layout="year" if version == 1 else "sensors",
        sensors=sensors,
        observations=[observations // len(sensors)] * len(sensors),
        hemisphere=HEMISPHERES[number % 3],
        size=size,
        days=10,
        start=str(rng.choice(STARTS)),
        first_guess=FIRST_GUESSES[number % 4],
        ice=ICE_KINDS[(number // 4 + number) % 4],
        largest_bias_k=rng.uniform(0, 5),
        cloud_error=rng.choice([0.0, 0.1]),
        missing=rng.choice([0.0, 0.1]),
        seed=100 + number,
    )


def score(model, observations, truth, errors=None):
    """Scores of an estimated state, with the coverage of its standard deviation.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    truth : xarray.Dataset
    errors : Errors, optional
        From the solver.

    Returns
    -------
    dict of float
    """
    deviation = infer.uncertainty(model, observations, errors=errors)[0].T.numpy()
    row = score_maps(evaluation.sea_ice_maps(model), truth.sic.values, deviation)
    errors = evaluation.emissivity_errors(model, observations, truth)
    return row | {"emissivity": float(np.sqrt((errors.rmse**2).mean()))}


def score_maps(sea_ice, truth, deviation=None):
    """Scores of maps of concentration in total and by class, such as ``rmse_water``."""
    row = evaluation.concentration_scores(sea_ice, truth)
    row["outside"] = float(((sea_ice < 0) | (sea_ice > 1)).mean())
    by_class = evaluation.scores_by_class(sea_ice, truth, deviation).drop(columns="count").stack()
    return row | {f"{score}_{name}": value for (name, score), value in by_class.items()}


def run_world(data, version, adam=True):
    """Rows of the table for one case: first guess, solver, and published training.

    Parameters
    ----------
    data : Path
        Folder with ``truth.nc``.
    version : int
    adam : bool

    Returns
    -------
    list of dict
    """
    truth = xr.load_dataset(data / "truth.nc")
    settings = dict(data=str(data), sensors=SENSORS[version], model={"version": version})
    config = EmissivityConfig(**settings)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        observations = prepare(config, Path(folder) / "columns", show=False)
        first_guess = observations.sea_ice_first_guess
        rows.append({"method": "first guess"} | score_maps(first_guess, truth.sic.values))
        model, began = initial_state(config, observations), time.process_time()
        _, errors = solve(model, observations, config.solve, show=False)
        seconds = time.process_time() - began
        scores = score(model, observations, truth, errors)
        rows.append({"method": "solver", "seconds": seconds} | scores)
        if adam:
            began = time.process_time()
            train(config, Path(folder) / "adam", show=False, lazy=True)
            seconds = time.process_time() - began
            scores = score(load(Path(folder) / "adam")[0], observations, truth)
            rows.append({"method": "adam", "seconds": seconds} | scores)
    return [{"version": version} | row for row in rows]


def main():
    """Simulate the worlds that are missing, estimate their ice, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worlds", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="number of the first world")
    parser.add_argument("--versions", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--size", type=int, default=32, help="cells along each side of the grid")
    parser.add_argument("--observations", type=int, default=30_000)
    parser.add_argument("--no-adam", action="store_true", help="skip the published training")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "worlds")
    options = parser.parse_args()
    torch.set_num_threads(1)  # the operations are too small for several threads
    rows = []
    for number in range(options.first, options.first + options.worlds):
        for version in options.versions:
            config = world(number, version, options.size, options.observations)
            data = options.folder / f"{number}-v{version}-{options.size}-{options.observations}"
            if not (data / "truth.nc").exists():
                simulate(config, data, show=False)
            kinds = {"world": number, "first_guess": config.first_guess, "ice": config.ice}
            results = run_world(data, version, adam=not options.no_adam)
            print(pd.DataFrame(results)[["method", "rmse", "bias"]].round(4), flush=True)
            rows += [kinds | row for row in results]
    table = pd.DataFrame(rows)
    table.to_csv(options.folder / "worlds.csv", index=False)
    medians = table.groupby(["version", "method"]).median(numeric_only=True)
    print(table.round(3).to_string())
    print(medians.drop(columns="world").round(3).T.to_string())


if __name__ == "__main__":
    main()
