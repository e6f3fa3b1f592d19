"""Adam as published (Durand et al. 2024; Geer 2024), its schedules, and averaged weights."""

import math

import torch

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-7


def adamw(parameters, config):
    """AdamW as published.

    With gradient g at step t, m and v the means of g and g^2 (0.9, 0.999), r the rate and d the
    decay, both multiplied by the schedule: w <- w - d w, then
    w <- w - r sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) + 1e-7). Two things differ from torch:
    its decay is multiplied by the rate, and its epsilon stands beside the corrected root.
    :func:`set_epsilon` (or :func:`tune`) must be called after every step.

    Returns
    -------
    torch.optim.AdamW
    """
    optimiser = torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(BETA1, BETA2),
        weight_decay=config.weight_decay / config.learning_rate,
        fused=True,
    )
    set_epsilon(optimiser, 0)
    return optimiser


def tune(optimiser, config, steps_done, steps_per_epoch):
    """Give an optimiser the rate and the epsilon of its next step."""
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * factor(config, steps_done, steps_per_epoch)
    set_epsilon(optimiser, steps_done)


def set_epsilon(optimiser, steps_done):
    """Give torch's AdamW the epsilon that makes its next step the published one."""
    for group in optimiser.param_groups:
        group["eps"] = EPSILON / math.sqrt(1 - BETA2 ** (steps_done + 1))


def factor(config, step, steps_per_epoch):
    """What the learning rate (and the decay) is multiplied by at a step."""
    if config.schedule == "piecewise":
        return 0.1 ** sum(step >= boundary for boundary in config.boundaries)
    if config.schedule == "cosine":
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        whole = max(config.epochs * steps_per_epoch - config.warmup_steps, 1)
        return 0.5 * (1 + math.cos(math.pi * min((step - config.warmup_steps) / whole, 1)))
    return 1.0


def follow(averaged, model, decay, step):
    """Move averaged weights and statistics towards the model's, faster in the first steps."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    values = model.state_dict()
    with torch.no_grad():
        for name, value in averaged.state_dict().items():
            if value.is_floating_point():
                value.lerp_(values[name], share)
            else:
                value.copy_(values[name])
