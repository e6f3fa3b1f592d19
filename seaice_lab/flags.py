"""Flags: values of a variable that are no numbers but have a meaning, by CF attributes."""

import re
from typing import NamedTuple

import numpy as np

from seaice_lab.errors import InputError


class Flag(NamedTuple):
    """A flag: its meaning in lower case, its value, and the bits that it occupies (None: all)."""

    meaning: str
    value: float
    bits: int | None = None

    @property
    def is_bit(self):
        """Whether the flag is a bit of its own, which may be set beside other ones."""
        return self.bits == self.value

    def is_set(self, values):
        """Whether each value has the flag; a missing value has none.

        Parameters
        ----------
        values : xarray.DataArray
            Numbers as in the file, multiplied by its scale.

        Returns
        -------
        xarray.DataArray of bool
        """
        if self.bits is None:
            # Values in single precision are rounded.
            return abs(values - self.value) < 1e-4 * max(abs(self.value), 1)
        is_set = values.fillna(0).astype(int) & self.bits == int(self.value)
        return is_set & values.notnull()


def read(attrs):
    """The flags of a variable.

    Parameters
    ----------
    attrs : dict
        Attributes of the variable: ``flag_meanings`` with ``flag_values``, ``flag_masks`` or both.

    Returns
    -------
    list of Flag
        Empty without these attributes, and where the numbers of values and meanings differ.
    """
    values, bits = (_numbers(attrs.get(key)) for key in ("flag_values", "flag_masks"))
    text = str(attrs.get("flag_meanings", "")).lower()
    count = len(values or bits)
    # CF separates meanings by blanks; some files have commas, and then blanks within a meaning.
    for words in ([word.strip() for word in text.split(",")], text.replace(",", " ").split()):
        if len(words) == count and (not bits or len(bits) == count):
            bits = [int(number) for number in bits] or [None] * count
            # Without values, each flag is a bit of its own.
            return list(map(Flag, words, values or bits, bits))
    return []


def _numbers(attribute):
    if isinstance(attribute, str):
        attribute = re.findall(r"-?\d+(?:\.\d+)?", attribute)
    return [] if attribute is None else np.atleast_1d(attribute).astype(float).tolist()


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
    if "flag_values" not in attrs or "flag_masks" in attrs or not read(attrs):
        return attrs
    return attrs | {"flag_values": [flag.value * factor + offset for flag in read(attrs)]}


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
    if {"flag_values", "flag_meanings"} <= field.attrs.keys() and not read(field.attrs):
        raise InputError(
            f"{where}: {field.name} has the flag_values {field.attrs['flag_values']} and the "
            f"flag_meanings {field.attrs['flag_meanings']!r}, expected one meaning for each value; "
            "correct the attributes, for example with ncatted"
        )
    result = field.copy(deep=False)
    packing = field.encoding.get("scale_factor", 1), field.encoding.get("add_offset", 0)
    result.attrs = scaled(field.attrs, *map(float, packing))
    return result
