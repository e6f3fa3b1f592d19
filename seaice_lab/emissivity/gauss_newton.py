"""The cost minimised by Gauss-Newton steps instead of the many small ones of the training.

The network has tens of weights, so that a part of the cells determines it. Therefore:

1. On some grid points in some months, joint steps of state and weights from several first
   networks. Each step eliminates the state cell by cell (variable projection, Golub and Pereyra
   1973) and is damped as by Levenberg (1944).
2. The two best networks on more grid points and months, without the closed ice and open water of
   the first guess that their concentrations contradict. The better one is kept. Bilinear
   networks whose costs are equal are one minimum, which is fitted once.
3. On all grid points, steps of the state with the weights held.
"""

import math

import torch
from torch.nn.utils import parameters_to_vector

from seaice_lab import progress
from seaice_lab.emissivity import least_squares
from seaice_lab.emissivity.error_estimates import initial_errors, update, with_errors
from seaice_lab.emissivity.first_networks import network_of_ice_types, random_network
from seaice_lab.emissivity.gauss_newton_step import step
from seaice_lab.emissivity.least_squares import State
from seaice_lab.emissivity.normal_equations import assemble, is_bilinear, sums_of_squares
from seaice_lab.emissivity.sampling import release_contradicted, subsample_months
from seaice_lab.emissivity.sensors import ICE, OCEAN
from seaice_lab.errors import InputError

FIRST_SAMPLE = 8_000  # observations on which the first networks are compared
FIRST_STEPS = 16
CANDIDATES = 2  # first networks that are fitted to the larger sample
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
        One for each step: ``stage`` ("start 1" and so on, "network 1" and "network 2", or "state")
        and ``cost``, the sum over observations divided by their number. With
        ``integrate_properties`` it includes the determinant of the integral, except in the starts
        of a bilinear problem.
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
    fits_network = config.network_steps and not model.config.freeze_network
    if fits_network:
        generator = torch.Generator().manual_seed(config.seed)
        sample, start = subsample_months(problem, state, FIRST_SAMPLE, generator)
        # In a bilinear problem with a displaced ice edge of the first guess, the integral led to
        # first networks with which ice looks like water.
        integrates = config.integrate_properties and not is_bilinear(model)
        first_sample = sample._replace(integrates_properties=integrates)
        candidates, history = first_weights(first_sample, start, config, show)
        sample, start = subsample_months(problem, state, config.sample, generator)
        weights, rows = best_weights(sample, start, candidates, config, show)
        state, history = state._replace(weights=weights), history + rows
    # A network that is fitted with the integral fixes the scale of its properties. Their estimated
    # spread would be too small for rare types of ice.
    scale_is_fixed = fits_network and config.integrate_properties
    errors = estimate_errors(problem, state, config, estimates_spread=not scale_is_fixed)
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
    """Fit several networks to a small sample.

    The network of version 2 starts with the emissivities of published types of ice, and with biases
    over ice that equal those over water. Steps from random weights and from the background of the
    biases often end in minima where less ice explains new ice, or where a wrong bias over ice
    hardly changes.

    Parameters
    ----------
    problem : Problem
    state : State
        Start of the state, and of the weights outside the network.
    config : SolveConfig
    show : bool

    Returns
    -------
    weights : list of Tensor (weight,)
        The lowest cost first. In a bilinear problem, without those whose cost is the same within
        the tolerance: they are the same minimum.
    history : list of dict
    """
    model, trials, history = problem.model, [], []
    has_types = model.config.network == "frequency"
    first_network = network_of_ice_types if has_types else random_network
    for start in range(config.starts):
        trial = state._replace(weights=state.weights.clone())
        network_weights, _, biases = least_squares.split_weights(model, trial.weights)
        network = first_network(model, config.seed + start)
        network_weights[:] = parameters_to_vector(network.parameters())
        if has_types:
            biases[ICE] = biases[OCEAN]
        title = f"fit first network {start + 1} of {config.starts}"
        fitted, costs = fit_network(problem, trial, FIRST_STEPS, config.tolerance, show, title)
        history += _rows(f"start {start + 1}", costs)
        trials.append((costs[-1], fitted.weights))
    trials.sort(key=lambda trial: (math.isnan(trial[0]), trial[0]))
    if is_bilinear(model):
        highest_same = (1 + config.tolerance) * trials[0][0]
        trials = trials[:1] + [trial for trial in trials[1:] if not trial[0] < highest_same]
    return [weights for _, weights in trials], history


def best_weights(problem, state, candidates, config, show):
    """Fit the best candidates to a larger sample and choose one.

    Parameters
    ----------
    problem : Problem
    state : State
    candidates : list of Tensor (weight,)
        The best one first.
    config : SolveConfig
    show : bool

    Returns
    -------
    weights : Tensor (weight,)
    history : list of dict

    Raises
    ------
    InputError
        If no candidate has a finite cost.
    """
    fitted, history, released = [], [], problem
    best = candidates[:CANDIDATES]
    for number, weights in enumerate(best, 1):
        trial = state._replace(weights=weights)
        trial, _ = fit_state(problem, trial, config.state_steps, config.tolerance)
        sample = release_contradicted(problem, trial)
        released = release_contradicted(released, trial)
        title = f"fit best network {number} of {len(best)}"
        trial, costs = fit_network(
            sample, trial, config.network_steps, config.tolerance, show, title
        )
        history += _rows(f"network {number}", costs)
        fitted.append(trial)
    # compared with the first guess released wherever any of the candidates contradicts it
    costs = [_with_background(released, at, assemble(released, at).cost.sum()) for at in fitted]
    finite = [(cost, number) for number, cost in enumerate(costs) if math.isfinite(cost)]
    if not finite:
        raise InputError(
            "the solver: no network has a finite cost; check that observations, skin temperature "
            "and first guess have plausible values"
        )
    return fitted[min(finite)[1]].weights, history


def fit_network(problem, state, steps, tolerance, show=False, title="fit the network"):
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
    title : str
        Of the progress bar.

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
    with progress.bar(steps, title, "step", show=show) as bar:
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
                bar.set_postfix_str(f"cost {costs[-1]:.4f}, converged", refresh=False)
                break
    return state, costs


def estimate_errors(problem, state, config, estimates_spread=True):
    """Estimate errors of the first guess, and spread and persistence of properties, from a sample.

    Parameters
    ----------
    problem : Problem
    state : State
        Its network weights stay fixed.
    config : SolveConfig
    estimates_spread : bool
        Whether the standard deviation of the properties is estimated; false: it stays
        ``property_error``.

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
        if not estimates_spread:
            errors = errors._replace(properties=config.property_error)
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
            best_cost = torch.fmin(normal.cost, best_cost)  # ignores NaN
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
