"""Cycle of assimilation windows: each background is the end of the analysis before it.

A folder holds the configuration, for each window ``window_<number>.nc`` (states of background and
analysis) and ``departures_<number>.nc`` (its observations), and, when all windows are done,
``diagnostics.nc`` and the forecasts from the analyses, ``forecast.zarr``.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from seaice_lab import files, grid, metadata, progress, runs
from seaice_lab.assimilation import observations
from seaice_lab.assimilation.background import block_diagonal, diagonal, ensemble, weighted_sum
from seaice_lab.assimilation.diffusion import covariance
from seaice_lab.assimilation.model import open_source, stored_states, window_model
from seaice_lab.assimilation.model_error import model_error_root
from seaice_lab.assimilation.observation_operator import check_table_of_cycle
from seaice_lab.assimilation.window_analysis import analyse
from seaice_lab.diagnostics.departures import cost_ratio, departure_statistics
from seaice_lab.errors import InputError
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.store import in_split, name_of, read_frames

MEMBERS = 50  # training states of a hybrid B
AT_ONCE = 20  # training states that are read together for their mean and standard deviation


def run_cycle(config, folder, device=None, show=True):
    """Assimilate observations in successive windows, and forecast from each analysis.

    Parameters
    ----------
    config : AssimilationConfig
    folder : str or Path
        A new folder, or one of the same configuration, which is continued at the first window that
        is not complete. The result is the same as without an interruption.
    device : str, optional
        A GPU by default, if there is one.
    show : bool
        Show progress.

    Returns
    -------
    xarray.Dataset
        Diagnostics of all windows, as in ``diagnostics.nc`` (see :func:`diagnostics`).

    Raises
    ------
    InputError
        If the run is not trained, the store lacks a state or the forcing, observations cannot be
        read or used, or the folder belongs to another configuration or other data.
    """
    dtype = getattr(torch, config.minimiser.precision)
    source = open_source(config.run, config.store, device=device, dtype=dtype)
    starts = _starts(source, config)
    first = first_background(source, config, starts[0])
    root = background_root(source, config.background, config.seed)
    if config.intervals:
        errors = model_error_root(source, config.model_error_steps, config.background, config.seed)
        root = block_diagonal([root, *[errors] * config.intervals])
    tables = [observations.read_table(path) for path in config.observations]
    table = observations.concatenate(tables)
    if tables:
        length = source.surrogate.window.step * config.window_steps
        check_table_of_cycle(table, source, starts, length)
    facts = {"data": source.store.attrs["fingerprint"], "inputs": _digest(config, table)}
    folder = runs.create(folder, config, "assimilation", **facts)
    paths = [folder / f"window_{number:04d}.nc" for number in range(config.windows)]
    with (
        runs.heartbeat(folder, "assimilating", "window", config.windows) as beat,
        progress.bar(config.windows, f"assimilate {folder.name}", "window", show=show) as bar,
    ):
        for number, (path, start) in enumerate(zip(paths, starts, strict=True)):
            beat(number + 1)
            if not path.exists():
                # Also without an interruption, the background is read from the last file.
                background = first
                if number:
                    background = xr.load_dataset(paths[number - 1]).next_state.values[None]
                positions = _positions(source, start, config.window_steps, config.split)
                model = window_model(source, positions, config.window_steps)
                initial = torch.from_numpy(background).to(source.surrogate.ocean.device)
                window, departures = analyse(source, model, initial, table, config, root, start)
                if departures is not None:
                    files.write_netcdf(path.with_name(f"departures_{number:04d}.nc"), departures)
                files.write_netcdf(path, window)  # last, because it says that the window is done
            bar.update()
        result = diagnostics(folder)
        if config.forecast_steps:
            _forecast(config, folder, paths, device, show)
    return result


def _digest(config, table):
    """Digest of the weights of the network and of the values of the observations."""
    digest = hashlib.sha256((Path(config.run) / "weights.safetensors").read_bytes())
    # The bytes of a file would not do: they also hold the time of writing.
    digest.update(pd.util.hash_pandas_object(table.to_dataframe()).values.tobytes())
    return digest.hexdigest()[:16]


def _positions(source, start, steps, split, needs_state=False):
    """Positions, on the time axis of the store, of all fields that a number of steps needs."""
    job = ForecastConfig(starts=[str(start)], steps=steps, split=split)
    return start_positions(source.store, source.surrogate.window, job, needs_state)


def _starts(source, config):
    """Starts of all windows; the store must have the forcing until the end of the last forecast."""
    last = (config.windows - 1) * config.shift + config.window_steps + config.forecast_steps
    needs_state = config.background.first == "start"
    positions = _positions(source, config.start, last, config.split, needs_state)
    start = source.store.time.values[positions[0.0][0]]
    return start + source.surrogate.window.step * config.shift * np.arange(config.windows)


def first_background(source, config, start):
    """Background of the first window.

    Parameters
    ----------
    source : Source
    config : AssimilationConfig
    start : datetime64

    Returns
    -------
    ndarray (1, channel, y, x)
        In physical units, zero on land.

    Raises
    ------
    InputError
        If the store lacks the state, has no training split for a mean, or a state cannot be read.
    """
    first = config.background.first
    if first != "mean":
        # Another time may be in any split.
        first, split = (start, config.split) if first == "start" else (first, None)
        positions = _positions(source, first, 1, split, needs_state=True)
        return stored_states(source, positions).cpu().numpy()
    names = [name for name, _ in source.surrogate.window.state]
    means = [_training_moments(source.store, name)[0] for name in names]
    return np.where(source.store.ocean.values, np.stack(means)[None].astype(float), 0.0)


def _training_moments(store, name):
    """Mean and standard deviation of the training states of a variable in each cell (y, x)."""
    times, total, squares = _training_times(store), 0.0, 0.0
    first = read_frames(store, name, times[:1]).astype(float)
    for part in np.array_split(times, -(-len(times) // AT_ONCE)):
        # Deviations from one state keep the sum of squares accurate.
        deviations = read_frames(store, name, part) - first
        total, squares = total + deviations.sum(0), squares + (deviations**2).sum(0)
    mean = total / len(times)
    return first[0] + mean, np.sqrt(np.maximum(squares / len(times) - mean**2, 0))


def _training_times(store):
    """Positions of the training states on the time axis."""
    times = in_split(store, "train")
    if not times.size:
        raise InputError(
            f"{name_of(store)}: has no training split, from which the first background, the "
            "pattern of its errors or the members of a hybrid B are computed; give another first "
            "background and pattern, and an ensemble_weight of 0"
        )
    return times


def background_root(source, config, seed=0):
    """Square root of the covariance of background errors, one block for each variable.

    Parameters
    ----------
    source : Source
    config : BackgroundConfig
    seed : int
        Seed of the random vectors of the normalisation.

    Returns
    -------
    LinearOperator

    Raises
    ------
    InputError
        If ``std`` lacks a variable of the state or has a further one, the store has no training
        split, a training state cannot be read, or all of them are equal.
    """
    surrogate, store = source.surrogate, source.store
    variables, ocean, std = surrogate.window.variables, store.ocean.values, config.std
    if isinstance(std, float):
        std = {name: std * surrogate.normalisation[name]["std"] for name in variables}
    changes = [f"add {name}" for name in variables if name not in std]
    changes += [f"leave out {name}" for name in std if name not in variables]
    if changes:
        raise InputError(
            f"background.std: has {', '.join(std) or 'no variable'}, but the state of the "
            f"network is {', '.join(variables)}; {' and '.join(changes)}"
        )
    std = {name: std[name] for name in variables}  # in the order of the state
    sides = grid.cell_sides(store.latitude, store.longitude)
    options = {"probes": config.normalisation_probes, "seed": seed}
    weight, roots = config.ensemble_weight, []
    if weight < 1:
        roots.append(_static_root(store, std, sides, config, options))
    if weight > 0:
        localisation = covariance(ocean, sides, config.localisation_km * 1e3, **options)
        states = [_members(store, name, std[name]) for name in std]
        roots.append(ensemble(np.stack(states, 1), localisation))
    return weighted_sum([1 - weight, weight], roots) if len(roots) == 2 else roots[0]


def _static_root(store, std, sides, config, options):
    """Root of the covariance with the correlation of ``length_km``, (state, control)."""
    ocean = store.ocean.values
    correlation = diagonal(np.ones(int(ocean.sum())))
    if config.length_km:
        correlation = covariance(ocean, sides, config.length_km * 1e3, **options)
    roots = []
    for name in std:
        pattern = np.ones(correlation.shape[0])
        if config.pattern == "training":
            pattern = _training_moments(store, name)[1][ocean]
            _check_variation(store, name, pattern)
            pattern = pattern / np.sqrt((pattern**2).mean())
        roots.append(diagonal(std[name] * pattern) @ correlation)
    return block_diagonal(roots)


def _members(store, name, std):
    """Training states of a variable (member, cell), scaled to a given standard deviation."""
    times = _training_times(store)
    at = np.unique(np.linspace(0, len(times) - 1, MEMBERS).round().astype(int))
    members = read_frames(store, name, times[at])[:, store.ocean.values].astype(float)
    _check_variation(store, name, members - members[0])
    return members * std / np.sqrt(members.var(0, ddof=1).mean())


def _check_variation(store, name, deviations):
    """Refuse training states without deviations from each other."""
    if not deviations.any():
        raise InputError(
            f"{name_of(store)}: the training states of {name} are all equal, or there is only "
            "one; the background errors need different ones; give the pattern constant and an "
            "ensemble_weight of 0, or another store"
        )


def diagnostics(folder):
    """Diagnostics of all windows of a cycle; written to ``diagnostics.nc``.

    Parameters
    ----------
    folder : str or Path
        Folder of the cycle, from :func:`run_cycle`.

    Returns
    -------
    xarray.Dataset
        By ``window``: cost at the minimum, number of observations ``used``, 2J/p with its interval,
        degrees of freedom for signal; with the Huber norm the interval is NaN. By ``group``, if an
        observation was used: the statistics of
        :func:`~seaice_lab.diagnostics.departures.departure_statistics`.
    """
    windows, tables = [], []
    for path in sorted(Path(folder).glob("window_*.nc")):
        window = xr.load_dataset(path)
        row = window.drop_dims(list(window.dims)).rename(analysis_time="window").assign(used=0)
        departures = path.with_name(path.name.replace("window", "departures"))
        if departures.exists():
            table = observations.used(xr.load_dataset(departures))
            row["used"] = table.sizes["observation"]
            if row.used:
                tables.append(table)
        windows.append(row)
    options = {"coords": "minimal", "compat": "override", "join": "outer"}
    result = xr.concat(windows, "window", combine_attrs="drop", **options)
    if tables:
        total = result.cost_of_background + result.cost_of_model_error + result.cost_of_observations
        joined = xr.concat(tables, "observation", combine_attrs="override", join="override")
        ratio = cost_ratio(total, result.used)
        if runs.open_run(folder, "assimilation").config["huber"]:
            # 2J is no chi-square variable if large departures cost less than their squares.
            ratio = ratio.assign(ratio[["low", "high"]].where(False))
        result = result.assign(ratio).merge(departure_statistics(joined))
    attrs = metadata.file_attributes("Diagnostics", "seaice_lab 4D-Var", "assimilate run")
    result = result.assign_attrs(attrs)
    files.write_netcdf(Path(folder) / "diagnostics.nc", result)
    return result


def _forecast(config, folder, paths, device, show):
    """Write forecasts from the end of each window, in the format of the forecasts of a run."""
    ends = [xr.load_dataset(path)[["end_state", "valid_time"]] for path in paths]
    job = ForecastConfig(
        starts=[str(end.valid_time.values[-1]) for end in ends],
        steps=config.forecast_steps,
        split=config.split,
        store=config.store,
    )
    initial = np.stack([end.end_state.values for end in ends])
    forecast(config.run, job, folder / "forecast.zarr", device, show=show, initial=initial)
