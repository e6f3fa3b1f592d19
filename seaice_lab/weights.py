"""Weights of a trained model in a safetensors file, which tells if it is damaged or misplaced."""

import json
import zlib

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from seaice_lab import files
from seaice_lab.errors import InputError

RECORD = "seaice_lab"  # key of the metadata; several keys would come in a random order


def contiguous(model):
    """Weights and statistics of a model by name, in the form in which files keep them."""
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}


def save_weights(path, tensors, settings):
    """Write tensors with a checksum and the settings that give them their meaning.

    Parameters
    ----------
    path : str or Path
    tensors : dict of str to Tensor
        From :func:`contiguous`.
    settings : dict
        JSON-like values, such as the network and its width.
    """
    record = json.dumps({"checksum": _checksum(tensors), "settings": settings}, sort_keys=True)
    with files.replacing(path) as temporary:
        temporary.write_bytes(save(tensors, {RECORD: record}))


def load_weights(path, settings=None):
    """Read the tensors of :func:`save_weights`.

    Parameters
    ----------
    path : str or Path
    settings : dict, optional
        The settings of the model that takes the tensors.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    InputError
        If the file is missing or damaged, or was written with other settings. Files of older
        versions have neither checksum nor settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {}).get(RECORD, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{path}: cannot be read as weights ({error}); restore the file or train again"
        ) from None
    if record.get("checksum", _checksum(tensors)) != _checksum(tensors):
        raise InputError(
            f"{path}: is damaged, its values do not have the checksum with which they were "
            "written; restore the file or train again"
        )
    recorded = record.get("settings", {})
    settings = json.loads(json.dumps(recorded if settings is None else settings))
    differing = [name for name in settings if recorded.get(name, settings[name]) != settings[name]]
    if differing:
        raise InputError(
            f"{path}: was trained with another {' and '.join(differing)} than config.yaml and "
            "normalisation.json beside it have; restore these files, or train under another name"
        )
    return tensors


def _checksum(tensors):
    """CRC-32 of names, types, shapes and values."""
    value = 0
    for name, tensor in sorted(tensors.items()):
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        value = zlib.crc32(tensor.reshape(-1).numpy(), value)
    return value
