"""Training of a surrogate into a run folder."""

import json
from functools import partial
from pathlib import Path

import torch

from seaice_lab import files, grid, runs
from seaice_lab.compute import Process, prefetch, training_form
from seaice_lab.errors import InputError
from seaice_lab.optimiser import adamw_step
from seaice_lab.surrogate.augmentation import Turn, turned_kernels
from seaice_lab.surrogate.losses import ocean_loss, published_loss
from seaice_lab.surrogate.model import TrainConfig, bounds, build, load, named_window, scales
from seaice_lab.surrogate.samples import DERIVED, Samples, batches
from seaice_lab.surrogate.store import open_store
from seaice_lab.training import TrainState, fit, validate

TAKEN_UP = ("checkpoint.pt", "finished")  # either is in a run that has trained already


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
        files.write_json(run / "normalisation.json", samples.normalisation)
    if (run / "finished").exists():
        return run
    ocean = ocean.to(process.device)
    area = torch.from_numpy(grid.cell_area(store).values.astype("float32")).to(process.device)
    if config.loss == "published":
        loss = partial(published_loss, ocean=ocean)
    else:
        loss = partial(ocean_loss, ocean=ocean, area=area)
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

    def batch_losses(model, batch):
        batch = [part.to(process.device, non_blocking=True) for part in batch]
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

        with torch.autocast(process.device.type, torch.bfloat16, enabled=bfloat16):
            pairs = chain(predict, x, y, chosen, scale, ocean)
            totals, parts = zip(*(loss(*pair, **terms) for pair in pairs), strict=True)
            means = {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}
            return {"loss": sum(totals) / len(totals)} | means

    bfloat16 = config.fit.precision == "bfloat16"
    steps = len(samples) // (size * process.world)
    state = TrainState(network, config.fit, process, steps)
    forward = training_form(network, config.fit, process)

    def step(batch):
        return adamw_step(state, config.fit, batch_losses(forward, batch))

    def train_batches(epoch):
        return prefetch(batches(samples, size, config.fit.seed, epoch, shuffle=True, **share))

    def end_epoch():
        held_out = prefetch(batches(validation, size, **share))
        return validate(lambda batch: batch_losses(state.averaged, batch), held_out, process)

    fit(step, train_batches, end_epoch, state, config.fit, run, show)
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
