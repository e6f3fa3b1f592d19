"""Covariance of background errors by diffusion, which goes around land and never across it."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, splu

from seaice_lab.assimilation.background import diagonal, variance
from seaice_lab.errors import InputError


def diffusion_operator(ocean, sides, length_m):
    """Matrices of diffusion without flux through coasts, (1 - div l^2 grad) = W^-1 (W + K).

    W has the areas of the cells, and K the finite-volume fluxes l^2 (h - h') a / d through the
    face of length a between two ocean cells at distance d. Faces of land and the edge of the
    domain have no flux, so K has no entry between waters that land separates.

    Parameters
    ----------
    ocean : ndarray of bool (y, x)
        True where sea.
    sides : tuple of ndarray (y, x)
        Sizes of the cells along x and along y in metres, from
        :func:`~seaice_lab.grid.cell_sides`.
    length_m : float or ndarray (y, x)
        Length l in metres.

    Returns
    -------
    area : ndarray (cell,)
        Square metres.
    matrix : scipy.sparse.csc_matrix (cell, cell)
        W + K, symmetric and positive definite.

    Raises
    ------
    InputError
        If a length is not positive.
    """
    ocean = np.asarray(ocean, bool)
    along_x, along_y = (np.broadcast_to(side, ocean.shape) for side in sides)
    squared = np.broadcast_to(np.asarray(length_m, float) ** 2, ocean.shape)
    if not (squared[ocean] > 0).all():
        raise InputError(
            "background: a correlation length is not positive, expected metres above 0"
        )
    cells = np.full(ocean.shape, -1)
    cells[ocean] = np.arange(ocean.sum())
    area = (along_x * along_y)[ocean]
    rows, columns, values = [cells[ocean]], [cells[ocean]], [area]
    horizontal = (np.s_[:, :-1], np.s_[:, 1:], along_x, along_y)
    vertical = (np.s_[:-1], np.s_[1:], along_y, along_x)
    for here, there, distance, width in (horizontal, vertical):
        is_open = ocean[here] & ocean[there]
        a, b = cells[here][is_open], cells[there][is_open]
        ratio = (width[here] + width[there]) / (distance[here] + distance[there])
        flux = (ratio * (squared[here] + squared[there]) / 2)[is_open]
        rows += [a, b, a, b]
        columns += [a, b, b, a]
        values += [flux, flux, -flux, -flux]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return area, sparse.coo_matrix(entries, shape=(area.size, area.size)).tocsc()


def implicit_step(ocean, sides, length_m):
    """One step of implicit diffusion, A^-1 = (1 - div l^2 grad)^-1 = (W + K)^-1 W.

    It keeps the mean of a field over the area. The matrix is factorised once.

    Parameters
    ----------
    ocean, sides, length_m
        As in :func:`diffusion_operator`.

    Returns
    -------
    area : ndarray (cell,)
        Relative to its mean.
    step : LinearOperator (cell, cell)
    """
    area, matrix = diffusion_operator(ocean, sides, length_m)
    # Relative areas keep the numbers near 1. A symmetric positive definite matrix needs no pivots.
    solve = splu(
        matrix / area.mean(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    ).solve
    inverse = LinearOperator(matrix.shape, solve, solve, solve, float, solve)
    return area / area.mean(), inverse @ diagonal(area / area.mean())


def covariance(ocean, sides, length_m, std=1.0, order=8, probes=None, seed=0):
    """Errors of one variable that are correlated by diffusion around land, never across it.

    U = S G A^(-M/2) W^(-1/2), where A^-1 is a step of implicit diffusion, W has the areas of the
    cells, G makes the diagonal of the correlation U U' equal to 1 and S has the standard
    deviations (Weaver and Courtier 2001; Weaver and Mirouze 2013, doi 10.1002/qj.1955). In open
    water the correlation is a Matern function, nearly Gaussian for a high order.

    Parameters
    ----------
    ocean, sides
        As in :func:`diffusion_operator`.
    length_m : float or ndarray (y, x)
        Daley length D of the correlation in metres, D = l sqrt(2 M - 4).
    std : float or array_like (cell,)
        Standard deviations in the units of the variable.
    order : int
        Steps M of the diffusion, even and at least 4.
    probes : int, optional
        Number of random vectors to estimate the normalisation. Its relative error is about
        1 / sqrt(2 probes). By default the normalisation is exact: one solution for each cell.
    seed : int
        Of the random vectors.

    Returns
    -------
    LinearOperator

    Raises
    ------
    InputError
        If the order is not even or too low, or a length or standard deviation is not positive.
    """
    if order % 2 or order < 4:
        raise InputError(f"background: found order {order}, expected an even number of at least 4")
    area, step = implicit_step(ocean, sides, np.asarray(length_m, float) / np.sqrt(2 * order - 4))
    root = step ** (order // 2) @ diagonal(area**-0.5)
    # Near coasts diffusion has fewer cells to spread to, so the constant of open water is wrong.
    return diagonal(std / np.sqrt(variance(root, probes, seed))) @ root
