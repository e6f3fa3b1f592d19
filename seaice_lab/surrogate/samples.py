"""Samples: windows over a prepared store, assembled at read time by time stamp.

A window names which fields at which time offsets enter the network and which increment is its
target. Fields are stored once; windows overlap freely, and never cross a gap, a segment or a
split.
"""

import numpy as np
import torch
import zarr
from pydantic import model_validator

from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import in_split, open_store, statistics

MEMORY_BYTES = 4e9  # fields smaller than this are read once and kept


class Window(Config):
    """Which fields enter and what is predicted; offsets in hours from the start of the step.

    ``inputs`` lists (variable, offset) in channel order. The target is the increment of
    ``variable`` from offset ``start_h`` to offset ``end_h``.
    """

    inputs: tuple[tuple[str, float], ...]
    variable: str = "sit"
    start_h: float = 0.0
    end_h: float = 12.0

    @model_validator(mode="after")
    def _step_must_go_forward(self):
        if self.end_h <= self.start_h:
            raise ValueError(f"end_h {self.end_h} must be later than start_h {self.start_h}")
        if self.inputs[:1] != ((self.variable, 0.0),):
            raise ValueError(f"must begin with ({self.variable}, 0), the present state")
        return self

    @property
    def step_h(self):
        """Length of one step of the surrogate, in hours."""
        return self.end_h - self.start_h

    @property
    def forcing(self):
        """The inputs after the present state, in channel order."""
        return self.inputs[1:]


def published_inputs(first_h, second_h):
    """Channels in the published order: state, then winds and temperature now and twice later."""
    later = [(name, lag) for name in ("u10", "v10", "t2m") for lag in (first_h, second_h)]
    return (("sit", 0.0), ("u10", 0.0), ("v10", 0.0), ("t2m", 0.0), *later)


# Durand et al. (2024) describe forcing at t, t+6 h and t+12 h for the step from t to t+12 h; the
# two public scripts cut other windows, kept here to reproduce what was run.
WINDOWS = {
    "self_consistent": Window(inputs=published_inputs(6.0, 12.0)),
    "published_surrogate": Window(inputs=published_inputs(12.0, 24.0), start_h=24.0, end_h=36.0),
    "published_4dvar": Window(inputs=published_inputs(6.0, 12.0), start_h=-12.0, end_h=12.0),
}


def window(name):
    """Look a named window up.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in WINDOWS:
        raise InputError(f"unknown window {name!r}; the known ones are {', '.join(WINDOWS)}")
    return WINDOWS[name]


class Fields:
    """The fields of a store by variable, kept in memory when they are small.

    Opened lazily, so that it can be sent to worker processes.
    """

    def __init__(self, path, variables):
        self.path, self.variables = str(path), tuple(dict.fromkeys(variables))
        store = open_store(path)
        for name in self.variables:
            if name not in store:
                raise InputError(
                    f"{path}: lacks the variable {name!r} that the window needs (it has "
                    f"{', '.join(store.data_vars)}); prepare it again with this variable"
                )
        self.ocean = store.ocean.values
        size = 4 * store.sizes["time"] * self.ocean.size * len(self.variables)
        self.in_memory = size < MEMORY_BYTES
        self._arrays = {}

    def __getstate__(self):
        return self.__dict__ | {"_arrays": {}}

    def read(self, name, times):
        """Values of one variable at positions on the time axis, float32 (len(times), y, x).

        Raises
        ------
        InputError
            If the store is damaged: a chunk is cut short or missing.
        """
        first = name not in self._arrays
        try:
            if first:
                array = zarr.open_group(self.path, mode="r")[name]
                self._arrays[name] = array[:] if self.in_memory else array.oindex
            values = self._arrays[name][times]
        except Exception as error:  # each codec raises its own kind for a damaged chunk
            raise InputError(
                f"{self.path}: {name} cannot be read ({type(error).__name__}: {error}); the store "
                "is damaged, remove it and run `seaice-lab prepare` again"
            ) from None
        # Fields in memory are checked once, whole.
        unchecked = self._arrays[name] if self.in_memory else values
        if (first or not self.in_memory) and np.isnan(unchecked[:, self.ocean]).any():
            raise InputError(
                f"{self.path}: {name} has NaN in the ocean, as where a chunk is missing; the store "
                "is damaged, remove it and run `seaice-lab prepare` again"
            )
        return values


def locate(store, offsets_h, split=None, every=1):
    """Positions on the time axis of every start whose offsets all exist.

    Parameters
    ----------
    store : xarray.Dataset
        A prepared store.
    offsets_h : iterable of float
        Offsets from the start, hours. A start counts only when every one of them is a time of
        the same segment (and split).
    split : str, optional
        Take starts whose offsets all lie in this split; all starts without it.
    every : int
        Keep every n-th start.

    Returns
    -------
    dict
        ``{offset: ndarray of int (start,)}``, with the starts themselves under 0.0.

    Raises
    ------
    InputError
        If no start is complete.
    """
    offsets_h = sorted({0.0, *offsets_h})
    hours = store.time.values.astype("datetime64[s]").astype("int64") / 3600
    # One sorted number for (segment, hour): segments follow each other on the time axis.
    key = store.segment.values.astype("float64") * 1e8 + hours
    allowed = np.arange(len(key)) if split is None else in_split(store, split)
    is_allowed = np.zeros(len(key), bool)
    is_allowed[allowed] = True
    positions, complete = {}, np.ones(len(allowed), bool)
    for offset in offsets_h:
        wanted = key[allowed] + offset
        nearest = np.searchsorted(key, wanted - 1e-3).clip(max=len(key) - 1)
        complete &= (np.abs(key[nearest] - wanted) < 1e-3) & is_allowed[nearest]
        positions[offset] = nearest
    if not complete.any():
        raise InputError(
            f"no start has all of {offsets_h[0]:+g} to {offsets_h[-1]:+g} h in the "
            f"{split or 'whole'} part of the store ({len(allowed)} times); prepare longer "
            "uninterrupted pieces, ask for fewer steps, or choose offsets that are times of the "
            "store"
        )
    return {offset: nearest[complete][::every] for offset, nearest in positions.items()}


class Samples(torch.utils.data.Dataset):
    """Windows of one split as normalised tensors.

    Parameters
    ----------
    path : str or Path
        Prepared store.
    window : Window
    split : str
        "train", "validation" or "test".
    normalisation : dict, optional
        ``{name: {"mean", "std"}}`` of a trained run; computed from the training ocean without it.

    Notes
    -----
    An item is ``(x, y)``: inputs (channel, y, x) and increment (1, y, x), float32, in units of
    standard deviations of the training ocean, zero on land. ``take`` makes whole batches at once.
    """

    def __init__(self, path, window, split, normalisation=None):
        store = open_store(path)
        self.window = window
        lags = {lag for _, lag in window.inputs}
        self.positions = locate(store, lags | {window.start_h, window.end_h}, split)
        self.fields = Fields(path, [name for name, _ in window.inputs])
        self.normalisation = normalisation or self._normalisation(store, split)

    def __len__(self):
        return len(self.positions[0.0])

    def __getitem__(self, index):
        x, y = self.take([index])
        return x[0], y[0]

    def take(self, indices):
        """The windows of these indices as one batch: inputs and increments."""
        indices = np.asarray(indices)
        sea = self.fields.ocean
        x = np.empty((len(indices), len(self.window.inputs), *sea.shape), "float32")
        for channel, (name, lag) in enumerate(self.window.inputs):
            values = self.fields.read(name, self.positions[lag][indices])
            x[:, channel] = normalise(values, self.normalisation[name], sea)
        y = normalise(self._increment(indices), self.normalisation["increment"], sea)
        return torch.from_numpy(x), torch.from_numpy(y[:, None])

    def _increment(self, indices):
        start, end = (
            self.fields.read(self.window.variable, self.positions[offset][indices])
            for offset in (self.window.start_h, self.window.end_h)
        )
        return end - start

    def _normalisation(self, store, split):
        if split != "train":
            raise InputError(
                f"normalisation: missing for the {split} split; pass that of the training split"
            )
        result = {
            name: {key: values[key] for key in ("mean", "std")}
            for name, values in statistics(store).items()
            if name in self.fields.variables
        }
        count = total = squares = 0
        for first in range(0, len(self), 64):
            block = self._increment(np.arange(first, min(first + 64, len(self))))
            sea = block[:, self.fields.ocean].astype("float64")
            count, total, squares = count + sea.size, total + sea.sum(), squares + (sea**2).sum()
        mean = total / count
        result["increment"] = {"mean": mean, "std": float(np.sqrt(squares / count - mean**2))}
        for name, values in result.items():
            if not values["std"] > 0:
                raise InputError(
                    f"{self.fields.path}: {name} is constant over the training ocean, so it cannot "
                    "be normalised; leave it out of the window or train on more data"
                )
        return result


def normalise(values, scale, ocean):
    """(values - mean) / std in the ocean, zero on land whatever stands there; float32."""
    scaled = (values - np.float32(scale["mean"])) * np.float32(1 / scale["std"])
    return np.where(ocean, scaled, np.float32(0))


def batches(samples, size, seed=0, epoch=0, shuffle=False, rank=0, world=1, workers=0):
    """Batches of one epoch, in an order that only seed and epoch decide.

    Parameters
    ----------
    samples : Samples
    size : int
        Windows a batch (on each of ``world`` processes).
    seed, epoch : int
        Decide the order when ``shuffle`` is true.
    rank, world : int
        This process and the number of processes that share the epoch. When shuffling, an
        incomplete last batch is dropped so that all processes do the same number of steps.
    workers : int
        Processes that assemble windows; 0 does it here.

    Yields
    ------
    x, y : torch.Tensor
        (batch, channel, y, x) and (batch, 1, y, x).
    """
    order = np.arange(len(samples))
    if shuffle:
        order = np.random.default_rng([seed, epoch]).permutation(len(samples))
        if len(order) < size * world:
            raise InputError(
                f"batch_size {size} on {world} process(es) is more than the {len(order)} windows "
                "of the training split; choose a smaller batch_size"
            )
        order = order[: len(order) // (size * world) * size * world]
    mine = order[rank::world]
    groups = [mine[first : first + size] for first in range(0, len(mine), size)]
    if workers == 0:
        yield from map(samples.take, groups)
        return
    # fork could deadlock with the threads of an open Zarr store
    yield from torch.utils.data.DataLoader(
        samples, batch_sampler=groups, num_workers=workers, multiprocessing_context="forkserver"
    )
