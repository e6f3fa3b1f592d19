"""Conservative transport of fields on a grid."""

import numpy as np


def advect(fields, swept, area, axis):
    """Move fields by one time step along one axis: conservative, positive, second order.

    A finite-volume scheme: what leaves a cell through a face enters its neighbour. The values at
    the faces are reconstructed with the monotonised central limiter (van Leer 1977), so that no
    new minima or maxima appear.

    Parameters
    ----------
    fields : ndarray (..., y, x)
        Amounts per area.
    swept : ndarray (..., y, x - 1) or (..., y - 1, x)
        Area that the flow sweeps through each face between two cells in the time step, positive
        towards growing index: velocity times length of the face times time step. Zero at coasts.
        At most the area of the cell that the flow leaves.
    area : float or ndarray (y, x)
        Area of the cells, in the unit of `swept`.
    axis : int
        -1 for x, -2 for y.

    Returns
    -------
    ndarray (..., y, x)
    """
    q, swept = np.swapaxes(fields, axis, -1), np.swapaxes(swept, axis, -1)
    area = np.broadcast_to(np.swapaxes(area, axis, -1) if np.ndim(area) else area, q.shape[-2:])
    # Slope in each cell: the central difference, at most twice the smaller one-sided difference,
    # and zero at extrema and at the ends of the axis.
    difference = np.diff(q, axis=-1)
    rising, falling = 2 * np.maximum(difference, 0), 2 * np.minimum(difference, 0)
    steepest_fall = np.maximum(falling[..., :-1], falling[..., 1:])
    steepest_rise = np.minimum(rising[..., :-1], rising[..., 1:])
    central = 0.5 * (difference[..., 1:] + difference[..., :-1])
    slope = np.zeros_like(q)
    slope[..., 1:-1] = central.clip(steepest_fall, steepest_rise)
    # Mean of the linear profile over the part of the upwind cell that passes the face.
    from_left = q[..., :-1] + 0.5 * (1 - swept / area[:, :-1]) * slope[..., :-1]
    from_right = q[..., 1:] - 0.5 * (1 + swept / area[:, 1:]) * slope[..., 1:]
    flux = swept * np.where(swept > 0, from_left, from_right)
    result = q.copy()
    result[..., :-1] -= flux / area[:, :-1]
    result[..., 1:] += flux / area[:, 1:]
    return np.swapaxes(result, axis, -1)
