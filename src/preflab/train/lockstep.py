"""Several cells through one model at once: each says what it needs, and one forward computes it for all of them.

A run is a generator. It yields a `Forward` and gets `Scored` back; after a `Forward` whose graph is attached it yields
the slope of its loss with respect to the scored values, and the backward pass of all cells follows in one go. What a
cell computes does not depend on who else is in the forward, beyond the rounding of matrix products.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from preflab.core.errors import PreflabError
from preflab.data.examples import TokenRow
from preflab.models.policies import Policy, WithValues
from preflab.scoring.flat import FlatBatch, ResponseKey, flatten, n_tokens
from preflab.scoring.logps import TokenQuantity, head_quantities, hidden_states, layout_tokens

Result = TypeVar("Result")
Asked = TokenQuantity | Literal["value"]
"""What a cell can ask for at a completion token: a quantity of the model's head, or what its own value head says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What a cell asks for.

    Args:
        rows: the rows to compute.
        roles: their responses.
        quantities: what is wanted at every completion token; `value` comes last.
        attached: whether a slope follows, so that the graph must be kept.
        reference: the frozen model of the quantity `divergence`.
    """

    rows: Sequence[TokenRow]
    roles: Sequence[str]
    quantities: Sequence[Asked] = ("policy",)
    attached: bool = False
    reference: PreTrainedModel | None = None


class Scored(NamedTuple):
    """What a cell gets."""

    values: Tensor
    """Its quantities at every completion token, without graph, `[quantity, C]`, nats."""
    keys: tuple[ResponseKey, ...]
    """Row (counted in the request) and role of each response."""
    length: Tensor
    """Completion tokens of each response, float32 `[R]`."""
    n_tokens: int
    """Flat tokens."""


Run = Generator[Forward | Tensor, Scored | None, Result]


def drive(policy: Policy, runs: Mapping[int, Run[Result]]) -> dict[int, Result | PreflabError]:
    """Run the generators of several cells to their ends, side by side; return what each returned, or its error.

    Args:
        policy: the weights; a cell's gradients are added to its parameters.
        runs: cell to its run.
    """
    ended: dict[int, Result | PreflabError] = {}

    def resume(cell: int, value: Scored | None) -> Forward | Tensor | None:
        try:
            return runs[cell].send(value)
        except StopIteration as end:
            ended[cell] = end.value
        except PreflabError as error:
            ended[cell] = error
        return None

    def resume_all(values: Mapping[int, Scored | None]) -> dict[int, Forward | Tensor]:
        found = {cell: resume(cell, value) for cell, value in values.items()}
        return {cell: item for cell, item in found.items() if item is not None}

    waiting = resume_all(dict.fromkeys(sorted(runs)))
    while waiting:
        asked = {cell: item for cell, item in waiting.items() if isinstance(item, Forward)}
        detached = {cell: ask for cell, ask in asked.items() if not ask.attached}
        attached = {cell: ask for cell, ask in asked.items() if ask.attached}
        waiting = {}
        if detached:
            with torch.no_grad():
                _, scored = _forward(policy, detached)
            waiting |= resume_all(scored)
        if attached:
            graph, scored = _forward(policy, attached)
            slopes = {cell: slope for cell, slope in resume_all(scored).items() if isinstance(slope, Tensor)}
            if slopes:
                torch.autograd.backward([graph[cell] for cell in slopes], list(slopes.values()))
            waiting |= resume_all(dict.fromkeys(slopes))
    return ended


class _Share(NamedTuple):
    """What of a joint batch belongs to a cell."""

    responses: slice
    completion: slice
    n_tokens: int
    keys: tuple[ResponseKey, ...]


def _forward(policy: Policy, asked: Mapping[int, Forward]) -> tuple[dict[int, Tensor], dict[int, Scored]]:
    """Compute what several cells ask for in one forward; return the values with their graph, and what the cells get."""
    model = policy.model
    rows = [_trimmed(row, ask.roles) for ask in asked.values() for row in ask.rows]
    roles = list(dict.fromkeys(role for ask in asked.values() for role in ask.roles))
    batch = flatten(rows, roles, next(model.parameters()).device)
    shares = dict(zip(asked, _shares(batch, rows, [len(ask.rows) for ask in asked.values()]), strict=True))
    layout = {cell: layout_tokens(model, batch, share.responses, share.n_tokens) for cell, share in shares.items()}
    with policy.rows(layout):
        hidden_CH = hidden_states(model, batch)
    graph, scored = {}, {}
    for cell, values in _values(policy, asked, shares, batch, hidden_CH).items():
        share = shares[cell]
        graph[cell] = values
        scored[cell] = Scored(values.detach(), share.keys, batch.length[share.responses], share.n_tokens)
    return graph, scored


def _values(
    policy: Policy, asked: Mapping[int, Forward], shares: Mapping[int, _Share], batch: FlatBatch, hidden_CH: Tensor
) -> dict[int, Tensor]:
    """Return each cell's quantities, `[quantity, C]`; one pass through the head where all ask for the same."""
    of_head = {cell: tuple(q for q in ask.quantities if q != "value") for cell, ask in asked.items()}
    alike = all(ask.reference is None and len(ask.quantities) == len(of_head[cell]) for cell, ask in asked.items())
    if alike and len(set(of_head.values())) == 1:
        whole = head_quantities(policy.model, hidden_CH, batch.target_C, next(iter(of_head.values())))
        return {cell: whole[:, share.completion] for cell, share in shares.items()}
    found = {}
    for cell, ask in asked.items():
        other_CH = None
        if ask.reference is not None:
            own = flatten([_trimmed(row, ask.roles) for row in ask.rows], ask.roles, batch.input_ids.device)
            with torch.no_grad(), policy.rows({}):
                other_CH = hidden_states(ask.reference, own)
        part = shares[cell].completion
        found[cell] = head_quantities(
            policy.model, hidden_CH[part], batch.target_C[part], of_head[cell], ask.reference, other_CH
        )
        if "value" in ask.quantities:
            assert isinstance(policy, WithValues)
            values = policy.values(cell, hidden_CH[part])
            found[cell] = torch.cat([found[cell], values.to(found[cell].dtype)[None]])
    return found


def _shares(batch: FlatBatch, rows: Sequence[TokenRow], counts: Sequence[int]) -> Iterator[_Share]:
    """Yield each cell's share of a joint batch of `counts` rows each."""
    n_response, n_completion, n_row = 0, 0, 0
    for count in counts:
        own = rows[n_row : n_row + count]
        keys = [key for key in batch.responses[n_response:] if key.row < n_row + count]
        completion = sum(len(ids) for row in own for ids in row.responses.values())
        yield _Share(
            responses=slice(n_response, n_response + len(keys)),
            completion=slice(n_completion, n_completion + completion),
            n_tokens=sum(n_tokens(row, list(row.responses)) for row in own if row.responses),
            keys=tuple(ResponseKey(key.row - n_row, key.role) for key in keys),
        )
        n_response, n_completion, n_row = n_response + len(keys), n_completion + completion, n_row + count


def _trimmed(row: TokenRow, roles: Sequence[str]) -> TokenRow:
    """Return the row with the responses of these roles alone."""
    return replace(row, responses={role: row.responses[role] for role in roles if role in row.responses})
