"""Scaling of a run: does its forecast keep the character of the ice? Writes ``scaling.nc``."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from seaice_lab import grid, progress
from seaice_lab.diagnostics import scaling
from seaice_lab.diagnostics.anisotropy import isotropic_index
from seaice_lab.diagnostics.bootstrap import independent_periods
from seaice_lab.diagnostics.deformation import gradient_magnitude, ice_mask
from seaice_lab.diagnostics.frames import blurred, phase_randomised
from seaice_lab.diagnostics.score_tables import table_leads
from seaice_lab.errors import InputError
from seaice_lab.parameters import load_yaml
from seaice_lab.processors import processors
from seaice_lab.surrogate.evaluation import open_forecast
from seaice_lab.surrogate.references import make_references, possible_references, training_store
from seaice_lab.surrogate.results import results_folder, write_table
from seaice_lab.surrogate.store import name_of
from seaice_lab.surrogate.truth import open_truth, truth_for, with_truth

REFERENCES = ("persistence", "climatology")
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
        and at up to twelve lead times "persistence", "climatology" (if the training data are
        there), "blurred" (the truth, smoothed by one cell) and "phase_randomised" (the truth with
        random phases). Of an ensemble, "forecast" is the mean of the statistics of the members,
        each member is a source of its own ("member_1" and so on), and "ensemble_mean" is smoother
        than any forecast.

    Raises
    ------
    InputError
        If there is no forecast of the thickness, or no truth for it.
    """
    run = Path(run).expanduser()
    folder = run if store is None else results_folder(run, store)[0]
    dataset = open_forecast(folder, dask=False)
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
    moving = ["sit", *sorted(scaling.DRIFT)] if scaling.DRIFT <= set(dataset) else ["sit"]
    needed = [*moving, "sic"] if "sic" in dataset else moving
    dataset = dataset[needed].isel(init_time=positions[chosen])
    # Read in blocks, because one start of a large grid may not fit into memory.
    blocks = {"init_time": 1, "member": 1, "lead_time": scaling.LEADS_AT_ONCE}
    dataset = dataset.chunk({dim: size for dim, size in blocks.items() if dim in dataset.dims})
    training = training_store(dataset, truth_store, None)
    possible = possible_references(truth_store, training)
    references = [name for name in REFERENCES if name in possible]
    initial = truth_store["sit"].isel(time=dataset.position.values).load()
    dx_m = grid.spacing_m(truth_store, truth_store.ocean)
    tails = _tails(dataset, initial, truth_store, dx_m)
    score = partial(
        _score_start,
        store=truth_store,
        makers={name: make_references(references, truth_store, name, training) for name in moving},
        square=_common_ice(initial, truth_store),
        dx_m=dx_m,
        tails=tails,
    )
    count, sums = dataset.sizes["init_time"], []
    with (
        ThreadPoolExecutor(min(WORKERS, processors())) as pool,
        progress.bar(count, f"scaling {run.name}", "start", show=show) as bar,
    ):
        for each in pool.map(score, (dataset.isel(init_time=[at]) for at in range(count))):
            sums.append(each)
            bar.update()
    joined = {source: _joined([each[source] for each in sums], "init_time") for source in sums[0]}
    # A segment is a model run, unless the store may have gaps in a run.
    gaps = load_yaml(truth_store.attrs.get("configuration", "{}")).get("allow_gaps")
    runs = None if gaps else truth_store.segment.values[dataset.position.values]
    periods = independent_periods(dataset.init_time, scaling.MEMORY_DAYS, runs)
    table = scaling.compare(joined, periods=periods)
    side = joined["truth"]["angular"].attrs["side_cells"]
    table["anisotropy_null"] = float(isotropic_index(side, count, draws=20).mean())
    table.attrs |= {
        "starts": count,
        "mask": "ocean with ice in forecast and truth: concentration > 0.8, else thickness > 0.3 m",
        "gradient_tail_from_m_km-1": tails["gradient"],
        "increment_tail_from_m": tails["increment"],
    }
    write_table(table, folder, "scaling", dataset)
    return table


def _joined(sums, dim):
    """Sums of several starts or members, from `scaling.frame_sums`, as one."""
    return {name: xr.concat([each[name] for each in sums], dim) for name in sums[0]}


def _score_start(dataset, store, makers, square, dx_m, tails):
    """Sums over frames of all sources for one start."""
    over = [dim for dim in ("member",) if dim in dataset.dims]
    single = dataset.isel(dict.fromkeys(over, 0), drop=True)
    lazy_truth = partial(xr.map_blocks, partial(truth_for, store=store))
    truth = single.map(lambda values: lazy_truth(values, template=values), keep_attrs=True)
    # Ice by the concentration where it is predicted, in the truth and in every member.
    cover = "sic" if "sic" in dataset else "sit"
    least = dataset[cover].min(over, skipna=False, keep_attrs=True)
    mask = ice_mask(store.ocean, least, truth[cover]).reset_coords(drop=True).compute()
    few = np.unique(np.linspace(0, mask.sizes["lead_time"] - 1, REFERENCE_LEADS).astype(int))
    mask_few = mask.isel(lead_time=few)
    moving = list(makers)
    some = truth[moving].isel(lead_time=few).load()
    # Equal phases for thickness and drift keep the coherence between them.
    random = phase_randomised(list(some.values()), mask_few, seed=int(dataset.position.values[0]))
    sources = {
        "truth": truth[moving],
        "forecast": dataset[moving],
        "blurred": some.map(lambda values: blurred(values, mask_few), keep_attrs=True),
        "phase_randomised": xr.Dataset(dict(zip(moving, random, strict=True))),
    }
    template = single[moving].isel(lead_time=few)
    for name in makers["sit"]:
        sources[name] = template.map(lambda values, name=name: makers[values.name][name](values))
    if over:
        sources["ensemble_mean"] = dataset[moving].isel(lead_time=few).mean(over, keep_attrs=True)

    def sums_of(fields):
        if "member" in fields.dims:  # one by one, because they may be many
            members = (fields.isel(member=at) for at in range(fields.sizes["member"]))
            return _joined([sums_of(member) for member in members], "member")
        fields = fields.reset_coords(drop=True)
        cells = mask.sel(lead_time=fields.lead_time)
        return scaling.frame_sums(fields, cells, square, dx_m, tails)

    return {name: sums_of(fields) for name, fields in sources.items()}


def _common_ice(initial, store):
    """Ocean with ice at all starts."""
    mask = ice_mask(store.ocean, initial.min("time", keep_attrs=True))
    if not mask.any():
        raise InputError(
            f"{name_of(store)}: no cell has ice thicker than 0.3 m at all {len(initial)} starts, "
            "expected some; forecast from start dates with more ice"
        )
    return mask


def _tails(dataset, initial, store, dx_m):
    """Values at which the tails begin: quantiles of the truth, the same for all sources."""
    gradient = gradient_magnitude(initial, ice_mask(store.ocean, initial), dx_m)
    day = int(abs(dataset.lead_time.values - np.timedelta64(1, "D")).argmin())
    single = dataset.sit.isel(member=0, drop=True) if "member" in dataset.dims else dataset.sit
    later = truth_for(single.isel(lead_time=[day]), store).values[:, 0]
    change = abs(later - initial.values)[:, store.ocean.values]
    samples = {"gradient": gradient, "increment": change}
    return {name: float(np.nanquantile(each, TAIL_SHARE)) for name, each in samples.items()}


LEGEND = {
    "zeta": "zeta(1): higher, the thickness is smoother than in the truth",
    "gradient_c1": "gradient_c1: higher, thickness gradients are concentrated in fewer places",
    "gradient_tail_weight": "gradient_tail_weight: higher, a heavier tail, more strong gradients "
    "than in the truth; lower, a lighter tail, fewer of them",
    "beta": "beta(1): higher, the deformation is concentrated in fewer places",
    "c1": "c1: as gradient_c1, of the deformation",
    "tail_weight": "tail_weight: as gradient_tail_weight, of the deformation",
    "feature_length": "feature_length: mean length of the linear features, km",
    "anisotropy": "anisotropy: 0, the structures run in all directions; 1, in the same direction",
}


def report(table):
    """Values of forecast and truth as a text table.

    Parameters
    ----------
    table : xarray.Dataset
        From :func:`evaluate_scaling`.

    Returns
    -------
    str
        One line for each lead time of :func:`table_leads`, with the difference in standard errors
        if these are known. Of an ensemble, a second line has the range of the members. The line
        "all" has the difference pooled over the lead times. Below, what the columns mean.
    """
    columns = [name for name in LEGEND if name in table]
    heads = [f"{name}(1)" if "q" in table[name].dims else name for name in columns]
    members = [name for name in table.source.values if name.startswith("member_")]
    table = table.sel({dim: 1 for dim in ("q", "increment") if dim in table.dims})
    leads = table.isel(lead_time=table_leads(table.lead_time))
    days = [f"{lead:.1f}" for lead in leads.lead_time.values / np.timedelta64(1, "D")]

    def numbers(values, ending=""):
        return pd.DataFrame({name: values[f"{name}{ending}"].values for name in columns}, days)

    forecast, truth = (numbers(leads.sel(source=name)) for name in ("forecast", "truth"))
    error = numbers(leads.sel(source="forecast"), "_difference_error")
    difference = (forecast - truth) / error.where(error > 0)
    rows = forecast.map("{:.3g}".format) + " / " + truth.map("{:.3g}".format)
    rows += difference.map(lambda x: f" ({x:+.1f})" if np.isfinite(x) else "")
    if members:
        every = leads.sel(source=members)
        low, high = numbers(every.min("source")), numbers(every.max("source"))
        ranges = low.map("{:.3g}".format) + " to " + high.map("{:.3g}".format)
        both = pd.concat([rows, ranges.set_axis(["members"] * len(days))])
        rows = both.iloc[np.arange(len(both)).reshape(2, -1).T.ravel()]  # by lead time
    pooled = [float(table[f"{name}_significance"].sel(source="forecast")) for name in columns]
    is_known = np.isfinite(pooled)
    if is_known.any():
        cells = [f"({value:+.1f})" if np.isfinite(value) else "unknown" for value in pooled]
        rows.loc["all"] = cells
    lines = [
        f"character of the ice, {table.attrs['starts']} start dates: forecast / truth (difference "
        "in standard errors, if known; positive: the forecast has the higher value)",
        rows.set_axis(heads, axis=1).rename_axis("days", axis=1).to_string(),
        *([] if is_known.any() else [table.attrs["significance"]]),
        *(LEGEND[name] for name in columns),
    ]
    return "\n".join(lines)
