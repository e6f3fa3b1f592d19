"""Readers: every format of model output and forcing in one convention.

The convention: lazy fields ``(time, y, x)`` under our short names with CF attributes, coordinates
``time``, ``run(time)``, ``latitude(y, x)``, ``longitude(y, x)`` (1-D for regular forcing),
``x`` and ``y`` in metres where known, and ``ocean(y, x)``, true where there is sea. Forcing says in
the attribute ``wind_axes`` whether winds are along the grid axes ("grid") or "east_north".
"""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import catalog, files, names
from seaice_lab.errors import InputError
from seaice_lab.synthetic import arctic

NSIDC_LAND = (253, 254)  # coastline, land; 251 is the pole hole, 255 missing
NSIDC_SCALE = 0.004
FINAL, PRELIMINARY = "0001", "0005"  # ERA5's expver


def open_state(name, variables=("sit",)):
    """The sea-ice state of a dataset.

    Parameters
    ----------
    name : str
        Entry of the catalogue.
    variables : sequence of str
        Short names, such as "sit".

    Returns
    -------
    xarray.Dataset
        In the convention of this module.

    Raises
    ------
    InputError
        If the dataset holds no sea ice, lacks a variable, or its files are not as expected.
    """
    entry, raw = _open(name, variables)
    if entry.format == "era5":
        raise InputError(f"{name}: is forcing, not sea ice; use it as forcing")
    ocean = _ocean(entry, raw)
    fields = _fields(entry, raw, variables)
    if entry.format == "nsidc0051":
        # Flags are bytes above 250, decoded to more than 1: no concentrations.
        fields = {
            short: field.where(field <= 1.0 + NSIDC_SCALE / 2) for short, field in fields.items()
        }
        fields = {
            short: field.assign_attrs(names.attributes(short)) for short, field in fields.items()
        }
    return _assemble(raw, fields, {"ocean": (("y", "x"), ocean)})


def open_forcing(name, variables=names.FORCING):
    """The atmospheric forcing of a dataset.

    Parameters
    ----------
    name : str
        Entry of the catalogue: ERA5, or model output that holds its own forcing.
    variables : sequence of str
        Short names, such as "t2m".

    Returns
    -------
    xarray.Dataset
        In the convention of this module; ERA5 on ascending 1-D latitude and longitude
        (-180 to 180).

    Raises
    ------
    InputError
        If the dataset holds no such forcing, or its files are not as expected.
    """
    entry, raw = _open(name, variables)
    if entry.format == "era5":
        raw = _era5(raw)
    fields = _fields(entry, raw, variables)
    axes = "east_north" if entry.format in ("era5", "nextsim") else "grid"
    return _assemble(raw, fields, {}).assign_attrs(wind_axes=axes)


def _open(name, variables):
    entry = catalog.find(name)
    for short in variables:
        names.variable(short)
        if short not in entry.variables:
            raise InputError(
                f"{name}: holds no {short} (it has {', '.join(entry.variables)}); choose another "
                "dataset, or name the variable in its entry of the catalogue"
            )
    return entry, catalog.open(name)


def _fields(entry, raw, variables):
    return {
        short: raw[entry.variables[short]].assign_attrs(names.attributes(short))
        for short in variables
    }


def _assemble(raw, fields, coords):
    keep = [c for c in ("time", "run", "latitude", "longitude", "x", "y") if c in raw.variables]
    extra = {c: raw[c].variable.load() for c in keep if not _is_counter(raw, c)}
    bare = {
        short: field.drop_vars(list(field.coords)).transpose("time", ...)
        for short, field in fields.items()
    }
    return xr.Dataset(bare, coords=extra | coords)


def _is_counter(raw, axis):
    """Whether an axis only numbers the cells: no position in metres."""
    return axis in ("x", "y") and np.issubdtype(raw[axis].dtype, np.integer)


def _ocean(entry, raw):
    """Ocean mask: the file's own, else the flags, else where the first record has a value."""
    if "mask" in raw:
        return raw["mask"].values > 0.5
    first = raw[next(iter(entry.variables.values()))].isel(time=0)
    if entry.format == "nsidc0051":
        return ~np.isin(np.rint(first.values / NSIDC_SCALE), NSIDC_LAND)
    return np.isfinite(first.values)


def _era5(raw):
    """Both layouts of the Copernicus store as one: ascending axes, one version of each time."""
    if "expver" in raw.dims:
        versions = raw.expver.values.astype(str)
        final = [v.zfill(4) for v in versions].index(FINAL)
        combined = raw.isel(expver=final)
        for version in range(len(versions)):
            combined = combined.combine_first(raw.isel(expver=version))
        raw = combined
    raw = raw.drop_vars(["expver", "number"], errors="ignore")
    longitude = (raw.longitude + 180) % 360 - 180
    return raw.assign_coords(longitude=longitude).sortby(["latitude", "longitude"])


def make(name, show=True):
    """Generate a dataset of the catalogue, such as the synthetic Arctic, where it is missing.

    Parameters
    ----------
    name : str
        Entry with a generator.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The folder of its files.

    Raises
    ------
    InputError
        If the entry is unknown or is not generated.
    """
    entry = catalog.find(name)
    if entry.generator is None:
        raise InputError(f"{name}: is not generated; get it from {entry.source}")
    folder = catalog.data_folders()[0] / Path(entry.paths[0]).parent
    config = entry.generator.model_dump()
    done = folder / "made.json"
    # Half a dataset, or one made with other settings, is made anew.
    if not done.exists() or json.loads(done.read_text(encoding="utf-8")) != config:
        arctic.write(folder, **config, show=show)
        files.write_json(done, config)
    return folder
