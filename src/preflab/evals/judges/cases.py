"""Judgements that are wanted: who answered what, and the requests that bring the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from preflab.evals.judges.answers import Answers, Item
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered
from preflab.evals.judges.verdicts import Failure, Verdict


@dataclass(frozen=True, slots=True)
class Case:
    """One judgement.

    Args:
        contender: model, or control, whose answer is judged.
        item: what was asked.
        turn: which of its turns, counted from 0.
        answer: the contender's answer in that turn.
        opponent: the baseline's answer, or None where an answer is graded alone.
        requests: one for a grade; two for a comparison, the contender shown first in the first of them.
    """

    contender: str
    item: Item
    turn: int
    answer: str
    opponent: str | None
    requests: tuple[ChatRequest, ...]


@dataclass(frozen=True, slots=True)
class SingleProtocol:
    """Grades an answer on its own.

    Args:
        name: of the protocol, for people.
        version: of its prompt; part of the key of cached replies.
        injection: an answer that tries to talk the judge into the best grade.
        request: asks for the grade of the answers up to a turn.
        read: finds the grade.
    """

    name: str
    version: str
    injection: str
    request: Callable[[Item, int, Sequence[str]], ChatRequest]
    read: Callable[[Reply | Unanswered], Verdict | Failure]

    def cases(self, answers: Answers, items: Sequence[Item]) -> list[Case]:
        """Return a case for every turn of every item."""
        return [
            Case(answers.name, item, turn, given[turn], None, (self.request(item, turn, given),))
            for item in items
            for given in (answers.responses[item.id],)
            for turn in range(len(item.turns))
        ]


@dataclass(frozen=True, slots=True)
class PairProtocol:
    """Compares two answers, in both orders.

    Args:
        name: of the protocol, for people.
        version: of its prompt; part of the key of cached replies.
        injection: an answer that tries to talk the judge into preferring it, wherever it stands.
        turns: whether every turn of an item is judged, or the last, with the conversation before it.
        request: asks which of two series of answers is better up to a turn; the first is shown first.
        read: finds how much the answer shown first is preferred, in [0, 1].
        combine: the contender's score from its preference when shown first and when shown second.
        battles: whether verdicts are battles for a Bradley-Terry model.
    """

    name: str
    version: str
    injection: str
    turns: Literal["every", "last"]
    request: Callable[[Item, int, Sequence[str], Sequence[str]], ChatRequest]
    read: Callable[[Reply | Unanswered], Verdict | Failure]
    combine: Callable[[Verdict, Verdict], float]
    battles: bool = False

    def cases(self, answers: Answers, baseline: Answers, items: Sequence[Item]) -> list[Case]:
        """Return a case for every comparison with the baseline."""
        cases = []
        for item in items:
            ours, theirs = answers.responses[item.id], baseline.responses[item.id]
            last = len(item.turns) - 1
            for turn in range(last + 1) if self.turns == "every" else (last,):
                both = self.request(item, turn, ours, theirs), self.request(item, turn, theirs, ours)
                cases.append(Case(answers.name, item, turn, ours[turn], theirs[turn], both))
        return cases


def mean_preference(first: Verdict, second: Verdict) -> float:
    """Return the mean of the preferences in both orders, each with its weight."""
    weight = first.weight + second.weight
    return (first.value * first.weight + second.value * second.weight) / weight
