"""Read the numbers of the published emissivity training and lay them into our model."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from seaice_lab.config import FitConfig
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.gpu_adam import GpuAdam
from seaice_lab.emissivity.lazy_adam import LazyAdam
from seaice_lab.emissivity.model import COST_TERMS, EmpiricalState
from seaice_lab.emissivity.observations import Batch, prepare
from seaice_lab.emissivity.settings import ModelConfig, ObservationsConfig
from seaice_lab.optimiser import adamw, set_epsilon

DATA = Path(__file__).parents[1] / "data" / "emissivity"
CASES = {
    "v1_linear": ("amsr2",),
    "v1_deep": ("amsr2",),
    "v1_year": ("amsr2",),
    "v2_imagers": ("amsr2", "gmi", "ssmisf17"),
    "v2_crosstrack": ("METOP-B",),
}
BATCH = 1024


@cache
def numbers(case):
    """The published numbers of a case, in memory."""
    return xr.load_dataset(DATA / case / "parity.nc", decode_times=False)


def config_of(case, **options):
    """The configuration of the observations of a case."""
    return ObservationsConfig(data=str(DATA / case / "inputs"), sensors=CASES[case], **options)


def observations(case, folder):
    """The observations of a case, prepared."""
    return prepare(config_of(case), Path(folder) / case, show=False)


def build(case, seen, state=None):
    """Our model of a case, with the published weights of a state."""
    version = int(case[1])
    options = {"network": "sigmoid"} if case == "v1_deep" else {}
    config = ModelConfig(version=version, batch_independent=False, **options)
    torch.manual_seed(0)
    model = EmpiricalState(config, seen)
    if state is not None:
        with torch.no_grad():
            for (name, ours), theirs in zip(
                weights(model).items(), reference(case, state), strict=True
            ):
                ours.copy_(torch.from_numpy(np.ascontiguousarray(theirs)), non_blocking=False)
                assert ours.shape == theirs.shape, name
    return model


def weights(model):
    """All that is trained, as views in the published shapes and order."""
    shape = (model.points, -1)
    found = {
        "seaice": model.sea_ice.reshape(-1, model.points).T,
        "properties": model.properties.unflatten(0, (-1, shape[0])).transpose(0, 1),
        "wind": model.wind_sensitivity,
        "bias": model.bias_k,
    }
    if model.config.version == 2:
        found["properties_obs"] = model.observation_properties
    network = model.network
    if model.config.network == "linear":
        found |= {"kernel": network.weight, "constant": network.constant}
    else:
        two = (network.hidden, network.output) if model.config.version == 2 else network.layers
        for number, layer in enumerate(two, 1):
            found |= {f"kernel{number}": layer.weight.T, f"constant{number}": layer.bias}
    return found


def reference(case, state):
    """The published arrays in the order of :func:`weights`."""
    theirs = numbers(case)
    linear = case in ("v1_linear", "v1_year")
    names = [
        "seaice",
        "ice_properties" if case[1] == "1" else "ice_properties_grid",
        "ocean_windspeed_bias",
        "tb_bias",
    ]
    if case[1] == "2":
        names.append("ice_properties_obs")
    names += (
        ["emis_kernel", "emis_bias"]
        if linear
        else [f"emis_layer{number}_{part}" for number in (1, 2) for part in ("kernel", "bias")]
    )
    found = []
    for name in names:
        if name == "tb_bias" and case[1] == "1":
            both = [theirs[f"{state}_tb_bias_{surface}"].values for surface in ("seaice", "ocean")]
            found.append(np.stack(both)[:, None])
        else:
            found.append(theirs[f"{state}_{name}"].values)
    return found


def batch(seen, first=0, last=None):
    """Some successive observations."""
    there = slice(first, last)
    number = np.arange(seen.size)[there]
    columns = (seen.index, seen.scalars, seen.channels)
    return Batch(
        torch.from_numpy(number), *(torch.from_numpy(np.array(column[there])) for column in columns)
    )


def cost(model, part):
    """Terms of the cost of a batch, with the penalty of all concentrations."""
    penalty_of_maps = model.map_costs(epoch=0)["sea_ice"]
    return model(*model.map_values(part), *part[1:]) | {"sea_ice": penalty_of_maps}


def run_steps(model, seen, steps, way, size=BATCH, grouped=False):
    """Train on contiguous batches in file order; yields the terms before every step.

    The way is "lazy" or "gpu" (on the GPU where there is one), as in our training, or "dense", by
    plain automatic differentiation. On a GPU some batches can be ``grouped`` in one graph.
    """
    order, firsts = np.arange(seen.size), np.arange(0, seen.size, size)
    firsts = np.resize(firsts, steps)  # one epoch after another
    config = FitConfig(learning_rate=1e-3, batch_size=size, weight_decay=0.0)
    if way == "dense":
        yield from dense_steps(
            model, [batch(seen, first, first + size) for first in firsts], config
        )
        return
    strengths = penalty.strengths(model.config, 0, seen.size)
    if way == "gpu":
        model.to("cuda" if torch.cuda.is_available() else "cpu")
    optimiser = (GpuAdam if way == "gpu" else LazyAdam)(model, seen, config)
    batches = optimiser.batches(order, firsts)
    if way == "gpu" and not grouped:
        batches = ((group,) for (positions,) in batches for group in positions.split(size))
    for part in batches:
        costs = optimiser.step(part, strengths)
        yield {name: costs[name].item() for name in COST_TERMS}
    model.cpu()
    if way == "lazy":
        optimiser.catch_up(strengths)


def dense_steps(model, batches, config):
    optimiser = adamw(model.parameters(), config)
    for step, part in enumerate(batches):
        parts = cost(model, part)
        optimiser.zero_grad()
        sum(parts.values()).backward()
        set_epsilon(optimiser, step)
        optimiser.step()
        yield {name: value.item() for name, value in parts.items()}
