"""The covariance Q of the errors of a surrogate, measured where its forecasts have a truth."""

import numpy as np
import torch

from seaice_lab import grid
from seaice_lab.assimilation.background import block_diagonal
from seaice_lab.assimilation.diffusion import covariance
from seaice_lab.assimilation.model import stored_states, window_model
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import locate, name_of

LEAST, MOST = 10, 60  # intervals from which the errors are measured
AT_ONCE = 8  # intervals
LENGTH_CELLS = 1.0, 30.0  # limits of the measured correlation length, in cells


def forecast_errors(source, steps):
    """Errors of one-step forecasts in the validation split, averaged over successive steps.

    The error of a step is x(t + step) - M(x(t)), where both states are those of the store.

    Parameters
    ----------
    source : Source
        Network and store.
    steps : int
        Number of successive steps of an average.

    Returns
    -------
    ndarray (interval, variable, cell)
        Averages over at most 60 intervals, in units of the state; they may overlap.

    Raises
    ------
    InputError
        If there is no validation split, or it has fewer than 10 such intervals.
    """
    window, store = source.surrogate.window, source.store
    times_h = window.step_h * np.arange(steps + 1)
    offsets_h = {float(hours + lag) for hours in times_h for _, lag in window.state}
    offsets_h |= {float(hours + lag) for hours in times_h[:-1] for _, lag in window.forcing}
    positions = locate(store, offsets_h, "validation")
    count = len(positions[0.0])
    if count < LEAST:
        raise InputError(
            f"{name_of(store)}: the validation split has {count} intervals of {steps} steps, "
            f"expected at least {LEAST}, from which the model error is measured; choose fewer "
            "model_error_steps, or a store with a longer validation split"
        )
    chosen, results = np.arange(0, count, -(-count // MOST)), []
    for first in range(0, len(chosen), AT_ONCE):
        at = {h: each[chosen[first : first + AT_ONCE]] for h, each in positions.items()}
        results.append(_mean_errors(source, at, times_h))
    return np.concatenate(results)


def _mean_errors(source, positions, times_h):
    """Means of the errors of the forecasts from each time to the next, (start, variable, cell)."""
    model = window_model(source, positions, len(times_h) - 1)
    truth = [stored_states(source, positions, hours) for hours in times_h]
    errors = []
    with torch.no_grad():
        for now, later, forcing in zip(truth, truth[1:], model.forcing, strict=False):
            errors.append(later - model.step(now.to(forcing.dtype), forcing))
    count = len(source.surrogate.window.variables)
    mean = (sum(errors) / len(errors))[:, :count, model.ocean]
    return mean.cpu().numpy()


def correlation_length(errors, ocean, spacing_m):
    """Length of a Gaussian correlation that neighbouring cells of error fields have.

    Parameters
    ----------
    errors : ndarray (sample, cell)
        Of mean 0; an error that does not change with time counts as an error.
    ocean : ndarray of bool (y, x)
    spacing_m : float
        Distance between neighbouring cells.

    Returns
    -------
    float
        Daley length D in metres, with the correlation exp(-r^2 / (2 D^2)) at the distance r; from 1
        to 30 cells.
    """
    fields = np.full((len(errors), *ocean.shape), np.nan)
    fields[:, ocean] = errors
    pairs = (fields[:, 1:], fields[:, :-1]), (fields[:, :, 1:], fields[:, :, :-1])
    products = sum(np.nansum(one * other) for one, other in pairs)  # NaN beside land
    squares = sum(np.nansum((one**2 + other**2) / 2) for one, other in pairs)
    limits = np.exp(-0.5 / np.square(LENGTH_CELLS))
    return spacing_m / np.sqrt(-2 * np.log(np.clip(products / squares, *limits)))


def model_error_root(source, steps, config, seed=0):
    """Square root of the covariance Q of the error of a surrogate in one interval of a window.

    Parameters
    ----------
    source : Source
    steps : int
        Steps of the interval, in each of which the same error is added.
    config : BackgroundConfig
        Its ``normalisation_probes`` are used; standard deviation in each cell and
        correlation length are those of :func:`forecast_errors`.
    seed : int
        Seed of the random vectors of the normalisation.

    Returns
    -------
    LinearOperator

    Raises
    ------
    InputError
        If the validation split is too short, or the errors of a variable are all 0 or not finite.
    """
    store, ocean = source.store, source.store.ocean.values
    sides, spacing_m = grid.cell_sides(store.latitude, store.longitude), grid.spacing_m(store)
    roots, options = [], {"probes": config.normalisation_probes, "seed": seed}
    errors_of_all = forecast_errors(source, steps).swapaxes(0, 1)
    for name, errors in zip(source.surrogate.window.variables, errors_of_all, strict=True):
        std = np.sqrt((errors**2).mean(0))
        if not (np.isfinite(std).all() and std.any()):
            problem = "not finite" if std.any() else "0 in all cells"
            raise InputError(
                f"{name_of(store)}: the forecast errors of {name} in the validation split, from "
                f"which the model error is measured, are {problem}, expected finite errors that "
                "are not all 0; leave out model_error_steps, or give another run or store"
            )
        length_m = correlation_length(errors, ocean, spacing_m)
        roots.append(covariance(ocean, sides, length_m, std, **options))
    return block_diagonal(roots)
