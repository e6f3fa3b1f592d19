"""Forecasts: the surrogate applied again and again from many start dates at once."""

from pathlib import Path

import dask.array
import numpy as np
import torch
import xarray as xr
from scipy import ndimage

from seaice_lab import files, grid, names, progress, runs
from seaice_lab.compute import can_compile, prefetch
from seaice_lab.errors import InputError
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import bounds, compiled, load
from seaice_lab.surrogate.samples import Fields
from seaice_lab.surrogate.store import locate, open_store

BUFFER_BYTES = 256e6  # forecast frames held before they are written
COMPILE_PAYS = 5e7  # cells times steps: some minutes on a CPU, of which compiling takes half a one
PERTURBATION_KM = 300.0  # distance at which the perturbations of an ensemble lose their likeness


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


def forecast(run, steps, split="test", every=1, batch_size=64, members=1, perturbation=0.1,
             seed=0, path=None, device=None, show=True):  # fmt: skip
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
        Forecasts stepped together.
    members : int
        Above 1 an ensemble: the first member starts from the true state, the others from one that
        is perturbed with a smooth random field (see :func:`perturbed`).
    perturbation : float
        Standard deviation of the perturbation, in standard deviations of the training ocean.
    seed : int
        Of the perturbations; those of a start date do not depend on the other ones.
    path : str or Path, optional
        Where to write; ``<run>/forecast.zarr`` by default.
    device : str, optional
        Defaults to a GPU when there is one.
    show : bool
        Show progress.

    Returns
    -------
    Path
        Store with ``<variable>(init_time, lead_time, y, x)``, in an ensemble ``(init_time, member,
        lead_time, y, x)``, for each predicted variable; NaN on land, lead times from one step on.
        A killed forecast goes on where it stopped.

    Raises
    ------
    InputError
        If the run is not trained, no start is long enough, the state stops being finite, or the
        disk is full.
    """
    for name, value in (("steps", steps), ("members", members), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name} is {value}; expected at least 1")
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
    identity = files.fingerprint(
        opened.provenance, store.attrs["fingerprint"], steps, split, every, weights_stamp(opened),
        *([members, perturbation, seed] if members > 1 else []),
    )  # fmt: skip
    if path.exists() and xr.open_zarr(path, consolidated=False).attrs["fingerprint"] == identity:
        return path
    journal = files.Journal(path, identity)
    starts = positions[0.0]
    together = min(max(batch_size // members, 1), len(starts))
    blocks = range(0, len(starts), together)
    work = len(starts) * members * steps * surrogate.ocean.numel()
    full = compiled(surrogate) if can_compile() and work > COMPILE_PAYS else surrogate
    frame_bytes = 4 * surrogate.ocean.numel() * len(surrogate.window.variables)
    piece = int(np.clip(BUFFER_BYTES // (together * members * frame_bytes), 1, steps))
    fields = Fields(store_path, [name for name, _ in surrogate.window.inputs])
    bar = progress.bar(
        len(starts) * members * steps, f"forecast {opened.path.name}", "step", show=show
    )
    with files.disk_errors(path), bar:
        if not journal.is_done("template"):
            empty = template(store, surrogate, starts, steps, piece, members, opened)
            empty.assign_attrs(fingerprint=identity).to_zarr(
                journal.target, compute=False, zarr_format=3, consolidated=False, mode="w"
            )
            journal.mark("template")
        for first in blocks:
            block = slice(first, min(first + together, len(starts)))
            done = f"{block.start}:{block.stop}"  # a resumed forecast may have other blocks
            if not journal.is_done(done):
                spread = perturbed(surrogate, store, starts[block], members, perturbation, seed)
                # an incomplete block would be compiled for its own size
                model = full if block.stop - first == together else surrogate
                _forecast_block(model, fields, positions, block, steps, piece, members, spread,
                                journal.target, bar)  # fmt: skip
                journal.mark(done)
            else:
                bar.update((block.stop - block.start) * members * steps)
        journal.finish()
    return path


def perturbed(surrogate, store, starts, members, size, seed):
    """Differences of the initial states of an ensemble from the true one.

    Gaussian random fields, correlated over :data:`PERTURBATION_KM` and between the times of one
    variable, independent between variables, members and starts; none for the first member.

    Returns
    -------
    torch.Tensor (start * member, channel, y, x)
        For the channels of ``window.state``, in physical units.
    """
    window, shape = surrogate.window, surrogate.ocean.shape
    result = np.zeros((len(starts), members, len(window.state), *shape), "float32")
    if members > 1:
        for at, start in enumerate(starts):
            rng = np.random.default_rng([seed, int(start)])
            noise = rng.standard_normal((members - 1, len(window.variables), *shape))
            # smoothing white noise with s gives a correlation of exp(-(d / 2 s)^2)
            width = PERTURBATION_KM / (grid.spacing_m(store) / 1e3) / 2
            smooth = ndimage.gaussian_filter(noise, (0, 0, width, width), mode="wrap")
            smooth /= smooth.std((-2, -1), keepdims=True)
            for channel, (name, _) in enumerate(window.state):
                scale = size * surrogate.normalisation[name]["std"]
                result[at, 1:, channel] = scale * smooth[:, window.variables.index(name)]
    return torch.from_numpy(result.reshape(-1, *result.shape[2:]))


def _forecast_block(surrogate, fields, positions, block, steps, piece, members, spread, target,
                    bar):  # fmt: skip
    """Roll one block of start dates out, writing ``piece`` lead times at a time."""
    device, window = surrogate.ocean.device, surrogate.window
    land = ~fields.ocean
    starts = block.stop - block.start
    count = len(window.variables)

    def read(inputs, ahead):
        values = np.empty((starts, len(inputs), *land.shape), "float32")
        for channel, (name, lag) in enumerate(inputs):
            values[:, channel] = fields.read(name, positions[ahead + lag][block])
        return torch.from_numpy(values).repeat_interleave(members, 0)

    initial = zero_on_land((read(window.state, 0.0) + spread).to(device), surrogate.ocean)
    low, high = bounds([name for name, _ in window.state], initial)
    initial = zero_on_land(torch.clamp(initial, low, high), surrogate.ocean)
    forcing = (read(window.forcing, step * window.step_h) for step in range(steps))
    ahead = (batch.to(device, non_blocking=True) for batch in prefetch(forcing))
    dims = ("init_time", "member", "lead_time", "y", "x")
    frames, written = [], 0
    with torch.inference_mode():
        for step, state in enumerate(rollout(surrogate.step, initial, ahead), 1):
            frames.append(state[:, :count].cpu().numpy())
            bar.update(len(frames[-1]))
            if len(frames) < piece and step < steps:
                continue
            values = np.stack(frames, axis=2)
            if not np.isfinite(values).all():
                raise InputError(
                    f"forecast: the state is no longer finite by step {step}; the run has not "
                    "learnt a stable step, train it longer or with a lower learning_rate"
                )
            values[..., land] = np.nan
            values = values.reshape(starts, members, *values.shape[1:])
            made = {name: (dims, values[:, :, i]) for i, name in enumerate(window.variables)}
            region = {"init_time": block, "lead_time": slice(written, step)}
            dataset = xr.Dataset(made)
            if members == 1:
                dataset = dataset.isel(member=0)
            dataset.to_zarr(target, region=region, consolidated=False)
            frames, written = [], step


def template(store, surrogate, starts, steps, piece, members, opened):
    """The forecast as a lazy dataset of the right shape, coordinates and attributes."""
    variables = surrogate.window.variables
    rows, columns = surrogate.ocean.shape
    step = np.timedelta64(round(surrogate.window.step_h * 3600), "s")
    lead = (np.arange(1, steps + 1) * step).astype("timedelta64[ns]")
    init = store.time.values[starts].astype("datetime64[ns]")
    ensemble = members > 1
    dims = ("init_time", *["member"] * ensemble, "lead_time", "y", "x")
    shape = (len(starts), *[members] * ensemble, steps, rows, columns)
    chunks = (1, *[1] * ensemble, 1, rows, columns)
    shards = (1, *[1] * ensemble, piece, rows, columns)
    dataset = xr.Dataset(
        {name: (dims,
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
    if ensemble:
        dataset["member"] = ("member", np.arange(members), {"standard_name": "realization"})
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
