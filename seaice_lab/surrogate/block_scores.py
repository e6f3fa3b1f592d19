"""Scores and spectra of a block of starts.

The blocks of an evaluation are independent: any process can score one, and a file keeps its scores.
"""

import platform
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from seaice_lab import files, grid
from seaice_lab.diagnostics import ensembles, score_tables, spectra
from seaice_lab.diagnostics.regions import polar_regions, scores_by_region
from seaice_lab.errors import InputError
from seaice_lab.processors import processors
from seaice_lab.surrogate.truth import truth_for

CELLS_AT_ONCE = 4e6  # cells of a forecast that are scored at once, 32 MB in float64


class Domain(NamedTuple):
    """What all scores share: the ocean, cell areas, masks of regions, distance between cells."""

    ocean: xr.DataArray
    area: xr.DataArray
    regions: dict
    dx_m: float


def domain_of(forecast):
    """The domain of a forecast.

    Parameters
    ----------
    forecast : xarray.DataArray (..., y, x)
        With ``ocean``, ``latitude`` and ``longitude``.

    Returns
    -------
    Domain
        With those of the named regions that have ocean cells on its grid.
    """
    ocean, area = map(_without_labels, (forecast.ocean, grid.cell_area(forecast)))
    regions = polar_regions(forecast.latitude, forecast.longitude)
    regions = {name: _without_labels(cells) for name, cells in regions.items()}
    regions = {name: cells for name, cells in regions.items() if (ocean & cells).any()}
    return Domain(ocean, area, regions, grid.spacing_m(forecast, forecast.ocean))


class Comparison(NamedTuple):
    """A forecast and what it is compared with; a dask cluster sends it to its workers.

    ``run`` is the absolute path of the folder of the forecast. ``forecast`` (init_time, [member,]
    lead_time, y, x) is lazy, with its other coordinates in memory, and ``verified`` (init_time,
    lead_time) says where it has truth. ``store`` is the prepared store with the truth, and
    ``references`` are the functions from
    :func:`~seaice_lab.surrogate.references.make_references`.
    """

    run: Path
    forecast: xr.DataArray
    verified: xr.DataArray
    store: xr.Dataset
    references: dict
    domain: Domain


def score_block(starts, comparison):
    """Score some starts of a forecast and of its references, and compute their spectra.

    Parameters
    ----------
    starts : slice
        Positions on the axis of starts.
    comparison : Comparison

    Returns
    -------
    dict of str to Dataset
        Scores of each start: "ocean" (source, init_time, lead_time), "regions" (source, init_time,
        lead_time, region) if the grid has regions, and "power" (source, init_time, lead_time,
        wavenumber) for the sources "truth", "forecast" and "error".

    Raises
    ------
    InputError
        If the forecast or the store is damaged, or not on this machine.
    """
    run, _, verified, store, references, domain = comparison
    if not (run / "forecast.zarr").exists():
        raise InputError(
            f"{run}/forecast.zarr: is missing on the machine {platform.node()}; all workers of a "
            "dask cluster must reach the files of the run and of its store"
        )
    block = comparison.forecast.isel(init_time=starts)
    one = block.isel(member=0, drop=True) if "member" in block.dims else block
    truth = truth_for(one, store)
    simple = {name: make(one) for name, make in references.items()}

    def score(leads):
        fields = [_load(block.isel(lead_time=leads), run)]
        fields += [field.isel(lead_time=leads) for field in (truth, *simple.values())]
        few, few_truth, *others = map(_without_labels, fields)
        few_references = dict(zip(simple, others, strict=True))
        power = _power_of_fields(few, few_truth, verified[starts, leads], domain)
        return _scores_of_fields(few, few_truth, few_references, domain) | {"power": power}

    return _by_lead_time(score, block)


def _load(block, run):
    try:
        block = block.load()
        reason = "NaN in the ocean, probably because a chunk is missing"
        is_complete = np.isfinite(block.values[..., block.ocean.values]).all()
    except Exception as error:  # each codec raises its own exception for a damaged chunk
        is_complete, reason = False, f"{type(error).__name__}: {error}"
    if not is_complete:
        raise InputError(
            f"{run}/forecast.zarr: cannot be read ({reason}); it is damaged, move it away and run "
            f"`seaice-lab forecast {run}` again"
        )
    return block


def _without_labels(field):
    """A field without the labels that no score needs, which every operation would copy."""
    return field.reset_coords(drop=True).drop_vars(("y", "x"), errors="ignore")


def _ensemble_mean(forecast):
    return forecast.mean("member", keep_attrs=True) if "member" in forecast.dims else forecast


def _by_lead_time(score, block):
    """Join the results of a function of some lead times, which threads compute.

    Arrays of a few lead times stay small, so that memory is bounded and used again.
    """
    at_once = max(int(CELLS_AT_ONCE // block.isel(lead_time=0).size), 1)
    firsts = range(0, block.sizes["lead_time"], at_once)
    with ThreadPoolExecutor(processors()) as pool:
        results = list(pool.map(score, [slice(first, first + at_once) for first in firsts]))
    options = {"coords": "minimal", "compat": "override", "join": "override"}
    return {
        name: xr.concat([result[name] for result in results], "lead_time", **options)
        for name in results[0]
    }


def _scores_of_fields(forecast, truth, references, domain):
    """Scores of each start in a block: over the ocean, and by region if the grid has regions.

    Returns
    -------
    dict of str to Dataset
        "ocean" (source, init_time, lead_time), "regions" (source, init_time, lead_time, region).
    """
    ocean, area, regions, _ = domain
    single = _ensemble_mean(forecast)
    # Every source is scored on the same starts, lead times and ocean cells.
    forecasts = {"forecast": single} | references
    climatology = forecasts.get("climatology")
    by_source = [
        score_tables.scores_by_start(values, truth, ocean, area, climatology)
        for values in forecasts.values()
    ]
    result = {"ocean": xr.concat(by_source, xr.Variable("source", list(forecasts)))}
    if "member" in forecast.dims:
        ensemble = ensembles.ensemble_scores_by_start(forecast, truth, ocean, area)
        is_ensemble = result["ocean"].source == "forecast"
        # The CRPS of a single forecast is its mean absolute error; it has no spread and no ranks.
        crps = ensemble.crps.where(is_ensemble, result["ocean"].mean_absolute_error)
        ensemble["crps"] = crps.assign_attrs(ensemble.crps.attrs)
        ensemble["spread"] = ensemble.spread.where(is_ensemble)
        result["ocean"] = result["ocean"].assign(ensemble.data_vars)
    if regions:
        by_source = [
            scores_by_region(values, truth, ocean, regions, area) for values in forecasts.values()
        ]
        result["regions"] = xr.concat(by_source, result["ocean"].source)
    return result


def _power_of_fields(forecast, truth, verified, domain):
    """Power spectra of truth, forecast and error of each start in a block, mean over members.

    NaN where there is no truth.
    """
    # A spectrum needs finite values.
    truth = truth if verified.all() else truth.where(verified, 0.0)
    fields = {"truth": truth, "forecast": forecast, "error": forecast - truth}
    # The spectrum of an ensemble is the mean spectrum of its members: the ensemble mean is smoother
    # than any forecast.
    power = [
        _ensemble_mean(spectra.power_spectrum(field, domain.ocean, domain.dx_m))
        for field in fields.values()
    ]
    power = xr.concat(power, xr.Variable("source", list(fields)))
    return (power if verified.all() else power.where(verified)).to_dataset()


def write_scores(path, scores):
    """Keep the scores of a block exactly, in a NetCDF file with one group for each dataset.

    Parameters
    ----------
    path : Path
    scores : dict of str to Dataset
        From :func:`score_block`.
    """
    with files.replacing(path) as temporary:
        xr.DataTree.from_dict(scores).to_netcdf(temporary, engine="netcdf4")


def read_scores(path):
    """Read a file of :func:`write_scores`.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to Dataset

    Raises
    ------
    OSError, RuntimeError or ValueError
        If the file is missing or damaged.
    """
    tree = xr.load_datatree(path, engine="netcdf4", decode_timedelta=True)
    return {name: _as_written(node.to_dataset()) for name, node in tree.children.items()}


def _as_written(scores):
    """Undo what a file changes: texts are arrays of str again, and there are no encodings."""
    texts = [name for name, values in scores.coords.items() if values.dtype.kind in "OT"]
    return scores.assign_coords({name: scores[name].astype(str) for name in texts}).drop_encoding()
