"""The cost of some observations and its gradient, as one graph."""

import torch

from seaice_lab.compute import compiles
from seaice_lab.emissivity.model import COST_TERMS, MAPS
from seaice_lab.torch_private import compile_graph


def one_vector(state):
    """What is trained beside the maps as one parameter, whose memory its parts go on sharing.

    The optimiser takes one small tensor in a fraction of the time of several.
    """
    parts = [value for _, value in beside_the_maps(state)]
    vector = torch.nn.Parameter(torch.nn.utils.parameters_to_vector(parts).detach())
    torch.nn.utils.vector_to_parameters(vector.detach(), parts)
    return vector


def beside_the_maps(state):
    """Names and parameters of network, wind dependence and biases, as far as they are trained."""
    return [(name, value) for name, value in state.named_parameters()
            if value.requires_grad and name not in MAPS]  # fmt: skip


def differentiate(state, vector, compiled, batch):
    """The cost of a batch together with its gradient, in one graph that can be compiled.

    Parameters
    ----------
    state : EmpiricalState
    vector : torch.nn.Parameter
        From :func:`one_vector`.
    compiled : "auto", "always" or "never"
        As in FitConfig.
    batch : int
        The number of observations that the compiled graph is for.

    Returns
    -------
    callable
        Takes what ``state(...)`` takes; gives the total, the terms, and the gradients of the first
        two arguments. That of the vector is left with it.
    """
    names, shapes = zip(*((name, value.shape) for name, value in beside_the_maps(state)),
                        strict=True)  # fmt: skip
    sizes = [shape.numel() for shape in shapes]

    def cost(vector, days, properties, *rest):
        parts = (part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True))
        parameters = dict(zip(names, parts, strict=True))
        costs = torch.func.functional_call(state, parameters, (days, properties, *rest))
        return sum(costs.values()), costs

    both = torch.func.grad_and_value(cost, argnums=(0, 1, 2), has_aux=True)

    def flat(*seen):
        gradients, (total, parts) = both(*seen)
        return *gradients, total, *parts.values()

    compile_it, graphs = compiles(compiled), {}

    @torch.no_grad()
    def differentiated(*seen):
        seen = (vector.detach(), *seen)
        if compile_it and not graphs and len(seen[1]) == batch:
            graphs[batch] = compile_graph(flat, seen)
        vector.grad, days, properties, total, *parts = graphs.get(len(seen[1]), flat)(*seen)
        return total, dict(zip(COST_TERMS, parts, strict=True)), (days, properties)

    return differentiated
