"""From scored answers to preference pairs: named curations, and the ranges that a pair must lie in.

Everything is a function of the answers and of named random streams, so that the order of prompts changes nothing.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from preflab.core.errors import ConfigError

Curation = Literal["best-worst", "threshold", "rejection", "random-gap", "siblings"]

REASONS: Final = {
    "too_few_answers": "fewer than two different answers that are whole and hold text, or none for one side",
    "equal_scores": "all answers have the same score",
    "none_better": "no answer for the chosen side scores above one for the rejected side",
    "out_of_range": "no pair within the thresholds and the ranges of gap and shared prefix",
}
"""Why a prompt gives no pair."""
LEFT_OUT: Final = {
    "tied": "drawn together, but of equal score",
    "out_of_range": "outside the ranges of gap or shared prefix",
    "high_ches": "among the most similar by CHES score",
}
"""Why a pair of a prompt that gives several is left out, or a pair that was made already."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a prompt with its score.

    Args:
        text: the response.
        score: higher is better.
        origin: where it comes from: `model`, `data` or `other`.
        tokens: its tokens as training will see them, for the length of shared prefixes.
        path: nodes of the search tree that it passes, from the first step on; empty for what no search found.
    """

    text: str
    score: float
    origin: str = ""
    tokens: tuple[int, ...] = ()
    path: tuple[int, ...] = ()


class Pair(NamedTuple):
    """A better and a worse answer to one prompt."""

    chosen: Answer
    rejected: Answer

    @property
    def gap(self) -> float:
        """Difference of the scores."""
        return self.chosen.score - self.rejected.score

    @property
    def shared_prefix(self) -> int:
        """Tokens that both answers begin with."""
        return common_prefix(self.chosen.tokens, self.rejected.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What a pair must satisfy, whatever its curation; bounds are part of the range.

    Args:
        min_gap: least difference of scores.
        max_gap: largest difference of scores.
        min_prefix: fewest tokens that both answers begin with.
        max_prefix: most tokens that both answers begin with.

    Raises:
        ConfigError: a range that holds nothing.
    """

    min_gap: float = 0.0
    max_gap: float = math.inf
    min_prefix: int = 0
    max_prefix: float = math.inf

    def __post_init__(self) -> None:
        for name, low, high in (("gap", self.min_gap, self.max_gap), ("prefix", self.min_prefix, self.max_prefix)):
            if not 0 <= low <= high:
                raise ConfigError(f"--min-{name}, --max-{name}: must be 0 <= min <= max; got {low:g} and {high:g}.")

    def hold(self, pair: Pair) -> bool:
        """Return whether a pair lies in the ranges."""
        # Scores are sums of shares: a gap of 0.3 may come out as 0.30000000000000004.
        near = self.min_gap - 1e-9 <= pair.gap <= self.max_gap + 1e-9
        return near and self.min_prefix <= pair.shared_prefix <= self.max_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class CurationSettings:
    """A curation with what it needs.

    Args:
        name: which one.
        ranges: what every pair must satisfy.
        high: least score of a chosen answer (`threshold`).
        low: largest score of a rejected answer (`threshold`).
        beta: temperature of the target distribution, in units of the score (`rejection`).
        accepted: answers that rejection sampling draws for each prompt; half as many pairs (`rejection`).

    Raises:
        ConfigError: a value that the curation needs is missing or makes no sense, or is given to another one.
    """

    name: Curation
    ranges: Ranges = field(default_factory=Ranges)
    high: float | None = None
    low: float | None = None
    beta: float | None = None
    accepted: int | None = None

    def __post_init__(self) -> None:
        given = {key for key in ("high", "low", "beta", "accepted") if getattr(self, key) is not None}
        needed = {"threshold": {"high", "low"}, "rejection": {"beta", "accepted"}}.get(self.name, set[str]())
        if extra := sorted(given - needed):
            raise ConfigError(f"--{extra[0]}: does not belong to the curation {self.name}.")
        if missing := sorted(needed - given):
            raise ConfigError(f"--curation {self.name}: needs --{missing[0]}.")
        if self.high is not None and self.low is not None and self.high <= self.low:
            raise ConfigError(
                f"--high: must be above --low, so that no answer is both; got {self.high} and {self.low}."
            )
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ConfigError(f"--beta: must be in (0, inf); got {self.beta}.")
        if self.accepted is not None and (self.accepted < 2 or self.accepted % 2):
            raise ConfigError(f"--accepted: must be even and at least 2; got {self.accepted}.")


Draw = Callable[[str, int], NDArray[np.float64]]
"""`draw(name, n)`: n uniform numbers from (0, 1) of a prompt's stream of that name."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What a prompt gives.

    Args:
        pairs: its pairs, labels as the scores have them.
        reason: a key of `REASONS` where there is none.
        left_out: key of `LEFT_OUT` to the number of its pairs that were left out.
        ties: sides whose answer was drawn among several of the same score.
    """

    pairs: tuple[Pair, ...]
    reason: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)
    ties: int = 0


def curate(chosen: Sequence[Answer], rejected: Sequence[Answer], settings: CurationSettings, draw: Draw) -> Curated:
    """Make the pairs of one prompt.

    Args:
        chosen: answers that may be chosen, all different.
        rejected: answers that may be rejected; the same ones where both sides have one origin.
        settings: the curation.
        draw: the prompt's random streams.
    """
    either = {answer.text: answer for answer in [*chosen, *rejected]}
    if not chosen or not rejected or len(either) < 2:
        return Curated((), "too_few_answers")
    if len({answer.score for answer in either.values()}) == 1:
        return Curated((), "equal_scores")
    if max(a.score for a in chosen) <= min(a.score for a in rejected):
        return Curated((), "none_better")
    if settings.name == "rejection":
        return _rejection(list(either.values()), settings, draw)
    if settings.name == "best-worst":
        return _best_worst(chosen, rejected, settings, draw)
    fits = {"threshold": _between_thresholds, "random-gap": _any_pair, "siblings": _branched}[settings.name]
    allowed = [
        pair
        for pair in itertools.starmap(Pair, itertools.product(chosen, rejected))
        if pair.gap > 0 and fits(pair, settings) and settings.ranges.hold(pair)
    ]
    if not allowed:
        return Curated((), "out_of_range")
    if settings.name == "siblings":
        # The clearest contrast at the longest prefix; what is equal in both is drawn.
        top = max((pair.gap, pair.shared_prefix) for pair in allowed)
        allowed = [pair for pair in allowed if (pair.gap, pair.shared_prefix) == top]
    return Curated((allowed[int(draw("pair", 1)[0] * len(allowed))],))


def best_worst(chosen: Sequence[Answer], rejected: Sequence[Answer], order: Callable[[Answer], Any]) -> Pair | None:
    """Return the best answer of one side and the worst of the other, or None where it is no better.

    Args:
        chosen: answers that may be chosen.
        rejected: answers that may be rejected.
        order: decides between equal scores: the last in this order is best, the first is worst.
    """
    best = max(chosen, key=lambda answer: (answer.score, order(answer)), default=None)
    worst = min(rejected, key=lambda answer: (answer.score, order(answer)), default=None)
    return Pair(best, worst) if best and worst and best.score > worst.score else None


def rejection_sample(answers: Sequence[Answer], *, n: int, beta: float, draw: Draw) -> list[Answer]:
    """Draw answers of the sampling model as if they came from the optimum of KL-regularised reward.

    Sweeps over the candidates; one with score r is accepted with chance exp((r - max) / beta), where max is the largest
    score still there. Accepted ones leave after their sweep.

    Args:
        answers: candidates, all different.
        n: answers to accept; all of them where there are no more.
        beta: temperature, in units of the score. Small: the best ones only; large: the model's own distribution.
        draw: random streams, one for each sweep.

    References:
        Liu et al., Statistical Rejection Sampling Improves Preference Optimization, 2023, arXiv:2309.06657,
        algorithm 1.
    """
    candidates, accepted = list(answers), list[Answer]()
    for sweep in itertools.count():
        if not candidates or len(accepted) >= n:
            return accepted[:n]
        top = max(answer.score for answer in candidates)
        chances = draw(f"sweep-{sweep}", len(candidates))
        # log u < (r - max) / beta, without an exp that underflows to 0
        keeps = [math.log(u) < (a.score - top) / beta for u, a in zip(chances, candidates, strict=True)]
        accepted += [answer for answer, keep in zip(candidates, keeps, strict=True) if keep]
        candidates = [answer for answer, keep in zip(candidates, keeps, strict=True) if not keep]
    raise AssertionError


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many leading entries two sequences share."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _best_worst(
    chosen: Sequence[Answer], rejected: Sequence[Answer], settings: CurationSettings, draw: Draw
) -> Curated:
    texts = list(dict.fromkeys(answer.text for answer in [*chosen, *rejected]))
    lots = dict(zip(texts, draw("ties", len(texts)), strict=True))
    pair = best_worst(chosen, rejected, lambda answer: lots[answer.text])
    assert pair is not None
    best, worst = [a.score for a in chosen], [a.score for a in rejected]
    ties = (best.count(max(best)) > 1) + (worst.count(min(worst)) > 1)
    return Curated((pair,), ties=ties) if settings.ranges.hold(pair) else Curated((), "out_of_range", ties=ties)


def _rejection(answers: Sequence[Answer], settings: CurationSettings, draw: Draw) -> Curated:
    """Pair accepted answers at random and rank within each pair: first-round ranking of the paper."""
    assert settings.accepted is not None and settings.beta is not None
    accepted = rejection_sample(answers, n=settings.accepted, beta=settings.beta, draw=draw)
    order = np.argsort(draw("first-round", len(accepted)))
    shuffled = [accepted[i] for i in order]
    drawn = [
        Pair(*sorted(two, key=lambda answer: -answer.score)) for two in zip(shuffled[::2], shuffled[1::2], strict=False)
    ]
    tied = sum(pair.gap == 0 for pair in drawn)
    kept = tuple(pair for pair in drawn if pair.gap > 0 and settings.ranges.hold(pair))
    left_out = {"tied": tied, "out_of_range": len(drawn) - tied - len(kept)}
    # What is counted pair by pair is not counted again prompt by prompt.
    return Curated(kept, "" if drawn else "too_few_answers", left_out)


def _between_thresholds(pair: Pair, settings: CurationSettings) -> bool:
    assert settings.high is not None and settings.low is not None
    return pair.chosen.score >= settings.high and pair.rejected.score <= settings.low


def _any_pair(pair: Pair, settings: CurationSettings) -> bool:
    return True


def _branched(pair: Pair, settings: CurationSettings) -> bool:
    """Whether both answers passed the same first step of the search before they parted."""
    return common_prefix(pair.chosen.path, pair.rejected.path) > 0
