"""Departures: observed minus simulated brightness temperature, by sensor and channel, in a file."""

from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import files
from seaice_lab.emissivity.state_files import global_attributes

BIN_K, FAR_K = 0.5, 30.0  # width of the histogram's bins, and where it ends on both sides
EDGES_K = np.linspace(-FAR_K, FAR_K, round(2 * FAR_K / BIN_K) + 1)
POLARISATIONS = {"v": "vertical", "h": "horizontal"}


class Departures:
    """Sums over departures that come piece by piece.

    Parameters
    ----------
    instruments : Instruments
    """

    def __init__(self, instruments):
        self.instruments = instruments
        shape = (len(instruments.sensors), len(instruments.channels))
        self.count, self.histogram = np.zeros(shape, int), np.zeros((*shape, len(EDGES_K) - 1), int)
        self.total, self.square = np.zeros(shape), np.zeros(shape)

    def add(self, sensor, difference):
        """Count some observations.

        Parameters
        ----------
        sensor : ndarray of int (observation,)
        difference : ndarray (observation, channel)
            Observed minus simulated, K; NaN where missing.
        """
        bins = self.histogram.shape[2]
        for row in np.unique(sensor):
            values = difference[sensor == row].astype("float64")
            there = np.isfinite(values)
            self.count[row] += there.sum(0)
            self.total[row] += values.sum(0, where=there)
            self.square[row] += np.square(values).sum(0, where=there)
            channel = np.nonzero(there)[1]
            place = np.floor((values[there] + FAR_K) / BIN_K)
            inside = (place >= 0) & (place < bins)
            place = channel[inside] * bins + place[inside].astype(int)
            counted = np.bincount(place, minlength=self.histogram[row].size)
            self.histogram[row] += counted.reshape(-1, bins)

    def table(self):
        """What the departures are like.

        Returns
        -------
        xarray.Dataset
            ``bias``, ``std`` and ``rms`` (K) and ``count``, (sensor, channel), NaN and 0 where a
            sensor lacks a channel; ``cost``, the mean squared departure in units of the assigned
            error; ``histogram`` (sensor, channel, bin), counts in bins of 0.5 K from -30 to 30 K.
            Coordinates: ``sensor``, ``channel``, ``polarisation`` (channel), ``frequency`` (sensor,
            channel; GHz), ``bin`` (K, middle) and ``bin_bounds``.
        """
        count = np.where(self.count > 0, self.count, np.nan)
        bias, rms = self.total / count, np.sqrt(self.square / count)
        seen_by, both = self.instruments, ("sensor", "channel")
        return xr.Dataset(
            {
                "count": (both, self.count, {"long_name": "Number of observations", "units": "1"}),
                "bias": (both, bias, {"long_name": "Mean departure", "units": "K"}),
                "std": (both, np.sqrt(np.maximum(rms**2 - bias**2, 0)),
                        {"long_name": "Standard deviation of departures", "units": "K"}),
                "rms": (both, rms, {"long_name": "Root-mean-square departure", "units": "K"}),
                "cost": (both, (rms / seen_by.error_k) ** 2,
                         {"long_name": "Squared departure over squared error", "units": "1"}),
                "histogram": ((*both, "bin"), self.histogram,
                              {"long_name": "Number of departures in a bin", "units": "1"}),
            },
            coords={
                "sensor": ("sensor", list(seen_by.sensors), {"long_name": "Sensor"}),
                "channel": ("channel", list(seen_by.channels), {"long_name": "Channel"}),
                "polarisation": ("channel", [POLARISATIONS[name[-1]] for name in seen_by.channels],
                                 {"long_name": "Polarisation (cross-track: at nadir)"}),
                "frequency": (both, seen_by.frequency_ghz,
                              {"long_name": "Frequency of the channel", "units": "GHz"}),
                "bin": ("bin", (EDGES_K[:-1] + EDGES_K[1:]) / 2,
                        {"long_name": "Observed minus simulated brightness temperature",
                         "units": "K", "bounds": "bin_bounds"}),
                "bin_bounds": (("bin", "bound"), np.stack([EDGES_K[:-1], EDGES_K[1:]], 1)),
            },
        )  # fmt: skip


def write_departures(folder, tag, after, before=None):
    """Write ``departures_<tag>.nc``; returns its path.

    Parameters
    ----------
    folder : str or Path
    tag : str
    after, before : Departures
        Of the trained state, and of the one that the training began with.

    Notes
    -----
    All as in :meth:`Departures.table`, but ``count``, with a first dimension ``stage``: "before"
    (where it is known) and "after".
    """
    stages = {"before": before, "after": after}
    stages = {name: found.table() for name, found in stages.items() if found is not None}
    stage = xr.DataArray(list(stages), dims="stage", name="stage",
                         attrs={"long_name": "Before or after the training"})  # fmt: skip
    count = stages["after"]["count"]
    parts = [table.drop_vars("count") for table in stages.values()]
    whole = xr.concat(parts, stage, data_vars="all", coords="minimal", compat="override")
    path = Path(folder) / f"departures_{tag}.nc"
    whole = whole.assign(count=count).assign_attrs(global_attributes(path.stem))
    files.write_netcdf(path, whole)
    return path
