"""What a model makes of answers that nobody trained on: probes beside every pair, their log-probs, samples, gradients.

A probe is one more response to a pair's prompt, so one forward over rows with shared prompts measures a checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from preflab.core.seeds import permutation
from preflab.data.examples import TokenRow
from preflab.models.load import trainable
from preflab.sampling.generate import Response
from preflab.scoring.flat import fill, flatten
from preflab.scoring.logps import head_quantities, hidden_states, score, token_logps

PAIR: Final = ("chosen", "rejected")
PROBES: Final = ("mismatched", "paraphrase", "greedy", "sampled", "shuffled", "repeated")
"""Unseen answers, by role: an answer to another prompt of the data; the chosen response in other words, where the data
give one (`meta.paraphrase`); what the start point answers, greedily and sampled; the chosen response's tokens in random
order; its first token again and again, as often as it has tokens.

One that equals a response of the pair is seen, and left out. The first token of the last two may be the chosen
response's own; only what follows it means nothing. A row without a chosen response has neither."""
ROLES: Final = (*PAIR, *PROBES)

_STREAM = "probe"


def add_probes(
    rows: Sequence[TokenRow],
    *,
    greedy: Sequence[NDArray[np.int64] | None],
    sampled: Sequence[NDArray[np.int64] | None],
) -> list[TokenRow]:
    """Give every row its probes; those that it has already (`mismatched`, `paraphrase`) stay.

    Args:
        rows: pairs, or rows with one response.
        greedy: tokens of the start point's greedy answer to each row's prompt, None where it was not asked.
        sampled: of its sampled answer.
    """
    found = []
    for row, best, drawn in zip(rows, greedy, sampled, strict=True):
        answers = {role: ids for role, ids in (("greedy", best), ("sampled", drawn)) if ids is not None}
        every = {**row.responses, **answers, **_degenerate(row)}
        seen = {row.responses[role].tobytes() for role in PAIR if role in row.responses}
        kept = {role: ids for role, ids in every.items() if role in PAIR or ids.tobytes() not in seen}
        found.append(replace(row, responses=kept))
    return found


def _degenerate(row: TokenRow) -> dict[str, NDArray[np.int64]]:
    """Return strings of a row's chosen tokens that mean nothing."""
    if "chosen" not in row.responses:
        return {}
    chosen = row.responses["chosen"]
    body, end = chosen[:-1], chosen[-1:]
    order = permutation(len(body), row.row, _STREAM)
    repeated = np.concatenate([np.repeat(chosen[:1], len(body)), end])
    return {"shuffled": np.concatenate([body[order], end]), "repeated": repeated}


def probe_records(
    model: PreTrainedModel,
    rows: Sequence[TokenRow],
    start: Mapping[str, Sequence[NDArray[np.float32] | None]],
    *,
    budget: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Score rows with their probes by one forward, beside what the start point says.

    Args:
        model: the checkpoint.
        rows: with probes.
        start: role to the start point's token log-probs of each row, float32 `[token]` each, nats.
        budget: flat tokens per forward.
        progress: called with rows done and rows to do.

    Returns:
        One record per row and role that it has: `row`, `role`, `prompt` (the place of the first row with its prompt,
        since rows of one prompt are no independent ones), and its `summary`.
    """
    own = score(model, rows, ROLES, budget=budget, progress=progress)
    prompts = prompt_places(rows)
    return [
        {"row": row.row, "role": role, "prompt": prompts[i], **summary(values, known)}
        for i, row in enumerate(rows)
        for role in ROLES
        if (values := own[role][i]) is not None and (known := start[role][i]) is not None
    ]


def prompt_places(rows: Sequence[TokenRow]) -> list[int]:
    """Return, for each row, the place of the first row with the same prompt."""
    first: dict[bytes, int] = {}
    return [first.setdefault(row.prompt.tobytes(), place) for place, row in enumerate(rows)]


def summary(logps: NDArray[np.float32], start: NDArray[np.float32]) -> dict[str, float]:
    """Return what a table keeps of a response's token log-probs: totals under both models, and the change of its parts.

    Args:
        logps: under the checkpoint, float32 `[token]`, nats.
        start: under the start point, likewise.

    Returns:
        `length` (tokens); `total` and `start_total`, and the change of the first token's log-prob (`first_change`) and
        of those after it (`tail_change`), nats.
    """
    change = logps.astype(np.float64) - start
    return {
        "length": len(logps),
        "total": float(logps.sum(dtype=np.float64)),
        "start_total": float(start.sum(dtype=np.float64)),
        "first_change": float(change[0]),
        "tail_change": float(change[1:].sum()),
    }


@torch.no_grad()
def answer_states(
    model: PreTrainedModel, rows: Sequence[TokenRow], found: Sequence[Response], *, budget: int
) -> list[Tensor]:
    """Return the hidden states that predict answers, `[C, hidden]` of each forward, for `describe_answers`."""
    asked = _asked(rows, found)
    device = next(model.parameters()).device
    groups = fill(asked, ("answer",), budget)
    return [hidden_states(model, flatten([asked[i] for i in group], ("answer",), device)) for group in groups]


@torch.no_grad()
def describe_answers(
    model: PreTrainedModel,
    start: PreTrainedModel,
    rows: Sequence[TokenRow],
    found: Sequence[Response],
    *,
    budget: int,
    states: Sequence[Tensor] | None = None,
) -> list[dict[str, float]]:
    """Return, for each answer of a model, its log-prob under both models, its entropy and its KL from the start point.

    Args:
        model: the checkpoint that gave the answers.
        start: the start point.
        rows: whose prompts were answered.
        found: the answers.
        budget: flat tokens per forward.
        states: the checkpoint's `answer_states`, where it is the start point with an adapter that is off by now, so
            that `model` lends its head alone; computed here by default.

    Returns:
        `policy_total` and `start_total` (nats), `distinct` (share of distinct pairs of neighbouring tokens, 1 where
        there are none), `entropy` (mean over positions, nats per token), and three estimates of
        KL(policy || start) in nats per response: `kl_k1` (log-ratio of the sample), `kl_k3` (Schulman, 2020) and
        `kl_exact`, the sum over the sample's positions of the KL over the whole vocabulary. All have the same mean for
        sampled answers; for greedy ones only `kl_exact` says something, about greedy positions.
    """
    asked = _asked(rows, found)
    device = next(model.parameters()).device
    records = [{"distinct": _distinct(answer.tokens)} for answer in found]
    for place, group in enumerate(fill(asked, ("answer",), budget)):
        batch = flatten([asked[i] for i in group], ("answer",), device)
        ours, theirs = hidden_states(model, batch) if states is None else states[place], hidden_states(start, batch)
        policy, entropy = head_quantities(model, ours, batch.target_C, ("policy", "entropy")).double()
        (before,) = head_quantities(start, theirs, batch.target_C, ("policy",)).double()
        # The head's divergence is KL(reference || policy), so the checkpoint takes the reference's place.
        (exact,) = head_quantities(start, theirs, batch.target_C, ("divergence",), model, ours).double()
        ratio = policy - before
        columns = {
            "policy_total": policy,
            "start_total": before,
            "entropy": entropy,
            "kl_k1": ratio,
            "kl_k3": (-ratio).exp() - 1 + ratio,
            "kl_exact": exact,
        }
        for name, values in columns.items():
            sums = values.new_zeros(len(group)).index_add(0, batch.response_C, values)
            if name == "entropy":
                sums = sums / batch.length.to(sums)
            for key, value in zip(batch.responses, sums.tolist(), strict=True):
                records[group[key.row]][name] = value
    return records


def _asked(rows: Sequence[TokenRow], found: Sequence[Response]) -> list[TokenRow]:
    return [TokenRow(row.row, row.prompt, {"answer": a.tokens}) for row, a in zip(rows, found, strict=True)]


def _distinct(tokens: NDArray[np.int64]) -> float:
    pairs = list(pairwise(tokens.tolist()))
    return len(set(pairs)) / len(pairs) if pairs else 1.0


@torch.no_grad()
def similarities(model: PreTrainedModel, rows: Sequence[TokenRow], *, budget: int) -> list[dict[str, float]]:
    """Return the CHES score of every pair: how much the hidden states of its two responses point the same way.

    CHES = <sum h(chosen), sum h(rejected)> - |sum h(chosen)|^2, with h the last layer's hidden states that predict the
    tokens of a response. Higher means more similar, and more likely that both fall. `ches_mean` divides by the lengths.

    References:
        Razin et al., Unintentional Unalignment: Likelihood Displacement in Direct Preference Optimization, 2024,
        arXiv:2410.08847, definition 2 and appendix.
    """
    device = next(model.parameters()).device
    records: list[dict[str, float]] = [{} for _ in rows]
    for group in fill(rows, PAIR, budget):
        batch = flatten([rows[i] for i in group], PAIR, device)
        hidden = hidden_states(model, batch).double()
        sums = hidden.new_zeros(len(batch.responses), hidden.shape[1]).index_add(0, batch.response_C, hidden)
        by_key = {
            (key.row, key.role): (total, n) for key, total, n in zip(batch.responses, sums, batch.length, strict=True)
        }
        for place, i in enumerate(group):
            (chosen, n), (rejected, m) = by_key[place, "chosen"], by_key[place, "rejected"]
            records[i] = {
                "ches": float(chosen @ rejected - chosen @ chosen),
                "ches_mean": float((chosen / n) @ (rejected / m) - (chosen / n) @ (chosen / n)),
            }
    return records


def gradient_sizes(model: PreTrainedModel, rows: Sequence[TokenRow]) -> list[dict[str, float]]:
    """Return, for each pair, the norms of the gradients of both sides' mean log-probs by the weights, and their cosine.

    Per token, so that the longer side does not have the larger gradient for its length alone.

    A cosine near 1 means that pushing the rejected response down pushes the chosen one down too.

    Args:
        model: the model; every weight counts.
        rows: pairs; each takes two backward passes.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    model.requires_grad_(True)
    weights = [p for _, p in trainable(model)]
    records = []
    try:
        for row in rows:
            chosen, rejected = (_gradient(model, row, role, weights) for role in PAIR)
            products = [_dot(chosen, chosen), _dot(rejected, rejected), _dot(chosen, rejected)]
            a, b, c = (float(value) for value in products)
            records.append(
                {"grad_chosen": a**0.5, "grad_rejected": b**0.5, "cosine": c / (a * b) ** 0.5 if a * b else 0.0}
            )
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return records


def _gradient(model: PreTrainedModel, row: TokenRow, role: str, weights: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradient of a response's mean log-prob by every weight; None for weights that it does not pass."""
    logps = token_logps(model, flatten([row], (role,), weights[0].device))
    return torch.autograd.grad(logps.mean(), weights, allow_unused=True)


def _dot(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> Tensor:
    """Return the inner product over all weights; float32 within a weight, so that no copy of it is made."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return torch.stack([torch.dot(a.flatten(), b.flatten()).double() for a, b in both]).sum()
