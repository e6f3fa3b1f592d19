"""Sums over the processes that share a training, with their gradients."""

import torch
from torch import distributed


def processes():
    """Number of processes that share the training."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def sum_over_processes(total):
    """Sum of a tensor over all processes, differentiable.

    Parameters
    ----------
    total : torch.Tensor

    Returns
    -------
    torch.Tensor
        The same in all processes.
    """
    return total if processes() == 1 else _exchange(total)


@torch.compiler.disable  # no graph can hold an exchange between processes and its gradient
def _exchange(total):
    return _SumOverProcesses.apply(total)


class _SumOverProcesses(torch.autograd.Function):
    """Each process adds to the sum of all; so its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx, total):
        total = total.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient):
        return _SumOverProcesses.apply(gradient)
