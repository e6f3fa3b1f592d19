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

import numpy as np
import torch
from numba import njit
from torch import nn

from seaice_lab.emissivity import penalty
from seaice_lab.optimiser import BETA1, BETA2, EPSILON

FORGOTTEN = 256  # steps after which nothing is left of m: 0.9^256 is 2e-12
TERMS = 7  # of the series in Clock; the first one left out is below 1e-12 of a step
LANES = 64  # cells replayed side by side
CHUNK = 65536  # cells caught up together at the end of an epoch


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

    def __init__(self, learning_rate):
        self.learning_rate, self.steps = learning_rate, 0
        after = np.arange(FORGOTTEN, 0, -1)[:, None]
        self.weight = BETA1**after * (BETA2 ** (after / 2) - 1) ** np.arange(TERMS)
        self.moments = np.zeros((1024, TERMS))
        self.alphas = np.zeros(1024)
        self.decays = decay_table(1024)

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
        add(self.moments[first : self.steps], alpha, self.weight[first - self.steps :])


def decay_table(length):
    """0.9^k and 0.999^k, ndarray (k, 2)."""
    return np.array([BETA1, BETA2]) ** np.arange(length)[:, None]


class ReplayedMap(nn.Module):
    """A trainable map in the memory of the processor, with its moments.

    ``state`` holds one row a cell, so that a visit touches one place of the memory: its K values,
    their K means m, K squares v, and the step it stands at. From :meth:`read` to :meth:`step` the
    cells of a batch lie side by side in ``visit``, each once, however often it was read.

    Parameters
    ----------
    initial : Tensor (cell, K)
    strengths : callable, optional
        Gives the Strengths of the penalty.
    bounded : bool
        Whether values are held between 0 and 1 after every step.
    """

    def __init__(self, initial, strengths=lambda: (0.0, 0.0), bounded=False):
        super().__init__()
        self.width = initial.shape[1]
        # made by NumPy, whose large arrays stand on large pages: visits jump about in them
        state = np.zeros((len(initial), 3 * self.width + 1), initial.detach().numpy().dtype)
        state[:, : self.width] = initial
        self.register_buffer("state", torch.from_numpy(state))
        self.strengths, self.bounded = strengths, bounded
        self.visit = {}  # attributes of a module are slow to set

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
        self.put_back(clock)
        if self.width:
            self.visit["cells"] = read_cells(
                rows, self.state.numpy(), self.width, clock.steps, clock.moments, clock.alphas,
                clock.decays, *self.strengths(), self.bounded, into, column,
            )  # fmt: skip
            self.visit["column"] = column

    def lead_back(self, gradient):
        """Keep the gradient of what :meth:`read` wrote, an array of the same shape."""
        self.visit["gradient"] = gradient

    def step(self, clock):
        """Take the step that the clock has just counted, for the cells read last."""
        if self.width:
            step_cells(self.visit["gradient"], self.visit["column"], *self.visit["cells"],
                       self.state.numpy(), clock.steps, clock.alphas[clock.steps],
                       *self.strengths(), self.bounded)  # fmt: skip
        self.visit.clear()

    def put_back(self, clock):
        """Put what was read last back, if no step has been taken with it."""
        if "cells" in self.visit:
            put_back(*self.visit["cells"][1:], self.state.numpy(), clock.steps)
            self.visit.clear()

    def catch_up_all(self, clock):
        """Take the steps that any cell has missed."""
        for first in range(0, len(self.state) if self.width else 0, CHUNK):
            rows = np.arange(first, min(first + CHUNK, len(self.state)))
            self.read(rows, clock, np.empty((len(rows), self.width), self.state.numpy().dtype))
            self.put_back(clock)


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
        super().__init__([vector], {"lr": clock.learning_rate})
        self.vector, self.maps, self.clock = vector, maps, clock
        moments = torch.zeros(2, len(vector), dtype=vector.dtype)
        self.state[vector] = {"moments": moments, "steps": clock.steps}

    def step(self):
        """Take one step with the gradients that the vector and the maps hold."""
        self.clock.tick()
        for part in self.maps:
            part.step(self.clock)
        own = self.state[self.vector]
        own["steps"] = self.clock.steps
        adam(
            self.vector.detach().numpy(), *own["moments"].numpy(), self.vector.grad.numpy(),
            self.clock.alphas[self.clock.steps], 0.0, 0.0, False,
        )  # fmt: skip

    step.hooked = True  # else torch adds a record for its profiler, which takes as long

    def load_state_dict(self, state_dict):
        """Take up moments, and the clock where it stood."""
        super().load_state_dict(state_dict)
        while self.clock.steps < self.state[self.vector]["steps"]:
            self.clock.tick()

    def zero_grad(self, set_to_none=True):
        """Nothing: every step brings gradients of its own."""


@njit(cache=True)
def add(to, factor, values):
    """Add ``factor`` times a table to a table of the same shape, in place."""
    for row in range(len(to)):
        for column in range(to.shape[1]):
            to[row, column] += factor * values[row, column]


@njit(cache=True, error_model="numpy")
def read_cells(
    rows, state, width, steps, moments, alphas, decays, outside, hump, bounded, into, column
):
    """Fetch some cells of a map and bring them to the present step.

    Until :func:`put_back` the step at which such a cell stands is replaced by its place, below 0.

    Parameters
    ----------
    rows : ndarray of int64
    state : ndarray (cell, 3 * width + 1)
        As in ReplayedMap.
    width, steps : int
    moments, alphas, decays : ndarray
        From Clock.
    outside, hump : float
        Strengths of the penalty; 0 where there is none.
    bounded : bool
        Whether values are held between 0 and 1 after every step.
    into : ndarray (row, value)
        Receives the values from ``column`` on.
    column : int

    Returns
    -------
    places : ndarray of int64 (row,)
        Which of the cells each row is.
    found : ndarray of int64 (place,)
        The rows of these cells.
    cells : ndarray (3 * width, row)
        Their values, means and squares.
    """
    places, found = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    stood = np.empty(len(rows), np.int64)
    cells = np.empty((3 * width, len(rows)), state.dtype)
    for at in range(len(rows)):  # both ends first: so the reads of many cells are under way at once
        into[at, column], places[at] = state[rows[at], 0], state[rows[at], 3 * width]
    count = 0
    for at in range(len(rows)):
        row = rows[at]
        stands = int(state[row, 3 * width])
        if stands < 0:
            places[at] = -1 - stands
            continue
        for item in range(3 * width):
            cells[item, count] = state[row, item]
        state[row, 3 * width] = -1 - count
        places[at], found[count], stood[count] = count, row, stands
        count += 1
    then = np.empty((width, count))
    for item in range(width):
        drift(cells[item], cells[width + item], cells[2 * width + item], stood, moments, then[item])
    if outside > 0 or hump > 0:
        waiting = np.empty(count, np.int64)
        pulled = 0
        for at in range(count):
            if stood[at] < steps and (
                penalty.gradient(cells[0, at], (outside, hump)) != 0
                or penalty.gradient(then[0, at], (outside, hump)) != 0
            ):
                waiting[pulled] = at
                pulled += 1
        if pulled:
            # cells that missed about as many steps side by side, so that none waits for another
            waiting = waiting[:pulled]
            waiting = waiting[np.argsort(stood[waiting])]
            replay(waiting, cells, stood, steps, alphas, outside, hump, bounded)
            for at in waiting:
                then[0, at], stood[at] = cells[0, at], steps
    for item in range(width):
        for at in range(count):
            w = then[item, at]
            cells[item, at] = min(max(w, 0.0), 1.0) if bounded else w
            cells[width + item, at] *= decays[steps - stood[at], 0]
            cells[2 * width + item, at] *= decays[steps - stood[at], 1]
    for at in range(len(rows)):
        for item in range(width):
            into[at, column + item] = cells[item, places[at]]
    return places, found[:count], cells


@njit(cache=True, error_model="numpy")
def drift(now, mean, square, stood, moments, then):
    """Where the steps missed since ``stood`` bring cells on which nothing pulls."""
    for at in range(len(then)):
        root = math.sqrt(square[at])
        inverse = 1 / (root + EPSILON)
        ratio = -root * inverse
        total = moments[stood[at], TERMS - 1]
        for term in range(TERMS - 2, -1, -1):
            total = total * ratio + moments[stood[at], term]
        then[at] = now[at] - mean[at] * inverse * total


@njit(cache=True, error_model="numpy")
def replay(waiting, cells, stood, steps, alphas, outside, hump, bounded):
    """Take the missed steps one by one, for cells of one value on which the penalty pulls."""
    kind = cells.dtype
    w, m, v = np.empty(LANES, kind), np.empty(LANES, kind), np.empty(LANES, kind)
    start = np.empty(LANES, np.int32)
    for first in range(0, len(waiting), LANES):
        count = min(LANES, len(waiting) - first)
        for lane in range(LANES):
            at = waiting[first + min(lane, count - 1)]
            w[lane], m[lane], v[lane] = cells[0, at], cells[1, at], cells[2, at]
            start[lane] = stood[at]
        earliest, latest = start.min(), start.max()
        advance(w, m, v, start, earliest, latest, alphas, outside, hump, bounded, True)
        advance(w, m, v, start, latest, steps, alphas, outside, hump, bounded, False)
        for lane in range(count):
            at = waiting[first + lane]
            cells[0, at], cells[1, at], cells[2, at] = w[lane], m[lane], v[lane]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def advance(w, m, v, start, first, last, alphas, outside, hump, bounded, waits):
    """Take the steps from ``first`` to ``last`` side by side, in place.

    Where ``waits``, a lane takes only the steps after its own ``start``.
    """
    kind = w.dtype
    rise1, rise2 = kind.type(1 - BETA1), kind.type(1 - BETA2)
    epsilon, zero, one = kind.type(EPSILON), kind.type(0), kind.type(1)
    strengths = kind.type(outside), kind.type(hump)
    hump_end, hump_top, hump_slope = penalty.SHAPE[2:]
    shape = zero, one, kind.type(hump_end), kind.type(hump_top), kind.type(hump_slope)
    for step in range(first + 1, last + 1):
        alpha = kind.type(alphas[step])
        for lane in range(LANES):
            x = w[lane]
            g = penalty.gradient(x, strengths, shape)
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
def adam(w, m, v, gradient, alpha, outside, hump, bounded):
    """Take a step of Adam with a gradient and that of the penalty, in place."""
    for at in range(len(gradient)):
        g = gradient[at] + penalty.gradient(w[at], (outside, hump))
        m[at] += (1 - BETA1) * (g - m[at])
        v[at] += (1 - BETA2) * (g * g - v[at])
        x = w[at] - alpha * m[at] / (math.sqrt(v[at]) + EPSILON)
        w[at] = min(max(x, 0.0), 1.0) if bounded else x


@njit(cache=True, error_model="numpy")
def step_cells(gradient, column, places, found, cells, state, steps, alpha, outside, hump, bounded):
    """Take a step of Adam with the gradient of some cells and put them back.

    A cell may have been read several times; its gradients, in the columns from ``column`` on, are
    summed. The rest is as in :func:`read_cells`.
    """
    width = len(cells) // 3
    total = np.zeros((width, len(found)), cells.dtype)
    for at in range(len(places)):
        for item in range(width):
            total[item, places[at]] += gradient[at, column + item]
    for item in range(width):
        adam(cells[item], cells[width + item], cells[2 * width + item], total[item], alpha,
             outside, hump, bounded)  # fmt: skip
    put_back(found, cells, state, steps)


@njit(cache=True, error_model="numpy")
def put_back(found, cells, state, steps):
    """Write fetched cells back to their rows of a map, in place."""
    for at in range(len(found)):
        row = found[at]
        for item in range(len(cells)):
            state[row, item] = cells[item, at]
        state[row, len(cells)] = steps
