"""Forecasts: repeated steps of the surrogate from many start dates at once.

:func:`forecast` takes batches of start dates. :func:`forecast_blocks` steps one batch forward and
yields blocks of lead times, which are written to the forecast store one by one, so that memory
stays bounded. A killed forecast continues with the first batch that is not complete.
"""

import hashlib
from itertools import islice, repeat
from pathlib import Path

import dask.array
import numpy as np
import torch
import xarray as xr

from seaice_lab import files, metadata, names, progress, runs
from seaice_lab.compute import Process, compiles, damaged_compile_cache, prefetch
from seaice_lab.errors import InputError
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import bounds, load
from seaice_lab.surrogate.noise import settle_noise
from seaice_lab.surrogate.perturbations import initial_perturbations, member_biases
from seaice_lab.surrogate.results import check_same_grid, prepare_results_folder, results_folder
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.store import COMPRESSORS, open_store, open_zarr, write_checksums

# Product of cells and steps above which the surrogate is compiled: a few minutes of work on a CPU,
# compared with half a minute for compiling.
COMPILE_ABOVE_CELL_STEPS = 5e7


def rollout(step, state, forcing):
    """Step a state forward, yielding it after every step.

    Parameters
    ----------
    step : callable
        ``step(state, forcing)`` returns the state one step later, such as
        :meth:`~seaice_lab.surrogate.model.Surrogate.step`.
    state : torch.Tensor (batch, channel, y, x)
        Initial state.
    forcing : iterable of torch.Tensor (batch, channel, y, x)
        One for each step, valid for the step that starts at its time.

    Yields
    ------
    torch.Tensor (batch, channel, y, x)
        State after each step; differentiable with respect to the initial state.
    """
    for fields in forcing:
        state = step(state, fields)
        yield state


@damaged_compile_cache()
def forecast(run, config, path=None, device=None, block_bytes=256e6, show=True, *, initial=None):
    """Forecast from every start date of a split, or from given ones; write ``forecast.zarr``.

    Under ``torchrun`` the processes share the start dates.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate.
    config : ForecastConfig
        With more than one member, each member of a network with noise has noise of its own. The
        first member of a deterministic network starts from the true state, the others from states
        with random perturbations (see
        :func:`~seaice_lab.surrogate.perturbations.initial_perturbations`).
    path : str or Path, optional
        Store to write; by default ``forecast.zarr`` in the folder of
        :func:`~seaice_lab.surrogate.results.results_folder`.
    device : str, optional
        A GPU by default, if there is one.
    block_bytes : float
        Size of the fields that are kept in memory before they are written. The forecast does not
        depend on it.
    show : bool
        Show progress.
    initial : ndarray (start, channel, y, x), optional
        States at the given starts in physical units, finite in the ocean, such as analyses; by
        default those of the store.

    Returns
    -------
    Path
        Store with ``<variable>(init_time, lead_time, y, x)``, for an ensemble ``(init_time, member,
        lead_time, y, x)``, for each predicted variable; NaN on land. The first lead time is one
        step. An existing store of the same forecast is kept, and a killed forecast continues. A new
        forecast replaces an older one in the folder, and removes its scores.

    Raises
    ------
    InputError
        If the run is not trained, the store has another grid, noise is asked of a network without,
        a start date lacks what the forecast needs, the folder holds something else, the state is no
        longer finite, or the disk is full.
    """
    # Which start dates: those with all fields that the forecast needs.
    folder, store_path, is_own_store = results_folder(run, config.store, config.output)
    surrogate, config = settle_noise(load(run, device, store_path), config, run)
    opened, store = runs.open_run(run), open_store(store_path)
    check_same_grid(store, store_path, opened, is_own_store)
    positions = start_positions(store, surrogate.window, config, needs_state=initial is None)
    starts = positions[0.0]
    fields = Fields(store_path, [name for name, _ in surrogate.window.inputs])
    identity = _fingerprint(opened, store, starts, config, surrogate.noise, initial)
    path = Path(path or folder / "forecast.zarr")
    process = Process()
    if _is_complete(path, identity, process):
        return path
    if path == folder / "forecast.zarr" and process.is_main:
        prepare_results_folder(folder, opened.path, store_path, store.attrs["fingerprint"])

    count, steps_of_start = len(starts), config.members * config.steps
    batch_starts, block_steps = _sizes(surrogate, config, count, block_bytes, process.world)
    total = count * steps_of_start
    fast = _compiled(surrogate, config, total * surrogate.ocean.numel() / process.world)

    beats = path.parent == folder and process.is_main
    with (
        process.watch_others(),
        files.journal(path, identity, process.is_main) as journal,
        progress.bar(
            total, f"forecast {opened.path.name}", "step", show=show and process.is_main
        ) as bar,
        runs.heartbeat(folder, runs.FORECASTING, "step", total, beats) as beat,
    ):
        if process.is_main and not journal.is_done("template"):
            empty = _template(store, surrogate.window, starts, config, block_steps, opened)
            empty.assign_attrs(
                fingerprint=identity,
                store=store_path,
                store_fingerprint=store.attrs["fingerprint"],
                # The climatology is that of the training data.
                training_store=store_path if is_own_store else opened.config["store"],
            ).to_zarr(journal.target, compute=False, zarr_format=3, consolidated=False, mode="w")
            journal.mark("template")
        # The others wait here until the first process has written the template.
        missing = process.is_main and _missing_batches(journal, count, batch_starts)
        missing = process.gather(missing)[0]
        for batch in missing[process.rank :: process.world]:
            # The processes take batches in turn, so this is about what all of them have done.
            beat(batch.start * steps_of_start + 1)
            bar.update(batch.start * steps_of_start - bar.n)
            # An incomplete batch would be compiled again for its size.
            model = fast if batch.stop - batch.start == batch_starts else surrogate
            inputs = _inputs(surrogate, store, fields, positions, config, initial, batch)
            for lead_steps, values in forecast_blocks(model, *inputs, block_steps, bar):
                region = {"init_time": batch, "lead_time": lead_steps}
                dataset = _as_dataset(values, surrogate, config.members)
                dataset.to_zarr(journal.target, region=region, consolidated=False)
            journal.mark(_label(batch))
        process.gather("written")
        bar.update(total - bar.n)
        if process.is_main:
            write_checksums(journal.target, surrogate.window.variables)
            journal.finish()
        process.gather("finished")
    return path


def _is_complete(path, identity, process):
    """Whether the forecast exists already; the first process decides for all."""
    facts = str(path.absolute()), identity
    is_complete = process.is_main and _fingerprint_of(path) == identity
    with process.watch_others():
        everywhere = process.gather((is_complete, *facts))
    if any((other_path, other) != facts for _, other_path, other in everywhere):
        raise InputError(
            f"process {process.rank} of {process.world}: the processes do not make the same "
            "forecast; give all of them the same run, settings and folder, and wait until the "
            "training is finished"
        )
    return everywhere[0][0]


def _missing_batches(journal, count, batch_starts):
    """Slices of the start dates that are not written yet."""
    firsts = range(0, count, batch_starts)
    batches = [slice(first, min(first + batch_starts, count)) for first in firsts]
    return [batch for batch in batches if not journal.is_done(_label(batch))]


def _label(batch):
    """Name of a batch in the journal; a continued forecast may have batches of another size."""
    return f"{batch.start}:{batch.stop}"


@torch.inference_mode()
def forecast_blocks(surrogate, initial, forcing, block_steps, bar):
    """Step a batch of initial states forward and yield blocks of successive steps.

    Parameters
    ----------
    surrogate : Surrogate
    initial : torch.Tensor (batch, channel, y, x)
        Initial states in physical units, zero on land.
    forcing : iterable of tuple
        For each step the forcing, noise and bias of :meth:`Surrogate.step`, on any device.
    block_steps : int
        Steps in a block; the last block may have fewer.
    bar : tqdm.tqdm
        Progress bar, advanced by the size of the batch after every step.

    Yields
    ------
    steps : slice
        Positions of the steps on the axis of lead times.
    values : ndarray (batch, variable, step, y, x)
        Predicted variables in physical units, zero on land.

    Raises
    ------
    InputError
        If a state is not finite.
    """
    count = len(surrogate.window.variables)
    # A background thread reads the next forcing while the network computes.
    forcing = (_on_device(fields, initial.device) for fields in prefetch(forcing))

    def step(state, fields):
        return surrogate.step(state, *fields)

    def predictions():
        for state in rollout(step, initial, forcing):
            yield state[:, :count].cpu().numpy()
            bar.update(len(state))

    successive, first = predictions(), 0
    while fields := list(islice(successive, block_steps)):
        values, end = np.stack(fields, axis=2), first + len(fields)
        if not np.isfinite(values).all():
            raise InputError(
                f"forecast: the state is no longer finite by step {end}; the run has not learnt a "
                "stable step, train it longer or with a lower learning_rate"
            )
        yield slice(first, end), values
        first = end


def _sizes(surrogate, config, count, block_bytes, processes):
    """How much at once: start dates of a batch on the device, steps of a block in memory."""
    # Every process receives a batch, if there are as many start dates.
    share = max(count // processes, 1)
    batch_starts = min(max(config.batch_size // config.members, 1), share)
    fields = batch_starts * config.members * len(surrogate.window.variables)
    step_bytes = 4 * fields * surrogate.ocean.numel()
    return batch_starts, int(np.clip(block_bytes // step_bytes, 1, config.steps))


def _on_device(fields, device):
    """Tensors, and lists of them, on a device; None stays None."""
    if fields is None:
        return None
    if isinstance(fields, torch.Tensor):
        return fields.to(device, non_blocking=True)
    return [_on_device(field, device) for field in fields]


def _fingerprint_of(path):
    """Fingerprint of an existing forecast; None if it is missing or damaged."""
    try:
        return open_zarr(path, "seaice-lab forecast", {}).attrs.get("fingerprint")
    except InputError:
        return None


def _compiled(surrogate, config, cell_steps):
    """The surrogate, compiled for one batch size if the setting and the length ask for it."""
    is_long = cell_steps > COMPILE_ABOVE_CELL_STEPS
    if config.compile == "always" or (is_long and compiles(config.compile)):
        return surrogate._replace(network=torch.compile(surrogate.network, dynamic=False))
    return surrogate


def _inputs(surrogate, store, fields, positions, config, states, batch):
    """Initial states and forcing of a batch of start dates, each (start * member, ...).

    Parameters
    ----------
    surrogate : Surrogate
    store : xarray.Dataset
        Prepared store.
    fields : Fields
        Reader of the store.
    positions : dict of float to ndarray of int (start,)
        Positions on the time axis of the store by offset from the start date, hours.
    config : ForecastConfig
    states : ndarray (start, channel, y, x) or None
        Initial states; None: those of the store.
    batch : slice
        Start dates of the batch.

    Returns
    -------
    initial : torch.Tensor (start * member, channel, y, x)
        On the device of the surrogate, within the physical bounds, zero on land.
    forcing : iterator of tuple
        For each step the forcing, torch.Tensor (start * member, channel, y, x), the noise and the
        bias of the members, or None; read and drawn when they are needed.
    """
    window, ocean = surrogate.window, surrogate.ocean
    positions = {offset: position[batch] for offset, position in positions.items()}

    def of_members(values):
        return torch.from_numpy(values.astype("float32")).repeat_interleave(config.members, 0)

    def read(channels, step):
        values = np.empty((len(positions[0.0]), len(channels), *ocean.shape), "float32")
        for channel, (name, lag) in enumerate(channels):
            values[:, channel] = fields.read(name, positions[step * window.step_h + lag])
        return of_members(values)

    initial = read(window.state, 0) if states is None else of_members(states[batch])
    initial += initial_perturbations(surrogate, store, positions[0.0], config)
    initial = zero_on_land(initial.to(ocean.device), ocean)
    low, high = bounds([name for name, _ in window.state], initial)
    initial = zero_on_land(torch.clamp(initial, low, high), ocean)
    forcing = (read(window.forcing, step) for step in range(config.steps))
    noise, bias = repeat(None), member_biases(surrogate, positions[0.0], config)
    if surrogate.noise is not None:
        noise = surrogate.noise.of_members(config.seed, positions[0.0], range(config.members))
    return initial, zip(forcing, noise, repeat(bias), strict=False)  # only the forcing ends


def _as_dataset(values, surrogate, members):
    """Predicted variables (start * member, variable, step, y, x) as a Dataset, NaN on land."""
    values[..., ~surrogate.ocean.cpu().numpy()] = np.nan
    values = values.reshape(-1, members, *values.shape[1:])
    dims = ("init_time", "member", "lead_time", "y", "x")
    variables = enumerate(surrogate.window.variables)
    dataset = xr.Dataset({name: (dims, values[:, :, index]) for index, name in variables})
    return dataset.isel(member=0) if members == 1 else dataset


def _template(store, window, starts, config, block_steps, opened):
    """The forecast as a lazy dataset of the right shape, coordinates and attributes."""
    step = window.step
    lead = (np.arange(1, config.steps + 1) * step).astype("timedelta64[ns]")
    init = store.time.values[starts].astype("datetime64[ns]")
    position = {"long_name": "position of init_time in the prepared store"}
    coords = {
        "init_time": ("init_time", init, {"standard_name": "forecast_reference_time"}),
        "lead_time": ("lead_time", lead, {"standard_name": "forecast_period"}),
        "valid_time": (("init_time", "lead_time"), init[:, None] + lead, {"standard_name": "time"}),
        "segment": ("init_time", store.segment.values[starts]),
        "position": ("init_time", starts.astype("int32"), position),
    }
    for name in ("latitude", "longitude", "ocean", "y", "x"):
        if name in store.coords:
            coords[name] = store[name].variable.load().drop_encoding()
    coords["member"] = ("member", np.arange(config.members), {"standard_name": "realization"})
    dims = ("init_time", "member", "lead_time", "y", "x")
    shape = (len(starts), config.members, config.steps, *store.ocean.shape)
    # The fields of a block are one file (shard), in which each field is a chunk.
    shards = (1, 1, block_steps, *store.ocean.shape)
    empty = dask.array.zeros(shape, chunks=shards, dtype="float32")
    title = f"Forecasts of run {opened.path.name}"
    source = f"seaice_lab surrogate, {opened.config['network']}"
    licence = store.attrs.get("license")
    dataset = xr.Dataset(
        {name: (dims, empty, names.attributes(name)) for name in window.variables},
        coords=coords,
        attrs={
            **metadata.file_attributes(title, source, "forecast", licence),
            "variables": " ".join(window.variables),
        },
    )
    dataset.attrs |= metadata.coverage(dataset)
    if config.members == 1:
        dataset = dataset.isel(member=0, drop=True)
    for name in window.variables:
        shards = dataset[name].data.chunksize
        chunks = (*(1 for _ in shards[:-2]), *store.ocean.shape)
        dataset[name].encoding = {"chunks": chunks, "shards": shards, "compressors": COMPRESSORS}
    for name in ("init_time", "valid_time", "lead_time"):
        units = "hours" if name == "lead_time" else "hours since 1970-01-01"
        dataset[name].encoding = {"units": units, "dtype": "float64", "_FillValue": None}
    return dataset


def _fingerprint(opened, store, starts, config, noise, initial):
    """Digest of all that the forecast depends on."""
    # A new training replaces the weights file; its new time stamp requires a new forecast.
    weights_time = (opened.path / "weights.safetensors").stat().st_mtime_ns
    facts = [opened.provenance, store.attrs["fingerprint"], config.steps, config.split_of_starts]
    facts += [config.every, weights_time]
    if config.starts:
        facts += [starts.tolist()]
    if config.members > 1:
        facts += [config.members, config.perturbation, config.seed]
        facts += [config.member_bias] if config.member_bias else []
    if noise is not None:
        facts += [noise.gain, noise.memory]
    if initial is not None:
        facts += [hashlib.sha256(initial.tobytes()).hexdigest()]
    return files.fingerprint(*facts)
