"""Lazy Adam: a cell's skipped updates are applied when it is next read (on a CPU).

Adam changes every cell of a map at every step, also the cells that no observation of the batch
needs: their gradient is zero, but their mean gradient m still moves them. Such an update depends on
nothing but the cell itself, so that it can wait until the cell is read again. The result is that of
the dense update to rounding, and the time of a step does not grow with the map.

Without a penalty, all skipped updates of a cell have one closed form (:class:`StepCounter`). Cells
on which a penalty acts (concentrations beyond 0 and 1, or on the hump) take them one by one; these
take longer the longer they were not read.

Adam is the published one, with epsilon outside the bias correction. With gradient g at step s:
m <- m + 0.1 (g - m), v <- v + 0.001 (g^2 - v), w <- w - a_s m / (sqrt(v) + 1e-7),
a_s = learning rate * sqrt(1 - 0.999^s) / (1 - 0.9^s).
"""

import math

import numpy as np
import torch

from seaice_lab.compute import prefetch
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.gradients import pack_parameters
from seaice_lab.emissivity.lazy_kernels import SERIES_TERMS, Steps, read_cells, step_cells, update
from seaice_lab.emissivity.observations import read_batch
from seaice_lab.optimiser import BETA1, BETA2

SERIES_STEPS = 256  # steps after which nothing of m remains: 0.9^256 is 2e-12
CELLS_AT_ONCE = 65536  # in which all cells of a map are brought up to date
BATCHES_PER_READ = 8
NO_PENALTY = penalty.Strengths(0.0, 0.0)


class StepCounter:
    """Counts steps and sums up what a cell skips.

    After step t, m and v of a cell without gradient decay by 0.9 and 0.999 a step, so that its k
    skipped steps change it by
    - m sum_j a_(t+j) 0.9^j / (sqrt(v) 0.999^(j/2) + 1e-7), j = 1..k.
    The sum holds v, which differs from cell to cell, in the denominator. With
    d_j = 0.999^(j/2) - 1 and r = sqrt(v) / (sqrt(v) + 1e-7) each denominator is
    (sqrt(v) + 1e-7) (1 + r d_j), and the geometric series of 1 / (1 + r d_j) separates the cell (r)
    from the steps (d_j): the change is
    - m / (sqrt(v) + 1e-7) sum_n (-r)^n c_n(t), c_n(t) = sum_j a_(t+j) 0.9^j d_j^n.
    It converges fast, because |d_j| stays small for as long as 0.9^j matters. Every new step adds
    one term to the c_n of the last SERIES_STEPS steps t; for older ones it is negligible.

    Parameters
    ----------
    learning_rate : float

    Attributes
    ----------
    steps : Steps
    """

    def __init__(self, learning_rate):
        self.learning_rate = learning_rate
        age = np.arange(SERIES_STEPS, 0, -1)[:, None]
        # 0.9^j d_j^n, (step, term), the latest step last
        self.new_terms = BETA1**age * (BETA2 ** (age / 2) - 1) ** np.arange(SERIES_TERMS)
        self.steps = Steps(0, np.zeros(1), np.zeros((1, SERIES_TERMS)), np.ones((1, 2)))

    def advance(self):
        """Count one more step."""
        count, lengths, series, decays = self.steps
        count += 1
        if count == len(lengths):  # make the tables twice as long
            lengths = np.concatenate([lengths, np.zeros_like(lengths)])
            series = np.concatenate([series, np.zeros_like(series)])
            decays = np.array([BETA1, BETA2]) ** np.arange(len(lengths))[:, None]
        lengths[count] = self.learning_rate * math.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        first = max(count - SERIES_STEPS, 0)
        series[first:count] += lengths[count] * self.new_terms[first - count :]
        self.steps = Steps(count, lengths, series, decays)


class LazyMap:
    """A map whose cells may be some steps behind.

    The values, m, v and the last step of a cell are one row of ``table``, so that reading a cell
    touches one place of the memory. The map of the model becomes a view of the table's first
    columns.

    Parameters
    ----------
    parameter : Parameter (cell, value)
        The map of the model.
    is_concentration : bool
        Whether the penalty acts on the map, or keeps it between 0 and 1.
    """

    def __init__(self, parameter, is_concentration=False):
        self.width, self.is_concentration = parameter.shape[1], is_concentration
        values = parameter.detach().numpy()
        # NumPy puts large arrays on large pages of memory, which makes random access faster
        self.table = np.zeros((len(values), 3 * self.width + 1), values.dtype)
        self.table[:, : self.width] = values
        parameter.data = torch.from_numpy(self.table)[:, : self.width]

    def read(self, rows, steps, strengths):
        """Apply the skipped steps of some cells and give their values.

        Parameters
        ----------
        rows : ndarray of int64 (row,)
        steps : Steps
        strengths : Strengths
            Of the penalty of concentrations.

        Returns
        -------
        values : ndarray (row, value)
        reading : Reading
            For :meth:`take_step`.
        """
        if not self.width:
            return np.empty((len(rows), 0), self.table.dtype), None
        return read_cells(rows, self.table, steps, *self._constraints(strengths))

    def take_step(self, gradient, reading, steps, strengths):
        """Take the last step with the cells that have just been read.

        Parameters
        ----------
        gradient : ndarray (row, value)
            Of the values that :meth:`read` gave.
        reading : Reading
        steps : Steps
            After the step has been counted.
        strengths : Strengths
        """
        if self.width:
            step_cells(gradient, reading, self.table, steps, *self._constraints(strengths))

    def catch_up(self, steps, strengths):
        """Apply the skipped steps of all cells.

        Parameters
        ----------
        steps : Steps
        strengths : Strengths
        """
        for first in range(0, len(self.table), CELLS_AT_ONCE):
            rows = np.arange(first, min(first + CELLS_AT_ONCE, len(self.table)))
            self.read(rows, steps, strengths)

    def _constraints(self, strengths):
        """Strengths of the penalty of this map, and whether it is bounded."""
        return (strengths, strengths.bounded) if self.is_concentration else (NO_PENALTY, False)


class LazyAdam:
    """Adam on a CPU: lazy for the maps of a model, dense for its other parameters.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    config : FitConfig
    """

    def __init__(self, model, observations, config):
        self.model, self.observations, self.batch_size = model, observations, config.batch_size
        vector, self.evaluate = pack_parameters(model, config)
        self.vector = vector.numpy()
        sea_ice = LazyMap(model.sea_ice, is_concentration=True)
        self.maps = [sea_ice, LazyMap(model.properties), LazyMap(model.observation_properties)]
        # m and v of the vector, then m, v and the last step of each map as views
        self.moments = [np.zeros((2, len(self.vector)), self.vector.dtype)]
        self.moments += [lazy_map.table[:, lazy_map.width :] for lazy_map in self.maps]
        self.counter = StepCounter(config.learning_rate)

    def batches(self, order, firsts):
        """Read batches, some of them at once and in a background thread.

        Parameters
        ----------
        order : ndarray of int
            Positions of observations.
        firsts : sequence of int
            Where the batches begin in ``order``.

        Yields
        ------
        tuple of Tensor
            The columns of a Batch, and the rows of the maps that it reads.
        """

        def read(at):
            starts = firsts[at : at + BATCHES_PER_READ]
            positions = [order[first : first + self.batch_size] for first in starts]
            together = read_batch(self.observations, np.concatenate(positions))
            columns = [*together, *self.model.map_rows(together.index)]
            sizes = [len(batch) for batch in positions]
            return zip(*(column.split(sizes) for column in columns), strict=True)

        for batches in prefetch(map(read, range(0, len(firsts), BATCHES_PER_READ)), 1):
            yield from batches

    def step(self, batch, strengths):
        """Take a step.

        Parameters
        ----------
        batch : tuple of Tensor
            From :meth:`batches`.
        strengths : Strengths
            Of the penalty in this epoch.

        Returns
        -------
        dict of scalar Tensor
            Costs before the step, and ``gradient_norm``.
        """
        # 1. the cells that the batch reads, after their skipped steps
        number, *columns, days, cell = batch
        rows = days.flatten().numpy(), cell.numpy(), number.numpy()
        pairs = zip(self.maps, rows, strict=True)
        results = [lazy_map.read(row, self.counter.steps, strengths) for lazy_map, row in pairs]
        values, readings = zip(*results, strict=True)

        # 2. the gradient of the cost by the vector and by the values of the maps
        sea_ice = torch.from_numpy(values[0].reshape(days.shape))
        properties = torch.from_numpy(np.concatenate(values[1:], 1))
        costs, gradients = self.evaluate(sea_ice, properties, *columns)
        by_vector, by_sea_ice, by_properties = (gradient.numpy() for gradient in gradients)

        # 3. a step of the same cells and of the vector
        self.counter.advance()
        steps, width = self.counter.steps, self.maps[1].width
        by_maps = by_sea_ice.reshape(-1, 1), by_properties[:, :width], by_properties[:, width:]
        for lazy_map, gradient, reading in zip(self.maps, by_maps, readings, strict=True):
            lazy_map.take_step(gradient, reading, steps, strengths)
        length = steps.lengths[steps.count]
        update(self.vector, *self.moments[0], by_vector, length, NO_PENALTY, False)
        return costs | {"gradient_norm": torch.linalg.vector_norm(gradients[0])}

    def catch_up(self, strengths):
        """Apply the skipped steps of all cells, as validation and checkpoints need it."""
        for lazy_map in self.maps:
            lazy_map.catch_up(self.counter.steps, strengths)

    def state_dict(self):
        """Steps and moments; all cells must be up to date."""
        moments = [torch.from_numpy(moments.copy()) for moments in self.moments]
        return {"steps": self.counter.steps.count, "moments": moments}

    def load_state_dict(self, state):
        """Continue from :meth:`state_dict`."""
        for moments, saved in zip(self.moments, state["moments"], strict=True):
            moments[:] = saved
        while self.counter.steps.count < state["steps"]:
            self.counter.advance()
