"""Evaluation: a forecast and reference forecasts against the truth of the prepared store.

Every reference stands on the same footing as the surrogate: same start dates, same lead times,
same ocean cells, same scores.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import files, grid, names, progress, runs
from seaice_lab.diagnostics import ensembles, score_tables, scores, spectra
from seaice_lab.diagnostics.bootstrap import confidence
from seaice_lab.diagnostics.regions import arctic_regions, scores_by_region
from seaice_lab.diagnostics.smoothing import effective_resolution
from seaice_lab.errors import InputError
from seaice_lab.surrogate.references import REFERENCES
from seaice_lab.surrogate.references import references as make_references
from seaice_lab.surrogate.store import open_store

BLOCK_BYTES = 256e6  # of forecast frames held at once


def open_forecast(path, dask=True):
    """Open a forecast store lazily.

    Parameters
    ----------
    path : str or Path
        A run folder, or the ``forecast.zarr`` in it.
    dask : bool
        Without, single frames are read fastest.

    Raises
    ------
    InputError
        If it is missing, half-written or damaged.
    """
    path = Path(path)
    path = path if path.suffix == ".zarr" else path / "forecast.zarr"
    if not path.exists():
        half = path.with_name(path.name + ".partial").exists()
        state = "is only half written" if half else "does not exist"
        raise InputError(f"{path}: {state}; run `seaice-lab forecast {path.parent}`")
    try:
        return xr.open_zarr(path, consolidated=False, decode_timedelta=True,
                            chunks="auto" if dask else None)  # fmt: skip
    except Exception as error:  # zarr raises many kinds for damaged metadata
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); remove it and run "
            f"`seaice-lab forecast {path.parent}` again"
        ) from None


def truth_for(forecast, store):
    """The truth at every start and lead time of a forecast.

    Parameters
    ----------
    forecast : xarray.DataArray (init_time, lead_time, y, x)
        From :func:`open_forecast`; its ``position`` and ``lead_time`` say what to read.
    store : xarray.Dataset
        The prepared store it was started from.

    Returns
    -------
    xarray.DataArray
        Like the forecast, in memory: take a few starts at a time.
    """
    position = verification_positions(forecast, store)
    frames, inverse = np.unique(position, return_inverse=True)
    values = store[forecast.name].isel(time=frames).values
    return forecast.copy(data=values[inverse.reshape(position.shape)])


def verification_positions(forecast, store):
    """Position on the store's time axis of every valid time, ndarray of int (init, lead)."""
    times = store.time.values
    step = np.median(np.diff(times))
    ahead = np.rint(forecast.lead_time.values / step).astype(int)
    position = forecast.position.values[:, None] + ahead
    fits = position < len(times)
    fits[fits] = times[position[fits]] == forecast.valid_time.values[fits]
    if not fits.all():
        missing = np.datetime_as_string(forecast.valid_time.values[~fits][0], unit="m")
        raise InputError(
            f"{forecast.name}: the store holds no truth at {missing}; evaluate with the store "
            "that the forecast was started from"
        )
    return position


def evaluate(run, references=None, variable=None, show=True):
    """Score the forecast of a run and reference forecasts; write scores and spectra.

    Parameters
    ----------
    run : str or Path
        Run folder with a forecast.
    references : sequence of str, optional
        Reference forecasts to score beside it (:mod:`seaice_lab.surrogate.references`); by default
        all of them, free drift where the store has a wind.
    variable : str, optional
        Of the forecast; the first one by default.
    show : bool
        Show progress.

    Returns
    -------
    table : xarray.Dataset
        Scores over the ocean, weighted by cell area, by ``source`` ("forecast" and the
        references) and lead time, with bootstrap intervals over starts; ``skill`` is the share of
        persistence's RMSE that a source takes away; ``rmse_by_region`` and ``bias_by_region``
        stand for the named regions of the grid. Of an ensemble the mean is scored, and
        ``crps`` and ``spread`` (lead time) are added. Written to ``scores.nc``.
    spectrum : xarray.Dataset
        ``power(source, lead_time, wavenumber)``, the mean over starts, and its exponent ``slope``
        (source, lead_time) for source "truth", "forecast" and "error" (forecast minus truth);
        ``resolution(lead_time)``, the wavelength under which the forecast holds less than half of
        the truth's power. Written to ``spectra.nc``.

    Raises
    ------
    InputError
        If the forecast is missing, the store is not the one it was started from, or a variable or
        reference is unknown.
    """
    run = Path(run)
    dataset = open_forecast(run)
    store = open_store(dataset.attrs["store"])
    variable = variable or next(iter(dataset.data_vars))
    if variable not in dataset.data_vars:
        raise InputError(
            f"{run}: forecasts {', '.join(dataset.data_vars)}, not {variable!r}; choose one of them"
        )
    forecast = dataset[variable]
    ocean = forecast.ocean
    area = xr.DataArray(
        grid.cell_area(forecast.latitude, forecast.longitude),
        dims=("y", "x"),
        attrs={"units": "m2"},
    )
    dx_m = float(np.sqrt(area.where(ocean).mean()))
    if references is None:
        windless = not {"u10", "v10"} <= set(store.data_vars)
        references = [name for name in REFERENCES if not (name == "free_drift" and windless)]
    makers = make_references(references, store, variable)
    length = int(max(BLOCK_BYTES // (4 * forecast[0].size), 1))
    scored, powers, of_ensembles, of_regions = [], [], [], []
    compared = ["forecast", *[name for name in makers if name == "persistence"]]
    regions = {
        name: region
        for name, region in arctic_regions(forecast.latitude, forecast.longitude).items()
        if (ocean & region).any()
    }
    ensemble = "member" in forecast.dims
    firsts = range(0, forecast.sizes["init_time"], length)
    bar = progress.bar(len(firsts), f"evaluate {run.name}", "block", show=show)
    for first in firsts:
        block = _loaded(forecast.isel(init_time=slice(first, first + length)), run)
        single = block.mean("member", keep_attrs=True) if ensemble else block
        truth = truth_for(single, store)
        made = {"forecast": single} | {name: make(single) for name, make in makers.items()}
        climatology = made.get("climatology")
        of_sources = [
            score_tables.scores_by_start(one, truth, ocean, area, climatology)
            for one in made.values()
        ]
        scored.append(xr.concat(of_sources, xr.Variable("source", list(made))))
        if regions:
            parts = [scores_by_region(made[name], truth, ocean, regions, area) for name in compared]
            of_regions.append(xr.concat(parts, xr.Variable("source", compared)))
        if ensemble:
            of_ensembles.append(ensembles.ensemble_scores_by_start(block, truth, ocean, area))
        fields = xr.concat(
            [truth, block, block - truth], dim="source", coords="minimal", compat="override"
        )
        power = spectra.power_spectrum(fields, ocean, dx_m)
        powers.append(power.mean("member", keep_attrs=True) if ensemble else power)
        bar.update()
    bar.close()
    by_start = xr.concat(scored, dim="init_time")
    if ensemble:
        by_start = by_start.merge(xr.concat(of_ensembles, dim="init_time"))
    table = score_tables.pool_starts(by_start)
    if "persistence" in makers:
        table["skill"] = scores.skill(table.rmse, table.rmse.sel(source="persistence", drop=True))
        table["skill"].attrs = {"long_name": "Skill against persistence", "units": "1"}
    if regions:
        regional = score_tables.pool_starts(xr.concat(of_regions, dim="init_time"))
        for name in ("rmse", "bias"):
            table[f"{name}_by_region"] = regional[name].assign_attrs(table[name].attrs)
    count = by_start.sizes["init_time"]
    if count > 1:
        table = table.merge(confidence(by_start, block=_alike(by_start.init_time)))
    _write(table, run, "scores", dataset)
    power = xr.concat(powers, dim="init_time").mean("init_time", keep_attrs=True)
    power = power.assign_coords(source=["truth", "forecast", "error"])
    try:
        spectrum = spectra.spectral_exponent(power).assign(power=power)
    except InputError as reason:  # a grid too small for an exponent still has scores
        print(f"no spectral exponent: {reason}")
        unknown = xr.full_like(power.isel(wavenumber=0, drop=True), np.nan).rename(None)
        spectrum = xr.Dataset({"slope": unknown, "power": power})
    spectrum["resolution"] = effective_resolution(
        power.sel(source="forecast", drop=True), power.sel(source="truth", drop=True)
    )
    spectrum.attrs["comment"] = power.attrs["comment"]
    _write(spectrum, run, "spectra", dataset)
    return table, spectrum


def _alike(init_time):
    """How many successive starts lie within five days, the life of a weather system."""
    gap = np.median(np.diff(init_time.values)) / np.timedelta64(5, "D")
    return int(np.clip(1 / max(gap, 1e-9), 1, max(len(init_time) // 2, 1)))


def _loaded(block, run):
    try:
        return block.load()
    except Exception as error:  # each codec raises its own kind for a damaged chunk
        raise InputError(
            f"{run}/forecast.zarr: cannot be read ({type(error).__name__}: {error}); it is "
            f"damaged, remove it and run `seaice-lab forecast {run}` again"
        ) from None


def _write(result, run, name, dataset):
    result = result.drop_vars(set(result.coords) - set(result.dims) - {"wavelength"})
    if "source" in result.coords:
        result["source"].attrs = {"long_name": "What was scored"}
    result["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    result.attrs |= {
        "Conventions": names.CONVENTIONS,
        "title": f"{name.capitalize()} of run {run.name}",
        "source": dataset.attrs["source"],
        "history": f"{runs.now()} seaice-lab evaluate",
    }
    files.write_netcdf(run / f"{name}.nc", result)


def read_evaluation(run):
    """Scores and spectra of a run as :func:`evaluate` wrote them.

    Raises
    ------
    InputError
        If one is missing or unreadable.
    """
    results = []
    for name in ("scores.nc", "spectra.nc"):
        path = Path(run) / name
        try:
            results.append(xr.load_dataset(path, decode_timedelta=True))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); run `seaice-lab evaluate {run}`"
            ) from None
    return tuple(results)


def report(table, spectrum):
    """The scores and exponents as a text table, one line a lead time (at most twelve)."""
    days = table.lead_time.values / np.timedelta64(1, "D")
    steps = np.unique(np.linspace(0, len(days) - 1, min(len(days), 12)).round().astype(int))
    units = table.rmse.attrs["units"]
    others = [str(name) for name in table.source.values if name != "forecast"]
    lines = [
        f"scores over the ocean, {table.sizes['init_time']} start dates; RMSE and bias in {units}, "
        "then the ratio to the RMSE of each reference (below 1: better)",
        "".join(
            f"{head:>{width}s}"
            for head, width in [("days", 7), ("RMSE", 9), ("bias", 9)]
            + [(name.replace("_", " "), len(name) + 3) for name in others]
            + [("exponent", 11), ("truth's", 9)]
        ),
    ]
    for step in steps:
        row = table.isel(lead_time=step)
        ours = row.sel(source="forecast")
        slope = spectrum.slope.isel(lead_time=step)
        ratios = [float(ours.rmse / row.rmse.sel(source=name)) for name in others]
        lines.append(
            f"{days[step]:7.1f}{float(ours.rmse):9.4f}{float(ours.bias):+9.4f}"
            + "".join(
                f"{ratio:{len(name) + 3}.3f}" for name, ratio in zip(others, ratios, strict=True)
            )
            + f"{float(slope.sel(source='forecast')):11.2f}{float(slope.sel(source='truth')):9.2f}"
        )
    return "\n".join(lines)
