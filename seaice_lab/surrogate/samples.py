"""Samples: windows over a prepared store as normalised tensors, gathered when they are read.

The store holds every field once. Windows overlap freely, and never cross a gap, a segment or a
split. A :class:`Block` holds the normalised fields of some windows on one device; a batch is
gathered from it, so that only indices reach the device. One block holds all windows if the fields
fit in memory. Otherwise an epoch goes through groups of windows, each with a block of its own, and
reads every field about once.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import torch

from seaice_lab.compute import prefetch
from seaice_lab.errors import InputError
from seaice_lab.processors import processors
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.store import locate, moments, open_store, statistics
from seaice_lab.surrogate.windows import DERIVED

MEMORY_SHARE = 0.5  # largest share of the memory of a device that fields take
GROUP_BYTES = 1.3e9  # fields of a group; three groups are in memory: in use, waiting, being read
SERIES_WINDOWS = 16  # successive windows that stay together in a group
READ_TIMES = 16  # times that a thread reads at once


class Samples:
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
    device : str or torch.device, optional
        Where all fields are kept after the first use. With None they stay in the store, and
        :func:`batches` reads them in groups.

    Raises
    ------
    InputError
        If the store lacks a variable, has no complete window in the split, or a field is constant.
    """

    def __init__(self, path, window, split, normalisation=None, steps=1, device="cpu"):
        store = open_store(path)
        self.window, self.steps, self.device = window, steps, device
        offsets = {offset for _, offset in (*window.inputs, *window.targets)} | {window.start_h}
        reach = {offset + step * window.step_h for offset in offsets for step in range(steps)}
        self.positions = locate(store, reach, split)
        self.fields = Fields(path, [name for name, _ in window.inputs], memory_bytes=0)
        if normalisation is None and split != "train":
            raise InputError(f"normalisation: missing for the {split} split; pass that of training")
        self.normalisation = normalisation or self._compute_normalisation(statistics(store))
        self._all = None

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
        if self.device is None:
            return Block(self, np.unique(indices)).take(indices)
        if self._all is None:
            self._all = Block(self, np.arange(len(self)), self.device)
        return self._all.take(indices)

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
        def increments(first):
            pair = [
                self.positions[hour][first : first + 64] for hour in (self.window.start_h, end_h)
            ]
            times, rows = np.unique(pair, return_inverse=True)
            values = self.fields.read(name, times)
            start, end = rows.reshape(2, -1)
            return (values[end] - values[start])[:, self.fields.ocean]

        result = moments(prefetch(map(increments, range(0, len(self), 64)), 1))
        return {"mean": result["mean"], "std": result["std"]}


class Block:
    """Normalised fields of some windows on one device, from which batches are gathered.

    The fields are the rows of one tensor: the times of each variable, then the increments of each
    target by their start, then the inputs that do not change with time. Two tables hold the rows
    of each window, so that a batch is one gather without arithmetic.

    Parameters
    ----------
    samples : Samples
    indices : ndarray of int
        The windows, sorted.
    device : str or torch.device
    workers : int
        Threads that read and decompress fields; 0: one for each processor.
    memory : torch.Tensor, optional
        For the fields, on the device. It grows if it is too small.

    Raises
    ------
    InputError
        If the store is damaged.
    """

    def __init__(self, samples, indices, device="cpu", workers=0, memory=None):
        window, fields = samples.window, samples.fields
        self.indices, self.device = indices, torch.device(device)
        self.steps, self.shape = samples.steps, fields.ocean.shape
        self.positions = {hour: where[indices] for hour, where in samples.positions.items()}
        self.times = np.unique(np.stack(list(self.positions.values())))
        static = {name: field for name, field in fields.derived.items() if len(field) == 1}
        layers = (*fields.variables, *range(len(window.targets)))
        self.first_row = {layer: n * len(self.times) for n, layer in enumerate(layers)}
        end = len(layers) * len(self.times)
        self.first_row |= {name: end + n for n, name in enumerate(static)}
        rows = end + len(static)
        if memory is None:
            memory = torch.empty(rows, fields.ocean.size, device=self.device)
        if len(memory) < rows:  # with a reserve, since groups differ; unused memory is not occupied
            memory.set_(torch.empty(rows * 5 // 4, fields.ocean.size, device=self.device))
        self.values = memory[:rows]
        self.ocean = torch.from_numpy(fields.ocean).to(self.device)
        self.land = (~self.ocean).flatten().nonzero()[:, 0]

        self._read(fields, workers or processors())
        scales = samples.normalisation
        for target, (name, end_h) in enumerate(window.targets):
            self._add_increments(target, name, window, end_h, scales["increments"][target])
        for name in fields.variables:
            first = self.first_row[name]
            self._normalise(range(first, first + len(self.times)), scales[name])
        for name, field in static.items():
            row = self.first_row[name]
            self.values[row].copy_(torch.from_numpy(field).flatten())
            self._normalise([row], scales[name])
        self._make_tables(window, fields, scales)

    def _read(self, fields, threads):
        def read(name, first):
            times = self.times[first : first + READ_TIMES]
            row = self.first_row[name] + first
            rows = self.values[row : row + len(times)]
            if rows.device.type == "cpu":
                fields.read_into(name, times, rows.view(-1, *self.shape).numpy())
            else:
                rows.copy_(torch.from_numpy(fields.read(name, times)).flatten(1))

        with ThreadPoolExecutor(threads) as pool:
            firsts = range(0, len(self.times), READ_TIMES)
            jobs = [pool.submit(read, name, at) for at in firsts for name in fields.variables]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _add_increments(self, target, name, window, end_h, scale):
        shifts = [step * window.step_h for step in range(self.steps)]
        start, end = (
            np.concatenate([self._row(name, hour + shift) for shift in shifts])
            for hour in (window.start_h, end_h)
        )
        start, first = np.unique(start, return_index=True)
        shift = self.first_row[target] - self.first_row[name]
        for now, later in zip(start, end[first], strict=True):
            torch.sub(self.values[later], self.values[now], out=self.values[now + shift])
        self._normalise(start + shift, scale)

    def _normalise(self, rows, scale):
        """(values - mean) / std in place, zero on land; in float32 as on every device."""
        mean, factor = float(np.float32(scale["mean"])), float(np.float32(1 / scale["std"]))
        for row in rows:  # one by one, so that a row stays in the cache of a processor
            self.values[row].sub_(mean).mul_(factor).index_fill_(0, self.land, 0.0)

    def _row(self, layer, hour):
        """Rows of a layer at some hours from the present time of each window."""
        return self.first_row[layer] + np.searchsorted(self.times, self.positions[hour])

    def _make_tables(self, window, fields, scales):
        shape = (len(self.indices), self.steps)
        x_rows = np.zeros((*shape, len(window.inputs)), "int64")
        y_rows = np.zeros((*shape, len(window.targets)), "int64")
        self.uniform = {}  # by channel: the inputs that are equal in all cells, (window, step)
        for step in range(self.steps):
            shift = step * window.step_h
            for channel, (name, hour) in enumerate(window.inputs):
                if name in fields.variables:
                    x_rows[:, step, channel] = self._row(name, hour + shift)
                elif name in self.first_row:
                    x_rows[:, step, channel] = self.first_row[name]
                else:
                    series = fields.derived[name][self.positions[hour + shift], 0, 0]
                    values = self.uniform.setdefault(channel, np.empty(shape, "float32"))
                    values[:, step] = (series - scales[name]["mean"]) / scales[name]["std"]
            for target in range(len(window.targets)):
                y_rows[:, step, target] = self._row(target, window.start_h + shift)
        self.x_rows, self.y_rows = (torch.from_numpy(t).to(self.device) for t in (x_rows, y_rows))
        self.uniform = {c: torch.from_numpy(v).to(self.device) for c, v in self.uniform.items()}

    def take(self, indices):
        """A batch of windows, as :meth:`Samples.take` returns it.

        Parameters
        ----------
        indices : sequence of int
            Indices of windows of the samples.

        Returns
        -------
        x, y : torch.Tensor
            On the device of the block, or in pinned memory from which a GPU copies them.
        """
        numbers = torch.from_numpy(np.searchsorted(self.indices, indices)).to(self.device)
        x, y = self._gather(self.x_rows[numbers]), self._gather(self.y_rows[numbers])
        for channel, values in self.uniform.items():
            x[:, :, channel] = values[numbers][:, :, None, None] * self.ocean
        return (x[:, 0], y[:, 0]) if self.steps == 1 else (x, y)

    def _gather(self, rows):
        pinned = self.device.type == "cpu" and torch.cuda.is_available()
        result = torch.empty(
            rows.numel(), self.values.shape[1], device=self.device, pin_memory=pinned
        )
        torch.index_select(self.values, 0, rows.flatten(), out=result)
        return result.view(*rows.shape, *self.shape)


def choose_device(setting, path, window, process):
    """Choose where the fields of the training and validation splits live.

    Parameters
    ----------
    setting : {"auto", "device", "memory", "store"}
        As in ``TrainConfig.fields_in``.
    path : str or Path
        Prepared store.
    window : Window
    process : Process

    Returns
    -------
    device : torch.device or None
        As in :class:`Samples`.
    text : str
        One line for the user. The choice depends on the size of the memory, not on how much is
        free, so that a continued training makes the same.
    """
    store = open_store(path)
    layers = len({name for name, _ in window.inputs} - DERIVED.keys()) + len(window.targets)
    needed = 4 * layers * store.ocean.size * int(np.isin(store.split.values, (0, 1)).sum())
    text = f"fields: {needed / 1e9:.2f} GB "
    for place, device in (("device", process.device), ("memory", torch.device("cpu"))):
        memory = process.memory_bytes(device)
        if setting == place or (setting == "auto" and needed < MEMORY_SHARE * memory):
            where = "on the GPU" if device.type == "cuda" else "in memory"
            return device, text + f"{where} (of {memory / 1e9:.0f} GB)"
    return None, text + f"read from the store in groups of {GROUP_BYTES / 1e9:g} GB"


def batches(samples, size, shuffle=None, rank=0, world=1, workers=0, memory=None):
    """Batches of one epoch, in an order that does not depend on the number of processes.

    The order is random over all windows if the fields are in memory. From a store, the order is
    random within groups of windows; a group consists of short series from random times.

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
        Threads that read a store; 0: one for each processor.
    memory : list, optional
        Receives the tensors that hold the groups of a store, if it is empty. The next epoch may use
        the same when this one is over.

    Yields
    ------
    x, y : torch.Tensor
        As :meth:`Samples.take` returns them.

    Raises
    ------
    InputError
        If there are fewer windows than a batch of all processes needs.
    """
    if shuffle is not None and len(samples) < size * world:
        raise InputError(
            f"batch_size {size} on {world} process(es) is more than the {len(samples)} windows "
            "of the training split; choose a smaller batch_size"
        )
    if samples.device is None:
        groups = list(groups_of_batches(samples, size, shuffle, rank, world))
        # New memory costs as much as reading from it, so three blocks take turns: one is in use,
        # one waits, and one is being filled.
        memory = [] if memory is None else memory
        memory += [torch.empty(0) for _ in range(3 - len(memory))]
        places = cycle(memory)
        windows = (np.unique(np.concatenate(group)) for group in groups)
        blocks = (Block(samples, w, "cpu", workers, next(places)) for w in windows)
        for group, block in zip(groups, prefetch(blocks, 1), strict=True):
            yield from map(block.take, group)
        return
    order = np.arange(len(samples))
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(samples))
        order = order[: len(order) // (size * world) * size * world]
    order = order[rank::world]
    for first in range(0, len(order), size):
        yield samples.take(order[first : first + size])


def groups_of_batches(samples, size, shuffle, rank, world):
    """Groups of batches of one process, so that a group reads few fields twice.

    Parameters
    ----------
    samples, size, shuffle, rank, world
        As in :func:`batches`.

    Yields
    ------
    list of ndarray of int (size,)
        The batches of a group: indices of windows.
    """
    layers = len(samples.fields.variables) + len(samples.window.targets)
    windows = max(int(GROUP_BYTES / (4 * layers * samples.fields.ocean.size)), 1)
    order = np.arange(len(samples))
    if shuffle is None:
        order = np.array_split(order, world)[rank]
        batch_list = [order[first : first + size] for first in range(0, len(order), size)]
        count = max(windows // size, 1)
        for first in range(0, len(batch_list), count):
            yield batch_list[first : first + count]
        return
    # 1. Short series of windows in random order, in whole batches.
    rng, total = np.random.default_rng(shuffle), size * world
    series = np.array_split(order, -(-len(order) // SERIES_WINDOWS))
    order = np.concatenate([series[number] for number in rng.permutation(len(series))])
    order = order[: len(order) // total * total]
    # 2. Each row of a group is shuffled, and each column is a batch. A process takes successive
    #    rows, so that it reads only its share of the series.
    count = max(windows // total, 1) * total
    for first in range(0, len(order), count):
        group = rng.permuted(order[first : first + count].reshape(total, -1), axis=1)
        yield list(group[rank * size : (rank + 1) * size].T)
