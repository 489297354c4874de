"""What a benchmark asks: rows of its files, and the questions they become."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from preflab.core.ids import content_id

_ID_DIGITS = 16


@dataclass(frozen=True)
class Row:
    """A row of a benchmark file.

    Args:
        number: line in its file, counted from 1.
        values: what the line holds.
    """

    number: int
    values: Mapping[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """What names the row whatever file it lies in: the first 16 hexadecimal digits of its content's SHA-256."""
        return content_id(dict(self.values))[:_ID_DIGITS]


class Option(NamedTuple):
    """An answer to choose, as `continuation` of `context`; `text` is the answer itself, whose length normalises."""

    context: str
    continuation: str
    text: str


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A question with its options, of which the likeliest is the model's choice.

    Args:
        row: where it is from.
        cluster: what it shares with other items (a subject, a passage), or nothing.
        options: in the row's order.
        correct: places of the right ones.
    """

    row: Row
    cluster: str
    options: tuple[Option, ...]
    correct: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """A question that is answered in writing.

    Args:
        row: where it is from.
        cluster: what it shares with other items, or nothing.
        turns: worked examples as (question, answer), oldest first.
        question: what is asked.
        lead: text that opens the prompt.
    """

    row: Row
    cluster: str
    question: str
    turns: Sequence[tuple[str, str]] = ()
    lead: str = ""

    @property
    def plain(self) -> str:
        """The prompt without a chat template: lead, worked examples and question, blank lines between."""
        shots = "".join(f"{question}{answer}\n\n" for question, answer in self.turns)
        return f"{self.lead}{shots}{self.question}"
