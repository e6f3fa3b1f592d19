"""Forecasts of runs for the pages, with their truth and reference forecasts.

Everything is opened once per process, and again after its file was replaced: the arguments of the
cached functions contain the version of the file (:class:`dashboards.run_files.File`). All caches
are bounded.
"""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from dashboards.run_files import File, current_file, reading
from seaice_lab import grid, names
from seaice_lab.diagnostics import scores
from seaice_lab.errors import InputError
from seaice_lab.figures import rasters
from seaice_lab.surrogate import evaluation
from seaice_lab.surrogate.references import make_references
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.truth import check_store, truth_for, verification_positions

# Sizes up to which arrays are kept in memory.
REFERENCE_BYTES = 128e6  # a reference forecast from one start
CLIMATOLOGY_BYTES = 600e6
SEASON_BYTES = 64e6  # the frames that a season reads at once
TRUTH = "Truth"  # a source of fields; the others are "forecast" and the names of references
NEED_CLIMATOLOGY = ("climatology", "damped_persistence")


class Forecast(NamedTuple):
    """The forecast of a run, the prepared store with its truth, and that of the training."""

    run: str
    file: File
    store: File
    training: File

    @property
    def dataset(self):
        """The forecast, an xarray.Dataset that is read frame by frame."""
        return _open_forecast(self.file)


def forecast_of(library, run):
    """Find the forecast of a run and its truth.

    Parameters
    ----------
    library : dashboards.library.Library
    run : str

    Returns
    -------
    Forecast

    Raises
    ------
    InputError
        If the run has no forecast or it cannot be read.
    """
    path = library.path(run, "forecast.zarr")
    file = current_file(path)
    if file.version is None:
        raise InputError(f"{run}: has no forecast.zarr; make it with `seaice-lab forecast RUN`")
    attrs = _open_forecast(file).attrs
    # A relative path starts at the folder where the forecast was made: a folder above the run, or
    # the working folder of the server.
    folders = [*path.parent.parents[: len(Path(run).parts) + 2], Path()]
    stores = []
    for store in (attrs["store"], attrs.get("training_store", attrs["store"])):
        paths = [folder / store for folder in folders if (folder / store).exists()]
        stores.append(current_file(paths[0] if paths else Path(store)))
    return Forecast(run, file, *stores)


@lru_cache(maxsize=16)
def _open_forecast(file):
    return evaluation.open_forecast(file.path, dask=False)


@lru_cache(maxsize=8)
def _open_store(file):
    return open_store(file.path, dask=False)


@lru_cache(maxsize=16)
def truth_of(forecast):
    """The store with the truth of a forecast, an xarray.Dataset that is read frame by frame.

    Raises
    ------
    InputError
        If the store is missing or damaged, or is not the one from which the forecast was started.
    """
    truth = _open_store(forecast.store)
    check_store(forecast.dataset, truth, Path(forecast.store.path).name)
    if not _have_same_cells(forecast.dataset.ocean, truth.ocean):
        raise InputError(
            f"{Path(forecast.store.path).name}: the truth has a grid of {truth.ocean.shape} cells "
            f"or another ocean, the forecast one of {forecast.dataset.ocean.shape}; the store was "
            "replaced after the forecast: run `seaice-lab forecast RUN` again"
        )
    return truth


def _have_same_cells(ocean, other_ocean):
    """Whether two ocean masks are equal and their cells have the same positions."""
    if ocean.shape != other_ocean.shape:
        return False
    layers = [np.stack([o, o.latitude, o.longitude]) for o in (ocean, other_ocean)]
    return np.allclose(*layers, atol=1e-3)


@lru_cache(maxsize=8)
def raster_of(forecast):
    """How the fields of a forecast are shown as pictures, a `seaice_lab.figures.rasters.Raster`."""
    ocean = forecast.dataset.ocean
    return rasters.raster_of(ocean, ocean)


@lru_cache(maxsize=16)
def check_comparable(forecast, reference):
    """Check that two forecasts can be compared cell by cell.

    Parameters
    ----------
    forecast, reference : Forecast

    Raises
    ------
    InputError
        If their grids or their stores differ.
    """
    ocean, reference_ocean = forecast.dataset.ocean, reference.dataset.ocean
    if not _have_same_cells(ocean, reference_ocean):
        raise InputError(
            f"{forecast.run} has a grid of {ocean.shape} cells, {reference.run} one of "
            f"{reference_ocean.shape}, or at other positions; compare runs on one grid"
        )
    if forecast.store != reference.store:
        raise InputError(
            f"{forecast.run} was started from another store than {reference.run}; compare runs "
            "of one store"
        )


@lru_cache(maxsize=64)
def frame(forecast, source, variable, start, lead, statistic="mean", above=0.0):
    """A field at the valid time of a forecast; of an ensemble the mean, or another statistic.

    Parameters
    ----------
    forecast : Forecast
    source : str
        "forecast", `TRUTH`, or the name of a reference forecast, which has the same start and grid.
    variable : str
    start : numpy.datetime64
    lead : numpy.timedelta64
    statistic : str
        "mean", "spread" (standard deviation of the members), "above" (share of the members) or
        "first" (the first member).
    above : float
        The value that the members of "above" exceed.

    Returns
    -------
    ndarray (y, x), float32

    Raises
    ------
    InputError
        If the run has no such forecast or the file is damaged.
    """
    step = _index(forecast, "lead_time", lead)
    template = _template(forecast, variable, start)
    # Of a long forecast on a large grid, a reference is computed at one lead time only. Free drift
    # moves the ice step by step, so that it cannot skip the lead times before.
    is_large = 4 * template.size > REFERENCE_BYTES and source != "free_drift"
    if source not in ("forecast", TRUTH) and is_large:
        with reading(forecast.store):
            make = _reference_maker(source, forecast, variable)
            return make(template.isel(lead_time=[step])).values[0, 0]
    if source == TRUTH and _truth_positions(forecast, variable, start)[step] < 0:
        valid = np.datetime_as_string(np.datetime64(start) + lead, unit="m").replace("T", " ")
        raise InputError(
            f"There is no truth at {valid} in {Path(forecast.store.path).name}, so there are no "
            "differences."
        )
    values, file = _from_start(forecast, source, variable, start)
    values = _load(values[..., step, :, :], file, statistic, above)
    if np.isnan(values).all():
        name = Path(file.path).name
        raise InputError(f"{name}: has no values at this time, a chunk is missing; make it again")
    return values


def series(forecast, source, variable, start, cell):
    """A field at one cell through all lead times of a forecast; of an ensemble the mean.

    Parameters
    ----------
    forecast, source, variable, start
        As of :func:`frame`.
    cell : (int, int)
        Row and column.

    Returns
    -------
    ndarray (lead_time,), float32
    """
    row, column = cell
    values, file = _from_start(forecast, source, variable, start)
    values = _load(values[..., row, column], file)
    if source == TRUTH:
        has_truth = _truth_positions(forecast, variable, start) >= 0
        return np.where(has_truth, values, np.float32(np.nan))
    return values


@lru_cache(maxsize=32)
def _truth_positions(forecast, variable, start):
    """Positions of the valid times in the store, an array (lead_time,); -1 without truth."""
    block = _start_block(forecast, variable, start)
    return verification_positions(block, truth_of(forecast))[0]


def members(forecast, variable, start, cell):
    """All members of an ensemble at one cell through the lead times.

    Parameters
    ----------
    forecast, variable, start, cell
        As of :func:`series`.

    Returns
    -------
    ndarray (member, lead_time), float32
        Without members if the forecast is no ensemble.
    """
    values = _start_block(forecast, variable, start).variable[0][..., cell[0], cell[1]]
    if "member" not in values.dims:
        return np.empty((0, values.size), "float32")
    with reading(forecast.file):
        return np.asarray(values.transpose("member", "lead_time").values, "float32")


def _from_start(forecast, source, variable, start):
    """An xarray.Variable ([member,] lead_time, y, x) that is not read yet, and its File."""
    if source == "forecast":
        return _start_block(forecast, variable, start).variable[0], forecast.file
    if source == TRUTH:
        # Frames without truth, at -1, are not shown.
        times = _truth_positions(forecast, variable, start).clip(0)
        return truth_of(forecast)[variable].variable[times], forecast.store
    values = _reference_from_start(forecast, source, variable, start)
    return xr.Variable(("lead_time", "y", "x"), values), forecast.store


@lru_cache(maxsize=4)
def _reference_from_start(forecast, reference, variable, start):
    """A reference forecast (lead_time, y, x). A long one is refused: all users would wait."""
    template = _template(forecast, variable, start)
    if 4 * template.size > REFERENCE_BYTES:
        raise InputError(
            f"{reference}: is too large to compute in the dashboard for this forecast; deselect "
            "it, or make a shorter forecast"
        )
    with reading(forecast.store):
        return _reference_maker(reference, forecast, variable)(template).values[0]


def _reference_maker(reference, forecast, variable):
    if reference in NEED_CLIMATOLOGY:
        return _climatology_makers(forecast.store, forecast.training, variable)[reference]
    return make_references([reference], _open_store(forecast.store), variable)[reference]


@lru_cache(maxsize=1)
def _climatology_makers(store, training, variable):
    truth = _open_store(store)
    size = 366 * 4 * truth.ocean.size
    if size > CLIMATOLOGY_BYTES:
        raise InputError(
            f"a climatology of this grid takes {size / 1e9:.1f} GB, too much for the dashboard; "
            "deselect climatology and damped persistence, or coarsen the grid"
        )
    return make_references(NEED_CLIMATOLOGY, truth, variable, _open_store(training))


@lru_cache(maxsize=16)
def season(forecast, start):
    """Volume, extent and error of a forecast, its truth and the climatology.

    Parameters
    ----------
    forecast : Forecast
    start : numpy.datetime64

    Returns
    -------
    xarray.Dataset (source, lead_time)
        ``volume`` (10^3 km3), ``volume_error`` (km3), ``extent`` (10^6 km2) and ``rmse`` (m) of the
        thickness; of a forecast of the concentration the extent alone.

    Raises
    ------
    InputError
        If the run forecasts neither thickness nor concentration, or not from this start.
    """
    variable = next((name for name in ("sit", "sic") if name in forecast.dataset), None)
    if variable is None:
        raise InputError(
            f"{forecast.run}: forecasts neither thickness (sit) nor concentration (sic); select "
            "another run"
        )
    truth = truth_of(forecast)
    area = grid.cell_area(truth)
    makers = {}
    if 366 * 4 * area.size <= CLIMATOLOGY_BYTES:
        # Without training data there is no climatology.
        with suppress(InputError), reading(forecast.store):
            makers["climatology"] = _reference_maker("climatology", forecast, variable)
    values = _start_block(forecast, variable, start)
    length = max(int(SEASON_BYTES // (4 * area.size)), 1)
    blocks = []
    for first in range(0, values.sizes["lead_time"], length):
        with reading(forecast.file):
            block = _ensemble_mean(values.isel(lead_time=slice(first, first + length)).load())
        with reading(forecast.store):
            fields = {"truth": truth_for(block, truth), "forecast": block}
            fields |= {name: make(block) for name, make in makers.items()}
        fields = {name: field.isel(init_time=0) for name, field in fields.items()}
        totals = [_totals(field, fields["truth"], truth.ocean, area) for field in fields.values()]
        blocks.append(xr.concat(totals, xr.Variable("source", list(fields))))
    result = xr.concat(blocks, "lead_time")
    if "rmse" in result:  # the truth has no error
        result["rmse"] = result.rmse.where(result.source != "truth")
        error = 1000 * (result.volume - result.volume.sel(source="truth", drop=True))
        result["volume_error"] = error.where(result.source == "forecast")
    return result


def _totals(field, truth, ocean, area):
    """Extent of the ice and, of a thickness, its volume and error."""
    field = field.assign_attrs(names.attributes(field.name))
    totals = xr.Dataset({"extent": scores.extent(field, ocean, area) / 1e12})
    if field.name == "sit":
        totals["volume"] = scores.volume(field, ocean, area) / 1e12
        totals["rmse"] = scores.rmse(field, truth, ocean, area)
    return totals


def _index(forecast, dimension, value):
    """Position of a start or lead time in a forecast."""
    positions = np.flatnonzero(forecast.dataset[dimension].values == value)
    if not len(positions):
        raise InputError(f"{forecast.run}: has no {dimension} {value}; select another one")
    return int(positions[0])


@lru_cache(maxsize=32)
def _start_block(forecast, variable, start):
    """A forecast from one start, not read yet, with a dimension init_time of length one."""
    if variable not in forecast.dataset:
        raise InputError(
            f"{forecast.run}: does not forecast {variable}; select another variable or run"
        )
    return forecast.dataset[variable].isel(init_time=[_index(forecast, "init_time", start)])


def _ensemble_mean(values):
    return values.mean("member", keep_attrs=True) if "member" in values.dims else values


def _template(forecast, variable, start):
    """A forecast whose times and cells a reference forecast takes, but not its values."""
    values = _start_block(forecast, variable, start)
    return values.isel(member=0, drop=True, missing_dims="ignore")


def _load(values, file, statistic="mean", above=0.0):
    """Values as float32, of an ensemble a statistic of the members."""
    with reading(file):
        if "member" in values.dims and statistic == "spread":
            values = values.std("member", ddof=1)
        elif "member" in values.dims and statistic == "above":
            values = (values > above).mean("member").where(values.notnull().all("member"))
        elif statistic == "first":
            values = values.isel(member=0, missing_dims="ignore")
        return np.asarray(_ensemble_mean(values).values, "float32")
