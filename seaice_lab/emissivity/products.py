"""Published files that are derived from a state: simulations, departures and gridded maps.

The state itself is in other files (:mod:`~seaice_lab.emissivity.state_files`).
"""

from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from seaice_lab import files, progress
from seaice_lab.emissivity.evaluation import (
    SIMULATION_CHUNK,
    DepartureStatistics,
    property_maps,
    sea_ice_maps,
)
from seaice_lab.emissivity.observations import TB, read_batch
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG
from seaice_lab.emissivity.state_files import (
    CONCENTRATION,
    DIMENSIONLESS,
    JULIAN_DAY,
    LATITUDE,
    LONGITUDE,
    PROPERTIES,
    global_attributes,
    write_file,
)

BRIGHTNESS_TEMPERATURE = {"standard_name": "brightness_temperature", "units": "K"}
ICE_EMISSIVITY = {"long_name": "Emissivity of the ice", "units": "1"}


def write_simulations(
    model, observations, folder, tag, initial=None, departures_only=False, show=True
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
    departures_only : bool
        Whether to write the small file of departures only.
    show : bool
        Show progress.

    Returns
    -------
    dict of str to Path
        ``tbobs``, ``tbsim``, ``tbzero`` (without ice), ``ice_emis`` and, with ``initial``,
        ``tbsim_initial``: files ``<name>_<tag>.nc`` of (iobs, channel), NaN where a sensor lacks
        the channel; and ``departures`` (:func:`write_departures`).
    """
    folder = Path(folder)
    names = ["tbobs", "tbsim", "tbzero", "ice_emis"] + ["tbsim_initial"] * (initial is not None)
    paths = {} if departures_only else {name: folder / f"{name}_{tag}.nc" for name in names}
    after = DepartureStatistics(observations.instruments)
    before = None if initial is None else DepartureStatistics(observations.instruments)
    with progress.bar(model.size, f"simulate {tag}", "obs", show=show) as bar, ExitStack() as stack:
        variables = {
            name: stack.enter_context(_observation_file(path, observations, name))
            for name, path in paths.items()
        }
        for first in range(0, model.size, SIMULATION_CHUNK):
            rows = slice(first, min(first + SIMULATION_CHUNK, model.size))
            batch = read_batch(observations, np.arange(rows.start, rows.stop))
            sensor, values = batch.index[:, 2].numpy(), simulate_batch(model, batch)
            after.add(sensor, values["tbobs"] - values["tbsim"])
            if initial is not None:
                values["tbsim_initial"] = simulate_batch(initial, batch)["tbsim"]
                before.add(sensor, values["tbobs"] - values["tbsim_initial"])
            for name, variable in variables.items():
                variable[rows] = values[name]
            bar.update(rows.stop - rows.start)
    return paths | {"departures": write_departures(folder, tag, after, before)}


@torch.no_grad()
def simulate_batch(model, batch):
    """Simulate some observations.

    Parameters
    ----------
    model : EmpiricalState
    batch : Batch

    Returns
    -------
    dict of str to ndarray (observation, channel)
        ``tbobs``, ``tbsim``, ``tbzero`` and ``ice_emis`` as in :func:`write_simulations`.
    """
    days, properties = model.map_values(batch)
    simulated = model.simulate(model.mixture(days), properties, *batch[1:])
    without_ice = model.mix(0 * simulated.ice_fraction, simulated.ice_emissivity, *batch[1:])
    observed = batch.channels[:, TB]
    missing = observed.isnan()
    return {
        "tbobs": observed.numpy(),
        "tbsim": simulated.brightness_temperature.masked_fill(missing, torch.nan).numpy(),
        "tbzero": without_ice.masked_fill(missing, torch.nan).numpy(),
        "ice_emis": simulated.ice_emissivity.numpy(),
    }


@contextmanager
def _observation_file(path, observations, name):
    """Create a file of (iobs, channel) and the observations' coordinates; yields its variable."""
    point, step, sensor = np.asarray(observations.index).T
    coordinates = {
        "lon": ("f4", observations.longitude[point], LONGITUDE),
        "lat": ("f4", observations.latitude[point], LATITUDE),
        "julian_day": ("f8", observations.julian_day, JULIAN_DAY),
        "igrid": ("i4", point, {"long_name": "Grid point", **DIMENSIONLESS}),
        "istep": ("i4", step, {"long_name": "Step", **DIMENSIONLESS}),
        "isensor": ("i4", sensor, {"long_name": "Sensor", **DIMENSIONLESS}),
    }
    variable, attributes = (
        ("ice_emis", ICE_EMISSIVITY) if name == "ice_emis" else ("tb", BRIGHTNESS_TEMPERATURE)
    )
    variables = {
        variable: ("f4", ("iobs", "channel"), attributes | {"_FillValue": np.nan}),
        "channel_name": (str, ("channel",), {}),
    }
    variables |= {key: (dtype, ("iobs",), attrs) for key, (dtype, _, attrs) in coordinates.items()}
    channels = observations.instruments.channels
    sizes = {"iobs": observations.size, "channel": len(channels)}
    options = {"zlib": True, "complevel": 1}
    with files.create_netcdf(
        path, sizes, variables, global_attributes(path.stem), **options
    ) as file:
        file["channel_name"][:] = np.array(channels, object)
        for key, (_, values, _) in coordinates.items():
            file[key][:] = values
        yield file[variable]


def write_departures(folder, tag, after, before=None):
    """Write ``departures_<tag>.nc``.

    The file has the variables of :meth:`DepartureStatistics.table`, all but ``count`` with a first
    dimension ``stage``: "before" (if given) and "after".

    Parameters
    ----------
    folder : str or Path
    tag : str
    after, before : DepartureStatistics
        Of the trained state, and of the state before the training.

    Returns
    -------
    Path
    """
    tables = {} if before is None else {"before": before.table()}
    tables["after"] = after.table()
    attributes = {"long_name": "Before or after the training"}
    stage = xr.DataArray(list(tables), dims="stage", name="stage", attrs=attributes)
    dataset = xr.concat(
        [table.drop_vars("count") for table in tables.values()],
        stage,
        data_vars="all",
        coords="minimal",
        compat="override",
    )
    return write_file(folder, "departures", tag, dataset.assign(count=tables["after"]["count"]))


def emissivity_grid(model, observations):
    """Daily maps of concentration, properties and emissivity of the ice.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations

    Returns
    -------
    xarray.Dataset
        ``sea_ice_concentration``, ``sea_ice_first_guess`` and ``tsfc_norm`` (step, grid),
        ``properties`` (step, grid, prop), ``sea_ice_emissivity`` (step, grid, channel) for the
        frequencies of the first sensor at a zenith angle of 55 degrees, without the properties of
        single observations; ``lon``, ``lat``, ``time_start``, ``time_end``, ``channel_name``,
        ``frequency``.
    """
    instruments = observations.instruments
    days, points = model.days, model.points
    vertical = torch.tensor(instruments.vertical).float()[None]
    frequency = torch.tensor(instruments.frequency_ghz[0]).float()[None]
    skin_index = skin_temperature_index(torch.from_numpy(observations.skin_temperature_map))
    properties = property_maps(model)
    of_observation = torch.zeros(points, model.config.n_observation_properties)
    zenith = torch.full((points, 1), CONICAL_ZENITH_DEG)
    emissivity = np.empty((days, points, len(instruments.channels)), "float32")
    with torch.no_grad():
        for day in range(days):
            inputs = torch.cat([torch.from_numpy(properties[day]), of_observation], 1)
            emissivity[day] = model.network(
                skin_index[:, day, None], inputs, frequency, vertical, zenith
            )
    sea_ice = sea_ice_maps(model)[:, model.lags :].T
    first_guess = observations.sea_ice_first_guess[:, model.lags :].T
    start = observations.step_days - 0.125
    map_dims = ("step", "grid")
    return xr.Dataset(
        {
            "sea_ice_concentration": (map_dims, sea_ice, CONCENTRATION),
            "sea_ice_first_guess": (
                map_dims,
                first_guess,
                {**CONCENTRATION, "long_name": "Concentration that the training began with"},
            ),
            "tsfc_norm": (
                map_dims,
                skin_index.T.numpy(),
                {"long_name": "Skin-temperature index, max(273 K - T, 0) / 30 K", "units": "1"},
            ),
            "properties": ((*map_dims, "prop"), properties, PROPERTIES),
            "sea_ice_emissivity": ((*map_dims, "channel"), emissivity, ICE_EMISSIVITY),
            "lon": ("grid", observations.longitude, LONGITUDE),
            "lat": ("grid", observations.latitude, LATITUDE),
            "time_start": ("step", start, JULIAN_DAY),
            "time_end": ("step", start + 1, JULIAN_DAY),
            "channel_name": ("channel", list(instruments.channels)),
            "frequency": (
                "channel",
                instruments.frequency_ghz[0],
                {"long_name": "Frequency of the channel", "units": "GHz"},
            ),
        }
    )


def write_grid(model, observations, folder, tag):
    """Write :func:`emissivity_grid` to ``emissivity_grid_<tag>.nc``.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    folder : str or Path
    tag : str

    Returns
    -------
    Path
    """
    return write_file(folder, "emissivity_grid", tag, emissivity_grid(model, observations))
