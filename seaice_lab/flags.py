"""Flags: values of a variable that are no numbers but have a meaning, by CF attributes."""

import re

import numpy as np

from seaice_lab.errors import InputError


def meanings(attrs):
    """The values of a variable that are flags.

    Parameters
    ----------
    attrs : dict
        Attributes of the variable, with ``flag_values`` and ``flag_meanings``.

    Returns
    -------
    dict of float to str
        Meaning of each value, in lower case; empty without these attributes, and where the numbers
        of values and meanings differ.
    """
    if "flag_values" not in attrs or "flag_meanings" not in attrs:
        return {}
    values = attrs["flag_values"]
    if isinstance(values, str):
        values = re.findall(r"-?\d+(?:\.\d+)?", values)
    values = np.atleast_1d(values).astype(float).tolist()
    text = str(attrs["flag_meanings"]).lower()
    # CF separates meanings by blanks; some files have commas, and then blanks within a meaning.
    for words in ([word.strip() for word in text.split(",")], text.replace(",", " ").split()):
        if len(words) == len(values):
            return dict(zip(values, words, strict=True))
    return {}


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


def unpacked(field, where):
    """A field whose flags are numbers of its values, where CF gives those of its packed values.

    Parameters
    ----------
    field : xarray.DataArray
        As decoded by xarray, with the scale in its encoding.
    where : str
        File to name in the message.

    Returns
    -------
    xarray.DataArray

    Raises
    ------
    InputError
        If not every flag has one meaning.
    """
    if {"flag_values", "flag_meanings"} <= field.attrs.keys() and not meanings(field.attrs):
        raise InputError(
            f"{where}: {field.name} has the flag_values {field.attrs['flag_values']} and the "
            f"flag_meanings {field.attrs['flag_meanings']!r}, expected one meaning for each value; "
            "correct the attributes, for example with ncatted"
        )
    result = field.copy(deep=False)
    packing = field.encoding.get("scale_factor", 1), field.encoding.get("add_offset", 0)
    result.attrs = scaled(field.attrs, *packing)
    return result
