"""The cost minimised by Gauss-Newton steps instead of the many small ones of the training.

The network has tens of weights, so that a part of the cells determines it. Therefore:

1. On some grid points in some months, joint steps of state and weights from several first
   networks. Each step eliminates the state cell by cell (variable projection, Golub and Pereyra
   1973) and is damped as by Levenberg (1944).
2. The best network on more grid points and months; in a bilinear problem without the closed ice
   and open water of the first guess that its concentrations contradict.
3. On all grid points, steps of the state with the weights held.
"""

import torch
from torch.nn.utils import parameters_to_vector

from seaice_lab import progress
from seaice_lab.emissivity import least_squares
from seaice_lab.emissivity.error_estimates import (
    LOWEST_ICE,
    initial_errors,
    update,
    with_errors,
)
from seaice_lab.emissivity.first_networks import network_of_ice_types, random_network
from seaice_lab.emissivity.gauss_newton_step import step
from seaice_lab.emissivity.least_squares import State
from seaice_lab.emissivity.normal_equations import (
    assemble,
    ice_fraction,
    is_bilinear,
    sums_of_squares,
)
from seaice_lab.emissivity.sampling import release_contradicted, subsample_months
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.errors import InputError

FIRST_SAMPLE = 8_000  # observations on which the first networks are compared
FIRST_STEPS = 16
PATIENCE = 4  # steps in a row that decrease the cost by too little, or are rejected
STATE_STEPS_PER_NETWORK_STEP = 2  # in a bilinear problem
LIMIT_STEPS = 2  # with the published limit of the emissivity, after those with a soft one
# Tolerance of the last steps of the state in units of that of the configuration. Properties that
# persist converge slowly, because a step holds those of other days.
LAST_TOLERANCE = 0.03
ERROR_ROUNDS = 4  # iterations of the error estimation, each with ERROR_STEPS steps of the state
ERROR_STEPS = 2
# Correlations of the properties from day to day; that with the lowest cost is used.
PROPERTY_MEMORIES = (0.0, 0.5, 0.7, 0.85)


def check_model(config):
    """Refuse a ModelConfig that the solver, inference and uncertainty do not support.

    Raises
    ------
    InputError
        If the network is neither linear nor frequency, or more than two days are mixed.
    """
    if config.network == "sigmoid" or len(config.lag_weights) > 2:
        raise InputError(
            "the solver (gauss_newton, infer, uncertainty) supports only the networks linear and "
            f"frequency with at most 2 lag_weights, found {config.network} and "
            f"{len(config.lag_weights)}; train with method adam, or train such a network instead"
        )


@torch.no_grad()
def solve(model, observations, config, show=True):
    """Set a model to the minimum of its cost, with the bounds and backgrounds of a SolveConfig.

    Parameters
    ----------
    model : EmpiricalState
        The steps start from its state. Its network is replaced by the one that is fitted, unless
        ``network_steps`` is 0 or the network is frozen.
    observations : Observations
    config : SolveConfig
    show : bool
        Show progress.

    Returns
    -------
    history : list of dict
        One for each step: ``stage`` ("start 1" and so on, "network" or "state") and ``cost``, the
        sum over observations divided by their number.
    errors : Errors or None
        From :func:`estimate_errors`.

    Raises
    ------
    InputError
        If the solver does not support the network, or more than two days are mixed.
    """
    check_model(model.config)
    problem = least_squares.build_problem(model, observations, config)
    state = least_squares.get_state(model)
    history = []
    if config.network_steps and not model.config.freeze_network:
        generator = torch.Generator().manual_seed(config.seed)
        sample, start = subsample_months(problem, state, FIRST_SAMPLE, generator)
        weights, history = first_weights(sample, start, config, show)
        state = state._replace(weights=weights)
        sample, start = subsample_months(problem, state, config.sample, generator)
        start, _ = fit_state(sample, start, config.state_steps, config.tolerance)
        # not with the network of version 2, which then fitted water less well
        if is_bilinear(model):
            sample = release_contradicted(sample, start)
        if model.config.network == "frequency":
            start = centre_properties(sample, start)
            start, _ = fit_state(sample, start, config.state_steps, config.tolerance)
        start, costs = fit_network(sample, start, config.network_steps, config.tolerance, show)
        history += _rows("network", costs)
        state = state._replace(weights=start.weights)
    errors = estimate_errors(problem, state, config)
    problem = with_errors(problem, errors)
    tolerance = LAST_TOLERANCE * config.tolerance
    state, costs = fit_state(problem, state, config.state_steps, tolerance, show)
    if model.anchor is not None:
        weight = least_squares.emissivity_limit_weight(model)
        problem = problem._replace(emissivity_limit_weight=weight)
        state, last_costs = fit_state(problem, state, LIMIT_STEPS, config.tolerance, show)
        costs += last_costs
    least_squares.set_state(model, state)
    return history + _rows("state", costs), errors


def first_weights(problem, state, config, show):
    """Fit several networks to a small sample and choose the best.

    With the network of version 2, every second start has the emissivities of published types of
    ice, and biases over ice that start as those over water. Steps from random weights and from the
    background of the biases often end in higher minima: a wrong bias over ice then hardly changes,
    because the properties of that sensor's observations explain it.

    Parameters
    ----------
    problem : Problem
    state : State
        Start of the state, and of the weights outside the network.
    config : SolveConfig
    show : bool

    Returns
    -------
    weights : Tensor (weight,)
    history : list of dict
    """
    model, history = problem.model, []
    best, lowest_cost = state.weights, float("inf")
    of_types = [False, True] if model.config.network == "frequency" else [False]
    for start, has_types in enumerate(of_types * config.starts):
        trial = state._replace(weights=state.weights.clone())
        network_weights, _, biases = least_squares.split_weights(model, trial.weights)
        seed = config.seed + start // len(of_types)
        network = (network_of_ice_types if has_types else random_network)(model, seed)
        network_weights[:] = parameters_to_vector(network.parameters())
        if has_types:
            biases[ICE] = biases[OCEAN]
        fitted, costs = fit_network(problem, trial, FIRST_STEPS, config.tolerance, show)
        history += _rows(f"start {start + 1}", costs)
        if costs[-1] < lowest_cost:
            best, lowest_cost = fitted.weights, costs[-1]
    return best, history


def centre_properties(problem, state):
    """Shift the properties of the ice to a mean of 0, with the same emissivities.

    The biases of the first layer of the network take the shift. The background of the properties is
    0: if their mean is not 0, cells of little ice, which the observations hardly determine,
    get another emissivity than closed ice. The steps of the network hardly find this shift.

    Parameters
    ----------
    problem : Problem
    state : State

    Returns
    -------
    State
        Properties where there is little ice become 0.
    """
    fraction = ice_fraction(problem, state.sea_ice)
    cell = problem.index[:, 1].long() * problem.points + problem.index[:, 0].long()
    observed = torch.zeros_like(fraction, dtype=torch.bool)
    observed[cell] = True
    has_ice = fraction > LOWEST_ICE
    counted, seen = (has_ice & observed)[:, 0], has_ice[cell, 0]
    if not seen.any():
        return state
    mean = state.properties[counted].mean(0), state.observation_properties[seen].mean(0)
    weights, shift = state.weights.clone(), torch.cat(mean)
    network = least_squares.network_of(problem.model, weights)
    # the inputs of the network are the index of cold, the properties, and others
    network.hidden.bias += network.hidden.weight[:, 1 : 1 + len(shift)] @ shift
    of_network, *_ = least_squares.split_weights(problem.model, weights)
    of_network[:] = parameters_to_vector(network.parameters())
    return state._replace(
        properties=torch.where(has_ice, state.properties - mean[0], 0.0),
        observation_properties=torch.where(
            seen[:, None], state.observation_properties - mean[1], 0.0
        ),
        weights=weights,
    )


def fit_network(problem, state, steps, tolerance, show=False):
    """Joint steps of weights and state, until the cost decreases no more.

    In a bilinear problem a few steps of the state follow each joint step. They cost little there
    and lead to lower minima. With the network of version 2 they led to lower ones that were farther
    from the truth of simulated ice.

    Parameters
    ----------
    problem : Problem
    state : State
    steps : int
        Most steps.
    tolerance : float
        Relative decrease of the cost that is too small.
    show : bool
        Show progress.

    Returns
    -------
    state : State
    costs : list of float
        After each step, divided by the number of observations.
    """
    size, costs = len(problem.index), []
    normal = assemble(problem, state, with_weights=True)
    cost = _with_background(problem, state, normal.cost.sum())
    damping, small_steps, rejected = 0.01, 0, 0
    with progress.bar(steps, "fit the network", "step", show=show) as bar:
        for _ in range(steps):
            trial = step(problem, state, normal, torch.full((problem.points,), damping))
            # damping does not reach the properties of an observation: rejected steps are shortened
            share = 0.5**rejected
            trial = State(*(torch.lerp(*pair, share) for pair in zip(state, trial, strict=True)))
            if is_bilinear(problem.model):
                trial, means = fit_state(problem, trial, STATE_STEPS_PER_NETWORK_STEP, tolerance)
                trial_cost = means[-1] * size
            else:
                trial_cost = assemble(problem, trial).cost.sum()
            trial_cost = _with_background(problem, trial, trial_cost)
            # Levenberg: a step that decreases the cost is accepted and the next one is damped less
            # a trial cost of NaN also counts as a small step
            small_steps = 0 if cost - trial_cost >= tolerance * cost else small_steps + 1
            if trial_cost < cost:
                damping = damping if rejected else damping / 4
                state, cost, rejected = trial, trial_cost, 0
                normal = assemble(problem, state, with_weights=True)
            else:
                damping *= 6
                rejected += 1
            costs.append(cost / size)
            bar.set_postfix_str(f"cost {costs[-1]:.4f}", refresh=False)
            bar.update()
            if small_steps == PATIENCE:
                break
    return state, costs


def estimate_errors(problem, state, config):
    """Estimate errors of the first guess, and spread and persistence of properties, from a sample.

    Parameters
    ----------
    problem : Problem
    state : State
        Its network weights stay fixed.
    config : SolveConfig

    Returns
    -------
    Errors or None
        None if ``estimate_errors`` is off or the concentration has no background.
    """
    if not (config.estimate_errors and config.hold_first_guess):
        return None
    generator = torch.Generator().manual_seed(config.seed)
    sample, state = subsample_months(problem, state, config.sample, generator, certain=False)
    errors = initial_errors(config.property_error)
    for _ in range(ERROR_ROUNDS):
        sample = with_errors(sample, errors)
        state, _ = fit_state(sample, state, ERROR_STEPS, config.tolerance)
        errors = update(sample, state, errors)
    trials = [errors._replace(property_memory=memory) for memory in PROPERTY_MEMORIES]
    costs = [
        fit_state(with_errors(sample, trial), state, config.state_steps, config.tolerance)[1][-1]
        for trial in trials
    ]
    return trials[costs.index(min(costs))]


def fit_state(problem, state, steps, tolerance, show=False):
    """Steps of the state with the weights held, until the cost decreases no more.

    Grid points are independent: each has its own damping and keeps its best state.

    Parameters
    ----------
    problem : Problem
    state : State
    steps : int
        Most steps.
    tolerance : float
        Relative decrease of the cost that is too small.
    show : bool
        Show progress.

    Returns
    -------
    state : State
    costs : list of float
        After each step, divided by the number of observations.
    """
    size, costs = len(problem.index), []
    squares = sums_of_squares(problem, state) if is_bilinear(problem.model) else None
    normal = assemble(problem, state, squares=squares)
    best, best_cost = state, normal.cost
    damping = torch.full((problem.points,), 1e-3)
    before = float(best_cost.sum()) / size
    with progress.bar(steps, "fit the state", "step", show=show) as bar:
        for _ in range(steps):
            last_cost, state = normal.cost, step(problem, state, normal, damping)
            normal = assemble(problem, state, squares=squares)
            best = _choose(problem, normal.cost < best_cost, state, best)
            best_cost = torch.minimum(normal.cost, best_cost)
            damping = torch.where(normal.cost < last_cost, damping / 2, damping * 6)
            costs.append(float(best_cost.sum()) / size)
            bar.set_postfix_str(f"cost {costs[-1]:.4f}", refresh=False)
            bar.update()
            # few points have improved, and few have moved away from their best
            if max(before, float(normal.cost.sum()) / size) - costs[-1] < tolerance * costs[-1]:
                break
            before = costs[-1]
    return best, costs


def _with_background(problem, state, cost):
    """The cost of all points plus that of the weights."""
    return float(cost + least_squares.weight_background(problem, state.weights)[2])


def _choose(problem, at, state, other):
    """One state at some points (point,), and another one elsewhere."""
    of_cell = at.repeat(len(state.properties) // problem.points)[:, None]
    of_observation = at[problem.index[:, 0].long()][:, None]
    return State(
        torch.where(at, state.sea_ice, other.sea_ice),
        torch.where(of_cell, state.properties, other.properties),
        torch.where(of_observation, state.observation_properties, other.observation_properties),
        state.weights,
    )


def _rows(stage, costs):
    return [{"stage": stage, "cost": cost} for cost in costs]
