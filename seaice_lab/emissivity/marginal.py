"""The cost with the properties of the ice integrated out.

The most probable concentrations, weights and properties, taken together, have too much ice and too
large weights: the more ice there is and the larger the weights are, the smaller are the properties
that explain the same temperatures, and the less they cost. So the solver minimises the cost of
concentrations and weights alone, in which the properties are integrated out. By Laplace's method
(MacKay 1992), this adds log det(P^-1 A), where A is the curvature of the properties and P that of
their background. Its derivative is the trace of A^-1 dA. As in expectation-maximisation, a step
takes the most probable properties as fixed in A: they follow concentrations and weights only in the
next step.
"""

import torch

from seaice_lab.emissivity.jacobian import by_emissivity, look_up, with_limit
from seaice_lab.emissivity.least_squares import network_of

# Every fourth observation estimates the curvature of the determinant by the weights.
CURVATURE_STRIDE = 4


def log_determinant(problem, normal, background):
    """Logarithm of the determinant, how many properties are determined, and their covariance.

    Parameters
    ----------
    problem : Problem
    normal : NormalEquations
        With the background of the properties.
    background : Tensor (cell, 1)
        Curvature of the background of the properties of each cell, those of other days held.

    Returns
    -------
    log_determinant : Tensor (cell,)
    determined : Tensor (cell,)
        Degrees of freedom for signal (Rodgers 2000, section 2.4) of the properties of the cell and
        its observations. Twice their number, divided by the ice fraction, is the derivative of the
        first result by that fraction.
    covariance : Tensor (cell, property, property)
        Of the properties of each cell.
    """
    blocks, size = normal.curvature[:, 1:, 1:], normal.curvature.shape[1] - 1
    total, determined = blocks.new_zeros(len(blocks)), blocks.new_zeros(len(blocks))
    # Where no ice is seen, the block is that of the background and the determinant is 1. NaN counts
    # as ice.
    sees_ice = ~(blocks.diagonal(dim1=1, dim2=2) <= background).all(1)
    block, precision = blocks[sees_ice], background[sees_ice]
    covariance = torch.diag_embed((1 / background).expand(-1, size))
    covariance[sees_ice] = inverse = torch.linalg.inv_ex(block)[0]  # a cost of NaN rejects a step
    determined[sees_ice] = (1 - precision * inverse.diagonal(dim1=1, dim2=2)).sum(1)
    total[sees_ice] = torch.logdet(block) - size * precision.log()[:, 0]
    if normal.observation_covariance is not None:
        cell = problem.index[:, 1].long() * problem.points + problem.index[:, 0]
        weight, at_fixed_cell = problem.property_weight, normal.observation_covariance
        by_cell = normal.back_substitution[..., 1 : 1 + size]
        variance = at_fixed_cell.diagonal(dim1=1, dim2=2)
        variance = variance + ((by_cell @ covariance[cell]) * by_cell).sum(2)
        determined.index_add_(0, cell, (1 - weight * variance).sum(1))
        total.index_add_(0, cell, -torch.logdet(weight * at_fixed_cell))
    return total, determined, covariance


def determinant_by_weights(problem, state, normal, of_cells, chunks):
    """Half the gradient and half the curvature of the log determinants by the network's weights.

    With the root L of the covariance of an observation's properties, a determinant changes like the
    sum of the squares of J L, J being the derivatives of the simulated observation by the
    properties. The gradient is exact for fixed properties. The curvature is that of the squares of
    J L x with random signs x, of which the mean is the sum (Hutchinson 1989); half the difference
    of the network at +L x and -L x stands for J L x.

    Parameters
    ----------
    problem : Problem
    state : State
    normal : NormalEquations
    of_cells : Tensor (cell, property, property)
        Covariance of the properties of each cell.
    chunks : list of slice
        Of the observations.

    Returns
    -------
    gradient, curvature : Tensor (weight,), (weight, weight)
        In double precision.
    """
    network = network_of(problem.model, state.weights).requires_grad_(True)
    parameters = list(network.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    gradient = torch.zeros(size, dtype=torch.float64)
    curvature = torch.zeros(size, size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)  # the same signs in each step
    for rows in chunks:
        cell, sensor, fraction, inputs = look_up(problem, state, rows)
        covariance = _covariance(normal, of_cells[cell], rows)
        with torch.enable_grad():
            ice, by_property, _ = network.linearised(*inputs, False)
            gain = by_emissivity(problem, rows, sensor, fraction, ice.detach())[..., None]
            by_property = with_limit(problem.model, by_property) * gain
            total = ((by_property @ covariance) * by_property).sum()
            by_weight = torch.autograd.grad(total, parameters, materialize_grads=True)
        gradient += torch.cat([part.flatten() for part in by_weight]) / 2

        root, failed = torch.linalg.cholesky_ex(covariance[::CURVATURE_STRIDE])
        # a covariance that is singular in single precision does not count
        root = torch.where(failed[:, None, None] == 0, root, 0.0)
        signs = 1 - 2 * torch.randint(2, root.shape[:2], generator=generator)
        change = (root @ signs[..., None].to(root.dtype))[..., 0]
        some = slice(rows.start, rows.stop, CURVATURE_STRIDE)
        *_, (cold, properties, *others) = look_up(problem, state, some)
        above, below = (
            network.linearised(cold, properties + end, *others)[2].detach()
            for end in (change, -change)
        )
        by_weight = with_limit(problem.model, (above - below) / 2) * gain[::CURVATURE_STRIDE]
        by_weight = by_weight.flatten(0, 1)
        curvature += CURVATURE_STRIDE * (by_weight.T @ by_weight)
    return gradient, curvature


def _covariance(normal, of_cell, rows):
    """Covariance of the properties of the cell and of each observation, those of the cell first."""
    if normal.observation_covariance is None:
        return of_cell
    # z = z_0 - B p of the observation's properties z and those of the cell p
    by_cell = normal.back_substitution[rows][..., 1 : 1 + of_cell.shape[1]]
    cross = -by_cell @ of_cell
    of_observation = normal.observation_covariance[rows] - cross @ by_cell.mT
    return torch.cat([torch.cat([of_cell, cross.mT], 2), torch.cat([cross, of_observation], 2)], 1)
