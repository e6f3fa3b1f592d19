"""Where the results of a run are: in its folder, or in one beside it for another store."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from seaice_lab import files, grid, metadata, progress, runs
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.store import open_store

POSITION_TOLERANCE = 0.05  # of the distance between neighbouring cells
# The command that writes each table of results.
COMMANDS = {"scores": "evaluate", "spectra": "evaluate", "scaling": "scaling"}


class ForecastFolder(Config):
    """Configuration of a folder with forecasts of a trained run on another store."""

    trained: str
    store: str


class Results(NamedTuple):
    """The folder for the results of a run, the store that they belong to, and whose store it is.

    ``is_own_store`` says whether the store is the one with which the run was trained.
    """

    folder: Path
    store: str
    is_own_store: bool


def results_folder(run, store=None, output=None):
    """The folder for the results of a run, and the store that they belong to.

    Parameters
    ----------
    run : str or Path
        Run folder.
    store : str or Path, optional
        Prepared store; the one of the run by default.
    output : str or Path, optional
        The folder. By default it is the run folder for the run's own store, and
        ``<run>_on_<store>`` beside it for another one.

    Returns
    -------
    Results

    Raises
    ------
    InputError
        If the run or its store is missing, or the folder holds something else.
    """
    opened = runs.open_run(run, "surrogate")
    path = opened.path if opened.path.name not in ("", "..") else opened.path.resolve()
    own = opened.config["store"]
    if store is None and not Path(own).expanduser().exists():
        raise InputError(
            f"{own}: no such store, from which {run} was trained; make it with `seaice-lab "
            "prepare`, or name another one on the same grid with --store"
        )
    is_own = store is None or _is_own_store(store, opened)
    if not is_own and "trained" in opened.config:
        raise InputError(
            f"{run}: holds forecasts of {opened.config['trained']} on {own}; use that run for "
            "another store"
        )
    folder = path if is_own else path.with_name(f"{path.name}_on_{Path(store).stem}")
    folder, store = Path(output or folder).expanduser(), str(Path(store or own).expanduser())
    if folder.resolve() == path.resolve():
        if is_own:
            return Results(path, store, is_own)
        raise InputError(
            f"{folder}: is the run itself, whose results belong to {own}; choose another folder "
            "with --output"
        )
    _check_results_folder(folder, path, store)
    return Results(folder, store, is_own)


def _is_own_store(store, opened):
    """Whether a path leads to the store of a run, to a copy, or to its new place."""
    own = Path(opened.config["store"])
    if Path(store).resolve() == own.resolve():
        return True
    fingerprints = {opened.provenance.get("data")}
    if own.exists():
        fingerprints = {open_store(own).attrs["fingerprint"]}
    return open_store(store).attrs["fingerprint"] in fingerprints


def _check_results_folder(folder, run, store):
    """Check that a folder is free for, or already holds, forecasts of a run on a store."""
    if not folder.exists():
        return
    if not (folder / "config.yaml").exists():
        if not folder.is_dir() or {path.name for path in folder.iterdir()} - {"provenance.json"}:
            raise InputError(f"{folder}: holds other files; choose another folder with --output")
        return
    config = runs.open_run(folder).config
    if set(config) != set(ForecastFolder.model_fields):
        raise InputError(f"{folder}: holds a run of its own; choose another folder with --output")
    for name, value in (("trained", run), ("store", store)):
        if Path(config[name]).resolve() != Path(value).resolve():
            raise InputError(
                f"{folder}: holds forecasts of {config['trained']} on {config['store']}, not of "
                f"{run} on {store}; choose another folder with --output"
            )


def prepare_results_folder(folder, run, store, fingerprint):
    """Prepare a folder for a new forecast: remove old scores, which do not belong to it.

    Write configuration and provenance, unless it is the run's own folder.

    Parameters
    ----------
    folder : Path
    run : Path
        Run folder of the trained network.
    store : str
    fingerprint : str
        Of the store.
    """
    older = [path for name in COMMANDS if (path := folder / f"{name}.nc").exists()]
    for path in older:
        path.unlink(missing_ok=True)
    if older:
        names = ", ".join(path.name for path in older)
        progress.line(f"{folder}: removed {names}, which belong to an older forecast")
    if folder.resolve() == Path(run).resolve():
        return
    facts = runs.provenance("surrogate", trained=str(run), store=store, data=fingerprint)
    files.write_json(folder / "provenance.json", facts)
    files.write_text(
        folder / "config.yaml", ForecastFolder(trained=str(run), store=store).to_yaml()
    )


def write_table(table, folder, name, forecast):
    """Write a table of results to ``<name>.nc`` with the metadata of its forecast.

    Parameters
    ----------
    table : xarray.Dataset
        With ``lead_time`` and mostly ``source``.
    folder : Path
        Folder of the forecast.
    name : str
        One of COMMANDS.
    forecast : xarray.Dataset
        The forecast that was scored.
    """
    if "source" in table.coords:
        table["source"].attrs = {"long_name": "What was scored"}
    table["lead_time"].attrs = {"standard_name": "forecast_period", "long_name": "Lead time"}
    title = f"{name.capitalize()} of run {folder.name}"
    facts = (forecast.attrs["source"], COMMANDS[name], forecast.attrs.get("license"))
    table.attrs |= metadata.file_attributes(title, *facts)
    table.attrs |= {"store": forecast.attrs["store"], "forecast": forecast.attrs["fingerprint"]}
    files.write_netcdf(folder / f"{name}.nc", table)


def read_table(run, name):
    """Read a table that :func:`write_table` wrote.

    Parameters
    ----------
    run : str or Path
    name : str
        One of COMMANDS.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the file is missing or cannot be read.
    """
    path = Path(run).expanduser() / f"{name}.nc"
    try:
        return xr.load_dataset(path, decode_timedelta=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); run `seaice-lab {COMMANDS[name]} {run}`"
        ) from None


def write_grid(run, store):
    """Keep the positions and the ocean mask of a store in the run folder, as ``grid.nc``.

    With them other stores can be checked when the store of the run is lost.

    Parameters
    ----------
    run : Path
    store : xarray.Dataset
        Prepared store of the training.
    """
    fields = {name: store[name].variable for name in ("ocean", "latitude", "longitude")}
    facts = ("seaice_lab", "train", store.attrs.get("license"))
    attributes = metadata.file_attributes(f"Grid of run {run.name}", *facts)
    files.write_netcdf(run / "grid.nc", xr.Dataset(fields, attrs=attributes).drop_encoding())


def grid_of(opened):
    """Positions and ocean mask of a run, from its file ``grid.nc``, else from its store.

    Parameters
    ----------
    opened : seaice_lab.runs.Run

    Returns
    -------
    xarray.Dataset
        ``ocean`` (bool), ``latitude`` and ``longitude``, each (y, x).

    Raises
    ------
    InputError
        If the file is damaged, or both the file and the store are missing.
    """
    path = opened.path / "grid.nc"
    if not path.exists():
        return open_store(opened.config["store"])
    try:
        reference = xr.load_dataset(path)
        return reference.assign(ocean=reference.ocean.astype(bool))
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); restore the file, or move "
            "it away to compare with the store of the run"
        ) from None


def check_same_grid(store, path, opened, is_own_store):
    """Check that a store has the cells and the ocean of a run.

    Parameters
    ----------
    store : xarray.Dataset
        Prepared store.
    path : str or Path
        Of the store.
    opened : seaice_lab.runs.Run
    is_own_store : bool
        From :func:`results_folder`.

    Raises
    ------
    InputError
        If the size of the grid, the positions of its cells or the ocean masks differ, or if the
        run has no grid of its own and its store is missing.
    """
    if is_own_store and not (opened.path / "grid.nc").exists():
        return
    run, reference = opened.path, grid_of(opened)
    ocean, expected = store.ocean.values, reference.ocean.values
    if ocean.shape != expected.shape:
        raise InputError(
            f"{path}: has a grid of {' x '.join(map(str, ocean.shape))} cells, {run} was trained "
            f"on {' x '.join(map(str, expected.shape))}; prepare it on the grid of the run"
        )
    distance_km = grid.great_circle_km(
        store.latitude, store.longitude, reference.latitude, reference.longitude
    )
    spacing_km = grid.spacing_m(reference) / 1e3
    if np.nanmax(distance_km) > POSITION_TOLERANCE * spacing_km:
        row, column = np.unravel_index(np.nanargmax(distance_km), distance_km.shape)
        raise InputError(
            f"{path}: its cells are up to {distance_km[row, column]:.1f} km away from those of the "
            f"store of {run} (row {row}, column {column}; cells are {spacing_km:.1f} km wide); "
            "prepare it on the grid of the run, with rows and columns in the same order"
        )
    if (ocean != expected).any():
        row, column = np.argwhere(ocean != expected)[0]
        raise InputError(
            f"{path}: its ocean mask differs from that of the store of {run} in "
            f"{(ocean != expected).sum()} of {ocean.size} cells (first in row {row}, column "
            f"{column}); prepare it with the mask of the run"
        )
