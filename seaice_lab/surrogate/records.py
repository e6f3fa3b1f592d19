"""Records of a series: those that lack values, that are zero, or that contradict their unit."""

from functools import partial

import dask.array as da
import numpy as np

from seaice_lab import names
from seaice_lab.errors import InputError
from seaice_lab.times import time_text

SAMPLE = 8  # records that are read to learn what a series holds
FROM_VALUES = "cells where "  # begins the comment of an ocean mask that comes from the values

# A field that is not zero in at least this share and number of the ocean cells does not vanish
# everywhere within so short a step.
SHARE, CELLS, STEP = 0.25, 20, np.timedelta64(48, "h")
ICE = ("sit", "sic")
# The largest value in some records of a region is not smaller, if the unit is right.
LARGEST = {"sit": 0.05, "sic": 0.02, "snt": 0.01, "siu": 0.01, "siv": 0.01, "damage": 0.02}
LARGEST |= {"u10": 1.0, "v10": 1.0}


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
        From :func:`seaice_lab.surrogate.masks.ocean_mask`.
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
        stamp, cells = time_text(time), ocean.sum()
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
                "add an ocean mask, and `missing_is_no_ice: true` to the entry of the catalogue"
            )
        reason = f" (flags of the file: {reasons})" if reasons else ""
        raise InputError(
            f"{where} at {stamp} has {lacking} NaN in ocean cells of the mask, expected "
            f"none{reason}; fill them in the files, correct the mask ({comment}), crop the grid, "
            "or, if NaN means no ice, add `missing_is_no_ice: true` to the entry of the catalogue"
        )
    return np.where(ocean, values, np.nan).astype(values.dtype)


def check_zero_records(fields, source, first, config):
    """Refuse a record that is zero everywhere between records that are not.

    Parameters
    ----------
    fields : xarray.Dataset
        Some successive records, (time, y, x), in memory.
    source : xarray.Dataset
        All records (lazy), with ``ocean(y, x)`` and ``segment(time)``.
    first : int
        Position of the first record of ``fields`` in ``source``.
    config : PrepareConfig

    Raises
    ------
    InputError
        If all ocean cells of a record are zero, but many of them are not in the records before and
        after it, or, for thickness and concentration, in the record before it.
    """
    ocean = fields.ocean.values
    threshold = max(SHARE * ocean.sum(), CELLS)
    for name, field in fields.items():
        for at in first + np.flatnonzero(~field.values[:, ocean].any(axis=1)):
            before, after = (_nonzero(source, name, at, by) if by else 0 for by in (-1, 1))
            is_short = source.time.values[at] - source.time.values[max(at - 1, 0)] <= STEP
            is_lost = name in ICE and before >= threshold and is_short
            if is_lost or min(before, after) >= threshold:
                entry = config.state if name in config.variables else config.forcing or config.state
                raise InputError(
                    f"{entry}: {name} at {time_text(source.time.values[at])} is 0 in all "
                    f"{ocean.sum()} ocean cells, but not 0 in {before} of them one record earlier; "
                    "the record is probably missing and was filled with zeros: supply it, or leave "
                    "it out of the files and set allow_gaps to true"
                )


def _nonzero(source, name, at, by):
    """Number of ocean cells that are not zero ``by`` records later in the same segment."""
    neighbour = at + by
    segment = source.segment.values
    if not 0 <= neighbour < len(segment) or segment[neighbour] != segment[at]:
        return 0
    return int(np.count_nonzero(source[name].isel(time=neighbour).values[source.ocean.values]))


def check_field(field, ocean, config):
    """Check that a field has no NaN in the ocean and plausible values.

    Parameters
    ----------
    field : xarray.DataArray (time, y, x)
    ocean : ndarray of bool (y, x)
        True where sea.
    config : PrepareConfig

    Raises
    ------
    InputError
        If an ocean cell holds NaN, or values that no field in the right unit takes.
    """
    entry = config.state if field.name in config.variables else config.forcing or config.state
    values = field.values[:, ocean]
    nan_count = np.isnan(values).sum(axis=1)
    if nan_count.any():
        first = int(np.argmax(nan_count > 0))
        some = f"{nan_count[first]} NaN in ocean cells of the mask, expected none"
        raise InputError(
            f"{entry}: {field.name} at {time_text(field.time.values[first])} has "
            f"{'no value in the ocean' if nan_count[first] == ocean.sum() else some}; supply this "
            "record, fill its values or correct the mask"
        )
    if values.size:
        names.check_range(field.name, values.min(), values.max(), entry)


def check_unit(sample, where):
    """Refuse values that are far too small for the unit that their file states.

    Parameters
    ----------
    sample : xarray.DataArray
        Some records in memory; the attribute ``units_in_file`` is there if they were converted.
    where : str
        The dataset in the message.

    Raises
    ------
    InputError
        If the largest value is smaller than that of any field of this kind, as if percent were
        stated for fractions.
    """
    units, expected = sample.attrs.get("units_in_file"), names.variable(sample.name).units
    largest = float(abs(sample).max())
    if units is not None and 0 < largest < LARGEST.get(sample.name, 0):
        raise InputError(
            f"{where}: {sample.name} has the units {units!r}, by which its largest value is only "
            f"{largest:.2g} in units of {expected!r}; correct the units of the file, for example "
            f"with ncatted, or, if the values are right, convert them to {expected!r}"
        )
