"""Published files that are derived from a state: simulations, departures and gridded maps.

The state itself is in other files (:mod:`~seaice_lab.emissivity.state_files`).
"""

from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from seaice_lab import files, metadata, progress
from seaice_lab.emissivity import evaluation, state_files
from seaice_lab.emissivity.evaluation import SIMULATION_CHUNK, DepartureStatistics
from seaice_lab.emissivity.export import EmissivityModel
from seaice_lab.emissivity.observations import TB, read_batch
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.state_files import ATTRIBUTES, write_file


def write_simulations(model, initial, observations, folder, tag, departures_only=False, show=True):
    """Write simulated brightness temperatures, the emissivity of the ice, and the departures.

    Parameters
    ----------
    model, initial : EmpiricalState
        After and before the training.
    observations : Observations
    folder : str or Path
    tag : str
    departures_only : bool
        Whether to write the small file of departures only.
    show : bool
        Show progress.

    Returns
    -------
    dict of str to Path
        ``tbobs``, ``tbsim``, ``tbzero`` (without ice), ``ice_emis`` and ``tbsim_initial``: files
        ``<name>_<tag>.nc`` of (iobs, channel), NaN where a sensor lacks the channel; and
        ``departures`` with the variables of :meth:`DepartureStatistics.table`, of which all but
        ``count`` have a first dimension ``stage``: "before" and "after" the training.
    """
    names = ("tbobs", "tbsim", "tbzero", "ice_emis", "tbsim_initial")
    paths = {} if departures_only else {name: Path(folder, f"{name}_{tag}.nc") for name in names}
    before, after = (DepartureStatistics(observations.instruments) for _ in range(2))
    with progress.bar(model.size, f"simulate {tag}", "obs", show=show) as bar, ExitStack() as stack:
        variables = {
            name: stack.enter_context(_observation_file(path, observations, name))
            for name, path in paths.items()
        }
        for first in range(0, model.size, SIMULATION_CHUNK):
            rows = slice(first, min(first + SIMULATION_CHUNK, model.size))
            batch = read_batch(observations, np.arange(rows.start, rows.stop))
            values = simulate_batch(model, batch)
            values["tbsim_initial"] = simulate_batch(initial, batch)["tbsim"]
            for statistics, name in ((before, "tbsim_initial"), (after, "tbsim")):
                statistics.add(batch.index[:, 2].numpy(), values["tbobs"] - values[name])
            for name, variable in variables.items():
                variable[rows] = values[name]
            bar.update(rows.stop - rows.start)
    attributes = {"long_name": "Before or after the training"}
    stage = xr.DataArray(["before", "after"], dims="stage", name="stage", attrs=attributes)
    tables = [before.table(), after.table()]
    by_stage = [name for name in tables[0] if name != "count"]  # the counts are equal
    dataset = xr.concat(tables, stage, data_vars=by_stage, coords="minimal", compat="override")
    return paths | {"departures": write_file(folder, "departures", tag, dataset)}


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
    simulated = model.simulate_batch(batch)
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
        "lon": observations.longitude[point],
        "lat": observations.latitude[point],
        "julian_day": observations.julian_day,
        "igrid": point,
        "istep": step,
        "isensor": sensor,
        "channel_name": np.array(observations.instruments.channels, object),
    }
    variables = {
        key: (values.dtype, ("iobs",), ATTRIBUTES[key])
        for key, values in coordinates.items()
        if key in ATTRIBUTES
    }
    variables["channel_name"] = (str, ("channel",), {})
    variable = "ice_emis" if name == "ice_emis" else "tb"
    missing = {"_FillValue": np.nan}
    variables[variable] = ("f4", ("iobs", "channel"), ATTRIBUTES[variable] | missing)
    sizes = {"iobs": observations.size, "channel": len(coordinates["channel_name"])}
    positions = {"lat": ("grid", observations.latitude), "lon": ("grid", observations.longitude)}
    attributes = metadata.file_attributes(path.stem, "seaice_lab", "emissivity")
    attributes |= metadata.coverage(xr.Dataset(positions))
    storage = {"zlib": True, "complevel": 1}
    with files.create_netcdf(path, sizes, variables, attributes, **storage) as file:
        for key, values in coordinates.items():
            file[key][:] = values
        yield file[variable]


def emissivity_grid(model, observations):
    """Daily maps of concentration, properties and emissivity of the ice.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations

    Returns
    -------
    xarray.Dataset
        ``sea_ice_concentration``, from 0 to 1, ``sea_ice_first_guess`` and ``tsfc_norm`` (step,
        grid), ``properties`` (step, grid, prop), ``sea_ice_emissivity`` (step, grid, channel) for
        the frequencies of the first sensor at a zenith angle of 55 degrees, without the properties
        of single observations; ``lon``, ``lat``, ``time_start``, ``time_end``, ``channel_name``,
        ``frequency``.
    """
    instruments = observations.instruments
    emissivity_of = EmissivityModel.from_state(model, observations).for_channels
    skin = torch.from_numpy(observations.skin_temperature_map)
    properties = evaluation.property_maps(model)
    of_observation = torch.zeros(model.points, model.config.n_observation_properties)
    emissivity = np.empty((model.days, model.points, len(instruments.channels)), "float32")
    with torch.no_grad():
        for day in range(model.days):
            inputs = torch.cat([torch.from_numpy(properties[day]), of_observation], 1)
            emissivity[day] = emissivity_of(skin[:, day], inputs, instruments.channels)
    dims, sea_ice = ("step", "grid"), evaluation.sea_ice_maps(model)[:, model.lags :].T
    start = observations.step_days - 0.125
    variables = {
        # the published cost allows concentrations that are slightly outside
        "sea_ice_concentration": (dims, sea_ice.clip(0, 1)),
        "sea_ice_first_guess": (dims, observations.sea_ice_first_guess[:, model.lags :].T),
        "tsfc_norm": (dims, skin_temperature_index(skin).T.numpy()),
        "properties": ((*dims, "prop"), properties),
        "sea_ice_emissivity": ((*dims, "channel"), emissivity),
        "lon": ("grid", observations.longitude),
        "lat": ("grid", observations.latitude),
        "time_start": ("step", start),
        "time_end": ("step", start + 1),
        "channel_name": ("channel", list(instruments.channels)),
        "frequency": ("channel", instruments.frequency_ghz[0]),
    }
    return state_files.published_dataset(variables)


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
