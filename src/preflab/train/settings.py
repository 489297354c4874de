"""What a run needs to know besides its rows and its method."""

from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "wsd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Settings of one training run, the same for every method of a study.

    Args:
        epochs: passes over the rows.
        batch_size: rows (pairs) per optimizer step; accumulation never changes it.
        learning_rate: peak learning rate of AdamW.
        schedule: after warm-up: cosine or linear to zero, constant, or `wsd`: constant with a decay to zero at the end.
        warmup_frac: share of the steps with linearly rising learning rate, [0, 1); with `wsd` of the smallest size.
        decay_frac: share of the steps in which `wsd` decays, (0, 1); None with other schedules.
        weight_decay: decoupled decay (Loshchilov and Hutter, 2019, arXiv:1711.05101).
        adam_beta1: decay of the first moment.
        adam_beta2: decay of the second moment.
        adam_epsilon: added to the root of the second moment.
        max_grad_norm: gradients are scaled down to this norm; 0 is off.
        token_budget: flat tokens per forward and backward.
        monitor_points: evaluations of the fixed validation rows, the first before step 0 and the last at the end.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    schedule: Schedule
    warmup_frac: float
    decay_frac: float | None
    weight_decay: float
    adam_beta1: float
    adam_beta2: float
    adam_epsilon: float
    max_grad_norm: float
    token_budget: int
    monitor_points: int
