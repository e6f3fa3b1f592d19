"""Calibration of an ensemble on the validation split: how large the perturbations should be.

A network is more certain of the runs that it was trained on than of others, so the size of the
noise, its memory, and the size of perturbed starts are chosen on runs that training did not use.
"""

import tempfile
from pathlib import Path

import numpy as np

from seaice_lab import files, grid, runs
from seaice_lab.diagnostics import ensembles
from seaice_lab.errors import InputError
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.model import load
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.store import in_split, open_store
from seaice_lab.surrogate.truth import truth_for

MEMORIES = (0.0, 0.35, 0.5, 0.65)
MEMBERS = 8
STARTS = 6  # start dates, spread over the validation split
MATCH_DAYS = 2  # the spread equals the error over lead times up to this one
SCORE_DAYS = 5  # the memory has the lowest CRPS over lead times up to this one
ROUNDS = 2  # of the secant steps towards the right spread


def calibrate(run, memories=MEMORIES, show=True):
    """Choose memory and gain of the noise, or the size of perturbed starts; write them.

    For each memory, the gain is the one with which the spread-skill ratio
    (:func:`seaice_lab.diagnostics.ensembles.spread_skill`) over lead times up to two days is 1. The
    memory with the lowest fair CRPS over five days is kept. For a deterministic network the size of
    the perturbations of the initial state is found in the same way.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate.
    memories : sequence of float
        Memories of the noise to try.
    show : bool
        Show progress.

    Returns
    -------
    dict of str to float
        "noise_memory" and "noise_gain", or "perturbation"; "spread_skill" and "crps" (in the unit
        of the first variable) of the ensemble with them. Written to ``calibration.json``.

    Raises
    ------
    InputError
        If the run is not finished, or its store has no validation split of a few days.
    """
    opened = runs.open_run(run, "surrogate")
    if not (opened.path / "finished").exists():
        raise InputError(f"{run}: is not finished; let its training finish before the calibration")
    path = opened.path / "calibration.json"
    path.unlink(missing_ok=True)  # it is made again
    surrogate, store = load(run), open_store(opened.config["store"])
    step_days = surrogate.window.step_h / 24
    steps = max(round(SCORE_DAYS / step_days), 1)
    count = len(in_split(store, "validation"))
    common = {"split": "validation", "members": MEMBERS, "steps": steps, "compile": "never"}
    common["every"] = max(count // STARTS, 1)
    matched = max(round(MATCH_DAYS / step_days), 1)

    def score(size, memory):
        settings = {"perturbation": size}
        if memory is not None:
            settings = {"noise_gain": size, "noise_memory": memory, "perturbation": 0.0}
        return _scores(run, store, ForecastConfig(**common, **settings), matched, show)

    def match(size, memory):
        """The size with which the spread equals the error, with its scores."""
        for _ in range(ROUNDS):
            ratio, _ = score(size, memory)
            if not ratio:
                raise InputError(
                    f"{run}: the members do not differ, so no size of the noise gives them the "
                    "spread of their error; train the ensemble network longer"
                )
            size *= float(np.clip(1 / ratio, 0.1, 10))  # the spread grows in proportion to the size
        return size, *score(size, memory)

    if surrogate.noise is None:
        size, ratio, crps = match(0.1, None)
        result = {"perturbation": round(size, 4)}
    else:
        trials = {memory: match(1.0, memory) for memory in memories}
        memory = min(trials, key=lambda memory: trials[memory][2])
        size, ratio, crps = trials[memory]
        result = {"noise_memory": memory, "noise_gain": round(size, 4)}
    result |= {"spread_skill": round(ratio, 4), "crps": round(crps, 6)}
    files.write_json(path, result)
    return result


def _scores(run, store, config, matched, show):
    """Spread-skill ratio over the first lead times, and fair CRPS over all, of a forecast."""
    with tempfile.TemporaryDirectory() as folder:
        path = forecast(run, config, Path(folder, "forecast.zarr"), show=show)
        members = next(iter(open_forecast(path).data_vars.values())).load()
    truth = truth_for(members.isel(member=0, drop=True), store)
    arguments = (members, truth, members.ocean, grid.cell_area(members))
    early = (values.isel(lead_time=slice(matched)) for values in arguments[:2])
    ratio = ensembles.spread_skill(*early, *arguments[2:])
    return float(ratio.mean()), float(ensembles.crps(*arguments).mean())
