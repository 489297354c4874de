"""Log-probs of completion tokens from hidden states: no `[B, T, V]` tensor, no logits computed twice."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_CHUNK_FLOATS = {"cpu": 2**23, "cuda": 2**27}
"""Logits that may be alive at once, in elements: on CPUs what the last cache holds."""

_KEPT_FLOATS = 2**27
"""Probabilities that a trainable head keeps for its backward pass, in elements; beyond it they are computed again."""


def chunk_size(model: PreTrainedModel, device: torch.device) -> int:
    """Return how many positions reach the head at once."""
    return max(1, _CHUNK_FLOATS.get(device.type, 2**27) // int(model.config.vocab_size))


def target_logps(model: PreTrainedModel, hidden_CH: Tensor, target_C: Tensor) -> Tensor:
    """Return the log-prob of each target, at least float32, `[C]`, nats."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    size, keep = chunk_size(model, hidden_CH.device), torch.is_grad_enabled()
    result: Tensor = _TargetLogps.apply(hidden_CH, head.weight, target_C, size, keep)
    return result


def is_plain(model: PreTrainedModel) -> bool:
    """Return whether logits are one matrix product of hidden states: no bias, scale, cap or adapter."""
    special = ("logit_scale", "logits_scaling", "final_logit_softcapping")
    head = model.get_output_embeddings()
    return type(head) is nn.Linear and head.bias is None and not any(getattr(model.config, k, None) for k in special)


class _TargetLogps(torch.autograd.Function):
    """log softmax(W h)[y] with a backward pass that knows its form: d/dh = W[y] - W^T softmax.

    A loss reaches a hidden state through one number alone, the log-prob of its token. A frozen head therefore needs no
    logits in the backward pass: the bracket above is computed with the log-probs, and the backward pass scales it.
    A trainable head keeps the probabilities instead, or computes them again where they are too many.
    """

    @staticmethod
    def forward(ctx: Any, hidden_CH: Tensor, weight_VH: Tensor, target_C: Tensor, size: int, keep: bool) -> Tensor:
        ctx.size, ctx.trainable = size, weight_VH.requires_grad
        few = len(target_C) * len(weight_VH) <= _KEPT_FLOATS
        logps, kept = [], []
        for hidden, target in zip(hidden_CH.split(size), target_C.split(size), strict=True):
            probs_CV, logp = _softmax(hidden, weight_VH, target)
            logps.append(logp)
            if keep and not ctx.trainable:
                kept.append(weight_VH[target] - probs_CV @ weight_VH)
            elif keep and few:
                kept.append(probs_CV)
        ctx.save_for_backward(hidden_CH, weight_VH, target_C, *kept)
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        (slope_C,) = slopes
        hidden_CH, weight_VH, target_C, *kept = ctx.saved_tensors
        if not ctx.trainable:
            return torch.cat(kept) * slope_C[:, None].to(hidden_CH.dtype), None, None, None, None
        hidden_grads, weight_grad = [], torch.zeros_like(weight_VH, dtype=slope_C.dtype)
        chunks = zip(*(x.split(ctx.size) for x in (hidden_CH, target_C, slope_C)), strict=True)
        for i, (hidden, target, slope) in enumerate(chunks):
            probs_CV = kept[i] if kept else _softmax(hidden, weight_VH, target)[0]
            logits_grad = probs_CV.mul_(-slope[:, None]).scatter_add_(
                -1, target[:, None], slope[:, None].to(probs_CV.dtype)
            )
            hidden_grads.append(logits_grad @ weight_VH)
            weight_grad += logits_grad.T @ hidden
        return torch.cat(hidden_grads), weight_grad.to(weight_VH.dtype), None, None, None


def _softmax(hidden_CH: Tensor, weight_VH: Tensor, target_C: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probabilities in the head's dtype, `[C, V]`, and the log-probs of the targets, `[C]`."""
    logits_CV = hidden_CH @ weight_VH.T
    logits_CV = logits_CV if logits_CV.dtype == torch.float64 else logits_CV.float()
    logits_CV -= logits_CV.logsumexp(-1, keepdim=True)
    logps = logits_CV.gather(-1, target_C[:, None])[:, 0]
    return logits_CV.exp_().to(weight_VH.dtype), logps
