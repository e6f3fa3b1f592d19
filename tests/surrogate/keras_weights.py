"""Read weights and other arrays of the published Keras implementation.

Weights have keys ``<prefix>/<role>/<array>``. The role is the name of the layer in our networks
(``stem``, ``enc1.conv1``, ``mid.bn``, ``head``), the array one of ``kernel``, ``bias``, ``gamma``,
``beta``, ``moving_mean``, ``moving_variance``.
"""

import json
from pathlib import Path

import numpy as np
import torch

from seaice_lab.surrogate.networks import build_network

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
    """The counts of a model and its layers in forward order."""
    return json.loads((DATA / "models_manifest.json").read_text())[model]


def image(array):
    """(batch, y, x, channel) array as a double-precision (batch, channel, y, x) tensor."""
    return torch.from_numpy(array).double().permute(0, 3, 1, 2)


def parameters(arrays, prefix):
    """Arrays ``prefix/role/array`` in double precision by their name in our state dictionary."""
    state = {}
    for key, array in arrays.items():
        if key.startswith(f"{prefix}/"):
            role, name = key.removeprefix(f"{prefix}/").split("/")
            values = torch.from_numpy(array)
            if name == "kernel":
                # (y, x, in, out) to (out, in, y, x); in dense layers (in, out) to (out, in)
                values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T
            state[f"{role}.{NAMES.get(name, name)}"] = values.contiguous().double()
    return state


def load(network, arrays, prefix="w"):
    """Load the weights under ``prefix`` into a network; the entries must match exactly."""
    weights = parameters(arrays, prefix)
    state = network.state_dict()
    counters = {k: v for k, v in state.items() if k.endswith("num_batches_tracked")}
    network.load_state_dict(weights | counters, strict=True)
    return network


def published_network(name, arrays, ocean=None, n_outputs=1, **options):
    """A published network of width 4 with the weights in ``arrays``, in double precision."""
    ocean = torch.from_numpy(arrays["mask"]) > 0 if ocean is None else ocean
    torch.set_default_dtype(torch.float64)
    try:
        network = build_network(
            name, ocean, 10, n_outputs, **{"width": 4, "published": True} | options
        )
    finally:
        torch.set_default_dtype(torch.float32)
    return load(network, arrays)


def error(ours, reference):
    """Largest difference over the largest value of the reference array."""
    ours, reference = ours.detach().double(), reference.double()
    assert ours.shape == reference.shape
    return ((ours - reference).abs().max() / reference.abs().max()).item()
