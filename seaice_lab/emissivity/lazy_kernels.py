"""The loops of lazy Adam (:mod:`~seaice_lab.emissivity.lazy_adam`) over cells, compiled by Numba.

In all of them ``table`` (cell, 3 * value + 1) holds the values, m, v and the last step of each cell
of a map, and ``cells`` (3 * value, row) those of the cells that a batch reads, a column a cell, so
that the loops over cells are SIMD code. Cells and table are changed in place.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from seaice_lab.emissivity import penalty
from seaice_lab.optimiser import BETA1, BETA2, EPSILON

SERIES_TERMS = 7  # the first term left out is below 1e-12 of a step
LANES = 64  # cells that take their skipped steps side by side


class Steps(NamedTuple):
    """The steps taken so far.

    Attributes
    ----------
    count : int
    lengths : ndarray (step,)
        a_s of each step.
    series : ndarray (step, SERIES_TERMS)
        Coefficients c_n of the steps from each step to now.
    decays : ndarray (step, 2)
        What remains of m and of v after so many steps: 0.9^k and 0.999^k.
    """

    count: int
    lengths: np.ndarray
    series: np.ndarray
    decays: np.ndarray


class Reading(NamedTuple):
    """Cells that a batch has read, each once, however many rows of the batch read it.

    Attributes
    ----------
    cell_of_row : ndarray of int64 (row,)
        Number of the cell that each row of the batch has read.
    map_rows : ndarray of int64 (cell,)
        Rows of the table where these cells are.
    cells : ndarray (3 * value, row)
        Columns beyond the last cell are unused.
    """

    cell_of_row: np.ndarray
    map_rows: np.ndarray
    cells: np.ndarray


@njit(cache=True, error_model="numpy")
def read_cells(rows, table, steps, strengths, bounded):
    """Apply the skipped steps of some cells and give their values.

    Parameters
    ----------
    rows : ndarray of int64 (row,)
    table : ndarray (cell, 3 * value + 1)
    steps : Steps
    strengths : Strengths
        Of the penalty.
    bounded : bool
        Whether values are kept between 0 and 1 at every step.

    Returns
    -------
    values : ndarray (row, value)
    reading : Reading
    """
    cell_of_row, map_rows, last_steps, cells = _gather_cells(rows, table)
    _apply_skipped_steps(cells, last_steps, steps, strengths, bounded)
    _write_cells(map_rows, cells, table, steps.count)
    values = np.empty((len(rows), len(cells) // 3), table.dtype)
    for row in range(len(rows)):
        for item in range(values.shape[1]):
            values[row, item] = cells[item, cell_of_row[row]]
    return values, Reading(cell_of_row, map_rows, cells)


@njit(cache=True, error_model="numpy")
def step_cells(gradient, reading, table, steps, strengths, bounded):
    """Take the last step with cells that have been read.

    Parameters
    ----------
    gradient : ndarray (row, value)
        The gradients of all rows that have read a cell are added.
    reading : Reading
    table : ndarray (cell, 3 * value + 1)
    steps : Steps
    strengths : Strengths
    bounded : bool
    """
    cells, width = reading.cells, len(reading.cells) // 3
    total = np.zeros((width, len(reading.map_rows)), cells.dtype)
    for row in range(len(gradient)):
        for item in range(width):
            total[item, reading.cell_of_row[row]] += gradient[row, item]
    length = steps.lengths[steps.count]
    for item in range(width):
        m, v = cells[width + item], cells[2 * width + item]
        update(cells[item], m, v, total[item], length, strengths, bounded)
    _write_cells(reading.map_rows, cells, table, steps.count)


@njit(cache=True, error_model="numpy")
def update(w, m, v, gradient, length, strengths, bounded):
    """Take a step of Adam with a gradient and that of the penalty, in place.

    Parameters
    ----------
    w, m, v, gradient : ndarray (value,)
    length : float
        a_s of the step.
    strengths : Strengths
    bounded : bool
    """
    for i in range(len(gradient)):
        g = gradient[i] + penalty.gradient(w[i], strengths)
        m[i] += (1 - BETA1) * (g - m[i])
        v[i] += (1 - BETA2) * (g * g - v[i])
        value = w[i] - length * m[i] / (math.sqrt(v[i]) + EPSILON)
        w[i] = min(max(value, 0.0), 1.0) if bounded else value


@njit(cache=True, error_model="numpy")
def _gather_cells(rows, table):
    """Cells of some rows, and the step up to which each of them is up to date.

    A collected cell is marked in the table: its last step becomes -1 minus its number. The caller
    must write the step again.
    """
    columns = table.shape[1] - 1
    cell_of_row, map_rows = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    last_steps = np.empty(len(rows), np.int64)
    cells = np.empty((columns, len(rows)), table.dtype)
    # The first and the last column of all rows are read first, with no calculation between them:
    # the processor then fetches many rows from memory at the same time.
    for row in range(len(rows)):
        cells[0, row], cell_of_row[row] = table[rows[row], 0], table[rows[row], columns]
    count = 0
    for row in range(len(rows)):
        map_row = rows[row]
        last_step = int(table[map_row, columns])
        if last_step < 0:  # an earlier row of the batch has read this cell
            cell_of_row[row] = -1 - last_step
            continue
        for item in range(columns):
            cells[item, count] = table[map_row, item]
        table[map_row, columns] = -1 - count
        cell_of_row[row], map_rows[count], last_steps[count] = count, map_row, last_step
        count += 1
    return cell_of_row, map_rows[:count], last_steps[:count], cells


@njit(cache=True, error_model="numpy")
def _write_cells(map_rows, cells, table, step):
    """Write cells to the table, with the step that they have reached."""
    for cell in range(len(map_rows)):
        row = map_rows[cell]
        for item in range(len(cells)):
            table[row, item] = cells[item, cell]
        table[row, len(cells)] = step


@njit(cache=True, error_model="numpy")
def _apply_skipped_steps(cells, last_steps, steps, strengths, bounded):
    """Bring cells to the present step: by the series, or one by one where the penalty acts."""
    width, count = len(cells) // 3, len(last_steps)
    new_values = np.empty((width, count))
    for item in range(width):
        m, v = cells[width + item], cells[2 * width + item]
        _sum_series(cells[item], m, v, last_steps, steps.series, new_values[item])
    if strengths.outside > 0 or strengths.hump > 0:
        penalised = _find_penalised(cells[0], new_values[0], last_steps, steps.count, strengths)
        _step_one_by_one(penalised, cells, last_steps, steps, strengths, bounded)
        for cell in penalised:
            new_values[0, cell], last_steps[cell] = cells[0, cell], steps.count
    for item in range(width):
        for cell in range(count):
            value = new_values[item, cell]
            skipped = steps.count - last_steps[cell]
            cells[item, cell] = min(max(value, 0.0), 1.0) if bounded else value
            cells[width + item, cell] *= steps.decays[skipped, 0]
            cells[2 * width + item, cell] *= steps.decays[skipped, 1]


@njit(cache=True, error_model="numpy")
def _sum_series(w, m, v, last_steps, series, new_values):
    """Values after skipped steps without a gradient, by the series of StepCounter."""
    for cell in range(len(new_values)):
        root = math.sqrt(v[cell])
        inverse = 1 / (root + EPSILON)
        ratio = -root * inverse
        # sum_n c_n (-r)^n by Horner's rule
        total = series[last_steps[cell], SERIES_TERMS - 1]
        for term in range(SERIES_TERMS - 2, -1, -1):
            total = total * ratio + series[last_steps[cell], term]
        new_values[cell] = w[cell] - m[cell] * inverse * total


@njit(cache=True, error_model="numpy")
def _find_penalised(old_values, new_values, last_steps, step, strengths):
    """Cells on which the penalty acts before or after their skipped steps, by last step.

    The order lets cells that have about as many steps to take run side by side.
    """
    penalised = np.empty(len(last_steps), np.int64)
    count = 0
    for cell in range(len(last_steps)):
        if last_steps[cell] < step and (
            penalty.gradient(old_values[cell], strengths) != 0
            or penalty.gradient(new_values[cell], strengths) != 0
        ):
            penalised[count] = cell
            count += 1
    penalised = penalised[:count]
    return penalised[np.argsort(last_steps[penalised])]


@njit(cache=True, error_model="numpy")
def _step_one_by_one(penalised, cells, last_steps, steps, strengths, bounded):
    """Take the skipped steps of some cells of one value, LANES of them side by side."""
    lanes, starts = np.empty((3, LANES), cells.dtype), np.empty(LANES, np.int32)
    for first in range(0, len(penalised), LANES):
        count = min(LANES, len(penalised) - first)
        for lane in range(LANES):  # lanes beyond the last cell repeat it
            cell = penalised[first + min(lane, count - 1)]
            starts[lane] = last_steps[cell]
            for item in range(3):
                lanes[item, lane] = cells[item, cell]
        # first until all lanes have started, then all together, which needs no comparison
        latest = starts.max()
        _step_lanes(lanes, starts, (starts.min(), latest), steps.lengths, strengths, bounded)
        _step_lanes(lanes, None, (latest, steps.count), steps.lengths, strengths, bounded)
        for lane in range(count):
            for item in range(3):
                cells[item, penalised[first + lane]] = lanes[item, lane]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _step_lanes(lanes, starts, span, lengths, strengths, bounded):
    """Take the steps after ``span[0]`` up to ``span[1]`` with the gradient of the penalty alone.

    A lane takes only the steps after its own start, or all of them if ``starts`` is None.
    """
    w, m, v = lanes[0], lanes[1], lanes[2]
    # all constants in the precision of the cells, or the loop would compute in double precision
    kind = w.dtype
    rise1, rise2 = kind.type(1 - BETA1), kind.type(1 - BETA2)
    epsilon, zero, one = kind.type(EPSILON), kind.type(0), kind.type(1)
    pair = kind.type(strengths.outside), kind.type(strengths.hump)
    hump_end, hump_top, hump_slope = penalty.SHAPE[2:]
    shape = zero, one, kind.type(hump_end), kind.type(hump_top), kind.type(hump_slope)
    for step in range(span[0] + 1, span[1] + 1):
        length = kind.type(lengths[step])
        for lane in range(LANES):
            g = penalty.gradient(w[lane], pair, shape)
            new_m = m[lane] + rise1 * (g - m[lane])
            new_v = v[lane] + rise2 * (g * g - v[lane])
            new_w = w[lane] - length * new_m / (np.sqrt(new_v) + epsilon)
            if bounded:
                new_w = min(max(new_w, zero), one)
            # chosen without a branch, so that the lanes stay side by side
            moves = True if starts is None else starts[lane] < step
            w[lane] = new_w if moves else w[lane]
            m[lane] = new_m if moves else m[lane]
            v[lane] = new_v if moves else v[lane]
