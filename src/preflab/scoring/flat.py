"""Flat rows: `[prompt | response | response | ...]` for every prompt, concatenated without padding.

A response sees its prompt and itself, never another response, so one forward gives what separate rows would give
(positions of every response restart where the prompt ends). Linear layers see no padding; attention pads rows inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from preflab.data.examples import TokenRow
from preflab.scoring.segments import Segments, Span


class ResponseKey(NamedTuple):
    """Which response of which row of the batch a log-prob belongs to."""

    row: int
    role: str


@dataclass(frozen=True, slots=True)
class FlatBatch:
    """A batch of rows as one flat sequence.

    Args:
        input_ids: int64 `[1, T]`.
        position_ids: int64 `[1, T]`.
        segments: who attends to whom.
        predictor_C: flat index of the hidden state that predicts each completion token, int64 `[C]`.
        target_C: the completion tokens, int64 `[C]`.
        response_C: which response a completion token belongs to, int64 `[C]`, an index into `responses`.
        responses: row in the batch and role of each response.
        length: completion tokens of each response, float32 `[R]`.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Segments
    predictor_C: Tensor
    target_C: Tensor
    response_C: Tensor
    responses: tuple[ResponseKey, ...]
    length: Tensor

    @property
    def n_tokens(self) -> int:
        """Tokens that linear layers see."""
        return int(self.input_ids.shape[1])


def n_tokens(row: TokenRow, roles: Sequence[str]) -> int:
    """Return how many flat tokens a row needs for these roles: its prompt once and each response."""
    return len(row.prompt) + sum(len(row.responses[role]) for role in roles if role in row.responses)


def flatten(rows: Sequence[TokenRow], roles: Sequence[str], device: str | torch.device = "cpu") -> FlatBatch:
    """Lay rows out flat.

    Args:
        rows: tokens of each row.
        roles: which responses to include; a row that lacks a role (unpaired data) contributes nothing for it.
        device: where the tensors go.

    Raises:
        ValueError: no row has any of the roles.
    """
    keys: list[ResponseKey] = []
    parts: list[_FlatRow] = []
    start = 0
    for number, row in enumerate(rows):
        present = [role for role in roles if role in row.responses]
        if present:
            keys.extend(ResponseKey(number, role) for role in present)
            parts.append(_lay(row, present, start))
            start += len(parts[-1].ids)
    if not keys:
        raise ValueError(f"no row of the batch has any of the roles {list(roles)}")
    targets = [rows[key.row].responses[key.role] for key in keys]
    lengths = np.array([len(t) for t in targets])

    def tensor(arrays: Sequence[NDArray[np.int64]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays).astype(np.int64)).to(device)

    return FlatBatch(
        input_ids=tensor([part.ids for part in parts])[None],
        position_ids=tensor([part.positions for part in parts])[None],
        segments=Segments([span for part in parts for span in part.spans]),
        predictor_C=tensor([part.predictors for part in parts]),
        target_C=tensor(targets),
        response_C=tensor([np.repeat(np.arange(len(keys)), lengths)]),
        responses=tuple(keys),
        length=torch.from_numpy(lengths.astype(np.float32)).to(device),
    )


class _FlatRow(NamedTuple):
    """One row laid out flat: arrays over its tokens, and the flat index of the predictor of each completion token."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    spans: list[Span]
    predictors: NDArray[np.int64]


def _lay(row: TokenRow, present: Sequence[str], start: int) -> _FlatRow:
    """Lay a row out from flat index `start`: its prompt once, then each response at the positions behind it."""
    n_prompt = len(row.prompt)
    responses = [row.responses[role] for role in present]
    lengths = [len(response) for response in responses]
    offsets = start + n_prompt + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return _FlatRow(
        ids=np.concatenate([row.prompt, *responses]),
        positions=np.concatenate([np.arange(n_prompt), *(np.arange(n_prompt, n_prompt + n) for n in lengths)]),
        spans=[Span(start, n_prompt, int(o), n) for o, n in zip(offsets, lengths, strict=True)],
        # The last prompt token predicts the first token of every response.
        predictors=np.concatenate(
            [[start + n_prompt - 1, *range(o, o + n - 1)] for o, n in zip(offsets, lengths, strict=True)]
        ),
    )


class SeparateRows(NamedTuple):
    """One padded row per response, prompt and response, for models that cannot share prompts."""

    input_ids: Tensor
    """int64 `[response, longest]`, padded on the right with token 0."""
    attention_mask: Tensor
    """int64 `[response, longest]`, 1 at tokens."""
    predictor_C: Tensor
    """Index into the flattened rows of the hidden state that predicts each completion token, int64 `[C]`."""


def separate_rows(batch: FlatBatch) -> SeparateRows:
    """Unfold a flat batch; completion tokens keep their order."""
    ids = batch.input_ids[0]
    rows = [
        torch.cat([ids[span.prompt : span.prompt + span.n_prompt], ids[span.start : span.start + span.n]])
        for span in batch.segments.spans
    ]
    input_ids = pad_sequence(rows, batch_first=True)
    ends = [input_ids.shape[1] * i + len(row) - 1 for i, row in enumerate(rows)]
    lengths = batch.length.long().tolist()
    return SeparateRows(
        input_ids,
        attention_mask=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        predictor_C=torch.cat(
            [torch.arange(end - n, end, device=input_ids.device) for end, n in zip(ends, lengths, strict=True)]
        ),
    )


def fill(rows: Sequence[TokenRow], roles: Sequence[str], budget: int) -> list[list[int]]:
    """Split a batch into micro-batches of at most `budget` flat tokens, longest rows together.

    Attention pads rows to the longest, so a micro-batch holds at most twice the budget in padded tokens too. Only rows
    of one optimizer batch are reordered, so which pairs share a step never changes. A row longer than the budget gets a
    micro-batch of its own.

    Returns:
        Row numbers of each micro-batch.
    """
    sizes = [n_tokens(row, roles) for row in rows]
    if not sizes:
        return []
    if sum(sizes) <= budget and len(sizes) * max(sizes) <= 2 * budget:
        return [list(range(len(rows)))]
    groups: list[list[int]] = []
    room, most = 0, 0
    for index in sorted(range(len(rows)), key=lambda i: (-sizes[i], i)):
        if not groups or sizes[index] > room or len(groups[-1]) >= most:
            groups.append([])
            room, most = budget, 2 * budget // sizes[index]
        groups[-1].append(index)
        room -= sizes[index]
    return groups
