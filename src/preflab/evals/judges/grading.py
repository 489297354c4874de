"""Answers graded alone: mean grades by turn and category, with failures counted beside them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preflab.evals.judges.cases import Case, SingleProtocol
from preflab.evals.judges.completions import Reply, Unanswered
from preflab.evals.judges.verdicts import Failure, Verdict
from preflab.stats.intervals import Interval, mean_interval


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one answer, or why there is none."""

    case: Case
    verdict: Verdict | Failure

    @property
    def value(self) -> float | None:
        """The grade, 1 to 10, or None."""
        return self.verdict.value if isinstance(self.verdict, Verdict) else None


@dataclass(frozen=True, slots=True)
class Report:
    """How a contender was graded.

    Args:
        contender: model or control.
        n: answers to grade.
        n_judged: answers with a readable grade.
        failures: failed calls by kind.
        score: mean over the items whose every turn has a grade, each the mean of its turns; None where there is none.
        turns: mean grade of each turn, over the answers with a grade.
        categories: mean score of each category, over the same items as `score`.
        mean_length: characters of the graded answers.
    """

    contender: str
    n: int
    n_judged: int
    failures: Mapping[str, int]
    score: Interval | None
    turns: tuple[Interval | None, ...]
    categories: Mapping[str, Interval]
    mean_length: float | None


def grade(protocol: SingleProtocol, cases: Sequence[Case], replies: Sequence[Reply | Unanswered]) -> list[Grade]:
    """Read the replies to the cases' requests, in order."""
    return [Grade(case, protocol.read(reply)) for case, reply in zip(cases, replies, strict=True)]


def report(contender: str, grades: Sequence[Grade]) -> Report:
    """Summarise one contender's grades.

    Second turns get lower grades, so an item with a failed turn would shift the mean: it leaves the score altogether.
    """
    judged = [each for each in grades if each.value is not None]
    by_item: dict[str, list[Grade]] = defaultdict(list)
    for each in grades:
        by_item[each.case.item.id].append(each)
    whole: list[tuple[str, float]] = []
    for turns in by_item.values():
        values = [each.value for each in turns if each.value is not None]
        if len(values) == len(turns):
            whole.append((turns[0].case.item.category, sum(values) / len(values)))
    n_turns = max((each.case.turn for each in grades), default=-1) + 1
    categories = sorted({category for category, _ in whole if category})
    return Report(
        contender,
        len(grades),
        len(judged),
        dict(Counter(each.verdict for each in grades if not isinstance(each.verdict, Verdict))),
        score=_mean([value for _, value in whole]),
        turns=tuple(
            _mean([each.value for each in judged if each.case.turn == k and each.value is not None])
            for k in range(n_turns)
        ),
        categories={
            name: mean_interval([value for category, value in whole if category == name]) for name in categories
        },
        mean_length=sum(len(each.case.answer) for each in judged) / len(judged) if judged else None,
    )


def _mean(values: Sequence[float]) -> Interval | None:
    return mean_interval(values) if values else None
