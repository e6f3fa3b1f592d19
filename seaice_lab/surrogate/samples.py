"""Samples: windows over a prepared store as normalised tensors, assembled when they are read.

The store holds every field once. Windows overlap freely, and never cross a gap, a segment or a
split.
"""

import numpy as np
import torch
import zarr
from scipy import ndimage

from seaice_lab import grid
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import locate, moments, open_store, statistics
from seaice_lab.surrogate.windows import DERIVED

MEMORY_BYTES = 4e9
MEAN_YEAR = np.timedelta64(31_556_952, "s")  # of the Gregorian calendar, 365.2425 days


class Fields:
    """Reads the fields of a store by name; it can be sent to other processes.

    Parameters
    ----------
    path : str or Path
        Prepared store.
    variables : sequence of str
        Names of variables of the store, or of :data:`~seaice_lab.surrogate.windows.DERIVED`.
    memory_bytes : float
        Fields that need less memory are read once and kept.

    Raises
    ------
    InputError
        If the store lacks a variable.
    """

    def __init__(self, path, variables, memory_bytes=MEMORY_BYTES):
        self.path = str(path)
        store = open_store(path)
        self.ocean = store.ocean.values
        # Variables that are missing at some times, with the times at which they are there.
        self._present = {}
        if "has_state" in store.coords:
            state = store.has_state.attrs["variables"].split()
            self._present = dict.fromkeys(state, store.has_state.values)
        self._derived = {name: derived_field(name, store) for name in variables if name in DERIVED}
        self.variables = tuple(name for name in dict.fromkeys(variables) if name not in DERIVED)
        for name in self.variables:
            if name not in store:
                raise InputError(
                    f"{path}: lacks the variable {name!r} that the window needs (it has "
                    f"{', '.join(store.data_vars)}); prepare it again with this variable"
                )
        size = 4 * store.sizes["time"] * self.ocean.size * len(self.variables)
        self.in_memory = size < memory_bytes
        self._arrays, self._values = {}, {}  # by name: open Zarr arrays, and values in memory

    def __getstate__(self):
        # Another process opens and reads the store itself.
        return self.__dict__ | {"_arrays": {}, "_values": {}}

    def read(self, name, times):
        """Read one variable.

        Parameters
        ----------
        name : str
        times : ndarray of int
            Positions on the time axis.

        Returns
        -------
        ndarray (len(times), y, x), float32

        Raises
        ------
        InputError
            If the store is damaged: a chunk is cut short or missing.
        """
        if name in self._derived:
            values = self._derived[name]
            values = values[times] if len(values) > 1 else values
            return np.broadcast_to(values, (len(times), *self.ocean.shape))
        if not self.in_memory:
            return self._read_zarr(name, times)
        if name not in self._values:
            self._values[name] = self._read_zarr(name, slice(None))
        return self._values[name][times]

    def _read_zarr(self, name, times):
        try:
            if name not in self._arrays:
                self._arrays[name] = zarr.open_group(self.path, mode="r")[name]
            values = self._arrays[name].oindex[times]
        except Exception as error:  # each codec raises its own kind for a damaged chunk
            raise InputError(
                f"{self.path}: {name} cannot be read ({type(error).__name__}: {error}); the store "
                "is damaged, move it away and run `seaice-lab prepare` again"
            ) from None
        # A missing chunk is read as NaN.
        expected = values[self._present[name][times]] if name in self._present else values
        if np.isnan(expected[:, self.ocean]).any():
            raise InputError(
                f"{self.path}: {name} has NaN in the ocean, probably because a chunk is missing; "
                "the store is damaged, move it away and run `seaice-lab prepare` again"
            )
        return values


def derived_field(name, store):
    """Make an input from the grid or the date.

    Parameters
    ----------
    name : str
        One of :data:`~seaice_lab.surrogate.windows.DERIVED`.
    store : xarray.Dataset
        Prepared store.

    Returns
    -------
    ndarray (1, y, x) or (time, 1, 1), float32

    Raises
    ------
    InputError
        If the distance to the coast is asked for on a grid without land.
    """
    if name == "latitude":
        field = np.abs(store.latitude.values[None])  # the same distance from either pole
    elif name == "coast_distance_km":
        ocean = store.ocean.values
        if ocean.all():
            raise InputError(
                "coast_distance_km: the grid has no land, so there is no coast; leave this input "
                "out of the window"
            )
        # The edge of the domain is not a coast.
        field = ndimage.distance_transform_edt(ocean)[None] * grid.spacing_m(store) / 1e3
    else:
        year = store.time.values.astype("datetime64[Y]")
        angle = 2 * np.pi * (store.time.values - year) / MEAN_YEAR
        field = (np.sin(angle) if name == "season_sine" else np.cos(angle))[:, None, None]
    return field.astype("float32")


class Samples(torch.utils.data.Dataset):
    """Windows of one split as normalised tensors.

    An item is ``(x, y)``: inputs (channel, y, x) and increments (target, y, x), float32, in units
    of standard deviations of the training ocean, zero on land. With more than one step, a first
    axis counts the steps. :meth:`take` makes whole batches.

    Parameters
    ----------
    path : str or Path
        Prepared store.
    window : Window
    split : str
        "train", "validation" or "test".
    normalisation : dict, optional
        Scales of a trained run; computed from the training ocean without it. Holds
        ``{"mean", "std"}`` of each input by name and, as the list "increments", of each target.
    steps : int
        Successive windows in one item, for training through a rollout.
    memory_bytes : float
        Fields that need less memory are read once and kept.

    Raises
    ------
    InputError
        If the store lacks a variable, has no complete window in the split, or a field is constant.
    """

    def __init__(self, path, window, split, normalisation=None, steps=1, memory_bytes=MEMORY_BYTES):
        store = open_store(path)
        self.window, self.steps = window, steps
        offsets = {offset for _, offset in (*window.inputs, *window.targets)} | {window.start_h}
        reach = {offset + step * window.step_h for offset in offsets for step in range(steps)}
        self.positions = locate(store, reach, split)
        self.fields = Fields(path, [name for name, _ in window.inputs], memory_bytes)
        if normalisation is None and split != "train":
            raise InputError(f"normalisation: missing for the {split} split; pass that of training")
        self.normalisation = normalisation or self._compute_normalisation(statistics(store))

    def __len__(self):
        return len(self.positions[0.0])

    def __getitem__(self, index):
        x, y = self.take([index])
        return x[0], y[0]

    def take(self, indices):
        """The windows of some indices as one batch.

        Parameters
        ----------
        indices : sequence of int

        Returns
        -------
        x, y : torch.Tensor
            Items as the class describes, with a first axis that counts the indices.
        """
        indices = np.asarray(indices)
        ocean = self.fields.ocean
        x = np.empty((len(indices), self.steps, len(self.window.inputs), *ocean.shape), "float32")
        y = np.empty((len(indices), self.steps, len(self.window.targets), *ocean.shape), "float32")
        for step in range(self.steps):
            shift_h = step * self.window.step_h
            for channel, (name, offset_h) in enumerate(self.window.inputs):
                values = self._read(name, offset_h + shift_h, indices)
                x[:, step, channel] = normalise(values, self.normalisation[name], ocean)
            for channel, (name, end_h) in enumerate(self.window.targets):
                scale = self.normalisation["increments"][channel]
                increment = self._increment(name, end_h, indices, shift_h)
                y[:, step, channel] = normalise(increment, scale, ocean)
        if self.steps == 1:
            x, y = x[:, 0], y[:, 0]
        return torch.from_numpy(x), torch.from_numpy(y)

    def _read(self, name, offset_h, indices):
        return self.fields.read(name, self.positions[offset_h][indices])

    def _increment(self, name, end_h, indices, shift_h=0.0):
        start = self._read(name, self.window.start_h + shift_h, indices)
        return self._read(name, end_h + shift_h, indices) - start

    def _compute_normalisation(self, stored):
        """Scales of the inputs and targets, from the statistics of the store and the increments."""
        inputs = {
            name: {key: stored[name][key] for key in ("mean", "std")}
            for name in self.fields.variables
        }
        increments = [self._increment_scale(*target) for target in self.window.targets]
        labels = [f"the change of {name}" for name, _ in self.window.targets]
        for name, scale in (*inputs.items(), *zip(labels, increments, strict=True)):
            if not scale["std"] > 0:
                raise InputError(
                    f"{self.fields.path}: {name} is constant over the training ocean, so it cannot "
                    "be normalised; leave it out of the window or train on more data"
                )
        fixed = {name: DERIVED[name] for name, _ in self.window.inputs if name in DERIVED}
        return inputs | fixed | {"increments": increments}

    def _increment_scale(self, name, end_h):
        blocks = (
            self._increment(name, end_h, np.arange(first, min(first + 64, len(self))))
            for first in range(0, len(self), 64)
        )
        result = moments(block[:, self.fields.ocean] for block in blocks)
        return {"mean": result["mean"], "std": result["std"]}


def normalise(values, scale, ocean):
    """Scale a field, and set it to zero on land.

    Parameters
    ----------
    values : ndarray (..., y, x)
    scale : dict
        Has "mean" and "std".
    ocean : ndarray of bool (y, x)
        True where sea.

    Returns
    -------
    ndarray (..., y, x), float32
        (values - mean) / std in the ocean.
    """
    scaled = (values - np.float32(scale["mean"])) * np.float32(1 / scale["std"])
    return np.where(ocean, scaled, np.float32(0))


def batches(samples, size, shuffle=None, rank=0, world=1, workers=0):
    """Batches of one epoch, in an order that does not depend on the number of processes.

    Parameters
    ----------
    samples : Samples
    size : int
        Windows a batch (on each of ``world`` processes).
    shuffle : (int, int), optional
        Seed and epoch, which determine a random order. An incomplete last batch is then dropped, so
        that all processes do the same number of steps. Without it the order is that of time.
    rank, world : int
        This process, and the number of processes that share the epoch.
    workers : int
        Processes that assemble windows; with 0, this process does.

    Yields
    ------
    x, y : torch.Tensor
        As :meth:`Samples.take` returns them.

    Raises
    ------
    InputError
        If there are fewer windows than a batch of all processes needs.
    """
    order = np.arange(len(samples))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(samples))
        batch_count = len(order) // (size * world)
        if batch_count == 0:
            raise InputError(
                f"batch_size {size} on {world} process(es) is more than the {len(order)} windows "
                "of the training split; choose a smaller batch_size"
            )
        order = order[: batch_count * size * world]
    order = order[rank::world]
    groups = [order[first : first + size] for first in range(0, len(order), size)]
    if workers == 0:
        yield from map(samples.take, groups)
        return
    # A forked process could deadlock with the threads of an open Zarr store.
    yield from torch.utils.data.DataLoader(
        samples, batch_sampler=groups, num_workers=workers, multiprocessing_context="forkserver"
    )
