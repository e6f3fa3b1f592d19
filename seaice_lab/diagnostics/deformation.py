"""How fast does the ice deform? Deformation rates from the drift.

The rates are on the corners of the cells, so that they have one row and one column less than the
drift. A corner counts only if its four velocities count: zeros on land next to moving ice would be
a false deformation. Gridded drift gives instantaneous Eulerian rates; do not compare them with
Lagrangian rates of satellites over more than about three days.
"""

import numpy as np
import xarray as xr

from seaice_lab import names
from seaice_lab.diagnostics.frames import grid_sizes, reduce_frames
from seaice_lab.errors import InputError

DAY_S = 86400.0
SMALLEST_CONCENTRATION = 0.8  # below it, ice drifts freely
SMALLEST_THICKNESS_M = 0.3  # counts as ice where no concentration is known
GRADIENTS = {"du_dx": "of u along x", "du_dy": "of u along y",
             "dv_dx": "of v along x", "dv_dy": "of v along y"}  # fmt: skip
RATES = {"divergence": "Divergence of the ice drift", "shear": "Shear of the ice drift",
         "total": "Total deformation rate", "vorticity": "Vorticity of the ice drift"}  # fmt: skip
# Corners (row, column) of the polygon of each method, anticlockwise; a triangle has one twice.
METHODS = {"contour": ((0, 0), (0, 1), (1, 1), (1, 0)),
           "one_sided": ((0, 1), (1, 1), (1, 0), (1, 0)),
           "centred": ((1, 2), (2, 1), (1, 0), (0, 1))}  # fmt: skip


def ice_mask(ocean, *fields):
    """Cells that are ocean and covered by ice in all given fields.

    Use one mask for a forecast and its truth: pass the concentrations, or the thicknesses, of both.

    Parameters
    ----------
    ocean : DataArray of bool (y, x)
        True where sea.
    *fields : DataArray (..., y, x)
        Concentration (units 1: above 0.8) or thickness (units m: above 0.3 m).

    Returns
    -------
    DataArray of bool (..., y, x)

    Raises
    ------
    InputError
        If a field has other units.
    """
    limits = {"1": SMALLEST_CONCENTRATION, "m": SMALLEST_THICKNESS_M}
    mask = ocean.astype(bool)
    for field in fields:
        units = names.canonical_units(field.attrs.get("units", "none"))
        if units not in limits:
            raise InputError(
                f"{field.name}: has the units {units!r}, expected 1 (concentration) or m "
                "(thickness); set its attribute 'units'"
            )
        mask = mask & (field > limits[units])
    return mask


def velocity_gradients(siu, siv, mask, dx_m, method="contour", positions=None):
    """Gradients of the ice drift on the corners of the cells.

    Parameters
    ----------
    siu, siv : DataArray (..., y, x), m s-1
        Drift along the x and y axes of the grid, finite inside the mask.
    mask : DataArray of bool (..., y, x)
        Cells that count, for example from `ice_mask`.
    dx_m : float
        Distance between cells, m, equal along x and y. On a polar stereographic grid, the distance
        on the Earth is right to about 3 %.
    method : {"contour", "one_sided", "centred"}
        "contour" integrates along the square of four neighbouring cells (after Lindsay and Stern
        2003): the mean over n x n corners is the integral along the large square. "one_sided" takes
        the differences to the previous column and the previous row (a triangle), at the cell with
        the larger indices. "centred" takes differences over two cells (a square that is turned
        by 45 degrees), at the cell in the middle; waves of two cells vanish. Both are for
        comparison with other codes.
    positions : (DataArray, DataArray), optional
        x and y of the cells in a plane (y, x), m, on a curvilinear grid, instead of ``dx_m``.

    Returns
    -------
    Dataset
        ``du_dx``, ``du_dy``, ``dv_dx``, ``dv_dy`` in 1/day, NaN where a velocity that the method
        uses is masked. Sizes along y and x are smaller by one ("centred": by two).

    Raises
    ------
    InputError
        If the drift has other units than m s-1, a value inside the mask is missing, or the method
        is unknown.

    Notes
    -----
    With the corners 1 to 4 anticlockwise and A the area, the trapezoidal rule for the integral of
    u dy, divided by A, is
    du/dx = [(u1 - u3)(y2 - y4) + (u2 - u4)(y3 - y1)] / [(x1 - x3)(y2 - y4) + (x2 - x4)(y3 - y1)].
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r}, expected one of {', '.join(METHODS)}; choose one")
    for field in (siu, siv):
        units = field.attrs.get("units")
        if units is None or names.canonical_units(units) != "m s-1":
            raise InputError(
                f"{field.name}: the drift has the units {units!r}, expected m s-1; convert it and "
                "set its attribute 'units'"
            )
    cells = METHODS[method]
    outputs = dict.fromkeys(GRADIENTS, grid_sizes(siu, less=np.max(cells)))
    integrate = _contour(cells, DAY_S, dx_m, positions)
    gradients = reduce_frames(integrate, (siu, siv), mask, outputs)
    if method == "one_sided":
        gradients = gradients.assign_coords(siu.isel(y=slice(1, None), x=slice(1, None)).coords)
    for name, text in GRADIENTS.items():
        gradients[name].attrs = {"long_name": f"Gradient {text}", "units": "day-1"}
    return gradients.assign_attrs(method=method, dx_m=float(dx_m))


def gradient_magnitude(field, mask, dx_m):
    """Size of the gradient of a scalar on the corners of the cells, from contour integrals.

    Parameters
    ----------
    field : DataArray (..., y, x)
        Such as the thickness, finite inside the mask.
    mask : DataArray of bool (..., y, x)
    dx_m : float
        Distance between cells, m.

    Returns
    -------
    DataArray (..., y, x)
        In units of the field per km, NaN where one of the four cells is masked. Sizes along y and
        x are smaller by one.
    """
    outputs = dict.fromkeys(("along_x", "along_y"), grid_sizes(field, less=1))
    components = reduce_frames(_contour(METHODS["contour"], 1e3, dx_m), [field], mask, outputs)
    gradient = np.hypot(components.along_x, components.along_y).rename("gradient")
    attrs = {"long_name": f"Gradient of {field.attrs.get('long_name', 'the field')}"}
    return gradient.assign_attrs(attrs, units=f"{field.attrs.get('units', '1')} km-1")


def _around(values, cells):
    """Values at each corner (row, column) of the polygons at all positions of the grid."""
    last, (rows, columns) = np.max(cells), values.shape[-2:]
    return [values[..., y : rows - last + y, x : columns - last + x] for y, x in cells]


def _contour(cells, unit, dx_m, positions=None):
    """Function that integrates along polygons of four cells, for `reduce_frames`.

    It returns ``unit`` times the gradients along x and y of each component, NaN where a cell is
    masked.
    """
    y, x = np.transpose(cells) * dx_m / unit
    if positions is not None:
        x, y = (_around(field.transpose("y", "x").values / unit, cells) for field in positions)
    twice_area = (x[0] - x[2]) * (y[1] - y[3]) + (x[1] - x[3]) * (y[2] - y[0])
    along_x = (y[1] - y[3]) / twice_area, (y[2] - y[0]) / twice_area
    along_y = (x[3] - x[1]) / twice_area, (x[0] - x[2]) / twice_area

    def of_frames(values, valid):
        first, second, third, fourth = _around(values, cells)
        diagonals = list(zip(first - third, second - fourth, strict=True))
        gradients = [w[0] * a + w[1] * b for a, b in diagonals for w in (along_x, along_y)]
        used = np.logical_and.reduce(_around(valid, cells))
        return tuple(np.where(used, gradient, np.nan) for gradient in gradients)

    return of_frames


def deformation_rates(gradients):
    """Invariants of the velocity gradients.

    Parameters
    ----------
    gradients : Dataset
        From `velocity_gradients`.

    Returns
    -------
    Dataset
        In the unit of the gradients (1/day): ``divergence`` = u_x + v_y, ``shear`` =
        sqrt((u_x - v_y)^2 + (u_y + v_x)^2), ``total`` = sqrt(divergence^2 + shear^2) and
        ``vorticity`` = v_x - u_y.
    """
    rates = dict(zip(RATES, invariants(**gradients), strict=True))
    for name, long_name in RATES.items():
        rates[name].attrs = {"long_name": long_name, "units": gradients.du_dx.attrs.get("units")}
    return xr.Dataset(rates, attrs=gradients.attrs)


def invariants(du_dx, du_dy, dv_dx, dv_dy):
    """Divergence, shear, total rate and vorticity of gradients of any array type.

    Parameters
    ----------
    du_dx, du_dy, dv_dx, dv_dy : array
        Equal shapes.

    Returns
    -------
    tuple of array
    """
    divergence = du_dx + dv_dy
    shear_squared = (du_dx - dv_dy) ** 2 + (du_dy + dv_dx) ** 2
    total = np.sqrt(divergence**2 + shear_squared)
    return divergence, np.sqrt(shear_squared), total, dv_dx - du_dy


def noise_floor(velocity_error, dx_m):
    """Deformation rate that errors of the drift alone would produce, sqrt(2) error / dx.

    Parameters
    ----------
    velocity_error : float
        Standard error or rounding of one velocity, m s-1.
    dx_m : float
        Distance between cells, m.

    Returns
    -------
    float
        In 1/day.
    """
    return float(np.sqrt(2) * velocity_error * DAY_S / dx_m)
