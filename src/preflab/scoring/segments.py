"""Who attends to whom in a flat row, in the two forms that attention kernels take.

A segment is a run of tokens that attend to one list of keys: the prompt with its first response, and every further
response, which attends to the prompt and to itself. The last query of a segment is also its last key.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CALL_AREA = 2048
"""Query-key pairs whose attention is taken to cost as much as one more call of the kernel. A call of one short segment,
forward and backward, took 46 to 107 us on a CPU, as long as 400 to 3,100 pairs (9 heads of 64, 4 heads of 32, one and
two threads). It decides what is padded together, never a result."""


class Span(NamedTuple):
    """Where a response and its prompt lie in the flat row, in tokens."""

    prompt: int
    n_prompt: int
    start: int
    n: int


class Segment(NamedTuple):
    """Queries that share a list of keys, as flat indices."""

    queries: NDArray[np.int64]
    keys: NDArray[np.int64]


class Block(NamedTuple):
    """Segments that one call of a dense kernel attends to, padded on the right to the longest of them."""

    rows: int
    n_queries: int
    n_keys: int
    mask: Tensor | None
    """Which keys a query sees, bool `[row, 1, query, key]`; None where that is plain causal attention."""


@dataclass(frozen=True, slots=True)
class Folded:
    """Segments as padded blocks: indices over all blocks, one after another.

    Args:
        blocks: their shapes and masks.
        queries: flat index of each padded query, int64.
        keys: flat index of each padded key, int64.
        back: place of each flat token among the padded queries, int64 `[T]`.
    """

    blocks: tuple[Block, ...]
    queries: Tensor
    keys: Tensor
    back: Tensor


@dataclass(frozen=True, slots=True)
class Ragged:
    """Segments as variable-length attention takes them; queries are the flat tokens in their order.

    Args:
        keys: flat index of each key, int64 `[K]`.
        query_ends: cumulative queries, int32 `[segment + 1]`.
        key_ends: cumulative keys, int32 `[segment + 1]`.
        most_queries: longest segment in queries.
        most_keys: longest segment in keys.
    """

    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int


@dataclass(slots=True)
class Segments:
    """The segments of a flat batch.

    Args:
        spans: every response of the batch, in the order of the flat row; those of one prompt follow each other.
        n_calls: how many attention layers have asked.
    """

    spans: Sequence[Span]
    n_calls: int = 0
    _folded: dict[int | None, Folded] = field(default_factory=dict)
    _ragged: Ragged | None = None

    def folded(self, window: int | None, device: torch.device) -> Folded:
        """Return the segments as padded blocks.

        Args:
            window: sliding window in positions (a token sees the `window` latest positions, itself included), or None.
            device: where the tensors go.
        """
        longest = max(span.n_prompt + span.n for span in self.spans)
        window = None if window is None or window >= longest else window
        if window not in self._folded:
            self._folded[window] = _fold(list(self), window, device)
        return self._folded[window]

    def ragged(self, device: torch.device) -> Ragged:
        """Return the segments for a kernel of variable lengths."""
        if self._ragged is None:
            segments = list(self)
            n_queries, n_keys = [len(s.queries) for s in segments], [len(s.keys) for s in segments]
            self._ragged = Ragged(
                keys=torch.from_numpy(np.concatenate([s.keys for s in segments])).to(device),
                query_ends=torch.tensor([0, *np.cumsum(n_queries)], dtype=torch.int32, device=device),
                key_ends=torch.tensor([0, *np.cumsum(n_keys)], dtype=torch.int32, device=device),
                most_queries=max(n_queries),
                most_keys=max(n_keys),
            )
        return self._ragged

    def __iter__(self) -> Iterator[Segment]:
        """Yield the segments; their queries, one after another, are the flat tokens in their order."""
        previous = -1
        for span in self.spans:
            prompt = np.arange(span.prompt, span.prompt + span.n_prompt)
            response = np.arange(span.start, span.start + span.n)
            keys = np.concatenate([prompt, response])
            yield Segment(keys if span.prompt != previous else response, keys)
            previous = span.prompt


def _fold(segments: Sequence[Segment], window: int | None, device: torch.device) -> Folded:
    groups = _group(segments)
    blocks, queries, keys = [], [], []
    back = np.empty(sum(len(s.queries) for s in segments), dtype=np.int64)
    filled = 0
    for group in groups:
        n_queries, n_keys = max(len(s.queries) for s in group), max(len(s.keys) for s in group)
        causal = window is None and all(len(s.queries) == len(s.keys) for s in group)
        mask = None if causal else torch.from_numpy(_mask(group, n_queries, n_keys, window)).to(device)
        blocks.append(Block(len(group), n_queries, n_keys, mask))
        for segment in group:
            # Padding repeats a token of the same row: what is not finite in one row must not reach another.
            queries.append(np.pad(segment.queries, (0, n_queries - len(segment.queries)), mode="edge"))
            keys.append(np.pad(segment.keys, (0, n_keys - len(segment.keys)), mode="edge"))
            back[segment.queries] = filled + np.arange(len(segment.queries))
            filled += n_queries

    def tensor(values: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(values).to(device)

    return Folded(tuple(blocks), tensor(np.concatenate(queries)), tensor(np.concatenate(keys)), tensor(back))


def _group(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Put segments of similar size into one block, as long as the padding costs less than the calls it saves.

    Segments whose attention is plain causal stay apart from the others: theirs needs no mask.
    """
    groups: list[list[Segment]] = []
    wasted = 0
    for segment in sorted(segments, key=lambda s: (len(s.queries) != len(s.keys), -len(s.keys), -len(s.queries))):
        if groups:
            first = groups[-1][0]
            n_queries = max(len(first.queries), len(segment.queries))
            alike = (len(first.queries) == len(first.keys)) == (len(segment.queries) == len(segment.keys))
            area = n_queries * len(first.keys) - len(segment.queries) * len(segment.keys)
            if alike and n_queries == len(first.queries) and wasted + area <= _CALL_AREA * len(groups[-1]):
                groups[-1].append(segment)
                wasted += area
                continue
        groups.append([segment])
        wasted = 0
    return groups


def _mask(group: Sequence[Segment], n_queries: int, n_keys: int, window: int | None) -> NDArray[np.bool_]:
    """Return which keys each query of a block sees, bool `[segment, 1, query, key]`.

    Keys are in order of position, so a query sees the keys up to its own.
    """
    query, key = np.arange(n_queries)[:, None], np.arange(n_keys)[None, :]
    masks = []
    for segment in group:
        ahead = key - (query + len(segment.keys) - len(segment.queries))
        sees = (ahead <= 0) & (key < len(segment.keys))
        if window is not None:
            sees &= ahead > -window
        # A padding query sees the first key: a row of the softmax without any key would be NaN.
        sees |= (key == 0) & (query >= len(segment.queries))
        masks.append(sees)
    return np.stack(masks)[:, None]
