"""How often scores put pairs in the right order, by subset, with intervals."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from preflab.stats.intervals import Interval, mean_interval, t_quantile, wilson_interval


@dataclass(frozen=True, slots=True)
class SubsetAccuracy:
    """Accuracy on one subset.

    Args:
        subset: its name.
        accuracy: share of pairs in the right order, ties half; Wilson's interval, or Student's over prompts where
            several pairs share one.
        ties: pairs with equal scores.
        pairs: pairs.
    """

    subset: str
    accuracy: Interval
    ties: int
    pairs: int


def subset_accuracies(margins: ArrayLike, subsets: Sequence[str], prompts: Sequence[Hashable]) -> list[SubsetAccuracy]:
    """Return the accuracy of each subset, in the order they first come.

    Args:
        margins: score of the chosen minus score of the rejected response, `[pair]`.
        subsets: subset of each pair.
        prompts: prompt of each pair; pairs of one prompt are not independent.
    """
    gaps, names = np.asarray(margins, dtype=np.float64), np.array(subsets, dtype=object)
    if not np.isfinite(gaps).all():
        raise ValueError("margins must be finite")
    right = np.where(gaps == 0, 0.5, gaps > 0)
    found = []
    for name in dict.fromkeys(subsets):
        mine = np.flatnonzero(names == name)
        labels = [prompts[int(i)] for i in mine]
        shared = len(set(labels)) < len(labels)
        interval = (
            mean_interval(right[mine], clusters=labels)
            if shared
            else wilson_interval(float(right[mine].sum()), len(mine))
        )
        found.append(SubsetAccuracy(name, interval, int((gaps[mine] == 0).sum()), len(mine)))
    return found


def mean_of_subsets(found: Sequence[SubsetAccuracy], *, level: float = 0.95) -> Interval:
    """Return the mean accuracy of subsets, each with the same weight, as RewardBench averages.

    References:
        Lambert et al., RewardBench: Evaluating Reward Models for Language Modeling, 2024, arXiv:2403.13787.
    """
    if not found:
        raise ValueError("there is no subset")
    estimate = float(np.mean([each.accuracy.estimate for each in found]))
    se = math.sqrt(sum(each.accuracy.se**2 for each in found)) / len(found)
    half = t_quantile(0.5 + level / 2, math.inf) * se
    low, high = max(0.0, estimate - half), min(1.0, estimate + half)
    return Interval(estimate, low, high, se, len(found), math.inf, "items", level)
