"""Forecasts: the surrogate applied again and again from many start dates at once."""

from pathlib import Path

import dask.array
import numpy as np
import torch
import xarray as xr

from seaice_lab import names, progress, runs
from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import load
from seaice_lab.surrogate.samples import Fields, locate
from seaice_lab.surrogate.store import open_store
from seaice_lab.training import prefetch

BUFFER_BYTES = 256e6  # forecast frames held before they are written


def rollout(step, state, forcing):
    """Step a state forward, yielding it after every step.

    Parameters
    ----------
    step : callable
        ``step(state, forcing)`` gives the state one step later, as
        :meth:`~seaice_lab.surrogate.model.Surrogate.step` does.
    state : torch.Tensor (batch, channel, y, x)
        Initial state.
    forcing : iterable of torch.Tensor (batch, channel, y, x)
        One for each step, valid for the step that starts then.

    Yields
    ------
    torch.Tensor (batch, channel, y, x)
        State after each step; differentiable with respect to the initial state.
    """
    for fields in forcing:
        state = step(state, fields)
        yield state


def forecast(run, steps, split="test", every=1, batch_size=64, path=None, device=None,
             show=True):  # fmt: skip
    """Forecast from every start date of a split and write ``forecast.zarr``.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate.
    steps : int
        Steps of the surrogate (12 h each as published); 60 are a month.
    split : str
        Starts whose whole forecast lies in this split are used, so that it can be verified.
    every : int
        Use every n-th start.
    batch_size : int
        Start dates stepped together.
    path : str or Path, optional
        Where to write; ``<run>/forecast.zarr`` by default.
    device : str, optional
        Defaults to a GPU when there is one.
    show : bool
        Show progress.

    Returns
    -------
    Path
        Store with ``<variable>(init_time, lead_time, y, x)`` for each predicted variable; NaN on
        land, lead times from one step on. A killed forecast goes on where it stopped.

    Raises
    ------
    InputError
        If the run is not trained, no start is long enough, the state stops being finite, or the
        disk is full.
    """
    if steps < 1:
        raise InputError(f"steps is {steps}; expected at least 1")
    surrogate = load(run, device)
    opened = runs.open_run(run)
    store_path = opened.config["store"]
    store = open_store(store_path)
    step_h = surrogate.window.step_h
    offsets = {step * step_h + lag for step in range(steps) for _, lag in surrogate.window.forcing}
    offsets |= {step * step_h for step in range(steps + 1)}
    offsets |= {lag for _, lag in surrogate.window.state}
    positions = locate(store, offsets, split, every)
    path = Path(path or opened.path / "forecast.zarr")
    identity = runs.fingerprint(
        opened.provenance, store.attrs["fingerprint"], steps, split, every, weights_stamp(opened)
    )
    if path.exists() and xr.open_zarr(path, consolidated=False).attrs["fingerprint"] == identity:
        return path
    journal = runs.Journal(path, identity)
    starts = positions[0.0]
    blocks = range(0, len(starts), batch_size)
    frame_bytes = 4 * surrogate.ocean.numel() * len(surrogate.window.variables)
    piece = int(np.clip(BUFFER_BYTES // (batch_size * frame_bytes), 1, steps))
    fields = Fields(store_path, [name for name, _ in surrogate.window.inputs])
    bar = progress.bar(len(starts) * steps, f"forecast {opened.path.name}", "step", show=show)
    with runs.disk_errors(path), bar:
        if not journal.is_done("template"):
            empty = template(store, surrogate, starts, steps, piece, opened)
            empty.assign_attrs(fingerprint=identity).to_zarr(
                journal.target, compute=False, zarr_format=3, consolidated=False, mode="w"
            )
            journal.mark("template")
        for first in blocks:
            block = slice(first, min(first + batch_size, len(starts)))
            if not journal.is_done(first):
                _forecast_block(surrogate, fields, positions, block, steps, piece, journal.target,
                                bar)  # fmt: skip
                journal.mark(first)
            else:
                bar.update((block.stop - block.start) * steps)
        journal.finish()
    return path


def _forecast_block(surrogate, fields, positions, block, steps, piece, target, bar):
    """Roll one block of start dates out, writing ``piece`` lead times at a time."""
    device, window = surrogate.ocean.device, surrogate.window
    land = ~fields.ocean
    size = block.stop - block.start

    def read(inputs, ahead):
        channels = [fields.read(name, positions[ahead + lag][block]) for name, lag in inputs]
        return torch.from_numpy(np.stack(channels, axis=1))

    initial = zero_on_land(read(window.state, 0.0).to(device), surrogate.ocean)
    forcing = (read(window.forcing, step * window.step_h) for step in range(steps))
    ahead = (batch.to(device, non_blocking=True) for batch in prefetch(forcing))
    frames, written = [], 0
    count = len(window.variables)
    with torch.inference_mode():
        for step, state in enumerate(rollout(surrogate.step, initial, ahead), 1):
            frames.append(state[:, :count].cpu().numpy())
            bar.update(size)
            if len(frames) < piece and step < steps:
                continue
            values = np.stack(frames, axis=2)
            if not np.isfinite(values).all():
                raise InputError(
                    f"forecast: the state is no longer finite by step {step}; the run has not "
                    "learnt a stable step, train it longer or with a lower learning_rate"
                )
            values[..., land] = np.nan
            dims = ("init_time", "lead_time", "y", "x")
            xr.Dataset(
                {name: (dims, values[:, i]) for i, name in enumerate(window.variables)}
            ).to_zarr(
                target,
                region={"init_time": block, "lead_time": slice(written, step)},
                consolidated=False,
            )
            frames, written = [], step


def template(store, surrogate, starts, steps, piece, opened):
    """The forecast as a lazy dataset of the right shape, coordinates and attributes."""
    variables = surrogate.window.variables
    rows, columns = surrogate.ocean.shape
    step = np.timedelta64(round(surrogate.window.step_h * 3600), "s")
    lead = (np.arange(1, steps + 1) * step).astype("timedelta64[ns]")
    init = store.time.values[starts].astype("datetime64[ns]")
    shape = (len(starts), steps, rows, columns)
    chunks, shards = (1, 1, rows, columns), (1, piece, rows, columns)
    dataset = xr.Dataset(
        {name: (("init_time", "lead_time", "y", "x"),
                dask.array.zeros(shape, chunks=shards, dtype="float32"),
                names.attributes(name))
         for name in variables},
        coords={
            "init_time": ("init_time", init, {"standard_name": "forecast_reference_time"}),
            "lead_time": ("lead_time", lead, {"standard_name": "forecast_period"}),
            "valid_time": (("init_time", "lead_time"), init[:, None] + lead,
                           {"standard_name": "time"}),
            "segment": ("init_time", store.segment.values[starts]),
            "position": ("init_time", starts.astype("int32"),
                         {"long_name": "position of init_time in the prepared store"}),
        },
        attrs={
            "Conventions": names.CONVENTIONS,
            "title": f"Forecasts of run {opened.path.name}",
            "source": f"seaice_lab surrogate, {opened.config['network']}",
            "history": f"{runs.now()} seaice-lab forecast",
            "store": opened.config["store"],
        },
    )  # fmt: skip
    for name in ("latitude", "longitude", "ocean", "y", "x"):
        if name in store.coords:
            dataset = dataset.assign_coords({name: store[name].load()})
            dataset[name].encoding = {}
    hours = {"units": "hours since 1970-01-01", "dtype": "float64", "_FillValue": None}
    dataset.init_time.encoding = dict(hours)
    dataset.valid_time.encoding = dict(hours)
    dataset.lead_time.encoding = {"units": "hours", "dtype": "float64", "_FillValue": None}
    for name in variables:
        dataset[name].encoding = {"chunks": chunks, "shards": shards}
    return dataset


def weights_stamp(opened):
    """Time of change of the weights, so that a new training makes a new forecast."""
    return (opened.path / "weights.safetensors").stat().st_mtime_ns
