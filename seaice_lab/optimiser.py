"""Adam as published (Durand et al. 2024; Geer 2024), its schedules, and averaged weights."""

import math

import torch
from torch import nn

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7


def adamw(parameters, config):
    """AdamW as published.

    With gradient g at step t, m and v the means of g and g^2 (0.9, 0.999), r the rate and d the
    decay, both multiplied by the schedule: w <- w - d w, then
    w <- w - r sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) + 1e-7). Torch differs in two ways: it
    multiplies the decay by the rate, and it adds epsilon to the root of the corrected v.
    :func:`set_epsilon` must be called before every step.

    Parameters
    ----------
    parameters : iterable of Parameter
    config : FitConfig

    Returns
    -------
    torch.optim.AdamW
    """
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(BETA1, BETA2),
        weight_decay=config.weight_decay / config.learning_rate,
        fused=True,
    )


def set_epsilon(optimiser, steps_done):
    """Set the epsilon that makes the next step of torch's AdamW the published one.

    Torch divides m by sqrt(v / (1 - 0.999^t)) + epsilon, the published Adam by sqrt(v) + 1e-7 and
    multiplies by sqrt(1 - 0.999^t). The two agree with epsilon = 1e-7 / sqrt(1 - 0.999^t).

    Parameters
    ----------
    optimiser : torch.optim.AdamW
    steps_done : int
    """
    for group in optimiser.param_groups:
        group["eps"] = EPSILON / math.sqrt(1 - BETA2 ** (steps_done + 1))


def learning_rate(config, step, steps_per_epoch):
    """Learning rate of a step (counted from 0), as the schedule says.

    Parameters
    ----------
    config : FitConfig
    step, steps_per_epoch : int

    Returns
    -------
    float
    """
    rate = config.learning_rate
    if config.schedule == "piecewise":
        return rate * 0.1 ** sum(step >= boundary for boundary in config.boundaries)
    if config.schedule == "cosine":
        if step < config.warmup_steps:
            return rate * ((step + 1) / config.warmup_steps)
        falling_steps = max(config.epochs * steps_per_epoch - config.warmup_steps, 1)
        progress = min((step - config.warmup_steps) / falling_steps, 1)
        return rate * (0.5 * (1 + math.cos(math.pi * progress)))
    return rate


def descend(state):
    """Take a step of the published AdamW with the present gradient, and remove the gradient.

    Parameters
    ----------
    state : TrainState
        With its default optimiser.

    Returns
    -------
    scalar Tensor
        Norm of the gradient.
    """
    (group,) = state.optimiser.param_groups
    group["lr"] = learning_rate(state.config, state.step, state.steps_per_epoch)
    set_epsilon(state.optimiser, state.step)
    norm = gradient_norm(group["params"], state.config.max_gradient_norm)
    state.optimiser.step()
    state.optimiser.zero_grad(set_to_none=True)  # frees their memory for the next forward pass
    return norm


def gradient_norm(parameters, limit=None):
    """Norm of the gradient of all parameters together; scales the gradient down to a limit.

    Parameters
    ----------
    parameters : list of Parameter
    limit : float, optional

    Returns
    -------
    scalar Tensor
        The norm before scaling.
    """
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm


def update_average(averaged, model, decay, step):
    """Move averaged weights and statistics towards those of the model, faster in the first steps.

    averaged <- averaged + (1 - min(decay, (1 + step) / (10 + step))) (model - averaged).

    Parameters
    ----------
    averaged, model : torch.nn.Module
    decay : float
        Between 0 and 1.
    step : int
        Steps done.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    values = model.state_dict()
    with torch.no_grad():
        for name, value in averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(values[name], share)
            else:
                value.copy_(values[name])
