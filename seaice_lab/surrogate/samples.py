"""Samples: windows over a prepared store, assembled at read time by time stamp.

A window names which fields at which time offsets enter the network and which increment is its
target. Fields are stored once; windows overlap freely, and never cross a gap, a segment or a
split.
"""

import numpy as np
import torch
import zarr
from pydantic import model_validator
from scipy import ndimage

from seaice_lab import grid
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import locate, open_store, statistics

MEMORY_BYTES = 4e9  # fields smaller than this are read once and kept


class Window(Config):
    """Which fields enter and what is predicted; offsets in hours from the start of the step.

    ``inputs`` lists (variable, offset) in channel order: first the state, that is the predicted
    variables at 0 and, if wanted, one or more steps back (-12, -24); then the forcing at any
    offsets and fields of place and season (:data:`DERIVED`). ``targets`` lists what is predicted:
    increments of (variable, from ``start_h`` to this offset). The first target of each variable
    is the step that a forecast repeats.
    """

    inputs: tuple[tuple[str, float], ...]
    targets: tuple[tuple[str, float], ...] = (("sit", 12.0),)
    start_h: float = 0.0

    @model_validator(mode="after")
    def _must_be_a_step(self):
        if not self.targets or self.step_h <= 0:
            raise ValueError(f"targets: must lie after start_h {self.start_h:g}")
        count = len(self.variables)
        if self.targets[:count] != tuple((name, self.targets[0][1]) for name in self.variables):
            raise ValueError("targets: must begin with the same offset of every variable")
        if self.inputs[:count] != tuple((name, 0.0) for name in self.variables):
            raise ValueError(
                "inputs: must begin with the present state, in the order of the targets: "
                + ", ".join(f"({name}, 0)" for name in self.variables)
            )
        later = [name for name, _ in self.inputs[len(self.state) :] if name in self.variables]
        if later or any(offset > 0 for _, offset in self.state):
            raise ValueError(
                "inputs: the state must come before the forcing and not lie in the future"
            )
        for name, offset in self.state[count:]:
            if (name, offset + self.step_h) not in self.state:
                raise ValueError(
                    f"inputs: ({name}, {offset:g}) needs ({name}, {offset + self.step_h:g}) beside "
                    "it, so that a forecast can hand the past on from step to step"
                )
        return self

    @property
    def variables(self):
        """The predicted variables."""
        return tuple(dict.fromkeys(name for name, _ in self.targets))

    @property
    def state(self):
        """The inputs that a forecast carries along: the present state and its past."""
        count = 0
        while count < len(self.inputs) and self.inputs[count][0] in self.variables:
            count += 1
        return self.inputs[:count]

    @property
    def forcing(self):
        """The inputs after the state, in channel order."""
        return self.inputs[len(self.state) :]

    @property
    def step_h(self):
        """Length of one step of the surrogate, in hours."""
        return self.targets[0][1] - self.start_h

    @property
    def handed_on(self):
        """For each past state, the channel of the state that becomes it one step later."""
        return [
            self.state.index((name, offset + self.step_h))
            for name, offset in self.state[len(self.variables) :]
        ]


def published_inputs(first_h, second_h):
    """Channels in the published order: state, then winds and temperature now and twice later."""
    later = [(name, lag) for name in ("u10", "v10", "t2m") for lag in (first_h, second_h)]
    return (("sit", 0.0), ("u10", 0.0), ("v10", 0.0), ("t2m", 0.0), *later)


# Durand et al. (2024) describe forcing at t, t+6 h and t+12 h for the step from t to t+12 h; the
# two public scripts cut other windows, kept here to reproduce what was run. "past_state" adds where
# the ice was twelve hours before.
WINDOWS = {
    "self_consistent": Window(inputs=published_inputs(6.0, 12.0)),
    "published_surrogate": Window(
        inputs=published_inputs(12.0, 24.0), targets=(("sit", 36.0),), start_h=24.0
    ),
    "published_4dvar": Window(inputs=published_inputs(6.0, 12.0), start_h=-12.0),
    "no_forcing": Window(inputs=(("sit", 0.0),)),
    "past_state": Window(
        inputs=(("sit", 0.0), ("sit", -12.0), *published_inputs(6.0, 12.0)[1:]),
    ),
    "full_state": Window(
        inputs=(
            *((name, 0.0) for name in ("sit", "sic", "siu", "siv", "damage")),
            *((name, lag) for name in ("u10", "v10", "t2m") for lag in (0.0, 6.0, 12.0)),
        ),
        targets=tuple((name, 12.0) for name in ("sit", "sic", "siu", "siv", "damage")),
    ),
}

# Inputs made from the grid and the date. Their scales are fixed: the season may well be constant
# over a short training period.
DERIVED = {
    "latitude": {"mean": 75.0, "std": 10.0},
    "coast_distance_km": {"mean": 300.0, "std": 300.0},
    "season_sine": {"mean": 0.0, "std": 1.0},
    "season_cosine": {"mean": 0.0, "std": 1.0},
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
        self._derived = {name: derived(name, store) for name in self.variables if name in DERIVED}
        self.variables = tuple(name for name in self.variables if name not in DERIVED)
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
        if name in self._derived:
            values = self._derived[name]
            values = values[times] if len(values) > 1 else values
            return np.broadcast_to(values, (len(times), *self.ocean.shape))
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


def derived(name, store):
    """A field made from the grid, (1, y, x), or from the date, (time, 1, 1); float32."""
    if name == "latitude":
        field = store.latitude.values[None]
    elif name == "coast_distance_km":
        ocean = store.ocean.values
        if ocean.all():
            raise InputError(
                "coast_distance_km: the grid has no land, so there is no coast; leave this input "
                "out of the window"
            )
        # The edge of the domain is no coast.
        field = ndimage.distance_transform_edt(ocean)[None] * grid.spacing_m(store) / 1e3
    else:
        year = store.time.values.astype("datetime64[Y]")
        angle = 2 * np.pi * (store.time.values - year) / np.timedelta64(31_556_952, "s")
        field = (np.sin(angle) if name == "season_sine" else np.cos(angle))[:, None, None]
    return field.astype("float32")


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
        Scales of a trained run; computed from the training ocean without it. Holds
        ``{"mean", "std"}`` of each input by name and, as list "increments", of each target.
    steps : int
        Successive windows in one item, for training through a rollout.

    Notes
    -----
    An item is ``(x, y)``: inputs (channel, y, x) and increments (target, y, x), float32, in units
    of standard deviations of the training ocean, zero on land; with more than one step, a first
    axis counts them. ``take`` makes whole batches at once.
    """

    def __init__(self, path, window, split, normalisation=None, steps=1):
        store = open_store(path)
        self.window, self.steps = window, steps
        offsets = {offset for _, offset in (*window.inputs, *window.targets)} | {window.start_h}
        reach = {offset + step * window.step_h for offset in offsets for step in range(steps)}
        self.positions = locate(store, reach, split)
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
        x = np.empty((len(indices), self.steps, len(self.window.inputs), *sea.shape), "float32")
        y = np.empty((len(indices), self.steps, len(self.window.targets), *sea.shape), "float32")
        for step in range(self.steps):
            ahead = step * self.window.step_h
            for channel, (name, offset) in enumerate(self.window.inputs):
                values = self.fields.read(name, self.positions[offset + ahead][indices])
                x[:, step, channel] = normalise(values, self.normalisation[name], sea)
            for channel, target in enumerate(self.window.targets):
                scale = self.normalisation["increments"][channel]
                y[:, step, channel] = normalise(self._increment(target, indices, ahead), scale, sea)
        if self.steps == 1:
            x, y = x[:, 0], y[:, 0]
        return torch.from_numpy(x), torch.from_numpy(y)

    def _increment(self, target, indices, ahead=0.0):
        name, end_h = target
        start, end = (
            self.fields.read(name, self.positions[offset + ahead][indices])
            for offset in (self.window.start_h, end_h)
        )
        return end - start

    def _normalisation(self, store, split):
        if split != "train":
            raise InputError(
                f"normalisation: missing for the {split} split; pass that of the training split"
            )
        found = statistics(store)
        result = {
            name: {key: found[name][key] for key in ("mean", "std")}
            for name in self.fields.variables
        }
        changes = [self._increment_statistics(target) for target in self.window.targets]
        labels = [f"the change of {name}" for name, _ in self.window.targets]
        for name, scale in (*result.items(), *zip(labels, changes, strict=True)):
            if not scale["std"] > 0:
                raise InputError(
                    f"{self.fields.path}: {name} is constant over the training ocean, so it cannot "
                    "be normalised; leave it out of the window or train on more data"
                )
        fixed = {name: DERIVED[name] for name, _ in self.window.inputs if name in DERIVED}
        return result | fixed | {"increments": changes}

    def _increment_statistics(self, target):
        count = total = squares = 0
        for first in range(0, len(self), 64):
            block = self._increment(target, np.arange(first, min(first + 64, len(self))))
            sea = block[:, self.fields.ocean].astype("float64")
            count, total, squares = count + sea.size, total + sea.sum(), squares + (sea**2).sum()
        mean = total / count
        return {"mean": mean, "std": float(np.sqrt(squares / count - mean**2))}


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
        As :meth:`Samples.take` gives them.
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
