"""Flags: values of a variable that are no numbers but have a meaning, by CF attributes."""

import re

import numpy as np


def meanings(attrs):
    """The values of a variable that are flags.

    Parameters
    ----------
    attrs : dict
        Attributes of the variable, with ``flag_values`` and ``flag_meanings``.

    Returns
    -------
    dict of float to str
        Meaning of each value, in lower case; empty without these attributes.
    """
    if "flag_values" not in attrs or "flag_meanings" not in attrs:
        return {}
    values = attrs["flag_values"]
    if isinstance(values, str):
        values = re.findall(r"-?\d+(?:\.\d+)?", values)
    words = str(attrs["flag_meanings"]).lower().replace(",", " ").split()
    return dict(zip(np.atleast_1d(values).astype(float).tolist(), words, strict=False))


def scaled(attrs, factor, offset):
    """Attributes after the values of a variable were multiplied by a factor and shifted.

    Parameters
    ----------
    attrs : dict
    factor, offset : float

    Returns
    -------
    dict
        With ``flag_values`` converted in the same way.
    """
    flags = meanings(attrs)
    if not flags:
        return attrs
    return attrs | {"flag_values": [value * float(factor) + float(offset) for value in flags]}


def unpacked(field):
    """A field whose flags are numbers of its values, where CF gives those of its packed values.

    Parameters
    ----------
    field : xarray.DataArray
        As decoded by xarray, with the scale in its encoding.

    Returns
    -------
    xarray.DataArray
    """
    result = field.copy(deep=False)
    packing = field.encoding.get("scale_factor", 1), field.encoding.get("add_offset", 0)
    result.attrs = scaled(field.attrs, *packing)
    return result
