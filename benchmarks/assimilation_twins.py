"""Twin experiments of the assimilation: a known truth, its surrogate, and analyses of it."""

import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr

from seaice_lab.assimilation import cycle, observations
from seaice_lab.assimilation.background import block_diagonal
from seaice_lab.assimilation.model import Source, WindowModel, open_source, states, window_model
from seaice_lab.assimilation.model_error import model_error_root
from seaice_lab.assimilation.settings import AssimilationConfig
from seaice_lab.assimilation.window_analysis import analyse
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.store import in_split

STEPS = 40  # of the surrogate in a run of 20 days
BACKGROUND = {"first": "mean", "std": 0.6, "pattern": "training", "normalisation_probes": 200}
MINIMISER = {"iterations": 40, "gradient": 0.02, "segment": 0}
# The increments of optimal interpolation do not change with time. The background of the window is
# constant as well, or it is the forecast (the stronger competitor).
METHODS = "4D-Var", "constant background", "forecast background"
NOTHING = observations.concatenate([])


class Twin(NamedTuple):
    """A run of 20 days: its truth, every 12 hours, and the surrogate with the forcing of the run.

    ``truth`` is a Dataset with all variables of the state, ``model`` has all steps of the run, and
    ``folder`` keeps the analyses, so that a benchmark that was interrupted continues.
    """

    source: Source
    split: str
    truth: xr.Dataset
    model: WindowModel
    folder: Path
    weights: bytes

    @property
    def start(self):
        """Time of the first state."""
        return self.truth.time.values[0]

    def window(self, steps):
        """The truth at the times of the first window."""
        return self.truth.isel(time=slice(0, steps + 1))


def twin_of(options, split):
    """The twin experiment of a split from its first time on."""
    source = open_source(options.run, options.store)
    names = list(source.surrogate.window.variables)
    truth = source.store[names].isel(time=in_split(source.store, split))
    start, step = truth.time.values[0], source.surrogate.window.step
    truth = truth.sel(time=start + step * np.arange(STEPS + 1)).load()
    job = ForecastConfig(starts=[str(start)], steps=STEPS, split=split)
    positions = start_positions(source.store, source.surrogate.window, job, False)
    model = window_model(source, positions, STEPS)
    weights = (Path(options.run) / "weights.safetensors").read_bytes()
    return Twin(source, split, truth, model, options.folder, weights)


class Result(NamedTuple):
    """Analysis of a window.

    ``states`` (step, y, x) has the first variable, ``end`` (channel, y, x) the last state,
    ``ratio`` is 2J/p, ``seconds`` processor time.
    """

    states: np.ndarray
    end: np.ndarray
    ratio: float
    seconds: float


def assimilated(twin, table, steps, background, method="4D-Var", **changes):
    """Analyse the first window of a twin experiment, or read an earlier analysis of it.

    Parameters
    ----------
    twin : Twin
    table : xarray.Dataset
        Observations; :data:`NOTHING` for a free run.
    steps : int
        Length of the window.
    background : dict
        Settings of the background that differ from :data:`BACKGROUND`.
    method : str
        One of :data:`METHODS`.
    **changes
        Other settings of the cycle.

    Returns
    -------
    Result
    """
    config = settings(twin, steps, background, changes)
    digest = hashlib.sha256(twin.weights + method.encode() + config.model_dump_json().encode())
    digest.update(twin.source.store.attrs["fingerprint"].encode())
    digest.update(pd.util.hash_pandas_object(table.to_dataframe()).values.tobytes())
    path = twin.folder / f"{digest.hexdigest()[:16]}.npz"
    if not path.exists():
        twin.folder.mkdir(parents=True, exist_ok=True)
        result = _analysed(twin, table, config, method)
        with open(path.with_suffix(".partial"), "wb") as file:
            np.savez(file, **result._asdict())
        path.with_suffix(".partial").rename(path)
    else:
        print(f"{path}: is an earlier analysis; delete it after a change of the code", flush=True)
    with np.load(path) as stored:
        return Result(*(stored[name] for name in Result._fields))


def _analysed(twin, table, config, method):
    """Analyse the first window of a twin experiment."""
    began, steps = time.process_time(), config.window_steps
    first = torch.from_numpy(cycle.first_background(twin.source, config, twin.start))
    first = first.to(twin.model.forcing.device)
    root = cycle.background_root(twin.source, config.background)
    if config.intervals:
        error = model_error_root(twin.source, config.model_error_steps, config.background)
        root = block_diagonal([root, *[error] * config.intervals])
    model = twin.model._replace(forcing=twin.model.forcing[:steps])
    model = _at_rest(model, first, method)
    window, departures = analyse(twin.source, model, first, table, config, root, twin.start)
    fields = window[twin.source.surrogate.window.variables[0]].sel(state="analysis").values
    ratio = np.nan
    if departures is not None:
        total = window.cost_of_background + window.cost_of_model_error + window.cost_of_observations
        ratio = 2 * float(total) / departures.sizes["observation"]
    return Result(fields, window.end_state.values, ratio, time.process_time() - began)


def _at_rest(model, first, method):
    """The model of a method, whose increments do not change with time except in 4D-Var."""
    if method == "4D-Var":
        return model
    if method == "constant background":
        return model._replace(step=lambda state, forcing: state)
    with torch.no_grad():
        trajectory = states(model, first, range(len(model.forcing) + 1))[0]
    tendency = (trajectory[1:] - trajectory[:-1])[:, None]
    return model._replace(forcing=tendency, step=lambda state, forcing: state + forcing)


def settings(twin, steps, background, changes):
    """Settings of a cycle with one window."""
    values = {"run": "run", "split": twin.split, "start": str(twin.start), "background_check": None}
    values |= {"window_steps": steps, "minimiser": MINIMISER}
    return AssimilationConfig(**values | changes, background=BACKGROUND | background)


def ahead(twin, end, steps):
    """Forecast of the first variable (step, y, x) from the last state of a window."""
    model = twin.model._replace(forcing=twin.model.forcing[steps:])
    initial = torch.from_numpy(end)[None].to(model.forcing.device)
    with torch.no_grad():
        return states(model, initial, range(1, len(model.forcing) + 1))[0, :, 0].cpu().numpy()


def rmse(twin, fields, at):
    """Root-mean-square error of the first variable over the ocean, at some steps of the run."""
    truth = twin.truth[twin.source.surrogate.window.variables[0]].values[at]
    errors = (np.asarray(fields, float) - truth)[..., twin.truth.ocean.values]
    return np.sqrt(np.mean(errors**2, axis=-1))


def window_errors(twin, fields):
    """Errors at the start, in the middle and at the end of a window, and their mean."""
    errors = rmse(twin, fields, np.arange(len(fields)))
    return [*errors[[0, len(fields) // 2, -1]], errors.mean()]


def row(name, values, columns, text="", decimals=3):
    """Print one row of the table."""
    numbers = "".join(f"{value:8.{decimals}f}" for value in values)
    print(f"{name:46s}{numbers:34s}  {columns:26s} {text}", flush=True)
