"""The ocean mask of a dataset: which variable of the files says where the sea is, and how.

Whether 1 means sea or land is stated by the entry of the catalogue, by CF attributes or by the
description of the variable; the statement must agree with the ice, which floats on the sea. Where
only the name of a variable says that it is a mask, the ice decides. The entry may name a file with
the mask. Without a mask, the ocean is where the variables that are asked for have values, and
these cells must not change with time.
"""

from functools import reduce
from operator import or_

import numpy as np
import xarray as xr

from seaice_lab import catalog, flags, formats, grid, positions, recognise
from seaice_lab.errors import InputError
from seaice_lab.land import on_land
from seaice_lab.surrogate.mask_meaning import LAND, is_mask, one_is_sea, sea_and_land
from seaice_lab.surrogate.records import FROM_VALUES, sample_records
from seaice_lab.surrogate.regrid import nearest_points

STRAY_ICE = 0.05  # share of the ice that may be on land, at the coasts of regridded files
LEAST_SHARE = 0.02  # of cells with land, and with ice; zeros on less land are no evidence

# Bytes of NSIDC-0051 in units of 1 / 250; the first versions have no attributes for them.
NSIDC_BYTES = {251: "pole_hole", 252: "unused", 253: "coastline", 254: "land", 255: "missing"}
NSIDC_FLAGS = [flags.Flag(meaning, byte / 250) for byte, meaning in NSIDC_BYTES.items()]


def ocean_mask(raw, entry, fields):
    """The ocean mask of a dataset.

    Parameters
    ----------
    raw : xarray.Dataset
        As opened by :func:`seaice_lab.datasets.open`.
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
        _from_flags(raw, entry, sample)
        or _from_mask(raw, entry, sample)
        or _from_values(raw, entry, sample)
    )
    if not ocean.any():
        raise InputError(
            f"{entry.name}: no cell is sea ({comment}); check the mask and the values in the files"
        )
    attrs = {"long_name": "ocean mask, true where sea", "comment": comment}
    return xr.DataArray(ocean, dims=("y", "x"), attrs=attrs)


def _from_values(raw, entry, sample):
    """Cells where any of the variables has a value in any of the records that were read."""
    ocean, names = _has_values(sample), " or ".join(sample)
    if entry.missing_is_no_ice:
        raise InputError(
            f"{entry.name}: has no mask, so a missing value may be land or, by the key "
            "missing_is_no_ice of its entry, no ice; add an ocean mask to the files, or name one "
            "in the entry, such as `mask: {variable: lsm, file: mask.nc}`"
        )
    if ocean.all():
        _refuse_likely_mask(raw, entry, sample)
        _refuse_zeros_on_land(raw, entry, sample)
    return ocean, f"{FROM_VALUES}{names} has a value"


def _refuse_likely_mask(raw, entry, sample):
    """Refuse a variable that is 0 or 1 with all ice on one of them, which nothing calls a mask."""
    dims, ice = sample[next(iter(sample))].dims[1:], _ice(sample)
    for name, variable in raw.data_vars.items():
        if set(variable.dims) != set(dims) or variable.dtype.kind not in "bui":
            continue
        is_one = variable.transpose(*dims).values == 1
        is_binary = is_one.any() and (variable.values == 0).sum() == (~is_one).sum() > 0
        if is_binary and ice.any() and any(_ice_is_on(is_one == n, ice, sample) for n in (0, 1)):
            raise InputError(
                f"{entry.name}: has values in all cells, and its variable {name} may be the "
                f"mask, since it is 0 or 1 and all ice is on one of them; {_how_to_say(name)}"
            )


def _refuse_zeros_on_land(raw, entry, sample):
    """Refuse fields that have ice on much of the sea and only zeros on the land of the Earth."""
    latitude, longitude = raw.latitude.values, raw.longitude.values
    if not np.isfinite(latitude + longitude).all() or latitude.min() < 0 < latitude.max():
        return
    hemisphere, ice = grid.hemisphere_of(latitude), _ice(sample)
    land = on_land(*grid.project(latitude, longitude, hemisphere), hemisphere)
    is_bare = (ice & land).sum() <= STRAY_ICE * land.sum()
    if land.mean() > LEAST_SHARE and is_bare and (ice & ~land).mean() > LEAST_SHARE:
        raise InputError(
            f"{entry.name}: has no mask and values in all cells, and {' and '.join(sample)} are 0 "
            f"in {land.sum()} cells that are land by the positions, so land may be filled with "
            "zeros; add an ocean mask to the files, or name one in the entry, such as "
            "`mask: {variable: lsm, file: mask.nc}`"
        )


def _has_values(sample):
    return np.logical_or.reduce([field.notnull().any("time").values for field in sample.values()])


def _from_flags(raw, entry, sample):
    """Land by the flags of a field itself, as in concentrations of NSIDC; None without flags."""
    for short in sample if entry.mask is None else ():
        field = raw[entry.variables[short]]
        land = [flag for flag in _field_flags(field, entry) if LAND.search(flag.meaning)]
        if land:
            records = field.isel(time=sample_records(field.sizes["time"])).compute()
            is_land = _any_is_set(land, records)
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


def _any_is_set(flagged, values):
    return reduce(or_, [flag.is_set(values) for flag in flagged])


def _field_flags(field, entry):
    """Values of a field that are flags, such as land in concentrations of NSIDC."""
    return flags.read(field.attrs) or (NSIDC_FLAGS if entry.format == "nsidc0051" else [])


def without_flags(field, entry):
    """A field with NaN where it has flags; its attribute ``flags`` lists them.

    Parameters
    ----------
    field : xarray.DataArray
        As opened by :func:`seaice_lab.datasets.open`.
    entry : seaice_lab.catalog.Entry

    Returns
    -------
    xarray.DataArray
    """
    flagged = _field_flags(field, entry)
    if not flagged:
        return field
    reasons = [flag.meaning for flag in flagged if not LAND.search(flag.meaning)]
    return field.where(~_any_is_set(flagged, field)).assign_attrs(flags=", ".join(reasons))


def _from_mask(raw, entry, sample):
    """The ocean by a mask variable of the files, and which; None without one."""
    dims = [dim for dim in raw[entry.variables[next(iter(sample))]].dims if dim != "time"]
    oceans = {}
    if entry.mask is not None and entry.mask.file is not None:
        mask = _mask_of_file(raw, entry)
        # Cells without a position are land.
        has_position = np.isfinite(raw.latitude.values + raw.longitude.values)
        ocean = _read_mask(mask, entry, sample, dims) & has_position
        return ocean, f"variable {mask.name} of {entry.mask.file}"
    for name in _candidates(raw, entry, dims):
        if name in raw.attrs.get("differing", {}):
            raise InputError(
                f"{raw.attrs['differing'][name]}: its mask {name} is not that of the first file of "
                f"{entry.name}; all files of one entry need the same mask"
            )
        oceans[name] = _read_mask(raw[name], entry, sample, dims)
    if not oceans:
        return None
    (first_name, first), *others = oceans.items()
    for name, ocean in others:
        differing = (ocean != first).sum()
        if differing:
            raise InputError(
                f"{entry.name}: the masks {first_name} and {name} differ in {differing} cells; "
                f"{_how_to_say(name)}"
            )
    return first, f"variable {first_name}"


def _mask_of_file(raw, entry):
    """The mask of another file at the cells of the dataset, whatever the order of its cells."""
    name, (path, *_) = entry.mask.variable, catalog.files(entry, [entry.mask.file])
    with formats.closing_files():
        file = formats.open_raw(path, [name])
        if name not in file:
            raise InputError(
                f"{path}: has no variable {name}, which is the mask by the entry {entry.name} (it "
                f"has {', '.join(file.data_vars)}); correct the key mask"
            )
        file = recognise.to_convention(file, [name], str(path), entry.mask.select, has_time=False)
        mask = positions.plane(file, str(path))[name].isel(time=0, drop=True).load()
    cells = (np.nan_to_num(raw[axis].values) for axis in positions.UNITS_OF)
    points, index = nearest_points(mask, *cells, str(path))
    nearest = (xr.Variable(("y", "x"), degrees.ravel()[index]) for degrees in points)
    nearest = xr.Dataset(dict(zip(positions.UNITS_OF, nearest, strict=True)))
    positions.check_same(nearest, raw, f"{path}, mask {name}", entry.name)
    values = mask.values.ravel()[index]
    return xr.DataArray(values, dims=("y", "x"), name=name, attrs=mask.attrs)


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
        and is_mask(name, variable.attrs)
    ]


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
    if further_dims and bool(((mask != first) & (mask.notnull() | first.notnull())).any()):
        raise InputError(
            f"{entry.name}: the mask {mask.name} changes with time; supply one mask for all times"
        )
    return first.transpose(*dims).values


def _read_mask(mask, entry, sample, dims):
    """The ocean (y, x) by the values of one mask."""
    attrs, name = mask.attrs, mask.name
    if entry.mask is not None and entry.mask.ocean is not None:
        return _by_rule(_constant(mask, entry, dims).astype(float), entry)
    sea, land = sea_and_land(attrs)
    if sea or land:
        # A cell may have the bits of several flags, but one value.
        by_land = not sea or (land and land[0].is_bit)
        is_sea = mask.notnull() & ~_any_is_set(land, mask) if by_land else _any_is_set(sea, mask)
        return _agreed(_constant(is_sea.rename(name), entry, dims), True, name, entry, sample)
    values = _constant(mask, entry, dims).astype(float)
    if name.lower() == "kmt":
        # The number of levels: none on land.
        return _agreed(values > 0, True, name, entry, sample)
    if attrs.get("units") in ("%", "percent") or np.nanmax(values, initial=0) == 100:
        values = values / 100
    finite = np.isfinite(values)
    if finite.any() and (values[finite].min() < 0 or values[finite].max() > 1):
        numbers = ", ".join(f"{number:g}" for number in np.unique(values[finite])[:6])
        raise InputError(
            f"{entry.name}: the mask {name} has the values {numbers}, and nothing says which "
            f"of them are sea; {_how_to_say(name)}"
        )
    nearer_one = np.nan_to_num(values) > 0.5
    # NaN beside 0 and 1 is outside of the region of the file.
    inside = finite if (values == 0).any() and (values == 1).any() else True
    return _agreed(nearer_one, one_is_sea(attrs), name, entry, sample) & inside


def _by_rule(values, entry):
    """The ocean by the key ``mask`` of the entry."""
    sea = np.atleast_1d(entry.mask.ocean)
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() >= 0 and finite.max() <= 1 and len(sea) == 1:
        # A fraction belongs to the nearer of land and sea.
        return np.abs(values - sea[0]) < 0.5
    return np.isin(values, sea)


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
    return np.logical_or.reduce([(sample[n].fillna(0) != 0).any("time").values for n in names])


def _ice_is_on(ocean, ice, sample):
    """Whether nearly all ice is on these cells; without any ice, whether all values are."""
    if ice.any():
        return bool((ice & ~ocean).sum() <= STRAY_ICE * ice.sum())
    finite = _has_values(sample)
    return bool(finite.any() and (finite == ocean).all())


def _how_to_say(name):
    return f"say it in the entry of the catalogue, such as `mask: {{variable: {name}, ocean: 1}}`"
