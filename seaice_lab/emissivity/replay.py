"""Adam for maps of which a batch sees a few cells: missed steps are taken when a cell is read.

Adam moves every cell of a map at every step, also those that no observation of the batch falls
into. Between two visits a cell depends on nothing but itself, so that its missed steps can wait
until it is read again. The result is that of the dense update to rounding, and a step costs no more
on a larger map. Only cells on which a penalty pulls (concentrations beyond 0 and 1, or on the hump)
replay what they missed step by step: they cost the more the longer they waited.

Adam as published, with epsilon outside the bias correction: with gradient g at step s,
m <- m + 0.1 (g - m), v <- v + 0.001 (g^2 - v), w <- w - a_s m / (sqrt(v) + 1e-7),
a_s = rate sqrt(1 - 0.999^s) / (1 - 0.9^s).
"""

import math
from contextlib import contextmanager

import numpy as np
import torch
from numba import njit
from torch import nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7
FORGOTTEN = 256  # steps after which nothing is left of m: 0.9^256 is 2e-12
TERMS = 7  # of the series in Clock; the first one left out is below 1e-12 of a step
LANES = 64  # cells replayed side by side
CHUNK = 256  # cells caught up together
FIRST = np.zeros(1, np.int64)  # the row of a map of one cell

# The hump that makes a little ice costly (version 2): between 0 and 0.3, highest at 0.15.
HUMP_END, HUMP_TOP, HUMP_SLOPE = 0.3, 0.15, 0.2


class Clock:
    """Steps taken so far, and what the steps that a cell missed add up to.

    Without a gradient the k steps after step t move a cell by
    - m sum_j a_(t+j) 0.9^j / (sqrt(v) 0.999^(j/2) + 1e-7), j = 1..k.
    With d_j = 0.999^(j/2) - 1 and r = sqrt(v) / (sqrt(v) + 1e-7) this is
    - m / (sqrt(v) + 1e-7) sum_n (-r)^n c_n(t, k), c_n = sum_j a_(t+j) 0.9^j d_j^n,
    a series that converges fast, because d_j stays small while 0.9^j lasts. ``moments`` holds the
    c_n from every earlier step t to now, ``alphas`` the length of every step, and ``decays`` what
    is left of m and v after k steps.
    """

    def __init__(self, learning_rate, steps=0):
        self.learning_rate, self.steps = learning_rate, 0
        after = np.arange(FORGOTTEN, 0, -1)[:, None]
        self.weight = BETA1**after * (BETA2 ** (after / 2) - 1) ** np.arange(TERMS)
        self.moments = np.zeros((1024, TERMS))
        self.alphas = np.zeros(1024)
        self.decays = decay_table(1024)
        for _ in range(steps):
            self.tick()

    def tick(self):
        """One more step has been taken."""
        self.steps += 1
        if self.steps == len(self.alphas):
            self.moments = np.concatenate([self.moments, np.zeros_like(self.moments)])
            self.alphas = np.concatenate([self.alphas, np.zeros_like(self.alphas)])
            self.decays = decay_table(len(self.alphas))
        alpha = math.sqrt(1 - BETA2**self.steps) / (1 - BETA1**self.steps)
        self.alphas[self.steps] = alpha = alpha * self.learning_rate
        first = max(self.steps - FORGOTTEN, 0)
        self.moments[first : self.steps] += alpha * self.weight[first - self.steps :]


def decay_table(length):
    """0.9^k and 0.999^k, ndarray (k, 2)."""
    return np.array([BETA1, BETA2]) ** np.arange(length)[:, None]


class ReplayedMap(nn.Module):
    """A trainable map in the memory of the processor, with its moments.

    ``state`` holds one row a cell, so that a visit touches one place of the memory: its K values,
    their K means m, K squares v, K sums of gradients (zero between steps), and the step it stands
    at.

    Parameters
    ----------
    initial : Tensor (cell, K)
    pull : callable, optional
        Gives the two strengths of :func:`penalty_gradient`.
    bounded : bool
        Whether values are held between 0 and 1 after every step.
    """

    def __init__(self, initial, pull=lambda: (0.0, 0.0), bounded=False):
        super().__init__()
        self.width = initial.shape[1]
        # made by NumPy, whose large arrays stand on large pages: visits jump about in them
        state = np.zeros((len(initial), 4 * self.width + 1), initial.detach().numpy().dtype)
        state[:, : self.width] = initial
        self.register_buffer("state", torch.from_numpy(state))
        self.pull, self.bounded = pull, bounded
        self.visit = {}  # what was read last, until its step; attributes are slow to set

    @property
    def value(self):
        """The values of all cells, (cell, K)."""
        return self.state[:, : self.width]

    def read(self, rows, clock, into, column=0):
        """Write values of some cells, at the step of the clock, into columns of an array.

        Parameters
        ----------
        rows : ndarray of int64 (row,)
        clock : Clock
        into : ndarray (row, value)
            Receives them from ``column`` on.
        column : int
        """
        self.catch_up(rows, clock)
        copy_cells(rows, self.state.numpy(), self.width, into, column)
        self.visit.update(rows=rows, column=column)

    def lead_back(self, gradient):
        """Keep the gradient of what :meth:`read` wrote, an array of the same shape."""
        self.visit["gradient"] = gradient

    def catch_up(self, rows, clock):
        """Take the steps that some cells have missed."""
        if self.width:
            catch_up(rows, self.state.numpy(), self.width, clock.steps, clock.moments,
                     clock.alphas, clock.decays, *self.pull(), self.bounded)  # fmt: skip

    def catch_up_all(self, clock):
        """Take the steps that any cell has missed."""
        self.catch_up(np.arange(len(self.state)), clock)

    def step(self, clock):
        """Take the step that the clock has just counted, for the cells read last."""
        if self.width:
            take_step(*self.visit.values(), self.state.numpy(), self.width, clock.steps,
                      clock.alphas[clock.steps], self.pull(), self.bounded)  # fmt: skip
        self.visit.clear()


class ReplayedAdam(torch.optim.Optimizer):
    """Adam of maps that replay, and of one vector that every batch sees.

    Parameters
    ----------
    vector : Parameter (weight,)
    maps : list of ReplayedMap
    clock : Clock
        Counts the steps.
    """

    def __init__(self, vector, maps, clock):
        super().__init__([vector], {"lr": clock.learning_rate, "betas": (BETA1, BETA2)})
        self.vector, self.maps, self.clock = vector, maps, clock
        # as a map of one cell: its values, means, squares, sums and step
        self.state[vector]["row"] = torch.zeros(1, 4 * len(vector) + 1, dtype=vector.dtype)

    @torch.no_grad()
    def step(self):
        """Take one step with the gradients that the vector and the maps hold."""
        self.clock.tick()
        for part in self.maps:
            part.step(self.clock)
        row, values = self.state[self.vector]["row"].numpy(), self.vector.numpy()
        row[0, : len(values)] = values
        take_step(
            FIRST, 0, self.vector.grad.numpy()[None], row, len(values), self.clock.steps,
            self.clock.alphas[self.clock.steps], (0.0, 0.0), False,
        )  # fmt: skip
        values[:] = row[0, : len(values)]

    def zero_grad(self, set_to_none=True):
        """Nothing: every step brings gradients of its own."""


@contextmanager
def no_denormals():
    """Have this thread, and those it starts, take float32 numbers below about 1e-38 as zero.

    What is left of a mean soon falls below that, moves nothing, and is slow to compute.
    """
    flushed = not (torch.tensor([1e-38]) / 10).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


@njit(cache=True, error_model="numpy")
def penalty_gradient(value, outside, low):
    """Gradient of what a concentration costs by itself.

    ``outside`` times the distance from the nearest of 0 and 1, and ``low`` times the slope of the
    hump.
    """
    gradient = outside * (value - min(max(value, 0.0), 1.0))
    if low > 0 and 0 < value < HUMP_END:
        slope = min(value, HUMP_SLOPE * (HUMP_TOP - value))
        gradient += low * max(slope, value - HUMP_END)
    return gradient


@njit(cache=True, error_model="numpy")
def catch_up(rows, state, width, steps, moments, alphas, decays, outside, low, bounded):
    """Bring some cells of a map to the present step, in place.

    Parameters
    ----------
    rows : ndarray of int64
    state : ndarray (cell, 4 * width + 1)
        As in ReplayedMap.
    width, steps : int
    moments, alphas, decays : ndarray
        From Clock.
    outside, low : float
        Of :func:`penalty_gradient`; 0 where there is none.
    bounded : bool
        Whether values are held between 0 and 1 after every step.
    """
    # read, compute, write: the reads of many cells are under way at once, and the loop between them
    # works on several cells at a time
    waiting = np.empty(len(rows), np.int64)
    count = 0
    seen = np.empty(CHUNK, np.int64)
    now, m, v = np.empty((width, CHUNK)), np.empty((width, CHUNK)), np.empty((width, CHUNK))
    then = np.empty((width, CHUNK))
    for first in range(0, len(rows), CHUNK):
        size = min(CHUNK, len(rows) - first)
        for at in range(size):
            row = rows[first + at]
            seen[at] = int(state[row, 4 * width])
            for item in range(width):
                now[item, at] = state[row, item]
                m[item, at] = state[row, width + item]
                v[item, at] = state[row, 2 * width + item]
        for item in range(width):
            drift(now[item], m[item], v[item], seen, moments, size, then[item])
        for at in range(size):
            row, missed = rows[first + at], steps - seen[at]
            if missed == 0:
                continue
            if outside > 0 or low > 0:
                pulled = penalty_gradient(now[0, at], outside, low) != 0
                if pulled or penalty_gradient(then[0, at], outside, low) != 0:
                    waiting[count] = row
                    count += 1
                    continue
            for item in range(width):
                w = then[item, at]
                state[row, item] = min(max(w, 0.0), 1.0) if bounded else w
                state[row, width + item] = m[item, at] * decays[missed, 0]
                state[row, 2 * width + item] = v[item, at] * decays[missed, 1]
            state[row, 4 * width] = steps
    if count:
        # cells that missed about as many steps side by side, so that none waits for another
        waiting = waiting[:count]
        waiting = waiting[np.argsort(state[waiting, 4 * width])]
        replay(waiting, state, steps, alphas, outside, low, bounded)


@njit(cache=True, error_model="numpy")
def drift(now, mean, square, seen, moments, size, then):
    """Where the steps missed since ``seen`` bring cells on which nothing pulls."""
    for at in range(size):
        root = math.sqrt(square[at])
        inverse = 1 / (root + EPSILON)
        ratio = -root * inverse
        total = moments[seen[at], TERMS - 1]
        for term in range(TERMS - 2, -1, -1):
            total = total * ratio + moments[seen[at], term]
        then[at] = now[at] - mean[at] * inverse * total


@njit(cache=True, error_model="numpy")
def replay(rows, state, steps, alphas, outside, low, bounded):
    """Take the missed steps one by one, for cells of one value on which the penalty pulls."""
    kind = state.dtype
    w, m, v = np.empty(LANES, kind), np.empty(LANES, kind), np.empty(LANES, kind)
    start = np.empty(LANES, np.int32)
    for first in range(0, len(rows), LANES):
        count = min(LANES, len(rows) - first)
        for lane in range(LANES):
            cell = state[rows[first + min(lane, count - 1)]]
            w[lane], m[lane], v[lane], start[lane] = cell[0], cell[1], cell[2], int(cell[4])
        earliest, latest = start.min(), start.max()
        advance(w, m, v, start, earliest, latest, alphas, outside, low, bounded, True)
        advance(w, m, v, start, latest, steps, alphas, outside, low, bounded, False)
        for lane in range(count):
            cell = state[rows[first + lane]]
            cell[0], cell[1], cell[2], cell[4] = w[lane], m[lane], v[lane], steps


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def advance(w, m, v, start, first, last, alphas, outside, low, bounded, waits):
    """Take the steps from ``first`` to ``last`` side by side, in place.

    Where ``waits``, a lane takes only the steps after its own ``start``.
    """
    kind = w.dtype
    rise1, rise2 = kind.type(1 - BETA1), kind.type(1 - BETA2)
    epsilon, zero, one = kind.type(EPSILON), kind.type(0), kind.type(1)
    far, hump = kind.type(outside), kind.type(low)
    end, top, side = kind.type(HUMP_END), kind.type(HUMP_TOP), kind.type(HUMP_SLOPE)
    for step in range(first + 1, last + 1):
        alpha = kind.type(alphas[step])
        for lane in range(LANES):
            x = w[lane]
            slope = max(min(x, side * (top - x)), x - end)
            g = far * (x - min(max(x, zero), one))
            g += hump * (slope if (x > zero) & (x < end) else zero)
            m_new = m[lane] + rise1 * (g - m[lane])
            v_new = v[lane] + rise2 * (g * g - v[lane])
            w_new = x - alpha * m_new / (np.sqrt(v_new) + epsilon)
            if bounded:
                w_new = min(max(w_new, zero), one)
            moves = start[lane] < step if waits else True
            w[lane] = w_new if moves else x
            m[lane] = m_new if moves else m[lane]
            v[lane] = v_new if moves else v[lane]


@njit(cache=True, error_model="numpy")
def copy_cells(rows, state, width, into, column):
    """Write the values of some rows into columns of an array."""
    for at in range(len(rows)):
        for item in range(width):
            into[at, column + item] = state[rows[at], item]


@njit(cache=True, error_model="numpy")
def take_step(rows, column, gradient, state, width, steps, alpha, pull, bounded):
    """Take a step of Adam with the gradient of some rows, in place.

    A cell may stand several times in ``rows``; its gradients, in the columns from ``column`` on,
    are summed. ``pull`` are the two strengths of :func:`penalty_gradient`.
    """
    for at in range(len(rows)):
        for item in range(width):
            state[rows[at], 3 * width + item] += gradient[at, column + item]
    for row in rows:
        if state[row, 4 * width] == steps:
            continue
        for item in range(width):
            w, m, v = state[row, item], state[row, width + item], state[row, 2 * width + item]
            g = state[row, 3 * width + item] + penalty_gradient(w, pull[0], pull[1])
            state[row, 3 * width + item] = 0
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            w -= alpha * m / (math.sqrt(v) + EPSILON)
            state[row, item] = min(max(w, 0.0), 1.0) if bounded else w
            state[row, width + item], state[row, 2 * width + item] = m, v
        state[row, 4 * width] = steps
