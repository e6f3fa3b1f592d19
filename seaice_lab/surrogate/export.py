"""The surrogate as one file of ``torch.export``, which needs torch and nothing of this package."""

import json
from pathlib import Path

import torch
from torch import nn

import seaice_lab
from seaice_lab import files, grid, names, runs
from seaice_lab.surrogate.fields import derived_field
from seaice_lab.surrogate.layers import zero_on_land
from seaice_lab.surrogate.model import bounds, load
from seaice_lab.surrogate.noise import read_calibration
from seaice_lab.surrogate.results import grid_of
from seaice_lab.surrogate.windows import DERIVED, STATIC

FORMAT = 1  # of the extra files
SEASON = "{} of 2 pi (time - 1 January 00 UTC of its year) / 365.2425 days"
DERIVED_MEANINGS = {
    "latitude": "Distance from the equator (absolute latitude)",
    "coast_distance_km": "Distance to the coast",
    "season_sine": SEASON.format("Sine"),
    "season_cosine": SEASON.format("Cosine"),
}
DERIVED_UNITS = {"latitude": "degree", "coast_distance_km": "km"}


class ForecastStep(nn.Module):
    """One step of a surrogate from any state: land is ignored, physical bounds are applied.

    Parameters
    ----------
    surrogate : Surrogate
    """

    def __init__(self, surrogate):
        super().__init__()
        self.network, self.surrogate = surrogate.network, surrogate

    def forward(self, state, forcing, noise=None):
        """The state one step later.

        Parameters
        ----------
        state : torch.Tensor (batch, channel, y, x)
            In physical units; values on land, NaN included, are ignored.
        forcing : torch.Tensor (batch, channel, y, x)
            As the state.
        noise : list of torch.Tensor (batch, channel, y, x), optional
            One for each level, of a network with noise.

        Returns
        -------
        torch.Tensor (batch, channel, y, x)
            All channels of the state; zero on land.
        """
        ocean = self.surrogate.ocean
        low, high = bounds([name for name, _ in self.surrogate.window.state], state)
        # the same treatment of a first state as in a forecast of this package
        state = zero_on_land(torch.clamp(zero_on_land(state, ocean), low, high), ocean)
        return self.surrogate.step(state, zero_on_land(forcing, ocean), noise)


def export(run, path):
    """Write the forecast step of a trained run for ``torch.export.load``.

    Parameters
    ----------
    run : str or Path
        Run folder.
    path : str or Path
        File to write, such as ``model.pt2``. Its extra file ``seaice_lab.json`` describes inputs
        and outputs, and ``grid.json`` has positions, the ocean mask and inputs that never change.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the run is not trained, or has neither its grid nor its store.
    """
    opened, surrogate = runs.open_run(run, "surrogate"), load(run, "cpu")
    run_grid = grid_of(opened)
    window, shape = surrogate.window, surrogate.ocean.shape
    batch = {0: torch.export.Dim("batch", min=1)}
    # A batch of 1 would be taken for the only size; 2 stands for any size.
    arguments = [torch.zeros(2, len(c), *shape) for c in (window.state, window.forcing)]
    dynamic = [batch, batch]
    if surrogate.noise is not None:
        sizes = [(surrogate.noise.channels, *level) for level in surrogate.noise.shapes]
        arguments.append([torch.zeros(2, *size) for size in sizes])
        dynamic.append([batch] * len(sizes))
    # torch.export saves whole storages, and warns of tensors in another order.
    step = ForecastStep(surrogate).to(memory_format=torch.contiguous_format).eval()
    program = torch.export.export(step, tuple(arguments), dynamic_shapes=tuple(dynamic))
    description = {
        "seaice_lab.json": json.dumps(describe(surrogate, opened, run_grid), indent=2),
        "grid.json": json.dumps(describe_grid(surrogate, run_grid)),
    }
    with files.replacing(path) as temporary:
        torch.export.save(program, temporary, extra_files=description)
    return Path(path)


def describe(surrogate, opened, run_grid):
    """Inputs, output and origin of an exported surrogate.

    Parameters
    ----------
    surrogate : Surrogate
    opened : seaice_lab.runs.Run
    run_grid : xarray.Dataset
        From :func:`~seaice_lab.surrogate.results.grid_of`.

    Returns
    -------
    dict
        JSON-like values.
    """
    window, noise = surrogate.window, surrogate.noise
    return {
        "format": FORMAT,
        "source": f"seaice_lab {seaice_lab.__version__}, run {opened.path.name}",
        "created": runs.now(),
        "licence_of_the_data": run_grid.attrs.get("license"),
        "step_h": window.step_h,
        "dimensions": ["batch", "channel", "y", "x"],
        "grid": {"ny": run_grid.sizes["y"], "nx": run_grid.sizes["x"]}
        | {"spacing_m": float(grid.spacing_m(run_grid))},
        "state": [_channel(*channel) for channel in window.state],
        "forcing": [_channel(*channel) for channel in window.forcing],
        "output": "the state one step later, with the channels of the state, zero on land",
        "noise": noise
        and {
            "shapes": [[noise.channels, *shape] for shape in noise.shapes],
            "memory": noise.memory,
            "gain": list(noise.gains),
            "intermittency": noise.intermittency,
            "member_bias": read_calibration(opened.path).get("member_bias", 0.0),
            "rule": "n(0) = xi(0), n(k) = memory n(k-1) + sqrt(1 - memory^2) xi(k), with xi normal "
            "numbers of mean 0 and variance 1; a field h(k) of the coarsest level follows the same "
            "rule; the input is gain a(k) n(k), with the gain of the level and a(k) = exp("
            "intermittency h(k) - intermittency^2), interpolated linearly to the level; or zeros "
            "for a forecast without noise; each member may keep a bias b for the whole forecast, a "
            "normal number with the standard deviation member_bias: an increment i of a variable "
            "with a lower bound then becomes i + b |i|; velocities have no bias",
        },
    }


def describe_grid(surrogate, run_grid):
    """Positions and mask of an exported surrogate, and its inputs that never change.

    Parameters
    ----------
    surrogate : Surrogate
    run_grid : xarray.Dataset
        From :func:`~seaice_lab.surrogate.results.grid_of`.

    Returns
    -------
    dict of str to list (y, x)
        "ocean" is 1 or 0.
    """
    fields = {"ocean": run_grid.ocean.values.astype(int)}
    fields |= {name: run_grid[name].values.round(5) for name in ("latitude", "longitude")}
    for name, _ in surrogate.window.forcing:
        if name in STATIC:
            fields[f"forcing_{name}"] = derived_field(name, run_grid)[0]
    return {name: values.tolist() for name, values in fields.items()}


def _channel(name, offset_h):
    """Description of a channel: its variable, its time from the start of the step, its unit."""
    if name in DERIVED:
        attributes = {"long_name": DERIVED_MEANINGS[name], "units": DERIVED_UNITS.get(name, "1")}
    else:
        attributes = names.attributes(name)
    return {"name": name, "offset_h": offset_h} | attributes
