"""Log-probs of answers to choose from: a question and its n options are one prompt with n responses.

Questions behind the same worked examples share those too: the examples are then the prompt, and each option is a
response behind its own copy of the question. One forward reads 2,000 tokens of examples for dozens of questions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.scoring.logps import score, shares_prompts

Ids = NDArray[np.int64]

_WORTH = 64
"""Tokens that questions must have in common before each option gets a copy of its question."""


class Choice(NamedTuple):
    """A question with its options: `prompt`, int64 `[tokens]`, and `options`, int64 `[tokens]` each, at least 1."""

    prompt: Ids
    options: tuple[Ids, ...]


def option_logps(
    model: PreTrainedModel,
    choices: Sequence[Choice],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NDArray[np.float64]]:
    """Return the log-prob of every option of every question, float64 `[option]` each, nats.

    Args:
        model: the model.
        choices: questions.
        budget: flat tokens per forward.
        progress: called with the part that is done and all of it.
    """
    rows: list[TokenRow] = []
    places: list[list[tuple[int, int]]] = []
    for group in _groups(choices) if shares_prompts(model) else [(0, [i]) for i in range(len(choices))]:
        made, of = _rows(choices, *group, budget=budget, first=len(rows))
        rows += made
        places += of
    roles = [str(k) for k in range(max((len(row.responses) for row in rows), default=0))]
    found = score(model, rows, roles, budget=budget, progress=progress)
    sums: list[NDArray[np.float64]] = [np.zeros(len(choice.options)) for choice in choices]
    for row, each in enumerate(places):
        for role, (question, option) in enumerate(each):
            values = found[str(role)][row]
            assert values is not None
            # Of a response that begins with its question, the option is the end.
            sums[question][option] = values[-len(choices[question].options[option]) :].sum(dtype=np.float64)
    return sums


def _groups(choices: Sequence[Choice]) -> list[tuple[int, list[int]]]:
    """Return questions that begin alike with the length of what they share; 0 where a question stands alone."""
    order = sorted(range(len(choices)), key=lambda i: choices[i].prompt.tolist())
    groups: list[tuple[int, list[int]]] = []
    for i in order:
        prompt = choices[i].prompt
        if groups:
            shared, members = groups[-1]
            first = choices[members[0]].prompt
            common = _common(first[: shared or len(first)], prompt)
            if common >= _WORTH and 2 * common >= len(prompt):
                groups[-1] = (common, [*members, i])
                continue
        groups.append((0, [i]))
    return groups


def _common(first: Ids, second: Ids) -> int:
    n = min(len(first), len(second))
    differ = np.flatnonzero(first[:n] != second[:n])
    return int(differ[0]) if len(differ) else n


def _rows(
    choices: Sequence[Choice], shared: int, members: Sequence[int], *, budget: int, first: int
) -> tuple[list[TokenRow], list[list[tuple[int, int]]]]:
    """Return rows of a group, and which option of which question each response is."""
    if len(members) == 1:
        (i,) = members
        options = choices[i].options
        row = TokenRow(first, choices[i].prompt, {str(k): option for k, option in enumerate(options)})
        return [row], [[(i, k) for k in range(len(options))]]
    prefix = choices[members[0]].prompt[:shared]
    room = max(budget - shared, shared)
    rows: list[list[Ids]] = [[]]
    places: list[list[tuple[int, int]]] = [[]]
    used = 0
    for i in members:
        responses = [np.concatenate([choices[i].prompt[shared:], option]) for option in choices[i].options]
        size = sum(map(len, responses))
        if used and used + size > room:
            rows.append([])
            places.append([])
            used = 0
        rows[-1] += responses
        places[-1] += [(i, k) for k in range(len(responses))]
        used += size
    made = [
        TokenRow(first + n, prefix, {str(k): response for k, response in enumerate(row)}) for n, row in enumerate(rows)
    ]
    return made, places
