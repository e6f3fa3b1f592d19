"""Scaling of a run: does its forecast keep the character of the ice? Writes ``scaling.nc``."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import files, grid, names, progress, runs
from seaice_lab.diagnostics import scaling
from seaice_lab.diagnostics.anisotropy import isotropic_index
from seaice_lab.diagnostics.bootstrap import correlated_starts
from seaice_lab.diagnostics.deformation import gradient_magnitude, ice_mask
from seaice_lab.diagnostics.frames import blurred, phase_randomised
from seaice_lab.diagnostics.score_tables import table_leads
from seaice_lab.errors import InputError
from seaice_lab.processors import processors
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.references import make_references
from seaice_lab.surrogate.results import results_folder
from seaice_lab.surrogate.truth import open_truth, truth_for, with_truth

NEEDED = ("sit", "sic", "siu", "siv")
REFERENCE_LEADS = 12  # lead times at which references are scored
TAIL_SHARE = 0.95  # quantile of the truth at which the tails of gradient and increments start
WORKERS = 4


def evaluate_scaling(run, store=None, starts=20, show=True):
    """Score the statistical character of a forecast; write ``scaling.nc``.

    Parameters
    ----------
    run : str or Path
        Run folder with a forecast of the thickness (``sit``). With drift (``siu``, ``siv``), the
        deformation is scored too.
    store : str or Path, optional
        As in :func:`~seaice_lab.surrogate.evaluation.evaluate`.
    starts : int
        At most this number of start dates, equally spaced, is scored.
    show : bool
        Show progress.

    Returns
    -------
    xarray.Dataset
        From :func:`seaice_lab.diagnostics.scaling.compare`, with the sources "truth", "forecast",
        and at up to twelve lead times "persistence", "blurred" (the truth, smoothed by one cell),
        "phase_randomised" (the truth with random phases) and, of an ensemble, "ensemble_mean",
        which is smoother than any forecast.

    Raises
    ------
    InputError
        If there is no forecast of the thickness, or no truth for it.
    """
    run = Path(run).expanduser()
    folder = run if store is None else results_folder(run, store)[0]
    dataset = open_forecast(folder)
    if "sit" not in dataset:
        raise InputError(
            f"{folder}: forecasts {', '.join(dataset.data_vars)}, expected the thickness sit; "
            "forecast with a run that predicts it"
        )
    truth_store = open_truth(dataset, store)
    _, verified = with_truth(dataset["sit"], truth_store)
    # The same number of lead times for every start: those with truth from all starts.
    complete = verified.all("lead_time")
    positions = np.flatnonzero(np.isin(dataset.init_time, verified.init_time[complete]))
    if not len(positions):
        raise InputError(
            f"{folder}: no start has truth at all lead times; forecast fewer steps, or prepare "
            "the store again when the truth is there"
        )
    chosen = np.unique(np.linspace(0, len(positions) - 1, min(starts, len(positions))).astype(int))
    variables = [name for name in NEEDED if name in dataset]
    if not {"siu", "siv"} <= set(variables):
        variables = [name for name in variables if name not in ("siu", "siv")]
    dataset = dataset[variables].isel(init_time=positions[chosen])
    ocean = truth_store.ocean
    score = partial(
        _score_start,
        store=truth_store,
        makers={n: make_references(["persistence"], truth_store, n) for n in variables},
        square=_common_ice(dataset, truth_store),
        dx_m=grid.spacing_m(truth_store, ocean),
        tails=_tails(dataset, truth_store),
    )
    sums = []
    with (
        ThreadPoolExecutor(min(WORKERS, processors())) as pool,
        progress.bar(dataset.sizes["init_time"], f"scaling {run.name}", "start", show=show) as bar,
    ):
        starts = (dataset.isel(init_time=[at]) for at in range(dataset.sizes["init_time"]))
        for each in pool.map(score, starts):
            sums.append(each)
            bar.update()
    joined = {
        source: {
            name: xr.concat([each[source][name] for each in sums], "init_time")
            for name in sums[0][source]
        }
        for source in sums[0]
    }
    block = correlated_starts(dataset.init_time) if len(sums) > 1 else 1
    table = scaling.compare(joined, block=block)
    side = joined["truth"]["angular"].attrs["side_cells"]
    table["anisotropy_null"] = float(isotropic_index(side, len(sums), draws=20).mean())
    _write(table, folder, dataset, score.keywords["tails"], len(sums))
    return table


def _score_start(dataset, store, makers, square, dx_m, tails):
    """Sums over frames of all sources for one start."""
    dataset = dataset.load()
    single = dataset.isel(member=0, drop=True) if "member" in dataset.dims else dataset
    truth = single.map(lambda values: truth_for(values, store), keep_attrs=True)
    # Ice by the concentration where it is predicted, in the truth and in every member.
    cover = "sic" if "sic" in dataset else "sit"
    over = [dim for dim in ("member",) if dim in dataset.dims]
    least = dataset[cover].min(over, keep_attrs=True)
    mask = ice_mask(store.ocean, least, truth[cover])
    few = np.unique(np.linspace(0, mask.sizes["lead_time"] - 1, REFERENCE_LEADS).astype(int))
    drift = [name for name in ("siu", "siv") if name in dataset]
    moving = ["sit", *drift]
    seed = int(dataset.position.values[0])
    mask_few = mask.isel(lead_time=few)

    def persistence(values):
        return makers[values.name]["persistence"](values)

    some = truth[moving].isel(lead_time=few)
    random = phase_randomised([some.sit], mask_few, seed)
    random += phase_randomised([some[name] for name in drift], mask_few, seed) if drift else []
    sources = {
        "truth": truth[moving],
        "forecast": dataset[moving],
        "persistence": single[moving].map(persistence, keep_attrs=True).isel(lead_time=few),
        "blurred": some.map(lambda values: blurred(values, mask_few), keep_attrs=True),
        "phase_randomised": xr.Dataset(dict(zip(moving, random, strict=True))),
    }
    if over:
        sources["ensemble_mean"] = dataset[moving].isel(lead_time=few).mean(over, keep_attrs=True)
    return {
        name: scaling.frame_sums(fields, mask.sel(lead_time=fields.lead_time), square, dx_m, tails)
        for name, fields in sources.items()
    }


def _common_ice(dataset, store):
    """Ocean with ice at all starts."""
    initial = store["sit"].isel(time=dataset.position.values).load()
    return ice_mask(store.ocean, initial.min("time", keep_attrs=True).assign_attrs(initial.attrs))


def _tails(dataset, store):
    """Starts of the tails: quantiles of the truth at the starts, the same for all sources."""
    sit = store["sit"].isel(time=dataset.position.values).load()
    dx_m = grid.spacing_m(store, store.ocean)
    gradient = gradient_magnitude(sit, ice_mask(store.ocean, sit), dx_m)
    day = int(abs(dataset.lead_time.values - np.timedelta64(1, "D")).argmin())
    single = dataset.sit.isel(member=0, drop=True) if "member" in dataset.dims else dataset.sit
    later = truth_for(single.isel(lead_time=[day]), store).values[:, 0]
    change = abs(later - sit.values)[:, store.ocean.values]
    quantiles = float(gradient.quantile(TAIL_SHARE)), float(np.quantile(change, TAIL_SHARE))
    return dict(zip(("gradient", "increment"), quantiles, strict=True))


def _write(table, folder, dataset, tails, starts):
    """Write ``scaling.nc`` with the metadata of the forecast."""
    table["source"].attrs = {"long_name": "What was scored"}
    table["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    table.attrs = {
        "Conventions": names.CONVENTIONS,
        "title": f"Scaling of run {folder.name}",
        "source": dataset.attrs["source"],
        "history": f"{runs.now()} seaice-lab scaling",
        "store": dataset.attrs["store"],
        "forecast": dataset.attrs["fingerprint"],
        "starts": starts,
        "mask": "ocean with ice in forecast and truth: concentration > 0.8, else thickness > 0.3 m",
        "gradient_tail_from_m_km-1": tails["gradient"],
        "increment_tail_from_m": tails["increment"],
    }
    files.write_netcdf(folder / "scaling.nc", table)


def read_scaling(run):
    """The table that :func:`evaluate_scaling` wrote.

    Parameters
    ----------
    run : str or Path

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    """
    path = Path(run).expanduser() / "scaling.nc"
    try:
        return xr.load_dataset(path, decode_timedelta=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); run `seaice-lab scaling {run}`"
        ) from None


REPORTED = """
    zeta gradient_c1 gradient_tail beta c1 tail feature_length anisotropy
""".split()


def report(table):
    """Values of forecast and truth as a text table.

    Parameters
    ----------
    table : xarray.Dataset
        From :func:`evaluate_scaling`.

    Returns
    -------
    str
        One line for each of up to six lead times, with the difference in standard errors.
    """
    days = table.lead_time.values / np.timedelta64(1, "D")
    columns = [name for name in REPORTED if name in table]
    heads = [f"{name + '(1)' if 'q' in table[name].dims else name:>25s}" for name in columns]
    lines = [
        f"character of the ice, {table.attrs['starts']} start dates: forecast / truth (difference "
        "in standard errors)",
        f"{'days':>7s}{''.join(heads)}",
    ]
    for lead in table_leads(table.lead_time):
        line = f"{days[lead]:7.1f}"
        for name in columns:
            at = table.isel(lead_time=lead)
            select = {"q": 1.0} if "q" in table[name].dims else {}
            select |= {"increment": 1} if "increment" in table[name].dims else {}
            ours, truth = (float(at[name].sel(source=s, **select)) for s in ("forecast", "truth"))
            error = f"{name}_difference_error"
            error = float(at[error].sel(source="forecast", **select)) if error in at else np.nan
            line += f"{f'{ours:.3g} / {truth:.3g} ({(ours - truth) / error:+.1f})':>25s}"
        lines.append(line)
    return "\n".join(lines)
