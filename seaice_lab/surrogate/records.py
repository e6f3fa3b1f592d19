"""Records of zeros in a series of fields, which are missing records that a tool has filled."""

import numpy as np

from seaice_lab.errors import InputError
from seaice_lab.times import time_text

# A field that is not zero in at least this share and number of the ocean cells does not vanish
# everywhere within so short a step.
SHARE, CELLS, STEP = 0.25, 20, np.timedelta64(48, "h")
ICE = ("sit", "sic")


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
