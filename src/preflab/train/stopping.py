"""Early stopping: keep the weights with the likeliest held-out chosen responses, and end when those are long ago."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preflab.core.errors import RunError


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """When a run that stops early ends.

    Args:
        patience: evaluations without a new best after which it ends; None goes on to the last step.
    """

    patience: int | None

    def is_over(self, monitor: Sequence[Mapping[str, Any]], kept: int | None) -> bool:
        """Return whether as many evaluations as the patience allows came after the best one."""
        if kept is None or self.patience is None:
            return False
        return len({record["step"] for record in monitor if record["step"] > kept}) >= self.patience


def best_step(monitor: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the step after which the mean log-prob of the chosen validation responses was highest, the first of ties.

    The mean is of sums over tokens, nats per response: the log-likelihood that a falling chosen response loses. The
    start point (step 0) is no candidate: a report has it as a row of its own, and a cell that handed it over would be
    no training at all under the name of a method. So None comes back before the first evaluation behind it.

    Args:
        monitor: one record per row and evaluation, with `step` and `chosen_total` (None where a row has no chosen one).

    Raises:
        RunError: no row has a chosen response.
    """
    totals: dict[int, list[float]] = {}
    for record in monitor:
        if record["chosen_total"] is not None:
            totals.setdefault(record["step"], []).append(record["chosen_total"])
    if monitor and not totals:
        raise RunError("no validation row that is followed has a chosen response; raise train.monitor_rows.")
    best, highest = None, -math.inf
    for step, values in totals.items():
        if step > 0 and (mean := float(np.mean(values))) > highest:
            best, highest = step, mean
    return best
