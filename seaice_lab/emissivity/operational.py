"""The emissivity model for weather forecasting centres: coefficients for Fortran, and a table.

``fortran/seaice_emissivity.f90`` reads the coefficient file. The file is plain text, which Fortran
reads without a library, and two files can be compared line by line. Its numbers have all digits,
and its last line has the CRC-32 of the other lines.
"""

import copy
import zlib
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from scipy.interpolate import RegularGridInterpolator
from torch import nn

import seaice_lab
from seaice_lab import files, metadata
from seaice_lab.emissivity.evaluation import FREQUENCY_ATTRIBUTES
from seaice_lab.emissivity.physics import (
    COLD_SPAN_K,
    MELTING_K,
    TRAINED_ZENITH_DEG,
    skin_temperature_index,
)
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG
from seaice_lab.errors import InputError

HEADER = "seaice_lab emissivity coefficients, format 1"
NO_LIMIT = -1e300  # of an input that has no lowest value
METHOD = "method of Geer (2024), doi 10.1029/2023MS004080"
TABLE_RELEASE = 1  # of the lookup table; a higher number means another layout
SKIN_TEMPERATURES_K = np.arange(MELTING_K - 60, MELTING_K + 1, 5.0)
ZENITH_ANGLES_DEG = np.arange(0.0, 66.0, 5.0)
FREQUENCY_STEP_GHZ = 10.0
LARGEST_TABLE = 2e6  # number of emissivities
CHECKED_POINTS = 1000  # at which the error of interpolation is measured
OUTER_SHARE = 0.005  # of the properties of the training that the table leaves out at each end


def write_coefficients(model, path):
    """Write the network of an emissivity model as text for the Fortran module.

    Parameters
    ----------
    model : EmissivityModel
    path : str or Path

    Returns
    -------
    Path
    """
    settings, network = model.settings, model.network
    # An input x of the network is max((value - offset) / scale, lowest).
    inputs = [(MELTING_K, -COLD_SPAN_K, 0.0, "skin temperature, K")]
    properties = range(1, settings["n_properties"] + 1)
    inputs += [(0.0, 1.0, NO_LIMIT, f"property {number}") for number in properties]
    if settings["zenith_input"]:
        inputs.append((30.0, 30.0, NO_LIMIT, "zenith angle, degrees"))
    if settings["network"] == "frequency":
        inputs.append((0.0, 100.0, NO_LIMIT, "frequency, GHz"))
    if settings["network"] == "linear":
        layers = [("linear", network.weight.T, network.constant)]
    else:
        linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
        layers = [("sigmoid", layer.weight, layer.bias) for layer in linear]

    attributes = _attributes(f"Emissivity of sea ice, network {settings['network']}")
    lines = [HEADER, *(f"{name} {attributes[name]}" for name in ("title", "source", "history"))]
    lines += [
        f"network {settings['network']}",
        f"n_properties {settings['n_properties']}",
        f"uses_zenith {int(settings['zenith_input'])}",
        f"nadir_zenith {TRAINED_ZENITH_DEG if settings['nadir'] else 0.0}",
        f"n_inputs {len(inputs)}",
    ]
    lines += [f"input {offset} {scale} {low} {name}" for offset, scale, low, name in inputs]
    lines.append(f"n_channels {len(settings['channels'])}")
    columns = (settings[name] for name in ("channels", "frequency_ghz", "vertical"))
    for name, frequency, vertical in zip(*columns, strict=True):
        lines += [f"channel {name}", f"{float(frequency)} {float(vertical)}"]
    lines.append(f"n_layers {len(layers)}")
    for activation, weight, bias in layers:
        lines += [f"n_inputs {weight.shape[1]}", f"n_units {weight.shape[0]}"]
        lines.append(f"activation {activation}")
        # all weights of the first unit, then of the next one; then all biases
        lines += map(str, [*weight.flatten().tolist(), *bias.tolist()])
    content = "".join(f"{line}\n" for line in lines).encode("ascii", "replace")
    checksum = f"crc32 {zlib.crc32(content):08X}\n"
    with files.replacing(path) as temporary:
        temporary.write_bytes(content + checksum.encode())
    return Path(path)


def property_ranges(state):
    """Ranges of the empirical properties of a trained state, without the outermost values.

    Parameters
    ----------
    state : EmpiricalState

    Returns
    -------
    list of (float, float)
        One for each property, those of the cells before those of the observations.
    """
    ranges = []
    for values in (*state.properties.T, *state.observation_properties.T):
        values = values.detach().numpy()
        values = values[values != 0]  # a property keeps its initial value 0 without observations
        low, high = np.quantile(values, [OUTER_SHARE, 1 - OUTER_SHARE]) if values.size else (0, 0)
        ranges.append((float(low), float(high)) if low < high else (low - 1.0, low + 1.0))
    return ranges


def write_table(model, ranges, path):
    """Write emissivities and their Jacobians on a grid of all inputs as NetCDF.

    Parameters
    ----------
    model : EmissivityModel
    ranges : list of (float, float)
        Lowest and highest value of each property, from :func:`property_ranges`.
    path : str or Path

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the model has too many properties for a table.
    """
    files.write_netcdf(path, lookup_table(model, ranges))
    return Path(path)


def lookup_table(model, ranges):
    """Emissivities and their Jacobians on a grid of all inputs.

    Parameters
    ----------
    model : EmissivityModel
    ranges : list of (float, float)
        Lowest and highest value of each property.

    Returns
    -------
    xarray.Dataset
        ``emissivity (polarisation, frequency, zenith_angle, skin_temperature, property_1, ...)``
        and its derivatives ``emissivity_by_<input>``. Networks of version 1 have the dimension
        ``channel`` in place of polarisation and frequency. The global attributes are those of the
        coefficient files of CRTM and of CF.

    Raises
    ------
    InputError
        If the model has too many properties for a table.
    """
    settings, network = model.settings, copy.deepcopy(model.network).double()
    is_spectral = settings["network"] == "frequency"
    channels, vertical = _channel_coordinates(settings)
    axes = _table_axes(settings, len(vertical), ranges)

    def evaluate(points):
        columns = dict(zip(axes, points[..., None].unbind(1), strict=True))
        index = skin_temperature_index(columns["skin_temperature"])
        properties = points[:, len(axes) - len(ranges) :]
        return network(
            index, properties, columns.get("frequency"), vertical, columns["zenith_angle"]
        )

    points = np.stack(np.meshgrid(*axes.values(), indexing="ij"), -1).reshape(-1, len(axes))
    points = torch.from_numpy(points).requires_grad_()
    emissivity = evaluate(points)
    # A point does not influence others, so the gradient of a sum has the derivatives of all points.
    sums = emissivity.sum(0)
    gradients = [torch.autograd.grad(one, points, retain_graph=True)[0] for one in sums]
    by_input = dict(zip(axes, torch.stack(gradients).unbind(-1), strict=True))

    names = ["skin_temperature", *(name for name in axes if name.startswith("property"))]
    variables = {"emissivity": emissivity.T}
    variables |= {f"emissivity_by_{name}": by_input[name] for name in names}
    shape = [len(vertical), *map(len, axes.values())]
    dims = ["polarisation" if is_spectral else "channel", *axes]
    table = xr.Dataset(
        {
            name: (dims, values.detach().numpy().reshape(shape).astype("float32"))
            for name, values in variables.items()
        },
        coords=channels | {name: (name, values) for name, values in axes.items()},
        attrs=_table_attributes(_interpolation_error(axes, emissivity, evaluate)),
    )
    return _describe(table)


def _channel_coordinates(settings):
    """Coordinates of the channels of a table, and the share of vertical polarisation of each."""
    if settings["network"] == "frequency":
        coordinates = {"polarisation": ("polarisation", ["vertical", "horizontal"])}
        return coordinates, torch.tensor([1.0, 0.0]).double()
    attributes = {"units": "1", "long_name": "Share of vertical polarisation"}
    coordinates = {
        "channel": ("channel", settings["channels"]),
        "frequency": ("channel", settings["frequency_ghz"], FREQUENCY_ATTRIBUTES),
        "vertical": ("channel", settings["vertical"], attributes),
    }
    return coordinates, torch.tensor(settings["vertical"]).double()


def _table_axes(settings, n_channels, ranges):
    """Values of each input of the network, by name."""
    axes = {}
    if settings["network"] == "frequency":
        trained = np.unique(settings["frequency_ghz"])
        between = np.arange(0, trained[-1], FREQUENCY_STEP_GHZ)
        between = between[between > trained[0]]
        axes["frequency"] = np.union1d(trained, between)
    uses_zenith = settings["zenith_input"] or settings["nadir"]
    axes["zenith_angle"] = ZENITH_ANGLES_DEG if uses_zenith else np.array([CONICAL_ZENITH_DEG])
    axes["skin_temperature"] = SKIN_TEMPERATURES_K
    fixed = n_channels * np.prod([len(values) for values in axes.values()])
    sizes = (size for size in (9, 7, 5, 3) if fixed * size ** len(ranges) <= LARGEST_TABLE)
    size = next(sizes, None)
    if size is None:
        raise InputError(
            f"--table: the model has {len(ranges)} properties, for which a table has more than "
            f"{LARGEST_TABLE:g} values; use --coefficients, which give the exact network"
        )
    return axes | {f"property_{n}": np.linspace(*pair, size) for n, pair in enumerate(ranges, 1)}


def _interpolation_error(axes, emissivity, evaluate):
    """Largest and root-mean-square error of linear interpolation at random points of the table."""
    rng = np.random.default_rng(0)
    axes = list(axes.values())
    points = np.stack([rng.uniform(a[0], a[-1], CHECKED_POINTS) for a in axes], 1)
    longer = [number for number, axis in enumerate(axes) if len(axis) > 1]
    values = emissivity.detach().numpy().reshape([len(axes[n]) for n in longer] + [-1])
    interpolate = RegularGridInterpolator([axes[n] for n in longer], values)
    error = interpolate(points[:, longer]) - evaluate(torch.from_numpy(points)).detach().numpy()
    return f"largest {np.abs(error).max():.2g}, root mean square {np.sqrt((error**2).mean()):.2g}"


def _attributes(title):
    attributes = metadata.file_attributes(title, "", "emissivity export")
    return attributes | {"source": f"seaice_lab {seaice_lab.__version__}; {METHOD}"}


def _table_attributes(error):
    """Global attributes of CF, and those of CRTM's tables of surface emissivity."""
    attributes = _attributes("Lookup table of the emissivity of sea ice")
    attributes["comment"] = (
        "Interpolate linearly. Above 273 K take the values of 273 K and a derivative of 0 with "
        "respect to the skin temperature. Outside the other ranges take the values at their ends. "
        "A mixed polarisation with the share s of vertical has the emissivity "
        "s e(vertical) + (1 - s) e(horizontal). "
        f"Error of linear interpolation at random points: {error}."
    )
    return attributes | {
        "Release": TABLE_RELEASE,
        "Version": 1,
        "Classification_Name": "seaice_lab",
        "Data_Source": attributes["source"],
        "Title": attributes["title"],
        "History": attributes["history"],
        "Comment": attributes["comment"],
    }


def _describe(table):
    """The table with long names and units of all variables."""
    units = {"frequency": "GHz", "zenith_angle": "degree", "skin_temperature": "K"}
    for name, variable in table.variables.items():
        of_input = name.removeprefix("emissivity_by_")
        words = of_input.replace("_", " ")
        long_name = (
            words if of_input == name else f"derivative of the emissivity with respect to {words}"
        )
        unit = units.get(of_input, "1")
        unit = "K-1" if name != of_input and unit == "K" else unit
        if variable.dtype.kind == "f" and "units" not in variable.attrs:
            table[name].attrs = {"long_name": long_name.capitalize(), "units": unit}
    return table
