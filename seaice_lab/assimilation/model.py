"""The surrogate over an assimilation window, as a differentiable map of the initial state."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch.utils.checkpoint import checkpoint

from seaice_lab import runs
from seaice_lab.surrogate.fields import Fields
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import Surrogate, load
from seaice_lab.surrogate.results import check_same_grid
from seaice_lab.surrogate.starts import start_positions
from seaice_lab.surrogate.store import open_store


class WindowModel(NamedTuple):
    """The forecast model of an assimilation window.

    ``step(state, forcing)`` returns the state one step later, ``forcing`` (step, batch, channel,
    y, x) has the forcing of each step, and ``ocean`` (y, x) is true where sea. A gradient computes
    ``segment`` steps again at a time, so that only their activations and the state at the start of
    each segment are in memory; 0 keeps the activations of all steps, which is faster.
    """

    step: Callable
    forcing: torch.Tensor
    ocean: torch.Tensor
    segment: int = 1


def states(model, initial, steps):
    """States after some steps of a window, differentiable with respect to the initial state.

    Parameters
    ----------
    model : WindowModel
    initial : torch.Tensor (batch, channel, y, x)
        State at step 0, finite on land, in any precision; the model computes in that of its
        forcing.
    steps : sequence of int
        Ascending, from 0 (the initial state) to the number of steps of the window.

    Returns
    -------
    torch.Tensor (batch, step, channel, y, x)
    """
    state, done, results = initial.to(model.forcing.dtype), 0, []
    for end in steps:
        while done < end:
            stop = min(done + model.segment, end) if model.segment else end
            state = _advance(model, state, model.forcing[done:stop])
            done = stop
        results.append(state)
    return torch.stack(results, 1)


def _advance(model, state, forcing):
    def segment(state):
        for fields in forcing:
            state = model.step(state, fields)
        return state

    if model.segment and torch.is_grad_enabled() and state.requires_grad:
        # The network draws no random numbers, so their state need not be kept.
        return checkpoint(segment, state, use_reentrant=False, preserve_rng_state=False)
    return segment(state)


def with_errors(model, errors, combine):
    """The model with an error added after each step, x_(i+1) = M(x_i) + eta.

    Parameters
    ----------
    model : WindowModel
    errors : torch.Tensor (batch, interval, variable, y, x)
        eta of the present state, constant in each of the equal intervals of the window.
    combine : callable
        Adds an error to a state, within its bounds (:mod:`~seaice_lab.assimilation.bounds`).

    Returns
    -------
    WindowModel
        Differentiable with respect to the errors, which its forcing has as further channels.
    """
    steps, (_, intervals, count) = len(model.forcing), errors.shape[:3]
    numbers = torch.arange(steps) * intervals // steps
    errors = errors.to(model.forcing.dtype).movedim(1, 0)[numbers]

    def step(state, forcing):
        later = model.step(state, forcing[:, :-count])
        # The past states of the next step are states of the window, whose errors were added before.
        error = F.pad(forcing[:, -count:], (0, 0, 0, 0, 0, later.shape[1] - count))
        return combine(later, error).to(state.dtype)

    return model._replace(step=step, forcing=torch.cat([model.forcing, errors], 2))


def to_image(vectors, ocean):
    """Vectors of ocean cells as fields that are zero on land.

    Parameters
    ----------
    vectors : torch.Tensor (batch, variable * cell)
    ocean : torch.Tensor of bool (y, x)

    Returns
    -------
    torch.Tensor (batch, variable, y, x)
    """
    values = vectors.unflatten(1, (-1, int(ocean.sum())))
    image = values.new_zeros(*values.shape[:2], ocean.numel())
    # Out of place, so that both forward and reverse differentiation know the operation.
    cells = ocean.flatten().nonzero()[:, 0].expand(values.shape)
    return image.scatter(2, cells, values).unflatten(2, ocean.shape)


def to_vector(fields, ocean):
    """Ocean cells of fields as vectors, the inverse of :func:`to_image`.

    Parameters
    ----------
    fields : torch.Tensor (batch, variable, y, x)
    ocean : torch.Tensor of bool (y, x)

    Returns
    -------
    torch.Tensor (batch, variable * cell)
    """
    return fields[..., ocean].flatten(1)


class Source(NamedTuple):
    """A trained network in the precision of the model, with the store of its forcing and states."""

    surrogate: Surrogate
    store: xr.Dataset
    fields: Fields

    @property
    def variables(self):
        """For each channel of the state the number of its variable, as a problem needs it."""
        window = self.surrogate.window
        return tuple(window.variables.index(name) for name, _ in window.state)


def open_source(run, path=None, *, device=None, dtype=torch.float32):
    """Open a trained network and a store.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate. The noise of a network is switched off.
    path : str or Path, optional
        Prepared store; by default that of the run.
    device : str, optional
        A GPU by default, if there is one.
    dtype : torch.dtype
        Precision of the network, float32 or float64.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        If the run is not trained, or the store has another grid than the run.
    """
    surrogate = load(run, device, path)
    surrogate = surrogate._replace(network=surrogate.network.to(dtype))
    opened = runs.open_run(run, "surrogate")
    store_path = str(path or opened.config["store"])
    store = open_store(store_path)
    check_same_grid(store, store_path, opened, path is None)
    fields = Fields(store_path, [name for name, _ in surrogate.window.inputs])
    return Source(surrogate, store, fields)


def window_model(source, positions, steps):
    """The model of the windows that start at some times.

    Parameters
    ----------
    source : Source
    positions : dict of float to ndarray of int (start,)
        Positions on the time axis of the store by offset from the starts, hours; from
        :func:`~seaice_lab.surrogate.starts.start_positions`.
    steps : int
        Length of the windows.

    Returns
    -------
    WindowModel
        With one window for each start in the batch.
    """
    surrogate, window = source.surrogate, source.surrogate.window
    dtype = next(surrogate.network.parameters()).dtype
    starts_h = window.step_h * np.arange(steps)
    forcing = [_read(source, window.forcing, positions, hours, dtype) for hours in starts_h]
    return WindowModel(surrogate.step, torch.stack(forcing), surrogate.ocean)


def stored_states(source, positions, offset_h=0.0):
    """States of the store at some times.

    Parameters
    ----------
    source, positions
        As in :func:`window_model`.
    offset_h : float
        Hours from the starts to the times of the states.

    Returns
    -------
    torch.Tensor (start, channel, y, x), float64
        The channels of ``window.state`` in physical units, zero on land.
    """
    return _read(source, source.surrogate.window.state, positions, offset_h, torch.float64)


def _read(source, channels, positions, offset_h, dtype):
    ocean = source.surrogate.ocean
    values = np.empty((len(positions[0.0]), len(channels), *ocean.shape), "float32")
    for channel, (name, lag) in enumerate(channels):
        values[:, channel] = source.fields.read(name, positions[offset_h + lag])
    return zero_on_land(torch.from_numpy(values).to(ocean.device, dtype), ocean)


def open_window(run, config, *, device=None, dtype=torch.float32):
    """The model of assimilation windows of a trained network, and the states at their starts.

    Parameters
    ----------
    run : str or Path
        Run folder of a trained surrogate. The noise of a network is switched off.
    config : ForecastConfig
        ``starts``, one for each window of the batch, ``steps``, the length of the windows, and
        ``store``, ``split`` and ``every`` as for a forecast.
    device : str, optional
        A GPU by default, if there is one.
    dtype : torch.dtype
        Precision of the network, float32 or float64.

    Returns
    -------
    source : Source
    model : WindowModel
    initial : torch.Tensor (batch, channel, y, x), float64
        As from :func:`stored_states`.

    Raises
    ------
    InputError
        If the run is not trained, or the store has another grid than the run, or lacks the state at
        a start or the forcing.
    """
    source = open_source(run, config.store, device=device, dtype=dtype)
    positions = start_positions(source.store, source.surrogate.window, config)
    return source, window_model(source, positions, config.steps), stored_states(source, positions)


def tangent(function, point, direction):
    """Tangent linear of a function, M' dx, by forward differentiation.

    Parameters
    ----------
    function : callable
        Maps a torch.Tensor to a torch.Tensor.
    point, direction : torch.Tensor

    Returns
    -------
    torch.Tensor
        Of the shape of the result of ``function``.
    """
    return torch.func.jvp(function, (point,), (direction,))[1].detach()


def adjoint(function, point, weights):
    """Adjoint of the tangent linear of a function, M'^T w, by reverse differentiation.

    Parameters
    ----------
    function, point
        As in :func:`tangent`.
    weights : torch.Tensor
        Of the shape of the result of ``function``.

    Returns
    -------
    torch.Tensor
        Of the shape of ``point``.
    """
    point = point.detach().requires_grad_()
    return torch.autograd.grad(function(point), point, weights)[0]
