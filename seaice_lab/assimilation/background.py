"""The covariance B of background errors, as a square root and its adjoint.

The increment of the state is U v with a control v of unit covariance, where B = U U', so that B
itself is never formed. A square root U is a scipy.sparse.linalg.LinearOperator: U @ v, and U.H @ x
with its adjoint, act on vectors and on columns. An increment has ``variable * cell`` entries, cells
in the order of ``field[ocean]`` (row by row).
"""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from seaice_lab.errors import InputError

BLOCK = 256  # vectors at once in a variance, which limits its memory


def diagonal(std):
    """Errors without correlation: U = diag(std).

    ``diagonal(std) @ root`` gives these standard deviations to the errors of a correlation.

    Parameters
    ----------
    std : array_like (length,)
        Standard deviations of the background errors, in the units of the state.

    Returns
    -------
    LinearOperator (length, length)

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
    return aslinearoperator(sparse.diags(std))


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
    LinearOperator (length, count)
    """
    _, singular_values, vectors = eof_decomposition(fields, count)
    return aslinearoperator(vectors * singular_values[:count] / np.sqrt(len(fields) - 1))


def variance(root, probes=None, seed=0):
    """Diagonal of B = U U'.

    Parameters
    ----------
    root : LinearOperator (length, size)
    probes : int, optional
        Number of random controls z of unit covariance; the estimate is the mean of (U z)^2. Without
        it the result is exact: row i of U is U' e_i, and its squared length the variance.
    seed : int

    Returns
    -------
    ndarray (length,)
        In squared units of the state.
    """
    length, size = root.shape
    if probes is None:
        units = (np.eye(length, BLOCK, -first) for first in range(0, length, BLOCK))
        return np.concatenate([((root.H @ unit) ** 2).sum(0) for unit in units])[:length]
    rng, total = np.random.default_rng(seed), 0.0
    for first in range(0, probes, BLOCK):
        controls = rng.standard_normal((min(BLOCK, probes - first), size))
        total = total + ((root @ controls.T) ** 2).sum(1)
    return total / probes


def block_diagonal(roots):
    """Errors of several variables that do not depend on each other.

    Parameters
    ----------
    roots : sequence of LinearOperator
        One for each variable, in the order of the state.

    Returns
    -------
    LinearOperator
    """
    ends = np.cumsum([root.shape[0] for root in roots])
    columns = []
    for root, end in zip(roots, ends, strict=True):
        rows_of_variable = sparse.eye(ends[-1], root.shape[0], root.shape[0] - end)
        columns.append(aslinearoperator(rows_of_variable) @ root)
    return _side_by_side(columns)


def _side_by_side(roots):
    """Sum of independent errors, whose controls are joined: U v = sum_i U_i v_i."""
    ends = np.cumsum([root.shape[1] for root in roots])

    def apply(v):
        pieces = np.split(v, ends[:-1])
        return sum(root @ piece for root, piece in zip(roots, pieces, strict=True))

    def adjoint(x):
        return np.concatenate([root.H @ x for root in roots])

    shape = roots[0].shape[0], ends[-1]
    return LinearOperator(shape, apply, adjoint, apply, float, adjoint)


def ensemble(perturbations, localisation):
    """Errors with the covariance of an ensemble, localised: B = P o C.

    U a = sum_k x_k o C^(1/2) a_k / sqrt(K - 1), one control field a_k for each of the K members
    (Lorenc 2003, doi 10.1256/qj.02.132; Buehner 2005). All variables share the field of a member,
    so their covariances stay.

    Parameters
    ----------
    perturbations : array_like (member, variable, cell)
        Members, whose mean is subtracted here.
    localisation : LinearOperator
        Square root of a correlation C of one variable, such as
        :func:`~seaice_lab.assimilation.diffusion.covariance`.

    Returns
    -------
    LinearOperator

    Raises
    ------
    InputError
        If there is one member only, or the localisation belongs to another grid.
    """
    members = np.asarray(perturbations, float)
    count, _, cells = members.shape
    if count < 2 or cells != localisation.shape[0]:
        raise InputError(
            f"background: found {count} member(s) of {cells} cells, expected at least 2 with the "
            f"{localisation.shape[0]} cells of the localisation"
        )
    deviations = np.moveaxis(members - members.mean(0), 0, -1) / np.sqrt(count - 1)

    def apply(controls):
        fields = localisation @ controls.reshape(-1, count)
        return (deviations * fields).sum(-1).ravel()

    def adjoint(increment):
        products = deviations * increment.reshape(*deviations.shape[:2], 1)
        return (localisation.H @ products.sum(0)).ravel()

    shape = deviations[..., 0].size, localisation.shape[1] * count
    return LinearOperator(shape, apply, adjoint, dtype=float)


def weighted_sum(weights, roots):
    """Errors of independent origin: B = sum_i b_i B_i, such as a hybrid with an ensemble.

    The controls are joined, U v = sum_i sqrt(b_i) U_i v_i (Hamill and Snyder 2000).

    Parameters
    ----------
    weights : sequence of float
        b_i, not negative; a hybrid has weights with the sum 1.
    roots : sequence of LinearOperator
        Of covariances of the same state.

    Returns
    -------
    LinearOperator

    Raises
    ------
    InputError
        If a weight is negative, all are zero, or the states differ.
    """
    lengths = [root.shape[0] for root in roots]
    if min(weights) < 0 or sum(weights) == 0 or len(set(lengths)) > 1:
        raise InputError(
            f"background: found weights {list(weights)} for covariances of "
            f"{', '.join(map(str, lengths))} entries, expected weights of at "
            "least 0, not all of them 0, and equal states"
        )
    return _side_by_side([np.sqrt(w) * root for w, root in zip(weights, roots, strict=True)])


def std_of_differences(later, earlier, smoothing=None):
    """Standard deviation of background errors from forecast differences (Parrish and Derber 1992).

    sigma = std(f_48h - f_24h) / sqrt(2), of forecasts that are valid at the same time: the two
    errors are taken as independent and equal.

    Parameters
    ----------
    later, earlier : array_like (time, cell)
        Forecasts with the longer and the shorter lead time, in the units of the variable.
    smoothing : LinearOperator, optional
        Such as :func:`~seaice_lab.assimilation.diffusion.implicit_step`, applied to the variance,
        which it keeps positive.

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
    return np.sqrt(squared if smoothing is None else smoothing @ squared)
