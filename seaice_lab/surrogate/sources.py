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

from seaice_lab import catalog, datasets, files, grid, names, positions, progress
from seaice_lab.errors import InputError
from seaice_lab.surrogate import masks
from seaice_lab.surrogate.records import FROM_VALUES
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
    if entry.missing_is_no_ice:
        progress.note(f"{name}: missing values in the ocean are no ice (0), as its entry says")
    if ocean.attrs["comment"].startswith(FROM_VALUES):
        progress.note(
            f"{name}: the files have no mask; the ocean is the {int(ocean.sum())} of {ocean.size} "
            f"{ocean.attrs['comment']} (land with values would count as ocean)"
        )
    state = fill_positions(state.assign_coords(ocean=ocean), name)
    return turn(state, "grid", name, state)[list(variables)]


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


def turn(vectors, axes, name, positions=None):
    """Turn wind and drift to the axes of a grid, or to east and north.

    Parameters
    ----------
    vectors : xarray.Dataset
        In the convention of this module, (time, y, x).
    axes : "grid" or "geographic"
    name : str
        The dataset in the message.
    positions : xarray.Dataset, optional
        Has ``latitude`` and ``longitude`` (y, x) of the grid; by default ``vectors`` itself.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    InputError
        If the second component of a vector is missing.
    """
    function = grid.rotate_to_grid if axes == "grid" else grid.rotate_to_geographic

    def rotate(*components):
        at = fill_positions(vectors, name) if positions is None else positions
        return function(*components, at.latitude.values, at.longitude.values)

    other = {short for short in vectors if vectors[short].attrs.get("vectors", axes) != axes}
    return _rotated(vectors, [p for p in VECTORS if set(p) & other], rotate, axes, name)


def move(vectors, convergence, name):
    """Vectors that are east and north at other places as east and north of the cells.

    Parameters
    ----------
    vectors : xarray.Dataset
        In the convention of this module, (time, y, x).
    convergence : ndarray (y, x)
        Angle between the meridians of the cell and of the other place, radians.
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

    def rotate(east, north):
        cosine, sine = (f(convergence).astype(east.dtype) for f in (np.cos, np.sin))
        return cosine * east + sine * north, cosine * north - sine * east

    pairs = [pair for pair in VECTORS if set(pair) & vectors.keys()]
    return _rotated(vectors, pairs, rotate, "geographic", name)


def _rotated(vectors, pairs, rotate, axes, name):
    """Vectors whose components are functions of both of them."""
    for pair in pairs:
        present = [short for short in pair if short in vectors]
        if len(present) == 1:
            raise InputError(
                f"{name}: {present[0]} must be turned to other axes, which needs both of "
                f"{' and '.join(pair)}; name the other one in the entry of the catalogue"
            )
        turned = zip(pair, rotate(*(vectors[short].data for short in pair)), strict=True)
        vectors = vectors.assign(
            {n: vectors[n].copy(data=data).assign_attrs(vectors=axes) for n, data in turned}
        )
    return vectors


def vector_axes(raw, entry, pair):
    """Whether a vector is along the axes of the grid or east and north.

    Parameters
    ----------
    raw : xarray.Dataset
        As opened by :func:`seaice_lab.datasets.open`.
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
    fields = _held(raw, entry, pair)
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
    if raw.latitude.ndim == 1:
        return "geographic"  # the axes of a regular grid are east and north
    if axes == "grid" and not raw.attrs.get("ordered", True):
        raise InputError(
            f"{entry.name}: {' and '.join(fields)} are along the axes of the grid, and nothing "
            "says which dimension of the files is along x; name the dimensions y and x, or give "
            "them coordinates with the attribute 'axis'"
        )
    return axes


def _held(raw, entry, pair):
    """The components of a vector that the files hold, by short name."""
    return {s: raw[entry.variables[s]] for s in pair if entry.variables.get(s) in raw}


def _stated_axes(field, is_second, name):
    """The axes that the attributes of one component state, as a set: none, one or contradictory."""
    stated = set()
    standard_name = str(field.attrs.get("standard_name", ""))
    for direction in DIRECTION.finditer(standard_name):
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
    return entry, datasets.open(entry, tuple(dict.fromkeys([*variables, *components])))


def _in_convention(raw, entry, variables):
    pairs = [pair for pair in VECTORS if set(pair) & set(variables)]
    axes = {s: vector_axes(raw, entry, pair) for pair in pairs for s in _held(raw, entry, pair)}
    fields = {}
    for short in dict.fromkeys((*variables, *axes)):
        field = raw[entry.variables[short]]
        if entry.missing_is_no_ice and short not in names.FORCING:
            # Flags, such as the hole at the pole, stay missing: they do not mean "no ice".
            field = field.fillna(0)
        field = masks.without_flags(field, entry)
        # A component of the convention is positive towards growing row or column index, one of CF
        # towards growing coordinate: the other way in files with north at the top.
        along = "y" if short in {second for _, second in VECTORS} else "x"
        if axes.get(short) == "grid" and along in raw.attrs["descending"]:
            field = field.copy(data=-field.data)
        field = field.drop_vars(list(field.coords)).transpose("time", ...)
        attrs = names.attributes(short) | ({"vectors": axes[short]} if short in axes else {})
        fields[short] = field.assign_attrs(attrs)
    coordinates = ("time", "run", "latitude", "longitude", "x", "y")
    present = [name for name in coordinates if name in raw.coords]
    return xr.Dataset(fields, coords={name: raw[name].variable.load() for name in present})


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
