"""The surrogate: its configuration, its network, and loading a trained one from a run folder."""

import json
import math
from typing import NamedTuple

import torch

from seaice_lab import names, runs
from seaice_lab.compute import Process, constant, select_channels
from seaice_lab.errors import InputError
from seaice_lab.surrogate.networks import build_network, check_options
from seaice_lab.surrogate.noise import Noise, noise_of, read_calibration, resized
from seaice_lab.surrogate.results import grid_of
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.windows import Window
from seaice_lab.surrogate.wrappers import PastChanges, Transport
from seaice_lab.weights import load_weights

ADVECTED = ("sit", "sic", "snt")  # variables that a drift of the ice transports


class Surrogate(NamedTuple):
    """A trained surrogate: network, window, normalisation and ocean mask on one device.

    ``normalisation`` has the mean and standard deviation ``{"mean", "std"}`` of each input by name
    and, in the list "increments", of each target. ``noise`` is the noise that the network takes,
    None for a deterministic one.
    """

    network: torch.nn.Module
    window: Window
    normalisation: dict
    ocean: torch.Tensor
    noise: Noise | None = None

    def increment(self, state, forcing, noise=None, bias=None):
        """Change of the predicted variables over one step, in their units.

        Parameters
        ----------
        state : torch.Tensor (batch, channel, y, x)
            The channels of ``window.state`` in physical units, finite on land.
        forcing : torch.Tensor (batch, channel, y, x)
            The channels of ``window.forcing`` in physical units.
        noise : list of torch.Tensor (batch, channel, y, x), optional
            Of one step, from :class:`~seaice_lab.surrogate.noise.Noise`; without it the increment
            is that of the network without noise.
        bias : torch.Tensor (batch, 1, 1, 1), optional
            A fraction b that turns an increment i into i + b abs(i): with b > 0 the variable grows
            more and shrinks less. Variables of both signs, such as velocities, have none.

        Returns
        -------
        torch.Tensor (batch, variable, y, x)
            Zero on land. Differentiable with respect to both inputs.
        """
        fields = torch.cat([state, forcing], dim=1)
        # Normalise as in training, with land at zero, the mean of a normalised field.
        mean, std = scales([self.normalisation[name] for name, _ in self.window.inputs], fields)
        inputs = ((fields - mean) / std * self.ocean).contiguous(memory_format=torch.channels_last)
        # The first targets are the increments of the variables over one step.
        count = len(self.window.variables)
        mean, std = scales(self.normalisation["increments"][:count], fields)
        inputs = (inputs,) if noise is None else (inputs, noise)
        increment = (self.network(*inputs)[:, :count] * std + mean) * self.ocean
        if bias is None:
            return increment
        lowest, _ = bounds(self.window.variables, fields)
        return increment + bias * increment.abs() * torch.isfinite(lowest)

    def step(self, state, forcing, noise=None, bias=None):
        """The state one step later, within the physical bounds.

        x(t + step) = min(max(x(t) + increment, minimum), maximum): the forecast step of Durand et
        al. (2024), which takes the smallest value of the initial image as the minimum.

        Parameters
        ----------
        state, forcing, noise, bias
            As in :meth:`increment`.

        Returns
        -------
        torch.Tensor (batch, channel, y, x)
            The channels of ``window.state``.
        """
        count = len(self.window.variables)
        low, high = bounds(self.window.variables, state)
        increment = self.increment(state, forcing, noise, bias)
        present = torch.clamp(state[:, :count] + increment, low, high)
        # Each past state becomes the one that was a step later.
        return torch.cat([present, select_channels(state, self.window.past_channels)], dim=1)


def scales(entries, like):
    """Means and standard deviations as tensors.

    Parameters
    ----------
    entries : sequence of {"mean", "std"}
        One for each channel.
    like : torch.Tensor
        Determines data type and device.

    Returns
    -------
    torch.Tensor (2, channel, 1, 1)
    """
    pairs = [[entry["mean"], entry["std"]] for entry in entries]
    return constant(pairs, like.dtype, like.device).T[..., None, None]


def bounds(variables, like):
    """Physical bounds of variables as tensors.

    Parameters
    ----------
    variables : sequence of str
    like : torch.Tensor
        Determines data type and device.

    Returns
    -------
    torch.Tensor (2, variable, 1, 1)
        Minimum and maximum, infinite for variables without a bound.
    """
    entries = [names.variable(name) for name in variables]
    low = [-torch.inf if entry.minimum is None else entry.minimum for entry in entries]
    high = [torch.inf if entry.maximum is None else entry.maximum for entry in entries]
    return constant([low, high], like.dtype, like.device)[..., None, None]


def weight_settings(config, normalisation):
    """What gives the weights of a network their meaning: its form, its fields and their scales.

    Parameters
    ----------
    config : TrainConfig
    normalisation : dict
        As in :class:`Surrogate`.

    Returns
    -------
    dict
        JSON-like values.
    """
    form = {"network", "width", "network_options", "transport", "published_network"}
    values = config.model_dump(mode="json", include=form)
    window = window_of(config).model_dump(mode="json")
    return values | {"window": window, "normalisation": normalisation}


def build(config, ocean, normalisation):
    """The untrained network of a configuration, with wrappers for past states and transport.

    Parameters
    ----------
    config : TrainConfig
    ocean : torch.Tensor of bool (y, x)
    normalisation : dict
        As in :class:`Surrogate`.

    Returns
    -------
    torch.nn.Module
        Maps normalised inputs (batch, channel, y, x) to normalised increments.
    """
    window = window_of(config)
    channels = len(window.inputs), len(window.targets) + 2 * config.transport
    check_options(config.network, config.network_options)
    options = {"width": config.width, "published": config.published_network}
    if config.loss == "crps":
        options["noise_channels"] = config.noise_channels
    network = build_network(config.network, ocean, *channels, **options, **config.network_options)
    # A normalised field times its gain has the units of the normalised increment.
    gains = [
        normalisation[name]["std"] / increment["std"]
        for (name, _), increment in zip(window.targets, normalisation["increments"], strict=True)
    ]
    if len(window.state) > len(window.variables) and not config.published_network:
        past = enumerate(window.past_channels, len(window.variables))
        gain_of = dict(zip(window.variables, gains, strict=False))
        past = [(channel, later, gain_of[window.state[channel][0]]) for channel, later in past]
        network = PastChanges(network, past)
    if config.transport:
        advected = []
        for target, (name, _) in enumerate(window.targets):
            if name in ADVECTED:
                # The transport needs the amount of ice, the normalised anomaly plus mean / std.
                scale = normalisation[name]
                channel = window.inputs.index((name, 0.0))
                advected.append((channel, target, scale["mean"] / scale["std"], gains[target]))
        network = Transport(network, advected)
    return network


def load(run, device=None, store=None):
    """Load a trained surrogate from its run folder.

    Parameters
    ----------
    run : str or Path
        Run folder.
    device : str or torch.device, optional
        A GPU by default, if there is one.
    store : str or Path, optional
        Prepared store with the ocean mask; by default the mask of the run.

    Returns
    -------
    Surrogate
        In inference mode.

    Raises
    ------
    InputError
        If the folder is not a complete run of a surrogate.
    """
    opened = runs.open_run(run, "surrogate")
    if "trained" in opened.config:
        raise InputError(
            f"{run}: holds forecasts of {opened.config['trained']}, no network; use that run"
        )
    weights = opened.path / "weights.safetensors"
    if not weights.exists():
        raise InputError(f"{run}: has no weights yet; train it with `seaice-lab train`")
    config = TrainConfig.parse(opened.config, opened.path / "config.yaml")
    ocean = torch.from_numpy((open_store(store) if store else grid_of(opened)).ocean.values)
    normalisation = _read_normalisation(opened.path / "normalisation.json", window_of(config))
    tensors = load_weights(weights, weight_settings(config, normalisation))
    network = build(config, ocean, normalisation)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise InputError(
            f"{weights}: does not hold the {config.network} of width {config.width} of config.yaml "
            f"({reason}); restore the weights of this run or train it again"
        ) from None
    device = torch.device(device or Process().device)
    network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    noise = noise_of(config, ocean)
    if noise is not None:
        sizes = read_calibration(opened.path)
        source, remedy = opened.path / "calibration.json", f"run `seaice-lab calibrate {run}` again"
        noise = resized(noise, sizes.get("noise_gain"), sizes.get("noise_memory"), source, remedy)
    return Surrogate(network, window_of(config), normalisation, ocean.to(device), noise)


def _read_normalisation(path, window):
    try:
        normalisation = json.loads(path.read_text(encoding="utf-8"))
        missing = {name for name, _ in window.inputs} - normalisation.keys()
        increments = normalisation.get("increments", [])
        entries = [entry for name, entry in normalisation.items() if name != "increments"]
        usable = all(
            math.isfinite(entry["mean"]) and 0 < entry["std"] < math.inf
            for entry in (*entries, *increments)
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        usable = False
    if not usable:
        raise InputError(
            f"{path}: is not the normalisation of a run, expected a finite mean and a positive std "
            "for every field; restore the file or train again"
        )
    if missing or len(increments) != len(window.targets):
        raise InputError(
            f"{path}: lacks {', '.join(sorted(missing)) or 'increments'}; the run belongs to "
            "another version or window, train it again"
        )
    return normalisation
