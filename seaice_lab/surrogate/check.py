"""Check of a dataset: what was recognised in its files, in words and as one field."""

from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import catalog, grid, names, positions
from seaice_lab.errors import InputError
from seaice_lab.surrogate import sources
from seaice_lab.surrogate.records import check_unit, on_ocean, sample_records
from seaice_lab.surrogate.regrid import coverage, nearest_points
from seaice_lab.surrogate.time_axis import HOUR
from seaice_lab.times import time_text

MAP_CELLS = 400  # along each side of the map of a fine grid
POLAR_LATITUDE = 50.0  # of the map of a global forcing


def check(name, paths=()):
    """Read a dataset of the catalogue as a preparation would, and describe what was recognised.

    Parameters
    ----------
    name : str
        Entry of the catalogue.
    paths : sequence of str or Path, optional
        Files to read instead of those of the entry.

    Returns
    -------
    lines : list of str
        Files, grid, times, variables, mask and coverage.
    field : xarray.DataArray (y, x)
        One record of the first variable, with latitude and longitude, for a map.
    ocean : xarray.DataArray of bool (y, x)
        True where sea; everywhere for forcing.

    Raises
    ------
    InputError
        As :func:`seaice_lab.surrogate.prepare.prepare`: if something is not as expected.
    """
    entry = catalog.find(name)
    if paths:
        # An absolute path is found in any data folder.
        absolute = tuple(str(Path(path).expanduser().absolute()) for path in paths)
        entry = entry.model_copy(update={"paths": absolute})
    file_paths = catalog.files(entry)
    number = "1 file, " if len(file_paths) == 1 else f"{len(file_paths)} files, {file_paths[0]} to "
    lines = [f"{entry.name} ({entry.format}): {number}{file_paths[-1]}"]
    ice = [short for short in entry.variables if short not in names.FORCING]
    weather = [short for short in entry.variables if short in names.FORCING]
    datasets = []
    if ice and entry.format != "era5":
        datasets.append(sources.open_state(entry, ice))
    if weather:
        datasets.append(sources.open_forcing(entry, weather))
    if not datasets:
        raise InputError(
            f"{name}: names no variable that can be read; correct 'variables' in its entry"
        )
    first = datasets[0]
    lines += [*_grid(first), *_mask_or_coverage(first, entry.name), *_times(first, entry)]
    for dataset in datasets:
        lines += [_values(dataset[short], entry) for short in dataset.data_vars]
    return lines, *_map(first)


def _grid(dataset):
    """The grid in words: size, spacing, region."""
    latitude, longitude = dataset.latitude.values, dataset.longitude.values
    region = f"{np.nanmin(latitude):.2f} to {np.nanmax(latitude):.2f} N"
    if latitude.ndim == 1:
        yield (
            f"grid: regular, {len(latitude)} latitudes x {len(longitude)} longitudes, {region}, "
            f"{longitude.min():.2f} to {longitude.max():.2f} E"
        )
        return
    rows, columns = latitude.shape
    spacing = (
        f", cells of {grid.spacing_m(dataset) / 1000:.1f} km" if min(rows, columns) > 1 else ""
    )
    yield f"grid: curvilinear, {rows} rows x {columns} columns{spacing}, {region}"


def _side(latitude):
    """1 if the dataset reaches nearer to the North Pole than to the South Pole, else -1."""
    return 1 if np.nanmax(latitude) >= -np.nanmin(latitude) else -1


def _mask_or_coverage(dataset, name):
    """The mask of a state, or how far places around the pole are from the forcing, in words."""
    if "ocean" in dataset.coords:
        ocean = dataset.ocean
        yield f"mask: {int(ocean.sum())} of {ocean.size} cells are sea ({ocean.attrs['comment']})"
        return
    latitude = dataset.latitude.values
    side = _side(latitude)
    edge, last = np.nanmin(side * latitude), np.nanmax(side * latitude)
    if latitude.ndim == 2:
        # The corners of a curvilinear grid reach farther from the pole than its sides.
        edge = max(np.nanmax(side * line) for line in (*latitude[[0, -1]], *latitude.T[[0, -1]]))
    edge = max(edge, POLAR_LATITUDE) if last > POLAR_LATITUDE else edge
    cells = side * np.arange(edge, 90.01), np.arange(-180.0, 180.0, 2.0)
    cells = np.meshgrid(*cells, indexing="ij")
    points, index = nearest_points(dataset, *cells, name)
    count, missing, farthest = coverage(*points, index, np.ones(index.shape, bool), *cells)
    yield (
        f"coverage from {edge:.1f} {'N' if side > 0 else 'S'} to the pole: "
        f"{f'incomplete{missing}' if count else 'complete'}; the place at {farthest}"
    )


def _times(dataset, entry):
    """The times in words: period, step, gaps."""
    times, run = dataset.time.values, dataset.run.values
    runs = f" in {len(np.unique(run))} runs" if entry.separate_runs else ""
    yield f"times: {len(times)} records{runs}, {time_text(times.min())} to {time_text(times.max())}"
    same_run = run[1:] == run[:-1]
    steps = np.diff(times)[same_run] / HOUR
    if not len(steps):
        return
    values, counts = np.unique(steps, return_counts=True)
    usual = values[np.argmax(counts)]
    stated = "" if usual == entry.step_h else f", but the entry says {entry.step_h:g} h"
    yield f"step: {usual:g} h{stated}"
    starts = times[:-1][same_run]
    for at in np.flatnonzero(steps != usual)[:5]:
        end = starts[at] + np.timedelta64(round(steps[at] * 3600), "s")
        yield f"gap: from {time_text(starts[at])} to {time_text(end)}"


def _values(field, entry):
    """A field in words: unit, axes, range of a few records."""
    is_state = "ocean" in field.coords
    if is_state and not entry.has_gaps:
        field = on_ocean(field, field.ocean, entry.name)
    sample = field.isel(time=sample_records(field.sizes["time"])).compute()
    low, high = float(sample.min()), float(sample.max())
    names.check_range(field.name, low, high, entry.name)
    check_unit(sample, entry.name)
    unit = "" if field.attrs["units"] == "1" else f" {field.attrs['units']}"
    gaps = ""
    if is_state and entry.has_gaps:
        share = float(sample.isnull().values[:, field.ocean.values].mean())
        gaps = f", {share:.0%} of the ocean cells of a record have no value"
    axes = {"grid": ", along the axes of the grid", "geographic": ", east and north", None: ""}
    return (
        f"{field.name}: {entry.variables[field.name]} in the files, {', '.join(field.dims)}, "
        f"{low:.4g} to {high:.4g}{unit}{axes[field.attrs.get('vectors')]}{gaps}"
    )


def _map(dataset):
    """One record for a map, and its ocean."""
    field = dataset[next(iter(dataset.data_vars))]
    records = field.isel(time=sample_records(field.sizes["time"]))
    first = int(np.argmax(records.notnull().any([d for d in field.dims if d != "time"]).values))
    field = records.isel(time=first, drop=True)
    if field.latitude.ndim == 1:
        # One side of the equator, without the pole itself; of a global forcing the polar part.
        latitude = field.latitude * _side(field.latitude.values)
        edge = POLAR_LATITUDE if ((latitude > POLAR_LATITUDE) & (latitude < 89.9)).sum() > 1 else 0
        field = field.isel(latitude=((latitude > edge) & (latitude < 89.9)).values)
        field = positions.plane(field.to_dataset(), "map")[field.name]
    coarse = {dim: slice(None, None, -(-field.sizes[dim] // MAP_CELLS)) for dim in ("y", "x")}
    field = field.isel(coarse).load()
    if "ocean" in field.coords:
        return field, field.ocean
    return field, xr.ones_like(field, bool)
