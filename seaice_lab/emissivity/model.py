"""The empirical state of sea ice and the cost of its departures from observations.

Unknown are maps of concentration and of a few empirical ice properties, a small emissivity network,
the wind dependence of the sea's emissivity, and instrument biases. Known is the physics between
(:mod:`~seaice_lab.emissivity.physics`). Equations: Geer (2024), sections 2 and 3; constants of
versions 1 and 2 are in VERSIONS.
"""

from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from seaice_lab.config import Config
from seaice_lab.emissivity import penalty, physics
from seaice_lab.emissivity.lazy_adam import ReplayedMap
from seaice_lab.emissivity.networks import FIRST_CONSTANT, build_network
from seaice_lab.emissivity.observations import (
    EMISSIVITY_WATER,
    REFLECTED,
    TB,
    TRANSMITTANCE,
    UPWELLING,
)
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.errors import InputError

PUBLISHED_BATCH = 1024
WARM_K = 273.2
ICE_PRESENT = 0.01
COST_TERMS = ("observation", "emissivity", "bias")
MAPS = ("sea_ice", "properties", "observation_properties")

VERSIONS = {
    1: {"network": "linear", "n_properties": 3, "n_observation_properties": 0, "width": 10,
        "sea_ice_error": 0.02, "false_ice_error": (), "bias_error_k": 0.001,
        "freezing_sea": False, "emissivity_background": {}},
    2: {"network": "frequency", "n_properties": 2, "n_observation_properties": 1, "width": 7,
        "sea_ice_error": 0.002, "false_ice_error": ((0, 0.02),), "bias_error_k": None,
        "freezing_sea": True, "emissivity_background": {"10v": 0.8, "24v": 0.7}},
}  # fmt: skip


class ModelConfig(Config):
    """The model; what is not given is as published for its ``version``.

    ``lag_weights`` are the shares of today's and of earlier days' concentration. ``sea_ice_error``
    is the error of concentrations beyond 0 and 1, ``false_ice_error`` that of the hump which makes
    concentrations below 0.3 costly, as pairs of the first epoch (from 0) and the error from there
    on (the published change to 0.002 in epoch 3 never took effect, so that the default stays at
    0.02; ((0, 0.02), (3, 0.002)) makes it work). ``bias_error_k`` replaces the sensors' own.
    ``emissivity_background`` gives the lowest emissivity of the first of these channels that the
    sensors have. ``freezing_sea`` keeps the sea at 271.35 K or more. ``bounded`` holds the
    concentration within 0 and 1 at every step, instead of penalising it. ``batch_independent``
    gives the emissivity term the weight that the published one has in a batch of 1024, whatever the
    batch is; without it the weight grows with the batch, as published.
    """

    version: Literal[1, 2] = 1
    network: Literal["linear", "sigmoid", "frequency"]
    n_properties: int = Field(ge=0)
    n_observation_properties: int = Field(ge=0)
    layers: int = Field(2, ge=1)
    width: int = Field(ge=1)
    zenith_input: bool = False
    nadir: bool = False
    freeze_network: bool = False
    lag_weights: tuple[float, ...] = (0.6, 0.4)
    sea_ice_error: float = Field(gt=0)
    false_ice_error: tuple[tuple[int, float], ...]
    bias_error_k: float | None
    emissivity_error: float = Field(1e-5, gt=0)
    emissivity_background: dict[str, float]
    freezing_sea: bool
    bounded: bool = False
    batch_independent: bool = True

    @model_validator(mode="before")
    @classmethod
    def _as_published(cls, values):
        return VERSIONS.get(values.get("version", 1), {}) | values


class Simulation(NamedTuple):
    """What the model makes of a batch: (observation, channel) each, and (observation, 1)."""

    brightness_temperature: torch.Tensor
    ice_emissivity: torch.Tensor
    ice_fraction: torch.Tensor


class EmpiricalState(nn.Module):
    """Maps, network and biases, from first guess to what the observations say.

    Parameters
    ----------
    config : ModelConfig
    observations : Observations
        Gives sensors, first guess, grid and number of observations.
    replayed : bool
        Whether the maps are replayed (:mod:`~seaice_lab.emissivity.lazy_adam`, on the processor),
        or plain parameters of which every step moves every cell, as published (on a GPU).

    Attributes
    ----------
    sea_ice : ReplayedMap or Parameter (lag + step and grid, 1)
        Concentration, day by day; the first days are those before step 0.
    properties : ReplayedMap or Parameter (step and grid, property)
    observation_properties : ReplayedMap or Parameter (observation, property)
    clock : Clock or None
        Counts the steps of replayed maps while training.
    """

    def __init__(self, config, observations, replayed=True):
        super().__init__()
        self.config = config
        seen_by = observations.instruments
        self.sensors, self.channels = seen_by.sensors, seen_by.channels
        self.lags = len(config.lag_weights) - 1
        self.points, self.days = observations.skin_temperature_map.shape
        self.size = observations.size
        self.epoch = 0
        first_guess = torch.from_numpy(observations.sea_ice_first_guess)
        if first_guess.shape != (self.points, self.days + self.lags):
            raise InputError(
                f"first guess of concentration: found shape {tuple(first_guess.shape)}, expected "
                f"{(self.points, self.days + self.lags)} (grid, lag + step); prepare the "
                f"observations with lags={self.lags}"
            )
        self.anchor = None
        if config.emissivity_background:
            known = [c for c in config.emissivity_background if c in seen_by.channels]
            if not known:
                raise InputError(
                    f"sensors {', '.join(seen_by.sensors)}: none has a channel that anchors the "
                    f"emissivity ({', '.join(config.emissivity_background)}); add a sensor that "
                    "has one, or name another channel in emissivity_background"
                )
            self.anchor = seen_by.channels.index(known[0])
            self.lowest = config.emissivity_background[known[0]]
        self.network_properties = config.n_properties + config.n_observation_properties
        self.network = build_network(
            config.network, self.network_properties, len(seen_by.channels), config.layers,
            config.width, config.zenith_input, config.nadir,
        )  # fmt: skip
        self.network.requires_grad_(not config.freeze_network)
        self.clock = None
        sea_ice = first_guess.T.reshape(-1, 1).contiguous()
        cells = torch.zeros(self.days * self.points, config.n_properties)
        alone = torch.zeros(self.size, config.n_observation_properties)
        if replayed:
            self.sea_ice = ReplayedMap(sea_ice, self.penalty_strengths, config.bounded)
            self.properties = ReplayedMap(cells)
            self.observation_properties = ReplayedMap(alone)
        else:
            self.sea_ice = nn.Parameter(sea_ice)
            self.properties = nn.Parameter(cells)
            self.observation_properties = nn.Parameter(alone)
        self.wind_sensitivity = nn.Parameter(torch.zeros(len(seen_by.channels)))
        bias = torch.tensor(seen_by.bias_k, dtype=torch.float32)[..., None]
        self.bias_k = nn.Parameter(bias.repeat(1, 1, len(seen_by.channels)))
        self._constant("bias_background", bias)
        error = seen_by.bias_error_k
        if config.bias_error_k is not None:
            error = 0 * error + config.bias_error_k
        self._constant("bias_error", torch.tensor(error)[:, None])
        self._constant("inverse_error", 1 / torch.tensor(seen_by.error_k))
        self._constant("frequency", torch.tensor(seen_by.frequency_ghz))
        self._constant("vertical", torch.tensor(seen_by.vertical))
        conical = ~seen_by.crosstrack
        first, step = (
            torch.tensor(angle).nan_to_num().masked_fill(torch.tensor(conical), 0)
            for angle in (seen_by.first_angle_deg, seen_by.angle_step_deg)
        )
        self._constant("scan", torch.stack([first, step], 1))
        self._constant("lag_weights", torch.tensor(config.lag_weights))
        self._constant("skin_temperature_map", torch.from_numpy(observations.skin_temperature_map))
        self.register_load_state_dict_post_hook(lambda model, _: model.hold_bounds())
        self.hold_bounds()

    def _constant(self, name, value):
        self.register_buffer(name, value.float(), persistent=False)

    def replayed_maps(self):
        """The maps that take their missed steps later."""
        return [part for part in self.children() if isinstance(part, ReplayedMap)]

    def cells(self, name):
        """Values of a map, (cell, value)."""
        part = getattr(self, name)
        return part.value if isinstance(part, ReplayedMap) else part

    @torch.no_grad()
    def hold_bounds(self):
        """Bring every concentration of a bounded model within 0 and 1."""
        if self.config.bounded:
            self.cells("sea_ice").clamp_(0, 1)

    def rows(self, index):
        """Where observations stand: rows of ``sea_ice`` (observation, lag + 1), ``properties``."""
        point, step, _ = index.long().unbind(1)
        cell = step * self.points + point
        lagged = torch.arange(self.lags, -1, -1, device=cell.device) * self.points
        return cell[:, None] + lagged, cell

    def look_up(self, batch, rows=None):
        """Concentration (observation, lag + 1) and properties (observation, K) of a Batch."""
        days, cell = self.rows(batch.index) if rows is None else rows
        if self.training and self.clock is not None:
            return self.read_replayed(batch, days, cell)
        properties = [self.cells("properties")[cell]]
        properties.append(self.cells("observation_properties")[batch.number])
        return self.cells("sea_ice")[days.flatten()].reshape(days.shape), torch.cat(properties, 1)

    def read_replayed(self, batch, days, cell):
        """As :meth:`look_up`, of maps that replay: they take the steps that they have missed."""
        days, cell = days.numpy(), cell.numpy()
        sea_ice = np.empty(days.shape, "float32")
        properties = np.empty((len(cell), self.network_properties), "float32")
        self.sea_ice.read(days.reshape(-1), self.clock, sea_ice.reshape(-1, 1))
        self.properties.read(cell, self.clock, properties)
        self.observation_properties.read(
            batch.number.numpy(), self.clock, properties, self.config.n_properties
        )
        return torch.from_numpy(sea_ice), torch.from_numpy(properties)

    def lead_back(self, gradients):
        """Give maps that replay the gradients of what :meth:`look_up` gave last."""
        by_days, by_properties = (gradient.numpy() for gradient in gradients)
        self.sea_ice.lead_back(by_days.reshape(-1, 1))
        self.properties.lead_back(by_properties)
        self.observation_properties.lead_back(by_properties)

    def simulate_batch(self, batch):
        """The Simulation of a Batch."""
        days, properties = self.look_up(batch)
        return self.simulate(self.mixture(days), properties, *batch[1:])

    def mixture(self, days):
        """Concentration at an observation, (observation, 1), from its days (Geer 2024, 2.3)."""
        return (days * self.lag_weights).sum(1, keepdim=True)

    def forward(self, days, properties, index, scalars, channels):
        """Cost of some observations, without that of the maps (:meth:`map_costs`).

        Parameters
        ----------
        days, properties : Tensor
            From :meth:`look_up`.
        index, scalars, channels : Tensor
            Of the Batch.

        Returns
        -------
        dict of scalar Tensor
            ``observation``, the mean over observations of the sum over channels of squared
            departures in units of their error; ``emissivity`` and ``bias``, which hold both.
        """
        simulated = self.simulate(self.mixture(days), properties, index, scalars, channels)
        departures = self.departures(simulated.brightness_temperature, index, channels)
        deviation = (self.bias_k - self.bias_background) / self.bias_error
        costs = (
            (departures**2).sum(1).mean(),
            self.emissivity_cost(simulated.ice_emissivity),
            (deviation**2).sum() / self.size,
        )
        return dict(zip(COST_TERMS, costs, strict=True))

    def simulate(self, ice_fraction, properties, index, scalars, channels):
        """Brightness temperatures of given ice (Geer 2024, equations 2 to 8).

        Parameters
        ----------
        ice_fraction : Tensor (observation, 1)
        properties : Tensor (observation, property)
        index, scalars, channels : Tensor
            As in Observations.

        Returns
        -------
        Simulation
        """
        ice = self.network(*self.network_inputs(properties, index[:, 2].long(), scalars))
        tb = self.mix(ice_fraction, ice, index, scalars, channels)
        return Simulation(tb, ice, ice_fraction)

    def mix(self, ice_fraction, ice, index, scalars, channels):
        """Brightness temperature (observation, channel) of ice of known emissivity, with biases."""
        sensor = index[:, 2].long()
        skin, wind = scalars[:, :1], scalars[:, 1:2]
        ocean = channels[:, EMISSIVITY_WATER] + wind * self.wind_sensitivity
        sea = physics.water_temperature(skin, self.config.freezing_sea)
        tb = physics.brightness_temperature(
            ice_fraction, ice, ocean, skin, sea,
            channels[:, TRANSMITTANCE], channels[:, REFLECTED], channels[:, UPWELLING],
        )  # fmt: skip
        of_ice, of_ocean = self.bias_k[ICE][sensor], self.bias_k[OCEAN][sensor]
        return tb + ice_fraction * of_ice + (1 - ice_fraction) * of_ocean

    def network_inputs(self, properties, sensor, scalars):
        """What the emissivity network takes."""
        skin, _, _, position, zenith = scalars.split(1, 1)
        first, step = self.scan[sensor].split(1, 1)
        angle = -first + (position.nan_to_num(1.0) - 1) * step
        return (
            physics.skin_temperature_index(skin), properties, self.frequency[sensor],
            physics.vertical_share(self.vertical, angle), zenith,
        )  # fmt: skip

    def departures(self, simulated, index, channels):
        """(observed - simulated) / error, 0 where missing; (observation, channel)."""
        observed = channels[:, TB]
        departures = (observed - simulated) * self.inverse_error[index[:, 2].long()]
        # what differs from itself is missing; torch.compile makes slow code of isnan
        return torch.where(observed == observed, departures, 0.0)

    def emissivity_cost(self, ice_emissivity):
        """What anchors the emissivity.

        Version 1, linear: the constant of the first channel is held at 0.93. Version 2: the
        emissivity of one channel is held above a limit, for ice and open water alike, summed over
        the batch.
        """
        error = self.config.emissivity_error
        if self.anchor is not None:
            lacking = (self.lowest - ice_emissivity[:, self.anchor]).clip(0)
            share = PUBLISHED_BATCH / len(lacking) if self.config.batch_independent else 1.0
            return share * (lacking**2).sum() / error**2 / self.size
        if self.config.network == "linear":
            return ((self.network.constant[0] - FIRST_CONSTANT) / error) ** 2 / self.size
        return self.bias_k.new_zeros(())

    def penalty_strengths(self):
        """Strengths of the penalty of a concentration in this epoch, divided as the cost is."""
        return penalty.strengths(self.config, self.epoch, self.size)

    def map_costs(self):
        """Costs of the maps, over every cell, and a diagnostic.

        Returns
        -------
        dict of Tensor
            ``sea_ice``: concentrations beyond 0 and 1, and (version 2) those of a little ice;
            ``skin_temperature``: ice where the skin is warm, a diagnostic without a gradient, as
            published.
        """
        sea_ice = self.cells("sea_ice")[:, 0]
        strengths = penalty.strengths(self.config, self.epoch)
        cost = penalty.cost(sea_ice, strengths).sum()
        present = sea_ice.reshape(-1, self.points)[self.lags :] > ICE_PRESENT
        warm = 4 * present * (self.skin_temperature_map.T - WARM_K).clip(0)
        return {"sea_ice": cost / self.size, "skin_temperature": warm.mean() / self.size}
