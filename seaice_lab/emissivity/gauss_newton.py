"""The same cost as in training, minimised by Gauss-Newton steps instead of many small ones.

The network has tens of weights, so that a part of the cells determines it. Therefore:

1. on some grid points in some months, Levenberg steps of state and network from several random
   networks, in which the state is eliminated cell by cell (variable projection, Golub and Pereyra
   1973);
2. the best network on more of them;
3. on all grid points, Gauss-Newton steps of the state with the network held.
"""

import torch
from pydantic import Field

from seaice_lab import progress
from seaice_lab.config import Config
from seaice_lab.emissivity import penalty
from seaice_lab.emissivity.networks import build_network
from seaice_lab.emissivity.normal_equations import Problem, State
from seaice_lab.errors import InputError

FEW = 8_000  # observations on which the first networks are compared
FEW_STEPS = 16
IDLE = 4  # steps, one after another of those that are taken, which lower the cost too little
FOLLOWING = 2  # steps of the state after each of the network in a bilinear problem
LARGEST_MOVE = 0.4  # of a concentration in one step
PRIOR_CURVATURE = 1e-4  # keeps a cell in place which nothing determines
DAMPING_FLOOR = 1e-3  # share of the mean curvature that damps weights of small curvature
SWEEPS = 12
TYPICAL_LOGIT = 2.0  # emissivity 0.88, where a network with sigmoid outputs starts
# What is possible with other models.
INSTEAD = {
    "solver": "train with method adam instead",
    "infer": "train such a run first, or train on the new days themselves with method adam",
    "uncertainty": "train such a run to learn how sure the concentration is",
}
COLUMNS = ("index", "scalars", "channels")


class SolveConfig(Config):
    """How to solve.

    The best of ``starts`` random networks is fitted to ``sample`` observations in at most
    ``network_steps`` steps; the whole state then takes at most ``state_steps``. Both end early when
    the cost falls by less than ``tolerance`` of itself (the network after four such steps).
    ``property_error`` is the standard deviation of the properties' background 0, which also fixes
    their scale (the published cost has none). With a linear network, what one property of size 1
    does to the emissivities of all channels has a background too (root of the sum of squares near
    0.05), or ice could be made to look like water at no cost. ``hold_first_guess`` adds the
    published background term of the concentration, with an error of 0.15 (0.05 while a linear
    network is sought).
    """

    starts: int = Field(3, ge=1)
    sample: int = Field(40_000, ge=1000)
    network_steps: int = Field(40, ge=0)
    state_steps: int = Field(5, ge=1)
    tolerance: float = Field(3e-3, gt=0)
    property_error: float = Field(1.0, gt=0)
    hold_first_guess: bool = True
    seed: int = 0


def check_model(config, task="solver"):
    """Refuse what the solver, and what builds on it, does not know.

    Parameters
    ----------
    config : ModelConfig
    task : str
        Who asks, one of INSTEAD.

    Raises
    ------
    InputError
        If the network is another than linear and frequency, or more than two days are mixed.
    """
    if config.network == "sigmoid" or len(config.lag_weights) > 2:
        raise InputError(
            f"{task}: knows the networks linear and frequency and up to two lag_weights, found "
            f"{config.network} and {len(config.lag_weights)}; {INSTEAD[task]}"
        )


@torch.no_grad()
def solve(model, observations, config, show=True):
    """Set a model to the minimum of its cost.

    Parameters
    ----------
    model : EmpiricalState
        Its state is where the search starts; its network is replaced by the one that is found,
        unless ``network_steps`` is 0 or the network is frozen.
    observations : Observations
    config : SolveConfig
    show : bool
        Show progress.

    Returns
    -------
    list of dict
        Cost by step, as sums over observations divided by their number: ``stage`` "start 1"
        and so on, "network" or "state", ``cost``.

    Raises
    ------
    InputError
        If the network is one this solver does not know, or more than two days are mixed.
    """
    check_model(model.config)
    first_guess = torch.from_numpy(observations.sea_ice_first_guess).T.contiguous()
    model.epoch = float("inf")  # the last of the errors that change with the epochs
    whole = Problem(model, *(torch.from_numpy(getattr(observations, name)) for name in COLUMNS),
                    model.points, config.property_error,
                    first_guess=first_guess if config.hold_first_guess else None)  # fmt: skip
    sea_ice = model.cells("sea_ice").reshape(-1, model.points)
    state = State(sea_ice.clone(), model.cells("properties").clone(),
                  model.cells("observation_properties").clone(), whole.get_weights())  # fmt: skip
    history = []
    if config.network_steps and not model.config.freeze_network:
        generator = torch.Generator().manual_seed(config.seed)
        few, start = whole.some_months(state, FEW / model.size, generator)
        state = state._replace(weights=first_network(few, start, config, history, show))
        part, start = whole.some_months(state, config.sample / model.size, generator)
        start = fit_state(part, start, config.state_steps, config.tolerance, [], False)
        found = fit_network(part, start, config.network_steps, config.tolerance, history, show)
        state = state._replace(weights=found.weights)
    state = fit_state(whole, state, config.state_steps, config.tolerance, history, show)
    if model.anchor is not None:
        whole.floor = max(whole.floor, whole.stiff_floor)
        state = fit_state(whole, state, 2, config.tolerance, history, show)
    whole.set_weights(state.weights)
    model.cells("sea_ice").copy_(state.sea_ice.reshape(-1, 1))
    model.cells("properties").copy_(state.properties)
    model.cells("observation_properties").copy_(state.own)
    return history


def first_network(problem, start, config, history, show):
    """Weights of the best of several random networks, each fitted to a few cells."""
    model, best = problem.model, (float("inf"), start.weights)
    for number in range(config.starts):
        problem.set_weights(start.weights)
        torch.manual_seed(config.seed + number)
        fresh = build_network(
            model.config.network, model.network_properties, model.bias_k.shape[2],
            model.config.layers, model.config.width, model.config.zenith_input, model.config.nadir,
        )  # fmt: skip
        model.network.load_state_dict(fresh.state_dict())
        if model.config.network == "frequency":
            model.network.output.bias.fill_(TYPICAL_LOGIT)
        steps = []
        found = fit_network(problem, start._replace(weights=problem.get_weights()), FEW_STEPS,
                            config.tolerance, steps, show)  # fmt: skip
        history += [{"stage": f"start {number + 1}", "cost": step["cost"]} for step in steps]
        best = min(best, (steps[-1]["cost"], found.weights), key=lambda pair: pair[0])
    return best[1]


def fit_network(problem, state, steps, tolerance, history, show):
    """Joint steps of network and state, until the cost falls no more.

    In a bilinear problem the state follows for a few steps, which costs little there and finds
    lower and better minima. With the network of version 2 it found lower ones that were
    farther from the truth of simulated ice.
    """
    size = len(problem.index)

    def total(normal, weights):
        return float(normal.cost.sum() + problem.background_of_weights(weights)[2])

    normal = problem.normal(state, True)
    cost = total(normal, state.weights)
    damping, idle, rejected = 0.01, 0, 0
    with progress.bar(steps, "fit the network", "step", show=show) as bar:
        for _ in range(steps):
            trial = step(problem, state, normal, torch.full((problem.points,), damping))
            if problem.bilinear:
                trial = fit_state(problem, trial, FOLLOWING, tolerance, [], False)
            new = total(problem.normal(trial, False), trial.weights)
            bar.update()
            if new < cost:
                idle = idle + 1 if cost - new < tolerance * cost else 0
                state, normal, cost = trial, problem.normal(trial, True), new
                damping = damping / 4 if not rejected else damping
                rejected = 0
            else:
                damping *= 6
                rejected += 1
            history.append({"stage": "network", "cost": cost / size})
            bar.set_postfix_str(f"cost {cost / size:.4f}")
            if idle == IDLE or rejected == 8:
                break
    return state


def fit_state(problem, state, steps, tolerance, history, show):
    """Steps of the state alone, until the cost falls no more; every point keeps its best."""
    points, size = problem.points, len(problem.index)
    point = problem.index[:, 0].long()
    normal = problem.normal(state, False)
    best, cost, last = state, normal.cost, normal.cost
    damping = torch.full((points,), 1e-3)
    before = float(cost.sum()) / size
    with progress.bar(steps, "fit the state", "step", show=show) as bar:
        for _ in range(steps):
            state = step(problem, state, normal, damping)
            normal = problem.normal(state, False)
            better, cost = normal.cost < cost, torch.minimum(normal.cost, cost)
            of_cell = better.repeat(len(state.properties) // points)[:, None]
            best = State(
                torch.where(better, state.sea_ice, best.sea_ice),
                torch.where(of_cell, state.properties, best.properties),
                torch.where(better[point][:, None], state.own, best.own),
                state.weights,
            )
            damping = torch.where(normal.cost < last, damping / 2, damping * 6)
            last = normal.cost
            mean = float(cost.sum()) / size
            history.append({"stage": "state", "cost": mean})
            bar.update()
            bar.set_postfix_str(f"cost {mean:.4f}")
            # at most points neither better nor thrown beyond the best
            if max(before, float(normal.cost.sum()) / size) - mean < tolerance * mean:
                break
            before = mean
    return best


def step(problem, state, normal, damping):
    """The state after a step.

    ``damping`` (point,) is the share of each curvature that is added to it.
    """
    days, points = len(state.properties) // problem.points, problem.points
    damped = damping.repeat(days)[:, None] * normal.curvature.diagonal(dim1=1, dim2=2)
    whole = normal.curvature + torch.diag_embed(damped + PRIOR_CURVATURE)
    slope, weights = normal.slope, state.weights
    move = None
    if normal.cross is not None:
        curvature, lean, _ = problem.background_of_weights(weights)
        solved = torch.linalg.inv(whole) @ torch.cat([normal.cross, slope[..., None]], 2)
        flat = normal.cross.flatten(0, 1).double()
        of_weights = normal.of_weights + torch.diag(curvature.double())
        size = of_weights.diagonal()
        of_weights += torch.diag(damping[0] * (size + size.mean() * DAMPING_FLOOR))
        of_weights -= flat.T @ solved[..., :-1].flatten(0, 1).double()
        right = normal.slope_of_weights + lean - flat.T @ solved[..., -1].flatten().double()
        move = torch.linalg.solve(of_weights, right).to(weights.dtype)
        weights = weights + move
        slope = slope - normal.cross @ move
    # what is left for the concentration when the properties follow it
    side = whole[:, 1:, 0]
    follow = torch.linalg.inv(whole[:, 1:, 1:]) @ torch.stack([side, slope[:, 1:]], 2)
    curvature = (whole[:, 0, 0] - (side * follow[..., 0]).sum(1)).reshape(days, points)
    lean = (slope[:, 0] - (side * follow[..., 1]).sum(1)).reshape(days, points)
    sea_ice = solve_concentration(problem, state.sea_ice, curvature, lean)
    change = problem.mixture(sea_ice - state.sea_ice)
    of_properties = follow[..., 1] - change * follow[..., 0]
    if move is None:  # taken whether the cost falls or not, and therefore held short
        of_properties = of_properties.clip(-1, 1)
    own = state.own
    if own.shape[1]:
        of_cell = torch.cat([change, of_properties], 1)
        cell = problem.index[:, 1].long() * points + problem.index[:, 0].long()
        change = normal.own - (normal.own_by_cell @ of_cell[cell][..., None])[..., 0]
        if move is not None:
            change = change - normal.own_by_weight @ move
        own = own + change.clip(-1, 1)
    return State(sea_ice, state.properties + of_properties, own, weights)


def solve_concentration(problem, sea_ice, curvature, lean):
    """Concentrations that minimise the quadratic model of the data plus their own cost.

    Days are tied by the mixture at the observation; every second day is minimised exactly with
    the others held, in turns. ``curvature`` and ``lean`` (step, point) are those of the
    concentration at the observation.
    """
    model, hold = problem.model, problem.hold
    strengths = penalty.strengths(model.config, model.epoch)
    weights, lags = model.lag_weights.tolist(), model.lags
    days = len(curvature)
    curvature = curvature.clip(0)
    own, right = torch.full_like(sea_ice, PRIOR_CURVATURE), PRIOR_CURVATURE * sea_ice
    for lag, weight in enumerate(weights):
        there = slice(lags - lag, lags - lag + days)
        own[there] += weight**2 * curvature
        right[there] += weight * lean
    beside = weights[0] * weights[1] * curvature if lags else None

    def others(x):
        """What the days before and after contribute to the slope of a day."""
        total = torch.zeros_like(x)
        if lags:
            total[1:] += beside * x[:-1]
            total[:-1] += beside * x[1:]
        return total

    right = right + (own - PRIOR_CURVATURE) * sea_ice + others(sea_ice)
    if hold:
        own, right = own + hold, right + hold * problem.first_guess
    new = sea_ice.clone()
    for _ in range(SWEEPS if lags else 1):
        for first in range(1 + lags):
            slope = right - others(new)
            half = slice(first, None, 1 + lags)
            best = penalty.minimise(own[half], slope[half], strengths)
            new[half] = new[half] + (best - new[half]).clip(-LARGEST_MOVE, LARGEST_MOVE)
    return new
