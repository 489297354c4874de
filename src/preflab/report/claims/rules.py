"""What a claim, its rule and its verdict are, and the rules that several claims share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preflab.report.tables import FloatArray, Group, Measure
from preflab.report.wording import difference_unit, p_phrase, score, score_range, size_of
from preflab.stats.comparisons import Comparison, paired_comparison

Verdict = Literal["reproduced", "different", "not told", "not testable"]
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of a paper in our words.

    Args:
        name: short, for links.
        text: what the paper says.
        source: where, and with which numbers.
        rule: when it counts as reproduced and when as different, fixed before the numbers are looked at.
    """

    name: str
    text: str
    source: str
    rule: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a study says to a claim.

    Args:
        claim: the claim.
        verdict: `reproduced`, `different`, `not told` (neither by the rule; a larger study could tell), or
            `not testable`: the study lacks what the rule needs.
        evidence: our numbers with intervals, one sentence each.
    """

    claim: Claim
    verdict: Verdict
    evidence: tuple[str, ...]


def untestable(claim: Claim, why: str) -> Finding:
    """Return the finding of a study that lacks what the rule needs."""
    return Finding(claim, "not testable", (why,))


def compared(first: FloatArray, second: FloatArray, scores: Measure) -> Comparison:
    """Compare two `[seed, item]` tables of a measure; where only one has several seeds the other is repeated."""
    n = min(len(first), len(second)) if min(len(first), len(second)) > 1 else max(len(first), len(second))
    a, b = (np.broadcast_to(t, (n, t.shape[1])) if len(t) == 1 else t[:n] for t in (first, second))
    return paired_comparison(a, b, clusters=scores.clusters)


def averaged(scores: Measure, groups: Sequence[Group]) -> FloatArray | None:
    """Return the mean of several groups `[seed, item]` over the seeds that all have; None where one is absent."""
    if not groups or any(group not in scores.values for group in groups):
        return None
    shared = sorted(set.intersection(*(set(scores.seeds[group]) for group in groups)))
    if not shared:
        return None
    return np.mean([scores.values[g][[scores.seeds[g].index(s) for s in shared]] for g in groups], axis=0)


def told(comparison: Comparison) -> int:
    """Return 1 or -1 for a difference told apart from 0 at 5 %, else 0."""
    low, high = comparison.difference.low, comparison.difference.high
    return 0 if math.isnan(low) else int(low > 0) - int(high < 0)


def by_sign(sign: int, *, wanted: int) -> Verdict:
    """Return the verdict of a rule that asks for a sign."""
    return "not told" if sign == 0 else "reproduced" if sign == wanted else "different"


def phrase(comparison: Comparison, *, rate: bool) -> str:
    """Return a difference with interval, p and what could have been found."""
    found = comparison.difference
    change = score(found.estimate, rate=rate, sign=True) + difference_unit(rate=rate)
    if math.isnan(found.low):
        return f"{change} (no interval from one seed and prompt)"
    if found.low == found.high:
        return f"{change} (the same on every prompt)"
    text = f"{change} ({score_range(found, rate=rate, sign=True)}, {p_phrase(comparison.p)})"
    if told(comparison) == 0:
        text += f", where {size_of(comparison.minimum_detectable, rate=rate)} would be found four times in five"
    return text
