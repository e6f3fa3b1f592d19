"""Analysis of one assimilation window: background check, minimum, states and departures."""

import numpy as np
import torch
import xarray as xr

from seaice_lab import metadata, names
from seaice_lab.assimilation import observations
from seaice_lab.assimilation.bounds import change_of_variable, clipped
from seaice_lab.assimilation.cost import cost, increment_of, problem_of, simulate, window_states
from seaice_lab.assimilation.minimise import Stopping, incremental, lbfgs, signal
from seaice_lab.assimilation.model import states
from seaice_lab.assimilation.observation_operator import window_observations
from seaice_lab.assimilation.quality_control import check_background
from seaice_lab.surrogate.model import bounds, scales

STATES = ["background", "analysis"]
PROBES = 20  # random increments, from which sigma_b at the observations is estimated
SOFTNESS = 0.1  # of smooth bounds, in standard deviations of the variable


def analyse(source, model, initial, table, config, root, start):
    """Analyse one window.

    Parameters
    ----------
    source : Source
    model : WindowModel
    initial : torch.Tensor (1, channel, y, x)
        Background of the initial state.
    table : xarray.Dataset
        Observations of this and other windows; without any, the analysis is the background.
    config : AssimilationConfig
    root : LinearOperator
    start : datetime64

    Returns
    -------
    window : xarray.Dataset
        ``<variable>(state, valid_time, y, x)`` for the states "background" and "analysis",
        ``next_state`` and ``end_state`` (channel, y, x), from which the next window and the
        forecast start; cost, iterations and end of the minimisation.
    departures : xarray.Dataset or None
        The observations that were used, with ``equivalent(state, observation)``.
    """
    channels = [name for name, _ in source.surrogate.window.state]
    low, high = bounds(channels, initial)
    combine = clipped(low, high)
    if config.minimiser.bounds == "smooth":
        std = scales([source.surrogate.normalisation[name] for name in channels], initial)[1]
        combine = change_of_variable(low, high, SOFTNESS * std)
    model = model._replace(segment=config.minimiser.segment)
    steps = range(config.window_steps + 1)
    observed, (table,) = window_observations(source, model, [table], [start])
    observed = observed._replace(huber=config.huber or np.inf)
    variables, intervals = source.variables, config.intervals
    problem = problem_of(model, initial, root, observed, combine, variables, intervals)
    window, control, departures = xr.Dataset(), np.zeros(problem.shape), None
    if observed.steps:
        problem, departures = _with_background(problem, observations.used(table), config)
        table["quality"][table.quality.values == 0] = departures.quality.values
        window, control = _minimum(problem, config)
        equivalents = [_simulated(problem, each) for each in (0 * control, control)]
        departures["equivalent"] = (("state", "observation"), equivalents)
        departures["lead_h"] = (departures.time - start) / np.timedelta64(1, "h")
        departures = departures.assign_coords(state=STATES).drop_encoding()
    counts = observations.counts(table).items()
    window.attrs["observations"] = ", ".join(f"{n} {reason}" for reason, n in counts)
    with torch.no_grad():
        background = states(model, initial, steps)[0]
        analysis = window_states(problem, increment_of(problem, control), steps)[0]
    fields = _fields((background, analysis), source, config, start)
    return fields.assign(window.data_vars).assign_attrs(window.attrs), departures


def _with_background(problem, table, config):
    """Reject observations that are too far from the background.

    Random increments give the standard deviation of its errors at the observations.
    """
    background = _simulated(problem, np.zeros(problem.shape))
    rng, squares = np.random.default_rng(config.seed), np.full(background.size, np.nan)
    if config.background_check is not None:
        changes = [
            _simulated(problem, rng.standard_normal(problem.shape)) - background
            for _ in range(PROBES)
        ]
        squares = np.mean(np.square(changes), 0)
        table = check_background(table, background, np.sqrt(squares), config.background_check)
        is_far = torch.from_numpy(table.quality.values != 0)[None].to(problem.background.device)
        sigma = problem.observations.sigma.masked_fill(is_far, np.inf)
        problem = problem._replace(observations=problem.observations._replace(sigma=sigma))
    return problem, table.assign(background_sigma=("observation", np.sqrt(squares)))


def _simulated(problem, control):
    """Observation equivalents for a control, (observation,)."""
    with torch.no_grad():
        return simulate(problem, increment_of(problem, control))[0].cpu().numpy()


def _minimum(problem, config):
    """Minimise the cost; the terms of the minimum as a dataset, and its control."""
    settings = config.minimiser
    if settings.method == "lbfgs":
        stopping = Stopping(gradient=settings.gradient, iterations=settings.iterations)
        minimum = lbfgs(problem, stopping=stopping)
    else:
        tolerance = np.sqrt(settings.gradient)
        minimum = incremental(problem, inner=settings.iterations, tolerance=tolerance)
    terms = cost(problem, minimum.control)
    # The square root of Q is square: a model error has as many controls as values.
    errors = problem.intervals * (problem.root.shape[0] // (1 + problem.intervals))
    background, model_error = np.split(minimum.control[0], [problem.shape[1] - errors])
    values = {
        "cost_of_background": 0.5 * (background**2).sum(),
        "cost_of_model_error": 0.5 * (model_error**2).sum(),
        "cost_of_observations": terms.observations[0],
        "iterations": minimum.iterations,
        "signal": np.nan,
    }
    if config.signal_probes:
        values["signal"] = signal(problem, minimum.control, config.signal_probes, config.seed)
    history = ("evaluation", minimum.history)
    dataset = xr.Dataset({**values, "cost": history}, attrs={"minimisation": minimum.reason})
    return dataset, minimum.control


def _fields(both, source, config, start):
    """States of background and analysis (step, channel, y, x) as variables of a dataset."""
    surrogate, store = source.surrogate, source.store
    kept = [name for name in ("y", "x", "latitude", "longitude", "ocean") if name in store.coords]
    times = surrogate.window.step * np.arange(config.window_steps + 1)
    coords = {name: store[name].variable.load().drop_encoding() for name in kept}
    coords |= {
        "state": STATES,
        "analysis_time": start,
        "valid_time": ("valid_time", start + times),
    }
    dims = ("state", "valid_time", "y", "x")
    land = ~surrogate.ocean.cpu().numpy()
    result = {}
    for channel, name in enumerate(surrogate.window.variables):
        values = np.stack([fields[:, channel].float().cpu().numpy() for fields in both])
        values[..., land] = np.nan
        result[name] = (dims, values, names.attributes(name))
    for name, at in (("next_state", config.shift), ("end_state", config.window_steps)):
        result[name] = (("channel", "y", "x"), both[1][at].double().cpu().numpy())
    attrs = metadata.file_attributes("Analysis", "seaice_lab 4D-Var", "assimilate run")
    return xr.Dataset(result, coords, attrs)
