"""Score an ensemble network against the goals of a calibrated and sharp ensemble.

python benchmarks/ensemble.py ENSEMBLE DETERMINISTIC [--split test] [--every 1] [--members 16]

The references are the deterministic network, and two ensembles that know nothing of the present
state: persistence dressed with changes of the training split, and the deterministic forecast
dressed with its errors in the validation split. Choose settings with ``--split validation``; there
the dressed deterministic forecast knows its errors.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import grid, runs
from seaice_lab.diagnostics import ensembles, regions, reliability, scores, smoothing, spectra
from seaice_lab.diagnostics.structure_functions import structure_exponents, structure_sums
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.forecast import forecast
from seaice_lab.surrogate.settings import ForecastConfig
from seaice_lab.surrogate.store import locate, open_store, read_frames
from seaice_lab.surrogate.truth import truth_for

LEAD_DAYS = (0.5, 2, 5, 10)
RANKED_MEMBERS = 8
COAST_M = 100e3
ORDERS = (0.5, 1.0, 2.0)  # of the structure functions


def main():
    """Make the forecasts, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ensemble")
    parser.add_argument("deterministic")
    parser.add_argument("--store", help="prepared store, by default that of the ensemble")
    parser.add_argument("--split", default="test", choices=("test", "validation"))
    parser.add_argument("--every", type=int, default=1, help="use every n-th start")
    parser.add_argument("--members", type=int, default=16)
    options = parser.parse_args()
    path = options.store or runs.open_run(options.ensemble).config["store"]
    store = open_store(path)

    members = predict(options.ensemble, path, options.split, options.every, options.members)
    single = predict(options.deterministic, path, options.split, options.every)
    on_validation = predict(options.deterministic, path, "validation", 1)
    truth = truth_for(single, store)
    errors = truth_for(on_validation, store) - on_validation
    initial = read_frames(store, single.name, single.position.values)
    persistence = truth.copy(data=np.broadcast_to(initial[:, None], truth.shape))
    changes = training_changes(store, single)
    domain = single.ocean, grid.cell_area(single)
    dressed = {
        "dressed persistence": reliability.dress(persistence, changes, options.members),
        "dressed deterministic": reliability.dress(single, errors, options.members),
    }
    tables = {
        "scores": score_rows(members, single, truth, dressed, domain),
        "calibration": calibration_rows(members, truth, domain),
        "sharpness": sharpness_rows({"members": members, "deterministic": single}, truth),
    }
    starts = members.sizes["init_time"]
    print(f"{options.ensemble}: {starts} starts, {options.members} members, columns are days\n")
    for title, rows in tables.items():
        table = pd.DataFrame(rows, index=LEAD_DAYS).T
        print(f"{title}\n{table.round(3).to_string()}\n")


def predict(run, store, split, every, members=1):
    """A forecast at the lead times of the tables, DataArray in memory."""
    config = ForecastConfig(
        split=split, every=every, members=members, steps=2 * LEAD_DAYS[-1], store=store
    )
    leads = pd.to_timedelta(LEAD_DAYS, unit="D")
    with tempfile.TemporaryDirectory() as folder:
        path = forecast(run, config, Path(folder, "forecast.zarr"))
        dataset = open_forecast(path)
        return next(iter(dataset.data_vars.values())).sel(lead_time=leads).load()


def training_changes(store, single):
    """Changes of the truth since each start of the training split, as the errors of `dress`."""
    hours = single.lead_time.values / np.timedelta64(1, "h")
    positions = locate(store, hours, "train")
    start = read_frames(store, single.name, positions[0.0])
    ends = [read_frames(store, single.name, positions[hour]) for hour in hours]
    changes = np.stack(ends, 1) - start[:, None]
    return xr.DataArray(changes, dims=single.dims, coords={"lead_time": single.lead_time})


def score_rows(members, single, truth, dressed, domain):
    """CRPS and errors of the mean, and their ratios to the references."""
    crps = ensembles.crps(members, truth, *domain).mean("init_time")
    mae = scores.mean_absolute_error(single, truth, *domain).mean("init_time")
    error = [
        scores.rmse(field, truth, *domain).mean("init_time")
        for field in (members.mean("member"), single)
    ]
    rows = {"fair CRPS (m)": crps, "CRPS / MAE of deterministic": crps / mae}
    rows["RMSE of mean / deterministic"] = error[0] / error[1]
    variogram = {
        "members": ensembles.variogram_score(members, truth, domain[0], distances=(1, 2, 4))
    }
    for name, field in dressed.items():
        rows[f"CRPS / {name}"] = crps / ensembles.crps(field, truth, *domain).mean("init_time")
        variogram[name] = ensembles.variogram_score(field, truth, domain[0], distances=(1, 2, 4))
    for name, values in variogram.items():
        rows[f"variogram score, {name}"] = values.mean(("init_time", "distance"))
    return rows


def calibration_rows(members, truth, domain):
    """Spread against error, ranks, intervals and volume."""
    ocean, area = domain
    square = spectra.largest_ocean_square(ocean)
    pack = xr.zeros_like(ocean)
    pack[square] = True
    coast = regions.near_coast(ocean, COAST_M, grid.spacing_m(members, ocean))
    places = {"ocean": ocean, "pack": pack & ocean, "coast": coast}
    rows = {
        f"spread-skill, {name}": ensembles.spread_skill(members, truth, cells, area)
        for name, cells in places.items()
    }
    few = members.isel(member=slice(RANKED_MEMBERS))
    ranks = ensembles.rank_histogram(few, truth, *domain).mean("init_time")
    rows[f"rank distance, {RANKED_MEMBERS} members"] = reliability.rank_distance(ranks)
    for level in (0.5, 0.9):
        covered = reliability.coverage(members, truth, level, *domain)
        rows[f"coverage of {level}"] = covered.mean("init_time")
    volume = reliability.volume_calibration(members, truth, *domain)
    return rows | {f"mean thickness, {name}": values for name, values in volume.items()}


def sharpness_rows(forecasts, truth):
    """Spectra and structure functions of forecasts relative to those of the truth."""
    dx_m = grid.spacing_m(truth, truth.ocean)

    def power_of(field):
        power = spectra.power_spectrum(field, truth.ocean, dx_m)
        return power.mean([dim for dim in power.dims if dim not in ("wavenumber", "lead_time")])

    def structure_of(field):
        sums = structure_sums(field, truth.ocean, dx_m, q=ORDERS)
        over = [dim for dim in field.dims if dim in ("member", "init_time")]
        return structure_exponents(sums, over).exponent.sel(increment=1)

    of_truth, zeta, rows = power_of(truth), structure_of(truth), {}
    for name, field in forecasts.items():
        power = power_of(field)
        slopes = [spectra.spectral_exponent(values).slope for values in (power, of_truth)]
        rows[f"exponent minus truth's, {name}"] = slopes[0] - slopes[1]
        ratio = smoothing.band_power_ratio(power, of_truth)
        for band in ratio.band.values:
            rows[f"power / truth's, {band}, {name}"] = ratio.sel(band=band)
        rows[f"resolution (km), {name}"] = smoothing.effective_resolution(power, of_truth)
        exponents = structure_of(field)
        for q in ORDERS:
            rows[f"zeta({q:g}) / truth's, {name}"] = (exponents / zeta).sel(q=q)
    return rows


if __name__ == "__main__":
    main()
