"""The ocean mask of a dataset: which variable of the files says where the sea is, and how.

Whether 1 means sea or land is stated by the entry of the catalogue, by CF attributes or by the
description of the variable; the statement must agree with the ice, which floats on the sea. Where
only the name of a variable says that it is a mask, the ice decides. Without a mask, the ocean is
where the variables that are asked for have values, and these cells must not change with time.
"""

import re
from functools import partial, reduce
from operator import or_

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import flags
from seaice_lab.errors import InputError

SAMPLE = 8  # records that are read to learn where there is ice
STRAY_ICE = 0.05  # share of the ice that may be on land, at the coasts of regridded files

# Names of masks in model output and products, in lower case. Masks of velocity points are others.
NAMES = frozenset(
    """
    mask landmask land_mask lmask lsm lsmask lsm_mask land_sea_mask landsea_mask landseamask land
    sftlf ocean oceanmask ocean_mask sea seamask sea_mask water_mask watermask wet wet_c wet_t
    tmask tmaskutil mask_t mask_rho maskrho sftof kmt
    """.split()
)
# What 1 means by the CF standard name.
STANDARD_NAMES = {
    "sea_binary_mask": True,
    "sea_area_fraction": True,
    "land_binary_mask": False,
    "land_area_fraction": False,
}
SEA = re.compile(r"ocean|sea[ _-]?ice|sea|water|wet")
LAND = re.compile(r"land|lake|coast|shelf|dry")
# "not_land" is sea; but "no_sea_ice" is sea too.
NEGATED = re.compile(r"(?<![a-z])(?:no|non|not)[ _-]?(?!sea[ _-]?ice)[a-z]+$")
NUMBER_FIRST = re.compile(r"\b(\d+)\s*(?:=|:|-|is|for|if|where|over|on|means)\s*([a-z_ ]+)")
WORD_FIRST = re.compile(r"\b([a-z_]+)\s*(?:=|:|\(|is)\s*(\d+)\b")
FROM_VALUES = "cells where "
# Bytes of NSIDC-0051 in units of 1 / 250; the first versions have no attributes for them.
NSIDC_BYTES = {251: "pole_hole", 252: "unused", 253: "coastline", 254: "land", 255: "missing"}
NSIDC_FLAGS = {byte / 250: meaning for byte, meaning in NSIDC_BYTES.items()}


def ocean_mask(raw, entry, fields):
    """The ocean mask of a dataset.

    Parameters
    ----------
    raw : xarray.Dataset
        As opened by :func:`seaice_lab.catalog.open`.
    entry : seaice_lab.catalog.Entry
    fields : xarray.Dataset
        The variables asked for, (time, y, x); NaN where they have no value.

    Returns
    -------
    xarray.DataArray of bool (y, x)
        True where sea; the attribute ``comment`` says where the mask comes from.

    Raises
    ------
    InputError
        If a mask cannot be decided or changes with time, or no cell is sea.
    """
    sample = fields.isel(time=sample_records(fields.sizes["time"])).compute()
    ocean, comment = (
        _from_flags(raw, entry, sample) or _from_mask(raw, entry, sample) or _from_values(sample)
    )
    if not ocean.any():
        raise InputError(
            f"{entry.name}: no cell is sea ({comment}); check the mask and the values in the files"
        )
    attrs = {"long_name": "ocean mask, true where sea", "comment": comment}
    return xr.DataArray(ocean, dims=("y", "x"), attrs=attrs)


def sample_records(count):
    """Positions of a few records from the first to the last of ``count``, ndarray of int."""
    return np.unique(np.linspace(0, count - 1, SAMPLE).astype(int))


def on_ocean(field, ocean, name):
    """A lazy field without its values on land; reading it refuses a record that lacks values.

    Parameters
    ----------
    field : xarray.DataArray (time, y, x)
        Its attribute ``flags`` may name reasons for missing values.
    ocean : xarray.DataArray of bool (y, x)
        From :func:`ocean_mask`.
    name : str
        The dataset in the message.

    Returns
    -------
    xarray.DataArray (time, y, x)
        NaN on land. Reading it raises InputError.
    """
    data = da.asarray(field.data).rechunk({1: -1, 2: -1})
    times = da.from_array(field.time.values[:, None, None], chunks=(data.chunks[0], 1, 1))
    check = partial(
        _check_records,
        ocean=ocean.values,
        where=f"{name}: {field.name}",
        comment=ocean.attrs["comment"],
        reasons=field.attrs.get("flags", ""),
    )
    return field.copy(data=da.map_blocks(check, data, times, dtype=data.dtype, meta=data._meta))


def _check_records(values, times, ocean, where, comment, reasons):
    """One block of :func:`on_ocean`."""
    for value, time in zip(values, times.ravel(), strict=True):
        lacking = np.isnan(value[ocean]).sum()
        # A mask that comes from the values must not lose sea either.
        beyond = np.isfinite(value[~ocean]).sum() if comment.startswith(FROM_VALUES) else 0
        if lacking == 0 and beyond == 0:
            continue
        stamp = pd.Timestamp(time).isoformat(timespec="minutes")
        cells = ocean.sum()
        if lacking == cells:
            raise InputError(
                f"{where} at {stamp} has no value in the ocean; supply this record, or leave it "
                "out of the files and set allow_gaps to true"
            )
        if comment.startswith(FROM_VALUES):
            raise InputError(
                f"{where} at {stamp} has values in {np.isfinite(value).sum()} cells, but the ocean "
                f"has {cells} ({comment} at any of several times); the files have no mask, so a "
                'missing value may be land or may mean "no ice": write 0 where there is no ice, or '
                "add an ocean mask to the files"
            )
        reason = f" (flags of the file: {reasons})" if reasons else ""
        raise InputError(
            f"{where} at {stamp} has {lacking} NaN in ocean cells of the mask, expected "
            f"none{reason}; fill them in the files (with 0 where NaN means no ice), correct the "
            f"mask ({comment}), or crop the grid"
        )
    return np.where(ocean, values, np.nan).astype(values.dtype)


def _from_values(sample):
    """Cells where any of the variables has a value in any of the records that were read."""
    finite = [np.isfinite(field).any("time").values for field in sample.values()]
    names = " or ".join(sample)
    return np.logical_or.reduce(finite), f"{FROM_VALUES}{names} has a value"


def _from_flags(raw, entry, sample):
    """Land by the flags of a field itself, as in concentrations of NSIDC; None without flags."""
    for short in sample:
        field = raw[entry.variables[short]]
        land = [
            value for value, meaning in field_flags(field, entry).items() if LAND.search(meaning)
        ]
        if land:
            records = field.isel(time=sample_records(field.sizes["time"])).compute()
            is_land = _is_flag(records, land)
            # A record that is missing does not say what is land.
            changing = is_land.any("time") & (records.notnull() & ~is_land).any("time")
            if changing.any():
                raise InputError(
                    f"{entry.name}: the land flags of {field.name} change with time in "
                    f"{int(changing.sum())} cells; use files with one mask"
                )
            ocean = ~is_land.any("time").values
            return ocean, f"cells of {field.name} without a flag of land"
    return None


def field_flags(field, entry):
    """Values of a field that are flags, such as land in concentrations of NSIDC.

    Parameters
    ----------
    field : xarray.DataArray
        As opened by :func:`seaice_lab.catalog.open`.
    entry : seaice_lab.catalog.Entry

    Returns
    -------
    dict of float to str
        Meaning of each value, after the scale of the file is applied.
    """
    if entry.format == "nsidc0051":
        return flags.meanings(field.attrs) or NSIDC_FLAGS
    return flags.meanings(field.attrs)


def without_flags(field, entry):
    """A field with NaN where it has flags; its attribute ``flags`` lists them.

    Parameters
    ----------
    field : xarray.DataArray
        As opened by :func:`seaice_lab.catalog.open`.
    entry : seaice_lab.catalog.Entry

    Returns
    -------
    xarray.DataArray
    """
    values = field_flags(field, entry)
    if not values:
        return field
    reasons = [meaning for meaning in values.values() if not LAND.search(meaning)]
    return field.where(~_is_flag(field, values)).assign_attrs(flags=", ".join(reasons))


def _is_flag(field, values):
    """Whether each value of a field is one of some flags, but for the rounding of float32."""
    return reduce(or_, [abs(field - value) < 1e-4 * max(abs(value), 1) for value in values])


def _from_mask(raw, entry, sample):
    """The ocean by a mask variable of the files, and which; None without one."""
    dims = [dim for dim in raw[entry.variables[next(iter(sample))]].dims if dim != "time"]
    oceans = {}
    for name in _candidates(raw, entry, dims):
        if name in raw.attrs.get("differing", {}):
            raise InputError(
                f"{raw.attrs['differing'][name]}: its mask {name} is not that of the first file of "
                f"{entry.name}; all files of one entry need the same mask"
            )
        mask = _constant(raw[name], entry, dims)
        oceans[name] = _read_mask(mask, entry, sample)
    if not oceans:
        return None
    first_name = next(iter(oceans))
    for name, ocean in oceans.items():
        differing = (ocean != oceans[first_name]).sum()
        if differing:
            raise InputError(
                f"{entry.name}: the masks {first_name} and {name} differ in {differing} cells; "
                f"{_how_to_say(name)}"
            )
    return oceans[first_name], f"variable {first_name}"


def _candidates(raw, entry, dims):
    """Names of the variables that may be the mask."""
    if entry.mask is not None:
        if entry.mask.variable not in raw.variables:
            raise InputError(
                f"{entry.name}: the files have no variable {entry.mask.variable}, which is the "
                "mask by the entry of the catalogue; correct the key mask"
            )
        return [entry.mask.variable]
    fields = entry.variables.values()
    return [
        name
        for name, variable in raw.variables.items()
        if name not in fields
        and set(dims) <= set(variable.dims)
        and variable.dtype.kind in "buif"
        and (name.lower() in NAMES or _is_mask(variable.attrs))
    ]


def _is_mask(attrs):
    if attrs.get("standard_name") in STANDARD_NAMES:
        return True
    return {True, False} <= {_is_sea(meaning) for meaning in flags.meanings(attrs).values()}


def _is_sea(meaning):
    """Whether a word means sea (True) or land (False); None if neither."""
    matches = [match for match in (SEA.search(meaning), LAND.search(meaning)) if match]
    if not matches:
        return None
    first = min(matches, key=lambda match: match.start())
    return (first.re is SEA) != bool(NEGATED.search(meaning[: first.end()]))


def _constant(mask, entry, dims):
    """A mask without its further axes, (y, x); refused if it changes along them."""
    further_dims = [dim for dim in mask.dims if dim not in dims]
    for dim in further_dims:
        if dim != "time" and mask.sizes[dim] > 1:
            raise InputError(
                f"{entry.name}: the mask {mask.name} has the dimension {dim} of {mask.sizes[dim]}; "
                "supply a mask of the surface"
            )
    first = mask.isel(dict.fromkeys(further_dims, 0))
    if further_dims and bool((mask.fillna(-1) != first.fillna(-1)).any()):
        raise InputError(
            f"{entry.name}: the mask {mask.name} changes with time; supply one mask for all times"
        )
    return first.transpose(*dims).load()


def _read_mask(mask, entry, sample):
    """The ocean (y, x) by the values of one mask."""
    values, attrs = mask.values.astype(float), mask.attrs
    if entry.mask is not None:
        return _by_rule(values, entry, attrs)
    if flags.meanings(attrs):
        sea = [number for number, meaning in flags.meanings(attrs).items() if _is_sea(meaning)]
        return _agreed(np.isin(values, sea), True, mask.name, entry, sample)
    if mask.name.lower() == "kmt":
        # The number of levels: none on land.
        return _agreed(values > 0, True, mask.name, entry, sample)
    values = _fraction(values, attrs)
    finite = np.isfinite(values)
    if finite.any() and (values[finite].min() < 0 or values[finite].max() > 1):
        numbers = ", ".join(f"{number:g}" for number in np.unique(values[finite])[:6])
        raise InputError(
            f"{entry.name}: the mask {mask.name} has the values {numbers}, and nothing says which "
            f"of them are sea; {_how_to_say(mask.name)}"
        )
    nearer_one = np.nan_to_num(values) > 0.5
    # NaN beside 0 and 1 is outside of the region of the file.
    inside = finite if (values == 0).any() and (values == 1).any() else True
    ocean = _agreed(nearer_one, _statement(attrs), mask.name, entry, sample)
    return ocean & inside


def _fraction(values, attrs):
    is_percent = attrs.get("units") in ("%", "percent") or np.nanmax(values, initial=0) == 100
    return values / 100 if is_percent else values


def _by_rule(values, entry, attrs):
    """The ocean by the key ``mask`` of the entry."""
    sea = np.atleast_1d(entry.mask.ocean)
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() >= 0 and finite.max() <= 1 and len(sea) == 1:
        # A fraction belongs to the nearer of land and sea.
        return np.abs(values - sea[0]) < 0.5
    return np.isin(values, sea)


def _statement(attrs):
    """Whether 1 is sea (True) or land (False) by the attributes of a mask; None if unknown."""
    if attrs.get("standard_name") in STANDARD_NAMES:
        return STANDARD_NAMES[attrs["standard_name"]]
    options = [f"{key[7:]} = {text}" for key, text in attrs.items() if key.startswith("option_")]
    texts = [str(attrs.get(key, "")) for key in ("long_name", "description", "comment")]
    text = "; ".join([*texts, *options]).lower()
    pairs = NUMBER_FIRST.findall(text)
    pairs += [(number, word) for word, number in WORD_FIRST.findall(text)]
    stated = {
        _is_sea(word) == (number == "1")
        for number, word in pairs
        if number in "01" and _is_sea(word) is not None
    }
    return stated.pop() if len(stated) == 1 else None


def _agreed(is_one, one_is_sea, name, entry, sample):
    """The ocean: ``is_one`` or its opposite, as stated or, without a statement, by the ice."""
    ice = _ice(sample)
    ice_fits = {is_sea: _ice_is_on(is_one == is_sea, ice, sample) for is_sea in (True, False)}
    if one_is_sea is None:
        if ice_fits[True] == ice_fits[False]:
            raise InputError(
                f"{entry.name}: nothing says whether 1 is sea or land in the mask {name}, and "
                f"{'there is ice on both' if ice.any() else 'no ice shows it'}; {_how_to_say(name)}"
            )
        one_is_sea = ice_fits[True]
    elif ice_fits[not one_is_sea] and not ice_fits[one_is_sea]:
        raise InputError(
            f"{entry.name}: the attributes of the mask {name} say where the sea is, but the ice of "
            f"{' and '.join(sample)} is on land by them; correct the attributes, or, if the mask "
            f"is right, {_how_to_say(name)}"
        )
    return is_one == one_is_sea


def _ice(sample):
    """Cells with ice in any of the records that were read."""
    # Drift may have values on land; it counts only if nothing else shows the ice.
    names = [name for name in sample if name in ("sit", "sic", "snt")] or list(sample)
    cells = [((field != 0) & field.notnull()).any("time").values
             for field in (sample[name] for name in names)]  # fmt: skip
    return np.logical_or.reduce(cells)


def _ice_is_on(ocean, ice, sample):
    """Whether nearly all ice is on these cells; without any ice, whether all values are."""
    if ice.any():
        return bool((ice & ~ocean).sum() <= STRAY_ICE * ice.sum())
    finite = _from_values(sample)[0]
    return bool(finite.any() and (finite == ocean).all())


def _how_to_say(name):
    return f"say it in the entry of the catalogue, such as `mask: {{variable: {name}, ocean: 1}}`"
