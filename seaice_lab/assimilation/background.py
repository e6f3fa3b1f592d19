"""The covariance B of background errors, as a square root and its adjoint.

The increment of the state is B^(1/2) v with a control v of unit covariance, so that B itself is
never formed. All functions work on vectors of ocean cells: an increment has ``variable * cell``
entries, cells in the order of ``field[ocean]`` (row by row).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from seaice_lab.errors import InputError

BLOCK = 256  # unit vectors at once in an exact variance, which limits its memory


class SquareRoot(NamedTuple):
    """A square root U of a covariance, B = U U'.

    Both functions act on the last axis and keep the axes before it.
    """

    size: int  # entries of the control v
    length: int  # entries of the increment
    apply: Callable  # v (..., size) to U v (..., length)
    adjoint: Callable  # x (..., length) to U' x (..., size)


def diagonal(std):
    """Errors without correlation: U = diag(std).

    Parameters
    ----------
    std : array_like (length,)
        Standard deviations of the background errors, in the units of the state.

    Returns
    -------
    SquareRoot
    """
    identity = SquareRoot(np.size(std), np.size(std), lambda v: v, lambda x: x)
    return scaled(identity, std)


def low_rank(columns):
    """Errors in the space of a few patterns: U = E.

    Parameters
    ----------
    columns : array_like (length, pattern)
        Patterns, each times the standard deviation of its coefficient (see :func:`scaled_eofs`).

    Returns
    -------
    SquareRoot
    """
    columns = np.asarray(columns, float)
    length, size = columns.shape
    return SquareRoot(size, length, lambda v: v @ columns.T, lambda x: x @ columns)


def eof_decomposition(fields, count):
    """Empirical orthogonal functions of fields: X - mean = L S V' (singular values).

    Parameters
    ----------
    fields : array_like (time, length)
        States, or their anomalies from a climatology.
    count : int
        Number of patterns to keep.

    Returns
    -------
    mean : ndarray (length,)
    singular_values : ndarray (min(time, length),)
    vectors : ndarray (length, count)
        First columns of V; the sign of each is arbitrary.

    Raises
    ------
    InputError
        If there are too few fields or cells for ``count`` patterns.
    """
    fields = np.asarray(fields, float)
    if not 0 < count < len(fields) or count > fields.shape[1]:
        raise InputError(
            f"eofs: found {len(fields)} fields of {fields.shape[1]} cells, which have at most "
            f"{min(len(fields) - 1, fields.shape[1])} patterns, expected from 1 to "
            f"that many, not {count}; give more fields or ask for another number of patterns"
        )
    mean = fields.mean(0)
    _, singular_values, rows = np.linalg.svd(fields - mean, full_matrices=False)
    return mean, singular_values, rows[:count].T


def scaled_eofs(fields, count):
    """Errors with the variance and the patterns of fields: U = V S / sqrt(N - 1).

    U U' is the sample covariance of the N fields, truncated to its first patterns. It has no
    variance outside of these patterns; add some with :func:`weighted_sum`.

    Parameters
    ----------
    fields, count
        As in :func:`eof_decomposition`.

    Returns
    -------
    SquareRoot
    """
    _, singular_values, vectors = eof_decomposition(fields, count)
    return low_rank(vectors * singular_values[:count] / np.sqrt(len(fields) - 1))


def scaled(root, std):
    """Square root S U of the covariance B = S U U' S, from that of a correlation U U'.

    Parameters
    ----------
    root : SquareRoot
        Square root U of a correlation matrix, such as that of
        :func:`~seaice_lab.assimilation.diffusion.covariance` for standard deviations of 1.
    std : array_like (length,)
        Standard deviations, the diagonal of S.

    Returns
    -------
    SquareRoot

    Raises
    ------
    InputError
        If a standard deviation is negative or missing, or all are 0.
    """
    std = np.asarray(std, float)
    if not (np.isfinite(std) & (std >= 0)).all() or not std.any():
        raise InputError(
            "background: a standard deviation is negative or missing, or all are 0, expected "
            "values of at least 0 in the units of the state"
        )
    return root._replace(
        apply=lambda v: std * root.apply(v), adjoint=lambda x: root.adjoint(std * x)
    )


def variance(root, probes=None, seed=0):
    """Diagonal of B = U U'.

    Parameters
    ----------
    root : SquareRoot
    probes : int, optional
        Number of random controls z of unit covariance; the estimate is the mean of (U z)^2. Without
        it the result is exact: row i of U is U' e_i, and its squared length the variance.
    seed : int

    Returns
    -------
    ndarray (length,)
        In squared units of the state.
    """
    if probes is not None:
        rng, total = np.random.default_rng(seed), np.zeros(root.length)
        for first in range(0, probes, BLOCK):
            count = min(BLOCK, probes - first)
            total += (root.apply(rng.standard_normal((count, root.size))) ** 2).sum(0)
        return total / probes
    result = np.empty(root.length)
    for first in range(0, root.length, BLOCK):
        cells = np.arange(first, min(first + BLOCK, root.length))
        unit = np.zeros((cells.size, root.length))
        unit[np.arange(cells.size), cells] = 1
        result[cells] = (root.adjoint(unit) ** 2).sum(-1)
    return result


def block_diagonal(roots):
    """Errors of several variables that do not depend on each other.

    Parameters
    ----------
    roots : sequence of SquareRoot
        One for each variable, in the order of the state.

    Returns
    -------
    SquareRoot
    """
    size, length = sum(root.size for root in roots), sum(root.length for root in roots)
    controls = np.cumsum([root.size for root in roots])[:-1]
    cells = np.cumsum([root.length for root in roots])[:-1]

    def joined(functions, vector, ends):
        pieces = zip(functions, np.split(vector, ends, axis=-1), strict=True)
        return np.concatenate([function(piece) for function, piece in pieces], axis=-1)

    return SquareRoot(
        size,
        length,
        lambda v: joined([root.apply for root in roots], v, controls),
        lambda x: joined([root.adjoint for root in roots], x, cells),
    )


def ensemble(perturbations, localisation):
    """Errors with the covariance of an ensemble, localised: B = P o C.

    U a = sum_k x_k o C^(1/2) a_k / sqrt(K - 1), one control field a_k for each of the K members
    (Lorenc 2003, doi 10.1256/qj.02.132; Buehner 2005). All variables share the field of a member,
    so their covariances stay.

    Parameters
    ----------
    perturbations : array_like (member, variable, cell)
        Members, whose mean is subtracted here.
    localisation : SquareRoot
        Of a correlation C of one variable, such as
        :func:`~seaice_lab.assimilation.diffusion.covariance`.

    Returns
    -------
    SquareRoot

    Raises
    ------
    InputError
        If there is one member only, or the localisation belongs to another grid.
    """
    members = np.asarray(perturbations, float)
    count, variables, cells = members.shape
    if count < 2 or cells != localisation.length:
        raise InputError(
            f"background: found {count} member(s) of {cells} cells, expected at least 2 with the "
            f"{localisation.length} cells of the localisation"
        )
    deviations = (members - members.mean(0)) / np.sqrt(count - 1)

    def apply(v):
        amplitudes = localisation.apply(v.reshape(*v.shape[:-1], count, -1))
        return np.einsum("kvc,...kc->...vc", deviations, amplitudes).reshape(*v.shape[:-1], -1)

    def adjoint(x):
        fields = x.reshape(*x.shape[:-1], variables, cells)
        amplitudes = np.einsum("kvc,...vc->...kc", deviations, fields)
        return localisation.adjoint(amplitudes).reshape(*x.shape[:-1], -1)

    return SquareRoot(count * localisation.size, variables * cells, apply, adjoint)


def weighted_sum(weights, roots):
    """Errors of independent origin: B = sum_i b_i B_i, such as a hybrid with an ensemble.

    The controls are joined, U v = sum_i sqrt(b_i) U_i v_i (Hamill and Snyder 2000).

    Parameters
    ----------
    weights : sequence of float
        b_i, not negative; a hybrid has weights with the sum 1.
    roots : sequence of SquareRoot
        Of covariances of the same state.

    Returns
    -------
    SquareRoot

    Raises
    ------
    InputError
        If a weight is negative, all are zero, or the states differ.
    """
    if min(weights) < 0 or sum(weights) == 0 or len({root.length for root in roots}) > 1:
        raise InputError(
            f"background: found weights {list(weights)} for covariances of "
            f"{', '.join(str(root.length) for root in roots)} entries, expected weights of at "
            "least 0, not all of them 0, and equal states"
        )
    joined, length, factors = block_diagonal(roots), roots[0].length, np.sqrt(weights)

    def apply(v):
        return factors @ joined.apply(v).reshape(*v.shape[:-1], -1, length)

    def adjoint(x):
        terms = factors[:, None] * x[..., None, :]
        return joined.adjoint(terms.reshape(*x.shape[:-1], -1))

    return SquareRoot(joined.size, length, apply, adjoint)


def std_of_differences(later, earlier, smoothing=None):
    """Standard deviation of background errors from forecast differences (Parrish and Derber 1992).

    sigma = std(f_48h - f_24h) / sqrt(2), of forecasts that are valid at the same time: the two
    errors are taken as independent and equal.

    Parameters
    ----------
    later, earlier : array_like (time, cell)
        Forecasts with the longer and the shorter lead time, in the units of the variable.
    smoothing : Diffusion, optional
        Applied once to the variance, which it keeps positive.

    Returns
    -------
    ndarray (cell,)

    Raises
    ------
    InputError
        If all differences are equal or fewer than two.
    """
    differences = np.asarray(later, float) - np.asarray(earlier, float)
    if len(differences) < 2 or not differences.std(0).any():
        raise InputError(
            "background: the differences of forecasts do not vary, expected at least two pairs of "
            "forecasts with different lead times that are valid at the same time"
        )
    squared = differences.var(0, ddof=1) / 2
    return np.sqrt(squared if smoothing is None else smoothing.step(squared))
