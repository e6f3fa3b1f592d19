"""The surrogate as a job and as a thing: train one into a run folder, load one from it."""

import json
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file

from seaice_lab import names, runs
from seaice_lab.compute import Process
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.losses import GLOBAL_MEAN_WEIGHT
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.samples import Window, window
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.wrappers import PastChanges, Transport
from seaice_lab.training import FitConfig

CARRIED = ("sit", "sic", "snt")  # what moves with the ice


class TrainConfig(Config):
    """What to train; the defaults are the published surrogate (Durand et al. 2024).

    ``window`` is a named window or one written out. ``network_options`` are kernel_size,
    compensation, squeeze_excitation and dropout, as far as the network has them.
    ``published_network`` keeps the faults of the published one: land values reach coastal cells
    through pooling and batch statistics, CNN and PCNN are linear. ``loss`` "ocean" averages over
    the ocean, weighted by cell area, and holds the mean of each sample; "published" averages over
    whole batches with land as zero. ``global_mean_weight`` is lambda of the loss,
    ``spread_weight`` mu, ``tikhonov_weight`` nu. ``input_noise`` is the standard deviation of the
    noise added to the normalised inputs while training (never in validation). ``symmetry``
    "quarter_turns" trains on the map turned by a random multiple of 90 degrees
    (:mod:`seaice_lab.surrogate.augmentation`). ``rollout_steps`` above 1 trains on that many steps
    in a row, with the gradient through the chain. ``transport`` lets the network predict a drift
    that carries ice from cell to cell, beside the increments
    (:class:`~seaice_lab.surrogate.wrappers.Transport`). ``start_from`` is a trained run of the same
    network and window, whose weights and normalisation the training begins with.
    """

    store: str
    window: str | Window = "self_consistent"
    network: str = "UNet3"
    width: int = 16
    network_options: dict[str, bool | int | float] = {}
    transport: bool = False
    published_network: bool = False
    loss: Literal["ocean", "published"] = "ocean"
    global_mean_weight: float = GLOBAL_MEAN_WEIGHT
    spread_weight: float = 0.0
    tikhonov_weight: float = 0.0
    input_noise: float = 0.01
    symmetry: Literal["none", "quarter_turns"] = "none"
    rollout_steps: int = Field(1, ge=1)
    start_from: str | None = None
    fit: FitConfig = FitConfig()


class Surrogate(NamedTuple):
    """A trained surrogate: network, window, normalisation and ocean mask on one device."""

    network: torch.nn.Module
    window: Window
    normalisation: dict
    ocean: torch.Tensor

    def increment(self, state, forcing):
        """Change of the predicted variables over one step, in their units.

        Parameters
        ----------
        state : torch.Tensor (batch, channel, y, x)
            The channels of ``window.state`` in physical units, finite on land.
        forcing : torch.Tensor (batch, channel, y, x)
            The channels of ``window.forcing`` in physical units.

        Returns
        -------
        torch.Tensor (batch, variable, y, x)
            Zero on land. Differentiable with respect to both inputs.
        """
        fields = torch.cat([state, forcing], dim=1)
        mean, std = scales([self.normalisation[name] for name, _ in self.window.inputs], fields)
        inputs = ((fields - mean) / std * self.ocean).contiguous(memory_format=torch.channels_last)
        count = len(self.window.variables)
        mean, std = scales(self.normalisation["increments"][:count], fields)
        return (self.network(inputs)[:, :count] * std + mean) * self.ocean

    def step(self, state, forcing):
        """The channels of ``window.state`` one step later, inside physical bounds.

        x(t + step) = min(max(x(t) + increment, minimum), maximum): the forecast step of Durand et
        al. (2024), which has the smallest value of the initial image for a minimum.
        """
        count = len(self.window.variables)
        low, high = bounds(self.window.variables, state)
        present = torch.clamp(state[:, :count] + self.increment(state, forcing), low, high)
        return torch.cat([present, state[:, self.window.handed_on]], dim=1)


def compiled(surrogate):
    """The surrogate with its network compiled at its first call, for one batch size."""
    return surrogate._replace(network=torch.compile(surrogate.network, dynamic=False))


def scales(entries, like):
    """Means and standard deviations as (channel, 1, 1) tensors of the kind of ``like``."""
    pairs = [[entry["mean"], entry["std"]] for entry in entries]
    return torch.tensor(pairs, dtype=like.dtype, device=like.device).T[..., None, None]


def bounds(variables, like):
    """Physical bounds of variables as (channel, 1, 1) tensors, infinite where there is none."""
    known = [names.variable(name) for name in variables]
    low = [-torch.inf if one.minimum is None else one.minimum for one in known]
    high = [torch.inf if one.maximum is None else one.maximum for one in known]
    return (
        torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
        for values in (low, high)
    )


def named_window(config):
    """The window of a configuration, whether named or written out."""
    return window(config.window) if isinstance(config.window, str) else config.window


def build(config, chosen, ocean, normalisation):
    """The untrained network of a configuration."""
    network = build_network(
        config.network,
        ocean,
        in_channels=len(chosen.inputs),
        out_channels=len(chosen.targets) + 2 * config.transport,
        width=config.width,
        published=config.published_network,
        **config.network_options,
    )
    gains = [normalisation[name]["std"] / change["std"] for (name, _), change in zip(
        chosen.targets, normalisation["increments"], strict=True)]  # fmt: skip
    if len(chosen.state) > len(chosen.variables) and not config.published_network:
        past = []
        for channel, (name, offset) in enumerate(chosen.state):
            if offset < 0:
                later = chosen.state.index((name, offset + chosen.step_h))
                past.append((channel, later, gains[chosen.variables.index(name)]))
        network = PastChanges(network, past)
    if not config.transport:
        return network
    carried = []
    for target, (name, _) in enumerate(chosen.targets):
        if name in CARRIED:
            scale = normalisation[name]
            channel = chosen.inputs.index((name, 0.0))
            carried.append((channel, target, scale["mean"] / scale["std"], gains[target]))
    return Transport(network, carried)


def load(run, device=None):
    """Load a trained surrogate from its run folder.

    Parameters
    ----------
    run : str or Path
    device : str or torch.device, optional
        Defaults to a GPU when there is one.

    Returns
    -------
    Surrogate
        In inference mode.

    Raises
    ------
    InputError
        If the folder is no complete surrogate run.
    """
    opened = runs.open_run(run)
    if opened.provenance["kind"] != "surrogate":
        raise InputError(f"{run}: is a run of {opened.provenance['kind']}, expected surrogate")
    weights = opened.path / "weights.safetensors"
    if not weights.exists():
        raise InputError(f"{run}: has no weights yet; train it with `seaice-lab train`")
    config = TrainConfig.parse(opened.config, opened.path / "config.yaml")
    device = torch.device(device or Process().device)
    ocean = torch.from_numpy(open_store(config.store).ocean.values)
    chosen = named_window(config)
    scale = json.loads((opened.path / "normalisation.json").read_text(encoding="utf-8"))
    missing = {name for name, _ in chosen.inputs} - scale.keys()
    if missing or len(scale.get("increments", ())) != len(chosen.targets):
        raise InputError(
            f"{opened.path}/normalisation.json: lacks "
            f"{', '.join(sorted(missing)) or 'increments'}, as in a run of another version or "
            "window; train it again"
        )
    network = build(config, chosen, ocean, scale)
    try:
        network.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise InputError(
            f"{weights}: does not hold the {config.network} of width {config.width} of config.yaml "
            f"({reason}); put the weights of this run back or train it again"
        ) from None
    network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    return Surrogate(network, chosen, scale, ocean.to(device))
