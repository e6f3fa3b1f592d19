"""Departures of the observations and their derivatives by all unknowns."""

import torch

from seaice_lab.emissivity import physics
from seaice_lab.emissivity.least_squares import split_weights
from seaice_lab.emissivity.sensors import ICE, OCEAN


def linearise(problem, state, network, rows, with_weights):
    """Residuals of some observations and the derivatives of what is simulated.

    Parameters
    ----------
    problem : Problem
    state : State
    network : Module
        Emissivity network with the weights of the state (:func:`network_of`).
    rows : slice
        Of the observations.
    with_weights : bool
        Whether the columns of the weights are wanted.

    Returns
    -------
    cell : Tensor of int64 (observation,)
    jacobian : Tensor (observation, channel, Q + 1 + K + p + 1)
        In units of the error. Columns: the observation's properties, concentration, properties of
        the cell, weights (p = 0 without them), and the residual, which is 0 where nothing was
        observed. The lower limit of the emissivity, where there is one, is the last channel.
    """
    model = problem.model
    cell, sensor, fraction, inputs = look_up(problem, state, rows)
    ice, by_property, by_weight = network.linearised(*inputs, with_weights)

    # The brightness temperature is linear in the emissivity of each surface, with these gains, and
    # linear in the ice fraction: open water + fraction contrast (Geer 2024, equations 2 to 8).
    skin, wind = problem.scalars[rows, :2].split(1, 1)
    tb, water, transmittance, reflected, upwelling = problem.channels[rows].unbind(1)
    water_k = physics.water_temperature(skin, model.config.freezing_sea)
    ice_gain, water_gain = transmittance * skin - reflected, transmittance * water_k - reflected
    _, wind_sensitivity, biases = split_weights(model, state.weights)
    water, bias = water + wind * wind_sensitivity, biases[:, sensor]
    open_water = reflected + upwelling + water * water_gain + bias[OCEAN]
    contrast = ice * ice_gain - water * water_gain + bias[ICE] - bias[OCEAN]

    inverse_error = model.inverse_error[sensor] * tb.isfinite()
    residual = tb.nan_to_num(0.0) - open_water - fraction * contrast
    residual, gain = residual * inverse_error, by_emissivity(problem, rows, sensor, fraction, ice)
    by_property = with_limit(model, by_property)
    if model.anchor is not None:
        below = model.lowest - ice[:, model.anchor, None]
        residual = torch.cat([residual, below * gain[:, -1:]], 1)

    q, n = state.observation_properties.shape[1], 1 + state.properties.shape[1]
    p = len(state.weights) if with_weights else 0
    jacobian = residual.new_zeros(*residual.shape, q + n + p + 1)
    every = slice(0, len(model.wind_sensitivity))  # the channels without the limit
    jacobian[..., :q] = gain[..., None] * by_property[..., n - 1 :]
    jacobian[:, every, q] = contrast * inverse_error
    jacobian[..., q + 1 : q + n] = gain[..., None] * by_property[..., : n - 1]
    jacobian[..., -1] = residual
    if with_weights:
        of_network, of_wind, of_bias = split_weights(model, jacobian[..., q + n : -1])
        of_network[:] = gain[..., None] * with_limit(model, by_weight)
        # wind dependence and biases belong to one channel each
        channel, observation = torch.arange(every.stop), torch.arange(len(cell))[:, None]
        of_wind[:, channel, channel] = (1 - fraction) * wind * water_gain * inverse_error
        for surface, share in ((ICE, fraction), (OCEAN, 1 - fraction)):
            at = (observation, channel, surface, sensor[:, None], channel)
            of_bias[at] = share * inverse_error
    return cell, jacobian


def by_emissivity(problem, rows, sensor, fraction, ice):
    """Derivatives of simulated observations by the emissivity of the ice, in units of the error.

    Parameters
    ----------
    problem : Problem
    rows : slice
        Of the observations.
    sensor, fraction : Tensor (observation,), (observation, 1)
        Sensor, and ice fraction.
    ice : Tensor (observation, channel)
        Emissivity.

    Returns
    -------
    Tensor (observation, channel)
        0 where nothing was observed. The lower limit of the emissivity, where there is one, is the
        last channel; it is one-sided.
    """
    model, skin = problem.model, problem.scalars[rows, :1]
    tb, _, transmittance, reflected, _ = problem.channels[rows].unbind(1)
    inverse_error = model.inverse_error[sensor] * tb.isfinite()
    gain = fraction * (transmittance * skin - reflected) * inverse_error
    if model.anchor is None:
        return gain
    below = ice[:, model.anchor, None] < model.lowest
    return torch.cat([gain, below * problem.emissivity_limit_weight], 1)


def with_limit(model, derivatives):
    """Add a channel for the lower limit of the emissivity, where there is one.

    Parameters
    ----------
    model : EmpiricalState
    derivatives : Tensor (observation, channel, ...)
        Of the emissivity.

    Returns
    -------
    Tensor (observation, channel or channel + 1, ...)
    """
    if model.anchor is None:
        return derivatives
    return torch.cat([derivatives, derivatives[:, model.anchor, None]], 1)


def look_up(problem, state, rows):
    """Look up what some observations see in the maps.

    Parameters
    ----------
    problem : Problem
    state : State
    rows : slice
        Of the observations.

    Returns
    -------
    cell, sensor : Tensor of int64 (observation,)
    fraction : Tensor (observation, 1)
        Ice fraction.
    inputs : tuple of Tensor
        Of the network.
    """
    model = problem.model
    point, step, sensor = problem.index[rows].long().unbind(1)
    cell, lags = step * problem.points + point, torch.arange(model.lags + 1)
    fraction = model.mixture(state.sea_ice[step[:, None] + model.lags - lags, point[:, None]])
    properties = torch.cat([state.properties[cell], state.observation_properties[rows]], 1)
    inputs = model.network_inputs(properties, sensor, problem.scalars[rows])
    return cell, sensor, fraction, inputs
