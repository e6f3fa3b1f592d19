"""The observation operator: what the observations of a table would be for the states of a window.

In space an observation is a mean of up to four cells, or of all cells under the filter of a smooth
map; in time it is a state between two steps, or the mean over a period. Thickness per area of ice
is the quotient of two such means, of ice volume and of concentration.
"""

from functools import partial

import numpy as np
import torch

from seaice_lab.assimilation import cost, observations
from seaice_lab.assimilation.interpolation import cell_matrix, cell_weights, step_weights
from seaice_lab.assimilation.observations import KINDS
from seaice_lab.errors import InputError

# Smallest divisor of a thickness per area of ice: below the ice edge it has no meaning.
LEAST_CONCENTRATION = 0.15


def per_cell_area(table):
    """Thickness per area of ice as thickness per cell area, for a state without concentration.

    Parameters
    ----------
    table : xarray.Dataset

    Returns
    -------
    xarray.Dataset
        Value and sigma are multiplied by the concentration, whose error is not added. Where it is
        below 0.15, the quality is "outside_range".

    Raises
    ------
    InputError
        If an observation that is used has no concentration.
    """
    is_per_ice = table.kind.values == "sit_of_ice"
    factor = np.where(is_per_ice, table.concentration.values, 1.0)
    lacks = np.isnan(factor) & (table.quality.values == 0)
    if lacks.any():
        raise InputError(
            f"observations: {lacks.sum()} of {lacks.size} are thickness per area of ice and have "
            "no concentration, expected one because the state has none; if the values are per "
            "cell area, read the files with `seaice-lab assimilate observations -p kind=sit`, else "
            "give files with a concentration, or use a surrogate of thickness and concentration"
        )
    table = observations.reject(table, factor < LEAST_CONCENTRATION, "outside_range")
    columns = {name: table[name].copy(data=table[name] * factor) for name in ("value", "sigma")}
    columns["kind"] = table.kind.copy(data=np.where(is_per_ice, "sit", table.kind.values))
    return table.assign(columns)


def window_observations(source, model, tables, starts):
    """Observations of a batch of windows in the form that the cost needs.

    Parameters
    ----------
    source : Source
    model : WindowModel
    tables : sequence of xarray.Dataset
        Observations of each window.
    starts : sequence of datetime64
        Time of the first state of each window.

    Returns
    -------
    observed : Observations
        Row ``i`` of a window is ``used(table).isel(observation=i)``; shorter windows are filled up.
        Without steps if no observation can be used.
    tables : list of xarray.Dataset
        With the reasons why observations are not used. Thickness per area of ice has become
        thickness per cell area if the state has no concentration.

    Raises
    ------
    InputError
        If the state lacks an observed variable.
    """
    window, store = source.surrogate.window, source.store
    channels = {name: at for at, (name, lag) in enumerate(window.state) if lag == 0}
    offsets = window.step * np.arange(len(model.forcing) + 1)
    rows = [
        _rows(table, np.datetime64(start, "ns") + offsets, store, channels)
        for table, start in zip(tables, starts, strict=True)
    ]
    tables = [table for table, _ in rows]
    if not any(arrays["values"].size for _, arrays in rows):
        return cost.observations(model, (), None, np.empty((len(tables), 0)), 1.0), tables
    matrices = [arrays.pop("matrix") for _, arrays in rows]
    places = max(matrix.shape[0] for matrix in matrices)
    for matrix in matrices:
        matrix.resize(places, store.ocean.size)
    # Windows with fewer observations are filled up with such of infinite sigma and weight 0.
    filled = {
        name: _filled([arrays[name] for _, arrays in rows], np.inf if name == "sigma" else 0)
        for name in rows[0][1]
    }
    (steps, step), (observed, number) = (
        np.unique(filled[name], return_inverse=True) for name in ("steps", "channels")
    )
    channel, divisor = np.split(number.reshape(filled["channels"].shape), 2, -1)
    position = step.reshape(filled["steps"].shape) * len(observed) + channel
    arrays = (position * places + filled["place"], filled["in_time"], (divisor - channel) * places)
    quotients = _quotients(*(torch.from_numpy(a).to(model.forcing.device) for a in arrays))

    def operator(fields):
        return quotients(_at_places(fields[:, :, observed], matrices))

    return cost.observations(model, steps, operator, filled["values"], filled["sigma"]), tables


class _Product(torch.autograd.Function):
    """Product of fields (cell, field) and a sparse matrix, with its tangent and its adjoint.

    The sparse matrices of torch have no forward differentiation.
    """

    @staticmethod
    def forward(fields, matrix):
        return torch.from_numpy(matrix @ fields.cpu().numpy()).to(fields.device)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.matrix = inputs[1]

    @staticmethod
    def backward(ctx, weights):
        return _Product.apply(weights, ctx.matrix.T), None

    @staticmethod
    def jvp(ctx, direction, _):
        return _Product.apply(direction, ctx.matrix)


def _at_places(fields, matrices):
    """Fields (batch, step, channel, y, x) at the places of each window, (batch, ..., place)."""
    columns = fields.flatten(3).flatten(1, 2).mT
    values = [_Product.apply(each, matrix) for each, matrix in zip(columns, matrices, strict=True)]
    return torch.stack(values).mT


def _rows(table, times, store, channels):
    """A table with its reasons, and what its used observations need as arrays."""
    table = observations.in_window(table, times[0], times[-1])
    table = _of_state(_in_ocean(table, store), channels)
    sample = observations.used(table)
    # Maps of many times have the same places.
    columns = [np.nan_to_num(sample[name]) for name in ("latitude", "longitude", "smoothing")]
    (latitude, longitude, smoothing_m), place = np.unique(columns, axis=1, return_inverse=True)
    kinds = [KINDS[kind] for kind in sample.kind.values]
    in_time = step_weights(sample, times)
    largest = (in_time > 0).sum(1).max(initial=0)
    steps = np.argsort(-in_time, 1, kind="stable")[:, :largest]
    in_time = np.take_along_axis(in_time, steps, 1)
    pairs = [(channels[k.variable], channels[k.divisor or k.variable]) for k in kinds]
    return table, {
        "values": sample.value.values,
        "sigma": sample.sigma.values,
        "steps": np.where(in_time > 0, steps, 0),
        "in_time": in_time,
        "matrix": cell_matrix(latitude, longitude, store, smoothing_m),
        "place": place.reshape(-1, 1),  # numpy 2.0.0 gives a row
        "channels": np.array(pairs, int).reshape(-1, 2),
    }


def _in_ocean(table, store):
    """A table whose observations outside of the ocean are rejected."""
    *_, reason = cell_weights(table.latitude.values, table.longitude.values, store)
    for name in ("outside_grid", "on_land"):
        table = observations.reject(table, reason == name, name)
    return table


def _of_state(table, channels):
    """Observations of variables of the state; observations of other variables are refused."""
    if "sic" not in channels:
        table = per_cell_area(table)
    kinds = [KINDS[kind] for kind in np.unique(observations.used(table).kind)]
    lacking = {name for kind in kinds for name in kind[:2] if name} - channels.keys()
    if lacking:
        raise InputError(
            f"observations: {', '.join(sorted(lacking))} is observed, but the state of the network "
            f"has {', '.join(channels)}; leave these observations out, or use another surrogate"
        )
    return table


def check_table_of_cycle(table, source, starts, length):
    """Check before the first window of a cycle that no window will refuse the observations.

    Parameters
    ----------
    table : xarray.Dataset
    source : Source
        Network and store.
    starts : ndarray of datetime64 (window,)
    length : timedelta64
        Length of a window.

    Raises
    ------
    InputError
        If the state lacks an observed variable, or no observation is within a window.
    """
    windows = [observations.in_window(table, start, start + length) for start in starts]
    is_outside = np.all([each.quality != 0 for each in windows], axis=0)
    table = observations.reject(table, is_outside, "outside_window")
    table = _in_ocean(table, source.store)
    channels = {name: at for at, name in enumerate(source.surrogate.window.variables)}
    where = f"observations, with windows of {length / np.timedelta64(1, 'h'):g} h"
    observations.refuse_unused(_of_state(table, channels), where)


def _filled(arrays, value):
    """Arrays of different sizes as one array, (window, ...), filled up with a value."""
    largest = np.max([array.shape for array in arrays], axis=0)
    missing = [[(0, number) for number in largest - array.shape] for array in arrays]
    padded = map(partial(np.pad, constant_values=value), arrays, missing)
    return np.stack(list(padded))


def _quotients(positions, weights, shift):
    """The operator of weighted means, divided by the same means of another channel.

    Parameters
    ----------
    positions : torch.Tensor of int (window, observation, step)
        As in :func:`~seaice_lab.assimilation.cost.weighted_cells`.
    weights : torch.Tensor (window, observation, step)
    shift : torch.Tensor of int (window, observation, 1)
        Distance of the divisor from the positions; 0 where there is none.
    """
    mean = cost.weighted_cells(positions, weights)
    if not shift.any():
        return mean
    divisor = cost.weighted_cells(positions + shift, weights)
    is_quotient = shift[..., 0] != 0

    def operator(fields):
        share = divisor(fields).clamp(min=LEAST_CONCENTRATION)
        return torch.where(is_quotient, mean(fields) / share, mean(fields))

    return operator
