"""Training of a surrogate into a run folder."""

import json
from functools import partial
from itertools import repeat
from pathlib import Path

import torch

from seaice_lab import files, grid, progress, runs
from seaice_lab.compute import Process, prefetch, select_channels, training_form
from seaice_lab.cuda_graphs import with_gradients
from seaice_lab.errors import InputError
from seaice_lab.model_card import CARD
from seaice_lab.optimiser import descend
from seaice_lab.surrogate.augmentation import Turn, turned_kernels
from seaice_lab.surrogate.card import write_card
from seaice_lab.surrogate.ensemble_training import VALIDATION_MEMBERS, ensemble_score, spread_skill
from seaice_lab.surrogate.losses import LossWeights, ocean_loss, published_loss
from seaice_lab.surrogate.model import bounds, build, load, scales, weight_settings
from seaice_lab.surrogate.networks import check_options
from seaice_lab.surrogate.noise import noise_of
from seaice_lab.surrogate.results import write_grid
from seaice_lab.surrogate.samples import Samples, batches, choose_device
from seaice_lab.surrogate.settings import TrainConfig, window_of
from seaice_lab.surrogate.store import open_store
from seaice_lab.surrogate.windows import DERIVED
from seaice_lab.training import TrainState, fit, validate


def train(config, run, show=True):
    """Train a surrogate into a run folder, or continue a killed training.

    Parameters
    ----------
    config : TrainConfig
    run : str or Path
        Run folder to create, such as ``runs/demo``.
    show : bool
        Show progress.

    Returns
    -------
    Path
        The run folder: configuration, provenance, weights, normalisation, history, model card.

    Raises
    ------
    InputError
        If the store does not fit the window or the network, the run to start from has another
        network or window, the folder contains another run, or the training diverges.
    """
    run, process, store = Path(run).expanduser(), Process(), open_store(config.store)
    window = window_of(config)
    _check_symmetry(config, window)
    check_options(config.network, config.network_options)

    # 1. The samples, normalised with the statistics of the training split or of the start run.
    start_weights, normalisation = load_start_run(config, run)
    device, where = choose_device(config.fields_in, config.store, window, process)
    options = {"steps": config.rollout_steps, "device": device}
    samples = Samples(config.store, window, "train", normalisation, **options)
    normalisation = samples.normalisation
    validation = Samples(config.store, window, "validation", normalisation, **options)

    # 2. The network.
    torch.manual_seed(config.fit.seed)
    ocean = torch.from_numpy(store.ocean.values)
    network = build(config, ocean, normalisation)
    if start_weights is not None:
        # Noise layers that the start run lacks keep their zeros.
        network.load_state_dict(network.state_dict() | start_weights)

    # 3. The run folder.
    if process.is_main:
        _create_run(run, config, store, normalisation)
    if (run / "finished").exists():
        # The training may have been killed before it wrote the card.
        if process.is_main and not (run / CARD).exists():
            write_card(run)
        return run

    if show and process.is_main:
        progress.line(where)

    # 4. The training loop.
    area = torch.from_numpy(grid.cell_area(store).values.astype("float32"))
    losses = batch_losses(config, normalisation, ocean.to(process.device), area.to(process.device))
    size = config.fit.batch_size
    share = {
        "rank": process.rank,
        "world": process.world,
        "workers": config.fit.workers,
        "memory": [],  # of training and validation in turn
    }
    state = TrainState(network, config.fit, process, len(samples) // (size * process.world))
    state.settings = weight_settings(config, normalisation)
    with process.watch_others():
        forward = training_form(network, config.fit, process)

    step = training_step(config, partial(losses, forward), state)

    def train_batches(epoch):
        return prefetch(batches(samples, size, shuffle=(config.fit.seed, epoch), **share))

    def end_epoch():
        held_out = enumerate(prefetch(batches(validation, size, **share)))
        # Each sample has a number, which is the seed of its noise.
        numbered = ((*batch, process.rank + process.world * size * n) for n, batch in held_out)
        row = validate(lambda batch: losses(state.averaged, batch), numbered, process)
        return spread_skill(row) if config.loss == "crps" else row

    fit(step, train_batches, end_epoch, state, run, show)
    if process.is_main:
        write_card(run)
    return run


def _create_run(run, config, store, normalisation):
    """Create the run folder with all that is known before the training."""
    data = store.attrs["fingerprint"]
    runs.create(run, config, "surrogate", seed=config.fit.seed, data=data)
    files.write_json(run / "normalisation.json", normalisation)
    write_grid(run, store)


def load_start_run(config, run):
    """Weights and normalisation with which training starts.

    Parameters
    ----------
    config : TrainConfig
        With ``start_from``, the run folder to start from, or None.
    run : Path
        Run folder of this training.

    Returns
    -------
    weights : dict of str to torch.Tensor, or None
        None if the weights are random, or if this training continues from its own checkpoint.
    normalisation : dict or None
        None if it is to be computed.

    Raises
    ------
    InputError
        If the start run is not finished or has another network or window, or an ensemble has none.
    """
    if config.start_from is None:
        if config.loss == "crps":
            raise InputError(
                "start_from: is missing, expected a trained run; loss crps adds noise to a network "
                "that can forecast already, so train one with loss ocean first"
            )
        return None, None
    normalisation = run / "normalisation.json"
    was_trained = (run / "checkpoint.pt").exists() or (run / "finished").exists()
    if was_trained and normalisation.exists():
        return None, json.loads(normalisation.read_text(encoding="utf-8"))
    # The weights fit any grid, so the store of the start run need not exist here.
    start = load(config.start_from, "cpu", config.store)
    opened = runs.open_run(config.start_from)
    if not (opened.path / "finished").exists():
        raise InputError(
            f"start_from {config.start_from}: is not finished, expected a finished run; let its "
            "training finish first"
        )
    start_config = TrainConfig.parse(opened.config, opened.path / "config.yaml")
    compared = ["network", "width", "network_options", "transport", "published_network"]
    if start.window != window_of(config):
        compared.append("window")
    if start_config.loss == "crps":
        compared += ["loss", "noise_channels"]
    for name in compared:
        value, expected = getattr(start_config, name), getattr(config, name)
        if value != expected:
            raise InputError(
                f"start_from {config.start_from}: was trained with {name} {value}, expected "
                f"{expected}; start from another run, or set {name} to {value}"
            )
    return start.network.state_dict(), start.normalisation


def training_step(config, losses, state):
    """Make the training step: draw a quarter turn, compute the gradient, update the parameters.

    Parameters
    ----------
    config : TrainConfig
    losses : callable
        ``losses(batch, turns)``: those of :func:`batch_losses` for a model.
    state : TrainState

    Returns
    -------
    callable
        ``step(batch)``, as :func:`seaice_lab.training.fit` expects it.
    """
    forms = range(4 if config.symmetry == "quarter_turns" else 1)
    gradients = with_gradients(losses, state.model.parameters(), state.process, forms)

    def step(batch):
        turns = int(torch.randint(4, ())) if len(forms) > 1 else 0
        return gradients(batch, turns) | {"gradient_norm": descend(state)}

    return step


def batch_losses(config, normalisation, ocean, area):
    """The training loss of a batch: the mean of the losses of all steps of a rollout.

    Parameters
    ----------
    config : TrainConfig
    normalisation : dict
        As in :class:`~seaice_lab.surrogate.model.Surrogate`.
    ocean : torch.Tensor of bool (y, x)
    area : torch.Tensor (y, x)
        Cell areas.

    Returns
    -------
    callable
        ``losses(model, batch, turns=0)`` returns a dict of scalar tensors: the total ``loss`` with
        gradient, and its terms. A model in training mode receives noise and, with symmetry
        quarter_turns, maps after ``turns`` quarter turns. A batch is a pair of inputs and
        increments, (batch, channel, y, x) or, for a rollout, (batch, step, channel, y, x),
        normalised and zero on land. For validation it may have the number of its first sample as
        well.
    """
    window, noise = window_of(config), noise_of(config, ocean)
    score = step_score(config, window, normalisation, ocean, area)
    turn_inputs = Turn(window.inputs, [normalisation[name] for name, _ in window.inputs])
    turn_targets = Turn(window.targets, normalisation["increments"])

    def losses(model, batch, turns=0):
        x, y, first = *batch[:2], *(batch[2:] or (0,))
        x, y = (fields.to(ocean.device, non_blocking=True) for fields in (x, y))
        x, y = (fields if fields.ndim == 5 else fields[:, None] for fields in (x, y))
        parameters = {}  # the parameters of the model that are replaced
        if model.training and config.symmetry == "quarter_turns":
            x, y = turn_inputs(x, turns) * ocean, turn_targets(y, turns) * ocean
            parameters = turned_kernels(model, turns)

        members, draws = 1, repeat(())
        if noise is not None:
            members = config.members if model.training else VALIDATION_MEMBERS
            x = x.repeat_interleave(members, 0)  # members are successive items of the batch
            seeds = (config.fit.seed, range(first, first + len(y)), range(members))
            draws = noise.random(len(x), x.device) if model.training else noise.of_members(*seeds)
            draws = ([[values.to(x.device) for values in levels]] for levels in draws)

        def predict(inputs):
            if model.training:
                # The noise of the inputs is no noise of the model: all members receive the same.
                input_noise = config.input_noise * torch.randn_like(inputs[::members])
                inputs = inputs.unflatten(0, (-1, members)) + input_noise[:, None]
                inputs = inputs.flatten(0, 1)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            if model.training and config.rollout_steps > 1:
                # As the inputs of the later steps; otherwise the network would be compiled twice.
                inputs.requires_grad_()
            inputs = (inputs, *next(draws))
            return torch.func.functional_call(model, parameters, inputs).float()

        bfloat16 = config.fit.precision == "bfloat16"
        with torch.autocast(ocean.device.type, torch.bfloat16, enabled=bfloat16):
            pairs = rollout_pairs(predict, x, y, window, normalisation, ocean)
            steps = zip(pairs, x.unbind(1), strict=True)
            results = [score(*pair, inputs, model.training) for pair, inputs in steps]
            totals, terms = zip(*results, strict=True)
            means = {name: sum(step[name] for step in terms) / len(terms) for name in terms[0]}
            return {"loss": sum(totals) / len(totals)} | means

    return losses


def step_score(config, window, normalisation, ocean, area):
    """The loss of one step of a configuration.

    Parameters
    ----------
    config, normalisation, ocean, area : as in :func:`batch_losses`
    window : Window

    Returns
    -------
    callable
        ``score(prediction, target, inputs, training)`` returns the total and its terms.
    """
    if config.loss == "crps":
        return ensemble_score(config, window, normalisation, ocean, area)
    loss = published_loss if config.loss == "published" else partial(ocean_loss, area=area)
    weights = LossWeights(config.global_mean_weight, config.spread_weight, config.tikhonov_weight)
    return lambda prediction, target, *_: loss(prediction, target, ocean, weights=weights)


def rollout_pairs(predict, x, y, window, normalisation, ocean):
    """Predictions and targets of successive steps, each started from the predicted state.

    Parameters
    ----------
    predict : callable
        Maps normalised inputs (batch, channel, y, x) to normalised increments.
    x, y : torch.Tensor (batch, step, channel, y, x)
        Inputs and increments of the true fields, normalised, zero on land.
    window : Window
    normalisation : dict
        As in :class:`~seaice_lab.surrogate.model.Surrogate`.
    ocean : torch.Tensor of bool (y, x)

    Yields
    ------
    prediction, target : torch.Tensor (batch, target, y, x)
        Normalised changes from the true state at the start of the step to the predicted and to the
        true state at its end. Their difference is the error of the predicted state, in units of the
        standard deviation of the increment.
    """
    count = len(window.variables)
    mean, std = scales([normalisation[name] for name, _ in window.state], x)
    increment_mean, increment_std = scales(normalisation["increments"], x)
    low, high = (bounds(window.variables, x) - mean[:count]) / std[:count]
    target_variables = [window.variables.index(name) for name, _ in window.targets]
    # Error of the predicted state, in units of the state; the first step starts from the truth.
    error = torch.zeros_like(x[:, 0, : len(window.state)])
    for step in range(x.shape[1]):
        state = x[:, step, : len(window.state)] + error
        increment = predict(torch.cat([state, x[:, step, len(window.state) :]], dim=1))
        # Counted from the true state, the predicted state at the end of the step is error +
        # increment. So the loss asks the network to correct the errors of earlier steps as well.
        physical = select_channels(error[:, :count] * std[:count], target_variables)
        error_in_increments = physical / increment_std
        yield increment + error_in_increments, y[:, step]
        if step + 1 < x.shape[1]:
            # The next step starts from the predicted state within the physical bounds, as in a
            # forecast. The first target of each variable is the increment over one step.
            change = (increment * increment_std + increment_mean)[:, :count] / std[:count]
            present = torch.clamp(state[:, :count] + change, low, high)
            past = select_channels(error, window.past_channels)
            error = torch.cat([present - x[:, step + 1, :count], past], dim=1) * ocean


def _check_symmetry(config, window):
    fixed = [name for name, _ in window.inputs if name in DERIVED]
    if config.symmetry != "none" and fixed:
        raise InputError(
            f"symmetry {config.symmetry}: the window has fields that do not turn with the map "
            f"({', '.join(fixed)}); leave them out, or train with symmetry none"
        )
