"""The cost of a batch together with its gradient, as one function of tensors."""

import torch

from seaice_lab.compute import compiles
from seaice_lab.emissivity.model import COST_TERMS, MAPS
from seaice_lab.torch_private import compile_graph


def pack_parameters(model, config):
    """All trained parameters but the maps as one vector, and the cost of a batch with its gradient.

    An optimiser updates one vector in a fraction of the time that several small tensors take.

    Parameters
    ----------
    model : EmpiricalState
        Its parameters become views of the vector.
    config : FitConfig
        With ``compile``, the function is compiled for ``batch_size`` observations; a last batch
        that is smaller runs without compilation.

    Returns
    -------
    vector : Tensor (weight,)
        Network, wind dependence and biases.
    evaluate : callable
        It takes what ``model(...)`` takes, and returns the costs (total and COST_TERMS, by name
        with the total as ``loss``) and the gradients by the vector and the first two arguments.
    """
    parameters = {
        name: value
        for name, value in model.named_parameters()
        if value.requires_grad and name not in MAPS
    }
    vector = torch.nn.utils.parameters_to_vector(parameters.values()).detach()
    torch.nn.utils.vector_to_parameters(vector, parameters.values())
    shapes = [value.shape for value in parameters.values()]
    sizes = [shape.numel() for shape in shapes]

    def cost(vector, *arguments):
        pieces = zip(parameters, vector.split(sizes), shapes, strict=True)
        weights = {name: piece.view(shape) for name, piece, shape in pieces}
        costs = torch.func.functional_call(model, weights, arguments)
        return sum(costs.values()), costs

    gradient_and_cost = torch.func.grad_and_value(cost, argnums=(0, 1, 2), has_aux=True)

    def flat(*arguments):
        # a compiled graph gives a flat tuple of tensors
        gradients, (total, costs) = gradient_and_cost(*arguments)
        return *gradients, total, *costs.values()

    compile_it, compiled = compiles(config.compile), None

    @torch.no_grad()
    def evaluate(*arguments):
        nonlocal compiled
        full_batch = len(arguments[0]) == config.batch_size
        if compile_it and full_batch and compiled is None:
            compiled = compile_graph(flat, (vector, *arguments))
        function = compiled if compiled is not None and full_batch else flat
        results = function(vector, *arguments)
        return dict(zip(("loss", *COST_TERMS), results[3:], strict=True)), results[:3]

    return vector, evaluate
