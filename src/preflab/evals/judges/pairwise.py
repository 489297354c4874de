"""Comparisons with a baseline, each judged in both orders: win rates, position bias and failures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from preflab.evals.judges.cases import Case, PairProtocol
from preflab.evals.judges.completions import Reply, Unanswered
from preflab.evals.judges.length_adjusted import LengthAdjusted, length_adjusted_rate
from preflab.evals.judges.verdicts import Failure, Verdict
from preflab.stats.intervals import Interval, crossed_interval, mean_interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both orders said about one case.

    Args:
        case: who was compared.
        first: preference for the contender when shown first, in [0, 1], or why there is none.
        second: the same when shown second.
        score: both together, or None where one of them failed: half a comparison would carry the position bias.
    """

    case: Case
    first: Verdict | Failure
    second: Verdict | Failure
    score: float | None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Kinds of the failures, none to two."""
        return tuple(each for each in (self.first, self.second) if not isinstance(each, Verdict))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a contender did against the baseline.

    Args:
        contender: model or control.
        n: comparisons wanted.
        n_judged: comparisons with two readable verdicts; everything below is over these.
        failures: failed calls by kind.
        win_rate: mean score with its interval over items; None where nothing was judged.
        wins: comparisons with a score above 0.5; those at 0.5 are ties.
        ties: comparisons with a score of 0.5.
        losses: comparisons with a score below 0.5.
        length_adjusted: the win rate at equal lengths.
        first_rate: preference for whatever is shown first: 0.5 for a judge without position bias.
        consistent: share of comparisons in which both orders prefer the same side, or both neither.
        mean_length: characters of the contender's answers.
        baseline_length: characters of the baseline's answers to the same items.
    """

    contender: str
    n: int
    n_judged: int
    failures: Mapping[str, int]
    win_rate: Interval | None = None
    wins: int = 0
    ties: int = 0
    losses: int = 0
    length_adjusted: LengthAdjusted | None = None
    first_rate: Interval | None = None
    consistent: Interval | None = None
    mean_length: float | None = None
    baseline_length: float | None = None


def compare(protocol: PairProtocol, cases: Sequence[Case], replies: Sequence[Reply | Unanswered]) -> list[Comparison]:
    """Read the replies to the cases' requests, two per case, in order."""
    found = []
    for case, first, second in zip(cases, replies[::2], replies[1::2], strict=True):
        ours, theirs = protocol.read(first), protocol.read(second)
        turned = Verdict(1 - theirs.value, theirs.weight) if isinstance(theirs, Verdict) else theirs
        score = protocol.combine(ours, turned) if isinstance(ours, Verdict) and isinstance(turned, Verdict) else None
        found.append(Comparison(case, ours, turned, score))
    return found


def standing(contender: str, comparisons: Sequence[Comparison]) -> Standing:
    """Summarise one contender's comparisons; turns of one item are one cluster."""
    judged = [each for each in comparisons if each.score is not None]
    failures = Counter[str](kind for each in comparisons for kind in each.failures)
    if not judged:
        return Standing(contender, len(comparisons), 0, failures)
    scores = np.array([each.score for each in judged], dtype=np.float64)
    items = [each.case.item.id for each in judged]
    lengths = np.array([(len(each.case.answer), len(each.case.opponent or "")) for each in judged])
    sides = np.array([[v.value for v in (each.first, each.second) if isinstance(v, Verdict)] for each in judged])
    return Standing(
        contender,
        len(comparisons),
        len(judged),
        failures,
        win_rate=rate_interval(scores, items),
        wins=int((scores > 0.5).sum()),
        ties=int((scores == 0.5).sum()),
        losses=int((scores < 0.5).sum()),
        length_adjusted=length_adjusted_rate(scores, lengths[:, 0], lengths[:, 1], clusters=items),
        first_rate=rate_interval((sides[:, 0] + 1 - sides[:, 1]) / 2, items),
        consistent=rate_interval(np.sign(sides[:, 0] - 0.5) == np.sign(sides[:, 1] - 0.5), items),
        mean_length=float(lengths[:, 0].mean()),
        baseline_length=float(lengths[:, 1].mean()),
    )


def pooled(contender: str, comparisons: Sequence[Sequence[Comparison]]) -> Standing:
    """Summarise a method that was trained with several seeds, over the items whose comparison every seed has.

    The interval of the win rate treats items and seeds as random (`crossed_interval`), the others items alone.

    Args:
        contender: the method.
        comparisons: those of each seed, turns one by one.
    """
    scored = [{(c.case.item.id, c.case.turn): c for c in own if c.score is not None} for own in comparisons]
    shared = [place for place in scored[0] if all(place in own for own in scored)]
    everything = [each for own in comparisons for each in own]
    found = standing(contender, [own[place] for own in scored for place in shared])
    failures = Counter[str](kind for each in everything for kind in each.failures)
    found = replace(found, n=len(everything), failures=failures)
    if not shared or len(scored) == 1:
        return found
    scores = np.array([[own[place].score for place in shared] for own in scored], dtype=np.float64)
    crossed = crossed_interval(scores, clusters=[item for item, _ in shared])
    if crossed.n < 2 or np.ptp(scores) == 0:
        return found
    return replace(found, win_rate=replace(crossed, low=max(crossed.low, 0.0), high=min(crossed.high, 1.0)))


def rate_interval(values: object, items: Sequence[str]) -> Interval:
    """Return the mean of values in [0, 1] with an interval over items, cut to [0, 1].

    Wilson's for wins, losses and ties of single items, and where there is no spread to estimate another one from;
    Student's, with items as clusters, for preferences in between and for items with several turns.
    """
    x = np.asarray(values, dtype=np.float64)
    interval = mean_interval(x, clusters=items)
    if np.ptp(x) == 0 or interval.n < 2 or (interval.n == len(x) and np.isin(x, (0.0, 0.5, 1.0)).all()):
        return wilson_interval(float(x.mean()) * interval.n, interval.n)
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))
