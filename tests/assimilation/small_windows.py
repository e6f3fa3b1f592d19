"""Small models and problems of assimilation windows."""

import numpy as np
import torch

from seaice_lab.assimilation.background import diagonal
from seaice_lab.assimilation.cost import (
    cell_positions,
    increment_of,
    observations,
    problem_of,
    weighted_cells,
    window_states,
)
from seaice_lab.assimilation.model import WindowModel, states
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import Surrogate, bounds, build
from seaice_lab.surrogate.settings import TrainConfig
from seaice_lab.surrogate.windows import WINDOWS, Window

OCEAN = torch.ones(8, 8, dtype=torch.bool)
OCEAN[:2, :3] = OCEAN[5, 4:] = False
CELLS = int(OCEAN.sum())
THICKNESS_AND_CONCENTRATION = Window(
    inputs=(("sit", 0.0), ("sic", 0.0), ("sit", -12.0), ("sic", -12.0), ("u10", 0.0)),
    targets=(("sit", 12.0), ("sic", 12.0)),
)


def linear_model(steps=4, batch=1):
    """Decay and a drift by one cell, without land in the way: a linear map plus its forcing."""

    def step(state, forcing):
        return zero_on_land(0.7 * state + 0.2 * torch.roll(state, 1, -1) + forcing, OCEAN)

    rng = torch.Generator().manual_seed(0)
    return WindowModel(step, torch.randn(steps, batch, 1, 8, 8, generator=rng).double(), OCEAN)


def surrogate_model(window, dtype=torch.float64, steps=3, batch=1, **options):
    """A network with random weights on a small grid; its states and the initial ones."""
    window = WINDOWS[window] if isinstance(window, str) else window
    scale = {name: {"mean": 0.5, "std": 0.3} for name, _ in window.inputs}
    normalisation = scale | {"increments": [{"mean": 0.0, "std": 0.02}] * len(window.targets)}
    torch.manual_seed(0)
    config = TrainConfig(
        store="none", window=window.model_dump(), network="UNet2", width=2, **options
    )
    network = build(config, OCEAN, normalisation).to(dtype).eval()
    for name, values in network.named_parameters():
        if "head" in name:
            torch.nn.init.normal_(values, std=0.1)
    network.requires_grad_(False)
    surrogate = Surrogate(network, window, normalisation, OCEAN)
    forcing = torch.randn(steps, batch, len(window.forcing), 8, 8).to(dtype)
    initial = zero_on_land(0.3 + 0.4 * torch.rand(batch, len(window.state), 8, 8).double(), OCEAN)
    return surrogate, WindowModel(surrogate.step, forcing, OCEAN), initial


def every_cell(model, background, steps, sigma=0.1, noise=0.1, seed=0):
    """Observations of all channels in all ocean cells: the forecast plus random numbers."""
    channels = background.shape[1]
    positions = torch.cat(
        [
            cell_positions(OCEAN, number, channel, channels)
            for number in range(len(steps))
            for channel in range(channels)
        ]
    )[:, None]
    operator = weighted_cells(positions, torch.ones(positions.shape).double())
    with torch.no_grad():
        values = operator(states(model, background, steps).double()).numpy()
    values = values + noise * np.random.default_rng(seed).standard_normal(values.shape)
    return observations(model, steps, operator, values, sigma)


def analysis(problem, control):
    """The initial states for a control."""
    with torch.no_grad():
        return window_states(problem, increment_of(problem, control), (0,))[:, 0].double()


def surrogate_problem(
    window="full_state", std=0.05, combine=None, observed=None, intervals=0, **options
):
    """A problem with all cells observed."""
    surrogate, model, background = surrogate_model(window, **options)
    fields = surrogate.window
    variables = tuple(fields.variables.index(name) for name, _ in fields.state)
    root = diagonal(np.full((1 + intervals) * len(fields.variables) * CELLS, std))
    observed = observed or every_cell(model, background, (1, 3))
    problem = problem_of(
        model, background, root, observed, variables=variables, intervals=intervals
    )
    if combine is not None:
        low, high = bounds([name for name, _ in fields.state], background)
        problem = problem._replace(combine=combine(low, high))
    return problem
