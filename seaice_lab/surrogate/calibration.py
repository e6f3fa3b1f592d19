"""Calibration of an ensemble on the validation split: how large the perturbations should be.

A network is more certain of the runs that it was trained on than of others, so the size of the
noise, its memory, the size of perturbed starts and the biases of the members are chosen on runs
that training did not use. The noise of each level of the network acts on its own wavelengths: fine
noise sets the power at short wavelengths, coarse noise most of the spread. The biases set the
spread of the volume.
"""

import tempfile
from pathlib import Path

import numpy as np

from seaice_lab import files, grid, runs
from seaice_lab.compute import Process
from seaice_lab.diagnostics import ensembles, smoothing, spectra
from seaice_lab.diagnostics.scores import ocean_mean
from seaice_lab.errors import InputError
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.model import load
from seaice_lab.surrogate.results import results_folder
from seaice_lab.surrogate.settings import MAX_BIAS, ForecastConfig
from seaice_lab.surrogate.store import in_split, open_store
from seaice_lab.surrogate.truth import truth_for

MEMORIES = (0.35, 0.65, 0.8)
MEMBERS = 8
STARTS = 6
MATCH_DAYS = 2  # the spread equals the error over lead times up to this one
SCORE_DAYS = 5  # the memory has the lowest CRPS over lead times up to this one
ROUNDS = 2  # of the steps towards the right spread and spectrum
KEPT = ("wavenumber", "lead_time")  # dimensions of the power that are not averaged
GAIN_STEP = 0.3  # of the logarithm of a gain, for the derivatives
DAMPING = 0.05  # of the least squares, for gains that change nothing
POWER_RATIOS = 0.01, 100.0  # limits of a ratio: without them a band with little power decides
TRIAL_BIAS = 0.02  # standard deviation of the biases from which the right one follows
VOLUME_STARTS = 4  # times as many start dates for the biases, because a start has only one volume


def calibrate(run, memories=MEMORIES, starts=STARTS, show=True, store=None):
    """Choose the noise or the size of perturbed starts, and the biases of members; write them.

    1. For each memory, one gain for all levels is the one with which the spread-skill ratio
       (:func:`seaice_lab.diagnostics.ensembles.spread_skill`) over lead times up to two days is 1.
       The memory with the lowest fair CRPS over five days is kept.
    2. From there, a gain for each level follows by least squares. The residuals are logarithms of
       ratios that are 1 for a perfect ensemble: the spread-skill ratio up to two days, and over
       lead times up to five days the power of the members over that of the truth in each band of
       wavelengths (:data:`seaice_lab.diagnostics.smoothing.BANDS_KM`) that the grid has. Of all
       gains that were tried, those with the smallest sum of squares are kept.

    For a deterministic network the size of the perturbations of the initial state is found as in 1.
    Last, the members receive biases with which the variance of their mean over the ocean equals its
    squared error, on average over lead times up to five days and four times as many start dates.

    All scores are those of the first variable.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate.
    memories : sequence of float
        Memories of the noise to try.
    starts : int
        About how many start dates to use, spread over the validation split.
    show : bool
        Show progress.
    store : str or Path, optional
        Another prepared store on the grid of the run, with a validation split; that of the run by
        default. Forecasts on all stores use the result.

    Returns
    -------
    dict of str to float
        "noise_memory" and "noise_gain" (a list of gains), or "perturbation"; "member_bias";
        "spread_skill" and "crps" (in the unit of the first variable) of the ensemble with them.
        Written to ``calibration.json``.

    Raises
    ------
    InputError
        If the run is not finished, the store is missing, has another grid or no validation split of
        a few days, ``memories`` is empty, or ``starts`` is below 1.
    """
    opened = _open_finished(run, memories, starts)
    store_path, path = results_folder(run, store).store, opened.path / "calibration.json"
    store, surrogate = open_store(store_path), _load(run, store_path, path)
    step_days = surrogate.window.step_h / 24
    steps = max(round(SCORE_DAYS / step_days), 1)
    every = max(len(in_split(store, "validation")) // starts, 1)
    common = {"split": "validation", "members": MEMBERS, "steps": steps, "store": store_path}
    matched = max(round(MATCH_DAYS / step_days), 1)

    def score(size, memory, bias=0.0, every=every):
        settings = {"perturbation": size, "member_bias": bias, "every": every}
        if memory is not None:
            settings |= {"noise_gain": size, "noise_memory": memory, "perturbation": 0.0}
        return _scores(
            run, store, ForecastConfig(**common, **settings, compile="never"), matched, show
        )

    def match(size, memory):
        """The size with which the spread equals the error, with its scores."""
        for _ in range(ROUNDS):
            ratio = score(size, memory)["spread_skill"]
            if not ratio > 0:  # NaN too, if there is no error either
                raise InputError(
                    f"{run}: the members do not differ, so no size of the noise gives them the "
                    "spread of their error; train the ensemble network longer"
                )
            size *= float(np.clip(1 / ratio, 0.1, 10))  # the spread grows in proportion to the size
        return size, score(size, memory)

    if surrogate.noise is None:
        size, scores = match(0.1, None)
        memory, result = None, {"perturbation": round(size, 4)}
    else:
        trials = {memory: match(1.0, memory) for memory in memories}
        memory = min(trials, key=lambda memory: trials[memory][1]["crps"])
        size, scores = trials[memory]
        first = [size] * len(surrogate.noise.shapes)
        size, scores = _match_ratios(lambda gains: score(gains, memory), first, scores)
        result = {"noise_memory": memory, "noise_gain": size}
    shorter = max(every // VOLUME_STARTS, 1)  # interval between start dates
    volumes = (score(size, memory, bias, shorter)["volume_error"] for bias in (0.0, TRIAL_BIAS))
    bias = _match_volume(*volumes)
    if bias:
        scores = score(size, memory, bias)
    result |= {"member_bias": bias, "spread_skill": round(scores["spread_skill"], 4)}
    result |= {"crps": round(scores["crps"], 6)}
    files.write_json(path, result)
    return result


def _open_finished(run, memories, starts):
    """Open the run of a calibration, and refuse wrong arguments."""
    if Process().world > 1:
        raise InputError("calibration: takes one process; start it without torchrun")
    if starts < 1 or not len(memories):
        raise InputError(
            f"calibration: found {starts} starts and {len(memories)} memories, expected at least "
            "one of each; give more"
        )
    opened = runs.open_run(run, "surrogate")
    if not (opened.path / "finished").exists():
        raise InputError(f"{run}: is not finished; let its training finish before the calibration")
    return opened


def _load(run, store, path):
    """The surrogate of a run; a damaged earlier calibration is removed if all else is valid."""
    try:
        return load(run, store=store)
    except InputError:
        if not path.exists():
            raise
        earlier = path.read_bytes()
        path.unlink()
        try:
            return load(run, store=store)
        except InputError:
            path.write_bytes(earlier)
            raise


def _match_ratios(score, gains, scores):
    """Gains with which all ratios of :func:`_scores` are near 1, and their scores.

    Damped least squares of the logarithms of the ratios (Gauss-Newton). The derivatives at the
    first gains serve all steps, because the logarithms are nearly linear in those of the gains.
    """

    def rounded(logarithms):
        return np.exp(logarithms).round(4).tolist()

    tried, logarithms = [(rounded(np.log(gains)), scores)], np.log(gains)
    residuals = np.log(scores["ratios"])
    columns = [
        np.log(score(np.exp(logarithms + change).tolist())["ratios"]) - residuals
        for change in GAIN_STEP * np.eye(len(gains))
    ]
    jacobian = np.stack(columns, 1) / GAIN_STEP
    normal_matrix = jacobian.T @ jacobian + DAMPING * np.eye(len(gains))
    for _ in range(ROUNDS):
        step = np.linalg.solve(normal_matrix, jacobian.T @ np.log(tried[-1][1]["ratios"]))
        logarithms = logarithms - np.clip(step, -1, 1)
        tried.append((rounded(logarithms), score(rounded(logarithms))))
    return min(tried, key=lambda trial: np.sum(np.log(trial[1]["ratios"]) ** 2))


def _match_volume(without, trial):
    """Biases with which the variance of the volume equals its squared error.

    The biases of :data:`TRIAL_BIAS` change the volume of each member in proportion to their size,
    and are independent of the noise, so their variance is added to that of the noise.

    Parameters
    ----------
    without, trial : DataArray (init_time, member, lead_time)
        Errors of the mean over the ocean without biases, and with those of the trial.

    Returns
    -------
    float
        At most :data:`~seaice_lab.surrogate.settings.MAX_BIAS`; 0 if the variance is large enough
        without biases, or if they change nothing.
    """

    def variance(errors):
        of_members = errors.var("member", ddof=1).mean("init_time")
        return (MEMBERS + 1) / MEMBERS * of_members  # as in the spread-skill ratio

    squared_error = (without.mean("member") ** 2).mean("init_time")
    added = variance(trial - without)
    square = float(((squared_error - variance(without)) / added.where(added > 0)).mean())
    if not square > 0:  # NaN too, if biases change nothing
        return 0.0
    return round(min(TRIAL_BIAS * square**0.5, MAX_BIAS), 5)


def _scores(run, store, config, matched, show):
    """Scores of a forecast.

    Returns
    -------
    dict
        "spread_skill" over the first lead times and fair "crps" over all; "volume_error", the error
        of the mean over the ocean (init_time, member, lead_time). For a network with noise also
        "ratios", which are 1 for a perfect ensemble.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = forecast(run, config, Path(folder, "forecast.zarr"), show=show)
        members = next(iter(open_forecast(path).data_vars.values())).load()
    truth = truth_for(members.isel(member=0, drop=True), store)
    ocean, area = members.ocean, grid.cell_area(members)
    early = (values.isel(lead_time=slice(matched)) for values in (members, truth))
    scores = {
        "spread_skill": float(ensembles.spread_skill(*early, ocean, area).mean()),
        "volume_error": ocean_mean(members.astype("float64") - truth, ocean, area),
        "crps": float(ensembles.crps(members, truth, ocean, area).mean()),
    }
    if config.noise_gain is not None:
        scores["ratios"] = np.array([scores["spread_skill"], *_power_ratios(members, truth)])
    return scores


def _power_ratios(members, truth):
    """Power of the members over that of the truth by band: the geometric mean of all lead times.

    Bands that the grid does not have, or in which the truth has no power, are left out.
    """
    dx_m = grid.spacing_m(truth, members.ocean)
    powers = (spectra.power_spectrum(field, members.ocean, dx_m) for field in (members, truth))
    powers = (power.mean([d for d in power.dims if d not in KEPT]) for power in powers)
    ratios = smoothing.band_power_ratio(*powers)
    logarithms = np.log(ratios.where(np.isfinite(ratios)).clip(*POWER_RATIOS))
    return np.exp(logarithms.mean("lead_time").dropna("band").values)
