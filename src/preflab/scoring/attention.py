"""Attention over flat rows, registered through transformers' `AttentionInterface`, so any decoder works unchanged."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from preflab.core.errors import RunError
from preflab.scoring.segments import Block, Segments
from preflab.scoring.varlen import attend, takes_varlen

NAME = "preflab_flat"


def flat_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Segments,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend within rows: a response sees its prompt and itself.

    Args:
        module: the attention layer.
        query: `[1, heads, T, head_dim]`.
        key: `[1, key_value_heads, T, head_dim]`.
        value: `[1, key_value_heads, T, head_dim]`.
        attention_mask: not used; the segments say who sees whom.
        segments: who attends to whom.
        scaling: factor on the scores; 1/sqrt(head_dim) when None.
        sliding_window: positions a token sees, itself included.
        softcap: scores become softcap * tanh(scores / softcap) (Gemma 2, arXiv:2408.00118).
        s_aux: attention sinks, refused.
        kwargs: what transformers passes along and attention does not need.

    Returns:
        `[1, T, heads, head_dim]` and None, as the interface asks.

    Raises:
        RunError: attention sinks or an additive position bias, which this layout does not carry.
    """
    if s_aux is not None or kwargs.get("position_bias") is not None:
        raise RunError(f"{type(module).__name__}: attention sinks and position biases are not supported yet.")
    segments.n_calls += 1
    if softcap is None and takes_varlen(query, key):
        q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
        ragged = segments.ragged(query.device)
        return attend(q, k, v, ragged, scaling=scaling, window=sliding_window)[None], None
    folded = segments.folded(sliding_window, query.device)

    def padded(x: Tensor, index: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
        # One gather for all blocks: the gradient of a gather per block would be a full tensor per block.
        return x[0].transpose(0, 1).index_select(0, index).split(sizes)

    n_queries = [block.rows * block.n_queries for block in folded.blocks]
    n_keys = [block.rows * block.n_keys for block in folded.blocks]
    parts = zip(
        folded.blocks,
        padded(query, folded.queries, n_queries),
        padded(key, folded.keys, n_keys),
        padded(value, folded.keys, n_keys),
        strict=True,
    )
    out = [_dense(q, k, v, block, scaling, softcap) for block, q, k, v in parts]
    return torch.cat(out).index_select(0, folded.back)[None], None


def _dense(q: Tensor, k: Tensor, v: Tensor, block: Block, scaling: float | None, softcap: float | None) -> Tensor:
    """Attend within one block of padded rows; all tensors are `[row * length, heads, head_dim]`."""
    q, k, v = (x.unflatten(0, (block.rows, -1)).transpose(1, 2) for x in (q, k, v))
    shared = k.shape[1] != q.shape[1]
    if softcap is None:
        out = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=block.mask, is_causal=block.mask is None, scale=scaling, enable_gqa=shared
        )
    else:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
        scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
        scores = softcap * torch.tanh(scores / softcap)
        mask = block.mask if block.mask is not None else torch.ones_like(scores, dtype=torch.bool).tril()
        out = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=torch.float32).to(q.dtype) @ v
    return out.transpose(1, 2).flatten(0, 1)


AttentionInterface.register(NAME, flat_attention)


@contextlib.contextmanager
def flat_rows(model: PreTrainedModel) -> Iterator[None]:
    """Run the model's attention layers on flat rows inside the block.

    No mask function is registered under this name, so transformers builds no `[T, T]` mask.
    """
    native = model.config._attn_implementation
    model.config._attn_implementation = NAME
    try:
        yield
    finally:
        model.config._attn_implementation = native
