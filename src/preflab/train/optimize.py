"""AdamW, its schedule, and gradient clipping."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from preflab.train.settings import TrainSettings


def adamw(parameters: Sequence[nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
    """Return the optimizer; its learning rate is set before every step."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def decay_start(steps: int, decay_frac: float | None) -> int:
    """Return the first step of the decay of `wsd`; up to there a run does not depend on how long it will be."""
    assert decay_frac is not None
    return steps - math.ceil(decay_frac * steps)


def learning_rate(step: int, steps: int, settings: TrainSettings, *, smallest: int) -> float:
    """Return the learning rate of a step counted from 0: linear warm-up, then the schedule down to zero.

    `wsd` (warm-up, stable, decay) falls as 1 - sqrt(share of the decay that is over): Haegele et al., Scaling Laws and
    Compute-Optimal Training Beyond Fixed Training Durations, NeurIPS 2024, section 3.

    Args:
        step: counted from 0.
        steps: of the whole run.
        settings: peak and shape.
        smallest: steps of the run on the smallest of the nested sizes, whose warm-up all sizes share with `wsd`.
    """
    warmup = math.ceil(settings.warmup_frac * (smallest if settings.schedule == "wsd" else steps))
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    match settings.schedule:
        case "constant":
            return settings.learning_rate
        case "linear":
            return settings.learning_rate * (1 - done)
        case "cosine":
            return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2
        case "wsd":
            start = decay_start(steps, settings.decay_frac)
            return settings.learning_rate * (1 - math.sqrt(max(0, step - start) / (steps - start)))


def clip(parameters: Sequence[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients down to `max_norm` (0 is off) and return their norm before, a scalar."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm
