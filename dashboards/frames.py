"""Reading forecasts, their truth and references frame by frame.

Everything is opened once a process and again when it was replaced: readers take a :class:`File`,
which changes with what it names. Caches are bounded.
"""

import os
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from seaice_lab import grid, names
from seaice_lab.diagnostics import scores
from seaice_lab.errors import InputError
from seaice_lab.figures import rasters
from seaice_lab.surrogate.evaluation import open_forecast, truth_for, verification_positions
from seaice_lab.surrogate.references import make_references
from seaice_lab.surrogate.store import open_store

START_BYTES = 128e6  # a reference forecast of one start is kept whole up to this size
CLIMATOLOGY_BYTES = 600e6  # a climatology is kept up to this size
CLIMATIC = ("climatology", "damped_persistence")  # references that need one
SEASON_BYTES = 64e6  # of frames held at once


class File(NamedTuple):
    """A file or store and the version of it that is there now."""

    path: str
    version: tuple | None


def file(path):
    """The :class:`File` at a path."""
    try:
        found = os.stat(path)
    except OSError:
        return File(str(path), None)
    return File(str(path), (found.st_mtime_ns, found.st_ino))


@lru_cache(maxsize=32)
def table(of):
    """A small NetCDF file with lead times, in memory."""
    try:
        return xr.load_dataset(of.path, decode_timedelta=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{Path(of.path).name}: cannot be read ({error}); make it again") from None


@lru_cache(maxsize=16)
def forecast(of):
    """A forecast, read frame by frame."""
    return open_forecast(of.path, dask=False)


@lru_cache(maxsize=8)
def store(of):
    """A prepared store, read frame by frame."""
    return open_store(of.path, dask=False)


@lru_cache(maxsize=8)
def raster(of):
    """How the fields of a forecast are shown as pictures."""
    ocean = forecast(of).ocean
    return rasters.raster_of(ocean, ocean)


@lru_cache(maxsize=16)
def same_grid(of, other):
    """Whether two forecasts have the same cells at the same places."""
    return alike(forecast(of).ocean, forecast(other).ocean)


def alike(ocean, other):
    """Whether two ocean masks have the same cells at the same places."""
    if ocean.shape != other.shape:
        return False
    parts = ((mask, mask.latitude, mask.longitude) for mask in (ocean, other))
    return all(np.allclose(a.values, b.values, atol=1e-3) for a, b in zip(*parts, strict=True))


@lru_cache(maxsize=16)
def check_grid(of, truth):
    """Refuse a truth whose grid is not the forecast's."""
    ours, theirs = forecast(of).ocean, store(truth).ocean
    if not alike(ours, theirs):
        raise InputError(
            f"{Path(truth.path).name}: the truth has a grid of {theirs.shape} cells and its own "
            f"ocean, the forecast one of {ours.shape}; the store was made anew since: run "
            "`seaice-lab forecast` again"
        )


@lru_cache(maxsize=16)
def positions(of, truth):
    """Where on the time axis of its truth each start and lead time of a forecast lies."""
    first = next(iter(forecast(of).data_vars.values()))
    return verification_positions(first, store(truth))


@lru_cache(maxsize=32)
def frame(of, variable, start, step):
    """A forecast (y, x) by positions of start and lead time; of an ensemble the mean."""
    values = forecast(of)[variable].isel(init_time=start, lead_time=step)
    return loaded(values.mean("member") if "member" in values.dims else values, of)


@lru_cache(maxsize=32)
def truth_frame(of, variable, position):
    """The truth (y, x) at a position on the time axis of its store."""
    return loaded(store(of)[variable].isel(time=position), of)


@contextmanager
def reading(of):
    """Refuse a damaged part of a file that is read under the block."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # each codec raises its own kind for a damaged chunk
        raise InputError(
            f"{Path(of.path).name}: cannot be read here ({type(error).__name__}: {error}); it is "
            "damaged or being replaced"
        ) from None


def loaded(values, of):
    """Values as float32; a damaged or missing part is refused."""
    name = Path(of.path).name
    with reading(of):
        found = np.asarray(values.values, "float32")
    if np.isnan(found).all():
        raise InputError(f"{name}: holds no values here; a part of it is missing")
    return found


def reference(name, truth, variable):
    """A maker of reference forecasts (:mod:`seaice_lab.surrogate.references`)."""
    if name in CLIMATIC:
        return _climatic(truth, variable)[name]
    return _other_reference(name, truth, variable)


@lru_cache(maxsize=1)
def _climatic(truth, variable):
    size = 366 * 4 * store(truth).ocean.size
    if size > CLIMATOLOGY_BYTES:
        raise InputError(
            f"a climatology of a grid this large takes {size / 1e9:.1f} GB and is not made here"
        )
    return make_references(CLIMATIC, store(truth), variable)


@lru_cache(maxsize=4)
def _other_reference(name, truth, variable):
    return make_references([name], store(truth), variable)[name]


def reference_frame(name, of, truth, variable, start, step):
    """A reference forecast (y, x) on the footing of a forecast."""
    values = single(forecast(of)[variable].isel(init_time=[start]))
    if 4 * values.size <= START_BYTES or name == "free_drift":
        return reference_start(name, of, truth, variable, start)[step]
    with reading(truth):
        return reference(name, truth, variable)(values.isel(lead_time=[step])).values[0, 0]


@lru_cache(maxsize=4)
def reference_start(name, of, truth, variable, start):
    """A reference forecast (lead_time, y, x) of one start; a long one is refused.

    All who are connected would wait for it.
    """
    values = single(forecast(of)[variable].isel(init_time=[start]))
    if 4 * values.size > START_BYTES:
        raise InputError(f"{name} through so long a forecast on this grid is not made here")
    with reading(truth):
        return reference(name, truth, variable)(values).values[0]


def single(values):
    """One member of an ensemble, whose values do not matter to a reference."""
    return values.isel(member=0, drop=True) if "member" in values.dims else values


@lru_cache(maxsize=16)
def season(of, truth, variable, start):
    """Volume (10^3 km3), extent (10^6 km2) and RMSE by source through one forecast."""
    values = forecast(of)[variable].isel(init_time=[start])
    values = values.mean("member", keep_attrs=True) if "member" in values.dims else values
    known = store(truth)
    area = grid.cell_area(known)
    attrs = names.attributes(variable)
    makers = {}
    if 366 * 4 * area.size <= CLIMATOLOGY_BYTES:
        with reading(truth):
            makers["climatology"] = reference("climatology", truth, variable)
    length = int(max(SEASON_BYTES // (4 * area.size), 1))
    parts = []
    for first in range(0, values.sizes["lead_time"], length):
        with reading(of):
            block = values.isel(lead_time=slice(first, first + length)).load()
        with reading(truth):
            fields = {"truth": truth_for(block, known).load(), "forecast": block}
            fields |= {name: make(block) for name, make in makers.items()}
        fields = {
            name: field.isel(init_time=0).assign_attrs(attrs) for name, field in fields.items()
        }
        rows = [_totals(field, fields["truth"], known.ocean, area) for field in fields.values()]
        parts.append(xr.concat(rows, xr.Variable("source", list(fields))))
    made = xr.concat(parts, "lead_time")
    return made.assign(rmse=made.rmse.where(made.source != "truth")) if "rmse" in made else made


def _totals(field, truth, ocean, area):
    row = xr.Dataset({"extent": scores.extent(field, ocean, area) / 1e12})
    if field.name == "sit":
        row["volume"] = scores.volume(field, ocean, area) / 1e12
        row["rmse"] = scores.rmse(field, truth, ocean, area)
    return row
