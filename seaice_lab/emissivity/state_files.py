"""The trained state in files: concentration, properties, network and biases, written and read.

Names and dimensions are those of the published systems (``seaice_<tag>.nc``, ``models_<tag>.nc``
...), whose files can be read too. Unlike the published files, ours keep the days before the first
one and the weights of every network, ``models_<tag>.nc`` holds the whole configuration of the model
as JSON (attribute ``model_config``), and all files have units, positions and times.
"""

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from seaice_lab import files, metadata
from seaice_lab.emissivity.evaluation import FREQUENCY_ATTRIBUTES, property_maps, sea_ice_maps
from seaice_lab.emissivity.model import EmpiricalState
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.emissivity.settings import ModelConfig
from seaice_lab.errors import InputError

JULIAN_DAY = {
    "units": "days since -4713-11-24 12:00:00",
    "calendar": "proleptic_gregorian",
    "standard_name": "time",
    "long_name": "Astronomical Julian day",
}
CONCENTRATION = {"standard_name": "sea_ice_area_fraction", "units": "1"}
EMISSIVITY = {"long_name": "Emissivity of the ice", "units": "1"}
KELVIN = {"units": "K"}
# Attributes of the published variables; the others have units "1".
ATTRIBUTES = {
    "lat": {"standard_name": "latitude", "units": "degrees_north"},
    "lon": {"standard_name": "longitude", "units": "degrees_east"},
    "julian_day": JULIAN_DAY,
    "time_start": JULIAN_DAY,
    "time_end": JULIAN_DAY,
    "lagstep": {"long_name": "Day from step 0", "units": "1"},
    "igrid": {"long_name": "Grid point", "units": "1"},
    "istep": {"long_name": "Step", "units": "1"},
    "isensor": {"long_name": "Sensor", "units": "1"},
    "seaice": CONCENTRATION,
    "seaice_std": {
        "standard_name": "sea_ice_area_fraction standard_error",
        "long_name": "Standard deviation of the error; missing where nothing was observed",
        "units": "1",
    },
    "sea_ice_concentration": CONCENTRATION,
    "sea_ice_first_guess": CONCENTRATION | {"long_name": "First guess of concentration"},
    "properties": {"long_name": "Empirical properties of the ice", "units": "1"},
    "tb": {"standard_name": "brightness_temperature", "units": "K"},
    "ice_emis": EMISSIVITY,
    "sea_ice_emissivity": EMISSIVITY,
    "tsfc_norm": {"long_name": "Skin-temperature index, max(273 K - T, 0) / 30 K", "units": "1"},
    "frequency": FREQUENCY_ATTRIBUTES,
    "ocean_emis_bias": {"units": "s m-1"},
    "bg_error_bias": KELVIN,
    "background_bias": KELVIN,
    "tb_bias": KELVIN,
}
# Columns of the history and their published names.
PUBLISHED_LOSSES = {
    "train_loss": "loss",
    "train_emissivity": "emis_loss",
    "sea_ice": "seaice_loss",
    "skin_temperature": "tsfc_loss",
    "train_bias": "bias_loss",
}


def write_state(model, observations, folder, tag, history=None, sea_ice_std=None):
    """Write concentration, properties, network and biases.

    Parameters
    ----------
    model : EmpiricalState
    observations : Observations
    folder : str or Path
    tag : str
    history : pandas.DataFrame, optional
        From :func:`seaice_lab.emissivity.train.train`.
    sea_ice_std : ndarray (point, lag + step), optional
        Standard deviations of the errors of the concentration.

    Returns
    -------
    dict of str to Path
        By name: ``seaice``, ``properties_grid`` (version 1: ``properties``), ``properties_obs`` if
        observations have their own properties, and ``models``; the files are ``<name>_<tag>.nc``.
    """
    lagstep = np.arange(-model.lags, model.days)
    positions = {"lon": ("grid", observations.longitude), "lat": ("grid", observations.latitude)}
    sea_ice = {
        "seaice": (("grid", "lagstep"), sea_ice_maps(model)),
        "julian_day": ("lagstep", observations.first_julian_day + lagstep),
        "lagstep": ("lagstep", lagstep.astype("int32")),
    }
    if sea_ice_std is not None:
        sea_ice["seaice_std"] = (("grid", "lagstep"), sea_ice_std)
    properties = {
        "properties": (("grid", "step", "prop"), property_maps(model).transpose(1, 0, 2)),
        "julian_day": ("step", observations.step_days),
    }
    name = _properties_name(model.config)
    datasets = {"seaice": sea_ice | positions, name: properties | positions}
    if model.config.n_observation_properties:
        values = _array(model.observation_properties)
        datasets["properties_obs"] = {"properties": (("iobs", "prop"), values)}
    datasets["models"] = _describe(model, observations)
    if history is not None and "train_loss" in history:  # the solver has no such losses
        for name, published in PUBLISHED_LOSSES.items():
            datasets["models"][published] = ("epoch", history[name].to_numpy("float64"))
    datasets = {name: published_dataset(variables) for name, variables in datasets.items()}
    datasets["models"].attrs["model_config"] = model.config.model_dump_json()
    return {name: write_file(folder, name, tag, dataset) for name, dataset in datasets.items()}


def _properties_name(config):
    return "properties" if config.version == 1 else "properties_grid"


def _describe(model, observations):
    """Settings, biases and weights under their published names."""
    config, instruments = model.config, observations.instruments
    numbers = {
        "nchannels": len(instruments.channels),
        "nsensors": len(instruments.sensors),
        "ngrid": model.points,
        "nstep": model.days,
        "nlag": model.lags,
        "nobs": model.size,
        "bg_error_seaice": config.sea_ice_error,
        "bg_error_emis": config.emissivity_error,
    }
    bias = _array(model.bias_k)
    variables = {
        "alpha": ("alphas", list(config.lag_weights)),
        "bg_error_bias": ("sensor", _array(model.bias_error)[:, 0]),
        "channel_name": ("channel", list(instruments.channels)),
        "sensor_name": ("sensor", list(instruments.sensors)),
        "frequency": (("sensor", "channel"), instruments.frequency_ghz),
        "ocean_emis_bias": ("channel", _array(model.wind_sensitivity)),
        "tb_bias": (("biases", "sensors", "channel"), bias, {"comment": "row 0 ice, row 1 ocean"}),
    }
    if config.version == 2:
        numbers |= {"nprop_grid": config.n_properties, "width_nn": config.width, "npol": 2}
        numbers["nprop_obs"] = config.n_observation_properties
        variables["background_bias"] = (("area", "sensor"), _array(model.bias_background)[..., 0])
        if model.anchor is not None:
            numbers |= {"background_emis": model.lowest, "loss_channel_emis": model.anchor}
    else:
        numbers |= {"nprop": config.n_properties, "nlayers_nn": config.layers}
        numbers["use_nn"] = int(config.network != "linear")
        if len(instruments.sensors) == 1:  # the published version 1 has one sensor, ocean first
            rows = np.stack([bias[OCEAN, 0], bias[ICE, 0]], 1)
            comment = {"comment": "row 0 ocean, row 1 ice"}
            variables["tb_bias"] = (("channel", "biases"), rows, comment)
    attributes = {"long_name": "Weights of the emissivity network"}
    for name, (dimensions, parameter) in _network_parameters(model.network).items():
        variables[name] = (dimensions, _array(parameter), attributes)
    return variables | {name: ("one", [value]) for name, value in numbers.items()}


def _array(tensor):
    return tensor.detach().numpy()


def _network_parameters(network):
    """Dimensions and parameters of an emissivity network, by their published names."""
    if hasattr(network, "constant"):
        return {
            "ice_coefs": (("in", "channel"), network.weight),
            "ice_emis": (("channel",), network.constant),
        }
    layers = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
    widths = ["in", *(f"width{number}" for number in range(1, len(layers))), "out"]
    parameters = {}
    for number, layer in enumerate(layers, 1):
        dimensions = widths[number - 1 : number + 1]
        parameters[f"emis_layer{number}_weights"] = (dimensions, layer.weight.T)
        parameters[f"emis_layer{number}_biases"] = (dimensions[1:], layer.bias)
    return parameters


def read_state(folder, tag, observations):
    """Read a model from its files, ours or those of the published systems.

    Parameters
    ----------
    folder : str or Path
    tag : str
    observations : Observations
        The observations that the state was estimated from.

    Returns
    -------
    EmpiricalState
        In evaluation mode. Version 1 of the published systems does not keep the days before the
        first one: they have their first guess.

    Raises
    ------
    InputError
        If a file is missing or does not fit the observations, or holds no weights (version 1 of
        the published systems does not save those of its deep networks).
    """
    folder = Path(folder)
    saved = _read(folder, "models", tag)
    if "ice_coefs" not in saved and "emis_layer1_weights" not in saved:
        raise InputError(
            f"{folder}/models_{tag}.nc: holds no weights of the emissivity network; train it again "
            "with seaice_lab, which saves them"
        )
    model = EmpiricalState(_read_config(saved, observations), observations).eval()
    bias = saved.tb_bias.values
    if bias.ndim == 2:  # the published version 1: one sensor, ocean before ice
        bias = np.stack([bias[:, 1], bias[:, 0]])[:, None]
    sea_ice = _read(folder, "seaice", tag).seaice
    first_row = 0 if "lagstep" in sea_ice.dims else model.lags * model.points
    properties_name = _properties_name(model.config)
    properties = _read(folder, properties_name, tag).properties.values
    cells = properties.transpose(1, 0, 2).reshape(-1, properties.shape[2])
    content = {
        "ocean_emis_bias": (model.wind_sensitivity, saved.ocean_emis_bias.values),
        "tb_bias": (model.bias_k, bias),
        "seaice": (model.sea_ice[first_row:], sea_ice.values.T.reshape(-1, 1)),
        properties_name: (model.properties, cells),
    }
    for name, (_, parameter) in _network_parameters(model.network).items():
        content[name] = (parameter, saved[name].values)
    if model.config.n_observation_properties:
        values = _read(folder, "properties_obs", tag).properties.values
        content["properties_obs"] = (model.observation_properties, values)
    with torch.no_grad():
        for name, (parameter, values) in content.items():
            if parameter.shape != values.shape:
                raise InputError(
                    f"{folder}: {name} has shape {values.shape}, the observations need "
                    f"{tuple(parameter.shape)}; use the observations that it was trained on"
                )
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(values)))
    return model


def read_lag_weights(folder, tag):
    """Read the weights of a day's and of earlier days' concentration of a saved model.

    Parameters
    ----------
    folder : str or Path
    tag : str

    Returns
    -------
    tuple of float
    """
    return tuple(_read(Path(folder), "models", tag).alpha.values.tolist())


def _read_config(saved, observations):
    """The ModelConfig of a models file; for one of the published systems, from its variables."""
    if "model_config" in saved.attrs:
        return ModelConfig.parse(json.loads(saved.attrs["model_config"]), "model_config")
    options = {
        "lag_weights": tuple(saved.alpha.values.tolist()),
        "sea_ice_error": saved.bg_error_seaice.item(),
        "emissivity_error": saved.bg_error_emis.item(),
    }
    if "width_nn" in saved:
        anchor = observations.instruments.channels[saved.loss_channel_emis.item()]
        return ModelConfig(
            version=2,
            n_properties=saved.nprop_grid.item(),
            width=saved.width_nn.item(),
            n_observation_properties=saved.nprop_obs.item(),
            emissivity_background={anchor: saved.background_emis.item()},
            **options,
        )
    if saved.use_nn.item():
        options |= {"network": "sigmoid", "layers": saved.nlayers_nn.item()}
    return ModelConfig(version=1, n_properties=saved.nprop.item(), **options)


def published_dataset(variables):
    """Make a dataset of published variables, with their attributes.

    Parameters
    ----------
    variables : dict of str to tuple
        Dimensions, values and perhaps more attributes, by published name.
    """
    dataset = xr.Dataset(variables)
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "fiu":
            dataset[name].attrs = ATTRIBUTES.get(name, {"units": "1"}) | variable.attrs
    return dataset


def write_file(folder, name, tag, dataset):
    """Write a dataset to ``<name>_<tag>.nc`` with the attributes of all files of the project.

    Parameters
    ----------
    folder : str or Path
    name, tag : str
    dataset : xarray.Dataset

    Returns
    -------
    Path
    """
    path = Path(folder) / f"{name}_{tag}.nc"
    attributes = metadata.file_attributes(path.stem, "seaice_lab", "emissivity")
    files.write_netcdf(path, dataset.assign_attrs(attributes))
    return path


def _read(folder, name, tag):
    path = folder / f"{name}_{tag}.nc"
    if not path.exists():
        tags = sorted(p.stem.removeprefix("models_") for p in folder.glob("models_*.nc"))
        raise InputError(
            f"{path}: no such file; the tags in {folder} are {', '.join(tags) or 'none'}"
        )
    try:
        return xr.load_dataset(path, decode_times=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); write it again") from None
