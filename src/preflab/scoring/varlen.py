"""Attention over segments of unequal length in one kernel call, on GPUs in half precision, without any padding."""

import functools

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

from preflab.scoring.segments import Ragged, Segments, Span

_LARGEST_HEAD = 256
"""Flash attention takes heads of up to so many dimensions, in steps of eight."""


def takes_varlen(query: Tensor, key: Tensor) -> bool:
    """Return whether the kernel exists for these tensors, `[1, heads, T, head_dim]`, and aligns segments as asked."""
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16):
        return False
    head = query.shape[-1]
    return head <= _LARGEST_HEAD and head % 8 == 0 and _aligns(query.device, query.dtype, query.shape[1], key.shape[1])


def attend(
    query: Tensor, key: Tensor, value: Tensor, ragged: Ragged, *, scaling: float | None, window: int | None
) -> Tensor:
    """Attend within segments; the last query of a segment sees all of its keys.

    Args:
        query: `[T, heads, head_dim]`.
        key: `[T, key_value_heads, head_dim]`.
        value: `[T, key_value_heads, head_dim]`.
        ragged: who attends to whom.
        scaling: factor on the scores; 1/sqrt(head_dim) when None.
        window: positions a token sees, itself included; None sees all.

    Returns:
        `[T, heads, head_dim]`.
    """
    key, value = (x.index_select(0, ragged.keys) for x in (key, value))
    out = varlen_attn(
        query,
        key,
        value,
        ragged.query_ends,
        ragged.key_ends,
        ragged.most_queries,
        ragged.most_keys,
        scale=scaling,
        # The kernel counts the positions to the left of a token, without itself.
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, Tensor)
    return out


@functools.cache
def _aligns(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int) -> bool:
    """Return whether the causal mask of the kernel is aligned to the last key, as a response after its prompt needs.

    Flash attention changed this once (2.1), and backends differ; the wrong alignment would let a response see nothing
    but the beginning of its prompt, and no error would say so. With and without a window.
    """
    segments = Segments([Span(0, 3, 3, 2), Span(0, 3, 5, 4)])
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(9, n, 16, generator=generator).to(device, dtype) for n in (heads, key_heads, key_heads))
    for window in (None, 2):
        try:
            found = attend(q, k, v, segments.ragged(device), scaling=None, window=window)
        except RuntimeError:
            return False
        if float((found - _dense(q, k, v, segments, window)).abs().max()) > 0.05:
            return False
    return True


def _dense(q: Tensor, k: Tensor, v: Tensor, segments: Segments, window: int | None) -> Tensor:
    """Attend in one block with a mask; all tensors are `[T, heads, head_dim]`."""
    n = len(q)
    sees = torch.zeros(n, n, dtype=torch.bool, device=q.device)
    for segment in segments:
        for place, query in enumerate(segment.queries):
            last = len(segment.keys) - len(segment.queries) + place + 1
            first = 0 if window is None else max(0, last - window)
            sees[query, torch.from_numpy(segment.keys[first:last])] = True
    q, k, v = (x.float().transpose(0, 1)[None] for x in (q, k, v))
    shared = k.shape[1] != q.shape[1]
    out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=shared)
    return out[0].transpose(0, 1).to(v.dtype)
