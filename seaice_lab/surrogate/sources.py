"""Readers: model output and forcing of every format in one convention.

The convention: lazy fields ``(time, y, x)`` with the short names of the project and CF attributes;
the coordinates ``time``, ``run(time)``, ``latitude(y, x)``, ``longitude(y, x)`` (1-D for regular
forcing), ``x`` and ``y`` in metres if the file has them, and ``ocean(y, x)``, true where there is
sea. The attribute ``wind_axes`` of forcing says whether winds are along the grid axes ("grid") or
east and north ("east_north").
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


def open_state(name, variables=("sit",)):
    """Open the sea-ice state of a dataset.

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
        If the dataset has no sea ice, lacks a variable, or its files are not as expected.
    """
    entry, raw = _open(name, variables)
    if entry.format == "era5":
        raise InputError(f"{name}: is forcing, not sea ice; use it as forcing")
    ocean = _ocean(entry, raw)
    return _in_convention(raw, entry, variables).assign_coords(ocean=(("y", "x"), ocean))


def open_forcing(name, variables=names.FORCING):
    """Open the atmospheric forcing of a dataset.

    Parameters
    ----------
    name : str
        Entry of the catalogue: ERA5, or model output that contains its own forcing.
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
        If the dataset lacks a variable, or its files are not as expected.
    """
    entry, raw = _open(name, variables)
    if entry.format == "era5":
        raw = _era5(raw)
    axes = "east_north" if entry.format in ("era5", "nextsim") else "grid"
    return _in_convention(raw, entry, variables).assign_attrs(wind_axes=axes)


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


def _in_convention(raw, entry, variables):
    fields = {}
    for short in variables:
        field = raw[entry.variables[short]]
        if entry.format == "nsidc0051":
            # Flags are bytes above 250, which are decoded to more than 1.
            field = field.where(field <= 1.0 + NSIDC_SCALE / 2)
        field = field.drop_vars(list(field.coords)).transpose("time", ...)
        fields[short] = field.assign_attrs(names.attributes(short))
    # Axes of whole numbers only number the cells: they are not positions in metres.
    axes = [
        axis for axis in ("x", "y") if axis in raw.variables and raw[axis].dtype.kind not in "iu"
    ]
    present = [name for name in ("time", "run", "latitude", "longitude") if name in raw.variables]
    return xr.Dataset(fields, coords={name: raw[name].variable.load() for name in present + axes})


def _ocean(entry, raw):
    """Ocean mask (y, x): of the file, else from flags, else where the first record is finite."""
    if "mask" in raw:
        return raw["mask"].values > 0.5
    first = raw[next(iter(entry.variables.values()))].isel(time=0)
    if entry.format == "nsidc0051":
        return ~np.isin(np.rint(first.values / NSIDC_SCALE), NSIDC_LAND)
    return np.isfinite(first.values)


def _era5(raw):
    """Both layouts of the Copernicus store as one: ascending axes, one version of each time."""
    if "expver" in raw.dims:
        # Version 1 is final, version 5 preliminary: the final value is used where both exist.
        versions = raw.sortby("expver")
        raw = versions.isel(expver=0)
        for number in range(1, versions.sizes["expver"]):
            raw = raw.combine_first(versions.isel(expver=number))
    raw = raw.drop_vars(["expver", "number"], errors="ignore")
    longitude = (raw.longitude + 180) % 360 - 180
    return raw.assign_coords(longitude=longitude).sortby(["latitude", "longitude"])


def make(name, show=True):
    """Generate a dataset of the catalogue, such as the synthetic Arctic, if it is missing.

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
        If the entry is unknown or has no generator.
    """
    entry = catalog.find(name)
    if entry.generator is None:
        raise InputError(f"{name}: is not generated; get it from {entry.source}")
    folder = catalog.data_folders()[0] / Path(entry.paths[0]).parent
    settings = entry.generator.model_dump()
    record = folder / "generator.json"
    # The record is written last: without it, or with other settings, the files are written again.
    if not record.exists() or json.loads(record.read_text(encoding="utf-8")) != settings:
        arctic.write(folder, **settings, show=show)
        files.write_json(record, settings)
    return folder
