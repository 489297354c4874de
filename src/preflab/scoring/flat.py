"""Flat rows: `[prompt | response | response | ...]` for every prompt, concatenated without padding.

A response sees its prompt and itself, never another response, so one forward gives what separate rows would give
(positions of every response restart where the prompt ends). Linear layers see no padding; attention pads rows inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from preflab.data.examples import TokenRow

PROMPT = 0
"""Segment number of prompt tokens; responses are numbered from 1 within their row, padding is -1."""


@dataclass(slots=True)
class Layout:
    """How the flat tokens fold into padded rows for attention.

    Args:
        gather_NL: flat index of each padded position, int64 `[row, longest]`; padding repeats index 0.
        scatter_T: padded index (row * longest + column) of each flat token, int64 `[T]`.
        segment_NL: segment of each padded position, int64 `[row, longest]`.
        position_NL: position id of each padded position, int64 `[row, longest]`.
        n_calls: how many attention layers have used the layout.
    """

    gather_NL: Tensor
    scatter_T: Tensor
    segment_NL: Tensor
    position_NL: Tensor
    n_calls: int = 0
    _masks: dict[int | None, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor:
        """Return which keys a query sees, bool `[row, 1, longest, longest]`.

        Args:
            window: sliding window in positions (a token sees the `window` latest positions, itself included), or None.
        """
        if window not in self._masks:
            query, key = self.segment_NL[:, :, None], self.segment_NL[:, None, :]
            n = self.segment_NL.shape[1]
            column = torch.arange(n, device=query.device)
            sees = ((key == PROMPT) | (key == query)) & (key >= 0) & (column[:, None] >= column[None, :])
            if window is not None:
                sees &= self.position_NL[:, :, None] - self.position_NL[:, None, :] < window
            # A padding query sees itself: a row of the softmax without any key would be NaN.
            sees |= torch.eye(n, dtype=torch.bool, device=query.device)
            self._masks[window] = sees[:, None]
        return self._masks[window]


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
        layout: how attention folds the tokens.
        predictor_C: flat index of the hidden state that predicts each completion token, int64 `[C]`.
        target_C: the completion tokens, int64 `[C]`.
        response_C: which response a completion token belongs to, int64 `[C]`, an index into `responses`.
        responses: row in the batch and role of each response.
        length: completion tokens of each response, float32 `[R]`.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: Layout
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
    for number, row in enumerate(rows):
        present = [role for role in roles if role in row.responses]
        if present:
            keys.extend(ResponseKey(number, role) for role in present)
            parts.append(_lay(row, present, start=sum(len(part.ids) for part in parts)))
    if not keys:
        raise ValueError(f"no row of the batch has any of the roles {list(roles)}")
    targets = [rows[key.row].responses[key.role] for key in keys]
    lengths = np.array([len(t) for t in targets])

    def tensor(arrays: Sequence[NDArray[np.int64]]) -> Tensor:
        return torch.from_numpy(np.concatenate(arrays).astype(np.int64)).to(device)

    position_T, segment_T = tensor([part.positions for part in parts]), tensor([part.segments for part in parts])
    return FlatBatch(
        input_ids=tensor([part.ids for part in parts])[None],
        position_ids=position_T[None],
        layout=_fold([len(part.ids) for part in parts], segment_T, position_T),
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
    segments: NDArray[np.int64]
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
        segments=np.repeat([PROMPT, *range(1, len(responses) + 1)], [n_prompt, *lengths]),
        # The last prompt token predicts the first token of every response.
        predictors=np.concatenate(
            [[start + n_prompt - 1, *range(o, o + n - 1)] for o, n in zip(offsets, lengths, strict=True)]
        ),
    )


def _fold(row_lengths: Sequence[int], segment_T: Tensor, position_T: Tensor) -> Layout:
    """Return the layout of consecutive rows of these lengths."""
    lengths = np.asarray(row_lengths)
    longest = int(lengths.max())
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    column = np.arange(longest)
    real = column[None, :] < lengths[:, None]
    gather = np.where(real, starts[:, None] + column[None, :], 0)
    scatter = np.flatnonzero(real.ravel())
    device = segment_T.device
    gather_NL = torch.from_numpy(gather.astype(np.int64)).to(device)
    real_NL = torch.from_numpy(real).to(device)
    return Layout(
        gather_NL=gather_NL,
        scatter_T=torch.from_numpy(scatter.astype(np.int64)).to(device),
        segment_NL=torch.where(real_NL, segment_T[gather_NL], -1),
        position_NL=position_T[gather_NL],
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
    layout, rows = batch.layout, []
    n_row, branch, previous = -1, 0, -1
    for key in batch.responses:
        n_row, branch = (n_row, branch + 1) if key.row == previous else (n_row + 1, 1)
        previous = key.row
        segment = layout.segment_NL[n_row]
        rows.append(batch.input_ids[0, layout.gather_NL[n_row, (segment == PROMPT) | (segment == branch)]])
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
