"""The cost of observations as a least-squares problem: unknowns and backgrounds.

The unknowns are of three kinds. A cell (a grid point on a day) has a concentration and a few
properties; an observation may have properties of its own; all share the weights, which are those of
the emissivity network, the wind dependence of the sea and the instrument biases. The cost is that
of Geer (2024), section 3, times the number of observations, with backgrounds for what it leaves
undetermined.
"""

import copy
import math
from typing import NamedTuple

import torch

from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.autoregression import autoregressive_precision
from seaice_lab.emissivity.ice_types import TYPICAL, type_emissivity
from seaice_lab.emissivity.model import PUBLISHED_BATCH, EmpiricalState
from seaice_lab.emissivity.networks import FIRST_CONSTANT

# The published lower limit of the emissivity has an error near 0.0003. Steps jump back and forth
# across so stiff a limit; with this error they come close to its minimum first.
SOFT_LIMIT_ERROR = 0.003
# Large, so that observations overrule the first guess; small enough that noise creates no ice.
FIRST_GUESS_ERROR = 0.15
FULL_COVER, FULL_COVER_ERROR = 0.95, 0.07  # where the first guess says nearly 1
WEIGHT_ERROR = 5.0  # background error of the network's weights, for undetermined directions
BIAS_DIFFERENCE_SHARE = 0.25  # lowest independent error of a bias, in units of the common one
EMISSIVITY_SPREAD = 0.05  # effect of a property of 1 in a linear network, root sum of squares


class State(NamedTuple):
    """The unknowns.

    Attributes
    ----------
    sea_ice : Tensor (lag + step, point)
    properties : Tensor (cell, property)
        The cells are steps and points, the points varying fastest.
    observation_properties : Tensor (observation, property)
    weights : Tensor (weight,)
        Network, wind dependence and biases.
    """

    sea_ice: torch.Tensor
    properties: torch.Tensor
    observation_properties: torch.Tensor
    weights: torch.Tensor


class Problem(NamedTuple):
    """Observations to be fitted, and the weights of all other terms of the cost.

    Attributes
    ----------
    model : EmpiricalState
        Gives the physics and its constants. Its own state is not used.
    index, scalars, channels : Tensor
        As in Observations; the grid points in ``index`` count from 0 to ``points``.
    points : int
    strengths : Strengths
        Of the penalty of a concentration.
    property_weight, emissivity_limit_weight : float
        Inverse squared error of the properties' background 0, and the inverse error of the lower
        limit of the emissivity.
    first_guess, prior_weight : Tensor (lag + step, point)
        Background of the concentration, and the diagonal of the inverse covariance of its errors, 0
        without a background.
    prior_coupling : Tensor (lag + step - 1, point)
        Off-diagonal entries of that matrix, between successive days.
    bias_error : Tensor (sensor, 1)
        Background error of the biases, K, independent over ice and water.
    common_bias_error : float
        Background error that the biases over ice and water have in common, K.
    constants : tuple of Tensor (channel,)
        Background of the constants of a linear network and its inverse squared error.
    share : float
        Fraction of all observations that this problem has. Costs that belong to no observation are
        divided alike.
    property_memory : float
        Correlation of the properties of a grid point from one day to the next.
    integrates_properties : bool
        Whether the properties are integrated out (:mod:`~seaice_lab.emissivity.marginal`).
    """

    model: EmpiricalState
    index: torch.Tensor
    scalars: torch.Tensor
    channels: torch.Tensor
    points: int
    strengths: penalty.Strengths
    property_weight: float
    prior_weight: torch.Tensor
    emissivity_limit_weight: float
    first_guess: torch.Tensor
    prior_coupling: torch.Tensor
    bias_error: torch.Tensor
    common_bias_error: float
    constants: tuple
    share: float = 1.0
    property_memory: float = 0.0
    integrates_properties: bool = False


def build_problem(model, observations, config):
    """The Problem of all observations, with a soft lower limit of the emissivity.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    config : SolveConfig
        Gives bounds and backgrounds.

    Returns
    -------
    Problem
    """
    first_guess = torch.from_numpy(observations.sea_ice_first_guess).T.contiguous()
    error = torch.where(first_guess > FULL_COVER, FULL_COVER_ERROR, FIRST_GUESS_ERROR)
    # the last of the errors that change with the epochs of a training
    strengths = penalty.strengths(model.config, epoch=math.inf)
    if config.lowest_hump_error:
        strengths = strengths._replace(hump=min(strengths.hump, 2 / config.lowest_hump_error**2))
    if config.within_bounds:
        strengths = strengths._replace(outside=0.0)
    return Problem(
        model,
        torch.from_numpy(observations.index),
        torch.from_numpy(observations.scalars),
        torch.from_numpy(observations.channels),
        model.points,
        strengths,
        property_weight=1 / config.property_error**2,
        prior_weight=config.hold_first_guess / error**2,
        emissivity_limit_weight=min(emissivity_limit_weight(model), 1 / SOFT_LIMIT_ERROR),
        first_guess=first_guess,
        prior_coupling=torch.zeros_like(first_guess[1:]),
        bias_error=model.bias_error.clip(BIAS_DIFFERENCE_SHARE * config.lowest_bias_error_k),
        common_bias_error=config.lowest_bias_error_k,
        constants=_constants(model, config),
        integrates_properties=config.integrate_properties,
    )


def _constants(model, config):
    """Background of a linear network's constants and its inverse squared error, (channel,) each."""
    if config.constants_error is None:
        first = torch.arange(len(model.channels)) == 0  # as published
        return torch.full(first.shape, FIRST_CONSTANT), first / model.config.emissivity_error**2
    means = type_emissivity(TYPICAL, model.frequency[0].numpy(), model.vertical.numpy())
    return torch.tensor(means).float(), torch.full((len(means),), config.constants_error**-2)


def emissivity_limit_weight(model):
    """Inverse error of the lower limit of the emissivity as published, in a batch of 1024."""
    return (PUBLISHED_BATCH / model.size) ** 0.5 / model.config.emissivity_error


def get_state(model):
    """The State of a model, as a copy."""
    weights = torch.nn.utils.parameters_to_vector(_parameters(model))
    sea_ice = model.sea_ice.reshape(-1, model.points)
    unknowns = (sea_ice, model.properties, model.observation_properties, weights)
    return State(*(values.detach().clone() for values in unknowns))


@torch.no_grad()
def set_state(model, state):
    """Copy a state into a model.

    Parameters
    ----------
    model : EmpiricalState
    state : State
    """
    model.sea_ice.copy_(state.sea_ice.reshape(-1, 1))
    model.properties.copy_(state.properties)
    model.observation_properties.copy_(state.observation_properties)
    # the parameters share the memory of the vector that they are given
    torch.nn.utils.vector_to_parameters(state.weights.clone(), _parameters(model))


def split_weights(model, weights):
    """Views of the three kinds of weights.

    Parameters
    ----------
    model : EmpiricalState
    weights : Tensor (..., weight)

    Returns
    -------
    network : Tensor (..., weight)
    wind_sensitivity : Tensor (..., channel)
    biases : Tensor (..., surface, sensor, channel)
    """
    wind, biases = model.wind_sensitivity.numel(), model.bias_k.numel()
    sizes = [weights.shape[-1] - wind - biases, wind, biases]
    network, wind, biases = weights.split(sizes, -1)
    return network, wind, biases.unflatten(-1, model.bias_k.shape)


def network_of(model, weights):
    """A copy of a model's emissivity network with other weights.

    Parameters
    ----------
    model : EmpiricalState
    weights : Tensor (weight,)
        Those of the network, the wind dependence and the biases.

    Returns
    -------
    Module
    """
    network = copy.deepcopy(model.network).requires_grad_(False)
    torch.nn.utils.vector_to_parameters(split_weights(model, weights)[0], network.parameters())
    return network


def weight_background(problem, weights):
    """Background of the weights: it holds biases and anchors the scale of the properties.

    Parameters
    ----------
    problem : Problem
    weights : Tensor (weight,)

    Returns
    -------
    curvature, rhs : Tensor (weight, weight), (weight,)
        In double precision.
    cost : scalar Tensor
    """
    model, config = problem.model, problem.model.config
    curvature, centre = torch.zeros_like(weights), torch.zeros_like(weights)
    network, _, _ = split_weights(model, curvature)
    network_centre, _, biases_centre = split_weights(model, centre)
    network[:] = 1 / WEIGHT_ERROR**2
    biases_centre[:] = model.bias_background
    if config.network == "linear":
        size, channels = model.network.weight.numel(), model.network.weight.shape[1]
        if not problem.integrates_properties:
            # Properties and their weights appear as products. Each property has one background term
            # in every observed cell; its weights get as many, or large ones would make it free.
            cell = problem.index[:, 1].long() * problem.points + problem.index[:, 0]
            counts = [cell.unique().numel()] * config.n_properties
            counts += [len(cell)] * config.n_observation_properties
            counts = torch.tensor(counts).repeat_interleave(channels).to(weights.dtype)
            network[channels:size] = counts / problem.property_weight / EMISSIVITY_SPREAD**2
        if model.anchor is None:
            network_centre[size:], weight = problem.constants
            network[size:] = network[size:].maximum(problem.share * weight)
    curvature, away = torch.diag(curvature.double()), (centre - weights).double()
    # Over ice, observations hardly separate a bias from the emissivity. Over water they determine
    # the bias, and most of it comes from the instrument and is the same over ice.
    ice, water = split_weights(model, torch.arange(len(weights)))[2].flatten(1)
    own = problem.bias_error.double().expand(biases_centre.shape[1:]).flatten() ** 2
    common = problem.common_bias_error**2
    weight = problem.share / own / (own + 2 * common)
    curvature[ice, ice] = curvature[water, water] = weight * (own + common)
    curvature[ice, water] = curvature[water, ice] = -weight * common
    rhs = curvature @ away
    return curvature, rhs, away @ rhs


def property_precision(problem):
    """Inverse covariance of the background of a property over the days of a grid point.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    diagonal, off_diagonal : Tensor (step, 1), (step - 1, 1)
        The matrix is tridiagonal over the days.
    """
    steps = len(problem.first_guess) - problem.model.lags
    error = problem.first_guess.new_full((steps, 1), problem.property_weight**-0.5)
    return autoregressive_precision(error, problem.property_memory)


def _parameters(model):
    return [*model.network.parameters(), model.wind_sensitivity, model.bias_k]
