"""What a state makes of the observations, as published files: simulations and gridded maps.

The state itself stands in other files (:mod:`~seaice_lab.emissivity.state_files`).
"""

from contextlib import ExitStack
from pathlib import Path

import netCDF4
import numpy as np
import torch
import xarray as xr

from seaice_lab import files, progress
from seaice_lab.emissivity.departures import Departures, write_departures
from seaice_lab.emissivity.observations import TB, read_batch
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.state_files import (
    EPOCH,
    LATITUDE,
    LONGITUDE,
    ONE,
    global_attributes,
    write_file,
)

CHUNK = 50_000  # observations simulated together
KELVIN = {"standard_name": "brightness_temperature", "units": "K"}
EMISSIVITY = {"long_name": "Emissivity of the ice", "units": "1"}


def write_simulations(
    model, observations, folder, tag, initial=None, show=True, departures_only=False
):
    """Write simulated brightness temperatures, the emissivity of the ice, and the departures.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    folder : str or Path
    tag : str
    initial : EmpiricalState, optional
        The model before the training, for ``tbsim_initial_<tag>.nc`` and the departures before.
    show : bool
        Show progress.
    departures_only : bool
        Whether to write the small file of departures alone.

    Returns
    -------
    list of Path
        ``tbobs_``, ``tbsim_``, ``tbzero_`` (with no ice), ``ice_emis_`` and, with ``initial``,
        ``tbsim_initial_``; all (iobs, channel), NaN where a sensor lacks the channel. Last
        ``departures_`` (:mod:`~seaice_lab.emissivity.departures`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    after = Departures(observations.instruments)
    before = None if initial is None else Departures(observations.instruments)
    wanted = {"tbobs": ("tb", KELVIN), "tbsim": ("tb", KELVIN), "tbzero": ("tb", KELVIN),
              "ice_emis": ("ice_emis", EMISSIVITY)}  # fmt: skip
    if initial is not None:
        wanted["tbsim_initial"] = wanted["tbsim"]
    wanted = {} if departures_only else wanted
    paths = [folder / f"{name}_{tag}.nc" for name in wanted]
    with progress.bar(model.size, f"simulate {tag}", "obs", show=show) as bar:
        with ExitStack() as stack:
            sinks = {}
            for (name, (variable, attrs)), path in zip(wanted.items(), paths, strict=True):
                temporary = stack.enter_context(files.replacing(path))
                sinks[name] = stack.enter_context(
                    _Table(temporary, path, variable, attrs, observations)
                )
            for first in range(0, model.size, CHUNK):
                there = np.arange(first, min(first + CHUNK, model.size))
                batch = read_batch(observations, there)
                values, sensor = simulate_batch(model, batch), batch.index[:, 2].numpy()
                after.add(sensor, values["tbobs"] - values["tbsim"])
                if initial is not None:
                    values["tbsim_initial"] = simulate_batch(initial, batch)["tbsim"]
                    before.add(sensor, values["tbobs"] - values["tbsim_initial"])
                for name, sink in sinks.items():
                    sink[there[0] : there[-1] + 1] = values[name]
                bar.update(len(there))
    return [*paths, write_departures(folder, tag, after, before)]


@torch.no_grad()
def simulate_batch(model, batch):
    """Arrays (observation, channel) of a Batch: tbobs, tbsim, tbzero, ice_emis, NaN if absent."""
    days, properties = model.look_up(batch)
    simulated = model.simulate(model.mixture(days), properties, *batch[1:])
    zero = model.mix(0 * simulated.ice_fraction, simulated.ice_emissivity, *batch[1:])
    absent = batch.channels[:, TB].isnan()
    made = {
        "tbobs": batch.channels[:, TB], "tbsim": simulated.brightness_temperature,
        "tbzero": zero,
    }  # fmt: skip
    made = {name: value.masked_fill(absent, torch.nan).numpy() for name, value in made.items()}
    return made | {"ice_emis": simulated.ice_emissivity.numpy()}


class _Table:
    """A file (iobs, channel), open for writing slice by slice."""

    def __init__(self, path, final, variable, attrs, observations):
        self.file = netCDF4.Dataset(path, "w")
        self.file.setncatts(global_attributes(final.stem))
        self.file.createDimension("iobs", observations.size)
        self.file.createDimension("channel", len(observations.instruments.channels))
        self.table = self.file.createVariable(
            variable, "f4", ("iobs", "channel"), zlib=True, complevel=1, fill_value=np.nan
        )
        self.table.setncatts(attrs)
        point = observations.index[:, 0]
        for name, kind, values, about in (
            ("lon", "f4", observations.longitude[point], LONGITUDE),
            ("lat", "f4", observations.latitude[point], LATITUDE),
            ("julian_day", "f8", observations.julian_day, EPOCH),
            ("igrid", "i4", point, {"long_name": "Grid point", **ONE}),
            ("istep", "i4", observations.index[:, 1], {"long_name": "Step", **ONE}),
            ("isensor", "i4", observations.index[:, 2], {"long_name": "Sensor", **ONE}),
        ):
            column = self.file.createVariable(name, kind, ("iobs",), zlib=True, complevel=1)
            column.setncatts(about)
            column[:] = values
        channel = self.file.createVariable("channel_name", str, ("channel",))
        channel[:] = np.array(observations.instruments.channels, object)

    def __enter__(self):
        return self.table

    def __exit__(self, *_):
        self.file.close()


def emissivity_grid(model, observations):
    """Daily maps of concentration, properties and the ice's emissivity.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations

    Returns
    -------
    xarray.Dataset
        ``sea_ice_concentration``, ``sea_ice_first_guess`` and ``tsfc_norm`` (step, grid),
        ``properties`` (step, grid, prop), ``sea_ice_emissivity`` (step, grid, channel) of the
        first sensor's channels seen at 55 degrees, with no property of a single observation;
        ``lon``, ``lat``, ``time_start``, ``time_end``, ``channel_name``, ``frequency``.
    """
    seen_by = observations.instruments
    days, points, channels = model.days, model.points, len(seen_by.channels)
    skin = torch.from_numpy(observations.skin_temperature_map)
    vertical = torch.tensor(seen_by.vertical).float()[None]
    frequency = torch.tensor(seen_by.frequency_ghz[0]).float()[None]
    emissivity = np.empty((days, points, channels), "float32")
    cold = skin_temperature_index(skin)
    gridded = model.cells("properties").detach().unflatten(0, (-1, points))
    own = torch.zeros(points, model.config.n_observation_properties)
    with torch.no_grad():
        for day in range(days):
            emissivity[day] = model.network(
                cold[:, day, None], torch.cat([gridded[day], own], 1), frequency, vertical,
                torch.full((points, 1), 55.0),
            )  # fmt: skip
    sea_ice = model.cells("sea_ice").detach().reshape(-1, points)[model.lags :].numpy()
    first_guess = observations.sea_ice_first_guess[:, model.lags :].T
    start = observations.step_days - 0.125
    return xr.Dataset({
        "sea_ice_concentration": (("step", "grid"), sea_ice,
                                  {"standard_name": "sea_ice_area_fraction", "units": "1"}),
        "sea_ice_first_guess": (("step", "grid"), first_guess,
                                {"standard_name": "sea_ice_area_fraction", "units": "1",
                                 "long_name": "Concentration that the training began with"}),
        "tsfc_norm": (("step", "grid"), cold.T.numpy(),
                      {"long_name": "Skin-temperature index, max(273 K - T, 0) / 30 K", **ONE}),
        "properties": (("step", "grid", "prop"), gridded.numpy(),
                       {"long_name": "Empirical properties of the ice", "units": "1"}),
        "sea_ice_emissivity": (("step", "grid", "channel"), emissivity, EMISSIVITY),
        "lon": ("grid", observations.longitude, LONGITUDE),
        "lat": ("grid", observations.latitude, LATITUDE),
        "time_start": ("step", start, EPOCH), "time_end": ("step", start + 1, EPOCH),
        "channel_name": ("channel", list(seen_by.channels)),
        "frequency": ("channel", seen_by.frequency_ghz[0],
                      {"long_name": "Frequency of the channel", "units": "GHz"}),
    })  # fmt: skip


def write_grid(model, observations, folder, tag):
    """Write :func:`emissivity_grid` to ``emissivity_grid_<tag>.nc``; returns the path."""
    made = emissivity_grid(model, observations)
    return write_file(Path(folder), "emissivity_grid", tag, made.variables)
