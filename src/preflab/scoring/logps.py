"""Log-probs of completion tokens, and nothing else: no padding, no prompt positions, no `[B, T, V]` tensor."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from preflab.core.errors import RunError
from preflab.data.examples import TokenRow
from preflab.scoring.attention import flat_rows
from preflab.scoring.flat import FlatBatch, fill, flatten, separate_rows
from preflab.scoring.head import chunk_size, is_plain, target_logps

TokenQuantity = Literal["policy", "collision", "divergence", "entropy"]
"""What the head can give at a completion position."""

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 5e-3}
"""Relative gap in nats that `prove` accepts; eager attention takes its softmax in float32 even in float64 models."""


def token_logps(model: PreTrainedModel, batch: FlatBatch) -> Tensor:
    """Return the log-prob of every completion token, float32 (float64 for a float64 model) `[C]`, nats.

    A model that `prove` found unable to share prompts runs on one padded row per response.
    """
    return head_quantities(model, hidden_states(model, batch), batch.target_C, ("policy",))[0]


def head_quantities(
    model: PreTrainedModel,
    hidden_CH: Tensor,
    target_C: Tensor,
    quantities: Sequence[TokenQuantity],
    reference: PreTrainedModel | None = None,
    other_CH: Tensor | None = None,
) -> Tensor:
    """Return quantities of completion positions from their hidden states, float32 (or float64) `[quantity, C]`.

    Hidden states reach the head in chunks. Where the head is more than one matrix product, or more than log-probs are
    asked for, a chunk's logits are computed again in the backward pass.

    Args:
        model: the policy, whose head is used.
        hidden_CH: its hidden states, `[C, hidden]`.
        target_C: completion tokens, int64 `[C]`.
        quantities: `policy` (the log-prob of the token, nats), `collision` (log of the sum of squared probabilities,
            nats), `divergence` (KL(reference || policy) over the vocabulary, nats), `entropy` (of the policy, nats).
        reference: the frozen model of `divergence`; it gets no gradient.
        other_CH: its hidden states, `[C, hidden]`.
    """
    if tuple(quantities) == ("policy",) and is_plain(model):
        return target_logps(model, hidden_CH, target_C)[None]
    size = chunk_size(model, hidden_CH.device)
    other_CH = hidden_CH if other_CH is None else other_CH
    chunks = list(zip(hidden_CH.split(size), other_CH.split(size), target_C.split(size), strict=True))

    def values(hidden: Tensor, other: Tensor, target: Tensor) -> Tensor:
        return _chunk_quantities(model, hidden, target, quantities, reference, other)

    if len(chunks) > 1 and torch.is_grad_enabled():
        parts = [checkpoint(values, *chunk, use_reentrant=False) for chunk in chunks]
    else:
        parts = [values(*chunk) for chunk in chunks]
    return torch.cat(parts, dim=1)


def hidden_states(model: PreTrainedModel, batch: FlatBatch) -> Tensor:
    """Return the hidden states that predict the completion tokens, `[C, hidden]`."""
    return _flat_hidden(model, batch) if shares_prompts(model) else _separate_hidden(model, batch)


def layout_tokens(model: PreTrainedModel, batch: FlatBatch, responses: slice, flat: int) -> int:
    """Return how many positions of the model's input hold consecutive responses, padding included.

    Args:
        model: the model, which decides on the layout.
        batch: the batch.
        responses: which responses.
        flat: their flat tokens.
    """
    if shares_prompts(model):
        return flat
    spans = batch.segments.spans
    return len(spans[responses]) * max(span.n_prompt + span.n for span in spans)


@torch.no_grad()
def score(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    roles: Sequence[str],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[NDArray[np.float32] | None]]:
    """Return the token log-probs of every response of many rows.

    Rows are sorted by length across the whole call, since no optimizer step is at stake.

    Args:
        model: the scoring model.
        rows: what to score.
        roles: which responses.
        budget: flat tokens per forward.
        progress: called with rows done and rows to do after every forward; it may raise to stop.

    Returns:
        Role to one float32 array `[tokens]` per row, nats; None where a row lacks the role.
    """
    device = next(model.parameters()).device
    scores: dict[str, list[NDArray[np.float32] | None]] = {role: [None] * len(rows) for role in roles}
    asked = [i for i, row in enumerate(rows) if any(role in row.responses for role in roles)]
    done = len(rows) - len(asked)
    for places in fill([rows[i] for i in asked], roles, budget):
        group = [asked[place] for place in places]
        batch = flatten([rows[i] for i in group], roles, device)
        logps = token_logps(model, batch).float().cpu().numpy()
        ends = np.cumsum(batch.length.cpu().numpy().astype(np.int64))
        for key, values in zip(batch.responses, np.split(logps, ends[:-1]), strict=True):
            scores[key.role][group[key.row]] = values.copy()
        done += len(group)
        progress(done, len(rows))
    return scores


@torch.no_grad()
def prove(model: PreTrainedModel) -> None:
    """Decide on a small batch how a model's rows are laid out: what must come out is its own forward's log-probs.

    Flat rows with shared prompts are used where they give those. Where they do not (recurrent layers, odd position
    schemes, attention that does not go through transformers' interface) every response becomes a padded row of its own.
    It runs for every loaded model and catches what no list of architectures could.

    Raises:
        RunError: neither layout gives the model's own log-probs, as with a head that has a scale of its own.
    """
    model.get_decoder().shares_prompts = True
    try:
        _check_layout(model)
    except RunError as flat:
        model.get_decoder().shares_prompts = False
        try:
            _check_layout(model)
        except RunError as separate:
            raise RunError(f"{flat} On separate rows: {separate}") from separate


def shares_prompts(model: PreTrainedModel) -> bool:
    """Return whether the responses of a row share one copy of its prompt; true until `prove` has found otherwise."""
    return bool(getattr(model.get_decoder(), "shares_prompts", True))


@torch.no_grad()
def _check_layout(model: PreTrainedModel) -> None:
    """Compare a small batch with the model's own forward.

    Raises:
        RunError: it does not run, skips layers, or gives other log-probs.
    """
    generator = np.random.default_rng(0)

    def tokens(n: int) -> NDArray[np.int64]:
        return generator.integers(0, model.config.vocab_size, n)

    rows = [
        TokenRow(row=i, prompt=tokens(p), responses={"chosen": tokens(c), "rejected": tokens(r)})
        for i, (p, c, r) in enumerate([(7, 5, 9), (3, 8, 2)])
    ]
    batch = flatten(rows, ("chosen", "rejected"), next(model.parameters()).device)
    own = torch.cat([separate_logps(model, rows[k.row].prompt, rows[k.row].responses[k.role]) for k in batch.responses])
    try:
        found = token_logps(model, batch)
    except (TypeError, AttributeError, RuntimeError, IndexError, ValueError) as error:
        raise RunError(f"{type(model).__name__} does not run in this layout ({error}).") from error
    if shares_prompts(model) and batch.segments.n_calls != model.config.num_hidden_layers:
        n_calls, n_layers = batch.segments.n_calls, model.config.num_hidden_layers
        raise RunError(f"{type(model).__name__}: {n_calls} of {n_layers} layers are attention that can share prompts.")
    gap = float((found - own).abs().max())
    if not gap <= _TOLERANCE.get(model.dtype, 0.5) * (1 + float(own.abs().max())):
        raise RunError(f"{type(model).__name__}: log-probs differ from the model's own by {gap:.2g} nats per token.")


@torch.no_grad()
def separate_logps(model: PreTrainedModel, prompt: NDArray[np.int64], response: NDArray[np.int64]) -> Tensor:
    """Return the token log-probs of one response through the model's own forward on one plain row, `[tokens]`, nats."""
    ids = torch.from_numpy(np.concatenate([prompt, response])).to(next(model.parameters()).device)
    logits = model(input_ids=ids[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
    upcast = logits if logits.dtype == torch.float64 else logits.float()
    return upcast.log_softmax(-1).gather(-1, ids[len(prompt) :, None])[:, 0]


def _flat_hidden(model: PreTrainedModel, batch: FlatBatch) -> Tensor:
    """Return the hidden states that predict the completion tokens, `[C, hidden]`, from one flat row."""
    with flat_rows(model):
        hidden = model.get_decoder()(
            input_ids=batch.input_ids,
            position_ids=batch.position_ids,
            attention_mask=None,
            use_cache=False,
            segments=batch.segments,
        ).last_hidden_state[0]
    return hidden.index_select(0, batch.predictor_C)


def _separate_hidden(model: PreTrainedModel, batch: FlatBatch) -> Tensor:
    """Return the same from one row per response, padded on the right, where a causal model never looks."""
    rows = separate_rows(batch)
    hidden = model.get_decoder()(
        input_ids=rows.input_ids, attention_mask=rows.attention_mask, use_cache=False
    ).last_hidden_state
    return hidden.flatten(0, 1).index_select(0, rows.predictor_C)


def _chunk_quantities(
    model: PreTrainedModel,
    hidden_CH: Tensor,
    target_C: Tensor,
    quantities: Sequence[TokenQuantity],
    reference: PreTrainedModel | None,
    other_CH: Tensor,
) -> Tensor:
    logits_CV = _logits(model, hidden_CH)
    found = []
    for quantity in quantities:
        if quantity == "policy":
            found.append(-nn.functional.cross_entropy(logits_CV, target_C, reduction="none"))
        elif quantity == "collision":
            found.append(torch.logsumexp(2 * logits_CV.log_softmax(-1), dim=-1))
        elif quantity == "entropy":
            logp_CV = logits_CV.log_softmax(-1)
            found.append(-(logp_CV.exp() * logp_CV).sum(-1))
        else:
            assert reference is not None
            with torch.no_grad():
                expected_CV = _logits(reference, other_CH).log_softmax(-1)
            found.append((expected_CV.exp() * (expected_CV - logits_CV.log_softmax(-1))).sum(-1))
    return torch.stack(found)


def _logits(model: PreTrainedModel, hidden_CH: Tensor) -> Tensor:
    """Return logits, at least float32 whatever the model's dtype, `[C, vocabulary]`."""
    logits = model.get_output_embeddings()(hidden_CH)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if scale := getattr(model.config, "logit_scale", None):
        logits = logits * scale
    if divisor := getattr(model.config, "logits_scaling", None):
        logits = logits / divisor
    if cap := getattr(model.config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return logits
