"""Emissivity networks from which the Gauss-Newton solver starts.

The cost has many minima in the weights of the network of version 2, and the steps end in the
nearest one. So its networks start with the emissivities of published types of ice. Linear networks
start at random.
"""

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

from seaice_lab.emissivity.ice_types import MELTING, TYPICAL, type_emissivity
from seaice_lab.emissivity.networks import build_network
from seaice_lab.emissivity.sensors import CONICAL_ZENITH_DEG

TYPICAL_LOGIT = 2.0  # emissivity 0.88, where a network with sigmoid outputs starts
TYPICAL_COLD = 0.5  # index of a skin temperature of 258 K
TYPE_ERROR = 0.01  # of the emissivities of the types
WEIGHT_ERROR = 3.0  # small weights, so that the emissivity changes smoothly with the properties
FIT_STEPS = 600


def random_network(model, seed):
    """Emissivity network with random weights, of the form of that of a model.

    Parameters
    ----------
    model : EmpiricalState
    seed : int

    Returns
    -------
    Module
    """
    config = model.config
    with torch.random.fork_rng(devices=[]):  # the random numbers of the caller stay as they are
        torch.manual_seed(seed)
        shape = model.network_properties, len(model.channels), config.layers, config.width
        network = build_network(config.network, *shape, config.zenith_input, config.nadir)
    if config.network == "frequency":
        torch.nn.init.constant_(network.output.bias, TYPICAL_LOGIT)
    return network


def network_of_ice_types(model, seed):
    """Emissivity network that is fitted to published types of ice.

    A random network of version 2 and the gridded properties of each type are fitted together. The
    properties of single observations stay 0, so that they keep their small random effect.

    Parameters
    ----------
    model : EmpiricalState
    seed : int
        Of the random network and the first properties.

    Returns
    -------
    Module
    """
    network = random_network(model, seed)
    frequency, vertical = model.frequency[:1], model.vertical[None]
    names = [*TYPICAL, MELTING]
    types = [type_emissivity([name], frequency[0].numpy(), vertical.numpy()) for name in names]
    emissivity = torch.tensor(np.concatenate(types)).float()
    shape = len(names), model.config.n_properties
    properties = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    properties.requires_grad_()
    of_observations = torch.zeros(len(names), model.config.n_observation_properties)
    same = frequency.expand(len(names), -1), vertical.expand(len(names), -1)
    cold = torch.full((len(names), 1), TYPICAL_COLD)
    zenith = torch.full_like(cold, CONICAL_ZENITH_DEG)
    unknowns = [properties, *network.parameters()]
    optimiser = torch.optim.LBFGS(unknowns, max_iter=FIT_STEPS, line_search_fn="strong_wolfe")

    def cost():
        optimiser.zero_grad()
        fitted = network(cold, torch.cat([properties, of_observations], 1), *same, zenith)
        departures = ((fitted - emissivity) / TYPE_ERROR).square().sum()
        weights = parameters_to_vector(network.parameters()) / WEIGHT_ERROR
        total = departures + properties.square().sum() + weights.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimiser.step(cost)
    return network.requires_grad_(False)
