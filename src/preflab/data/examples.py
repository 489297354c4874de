"""The one form that every data format is read into."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["paired", "unpaired", "sft", "prompts"]
"""What rows are; `prompts` are questions that are still to be answered, or any rows read for their prompts."""


RANKED: Final = ("chosen", *(f"rank_{k}" for k in range(2, 32)), "rejected")
"""Roles of a ranked list, best first; a list of n responses has the first n - 1 and the last."""


class Message(NamedTuple):
    """One turn of a conversation."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text that is continued as it stands, or a conversation that the chat template renders."""


SAMPLED: Final = tuple(f"sample_{k}" for k in range(1, 65))
"""Roles of the answers that a policy sampled to a prompt during training."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row: a prompt with a better response, a worse one, or both.

    Args:
        row: position in the source file, counted from 1 (the line of a JSONL file).
        prompt: text or messages.
        chosen: the better (desirable, demonstrated) response; None in an undesirable unpaired row.
        rejected: the worse (undesirable) response; None in SFT rows and desirable unpaired rows.
        family: task family for stratified tables, where the data names one (column `family`).
        meta: what else the row carries for a verifier (column `meta`), JSON-like.
        others: further responses by role: `gold` (column `gold`), or `rank_2`, `rank_3`, ... of a ranked list, whose
            best response is `chosen` and whose worst is `rejected`.
        scores: role to the score of its response, where the data give them.
    """

    row: int
    prompt: Prompt
    chosen: str | None
    rejected: str | None
    family: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def responses(self) -> dict[str, str]:
        """Role to text of every response there is."""
        sides = {"chosen": self.chosen, "rejected": self.rejected, **self.others}
        return {role: text for role, text in sides.items() if text is not None}


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One example as tokens: the prompt once, each response exactly as it follows the prompt.

    Args:
        row: the example's `row`.
        prompt: int64 `[prompt_tokens]`, at least 1.
        responses: role (`chosen`, `rejected`, `mismatched`, and those of `Example.others`) to int64 `[tokens]`, at
            least 1, ending in exactly one end-of-sequence token unless truncated.
        scores: role to the score that the data give its response.
    """

    row: int
    prompt: NDArray[np.int64]
    responses: Mapping[str, NDArray[np.int64]]
    scores: Mapping[str, float] = field(default_factory=dict)
