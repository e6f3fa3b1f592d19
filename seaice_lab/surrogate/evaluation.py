"""Evaluation: a forecast and reference forecasts against the truth of the prepared store.

The surrogate and the references are compared on equal terms: same start dates, same lead times,
same ocean cells, same scores.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import __version__, files, progress, runs
from seaice_lab.cluster import apply_to_blocks
from seaice_lab.diagnostics import score_tables
from seaice_lab.diagnostics.comparison import pool_scores, pool_spectra
from seaice_lab.errors import InputError
from seaice_lab.surrogate.block_scores import (
    Comparison,
    domain_of,
    read_scores,
    score_block,
    write_scores,
)
from seaice_lab.surrogate.card import write_card
from seaice_lab.surrogate.references import make_references, possible_references, training_store
from seaice_lab.surrogate.results import read_table, results_folder, write_table
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.store import open_zarr, with_small_fields_in_memory
from seaice_lab.surrogate.truth import open_truth, with_truth

SPECTRA_BYTES = 64e6  # up to which the spectra of single starts are kept


def open_forecast(path, dask=True):
    """Open a forecast store lazily.

    Parameters
    ----------
    path : str or Path
        A run folder, or the ``forecast.zarr`` in it.
    dask : bool
        Use dask arrays. False is faster for reading single fields.

    Returns
    -------
    xarray.Dataset
        ``<variable>(init_time, [member,] lead_time, y, x)`` for each predicted variable, in the
        order of the run.

    Raises
    ------
    InputError
        If the forecast is missing, incomplete or damaged.
    """
    path = Path(path).expanduser()
    path = path if path.suffix == ".zarr" else path / "forecast.zarr"
    forecast = open_zarr(path, f"seaice-lab forecast {path.parent}", "auto" if dask else None)
    # The order of arrays in a Zarr group is that of the file system.
    variables = forecast.attrs.get("variables", "").split() or _variables_of_run(path.parent)
    return forecast[[*variables, *(name for name in forecast if name not in variables)]]


def _variables_of_run(run):
    """Predicted variables of a run, for old forecasts, which do not list them."""
    try:
        return window_of(TrainConfig.parse(runs.open_run(run).config, run)).variables
    except InputError:
        return ()


def evaluate(
    run, references=None, variable=None, block_bytes=256e6, show=True, store=None, scheduler=None
):
    """Score the forecast of a run and reference forecasts; write scores and spectra.

    Starts and lead times without truth in the store are not scored. The model card of the run
    receives the scores. A killed evaluation continues with the same call: it scores the missing
    blocks of starts only.

    Parameters
    ----------
    run : str or Path
        Run folder with a forecast.
    references : sequence of str, optional
        Names of the reference forecasts (:mod:`seaice_lab.surrogate.references`) to score on the
        same starts. All of them by default, free drift only if the store has wind, and climatology
        and damped persistence only if the run's own store is there with a training split.
    variable : str, optional
        Variable of the forecast; the first one of the run by default.
    block_bytes : float
        Size of the forecast fields that are in memory at once. The scores do not depend on it.
    show : bool
        Show progress.
    store : str or Path, optional
        Another store on which the run has made a forecast (see
        :func:`~seaice_lab.surrogate.results.results_folder`), or the new path of a moved store.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers score the blocks; they must reach the
        same files. Without it this process scores them.

    Returns
    -------
    table : xarray.Dataset
        Scores over the ocean, weighted by cell area, by ``source`` ("forecast" and the references)
        and lead time, with bootstrap intervals over starts. ``skill`` is one minus the ratio of the
        RMSE to that of persistence. ``rmse_by_region`` and ``bias_by_region`` are the scores in the
        named regions of the grid. ``start_count`` is the number of starts with truth, if it differs
        between lead times; scores are NaN where it is zero. For an ensemble the ensemble mean is
        scored, and ``crps``, ``spread`` and ``rank_histogram`` are added. Written to ``scores.nc``.
    spectrum : xarray.Dataset
        ``power(source, lead_time, wavenumber)``, the mean over starts, and its exponent ``slope``
        (source, lead_time) for the sources "truth", "forecast" and "error" (forecast minus truth);
        ``resolution(lead_time)``, the wavelength below which the forecast has less than half of the
        power of the truth; ``power_by_start``, unless it is larger than 64 MB. Written to
        ``spectra.nc``.

    Raises
    ------
    InputError
        If the forecast is missing, the store is not the one from which it was started or has no
        truth at all, a variable or reference is unknown, or the dask cluster fails.
    """
    run, store_path = Path(run).expanduser(), store
    if store_path is not None:
        trained, run = run, results_folder(run, store).folder
        if not (run / "forecast.zarr").exists():
            raise InputError(
                f"{run}: has no forecast; make it with `seaice-lab forecast {trained} --store "
                f"{store}`"
            )
    dataset = open_forecast(run, dask=False)
    store = open_truth(dataset, store_path)
    variable = variable or next(iter(dataset.data_vars))
    if variable not in dataset.data_vars:
        raise InputError(
            f"{run}: forecasts {', '.join(dataset.data_vars)}, not {variable!r}; choose one of them"
        )
    forecast, verified = with_truth(dataset[variable], store)
    lazy = set(forecast.coords) - set(forecast.dims)
    forecast = forecast.assign_coords({name: forecast[name].compute() for name in lazy})
    store = with_small_fields_in_memory(store, (variable, "u10", "v10"))
    training = training_store(dataset, store, references)
    references = possible_references(store, training) if references is None else references
    makers = make_references(references, store, variable, training)
    comparison = Comparison(run.absolute(), forecast, verified, store, makers, domain_of(forecast))
    starts_per_block = int(max(block_bytes // (4 * forecast[0].size), 1))
    opened = [each for each in (dataset, store, training) if each is not None]
    data = [each.attrs.get("fingerprint") for each in opened]
    identity = files.fingerprint(__version__, data, variable, references, starts_per_block)
    with files.journal(run / "scores.nc", identity) as journal:
        folder = journal.target
        blocks = _scores_of_blocks(comparison, starts_per_block, folder, scheduler, show)
        table = _join_scores(blocks, verified)
        spectrum = _join_spectra([block["power"].power for block in blocks])
        _write_results(run, variable, table, spectrum, dataset)
        journal.remove()
    return table, spectrum


def _scores_of_blocks(comparison, starts_per_block, folder, scheduler, show):
    """Scores of all blocks in their order; those that an interrupted evaluation left are read."""
    firsts = range(0, comparison.forecast.sizes["init_time"], starts_per_block)
    done = {}
    for first in firsts:
        # A file is missing, or was cut short by a power failure.
        with suppress(OSError, RuntimeError, ValueError):
            done[first] = read_scores(folder / f"{first}.nc")
    missing = [slice(first, first + starts_per_block) for first in firsts if first not in done]
    title = f"evaluate {comparison.run.name}"
    with progress.bar(len(firsts), title, "block", len(done), show) as bar:
        for block, scores in apply_to_blocks(score_block, missing, (comparison,), scheduler):
            done[block.start] = scores
            if len(done) < len(firsts):  # after the last one there is nothing to continue
                write_scores(folder / f"{block.start}.nc", scores)
            bar.update()
    return [done[first] for first in firsts]


def _write_results(run, variable, table, spectrum, forecast):
    """Write scores and spectra, and renew the model card if the folder holds a network."""
    for name, result in (("scores", table), ("spectra", spectrum)):
        result = result.drop_vars(set(result.coords) - set(result.dims) - {"wavelength"})
        write_table(result.assign_attrs(variable=variable), run, name, forecast)
    if (run / "weights.safetensors").exists():
        days = float(table.lead_time.max() / np.timedelta64(1, "D"))
        extent = table.sizes["init_time"], days
        write_card(run, f"{variable}: {report(table, spectrum)}", extent)


def _join_scores(blocks, verified):
    """The score table of all starts from the scores of the blocks."""
    by_start = xr.concat([block["ocean"] for block in blocks], dim="init_time")
    if not verified.all():
        by_start["verified"] = verified
    by_region = [block["regions"] for block in blocks if "regions" in block]
    table = pool_scores(by_start, xr.concat(by_region, dim="init_time") if by_region else None)
    table["init_time"].attrs = dict(score_tables.START)
    return table


def _join_spectra(blocks):
    """The spectra of all starts from those of the blocks."""
    power = xr.concat(blocks, dim="init_time")
    spectrum = pool_spectra(power)
    if 4 * power.size <= SPECTRA_BYTES:  # for comparisons of runs on common starts
        of_starts = power.astype("float32")
        spectrum["power_by_start"] = of_starts.assign_attrs(power.attrs)
        spectrum["init_time"].attrs = dict(score_tables.START)
    return spectrum


def read_evaluation(run):
    """Scores and spectra of a run, as written by :func:`evaluate`.

    Returns
    -------
    table, spectrum : xarray.Dataset

    Raises
    ------
    InputError
        If one of the files is missing or cannot be read.
    """
    return read_table(run, "scores"), read_table(run, "spectra")


def report(table, spectrum):
    """The scores and exponents as a text table.

    Parameters
    ----------
    table, spectrum : xarray.Dataset
        From :func:`evaluate`.

    Returns
    -------
    str
        One line for each lead time of :func:`seaice_lab.diagnostics.score_tables.table_leads`.
    """
    days = table.lead_time.values / np.timedelta64(1, "D")
    references = [str(name) for name in table.source.values if name != "forecast"]
    heads = {name: f"{name.replace('_', ' '):>{len(name) + 3}s}" for name in references}
    lines = [
        f"scores over the ocean, {table.sizes['init_time']} start dates; RMSE and bias in "
        f"{table.rmse.attrs['units']}, then the ratio to the RMSE of each reference (below 1: "
        "better)",
        f"{'days':>7s}{'RMSE':>9s}{'bias':>9s}{''.join(heads.values())}   exponent  truth's",
    ]
    if is_ensemble := "rank_histogram" in table:
        members = table.sizes["rank"] - 1
        lines[0] += (
            f"\nensemble of {members} members: RMSE and bias of its mean, CRPS in the same unit; "
            "the spread-skill ratio is 1 if the spread equals the error, below 1 if it is smaller"
        )
        lines[-1] += "     CRPS  spread-skill"
        # Both are root mean squares over starts.
        ratio = ((members + 1) / members) ** 0.5 * table.spread / table.rmse
    counts = table.get("start_count")
    if counts is not None:
        lines[-1] += "  starts"
    for lead in score_tables.table_leads(table.lead_time):
        row, slope = table.isel(lead_time=lead), spectrum.slope.isel(lead_time=lead)
        if counts is not None and not counts[lead]:
            lines.append(f"{days[lead]:7.1f}   no truth")
            continue
        forecast = row.sel(source="forecast")
        line = f"{days[lead]:7.1f}{float(forecast.rmse):9.4f}{float(forecast.bias):+9.4f}"
        for name, head in heads.items():
            line += f"{float(forecast.rmse / row.rmse.sel(source=name)):{len(head)}.3f}"
        line += f"{float(slope.sel(source='forecast')):11.2f}"
        line += f"{float(slope.sel(source='truth')):9.2f}"
        if is_ensemble:
            spread_skill = ratio.sel(source="forecast").isel(lead_time=lead)
            line += f"{float(forecast.crps):9.4f}{float(spread_skill):14.2f}"
        lines.append(line if counts is None else line + f"{int(counts[lead]):8d}")
    return "\n".join(lines)
