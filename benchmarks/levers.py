"""Each lever of the engine, and how to do without it: for the ablation alone, never for a headline."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final
from unittest import mock

from preflab.data.examples import TokenRow
from preflab.scoring import flat, logps
from preflab.scoring.flat import FlatBatch, ResponseKey
from preflab.train import lockstep

Switch = Callable[[], contextlib.AbstractContextManager[Any]]


def _own_prompt_each() -> contextlib.AbstractContextManager[Any]:
    """Flat rows without padding, but every response brings a copy of its prompt."""
    together = flat.flatten

    def apart(rows: Sequence[TokenRow], roles: Sequence[str], *device: Any) -> FlatBatch:
        lone = [
            (number, TokenRow(row.row, row.prompt, {role: row.responses[role]}, row.scores))
            for number, row in enumerate(rows)
            for role in roles
            if role in row.responses
        ]
        batch = together([row for _, row in lone], roles, *device)
        return replace(batch, responses=tuple(ResponseKey(lone[key.row][0], key.role) for key in batch.responses))

    def apart_tokens(row: TokenRow, roles: Sequence[str]) -> int:
        return sum(len(row.prompt) + len(row.responses[role]) for role in roles if role in row.responses)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(lockstep, "flatten", apart))
    stack.enter_context(mock.patch.object(lockstep, "n_tokens", apart_tokens))
    stack.enter_context(mock.patch.object(logps, "flatten", apart))
    return stack


def _padded_rows() -> contextlib.AbstractContextManager[Any]:
    """One padded row per response through the model's own attention, as for models that cannot share prompts."""
    return mock.patch.object(logps, "shares_prompts", lambda model: False)


def _generic_head() -> contextlib.AbstractContextManager[Any]:
    """Cross-entropy through autograd, chunk by chunk, logits computed again in the backward pass."""
    return mock.patch.object(logps, "is_plain", lambda model: False)


OFF: Final[dict[str, Switch]] = {
    "shared_prompts": _own_prompt_each,
    "flat_rows": _padded_rows,
    "plain_head": _generic_head,
}
"""Lever to a context in which it is off."""
WITHOUT: Final[dict[str, dict[str, Any]]] = {
    "with a prompt for each response": {"off": ["shared_prompts"]},
    "on padded rows": {"off": ["flat_rows"]},
    "with the head left to autograd": {"off": ["plain_head"]},
    "in micro-batches of 512 tokens": {"token_budget": 512},
}
"""Change of the ablation to the options of preflab's arm that make it."""


@contextlib.contextmanager
def switched_off(names: Sequence[str]) -> Iterator[None]:
    """Do without these levers inside the block."""
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(OFF[name]())
        yield
