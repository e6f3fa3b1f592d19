"""Weights of the published Keras networks, read into ours.

The file is an ``.npz`` of arrays ``w/<role>/<array>``: role as the layers of our networks are
named (``stem``, ``enc1.conv1``, ``mid.bn``, ``head``), array one of ``kernel``, ``bias``,
``gamma``, ``beta``, ``moving_mean``, ``moving_variance``.
"""

import zipfile

import numpy as np
import torch

from seaice_lab.errors import InputError

_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def from_keras(arrays, prefix="w"):
    """Name and lay out Keras arrays as our networks do.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        ``<prefix>/<role>/<array>`` to values; other keys are left out.
    prefix : str

    Returns
    -------
    dict
        Name in the state dictionary to tensor; kernels turned from (y, x, in, out) to
        (out, in, y, x), those of dense layers from (in, out) to (out, in).
    """
    found = {}
    for key in arrays:
        if key.startswith(f"{prefix}/"):
            role, name = key.removeprefix(f"{prefix}/").split("/")
            values = torch.from_numpy(arrays[key])
            if name == "kernel":
                values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T
            found[f"{role}.{_NAMES.get(name, name)}"] = values.contiguous()
    return found


def load_keras(network, path):
    """Fill a network with the weights of a Keras file.

    Parameters
    ----------
    network : torch.nn.Module
        From :func:`~seaice_lab.surrogate.networks.build_network`.
    path : str or Path

    Returns
    -------
    torch.nn.Module
        The same network.

    Raises
    ------
    InputError
        If the file cannot be read or holds another architecture.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = from_keras(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as an .npz file ({error})") from None
    # A counter of torch's batch norm that Keras does not have and nothing here reads.
    state = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    shapes, expected = (
        {name: tuple(value.shape) for name, value in part.items()} for part in (found, state)
    )
    for name in sorted(shapes.keys() | expected.keys()):
        if shapes.get(name) != expected.get(name):
            raise InputError(
                f"{path}: {name} has shape {shapes.get(name, 'none: it is missing')}, expected "
                f"{expected.get(name, 'no such layer')}; build the network that the weights were "
                "made with (its name, width, kernel size and numbers of fields)"
            )
    network.load_state_dict(found, strict=False)
    return network
