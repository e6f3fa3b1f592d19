"""Quality of a trained state: departures by channel, and concentration against a truth."""

import numpy as np
import pandas as pd
import torch
import xarray as xr

from seaice_lab.emissivity.observations import TB, read_batch
from seaice_lab.names import ICE_EDGE_CONCENTRATION

SIMULATION_CHUNK = 50_000  # observations that are simulated at once
FREQUENCY_ATTRIBUTES = {"long_name": "Frequency of the channel", "units": "GHz"}
# Bins of the histogram of departures.
BIN_WIDTH_K, HISTOGRAM_END_K = 0.5, 30.0
BIN_EDGES_K = np.arange(-HISTOGRAM_END_K, HISTOGRAM_END_K + BIN_WIDTH_K, BIN_WIDTH_K)

# Classes of concentration: above the first number, up to the second one.
CONCENTRATION_CLASSES = {
    "water": (-np.inf, 0.001),
    "edge": (0.001, 0.15),
    "open": (0.15, 0.5),
    "loose": (0.5, 0.95),
    "closed": (0.95, np.inf),
}


class DepartureStatistics:
    """Statistics of observed minus simulated brightness temperature, accumulated by chunks.

    Parameters
    ----------
    instruments : Instruments
    """

    def __init__(self, instruments):
        self.instruments = instruments
        shape = (len(instruments.sensors), len(instruments.channels))
        self.sum, self.sum_of_squares = np.zeros(shape), np.zeros(shape)
        # the first and the last bin count what is outside the histogram
        self.counts = np.zeros((*shape, len(BIN_EDGES_K) + 1), int)

    def add(self, sensor, departures):
        """Add some observations.

        Parameters
        ----------
        sensor : ndarray of int (observation,)
        departures : ndarray (observation, channel)
            Observed minus simulated, K; NaN where missing.
        """
        bins = self.counts.shape[2]
        for row in np.unique(sensor):
            values = departures[sensor == row].astype("float64")
            valid = np.isfinite(values)
            self.sum[row] += values.sum(0, where=valid)
            self.sum_of_squares[row] += np.square(values).sum(0, where=valid)
            # count in a one-dimensional array, in which the bins of one channel follow another's
            bin_number = np.floor((values[valid] + HISTOGRAM_END_K) / BIN_WIDTH_K) + 1
            index = np.nonzero(valid)[1] * bins + bin_number.clip(0, bins - 1).astype(int)
            counts = np.bincount(index, minlength=self.counts[row].size)
            self.counts[row] += counts.reshape(-1, bins)

    def table(self):
        """Summarise the departures that were added.

        Returns
        -------
        xarray.Dataset
            ``bias``, ``std`` and ``rms`` (K) and ``count``, (sensor, channel), NaN and 0 where a
            sensor lacks a channel; ``cost``, the mean squared departure in units of the assigned
            error; ``histogram`` (sensor, channel, bin), counts in bins of 0.5 K from -30 to 30 K.
            Coordinates: ``sensor``, ``channel``, ``polarisation`` (channel), ``frequency`` (sensor,
            channel; GHz), ``bin`` (K, centre) and ``bin_bounds``.
        """
        instruments, dims = self.instruments, ("sensor", "channel")
        count = self.counts.sum(2)
        divisor = np.where(count > 0, count, np.nan)
        bias, rms = self.sum / divisor, np.sqrt(self.sum_of_squares / divisor)
        std = np.sqrt(np.maximum(rms**2 - bias**2, 0))
        statistics = {
            "count": (count, "Number of observations", "1"),
            "bias": (bias, "Mean departure", "K"),
            "std": (std, "Standard deviation of departures", "K"),
            "rms": (rms, "Root-mean-square departure", "K"),
            "cost": ((rms / instruments.error_k) ** 2, "Squared departure over squared error", "1"),
            "histogram": (self.counts[..., 1:-1], "Number of departures in a bin", "1"),
        }
        lower, upper = BIN_EDGES_K[:-1], BIN_EDGES_K[1:]
        bin_attributes = {
            "long_name": "Observed minus simulated brightness temperature",
            "units": "K",
            "bounds": "bin_bounds",
        }
        return xr.Dataset(
            {
                name: ((*dims, "bin")[: values.ndim], values, {"long_name": label, "units": units})
                for name, (values, label, units) in statistics.items()
            },
            coords={
                "sensor": ("sensor", list(instruments.sensors), {"long_name": "Sensor"}),
                "channel": ("channel", list(instruments.channels), {"long_name": "Channel"}),
                "polarisation": (
                    "channel",
                    np.where(instruments.vertical, "vertical", "horizontal"),
                    {"long_name": "Polarisation (cross-track: at nadir)"},
                ),
                "frequency": (dims, instruments.frequency_ghz, FREQUENCY_ATTRIBUTES),
                "bin": ("bin", (lower + upper) / 2, bin_attributes),
                "bin_bounds": (("bin", "bound"), np.stack([lower, upper], 1)),
            },
        )


def departures(model, observations, positions=None):
    """Observed minus simulated brightness temperature, by sensor and channel.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    positions : ndarray of int, optional
        Observations to use, such as those held out; all by default.

    Returns
    -------
    xarray.Dataset
        See :meth:`DepartureStatistics.table`.
    """
    statistics = DepartureStatistics(observations.instruments)
    positions = np.arange(observations.size) if positions is None else positions
    for batch, simulation in _simulate(model, observations, positions):
        difference = batch.channels[:, TB] - simulation.brightness_temperature
        statistics.add(batch.index[:, 2].numpy(), difference.numpy())
    return statistics.table()


def _simulate(model, observations, positions):
    """Yield batches of some observations with their Simulation."""
    for first in range(0, len(positions), SIMULATION_CHUNK):
        batch = read_batch(observations, positions[first : first + SIMULATION_CHUNK])
        with torch.no_grad():
            simulation = model.simulate_batch(batch)
        yield batch, simulation


def concentration_scores(sea_ice, truth):
    """Scores of concentration maps against a truth or any other product.

    Parameters
    ----------
    sea_ice, truth : ndarray (grid, day)

    Returns
    -------
    dict of float
        ``rmse``, ``bias``, ``rmse_where_ice`` (truth above 0.15) and ``wrong_side_of_edge``,
        the share of cell-days on the wrong side of concentration 0.15.
    """
    error, ice = sea_ice - truth, truth > ICE_EDGE_CONCENTRATION
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "bias": float(np.mean(error)),
        "rmse_where_ice": float(np.sqrt(np.mean(error[ice] ** 2))) if ice.any() else np.nan,
        "wrong_side_of_edge": float(np.mean((sea_ice > ICE_EDGE_CONCENTRATION) != ice)),
    }


def scores_by_class(sea_ice, truth, deviation=None):
    """Scores of concentrations by class of the true concentration.

    Parameters
    ----------
    sea_ice, truth : ndarray
        Concentrations of the same shape; cells in which one of them is NaN are left out.
    deviation : ndarray, optional
        Standard deviation of ``sea_ice``, from :func:`seaice_lab.emissivity.infer.uncertainty`.

    Returns
    -------
    pandas.DataFrame
        One row for each class, with ``count``, ``rmse``, ``bias`` and, with a deviation,
        ``within_1`` and ``within_2``, the shares of errors within one and two standard deviations.
        NaN if the class has no value.
    """
    error, rows = sea_ice - truth, {}
    for name, (lowest, highest) in CONCENTRATION_CLASSES.items():
        cells = (truth > lowest) & (truth <= highest) & np.isfinite(error)
        errors = pd.Series(error[cells], dtype=float)
        rows[name] = {"count": len(errors), "rmse": (errors**2).mean() ** 0.5}
        rows[name] |= {"bias": errors.mean()}
        if deviation is not None:
            ratio = errors.abs() / deviation[cells]
            rows[name] |= {f"within_{times}": (ratio <= times).mean() for times in (1, 2)}
    return pd.DataFrame(rows).T


def at_observations(maps, observations, lag_weights):
    """Weighted mean of today's and earlier concentrations at each observation.

    Parameters
    ----------
    maps : ndarray (grid, lag + step)
    observations : Observations
    lag_weights : sequence of float
        Shares of today and of the days before it, as in ModelConfig.

    Returns
    -------
    ndarray (observation,)
    """
    point, step, _ = np.asarray(observations.index).T
    today = step + len(lag_weights) - 1
    return sum(share * maps[point, today - lag] for lag, share in enumerate(lag_weights))


def daily_means(values, observations):
    """Mean over the observations of each grid point and day.

    Parameters
    ----------
    values : ndarray (observation,)
        NaN where missing.
    observations : Observations

    Returns
    -------
    ndarray (grid, step)
        NaN where there is no value.
    """
    shape = observations.skin_temperature_map.shape
    valid = np.isfinite(values)
    cell = np.ravel_multi_index(tuple(observations.index[valid, :2].T), shape)
    counts, sums = (np.bincount(cell, weights, np.prod(shape)) for weights in (None, values[valid]))
    return np.divide(sums, counts, where=counts > 0, out=np.full(sums.shape, np.nan)).reshape(shape)


def sea_ice_maps(model):
    """Concentration (grid, lag + step) as an ndarray."""
    return model.sea_ice.detach().reshape(-1, model.points).T.numpy()


def property_maps(model):
    """Empirical properties of the ice (step, grid, property) as an ndarray."""
    return model.properties.detach().unflatten(0, (-1, model.points)).numpy()


def emissivity_errors(model, observations, truth, minimum_ice=0.9):
    """Error of the emissivity of the ice where the truth is known, by sensor and channel.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    truth : xarray.Dataset
        Content of ``truth.nc`` from :func:`seaice_lab.emissivity.simulate.simulate`;
        ``observations`` must be all observations of that case, in the same order.
    minimum_ice : float
        Observations with a smaller true concentration are ignored.

    Returns
    -------
    xarray.Dataset
        ``bias`` and ``rmse``, (sensor, channel).
    """
    instruments = observations.instruments
    shape = (len(instruments.sensors), len(instruments.channels))
    bias, rmse = np.full(shape, np.nan), np.full(shape, np.nan)
    for row, sensor in enumerate(instruments.sensors):
        ice = truth[f"sic_at_obs_{sensor}"].values > minimum_ice
        if not ice.any():
            continue
        positions = np.flatnonzero(observations.index[:, 2] == row)[ice]
        channels = list(instruments.positions[row])
        simulations = _simulate(model, observations, positions)
        emissivity = np.concatenate([values.ice_emissivity.numpy() for _, values in simulations])
        # a truth in the layout of months also has the channels at 6 and 7 GHz, which are not used
        names = list(truth[f"channel_name_{sensor}"].values)
        columns = [names.index(instruments.channels[channel]) for channel in channels]
        error = emissivity[:, channels] - truth[f"ice_emissivity_{sensor}"].values[ice][:, columns]
        bias[row, channels] = error.mean(0)
        rmse[row, channels] = np.sqrt((error**2).mean(0))
    dims = ("sensor", "channel")
    return xr.Dataset(
        {"bias": (dims, bias, {"units": "1"}), "rmse": (dims, rmse, {"units": "1"})},
        coords={"sensor": list(instruments.sensors), "channel": list(instruments.channels)},
    )


def report(model, table, history=None):
    """Summarise a trained state in a few lines: fit by channel, concentration, terms of the cost.

    Parameters
    ----------
    model : EmpiricalState
    table : xarray.Dataset
        From :func:`departures`, or stage "after" of ``departures_<tag>.nc``.
    history : pandas.DataFrame, optional

    Returns
    -------
    str
    """
    lines = ["sensor     channel    count  bias [K]  rms [K]  cost"]
    fits = table[["count", "bias", "rms", "cost"]].to_dataframe().query("count > 0")
    for (sensor, channel), row in fits.iterrows():
        lines.append(
            f"{sensor:10s} {channel:8s} {row['count']:7d} {row.bias:9.2f} {row.rms:8.2f} "
            f"{row.cost:5.2f}"
        )
    sea_ice = sea_ice_maps(model)
    lines.append(f"concentration from {sea_ice.min():.3f} to {sea_ice.max():.3f}")
    if history is not None and len(history):
        last = history.iloc[-1]
        values = {name: value for name, value in last.items() if isinstance(value, float)}
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    return "\n".join(lines)
