"""The surrogate as a job and as a thing: train one into a run folder, load one from it."""

import json
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file

from seaice_lab import grid, names, runs
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.dynamics import Changes, Transport
from seaice_lab.surrogate.losses import GLOBAL_MEAN_WEIGHT, ocean_loss, published_loss
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.samples import DERIVED, Samples, Window, batches, window
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.symmetry import Turn, turned_kernels
from seaice_lab.training import FitConfig, Process, fit

TAKEN_UP = ("checkpoint.pt", "finished")  # either is in a run that has trained already
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
    (:mod:`seaice_lab.surrogate.symmetry`). ``rollout_steps`` above 1 trains on that many steps in a
    row, with the gradient through the chain. ``transport`` lets the network predict a drift that
    carries ice from cell to cell, beside the increments
    (:class:`~seaice_lab.surrogate.dynamics.Transport`). ``start_from`` is a trained run of the same
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


def chain(predict, x, y, window, normalisation, ocean):
    """Predictions of successive steps, each started from the state that the last one reached.

    Parameters
    ----------
    predict : callable
        Normalised inputs to normalised increments.
    x, y : torch.Tensor (batch, step, channel, y, x)
        Windows of true fields, normalised, and their increments; zero on land.
    ocean : torch.Tensor of bool (y, x)

    Yields
    ------
    prediction, target : torch.Tensor (batch, target, y, x)
        Normalised increments, both counted from the true state at the start of the step, so that
        their difference is the error of the state in units of the spread of the increment.
    """
    count = len(window.variables)
    mean, std = scales([normalisation[name] for name, _ in window.state], x)
    change_mean, change_std = scales(normalisation["increments"], x)
    low, high = ((bound - mean[:count]) / std[:count] for bound in bounds(window.variables, x))
    of = [window.variables.index(name) for name, _ in window.targets]
    drift = torch.zeros_like(x[:, 0, : len(window.state)])
    for step in range(x.shape[1]):
        state = x[:, step, : len(window.state)] + drift
        change = predict(torch.cat([state, x[:, step, len(window.state) :]], dim=1))
        yield change + (drift[:, :count] * std[:count])[:, of] / change_std, y[:, step]
        if step + 1 < x.shape[1]:
            change = (change * change_std + change_mean)[:, :count] / std[:count]
            present = torch.clamp(state[:, :count] + change, low, high)
            past = drift[:, window.handed_on]
            drift = torch.cat([present - x[:, step + 1, :count], past], dim=1) * ocean


def named_window(config):
    """The window of a configuration, whether named or written out."""
    return window(config.window) if isinstance(config.window, str) else config.window


def train(config, run, show=True):
    """Train a surrogate into a run folder, or take up a killed training.

    Parameters
    ----------
    config : TrainConfig
    run : str or Path
        The folder ``runs/<run>`` to make.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The run folder: configuration, provenance, weights, normalisation, history.

    Raises
    ------
    InputError
        If the store does not fit the window or the network, the run to start from is of another
        network or window, the folder holds another run, or training breaks down.
    """
    process = Process()
    store = open_store(config.store)
    chosen = named_window(config)
    torch.manual_seed(config.fit.seed)
    begun = scale = None
    kept = Path(run) / "normalisation.json"
    going_on = any((Path(run) / name).exists() for name in TAKEN_UP)
    if config.start_from and going_on and kept.exists():
        scale = json.loads(kept.read_text(encoding="utf-8"))
    elif config.start_from:
        begun = trained_before(config, chosen)
        scale = begun.normalisation
    samples = Samples(config.store, chosen, "train", scale, config.rollout_steps)
    validation = Samples(
        config.store, chosen, "validation", samples.normalisation, config.rollout_steps
    )
    if config.symmetry != "none" and any(name in DERIVED for name, _ in chosen.inputs):
        raise InputError(
            f"symmetry {config.symmetry}: the window holds fields tied to a place or season "
            f"({', '.join(name for name, _ in chosen.inputs if name in DERIVED)}), which do not "
            "turn with the map; leave them out, or train with symmetry none"
        )
    ocean = torch.from_numpy(store.ocean.values)
    network = build(config, chosen, ocean, samples.normalisation)
    if begun:
        network.load_state_dict(begun.network.state_dict())
    if process.leads:
        run = runs.create(
            run, config, "surrogate", seed=config.fit.seed, data=store.attrs["fingerprint"]
        )
        runs.write_json(run / "normalisation.json", samples.normalisation)
    if (run / "finished").exists():
        return run
    ocean = ocean.to(process.device)
    area = grid.cell_area(store.latitude.values, store.longitude.values).astype("float32")
    if config.loss == "published":
        loss = partial(published_loss, ocean=ocean)
    else:
        loss = partial(ocean_loss, ocean=ocean, area=torch.from_numpy(area).to(process.device))
    share = {"rank": process.rank, "world": process.world, "workers": config.fit.workers}
    size = config.fit.batch_size

    terms = {
        "global_mean_weight": config.global_mean_weight,
        "spread_weight": config.spread_weight,
        "tikhonov_weight": config.tikhonov_weight,
    }
    scale = samples.normalisation
    turn_inputs = Turn(chosen.inputs, [scale[name] for name, _ in chosen.inputs])
    turn_targets = Turn(chosen.targets, scale["increments"])

    def batch_loss(model, batch):
        x, y = (part if part.ndim == 5 else part[:, None] for part in batch)
        weights = {}
        if model.training and config.symmetry == "quarter_turns":
            turns = int(torch.randint(4, ()))
            x, y = turn_inputs(x, turns) * ocean, turn_targets(y, turns) * ocean
            weights = turned_kernels(model, turns)

        def predict(inputs):
            if model.training:
                inputs = inputs + config.input_noise * torch.randn_like(inputs)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            return torch.func.functional_call(model, weights, inputs).float()

        pairs = chain(predict, x, y, chosen, scale, ocean)
        totals, parts = zip(*(loss(*pair, **terms) for pair in pairs), strict=True)
        means = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
        return sum(totals) / len(totals), means

    fit(
        network,
        lambda epoch: batches(samples, size, config.fit.seed, epoch, shuffle=True, **share),
        lambda: batches(validation, size, **share),
        batch_loss,
        config.fit,
        run,
        process,
        steps=len(samples) // (size * process.world),
        show=show,
    )
    return run


def trained_before(config, chosen):
    """The surrogate that a training starts from."""
    begun = load(config.start_from, "cpu")
    opened = runs.open_run(config.start_from)
    if not (opened.path / "finished").exists():
        raise InputError(
            f"start_from {config.start_from}: is not trained to its end, expected a finished run; "
            "let it finish first"
        )
    other = TrainConfig.parse(opened.config, opened.path / "config.yaml")
    for name in ("network", "width", "network_options", "transport", "published_network"):
        found, expected = getattr(other, name), getattr(config, name)
        if found != expected:
            raise InputError(
                f"start_from {config.start_from}: was trained with {name} {found}, expected "
                f"{expected}; start from a run of the same network, or set {name} to {found}"
            )
    if begun.window != chosen:
        raise InputError(
            f"start_from {config.start_from}: was trained on another window, {other.window}; set "
            "window to it, or start from another run"
        )
    return begun


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
        network = Changes(network, past)
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
