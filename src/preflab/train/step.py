"""The gradient of one optimizer batch, in two phases.

First the log-probs of the whole batch, then one loss call that gives the derivative with respect to each of them, then
the backward pass of each micro-batch as a dot product. Losses that couple the batch are exact under accumulation.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from preflab.data.examples import TokenRow
from preflab.methods import Leaf, Logps, LossOutput, Method, TokenLogps, assemble, leaves
from preflab.scoring.flat import FlatBatch, ResponseKey, fill, flatten
from preflab.scoring.logps import token_logps

References = Mapping[str, Sequence[NDArray[np.float32] | None]]
"""Role to the reference's token log-probs of each row, float32 `[token]`, nats; None where a row lacks the role."""


_KINDS = (Logps, TokenLogps)


class BatchResult(NamedTuple):
    """What a batch says about itself; gradients are left on the parameters."""

    loss: float
    """Mean loss over examples."""
    chosen_reward: float
    rejected_reward: float
    """Mean implicit rewards; NaN where the method has none."""
    chosen_total: float
    rejected_total: float
    """Mean log-prob of the responses, nats; NaN where the batch has none."""
    n_tokens: int
    """Flat tokens of the batch."""
    loss_at_reference: float
    """What the mean loss would be at policy == reference; NaN where the method has no such value."""


def roles_of(method: Method) -> tuple[str, ...]:
    """Return the responses that a method's input type asks for, in a fixed order."""
    return tuple(dict.fromkeys(leaf.role for leaf in leaves(method.inputs)))


def needs_reference(method: Method) -> bool:
    """Return whether a method's input type contains reference log-probs."""
    return any(leaf.side == "reference" for leaf in leaves(method.inputs))


def needs_pairs(method: Method) -> bool:
    """Return whether a method compares two responses to the same prompt row by row."""

    def pairs(kind: Any) -> bool:
        hints = get_type_hints(kind)
        both = hints.get("chosen") in _KINDS and hints.get("rejected") in _KINDS
        return both or any(pairs(field) for field in hints.values() if field not in _KINDS)

    return pairs(method.inputs)


def accumulate(
    policy: PreTrainedModel,
    rows: Sequence[TokenRow],
    references: References,
    method: Method,
    hyperparameters: Mapping[str, Any],
    *,
    budget: int,
) -> BatchResult:
    """Add the gradient of the batch's mean loss to the parameters.

    Args:
        policy: the model, with adapters inside it where there are any.
        rows: the optimizer batch.
        references: reference log-probs of exactly these rows; empty when the method needs none.
        method: the objective.
        hyperparameters: keyword arguments of its loss.
        budget: flat tokens per forward and backward; it changes no result beyond rounding.
    """
    roles = roles_of(method)
    micro_batches = fill(rows, roles, budget)
    groups = [micro_batches] if method.couples_batch else [[micro] for micro in micro_batches]
    outputs: list[LossOutput] = []
    expected: list[Tensor] = []
    scored: list[tuple[list[ResponseKey], Tensor]] = []
    tokens = 0
    for group in groups:
        batches = [flatten([rows[i] for i in micro], roles, _device(policy)) for micro in group]
        keys = [ResponseKey(micro[k.row], k.role) for micro, b in zip(group, batches, strict=True) for k in b.responses]
        output, at_reference, sums = _backward(policy, batches, keys, references, method, hyperparameters)
        outputs.append(output)
        expected.append(torch.full_like(output.loss, at_reference))
        scored.append((keys, sums))
        tokens += sum(batch.n_tokens for batch in batches)
    n_examples = sum(len(output.loss) for output in outputs)
    for parameter in policy.parameters():
        if parameter.grad is not None:
            parameter.grad /= n_examples
    return BatchResult(
        loss=_mean([output.loss for output in outputs]),
        chosen_reward=_mean([output.chosen_reward for output in outputs]),
        rejected_reward=_mean([output.rejected_reward for output in outputs]),
        chosen_total=_role_mean(scored, "chosen"),
        rejected_total=_role_mean(scored, "rejected"),
        n_tokens=tokens,
        loss_at_reference=_mean(expected),
    )


def batch_inputs(
    tokens: TokenLogps, keys: Sequence[ResponseKey], references: References, method: Method
) -> tuple[Any, ...]:
    """Put the log-probs of a batch into the form that the method's input type names.

    Args:
        tokens: the policy's log-probs of all responses, in the order of `keys`.
        keys: row and role of each response.
        references: role to the reference's log-probs by row number.
        method: the objective.
    """
    sums, parts = tokens.sums(), tokens.token.split(tokens.length.long().tolist())

    def get(leaf: Leaf) -> Logps | TokenLogps:
        # Rows ascend within a role, so both sides of a pair stand at the same place whatever the micro-batches.
        index = sorted((i for i, key in enumerate(keys) if key.role == leaf.role), key=lambda i: keys[i].row)
        at = torch.tensor(index, dtype=torch.int64, device=sums.device)
        length = tokens.length[at]
        if leaf.side == "policy":
            return (
                Logps(sums[at], length)
                if leaf.kind is Logps
                else TokenLogps(_joined([parts[i] for i in index]), length)
            )
        known = [cast(NDArray[np.float32], references[leaf.role][keys[i].row]) for i in index]
        if leaf.kind is TokenLogps:
            return TokenLogps(_joined([torch.from_numpy(values).to(sums) for values in known]), length)
        totals = np.array([values.sum(dtype=np.float64) for values in known])
        return Logps(torch.from_numpy(totals).to(sums), length)

    def _joined(pieces: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(pieces)) if pieces else tokens.token[:0]

    return assemble(method.inputs, get)


def _backward(
    policy: PreTrainedModel,
    batches: Sequence[FlatBatch],
    keys: Sequence[ResponseKey],
    references: References,
    method: Method,
    hyperparameters: Mapping[str, Any],
) -> tuple[LossOutput, float, Tensor]:
    """Add the gradient of one group's summed loss; return its output, its loss at the reference and the policy totals.

    The graph of a single micro-batch is kept between the phases; several are computed once more.
    """
    keep = len(batches) == 1
    with torch.set_grad_enabled(keep):
        attached = [token_logps(policy, batch) for batch in batches]
    token = torch.cat([t.detach() for t in attached]).requires_grad_()
    tokens = TokenLogps(token, torch.cat([batch.length for batch in batches]).to(token.dtype))
    with torch.enable_grad():
        inputs = batch_inputs(tokens, keys, references, method)
        output = method.loss(inputs, **hyperparameters)
        (slope,) = torch.autograd.grad(output.loss.sum(), token)
    for batch, known, part in zip(batches, attached, slope.split([len(t) for t in attached]), strict=True):
        again = known if keep else token_logps(policy, batch)
        again.backward(part)
    at_reference = method.loss_at_reference(inputs, **hyperparameters) if method.loss_at_reference else float("nan")
    return LossOutput(*(value.detach() for value in output)), at_reference, tokens.sums().detach()


def _device(model: PreTrainedModel) -> torch.device:
    return next(model.parameters()).device


def _mean(parts: Sequence[Tensor]) -> float:
    whole = torch.cat([part.reshape(-1) for part in parts])
    return float(whole.double().mean()) if len(whole) else float("nan")


def _role_mean(scored: Sequence[tuple[Sequence[ResponseKey], Tensor]], role: str) -> float:
    return _mean([sums[[i for i, key in enumerate(keys) if key.role == role]] for keys, sums in scored])
