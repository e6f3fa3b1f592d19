"""Read arrays of the published Keras implementation."""

import json
from pathlib import Path

import numpy as np
import torch

from seaice_lab.surrogate.keras import from_keras
from seaice_lab.surrogate.networks import build_network

DATA = Path(__file__).parents[1] / "data" / "surrogate"


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
    """Arrays ``prefix/role/array`` in double precision by their name in our state dictionary."""
    return {name: value.double() for name, value in from_keras(arrays, prefix).items()}


def load(network, arrays, prefix="w"):
    """Fill a network with the weights under ``prefix``; every entry must find its place."""
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
