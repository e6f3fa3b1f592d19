"""The cost of observations as a least-squares problem of cells, with a small network in common.

An observation touches one cell of its day: one concentration at the observation (a mixture of
days), a few properties, perhaps numbers of its own. Departures are linearised, an observation's own
numbers eliminated at once, and what is left summed cell by cell.
"""

from typing import NamedTuple

import torch

from seaice_lab.emissivity import penalty, physics
from seaice_lab.emissivity.model import PUBLISHED_BATCH
from seaice_lab.emissivity.networks import FIRST_CONSTANT
from seaice_lab.emissivity.observations import (
    EMISSIVITY_WATER,
    REFLECTED,
    TB,
    TRANSMITTANCE,
    UPWELLING,
)
from seaice_lab.emissivity.sensors import ICE, OCEAN

CHUNK = 5_000  # observations handled together
MONTH = 31  # days of a point that are taken together into a sample
SOFT_FLOOR = 0.003
FIRST_GUESS_ERROR = 0.15
# While a linear network is sought: more ice that is less bright costs nearly the same, and only the
# mean of the first guess tells which it is.
FIRST_GUESS_ERROR_OF_LINEAR = 0.05
WEIGHT_ERROR = 5.0  # of the network's weights around 0: holds directions that nothing determines
SPREAD = 0.05  # of a linear network's emissivities with a property: root of the sum of squares


class State(NamedTuple):
    """What is unknown: (lag + step, point), (step and point, K), (observation, Q), (weight,)."""

    sea_ice: torch.Tensor
    properties: torch.Tensor
    own: torch.Tensor
    weights: torch.Tensor


class Normal(NamedTuple):
    """Normal equations of the cells and the network, and how an observation's own number follows.

    With n = 1 + K unknowns a cell (concentration at the observation, properties), p weights:
    ``cost`` (point,), ``curvature`` (cell, n, n), ``slope`` (cell, n), ``cross`` (cell, n, p),
    ``of_weights`` (p, p), ``slope_of_weights`` (p,); an observation's own Q numbers move by
    ``own`` - ``own_by_cell`` . cell - ``own_by_weight`` . weights.
    """

    cost: torch.Tensor
    curvature: torch.Tensor
    slope: torch.Tensor
    cross: torch.Tensor | None
    of_weights: torch.Tensor | None
    slope_of_weights: torch.Tensor | None
    own: torch.Tensor | None
    own_by_cell: torch.Tensor | None
    own_by_weight: torch.Tensor | None


class Problem:
    """The cost of some observations as a least-squares problem.

    Parameters
    ----------
    model : EmpiricalState
        Gives network, constants and the physics; its network and biases are set to the weights
        that are tried.
    index, scalars, channels : Tensor
        As in Observations; the grid points in ``index`` count from 0 to ``points``.
    property_error : float
    share : float
        Of all observations that these are: the costs that belong to no observation are divided
        alike.
    first_guess : Tensor (lag + step, point), optional
        Background of the concentration.
    first_guess_error : float
        Its error. 0.15 is nothing against what a channel says of ice or water, and enough to keep
        noise from making ice of water.
    floor_error : float
        Least error of the lower limit of the emissivity. The published limit is so stiff (about
        0.0003) that steps run back and forth across it; a softer one leads close to its minimum.
    """

    def __init__(
        self, model, index, scalars, channels, points, property_error, share=1.0,
        floor_error=SOFT_FLOOR, first_guess=None, first_guess_error=FIRST_GUESS_ERROR,
    ):  # fmt: skip
        self.model, self.points, self.share = model, points, share
        self.index, self.scalars, self.channels = index, scalars, channels
        self.background = 1 / property_error**2
        self.first_guess = first_guess
        self.hold = 0.0 if first_guess is None else 1 / first_guess_error**2
        self.stiff_floor = (PUBLISHED_BATCH / model.size) ** 0.5 / model.config.emissivity_error
        self.floor = min(self.stiff_floor, 1 / floor_error)
        parts = (model.network.parameters(), (model.wind_sensitivity, model.bias_k))
        self.parameters = [value for part in parts for value in part]
        seen = torch.bincount(index[:, 1].long() * points + index[:, 0]).count_nonzero().item()
        gridded = model.config.n_properties
        own = model.network_properties - gridded
        self.counts = torch.tensor([seen] * gridded + [len(index)] * own)
        self.squares = None

    def some_months(self, state, share, generator):
        """The same problem on some grid points in some months, chosen at random, for the network.

        Returns
        -------
        Problem, State
            Of ``share`` of the months of grid points, each of which is a point of its own; with a
            linear network the first guess is held more closely.
        """
        days, lags = len(state.properties) // self.points, self.model.lags
        length = min(MONTH, days)
        months = -(-days // length) * self.points
        month = self.index[:, 1].long() // length * self.points + self.index[:, 0]
        chosen = torch.rand(months, generator=generator) < share
        chosen[month[torch.randint(len(month), (1,), generator=generator)]] = True
        at = torch.nonzero(chosen[month])[:, 0]
        index, scalars, channels = self.index[at], self.scalars[at], self.channels[at]
        index[:, 0] = (torch.cumsum(chosen, 0) - 1)[month[at]].to(index.dtype)
        index[:, 1] %= length
        place = torch.nonzero(chosen)[:, 0]
        first, point = place // self.points * length, place % self.points
        # the last month may be shorter: its last day is there more than once, and not observed
        row = (first + torch.arange(lags + length)[:, None]).clip(max=lags + days - 1)
        linear = self.model.config.network == "linear"
        part = Problem(
            self.model, index, scalars, channels, len(place), self.background**-0.5,
            len(at) / len(self.index),
            first_guess=None if self.first_guess is None else self.first_guess[row, point],
            first_guess_error=FIRST_GUESS_ERROR_OF_LINEAR if linear else FIRST_GUESS_ERROR,
        )  # fmt: skip
        cell = (row[lags:] - lags) * self.points + point
        start = State(
            state.sea_ice[row, point], state.properties[cell.flatten()], state.own[at],
            state.weights,
        )  # fmt: skip
        return part, start

    def get_weights(self):
        """Network, wind dependence and biases in one vector."""
        return torch.nn.utils.parameters_to_vector(self.parameters).detach().clone()

    def set_weights(self, weights):
        # a copy, as the parameters share the memory of what they are given
        torch.nn.utils.vector_to_parameters(weights.clone(), self.parameters)

    def background_of_weights(self, weights):
        """Curvature (p,), slope (p,) and cost of what holds biases and anchors."""
        model = self.model
        curvature, centre = torch.zeros_like(weights), torch.zeros_like(weights)
        bias = slice(len(weights) - model.bias_k.numel(), None)
        of_network = len(weights) - model.bias_k.numel() - len(model.wind_sensitivity)
        curvature[:of_network] = 1 / WEIGHT_ERROR**2
        error = model.bias_error.expand_as(model.bias_k)
        curvature[bias] = self.share / error.flatten() ** 2
        centre[bias] = model.bias_background.expand_as(model.bias_k).flatten()
        if model.config.network == "linear":
            # as often as there are properties: large weights would make theirs cost nothing
            at, channels = model.network.weight.numel(), model.network.weight.shape[1]
            counts = self.counts.repeat_interleave(channels).to(weights.dtype)
            curvature[channels:at] = counts / self.background / SPREAD**2
            if model.anchor is None:
                curvature[at] = self.share / model.config.emissivity_error**2
                centre[at] = FIRST_CONSTANT
        away = centre - weights
        return curvature, curvature * away, (curvature * away**2).sum()

    def normal(self, state, with_weights):
        """Cost and normal equations at a state, a Normal."""
        self.set_weights(state.weights)
        if self.bilinear and not with_weights:
            normal = self.sum_up_squares(state)
        else:
            normal = self.sum_up(state, with_weights)
        n = normal.slope.shape[1]
        normal.curvature[:, range(1, n), range(1, n)] += self.background
        normal.slope[:, 1:] -= self.background * state.properties
        of_cell = self.background * (state.properties**2).sum(1)
        cost = normal.cost + of_cell.reshape(-1, self.points).sum(0)
        strengths = penalty.strengths(self.model.config, self.model.epoch)
        cost += penalty.cost(state.sea_ice, strengths).sum(0)
        if self.hold:
            cost += self.hold * ((state.sea_ice - self.first_guess) ** 2).sum(0)
        return normal._replace(cost=cost)

    def sum_up(self, state, with_weights):
        """What the observations contribute to a Normal, one after another."""
        days, points = len(state.properties) // self.points, self.points
        n, q = 1 + state.properties.shape[1], state.own.shape[1]
        p = len(state.weights) if with_weights else 0
        cells = days * points
        curvature, slope = torch.zeros(cells, n * n), torch.zeros(cells, n)
        cost = torch.zeros(points)
        cross = torch.zeros(cells, n, p) if p else None
        of_weights = torch.zeros(p, p, dtype=torch.float64) if p else None
        slope_of_weights = torch.zeros(p, dtype=torch.float64) if p else None
        size = len(self.index)
        own, own_by_cell = torch.zeros(size, q), torch.zeros(size, q, n)
        own_by_weight = torch.zeros(size, q, p) if p else None
        for there in self.chunks():
            cell, residual, by_state, by_weight = self.linearise(there, state, with_weights)
            gram = by_state.mT @ by_state
            lean = (by_state.mT @ residual[..., None])[..., 0]
            spread = (residual**2).sum(1)
            if q:
                spread = spread + self.background * (state.own[there] ** 2).sum(1)
                lean[:, n:] -= self.background * state.own[there]
                tight = torch.linalg.inv(gram[:, n:, n:] + self.background * torch.eye(q))
                own_by_cell[there] = tight @ gram[:, n:, :n]
                own[there] = (tight @ lean[:, n:, None])[..., 0]
                side, rest = gram[:, :n, n:], lean[:, n:]
                gram, lean = (
                    gram[:, :n, :n] - side @ own_by_cell[there],
                    lean[:, :n] - (side @ own[there][..., None])[..., 0],
                )
            curvature.index_add_(0, cell, gram.flatten(1))
            slope.index_add_(0, cell, lean)
            cost.index_add_(0, self.index[there, 0].long(), spread)
            if p:
                mixed = by_state.mT @ by_weight
                flat = by_weight.flatten(0, 1)
                of_weights += flat.T @ flat
                slope_of_weights += flat.T @ residual.flatten()
                if q:
                    own_by_weight[there] = tight @ mixed[:, n:]
                    of_weights -= mixed[:, n:].flatten(0, 1).T @ own_by_weight[there].flatten(0, 1)
                    slope_of_weights -= own_by_weight[there].flatten(0, 1).T @ rest.flatten()
                    mixed = mixed[:, :n] - side @ own_by_weight[there]
                cross.index_add_(0, cell, mixed)
        return Normal(cost, curvature.reshape(cells, n, n), slope, cross, of_weights,
                      slope_of_weights, own, own_by_cell, own_by_weight)  # fmt: skip

    @property
    def bilinear(self):
        """Whether departures are linear in a cell's concentration s and in s times its properties.

        So they are with a linear network of gridded properties.
        """
        model = self.model
        own = model.config.n_observation_properties
        return model.config.network == "linear" and model.anchor is None and not own

    def sum_up_squares(self, state):
        """As :meth:`sum_up` of a bilinear problem, with the weights that are set held.

        With v = (1, s, s p) of a cell, the sum of its squared departures is v . Q v: the
        observations are read once for the matrices Q, and not again at every step.
        """
        if self.squares is None or not torch.equal(self.squares[0], state.weights):
            self.squares = state.weights, self.sum_of_squares(state)
        squares, fraction = self.squares[1], self.mixture(state.sea_ice)
        cells, n = len(fraction), 1 + state.properties.shape[1]
        v = torch.cat([torch.ones_like(fraction), fraction, fraction * state.properties], 1)
        by_state = torch.zeros(cells, n + 1, n)
        by_state[:, 1, 0] = 1
        by_state[:, 2:, 0] = state.properties
        by_state[:, range(2, n + 1), range(1, n)] = fraction
        product = squares @ torch.cat([by_state, v[..., None]], 2)
        curvature = by_state.mT @ product
        cost = (v * product[..., -1]).sum(1).reshape(-1, self.points).sum(0)
        nothing = [None] * 6  # of the network, and of properties of observations
        return Normal(cost, curvature[..., :-1].contiguous(), -curvature[..., -1], *nothing)

    def sum_of_squares(self, state):
        """The matrices Q (cell, K + 2, K + 2) of :meth:`sum_up_squares`."""
        cells, width = len(state.properties), 2 + state.properties.shape[1]
        # departures and their derivatives at s = 1 and p = 0 are all that there is
        one = torch.full_like(state.sea_ice, 1 / self.model.lag_weights.sum().item())
        plain = state._replace(sea_ice=one, properties=torch.zeros_like(state.properties))
        squares = torch.zeros(cells, width * width)
        for there in self.chunks():
            cell, residual, by_state, _ = self.linearise(there, plain, False)
            rows = torch.cat([(residual + by_state[..., 0])[..., None], -by_state], 2)
            squares.index_add_(0, cell, (rows.mT @ rows).flatten(1))
        return squares.reshape(cells, width, width)

    def chunks(self):
        """Slices of the observations that are handled together."""
        size = len(self.index)
        return [slice(first, min(first + CHUNK, size)) for first in range(0, size, CHUNK)]

    def mixture(self, sea_ice):
        """Concentration at the observations of each cell, (cell, 1), from those of the days."""
        lags = self.model.lags
        days = len(sea_ice) - lags
        lagged = [sea_ice[lags - lag :][:days].flatten() for lag in range(lags + 1)]
        return self.model.mixture(torch.stack(lagged, 1))

    def linearise(self, there, state, with_weights):
        """Departures of some observations and their derivatives, in units of the error.

        Returns
        -------
        cell : Tensor of int64 (observation,)
        residual : Tensor (observation, row)
            One row a channel, and one for the lower limit of the emissivity where there is one.
        by_state : Tensor (observation, row, 1 + K + Q)
        by_weight : Tensor (observation, row, p) or None
        """
        model = self.model
        index, scalars, channels = self.index[there], self.scalars[there], self.channels[there]
        point, step, sensor = index.long().unbind(1)
        cell = step * self.points + point
        days = torch.stack(
            [state.sea_ice[step + model.lags - lag, point] for lag in range(model.lags + 1)], 1
        )
        ice_fraction = model.mixture(days)
        properties = torch.cat([state.properties[cell], state.own[there]], 1)
        inputs = model.network_inputs(properties, sensor, scalars)
        with torch.no_grad():
            ice, by_property, of_network = model.network.linearised(*inputs, with_weights)
        skin, wind = scalars[:, :1], scalars[:, 1:2]
        sea = physics.water_temperature(skin, model.config.freezing_sea)
        transmittance, reflected = channels[:, TRANSMITTANCE], channels[:, REFLECTED]
        # brightness temperature is linear in the emissivity of each surface, with these slopes
        gain, gain_sea = transmittance * skin - reflected, transmittance * sea - reflected
        ocean = channels[:, EMISSIVITY_WATER] + wind * model.wind_sensitivity.detach()
        bias = model.bias_k.detach()[:, sensor]
        open_water = reflected + channels[:, UPWELLING] + ocean * gain_sea + bias[OCEAN]
        by_ice = ice * gain - ocean * gain_sea + bias[ICE] - bias[OCEAN]
        weight = model.inverse_error[sensor] * channels[:, TB].isfinite()
        residual = channels[:, TB].nan_to_num(0.0) - open_water - ice_fraction * by_ice
        residual, by_ice = residual * weight, by_ice * weight
        by_emissivity = ice_fraction * gain * weight
        by_state = torch.cat([by_ice[..., None], by_emissivity[..., None] * by_property], 2)
        limit = None
        if model.anchor is not None:
            lacking = (model.lowest - ice[:, model.anchor]).clip(0) * self.floor
            limit = (lacking > 0) * self.floor
            residual = torch.cat([residual, lacking[:, None]], 1)
            of_limit = limit[:, None] * by_property[:, model.anchor]
            row = torch.cat([torch.zeros_like(of_limit[:, :1]), of_limit], 1)
            by_state = torch.cat([by_state, row[:, None]], 1)
        if not with_weights:
            return cell, residual, by_state, None
        # a wind dependence and biases belong to one channel each
        number, every = torch.arange(len(cell))[:, None], torch.arange(len(model.wind_sensitivity))
        of_wind = of_network.shape[2]
        of_bias = of_wind + len(every)
        by_weight = residual.new_zeros(*residual.shape, of_bias + model.bias_k.numel())
        by_weight[:, : len(every), :of_wind] = by_emissivity[..., None] * of_network
        of_channel = by_weight[:, : len(every), of_wind:of_bias].diagonal(dim1=1, dim2=2)
        of_channel.copy_((1 - ice_fraction) * wind * gain_sea * weight)
        for surface, part in ((ICE, ice_fraction), (OCEAN, 1 - ice_fraction)):
            row = surface * model.bias_k.shape[1] + sensor[:, None]
            by_weight[number, every, of_bias + row * len(every) + every] = part * weight
        if limit is not None:
            by_weight[:, -1, :of_wind] = limit[:, None] * of_network[:, model.anchor]
        return cell, residual, by_state, by_weight
