"""Backgrounds with errors that persist from day to day: matrices over the days of a grid point."""

import torch


def autoregressive_precision(error, memory):
    """Inverse covariance of errors that follow a first-order autoregressive process over the days.

    Parameters
    ----------
    error : Tensor (day, point)
        Standard deviations.
    memory : float
        Correlation of the errors of successive days, below 1.

    Returns
    -------
    diagonal, off_diagonal : Tensor (day, point), (day - 1, point)
        The matrix is tridiagonal over the days.
    """
    scale = 1 / (1 - memory**2)
    inner = error.new_full((len(error), 1), scale * (1 + memory**2))
    inner[0] = inner[-1] = scale if len(error) > 1 else 1.0
    return inner / error**2, -memory * scale / (error[1:] * error[:-1])


def beside(off_diagonal, x):
    """Multiply vectors by symmetric tridiagonal matrices whose diagonal is 0.

    Parameters
    ----------
    off_diagonal : Tensor (row - 1, matrix)
    x : Tensor (row, matrix)

    Returns
    -------
    Tensor (row, matrix)
    """
    product = torch.zeros_like(x)
    product[1:] += off_diagonal * x[:-1]
    product[:-1] += off_diagonal * x[1:]
    return product
