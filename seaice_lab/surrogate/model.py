"""The surrogate as a job and as a thing: train one into a run folder, load one from it."""

import json
from functools import partial
from typing import Literal, NamedTuple

import torch
from safetensors.torch import load_file

from seaice_lab import grid, runs
from seaice_lab.config import Config
from seaice_lab.errors import InputError
from seaice_lab.surrogate.losses import GLOBAL_MEAN_WEIGHT, ocean_loss, published_loss
from seaice_lab.surrogate.networks import build_network
from seaice_lab.surrogate.samples import Samples, Window, batches, window
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.symmetry import Turn, turned_kernels
from seaice_lab.training import FitConfig, Process, fit


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
    (:mod:`seaice_lab.surrogate.symmetry`).
    """

    store: str
    window: str | Window = "self_consistent"
    network: str = "UNet3"
    width: int = 16
    network_options: dict[str, float] = {}
    published_network: bool = False
    loss: Literal["ocean", "published"] = "ocean"
    global_mean_weight: float = GLOBAL_MEAN_WEIGHT
    spread_weight: float = 0.0
    tikhonov_weight: float = 0.0
    input_noise: float = 0.01
    symmetry: Literal["none", "quarter_turns"] = "none"
    fit: FitConfig = FitConfig()


class Surrogate(NamedTuple):
    """A trained surrogate: network, window, normalisation and ocean mask on one device."""

    network: torch.nn.Module
    window: Window
    normalisation: dict
    ocean: torch.Tensor

    def increment(self, state, forcing):
        """Change of the state over one step, in the unit of the state.

        Parameters
        ----------
        state : torch.Tensor (batch, 1, y, x)
            Physical units, finite on land.
        forcing : torch.Tensor (batch, channel, y, x)
            Physical units, the channels of ``window.forcing``.

        Returns
        -------
        torch.Tensor (batch, 1, y, x)
            Zero on land. Differentiable with respect to both inputs.
        """
        fields = torch.cat([state, forcing], dim=1)
        mean, std = (
            torch.tensor([self.normalisation[name][key] for name, _ in self.window.inputs],
                         dtype=fields.dtype, device=fields.device).view(1, -1, 1, 1)
            for key in ("mean", "std")
        )  # fmt: skip
        inputs = ((fields - mean) / std * self.ocean).contiguous(memory_format=torch.channels_last)
        scale = self.normalisation["increment"]
        return (self.network(inputs) * scale["std"] + scale["mean"]) * self.ocean


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
        If the store does not fit the window or the network, the folder holds another run, or
        training breaks down.
    """
    process = Process()
    store = open_store(config.store)
    chosen = named_window(config)
    torch.manual_seed(config.fit.seed)
    network = build(config, chosen, torch.from_numpy(store.ocean.values))
    samples = Samples(config.store, chosen, "train")
    validation = Samples(config.store, chosen, "validation", samples.normalisation)
    if process.leads:
        run = runs.create(
            run, config, "surrogate", seed=config.fit.seed, data=store.attrs["fingerprint"]
        )
        runs.write_json(run / "normalisation.json", samples.normalisation)
    if (run / "finished").exists():
        return run
    ocean = torch.from_numpy(store.ocean.values).to(process.device)
    area = grid.cell_area(store.latitude.values, store.longitude.values).astype("float32")
    if config.loss == "published":
        loss = partial(published_loss, ocean=ocean)
    else:
        loss = partial(ocean_loss, ocean=ocean, area=torch.from_numpy(area).to(process.device))
    share = {"rank": process.rank, "world": process.world, "workers": config.fit.workers}
    size = config.fit.batch_size

    turn = Turn(chosen.inputs, [samples.normalisation[name] for name, _ in chosen.inputs])

    def batch_loss(model, batch):
        x, y = batch
        weights = {}
        if model.training:
            x = x + config.input_noise * torch.randn_like(x)
        if model.training and config.symmetry == "quarter_turns":
            turns = int(torch.randint(4, ()))
            x, weights = turn(x, turns), turned_kernels(model, turns)
        x = x.contiguous(memory_format=torch.channels_last)
        prediction = torch.func.functional_call(model, weights, x)
        return loss(
            prediction.float(),
            y,
            global_mean_weight=config.global_mean_weight,
            spread_weight=config.spread_weight,
            tikhonov_weight=config.tikhonov_weight,
        )

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


def build(config, chosen, ocean):
    """The untrained network of a configuration."""
    return build_network(
        config.network,
        ocean,
        in_channels=len(chosen.inputs),
        out_channels=1,
        width=config.width,
        published=config.published_network,
        **config.network_options,
    )


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
    network = build(config, chosen, ocean)
    network.load_state_dict(load_file(weights))
    network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    scale = json.loads((opened.path / "normalisation.json").read_text(encoding="utf-8"))
    return Surrogate(network, chosen, scale, ocean.to(device))
