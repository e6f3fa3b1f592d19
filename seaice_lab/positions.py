"""Positions: the latitude and longitude of a file, and the dimensions of its rows and columns.

Meaning comes from CF attributes (with cf-xarray), else from the usual names. Positions that a file
lacks are computed from its projection.
"""

import re
from dataclasses import dataclass

import cf_xarray  # noqa: F401  (adds .cf to xarray)
import numpy as np
import xarray as xr
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from seaice_lab import grid
from seaice_lab.errors import InputError

# Usual names of coordinates and dimensions, in lower case.
GEOGRAPHIC = {
    "latitude": re.compile(r"(nav_|[gtp])?lat(itude)?s?(_?(t|rho|2d))?|gphit|yc"),
    "longitude": re.compile(r"(nav_|[gtp])?lon(g|gitude)?s?(_?(t|rho|2d))?|glamt|xc"),
}
UNITS_OF = {"latitude": "degrees_north", "longitude": "degrees_east"}
LIMIT_OF = {"latitude": 90.001, "longitude": 720.0}
ALONG = {
    "x": re.compile(
        r"(n|d|dim_?|r?lon|grid_|projection_)?[xi]([cthij]|_?(axis|dim)|_?coord\w*|_?pos|_\d+|_rho)?"
        r"|xi_?\w*|[nr]?lon(gitude)?|i_?\w?|ni_?\w?|west_east|col(umn)?s?|east(ing)?"
    ),
    "y": re.compile(
        r"(n|d|dim_?|r?lat|grid_|projection_)?[yj]([cthij]|_?(axis|dim)|_?coord\w*|_?pos|_\d+|_rho)?"
        r"|eta_?\w*|[nr]?lat(itude)?|j_?\w?|nj_?\w?|south_north|rows?|north(ing)?"
    ),
}
ROUNDING = 0.05  # of a cell: positions are rounded to float32 or to a few digits
METRES = dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0)
METRES |= dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1000.0)
# A projection stretches distances; an axis in another unit differs by far more.
STRETCHING = (0.5, 2.0)
SPACING_M = (200.0, 1e6)  # of the cells of a file whose positions come from its projection


@dataclass(frozen=True)
class Positions:
    """Positions of a grid: ``latitude`` and ``longitude``, both along (y_dim, x_dim) or 1-D.

    ``ordered`` is false where nothing but the order of the dimensions says which one is along x.
    """

    latitude: xr.DataArray
    longitude: xr.DataArray
    y_dim: str
    x_dim: str
    ordered: bool = True

    @property
    def regular(self):
        """Whether the axes are latitude and longitude themselves."""
        return self.latitude.ndim == 1


def find(dataset, name, where):
    """Find the positions of a field.

    Parameters
    ----------
    dataset : xarray.Dataset
        As in the file; everything but the fields is a coordinate.
    name : str
        The field.
    where : str
        File to name in messages.

    Returns
    -------
    Positions

    Raises
    ------
    InputError
        If there are none, several, or they move with time.
    """
    field = dataset[name]
    pair = {key: _geographic(dataset, field, key, where) for key in GEOGRAPHIC}
    if pair["latitude"] is None and pair["longitude"] is None:
        return _projected(dataset, field, where)
    for key, other in (("latitude", "longitude"), ("longitude", "latitude")):
        if pair[key] is None:
            raise InputError(f"{where}: has {pair[other].name} but no {key} of {name}; add it")
    latitude, longitude = (_degrees(pair[key], key, where) for key in GEOGRAPHIC)
    dims = (*latitude.dims, *(dim for dim in longitude.dims if dim not in latitude.dims))
    if latitude.ndim == longitude.ndim == 1 and len(dims) == 2:
        return Positions(latitude, longitude, *dims)
    if len(dims) != 2 or latitude.ndim != longitude.ndim:
        raise InputError(
            f"{where}: {latitude.name} has the dimensions {latitude.dims} and {longitude.name} "
            f"{longitude.dims}, expected two 1-D axes or two equal 2-D arrays; put the fields on a "
            "grid with rows and columns first"
        )
    # The order that CF recommends, if nothing else says it.
    order = tuple(dim for dim in field.dims if dim in dims)
    along_y = _dim_along(dataset, order, "y")
    along_x = _dim_along(dataset, [dim for dim in order if dim != along_y], "x")
    if along_x == order[0] or along_y == order[1]:
        order = order[::-1]
    positions = latitude.transpose(*order), longitude.transpose(*order)
    return Positions(*positions, *order, ordered=bool(along_x or along_y))


def of_field(dataset, name, where):
    """Latitude and longitude of the values of a field, on a grid or at points along a dimension.

    Parameters
    ----------
    dataset, name, where
        As in :func:`find`.

    Returns
    -------
    latitude, longitude : xarray.DataArray
        Degrees, along dimensions of the field.
    """
    pair = {key: _geographic(dataset, dataset[name], key, where) for key in GEOGRAPHIC}
    dims = [axis.dims for axis in pair.values() if axis is not None]
    if len(dims) == 2 and dims[0] == dims[1] and len(dims[0]) == 1:
        return tuple(_degrees(axis, key, where) for key, axis in pair.items())
    grid_positions = find(dataset, name, where)
    return grid_positions.latitude, grid_positions.longitude


def _geographic(dataset, field, key, where):
    """The coordinate of a field that is its latitude or longitude; None if there is none."""
    candidates = [
        name
        for name, coordinate in dataset.coords.items()
        if coordinate.ndim and set(coordinate.dims) <= set(field.dims)
    ]
    by_attributes = set(dataset.cf.coordinates.get(key, ()))
    # The first criterion that any coordinate fulfils decides; later ones choose among several.
    names = [name for name in candidates if name in by_attributes]
    names = names or [
        name
        for name in candidates
        if GEOGRAPHIC[key].fullmatch(str(name).lower())
        and str(dataset[name].attrs.get("units", "")).lower() not in METRES
    ]
    listed = (field.encoding | field.attrs).get("coordinates", "").split()
    for preferred in (listed, field.dims):
        names = [name for name in names if name in preferred] or names
    if len(names) > 1:
        raise InputError(
            f"{where}: has several coordinates that may be the {key} of {field.name} "
            f"({', '.join(map(str, names))}); name the right one in its attribute 'coordinates'"
        )
    return dataset[names[0]] if names else None


def _degrees(coordinate, key, where):
    """A position without its time axis, in degrees."""
    for dim in [dim for dim in coordinate.dims if coordinate.ndim > 2]:
        first = coordinate.isel({dim: 0})
        if bool(((coordinate == first) | (coordinate.isnull() & first.isnull())).all()):
            coordinate = first
    if coordinate.ndim > 2:
        raise InputError(
            f"{where}: {coordinate.name} has the dimensions {coordinate.dims} and changes along "
            "each of them, expected positions that do not move"
        )
    attrs = coordinate.attrs
    if str(attrs.get("units", "")).lower().startswith("rad"):
        coordinate = np.degrees(coordinate).assign_attrs(attrs | {"units": UNITS_OF[key]})
    # fmax ignores NaN. To read all values at once is faster than a lazy maximum.
    largest = float(np.fmax.reduce(np.abs(coordinate.values), axis=None))
    if not largest <= LIMIT_OF[key]:
        raise InputError(
            f"{where}: {coordinate.name} has values up to {largest:g}, which are no {key} in "
            "degrees; correct the coordinate or its missing values"
        )
    return coordinate


def _dim_along(dataset, dims, along):
    """The one dimension along "x" or "y", by attributes, else by names; None if it is not known."""
    names = dataset.cf.axes.get(along.upper(), ())
    names = [*names, *dataset.cf.coordinates.get({"x": "longitude", "y": "latitude"}[along], ())]
    by_attributes = {dataset[name].dims[0] for name in names if dataset[name].ndim == 1}
    by_name = {dim for dim in dims if ALONG[along].fullmatch(str(dim).lower())}
    for candidates in (by_attributes, by_name):
        matching = [dim for dim in dims if dim in candidates]
        if len(matching) == 1:
            return matching[0]
    return None


def _projected(dataset, field, where):
    """Positions computed from the axes of a projection and its CF grid mapping."""
    in_metres = [dim for dim in field.dims if dim in dataset.coords and _unit_m(dataset[dim])]
    dims = tuple(_dim_along(dataset, in_metres, along) for along in ("y", "x"))
    mapping = _grid_mapping(dataset, field)
    if None in dims or mapping is None:
        raise InputError(
            f"{where}: has no latitude and longitude of {field.name} (dimensions "
            f"{', '.join(map(str, field.dims))}), and no projection axes x, y in metres with a CF "
            "grid mapping to compute them from; add them to the file"
        )
    try:
        to_degrees = Transformer.from_crs(_crs(mapping.attrs), "EPSG:4326", always_xy=True)
    except ProjError as error:
        raise InputError(
            f"{where}: the grid mapping {mapping.name} cannot be understood ({error}); add "
            "latitude and longitude to the file"
        ) from None
    y, x = (dataset[dim].values * _unit_m(dataset[dim]) for dim in dims)
    for dim, axis in zip(dims, (y, x), strict=True):
        spacing = np.abs(np.diff(axis))
        if spacing.size and not SPACING_M[0] < np.median(spacing) < SPACING_M[1]:
            raise InputError(
                f"{where}: its cells are {np.median(spacing):g} m apart along {dim} by the units "
                f"{dataset[dim].attrs['units']!r}; correct the units of the axis, for example with "
                "ncatted, or add latitude and longitude to the file"
            )
    longitude, latitude = to_degrees.transform(*np.meshgrid(x, y))
    fields = {"latitude": latitude, "longitude": longitude}
    attrs = {key: {"standard_name": key, "units": units} for key, units in UNITS_OF.items()}
    return Positions(
        *(xr.DataArray(fields[key], dims=dims, attrs=attrs[key]) for key in fields), *dims
    )


def _grid_mapping(dataset, field):
    """The grid mapping of a field, or the only one of the file; None if there is none."""
    name = str((field.encoding | field.attrs).get("grid_mapping", "")).split(":")[0].split(" ")[0]
    if name in dataset.coords:
        return dataset[name]
    keys = {"grid_mapping_name", "crs_wkt", "spatial_ref", "proj4_string"}
    mappings = [name for name, variable in dataset.coords.items() if keys & variable.attrs.keys()]
    return dataset[mappings[0]] if len(mappings) == 1 else None


def _crs(attrs):
    try:
        return CRS.from_cf(attrs)
    except (ProjError, KeyError):
        for key in ("spatial_ref", "crs_wkt", "proj4_string", "proj4text", "proj4"):
            if key in attrs:
                return CRS(attrs[key])
        raise CRSError(f"its attributes are {', '.join(attrs) or 'none'}") from None


def _unit_m(axis):
    """The unit of an axis in metres, such as 1000 for "km"; None if it is no unit of length."""
    match = re.fullmatch(r"([\d.]+)?\s*([a-z]+)", str(axis.attrs.get("units", "")).strip().lower())
    return float(match[1] or 1) * METRES[match[2]] if match and match[2] in METRES else None


def plane_axes(dataset, positions):
    """The axes x and y in metres, as far as the file has them, and those that decrease.

    The distances between the positions decide whether an axis is in metres or kilometres; an axis
    that fits neither, such as one that numbers the cells, is left out.

    Parameters
    ----------
    dataset : xarray.Dataset
        As in the file.
    positions : Positions

    Returns
    -------
    axes : dict of str to tuple
        ``x``, ``y``, or nothing, for ``assign_coords``.
    descending : list of str
        "x", "y" where the coordinate of any unit decreases with the index of the cells.
    """
    axes, descending = {}, []
    for new, dim in (("y", positions.y_dim), ("x", positions.x_dim)):
        axis = dataset.coords.get(dim)
        if axis is None or axis.dtype.kind not in "iuf" or len(axis) < 2:
            continue
        steps, unit = np.diff(axis.values), _unit_m(axis)
        if (steps < 0).all():
            descending.append(new)
        if unit is None and axis.dtype.kind != "f":
            continue  # axes of whole numbers only number the cells
        middle = {d: n // 2 for d, n in positions.latitude.sizes.items() if d != dim}
        line = [p.isel(middle).values for p in (positions.latitude, positions.longitude)]
        ends = [values[at] for at in (slice(1, None), slice(-1)) for values in line]
        ratio = 1e3 * np.nanmedian(grid.great_circle_km(*ends)) / np.median(np.abs(steps))
        low, high = STRETCHING
        fitting = [u for u in (unit, 1.0, 1000.0) if u and low < ratio / u < high]
        if fitting:
            attrs = axis.attrs if fitting[0] == 1 else axis.attrs | {"units": "m"}
            values = axis.values if fitting[0] == 1 else axis.values * fitting[0]
            axes[new] = (new, values, attrs)
    return axes, descending


def ascending(dataset):
    """A regular grid with ascending latitude and longitude, the latter from -180 to 180.

    Parameters
    ----------
    dataset : xarray.Dataset
        With 1-D ``latitude`` and ``longitude``; any other grid is returned as it is.

    Returns
    -------
    xarray.Dataset
    """
    if dataset.latitude.ndim > 1:
        return dataset
    longitude = (dataset.longitude + 180) % 360 - 180
    dataset = dataset.assign_coords(longitude=longitude)
    axes = [axis for axis in UNITS_OF if not dataset.get_index(axis).is_monotonic_increasing]
    dataset = dataset.sortby(axes)
    # A grid that closes the circle has its first longitude twice.
    return dataset.isel(longitude=~dataset.get_index("longitude").duplicated())


def plane(dataset, where):
    """A regular grid as rows and columns with 2-D positions.

    Parameters
    ----------
    dataset : xarray.Dataset
        With 1-D ``latitude`` and ``longitude``; any other grid is returned as it is.
    where : str
        Dataset to name in messages.

    Returns
    -------
    xarray.Dataset
        Fields (time, y, x).

    Raises
    ------
    InputError
        If a row lies at a pole, where the grid has no direction.
    """
    if dataset.latitude.ndim > 1:
        return dataset
    if np.abs(dataset.latitude).max() > 89.999:
        raise InputError(
            f"{where}: has a row at the pole, where the grid axes have no direction; leave that "
            "row out, for example with `cdo sellonlatbox`"
        )
    axes = xr.broadcast(dataset.latitude, dataset.longitude)
    positions = {axis.name: (("y", "x"), axis.values, axis.attrs) for axis in axes}
    rows = dataset.drop_vars(["latitude", "longitude"]).rename(latitude="y", longitude="x")
    return rows.assign_coords(positions)


def check_same(dataset, reference, path, reference_path):
    """Refuse a file whose cells are not where those of the first file are.

    Parameters
    ----------
    dataset, reference : xarray.Dataset
        The file and the first file, with 1-D or 2-D ``latitude`` and ``longitude``.
    path, reference_path : Path or str
        Names of both in the message.

    Raises
    ------
    InputError
        If a cell is farther from its position in the first file than rounding explains.
    """
    cells, expected = (
        [axis.values for axis in xr.broadcast(source.latitude, source.longitude)]
        for source in (dataset, reference)
    )
    if all(map(np.array_equal, cells, expected)):
        return
    distance_km = grid.great_circle_km(*cells, *expected)
    along = [values if values.shape[1] > 1 else values.T for values in expected]
    ends = (values[:, at] for at in (slice(1, None), slice(-1)) for values in along)
    spacing_km = np.nanmedian(grid.great_circle_km(*ends))
    if not np.nanmax(distance_km, initial=0) <= ROUNDING * spacing_km:
        at = np.unravel_index(np.nanargmax(distance_km), distance_km.shape)
        texts = [f"{lat[at]:.3f} N {lon[at]:.3f} E" for lat, lon in (cells, expected)]
        raise InputError(
            f"{path}: is on another grid than {reference_path}: the cell in row {at[0]}, "
            f"column {at[1]} is at {texts[0]}, there at {texts[1]}; the files of one entry must "
            "share one grid"
        )
