"""The empirical state of sea ice, and the cost of its departures from observations.

The unknowns are maps of concentration and of a few empirical ice properties, a small emissivity
network, the wind dependence of the sea's emissivity, and instrument biases. They are connected to
brightness temperatures by known physics (:mod:`~seaice_lab.emissivity.physics`). The equations are
those of Geer (2024), sections 2 and 3.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from seaice_lab.emissivity import penalty, physics
from seaice_lab.emissivity.networks import FIRST_CONSTANT, build_network
from seaice_lab.emissivity.observations import TB
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.errors import InputError

PUBLISHED_BATCH = 1024
WARM_K = 273.2  # skin temperature above which ice is counted as a diagnostic
ICE_PRESENT = 0.01  # concentration that counts as ice in this diagnostic
COST_TERMS = ("observation", "emissivity", "bias")  # in the order of EmpiricalState.forward
MAPS = ("sea_ice", "properties", "observation_properties")


class Simulation(NamedTuple):
    """Simulated observations: (observation, channel), (observation, channel), (observation, 1)."""

    brightness_temperature: torch.Tensor
    ice_emissivity: torch.Tensor
    ice_fraction: torch.Tensor


class EmpiricalState(nn.Module):
    """Maps, network and biases; they start at the first guess and are fitted to observations.

    In all methods ``index``, ``scalars`` and ``channels`` are columns as in Observations.

    Parameters
    ----------
    config : ModelConfig
    observations : Observations
        Gives sensors, first guess, grid and number of observations.

    Attributes
    ----------
    sea_ice : Parameter (lag + step and grid, 1)
        Concentration, day by day; the first ``lags`` days are those before step 0.
    properties : Parameter (step and grid, property)
    observation_properties : Parameter (observation, property)
    wind_sensitivity : Parameter (channel,)
        Change of the emissivity of water with the wind speed, s m-1.
    bias_k : Parameter (surface, sensor, channel)
        Of brightness temperatures over ICE and OCEAN, K.

    Raises
    ------
    InputError
        If the first guess has another shape, or no channel can anchor the emissivity.
    """

    def __init__(self, config, observations):
        super().__init__()
        self.config = config
        instruments = observations.instruments
        self.sensors, self.channels = instruments.sensors, instruments.channels
        self.lags = len(config.lag_weights) - 1
        self.points, self.days = observations.skin_temperature_map.shape
        self.size = observations.size
        self.network_properties = config.n_properties + config.n_observation_properties
        self.anchor, self.lowest = find_anchor(config, instruments)
        first_guess = torch.from_numpy(observations.sea_ice_first_guess)
        if first_guess.shape != (self.points, self.days + self.lags):
            raise InputError(
                f"first guess of concentration: found shape {tuple(first_guess.shape)}, expected "
                f"{(self.points, self.days + self.lags)} (grid, lag + step); prepare the "
                f"observations with lags={self.lags}"
            )

        # what is estimated
        shape = self.network_properties, len(self.channels), config.layers, config.width
        self.network = build_network(config.network, *shape, config.zenith_input, config.nadir)
        self.network.requires_grad_(not config.freeze_network)
        self.sea_ice = nn.Parameter(first_guess.T.reshape(-1, 1).contiguous())
        self.properties = nn.Parameter(torch.zeros(self.days * self.points, config.n_properties))
        single = torch.zeros(self.size, config.n_observation_properties)
        self.observation_properties = nn.Parameter(single)
        self.wind_sensitivity = nn.Parameter(torch.zeros(len(self.channels)))
        bias = torch.tensor(instruments.bias_k, dtype=torch.float32)[..., None]
        self.bias_k = nn.Parameter(bias.repeat(1, 1, len(self.channels)))

        # what is known
        error = instruments.bias_error_k
        if config.bias_error_k is not None:
            error = 0 * error + config.bias_error_k
        angles = np.stack([instruments.first_angle_deg, instruments.angle_step_deg], 1)
        angles = np.where(instruments.crosstrack[:, None], np.nan_to_num(angles), 0)
        for name, value in {
            "bias_background": bias,
            "bias_error": error[:, None],
            "inverse_error": 1 / torch.tensor(instruments.error_k),
            "frequency": instruments.frequency_ghz,
            "vertical": instruments.vertical,
            "scan": angles,
            "lag_weights": config.lag_weights,
            "skin_temperature_map": observations.skin_temperature_map,
        }.items():
            self.register_buffer(name, torch.as_tensor(value).float(), persistent=False)
        self.register_load_state_dict_post_hook(lambda model, _: model.apply_bounds())
        self.apply_bounds()

    @torch.no_grad()
    def apply_bounds(self):
        """Set every concentration of a bounded model to between 0 and 1."""
        if self.config.bounded:
            self.sea_ice.clamp_(0, 1)

    def map_rows(self, index):
        """Rows of the maps that observations read.

        Parameters
        ----------
        index : Tensor (observation, 3)

        Returns
        -------
        days : Tensor of int64 (observation, lag + 1)
            Rows of ``sea_ice``: the day of the observation, then the days before it.
        cell : Tensor of int64 (observation,)
            Rows of ``properties``.
        """
        point, step, _ = index.long().unbind(1)
        cell = step * self.points + point
        lagged = torch.arange(self.lags, -1, -1, device=cell.device) * self.points
        return cell[:, None] + lagged, cell

    def map_values(self, batch, rows=None):
        """Values of the maps at observations.

        Parameters
        ----------
        batch : Batch
        rows : (Tensor, Tensor), optional
            From :meth:`map_rows`, if they are known.

        Returns
        -------
        days : Tensor (observation, lag + 1)
            Concentrations.
        properties : Tensor (observation, property)
        """
        days, cell = rows or self.map_rows(batch.index)
        properties = [self.properties[cell], self.observation_properties[batch.number]]
        return self.sea_ice[days.flatten()].reshape(days.shape), torch.cat(properties, 1)

    def simulate_batch(self, batch):
        """The Simulation of a Batch."""
        return self.simulate(*self.map_values(batch), *batch[1:])

    def mixture(self, days):
        """Concentration at an observation, (observation, 1), from its days (Geer 2024, 2.3)."""
        return (days * self.lag_weights).sum(1, keepdim=True)

    def forward(self, days, properties, index, scalars, channels):
        """Cost of some observations, without that of the maps (:meth:`map_costs`).

        Parameters
        ----------
        days, properties : Tensor
            From :meth:`map_values`.
        index, scalars, channels : Tensor

        Returns
        -------
        dict of scalar Tensor
            ``observation``, the mean over observations of the sum over channels of squared
            departures in units of their error; ``emissivity`` and ``bias``, which keep these two
            near their backgrounds.
        """
        simulated = self.simulate(days, properties, index, scalars, channels)
        departures = self.departures(simulated.brightness_temperature, index, channels)
        deviation = (self.bias_k - self.bias_background) / self.bias_error
        return {
            "observation": (departures**2).sum(1).mean(),
            "emissivity": self.emissivity_cost(simulated.ice_emissivity),
            # each observation carries its share of the one bias term
            "bias": (deviation**2).sum() / self.size,
        }

    def simulate(self, days, properties, index, scalars, channels):
        """Brightness temperatures of given ice (Geer 2024, equations 2 to 8).

        Parameters
        ----------
        days, properties : Tensor
            From :meth:`map_values`.
        index, scalars, channels : Tensor

        Returns
        -------
        Simulation
        """
        ice = self.network(*self.network_inputs(properties, index[:, 2].long(), scalars))
        ice_fraction = self.mixture(days)
        tb = self.mix(ice_fraction, ice, index, scalars, channels)
        return Simulation(tb, ice, ice_fraction)

    def mix(self, ice_fraction, ice, index, scalars, channels):
        """Brightness temperature of a mixture of water and ice of given emissivity, with biases.

        Parameters
        ----------
        ice_fraction : Tensor (observation, 1)
        ice : Tensor (observation, channel)
            Emissivity.
        index, scalars, channels : Tensor

        Returns
        -------
        Tensor (observation, channel), K
        """
        sensor = index[:, 2].long()
        skin, wind = scalars[:, :1], scalars[:, 1:2]
        _, ocean, *sky = channels.unbind(1)
        ocean = ocean + wind * self.wind_sensitivity
        water = physics.water_temperature(skin, self.config.freezing_sea)
        tb = physics.brightness_temperature(ice_fraction, ice, ocean, skin, water, sky)
        of_ice, of_ocean = self.bias_k[ICE][sensor], self.bias_k[OCEAN][sensor]
        return tb + ice_fraction * of_ice + (1 - ice_fraction) * of_ocean

    def network_inputs(self, properties, sensor, scalars):
        """Inputs of the emissivity network.

        Parameters
        ----------
        properties : Tensor (observation, property)
        sensor : Tensor of int64 (observation,)
        scalars : Tensor

        Returns
        -------
        tuple of Tensor
            As :mod:`~seaice_lab.emissivity.networks` lists them.
        """
        skin, _, _, position, zenith = scalars.split(1, 1)
        first, step = self.scan[sensor].split(1, 1)
        angle = -first + (position.nan_to_num(1.0) - 1) * step
        vertical = physics.vertical_share(self.vertical, angle)
        cold = physics.skin_temperature_index(skin)
        return cold, properties, self.frequency[sensor], vertical, zenith

    def departures(self, simulated, index, channels):
        """Departures in units of their error: (observed - simulated) / error.

        Parameters
        ----------
        simulated : Tensor (observation, channel), K
        index, channels : Tensor

        Returns
        -------
        Tensor (observation, channel)
            0 where missing.
        """
        observed = channels[:, TB]
        departures = (observed - simulated) * self.inverse_error[index[:, 2].long()]
        # NaN differs from itself; the compiled code of isnan is slow
        return torch.where(observed == observed, departures, 0.0)

    def emissivity_cost(self, ice_emissivity):
        """Cost that anchors the level of the emissivity.

        Version 1, linear: the constant of the first channel is kept at 0.93. Version 2: the
        ice emissivity of one channel is kept above a limit at every observation, whatever its
        concentration, summed over the batch.
        """
        error = self.config.emissivity_error
        if self.anchor is not None:
            deficit = (self.lowest - ice_emissivity[:, self.anchor]).clip(0)
            share = PUBLISHED_BATCH / len(deficit) if self.config.batch_independent else 1.0
            return share * (deficit**2).sum() / error**2 / self.size
        if self.config.network == "linear":
            return ((self.network.constant[0] - FIRST_CONSTANT) / error) ** 2 / self.size
        return self.bias_k.new_zeros(())

    def map_costs(self, epoch):
        """Costs of the maps, over every cell, and a diagnostic.

        Parameters
        ----------
        epoch : float
            The penalty of concentrations may change with the epoch.

        Returns
        -------
        dict of Tensor
            ``sea_ice``, the penalty of concentrations; ``skin_temperature``, a diagnostic of ice
            where the skin is warm, without a gradient, as published.
        """
        sea_ice = self.sea_ice[:, 0]
        cost = penalty.cost(sea_ice, penalty.strengths(self.config, epoch)).sum()
        present = sea_ice.reshape(-1, self.points)[self.lags :] > ICE_PRESENT
        warm = 4 * present * (self.skin_temperature_map.T - WARM_K).clip(0)
        return {"sea_ice": cost / self.size, "skin_temperature": warm.mean() / self.size}


def find_anchor(config, instruments):
    """The channel whose emissivity has a lower limit.

    Parameters
    ----------
    config : ModelConfig
    instruments : Instruments

    Returns
    -------
    channel, lowest : (int, float) or (None, None)

    Raises
    ------
    InputError
        If the sensors have none of the channels for which a limit is given.
    """
    if not config.emissivity_background:
        return None, None
    for channel, lowest in config.emissivity_background.items():
        if channel in instruments.channels:
            return instruments.channels.index(channel), lowest
    raise InputError(
        f"sensors {', '.join(instruments.sensors)}: none has a channel that anchors the "
        f"emissivity ({', '.join(config.emissivity_background)}); add a sensor that has one, or "
        "name another channel in emissivity_background"
    )
