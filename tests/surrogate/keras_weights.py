"""Read arrays of the published Keras implementation into our modules."""

import json
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parents[1] / "data" / "surrogate"
NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def read(name):
    """Arrays of one npz file by key."""
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def manifest(model):
    """What is known of a model: its counts and its layers in forward order."""
    return json.loads((DATA / "models_manifest.json").read_text())[model]


def image(array):
    """(batch, y, x, channel) array as a double-precision (batch, channel, y, x) tensor."""
    return torch.from_numpy(array).double().permute(0, 3, 1, 2)


def parameters(arrays, prefix):
    """Arrays ``prefix/role/array`` by their name in our state dictionary, kernels as OIHW."""
    found = {}
    for key, array in arrays.items():
        if key.startswith(f"{prefix}/"):
            role, name = key.removeprefix(f"{prefix}/").split("/")
            tensor = torch.from_numpy(array).double()
            if name == "kernel":
                tensor = tensor.permute(3, 2, 0, 1)
            found[f"{role}.{NAMES[name]}"] = tensor
    return found


def load(network, arrays, prefix="w"):
    """Fill a network with the weights under ``prefix``; every entry must find its place."""
    weights = parameters(arrays, prefix)
    state = network.state_dict()
    counters = {k: v for k, v in state.items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(weights | counters, strict=True)
    return network


def error(ours, reference):
    """Largest difference over the largest value of the reference array."""
    ours, reference = ours.detach().double(), reference.double()
    assert ours.shape == reference.shape
    return ((ours - reference).abs().max() / reference.abs().max()).item()
