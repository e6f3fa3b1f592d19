"""The published set of output files, complete and CF: state, network, simulations, gridded maps.

Names and dimensions are those that a user of the published systems expects (``seaice_<tag>.nc``,
``models_<tag>.nc`` ...). Other than published, the days before the first and the weights of every
network are kept, and all files carry units, positions and times. Files of the published systems can
be read as well.
"""

from contextlib import ExitStack
from pathlib import Path

import netCDF4
import numpy as np
import torch
import xarray as xr

from seaice_lab import names, progress, runs
from seaice_lab.emissivity.model import EmpiricalState, ModelConfig
from seaice_lab.emissivity.observations import TB
from seaice_lab.emissivity.physics import skin_temperature_index
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.emissivity.train import read_batch
from seaice_lab.errors import InputError

CHUNK = 50_000  # observations simulated together
EPOCH = {"units": "days since -4713-11-24 12:00:00", "calendar": "proleptic_gregorian",
         "standard_name": "time", "long_name": "Astronomical Julian day"}  # fmt: skip
LATITUDE = {"standard_name": "latitude", "units": "degrees_north"}
LONGITUDE = {"standard_name": "longitude", "units": "degrees_east"}
ONE = {"units": "1"}
KELVIN = {"standard_name": "brightness_temperature", "units": "K"}
EMISSIVITY = {"long_name": "Emissivity of the ice", "units": "1"}
TERMS = {"train_loss": "loss", "train_emissivity": "emis_loss", "sea_ice": "seaice_loss",
         "skin_temperature": "tsfc_loss", "train_bias": "bias_loss"}  # fmt: skip


def write_state(model, observations, folder, tag, history=None):
    """Write concentration, properties, network and biases.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    folder : str or Path
    tag : str
    history : pandas.DataFrame, optional
        From :func:`seaice_lab.emissivity.train.train`.

    Returns
    -------
    list of Path
        ``seaice_<tag>.nc``, ``properties_grid_<tag>.nc`` (version 1: ``properties_<tag>.nc``),
        ``properties_obs_<tag>.nc`` where observations have properties of their own, and
        ``models_<tag>.nc``.
    """
    folder, version = Path(folder), model.config.version
    place = {"lon": ("grid", observations.longitude, LONGITUDE),
             "lat": ("grid", observations.latitude, LATITUDE)}  # fmt: skip
    step = np.arange(-model.lags, model.days)
    sea_ice = model.cells("sea_ice").detach().reshape(-1, model.points).T.numpy()
    written = [_write(folder, "seaice", tag, {
        "seaice": (("grid", "lagstep"), sea_ice,
                   {"standard_name": "sea_ice_area_fraction", "units": "1"}),
        "julian_day": ("lagstep", observations.first_julian_day + step, EPOCH),
        "lagstep": ("lagstep", step.astype("int32"), {"long_name": "Day from step 0", **ONE}),
    } | place)]  # fmt: skip
    gridded = model.cells("properties").detach().unflatten(0, (-1, model.points)).transpose(0, 1)
    meaning = {"long_name": "Empirical properties of the ice", "units": "1"}
    name = "properties" if version == 1 else "properties_grid"
    written.append(_write(folder, name, tag, {
        "properties": (("grid", "step", "prop"), gridded.numpy(), meaning),
        "julian_day": ("step", observations.step_days, EPOCH),
    } | place))  # fmt: skip
    own = model.cells("observation_properties").detach()
    if own.shape[1]:
        content = {"properties": (("iobs", "prop"), own.numpy(), meaning)}
        written.append(_write(folder, "properties_obs", tag, content))
    written.append(_write(folder, "models", tag, _describe(model, observations, history)))
    return written


def _describe(model, observations, history):
    """Settings, weights and history under the published names."""
    config, seen_by = model.config, observations.instruments
    two = config.version == 2

    def one(value):
        return ("one", [value], ONE)

    def array(value):
        return value.detach().numpy()

    content = {
        "nchannels": one(len(seen_by.channels)), "nsensors": one(len(seen_by.sensors)),
        "ngrid": one(model.points), "nstep": one(model.days), "nlag": one(model.lags),
        "nobs": one(model.size), "alpha": ("alphas", list(config.lag_weights), ONE),
        "bg_error_seaice": one(config.sea_ice_error), "bg_error_emis": one(config.emissivity_error),
        "bg_error_bias": ("sensor", array(model.bias_error)[:, 0], {"units": "K"}),
        "channel_name": ("channel", list(seen_by.channels)),
        "sensor_name": ("sensor", list(seen_by.sensors)),
        "frequency": (("sensor", "channel"), seen_by.frequency_ghz, {"units": "GHz"}),
        "ocean_emis_bias": ("channel", array(model.wind_sensitivity), {"units": "s m-1"}),
    }  # fmt: skip
    bias = array(model.bias_k)
    network = model.network
    if two:
        content |= {
            "nprop_grid": one(config.n_properties),
            "nprop_obs": one(config.n_observation_properties), "width_nn": one(config.width),
            "npol": one(2), "background_emis": one(model.lowest),
            "loss_channel_emis": one(model.anchor),
            "background_bias": (("area", "sensor"), array(model.bias_background)[..., 0],
                                {"units": "K"}),
            "tb_bias": (("biases", "sensors", "channel"), bias,
                        {"units": "K", "comment": "row 0 ice, row 1 ocean"}),
        }  # fmt: skip
    else:
        content |= {
            "nprop": one(config.n_properties), "use_nn": one(int(config.network != "linear")),
            "nlayers_nn": one(config.layers),
            "tb_bias": (("channel", "biases"), np.stack([bias[OCEAN, 0], bias[ICE, 0]], 1),
                        {"units": "K", "comment": "row 0 ocean, row 1 ice"}),
        }  # fmt: skip
    if config.network == "linear":
        content["ice_coefs"] = (("in", "channel"), array(network.weight), ONE)
        content["ice_emis"] = ("channel", array(network.constant), ONE)
    else:
        layers = [part for part in network.modules() if isinstance(part, torch.nn.Linear)]
        for number, layer in enumerate(layers, 1):
            here, there = f"width{number - 1}" if number > 1 else "in", f"width{number}"
            there = "out" if number == len(layers) else there
            content[f"emis_layer{number}_weights"] = ((here, there), array(layer.weight.T), ONE)
            content[f"emis_layer{number}_biases"] = (there, array(layer.bias), ONE)
    if history is not None:
        for ours, theirs in TERMS.items():
            content[theirs] = ("epoch", history[ours].to_numpy("float64"), ONE)
    return content


def write_simulations(model, observations, folder, tag, initial=None, show=True):
    """Write observed and simulated brightness temperatures and the emissivity of the ice.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    folder : str or Path
    tag : str
    initial : EmpiricalState, optional
        The model before the training, for ``tbsim_initial_<tag>.nc``.
    show : bool
        Show progress.

    Returns
    -------
    list of Path
        ``tbobs_``, ``tbsim_``, ``tbzero_`` (with no ice), ``ice_emis_`` and, with ``initial``,
        ``tbsim_initial_``; all (iobs, channel), NaN where a sensor lacks the channel.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"tbobs": ("tb", KELVIN), "tbsim": ("tb", KELVIN), "tbzero": ("tb", KELVIN),
              "ice_emis": ("ice_emis", EMISSIVITY)}  # fmt: skip
    if initial is not None:
        wanted["tbsim_initial"] = wanted["tbsim"]
    paths = [folder / f"{name}_{tag}.nc" for name in wanted]
    with progress.bar(model.size, f"simulate {tag}", "obs", show=show) as bar:
        with ExitStack() as stack:
            sinks = {}
            for (name, (variable, attrs)), path in zip(wanted.items(), paths, strict=True):
                temporary = stack.enter_context(runs.replacing(path))
                sinks[name] = stack.enter_context(
                    _Table(temporary, path, variable, attrs, observations)
                )
            for first in range(0, model.size, CHUNK):
                there = np.arange(first, min(first + CHUNK, model.size))
                values = simulate_batch(model, read_batch(observations, there))
                if initial is not None:
                    made = simulate_batch(initial, read_batch(observations, there))
                    values["tbsim_initial"] = made["tbsim"]
                for name, sink in sinks.items():
                    sink[there[0] : there[-1] + 1] = values[name]
                bar.update(len(there))
    return paths


@torch.no_grad()
def simulate_batch(model, batch):
    """Arrays (observation, channel) of a Batch: tbobs, tbsim, tbzero, ice_emis, NaN if absent."""
    days, properties = model.look_up(batch)
    simulated = model.simulate(model.mixture(days), properties, *batch[1:])
    zero = model.simulate(0 * model.mixture(days), properties, *batch[1:])
    absent = batch.channels[:, TB].isnan()
    made = {
        "tbobs": batch.channels[:, TB], "tbsim": simulated.brightness_temperature,
        "tbzero": zero.brightness_temperature,
    }  # fmt: skip
    made = {name: value.masked_fill(absent, torch.nan).numpy() for name, value in made.items()}
    return made | {"ice_emis": simulated.ice_emissivity.numpy()}


class _Table:
    """A file (iobs, channel), open for writing slice by slice."""

    def __init__(self, path, final, variable, attrs, observations):
        self.file = netCDF4.Dataset(path, "w")
        self.file.setncatts(_global(final.stem))
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


def read_state(folder, tag, observations, model_folder=None, model_tag=None):
    """A model from its files, ours or those of the published systems.

    Parameters
    ----------
    folder : str or Path
    tag : str
        Of the maps and, unless ``model_tag`` says otherwise, of the network.
    observations : Observations
        Those of the maps.

    Returns
    -------
    EmpiricalState
        Version 1 of the published systems does not keep the days before the first: they stay at
        the first guess.

    Raises
    ------
    InputError
        If a file is missing or does not fit the observations, or holds no weights (version 1 of
        the published systems does not save those of its deep networks).
    """
    folder = Path(folder)
    about = _read(Path(model_folder or folder), "models", model_tag or tag)
    two = "width_nn" in about
    options = {"version": 2 if two else 1, "lag_weights": tuple(about.alpha.values.tolist()),
               "sea_ice_error": about.bg_error_seaice.item(),
               "emissivity_error": about.bg_error_emis.item()}  # fmt: skip
    if two:
        anchor = observations.instruments.channels[about.loss_channel_emis.item()]
        options |= {
            "n_properties": about.nprop_grid.item(), "width": about.width_nn.item(),
            "n_observation_properties": about.nprop_obs.item(),
            "emissivity_background": {anchor: about.background_emis.item()},
        }  # fmt: skip
    else:
        options |= {"n_properties": about.nprop.item()}
        if about.use_nn.item():
            options |= {"network": "sigmoid", "layers": about.nlayers_nn.item()}
    if "ice_coefs" not in about and "emis_layer1_weights" not in about:
        raise InputError(
            f"{folder}/models_{model_tag or tag}.nc: holds no weights of the emissivity network; "
            "train it again with seaice_lab, which saves them"
        )
    model = EmpiricalState(ModelConfig(**options), observations).eval()
    with torch.no_grad():
        model.wind_sensitivity.copy_(torch.from_numpy(about.ocean_emis_bias.values))
        bias = about.tb_bias.values
        bias = bias if two else np.stack([bias[:, 1], bias[:, 0]])[:, None]
        _fill(model.bias_k, bias, "tb_bias", folder)
        if "ice_coefs" in about:
            model.network.weight.copy_(torch.from_numpy(about.ice_coefs.values))
            model.network.constant.copy_(torch.from_numpy(about.ice_emis.values))
        else:
            layers = [part for part in model.network.modules()
                      if isinstance(part, torch.nn.Linear)]  # fmt: skip
            for number, layer in enumerate(layers, 1):
                layer.weight.copy_(torch.from_numpy(about[f"emis_layer{number}_weights"].values.T))
                layer.bias.copy_(torch.from_numpy(about[f"emis_layer{number}_biases"].values))
        sea_ice = _read(folder, "seaice", tag).seaice
        if "lagstep" in sea_ice.dims:
            _fill(model.cells("sea_ice"), sea_ice.values.T.reshape(-1, 1), "seaice", folder)
        else:
            lag = model.lags * model.points
            _fill(model.cells("sea_ice")[lag:], sea_ice.values.T.reshape(-1, 1), "seaice", folder)
        gridded = _read(folder, "properties_grid" if two else "properties", tag).properties.values
        cells = gridded.transpose(1, 0, 2).reshape(-1, gridded.shape[2])
        _fill(model.cells("properties"), cells, "properties", folder)
        if model.config.n_observation_properties:
            own = _read(folder, "properties_obs", tag).properties.values
            _fill(model.cells("observation_properties"), own, "properties_obs", folder)
    return model


def _fill(place, values, name, folder):
    if tuple(place.shape) != values.shape:
        raise InputError(
            f"{folder}: {name} has shape {values.shape}, the observations need "
            f"{tuple(place.shape)}; use the observations that it was trained on"
        )
    place.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def emissivity_grid(model, observations):
    """Daily maps of concentration, properties and the ice's emissivity.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations

    Returns
    -------
    xarray.Dataset
        ``sea_ice_concentration`` and ``tsfc_norm`` (step, grid), ``properties`` (step, grid,
        prop), ``sea_ice_emissivity`` (step, grid, channel) of the first sensor's channels seen at
        55 degrees, with no property of a single observation; ``lon``, ``lat``, ``time_start``,
        ``time_end``, ``channel_name``.
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
    start = observations.step_days - 0.125
    return xr.Dataset({
        "sea_ice_concentration": (("step", "grid"), sea_ice,
                                  {"standard_name": "sea_ice_area_fraction", "units": "1"}),
        "tsfc_norm": (("step", "grid"), cold.T.numpy(),
                      {"long_name": "Skin-temperature index, max(273 K - T, 0) / 30 K", **ONE}),
        "properties": (("step", "grid", "prop"), gridded.numpy(),
                       {"long_name": "Empirical properties of the ice", "units": "1"}),
        "sea_ice_emissivity": (("step", "grid", "channel"), emissivity, EMISSIVITY),
        "lon": ("grid", observations.longitude, LONGITUDE),
        "lat": ("grid", observations.latitude, LATITUDE),
        "time_start": ("step", start, EPOCH), "time_end": ("step", start + 1, EPOCH),
        "channel_name": ("channel", list(seen_by.channels)),
    })  # fmt: skip


def write_grid(model, observations, folder, tag):
    """Write :func:`emissivity_grid` to ``emissivity_grid_<tag>.nc``; returns the path."""
    made = emissivity_grid(model, observations)
    return _write(Path(folder), "emissivity_grid", tag, made.variables)


def _global(title):
    return {"Conventions": names.CONVENTIONS, "title": title, "source": "seaice_lab",
            "history": f"{runs.now()} seaice-lab emissivity"}  # fmt: skip


def _write(folder, name, tag, content):
    path = folder / f"{name}_{tag}.nc"
    runs.write_netcdf(path, xr.Dataset(content, attrs=_global(path.stem)))
    return path


def _read(folder, name, tag):
    path = folder / f"{name}_{tag}.nc"
    if not path.exists():
        known = sorted(p.stem.removeprefix("models_") for p in folder.glob("models_*.nc"))
        raise InputError(
            f"{path}: no such file; the tags in {folder} are {', '.join(known) or 'none'}"
        )
    try:
        return xr.load_dataset(path, decode_times=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); make it again") from None
