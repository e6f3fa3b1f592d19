"""Perturbations that make an ensemble of forecasts, besides the noise of a network.

Perturbed initial states differ from place to place. The bias of a member stays the same on the
whole map and for the whole forecast: the noise of a network is independent from place to place, so
it cancels in the volume of the ice, while the error of a surrogate in the volume of one model run
has the same sign for many days.
"""

import numpy as np
import torch
from scipy import ndimage

from seaice_lab import grid

PERTURBATION_KM = 300.0  # distance at which the correlation of the perturbations has fallen to 1/e
BIAS_STREAM = 1  # distinguishes the random numbers of the biases from those of initial states


def initial_perturbations(surrogate, store, starts, config):
    """Perturbations of the initial states of an ensemble.

    Gaussian random fields, correlated over :data:`PERTURBATION_KM` and identical for all times of
    one variable, independent between variables, members and start dates; zero for the first
    member, unless the members have noise, which are all alike. The perturbations of a start date do
    not depend on the other start dates.

    Parameters
    ----------
    surrogate : Surrogate
    store : xarray.Dataset
        Prepared store.
    starts : sequence of int
        Positions of the start dates on the time axis of the store.
    config : ForecastConfig
        With ``members``, ``perturbation`` and ``seed``.

    Returns
    -------
    torch.Tensor (start * member, channel, y, x)
        For the channels of ``window.state``, in physical units.
    """
    window, shape = surrogate.window, surrogate.ocean.shape
    result = np.zeros((len(starts), config.members, len(window.state), *shape), "float32")
    if config.members > 1 and config.perturbation:
        first = 1 if surrogate.noise is None else 0
        # Smoothing white noise with a Gaussian of standard deviation s gives the correlation
        # exp(-(d / 2 s)^2) at distance d: it is 1/e at d = 2 s.
        width = PERTURBATION_KM / (grid.spacing_m(store) / 1e3) / 2
        for index, start in enumerate(starts):
            rng = np.random.default_rng([config.seed, int(start)])
            noise = rng.standard_normal((config.members - first, len(window.variables), *shape))
            smooth = ndimage.gaussian_filter(noise, (0, 0, width, width), mode="wrap")
            smooth /= smooth.std((-2, -1), keepdims=True)
            for channel, (name, _) in enumerate(window.state):
                scale = config.perturbation * surrogate.normalisation[name]["std"]
                result[index, first:, channel] = scale * smooth[:, window.variables.index(name)]
    return torch.from_numpy(result.reshape(-1, *result.shape[2:]))


def member_biases(surrogate, starts, config):
    """The bias of each member, as a fraction of its increments.

    Normally distributed, independent between members and start dates; zero for the first member,
    unless the members have noise, which are all alike. The biases of a start date do not depend on
    the other start dates, and those of the first members not on the number of members.

    Parameters
    ----------
    surrogate : Surrogate
    starts : sequence of int
        Positions of the start dates on the time axis of the store.
    config : ForecastConfig
        With ``members``, ``member_bias`` and ``seed``.

    Returns
    -------
    torch.Tensor (start * member, 1, 1, 1) or None
        See :meth:`~seaice_lab.surrogate.model.Surrogate.increment`. None without biases.
    """
    if config.members == 1 or not config.member_bias:
        return None
    streams = (np.random.default_rng([config.seed, int(start), BIAS_STREAM]) for start in starts)
    biases = np.stack([rng.standard_normal(config.members, dtype="float32") for rng in streams])
    biases *= config.member_bias
    if surrogate.noise is None:
        biases[:, 0] = 0
    return torch.from_numpy(biases).view(-1, 1, 1, 1)
