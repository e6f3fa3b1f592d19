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
        the differences to the previous column and the previous row, at the cell with the larger
        indices. "centred" takes differences over two cells, at the cell in the middle: it does not
        see waves of two cells. Both are for comparison with other codes.
    positions : (DataArray, DataArray), optional
        x and y of the cells in a plane (y, x), m, for "contour" on a curvilinear grid, instead
        of ``dx_m``.

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
    if method not in STENCILS:
        raise InputError(f"method: {method!r}, expected one of {', '.join(STENCILS)}")
    for field in (siu, siv):
        units = field.attrs.get("units")
        if units is None or names.canonical_units(units) != "m s-1":
            raise InputError(
                f"{field.name}: the drift has the units {units!r}, expected m s-1; convert it and "
                "set its attribute 'units'"
            )
    weights = _contour_weights(dx_m, positions)

    def of_frames(values, valid):
        valid, gradients = STENCILS[method](values, valid, weights)
        return tuple(np.where(valid, gradient, np.nan) for gradient in gradients)

    sizes = grid_sizes(siu, less=2 if method == "centred" else 1)
    gradients = reduce_frames(of_frames, (siu, siv), mask, dict.fromkeys(GRADIENTS, sizes))
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
    weights = [1e3 / DAY_S * weight for weight in _contour_weights(dx_m, None)]

    def of_frames(values, valid):
        valid, gradient = _contour(values, valid, weights)
        return (np.where(valid, np.hypot(*gradient), np.nan),)

    outputs = {"gradient": grid_sizes(field, less=1)}
    gradient = reduce_frames(of_frames, [field], mask, outputs).gradient
    attrs = {"long_name": f"Gradient of {field.attrs.get('long_name', 'the field')}"}
    return gradient.assign_attrs(attrs, units=f"{field.attrs.get('units', '1')} km-1")


def _contour_weights(dx_m, positions):
    """Weights (4) of the two diagonal differences in d/dx and d/dy, in s m-1 per day."""
    if positions is None:
        x, y = np.array([0, 1, 1, 0]) * dx_m, np.array([0, 0, 1, 1]) * dx_m
    else:
        x, y = (_corners(field.transpose("y", "x").values) for field in positions)
    twice_area = (x[0] - x[2]) * (y[1] - y[3]) + (x[1] - x[3]) * (y[2] - y[0])
    along_x, along_y = (y[1] - y[3], y[2] - y[0]), (x[3] - x[1], x[0] - x[2])
    return [DAY_S * weight / twice_area for weight in (*along_x, *along_y)]


def _corners(values):
    """The four cells around each corner, anticlockwise from the one with the smallest indices."""
    low, high = slice(None, -1), slice(1, None)
    return [values[..., y, x] for y, x in ((low, low), (low, high), (high, high), (high, low))]


def _contour(values, valid, weights):
    first, second, third, fourth = _corners(values)
    diagonals = first - third, second - fourth
    gradients = [
        weights[at] * diagonals[0][component] + weights[at + 1] * diagonals[1][component]
        for component in range(len(values))
        for at in (0, 2)
    ]
    return np.logical_and.reduce(_corners(valid)), gradients


def _one_sided(values, valid, weights):
    _, south, here, west = _corners(values)
    east, north = 2 * weights[1] * (here - west), 2 * weights[1] * (here - south)
    return np.logical_and.reduce(_corners(valid)[1:]), (east[0], north[0], east[1], north[1])


def _centred(values, valid, weights):
    inner, before, after = slice(1, -1), slice(None, -2), slice(2, None)
    sides = ((inner, after), (inner, before), (after, inner), (before, inner))
    right, left, above, below = (values[..., y, x] for y, x in sides)
    east, north = weights[1] * (right - left), weights[1] * (above - below)
    valid = np.logical_and.reduce([valid[..., y, x] for y, x in sides])
    return valid, (east[0], north[0], east[1], north[1])


STENCILS = {"contour": _contour, "one_sided": _one_sided, "centred": _centred}


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
    fields = [gradients[name] for name in GRADIENTS]
    rates = dict(zip(RATES, invariants(*fields), strict=True))
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
