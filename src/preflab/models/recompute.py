"""Layers that keep their inputs alone and compute the rest again in the backward pass: less memory for more time."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from preflab.core.errors import RunError
from preflab.models.stacked import Rows, StackedLinear


@contextlib.contextmanager
def recomputed(model: PreTrainedModel) -> Iterator[None]:
    """Compute decoder layers again in the backward pass inside the block; no number changes.

    transformers does so in training mode only, which would switch dropout on.

    Raises:
        RunError: the decoder keeps its layers where nobody finds them.
    """
    layers = _layers(model)
    for layer in layers:
        layer.forward = partial(_forward, model, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _forward(model: PreTrainedModel, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return contextlib.nullcontext(), _as_now(model)

    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs)


def _as_now(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Return a context in which the model attends, and its adapters see whose tokens come, as at this moment.

    The backward pass runs after both have been put back.
    """
    attention = model.config._attn_implementation
    rows = next((layer.rows for layer in model.modules() if isinstance(layer, StackedLinear)), Rows())
    parts = rows.parts

    @contextlib.contextmanager
    def then() -> Iterator[None]:
        before = model.config._attn_implementation, rows.parts
        model.config._attn_implementation, rows.parts = attention, parts
        try:
            yield
        finally:
            model.config._attn_implementation, rows.parts = before

    return then()


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    n = model.config.num_hidden_layers
    for child in model.get_decoder().children():
        if isinstance(child, nn.ModuleList) and len(child) == n:
            return list(child)
    raise RunError(f"{type(model).__name__}: found no list of {n} layers; raise the memory or lower data.max_tokens.")
