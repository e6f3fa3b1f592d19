"""The trained state in files: concentration, properties, network and biases, written and read.

Names and dimensions are those that a user of the published systems expects (``seaice_<tag>.nc``,
``models_<tag>.nc`` ...), whose files can be read as well. Other than published, the days before the
first and the weights of every network are kept, ``models_<tag>.nc`` holds the whole configuration
of the model as JSON (attribute ``model_config``), and all files carry units, positions and times.
"""

import json
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from seaice_lab import files, names, runs
from seaice_lab.emissivity.model import EmpiricalState, ModelConfig
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.errors import InputError

EPOCH = {"units": "days since -4713-11-24 12:00:00", "calendar": "proleptic_gregorian",
         "standard_name": "time", "long_name": "Astronomical Julian day"}  # fmt: skip
LATITUDE = {"standard_name": "latitude", "units": "degrees_north"}
LONGITUDE = {"standard_name": "longitude", "units": "degrees_east"}
ONE = {"units": "1"}
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
    written = [write_file(folder, "seaice", tag, {
        "seaice": (("grid", "lagstep"), sea_ice,
                   {"standard_name": "sea_ice_area_fraction", "units": "1"}),
        "julian_day": ("lagstep", observations.first_julian_day + step, EPOCH),
        "lagstep": ("lagstep", step.astype("int32"), {"long_name": "Day from step 0", **ONE}),
    } | place)]  # fmt: skip
    gridded = model.cells("properties").detach().unflatten(0, (-1, model.points)).transpose(0, 1)
    meaning = {"long_name": "Empirical properties of the ice", "units": "1"}
    name = "properties" if version == 1 else "properties_grid"
    written.append(write_file(folder, name, tag, {
        "properties": (("grid", "step", "prop"), gridded.numpy(), meaning),
        "julian_day": ("step", observations.step_days, EPOCH),
    } | place))  # fmt: skip
    own = model.cells("observation_properties").detach()
    if own.shape[1]:
        content = {"properties": (("iobs", "prop"), own.numpy(), meaning)}
        written.append(write_file(folder, "properties_obs", tag, content))
    content = _describe(model, observations, history)
    settings = model.config.model_dump_json()
    written.append(write_file(folder, "models", tag, content, model_config=settings))
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
            "npol": one(2),
            "background_bias": (("area", "sensor"), array(model.bias_background)[..., 0],
                                {"units": "K"}),
            "tb_bias": _biases(bias),
        }  # fmt: skip
        if model.anchor is not None:
            content |= {"background_emis": one(model.lowest),
                        "loss_channel_emis": one(model.anchor)}  # fmt: skip
    else:
        content |= {
            "nprop": one(config.n_properties), "use_nn": one(int(config.network != "linear")),
            "nlayers_nn": one(config.layers),
            "tb_bias": (("channel", "biases"), np.stack([bias[OCEAN, 0], bias[ICE, 0]], 1),
                        {"units": "K", "comment": "row 0 ocean, row 1 ice"}),
        }  # fmt: skip
        if len(seen_by.sensors) > 1:  # which the published version 1 does not know
            content["tb_bias"] = _biases(bias)
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
    config = _read_config(about, observations)
    two = config.version == 2
    if "ice_coefs" not in about and "emis_layer1_weights" not in about:
        raise InputError(
            f"{folder}/models_{model_tag or tag}.nc: holds no weights of the emissivity network; "
            "train it again with seaice_lab, which saves them"
        )
    model = EmpiricalState(config, observations).eval()
    with torch.no_grad():
        _fill(model.wind_sensitivity, about.ocean_emis_bias.values, "ocean_emis_bias", folder)
        bias = about.tb_bias.values
        if bias.ndim == 2:  # the published version 1: one sensor, ocean before ice
            bias = np.stack([bias[:, 1], bias[:, 0]])[:, None]
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


def read_lag_weights(folder, tag):
    """Shares of today's and of earlier days' concentration of a saved model, tuple of float."""
    return tuple(_read(Path(folder), "models", tag).alpha.values.tolist())


def _read_config(about, observations):
    """The ModelConfig of a models file; one of the published systems gives what it has of it."""
    if "model_config" in about.attrs:
        return ModelConfig.parse(json.loads(about.attrs["model_config"]), "model_config")
    options = {"lag_weights": tuple(about.alpha.values.tolist()),
               "sea_ice_error": about.bg_error_seaice.item(),
               "emissivity_error": about.bg_error_emis.item()}  # fmt: skip
    if "width_nn" in about:
        anchor = observations.instruments.channels[about.loss_channel_emis.item()]
        return ModelConfig(
            version=2, n_properties=about.nprop_grid.item(), width=about.width_nn.item(),
            n_observation_properties=about.nprop_obs.item(),
            emissivity_background={anchor: about.background_emis.item()}, **options,
        )  # fmt: skip
    if about.use_nn.item():
        options |= {"network": "sigmoid", "layers": about.nlayers_nn.item()}
    return ModelConfig(version=1, n_properties=about.nprop.item(), **options)


def _biases(bias):
    return (("biases", "sensors", "channel"), bias,
            {"units": "K", "comment": "row 0 ice, row 1 ocean"})  # fmt: skip


def _fill(place, values, name, folder):
    if tuple(place.shape) != values.shape:
        raise InputError(
            f"{folder}: {name} has shape {values.shape}, the observations need "
            f"{tuple(place.shape)}; use the observations that it was trained on"
        )
    place.copy_(torch.from_numpy(np.ascontiguousarray(values)))


def global_attributes(title):
    """Attributes of a file as a whole."""
    return {"Conventions": names.CONVENTIONS, "title": title, "source": "seaice_lab",
            "history": f"{runs.now()} seaice-lab emissivity"}  # fmt: skip


def write_file(folder, name, tag, content, **attributes):
    """Write ``<name>_<tag>.nc`` with the attributes of all our files; returns the path."""
    path = folder / f"{name}_{tag}.nc"
    attributes = global_attributes(path.stem) | attributes
    files.write_netcdf(path, xr.Dataset(content, attrs=attributes))
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
