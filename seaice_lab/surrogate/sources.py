"""Readers: model output and forcing of every format in one convention.

The convention: lazy fields ``(time, y, x)`` with the short names of the project and CF attributes;
the coordinates ``time``, ``run(time)``, ``latitude(y, x)``, ``longitude(y, x)`` (1-D for regular
forcing), ``x`` and ``y`` in metres if the file has them, and ``ocean(y, x)``, true where there is
sea. The attribute ``vectors`` of wind and drift says whether they are along the axes of the grid
("grid") or east and north ("geographic"); the drift of a state is always along the axes.
"""

import json
import re
from pathlib import Path

import numpy as np
import xarray as xr

from seaice_lab import catalog, files, grid, names, positions, progress
from seaice_lab.errors import InputError
from seaice_lab.surrogate import masks
from seaice_lab.surrogate.regrid import fill_positions
from seaice_lab.synthetic import arctic

# Component along x and along y of each vector.
VECTORS = (("u10", "v10"), ("siu", "siv"))
# Direction in a CF standard name: eastward_wind is geographic; x_wind, sea_ice_x_velocity and
# grid_eastward_wind are along the axes of the grid.
DIRECTION = re.compile(r"(?P<grid>grid_)?(?P<east>eastward|northward)_|(?:^|_)(?P<x>[xy])_")


def open_state(name, variables=("sit",)):
    """Open the sea-ice state of a dataset.

    Parameters
    ----------
    name : str or seaice_lab.catalog.Entry
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
        If the dataset has no sea ice, lacks a variable, its files are not as expected, or they do
        not say where the sea is or which axes its vectors have.
    """
    entry, raw = _open(name, variables)
    name = entry.name
    if entry.format == "era5":
        raise InputError(f"{name}: is forcing, not sea ice; use it as forcing")
    state = positions.plane(_in_convention(raw, entry, variables), name)
    ocean = masks.ocean_mask(positions.plane(raw, name), entry, state[list(variables)])
    if ocean.attrs["comment"].startswith(masks.FROM_VALUES):
        progress.note(
            f"{name}: the files have no mask; the ocean is the {int(ocean.sum())} of {ocean.size} "
            f"{ocean.attrs['comment']} (land with values would count as ocean)"
        )
    state = fill_positions(state.assign_coords(ocean=ocean), name)
    return to_grid(state, state, name)[list(variables)]


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
        (-180 to 180). If one component of the wind is asked for, the other one is there too.

    Raises
    ------
    InputError
        If the dataset lacks a variable, its files are not as expected, or they do not say which
        axes the wind has.
    """
    entry, raw = _open(name, variables)
    return _in_convention(positions.ascending(raw), entry, variables)


def to_grid(vectors, positions, name):
    """Turn vectors that are east and north to the axes of a grid.

    Parameters
    ----------
    vectors : xarray.Dataset
        In the convention of this module, (time, y, x).
    positions : xarray.Dataset
        Has ``latitude`` and ``longitude`` (y, x) of the grid.
    name : str
        The dataset in the message.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the second component of a vector is missing.
    """
    return _turned(vectors, positions, "grid", name)


def to_geographic(vectors, name):
    """Turn vectors that are along the axes of their grid to east and north.

    Parameters
    ----------
    vectors : xarray.Dataset
        In the convention of this module, (time, y, x).
    name : str
        The dataset in the message.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the second component of a vector is missing.
    """
    if vectors.latitude.ndim == 1:
        return vectors  # the axes of a regular grid are east and north
    return _turned(vectors, fill_positions(vectors, name), "geographic", name)


def _turned(vectors, positions, axes, name):
    rotate = grid.rotate_to_grid if axes == "grid" else grid.rotate_to_geographic
    for pair in VECTORS:
        present = [short for short in pair if short in vectors]
        if not present or vectors[present[0]].attrs["vectors"] == axes:
            continue
        if len(present) == 1:
            raise InputError(
                f"{name}: {present[0]} must be turned to other axes, which needs both of "
                f"{' and '.join(pair)}; name the other one in the entry of the catalogue"
            )
        latitude, longitude = positions.latitude.values, positions.longitude.values
        components = rotate(*(vectors[short].data for short in pair), latitude, longitude)
        turned = zip(pair, components, strict=True)
        vectors = vectors.assign(
            {n: vectors[n].copy(data=data).assign_attrs(vectors=axes) for n, data in turned}
        )
    return vectors


def vector_axes(raw, entry, pair):
    """Whether a vector is along the axes of the grid or east and north.

    Parameters
    ----------
    raw : xarray.Dataset
        As opened by :func:`seaice_lab.catalog.open`.
    entry : seaice_lab.catalog.Entry
    pair : tuple of str
        Short names of its components.

    Returns
    -------
    str
        "grid" or "geographic", by the attributes of the files, else by the entry, else by the
        format: ERA5 is geographic.

    Raises
    ------
    InputError
        If nothing says it, or the statements contradict each other.
    """
    fields = {short: raw[entry.variables[short]] for short in pair
              if entry.variables.get(short) in raw}  # fmt: skip
    stated = set()
    for short, field in fields.items():
        stated |= _stated_axes(field, short == pair[1], entry.name)
    if len(stated) == 1 and entry.vectors not in (None, *stated):
        field = next(iter(fields.values()))
        raise InputError(
            f"{entry.name}: {' and '.join(fields)} are {stated.pop()} vectors by their attributes "
            f"(standard_name {field.attrs.get('standard_name')!r}), but {entry.vectors} vectors by "
            "the entry of the catalogue; correct the key vectors or the files"
        )
    default = "geographic" if entry.format == "era5" else None
    axes = entry.vectors or (stated.pop() if len(stated) == 1 else default if not stated else None)
    if axes is None:
        fault = "contradict each other" if stated else "are missing"
        raise InputError(
            f"{entry.name}: nothing says whether {' and '.join(fields)} are along the axes of the "
            f"grid or east and north (statements by standard_name {fault}); add `vectors: grid` or "
            "`vectors: geographic` to the entry of the catalogue"
        )
    # The axes of a regular grid are east and north.
    return "geographic" if raw.latitude.ndim == 1 else axes


def _stated_axes(field, is_second, name):
    """The axes that the attributes of one component state, as a set: none, one or contradictory."""
    stated = set()
    standard_name = str(field.attrs.get("standard_name", ""))
    direction = DIRECTION.search(standard_name)
    if direction:
        if (direction["east"] == "northward" or direction["x"] == "y") != is_second:
            raise InputError(
                f"{name}: {field.name} is taken as the component towards "
                f"{'y or north' if is_second else 'x or east'}, but its standard_name is "
                f"{standard_name!r}; correct 'variables' in the entry of the catalogue"
            )
        stated.add("grid" if direction["grid"] or direction["x"] else "geographic")
    # GRIB files say it by a number, and their standard names are not reliable on other grids.
    relative = field.attrs.get("GRIB_uvRelativeToGrid")
    if relative is not None and field.attrs.get("GRIB_gridType") != "regular_ll":
        stated.add("grid" if int(relative) else "geographic")
    return stated


def _open(name, variables):
    entry = catalog.find(name)
    name = entry.name
    for short in variables:
        names.variable(short)
        if short not in entry.variables:
            raise InputError(
                f"{name}: holds no {short} (it has {', '.join(entry.variables)}); choose another "
                "dataset, or name the variable in its entry of the catalogue"
            )
    # One component of a vector cannot be turned without the other one.
    pairs = [pair for pair in VECTORS if set(pair) & set(variables)]
    components = [short for pair in pairs for short in pair if short in entry.variables]
    return entry, catalog.open(entry, tuple(dict.fromkeys([*variables, *components])))


def _in_convention(raw, entry, variables):
    fields = {}
    for short in variables:
        field = masks.without_flags(raw[entry.variables[short]], entry)
        fields[short] = _lazy_field(field, short)
    for pair in VECTORS:
        if set(pair) & set(variables):
            axes = vector_axes(raw, entry, pair)
            for short in pair:
                if entry.variables.get(short) in raw:
                    field = raw[entry.variables[short]]
                    field = -field if axes == "grid" and _runs_down(raw, short) else field
                    fields[short] = _lazy_field(field, short).assign_attrs(vectors=axes)
    coordinates = ("time", "run", "latitude", "longitude", "x", "y")
    present = [name for name in coordinates if name in raw.coords]
    return xr.Dataset(fields, coords={name: raw[name].variable.load() for name in present})


def _lazy_field(field, short):
    field = field.drop_vars(list(field.coords)).transpose("time", ...)
    return field.assign_attrs(names.attributes(short))


def _runs_down(raw, short):
    """Whether the axis of a component decreases with the index of its cells.

    A component of the convention is positive towards growing row or column index, one of CF
    towards growing coordinate, which is the other way in files with north at the top.
    """
    axis = "y" if short in {second for _, second in VECTORS} else "x"
    return axis in raw.variables and bool(np.all(np.diff(raw[axis].values) < 0))


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
    record = folder / "generator.json"
    # The record is written last: without it, or with other settings, the files are written again.
    recorded = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    if recorded is None or catalog.Generator(**recorded) != entry.generator:
        settings = entry.generator.model_dump()
        arctic.write(folder, **settings, show=show)
        files.write_json(record, settings)
    return folder
