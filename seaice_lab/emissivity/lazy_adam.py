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

from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.lazy_kernels import (
    SERIES_TERMS,
    Steps,
    add_scaled,
    read_cells,
    step_cells,
    update,
)
from seaice_lab.optimiser import BETA1, BETA2

SERIES_STEPS = 256  # steps after which nothing of m remains: 0.9^256 is 2e-12
CELLS_AT_ONCE = 65536  # in which all cells of a map are brought up to date
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
        self.steps = Steps(0, np.zeros(1024), np.zeros((1024, SERIES_TERMS)), decay_table(1024))

    def advance(self):
        """Count one more step."""
        count, lengths, series, decays = self.steps
        count += 1
        if count == len(lengths):
            lengths = np.concatenate([lengths, np.zeros_like(lengths)])
            series = np.concatenate([series, np.zeros_like(series)])
            decays = decay_table(len(lengths))
        lengths[count] = self.learning_rate * math.sqrt(1 - BETA2**count) / (1 - BETA1**count)
        first = max(count - SERIES_STEPS, 0)
        add_scaled(series[first:count], lengths[count], self.new_terms[first - count :])
        self.steps = Steps(count, lengths, series, decays)


def decay_table(length):
    """0.9^k and 0.999^k for k from 0, ndarray (k, 2)."""
    return np.array([BETA1, BETA2]) ** np.arange(length)[:, None]


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

    @property
    def moments(self):
        """m, v and the last step of all cells, ndarray (cell, 2 * value + 1)."""
        return self.table[:, self.width :]

    def read(self, rows, steps, strengths=NO_PENALTY):
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

    def take_step(self, gradient, reading, steps, strengths=NO_PENALTY):
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

    def catch_up(self, steps, strengths=NO_PENALTY):
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

    A step is: :meth:`read` the cells that a batch needs, compute the gradient of its cost, and
    :meth:`take_step` with the same cells.

    Parameters
    ----------
    model : EmpiricalState
    vector : Tensor (weight,)
        All parameters but the maps (:func:`seaice_lab.emissivity.gradients.pack_parameters`).
    learning_rate : float
    """

    def __init__(self, model, vector, learning_rate):
        sea_ice = LazyMap(model.sea_ice, is_concentration=True)
        self.maps = [sea_ice, LazyMap(model.properties), LazyMap(model.observation_properties)]
        self.vector = vector.numpy()
        self.moments = np.zeros((2, len(vector)), self.vector.dtype)
        self.counter = StepCounter(learning_rate)

    def read(self, batch, rows, strengths):
        """Values of the maps for a batch, after the skipped steps of its cells.

        Parameters
        ----------
        batch : Batch
        rows : (Tensor (observation, lag + 1), Tensor (observation,))
            From :meth:`EmpiricalState.map_rows`.
        strengths : Strengths
            Of the penalty in this epoch.

        Returns
        -------
        sea_ice : Tensor (observation, lag + 1)
        properties : Tensor (observation, property)
        readings : list of Reading
            For :meth:`take_step`.
        """
        days, cell = (index.numpy() for index in rows)
        values, readings = [], []
        map_rows = days.ravel(), cell, batch.number.numpy()
        for lazy_map, rows_of_map in zip(self.maps, map_rows, strict=True):
            value, reading = lazy_map.read(rows_of_map, self.counter.steps, strengths)
            values.append(value)
            readings.append(reading)
        sea_ice = torch.from_numpy(values[0].reshape(days.shape))
        return sea_ice, torch.from_numpy(np.concatenate(values[1:], 1)), readings

    def take_step(self, gradients, readings, strengths):
        """Take a step of Adam.

        Parameters
        ----------
        gradients : (Tensor, Tensor, Tensor)
            Of the cost by the vector and by the values that :meth:`read` gave.
        readings : list of Reading
        strengths : Strengths
        """
        by_vector, by_sea_ice, by_properties = (gradient.numpy() for gradient in gradients)
        self.counter.advance()
        steps, width = self.counter.steps, self.maps[1].width
        by_maps = by_sea_ice.reshape(-1, 1), by_properties[:, :width], by_properties[:, width:]
        for lazy_map, gradient, reading in zip(self.maps, by_maps, readings, strict=True):
            lazy_map.take_step(gradient, reading, steps, strengths)
        length = steps.lengths[steps.count]
        update(self.vector, *self.moments, by_vector, length, NO_PENALTY, False)

    def catch_up(self, strengths):
        """Apply the skipped steps of all cells, as validation and checkpoints need it."""
        for lazy_map in self.maps:
            lazy_map.catch_up(self.counter.steps, strengths)

    def state_dict(self):
        """Steps and moments; all cells must be up to date."""
        moments = [self.moments, *(lazy_map.moments.copy() for lazy_map in self.maps)]
        return {"steps": self.counter.steps.count, "moments": [*map(torch.from_numpy, moments)]}

    def load_state_dict(self, state):
        """Continue from :meth:`state_dict`."""
        moments = [self.moments, *(lazy_map.moments for lazy_map in self.maps)]
        for mine, saved in zip(moments, state["moments"], strict=True):
            mine[:] = saved
        while self.counter.steps.count < state["steps"]:
            self.counter.advance()
