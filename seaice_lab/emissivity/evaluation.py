"""How good a trained state is: departures by channel, and concentration against a truth."""

import numpy as np
import torch
import xarray as xr

from seaice_lab.emissivity.departures import Departures
from seaice_lab.emissivity.observations import TB, read_batch
from seaice_lab.emissivity.products import CHUNK
from seaice_lab.names import ICE_EDGE_CONCENTRATION


def departures(model, observations, positions=None):
    """Observed minus simulated brightness temperature, by sensor and channel.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    positions : ndarray of int, optional
        Of the observations to judge by, such as those held out; all by default.

    Returns
    -------
    xarray.Dataset
        As of :meth:`~seaice_lab.emissivity.departures.Departures.table`.
    """
    found = Departures(observations.instruments)
    positions = np.arange(observations.size) if positions is None else positions
    model.eval()
    for first in range(0, len(positions), CHUNK):
        batch = read_batch(observations, positions[first : first + CHUNK])
        with torch.no_grad():
            simulated = model.simulate_batch(batch).brightness_temperature
        found.add(batch.index[:, 2].numpy(), (batch.channels[:, TB] - simulated).numpy())
    return found.table()


def concentration_scores(sea_ice, truth):
    """Scores of maps of concentration against a truth or any other product.

    Parameters
    ----------
    sea_ice, truth : ndarray (grid, day)

    Returns
    -------
    dict of float
        ``rmse``, ``bias``, ``rmse_where_ice`` (truth above 0.15) and ``edge_error``, the share of
        cell-days on the wrong side of concentration 0.15.
    """
    error, ice = sea_ice - truth, truth > ICE_EDGE_CONCENTRATION
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "bias": float(np.mean(error)),
        "rmse_where_ice": float(np.sqrt(np.mean(error[ice] ** 2))) if ice.any() else np.nan,
        "edge_error": float(np.mean((sea_ice > ICE_EDGE_CONCENTRATION) != ice)),
    }


def sea_ice_maps(model):
    """Concentration (grid, lag + step) as an ndarray."""
    return model.cells("sea_ice").detach().reshape(-1, model.points).T.numpy()


def emissivity_errors(model, observations, truth, least_ice=0.9):
    """Error of the ice's emissivity where a truth knows it, by sensor and channel.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    truth : xarray.Dataset
        ``truth.nc`` of :func:`seaice_lab.emissivity.simulate.simulate`, all of its observations.
    least_ice : float
        Only observations with more true ice than this count.

    Returns
    -------
    xarray.Dataset
        ``bias`` and ``rmse``, (sensor, channel).
    """
    seen_by = observations.instruments
    shape = (len(seen_by.sensors), len(seen_by.channels))
    bias, rmse = np.full(shape, np.nan), np.full(shape, np.nan)
    sensor_of = np.asarray(observations.index[:, 2])
    for row, sensor in enumerate(seen_by.sensors):
        at = np.flatnonzero(sensor_of == row)
        ice = truth[f"sic_at_obs_{sensor}"].values > least_ice
        if not ice.any():
            continue
        known = truth[f"ice_emissivity_{sensor}"].values[ice]
        made = []
        for first in range(0, int(ice.sum()), CHUNK):
            with torch.no_grad():
                part = read_batch(observations, at[ice][first : first + CHUNK])
                made.append(model.simulate_batch(part).ice_emissivity.numpy())
        error = (
            np.concatenate(made)[:, list(seen_by.positions[row])]
            - known[:, -len(seen_by.positions[row]) :]
        )
        bias[row, list(seen_by.positions[row])] = error.mean(0)
        rmse[row, list(seen_by.positions[row])] = np.sqrt((error**2).mean(0))
    return xr.Dataset(
        {"bias": (("sensor", "channel"), bias, {"units": "1"}),
         "rmse": (("sensor", "channel"), rmse, {"units": "1"})},
        coords={"sensor": list(seen_by.sensors), "channel": list(seen_by.channels)},
    )  # fmt: skip


def report(model, table, history=None):
    """A short text: fit by channel, range of concentration, terms of the cost.

    Parameters
    ----------
    model : EmpiricalState
    table : xarray.Dataset
        From :func:`departures`, or "after" in ``departures_<tag>.nc``.
    history : pandas.DataFrame, optional

    Returns
    -------
    str
    """
    lines = ["sensor     channel    count  bias [K]  rms [K]  cost"]
    for sensor in table.sensor.values:
        for channel in table.channel.values:
            row = table.sel(sensor=sensor, channel=channel)
            if row["count"] > 0:
                lines.append(
                    f"{sensor:10s} {channel:8s} {int(row['count']):7d} {float(row.bias):9.2f} "
                    f"{float(row.rms):8.2f} {float(row.cost):5.2f}"
                )
    sea_ice = sea_ice_maps(model)
    lines.append(f"concentration from {sea_ice.min():.3f} to {sea_ice.max():.3f}")
    if history is not None and len(history):
        last = history.iloc[-1]
        known = {name: value for name, value in last.items() if isinstance(value, float)}
        lines.append(", ".join(f"{name} {value:.4g}" for name, value in known.items()))
    return "\n".join(lines)
