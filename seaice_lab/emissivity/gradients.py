"""The cost of a batch together with its gradient, as one function of tensors."""

import torch

from seaice_lab.compute import compiles
from seaice_lab.emissivity.model import COST_TERMS, MAPS
from seaice_lab.torch_private import compile_graph


def other_parameters(model):
    """Names and trained parameters of network, wind dependence and biases: all but the maps."""
    return {
        name: value
        for name, value in model.named_parameters()
        if value.requires_grad and name not in MAPS
    }


def pack_parameters(model):
    """All trained parameters but the maps as one vector.

    An optimiser updates one small tensor in a fraction of the time that several take.

    Parameters
    ----------
    model : EmpiricalState
        Its parameters become views of the vector.

    Returns
    -------
    Tensor (weight,)
    """
    parameters = other_parameters(model).values()
    vector = torch.nn.utils.parameters_to_vector(parameters).detach()
    torch.nn.utils.vector_to_parameters(vector, parameters)
    return vector


def cost_with_gradient(model, vector, compile_setting, batch_size):
    """Make the function that gives the cost of a batch with its gradient.

    Parameters
    ----------
    model : EmpiricalState
    vector : Tensor (weight,)
        From :func:`pack_parameters`.
    compile_setting : "auto", "always" or "never"
        As in FitConfig.
    batch_size : int
        Number of observations for which the function is compiled; a last batch that is smaller
        runs without compilation.

    Returns
    -------
    callable
        It takes what ``model(...)`` takes, and returns the costs (total and COST_TERMS, by name
        with the total as ``loss``) and the gradients by the vector and the first two arguments.
    """
    parameters = other_parameters(model)
    names, shapes = list(parameters), [value.shape for value in parameters.values()]
    sizes = [shape.numel() for shape in shapes]

    def cost(vector, days, properties, *columns):
        pieces = zip(names, vector.split(sizes), shapes, strict=True)
        weights = {name: piece.view(shape) for name, piece, shape in pieces}
        costs = torch.func.functional_call(model, weights, (days, properties, *columns))
        return sum(costs.values()), costs

    gradient_and_cost = torch.func.grad_and_value(cost, argnums=(0, 1, 2), has_aux=True)

    def flat(*arguments):
        # a compiled graph gives a flat tuple of tensors
        gradients, (total, costs) = gradient_and_cost(*arguments)
        return *gradients, total, *costs.values()

    compile_it, compiled = compiles(compile_setting), None

    @torch.no_grad()
    def evaluate(*arguments):
        nonlocal compiled
        full_batch = len(arguments[0]) == batch_size
        if compile_it and full_batch and compiled is None:
            compiled = compile_graph(flat, (vector, *arguments))
        function = compiled if compiled is not None and full_batch else flat
        by_vector, by_days, by_properties, *costs = function(vector, *arguments)
        named_costs = dict(zip(("loss", *COST_TERMS), costs, strict=True))
        return named_costs, (by_vector, by_days, by_properties)

    return evaluate
