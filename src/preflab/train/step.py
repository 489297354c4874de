"""The gradient of one optimizer batch, in two phases.

First the log-probs of the whole batch, then one loss call that gives the derivative with respect to each of them, then
the backward pass of each micro-batch as a dot product. Losses that couple the batch are exact under accumulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from preflab.core.seeds import uniform
from preflab.data.examples import RANKED, SAMPLED, TokenRow
from preflab.methods import (
    Leaf,
    Logps,
    LossOutput,
    Method,
    Moments,
    Part,
    RankedLogps,
    RankedValues,
    TokenLogps,
    Values,
    assemble,
    leaves,
)
from preflab.methods.needs import roles_of
from preflab.scoring.flat import FlatBatch, ResponseKey, fill, flatten
from preflab.scoring.logps import token_logps
from preflab.train.lockstep import Asked, Forward, Run, Scored

References = Mapping[str, Sequence[NDArray[np.float32] | None]]
"""Role to the reference's token log-probs of each row, float32 `[token]`, nats; None where a row lacks the role."""

_PLACES: Final = {role: place for place, role in enumerate((*RANKED, *SAMPLED))}
_OF_HEAD: Final[tuple[Asked, ...]] = ("collision", "divergence", "value")
"""What the policy's heads give beside log-probs."""


MEASURES: Final = (
    "loss",
    "chosen_reward",
    "rejected_reward",
    "chosen_total",
    "rejected_total",
    "loss_at_reference",
    "clamped",
)
"""What is known of a batch: means of the loss, of the implicit rewards, of the log-probs of the responses (nats) and of
what the loss would be at policy == reference; then the examples in which a declared clamp replaced a value. NaN: there
is no such value."""


class BatchResult(NamedTuple):
    """What a batch says about itself; gradients are left on the parameters."""

    n_examples: int
    """Examples that the loss was summed over."""
    measures: Tensor
    """`MEASURES`, float64 `[measure]`, on the device: reading them waits for it."""
    n_tokens: int
    """Flat tokens of the batch."""
    state: tuple[Moments, ...]
    """What the method remembers for the next step."""

    def read(self) -> dict[str, float]:
        """Return the measures by name."""
        return dict(zip(MEASURES, self.measures.tolist(), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a loss may ask for beyond the policy's log-probs, for one optimizer batch.

    Args:
        references: the frozen reference's log-probs of exactly these rows; empty when the method needs none.
        sampled: what is known of answers that the policy sampled, quantity to role to one array per row.
        model: the reference model itself, where `needs_live_reference` says so.
        state: what the method returned the step before; empty at the first.
        stream: seed and step, which name the random numbers of the batch.
    """

    references: References = field(default_factory=dict)
    sampled: Mapping[str, References] = field(default_factory=dict)
    model: PreTrainedModel | None = None
    state: tuple[Moments, ...] = ()
    stream: tuple[int, int] = (0, 0)


def gradient(
    rows: Sequence[TokenRow],
    given: Given,
    method: Method,
    hyperparameters: Mapping[str, Any],
    *,
    budget: int,
) -> Run[BatchResult]:
    """Ask for what the gradient of a batch's summed loss needs, as a run of `drive`.

    Args:
        rows: the optimizer batch.
        given: what else the loss asks for.
        method: the objective.
        hyperparameters: keyword arguments of its loss.
        budget: flat tokens per forward and backward; it changes no result beyond rounding.
    """
    roles = roles_of(method)
    micro_batches = fill(rows, roles, budget)
    groups = [micro_batches] if method.couples_batch else [[micro] for micro in micro_batches]
    found: list[_Part] = []
    for group in groups:
        found.append((yield from _group(group, rows, given, method, hyperparameters)))
    outputs = [part.output for part in found]
    expected = [torch.full_like(part.output.loss, part.at_reference) for part in found]
    none = outputs[0].loss.new_zeros(())
    return BatchResult(
        n_examples=sum(len(output.loss) for output in outputs),
        measures=torch.stack(
            [
                _mean([output.loss for output in outputs]),
                _mean([output.chosen_reward for output in outputs]),
                _mean([output.rejected_reward for output in outputs]),
                _role_mean(found, "chosen"),
                _role_mean(found, "rejected"),
                _mean(expected),
                sum((output.clamped.sum() for output in outputs if output.clamped is not None), none).double(),
            ]
        ),
        n_tokens=sum(part.n_tokens for part in found),
        state=tuple(Moments(*map(float, moments)) for moments in outputs[-1].state),
    )


class _Part(NamedTuple):
    """What one loss call gave."""

    output: LossOutput
    at_reference: float
    keys: list[ResponseKey]
    totals: Tensor
    """Log-prob of each response, `[R]`, nats."""
    n_tokens: int


def _group(
    group: Sequence[Sequence[int]],
    rows: Sequence[TokenRow],
    given: Given,
    method: Method,
    hyperparameters: Mapping[str, Any],
) -> Run[_Part]:
    """Go through micro-batches whose examples share one loss call.

    The graph of a single micro-batch is kept between the phases; several are computed once more.
    """
    roles, asked = roles_of(method), {leaf.quantity for leaf in leaves(method.inputs)}
    quantities: tuple[Asked, ...] = ("policy", *(q for q in _OF_HEAD if q in asked))
    reference = given.model if "divergence" in asked else None

    def forward(micro: Sequence[int], *, attached: bool) -> Forward:
        own = [rows[i] for i in micro]
        return Forward(rows=own, roles=roles, quantities=quantities, attached=attached, reference=reference)

    keep = len(group) == 1
    answers: list[Scored] = []
    for micro in group:
        answers.append(_answered((yield forward(micro, attached=keep))))
    keys = [
        ResponseKey(micro[k.row], k.role) for micro, scored in zip(group, answers, strict=True) for k in scored.keys
    ]
    values = torch.cat([scored.values for scored in answers], dim=1).requires_grad_()
    length = torch.cat([scored.length for scored in answers]).to(values.dtype)
    known: dict[str, TokenLogps] = {q: TokenLogps(row, length) for q, row in zip(quantities, values, strict=True)}
    if "collision" in known:
        known["collision"] = TokenLogps(known["collision"].token.detach(), length)
    if "moving_reference" in asked:
        moving = _under(given.model, [flatten([rows[i] for i in micro], roles, values.device) for micro in group])
        known["moving_reference"] = TokenLogps(moving.to(values.dtype), length)
    with torch.enable_grad():
        inputs = batch_inputs(known, keys, rows, given, method)
        output = method.loss(inputs, **hyperparameters)
        (slope,) = torch.autograd.grad(output.loss.sum(), values)
    at_reference = method.loss_at_reference(inputs, **hyperparameters) if method.loss_at_reference else float("nan")
    for micro, part in zip(group, slope.split([s.values.shape[1] for s in answers], dim=1), strict=True):
        if not keep:
            yield forward(micro, attached=True)
        yield part
    detached = output._replace(
        loss=output.loss.detach(),
        chosen_reward=output.chosen_reward.detach(),
        rejected_reward=output.rejected_reward.detach(),
    )
    totals, n_tokens = known["policy"].sums().detach(), sum(scored.n_tokens for scored in answers)
    return _Part(detached, at_reference, keys, totals, n_tokens)


def _answered(answer: Scored | None) -> Scored:
    assert answer is not None
    return answer


@torch.no_grad()
def _under(model: PreTrainedModel | None, batches: Sequence[FlatBatch]) -> Tensor:
    """Return the log-probs of every completion token of a group under a live reference, `[token]`, nats."""
    assert model is not None
    return torch.cat([token_logps(model, batch) for batch in batches])


def batch_inputs(
    scored: Mapping[str, TokenLogps],
    keys: Sequence[ResponseKey],
    rows: Sequence[TokenRow],
    given: Given,
    method: Method,
) -> tuple[Any, ...]:
    """Put what is known of a batch into the form that the method's input type names.

    Args:
        scored: quantity to its values at every completion token of all responses, in the order of `keys`.
        keys: row and role of each response.
        rows: the optimizer batch.
        given: what else the loss asks for.
        method: the objective.
    """
    parts = _Parts(scored, keys, rows, given)
    return assemble(method.inputs, parts.get, given.state)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is known of a batch, response by response."""

    scored: Mapping[str, TokenLogps]
    keys: Sequence[ResponseKey]
    rows: Sequence[TokenRow]
    given: Given

    def get(self, leaf: Leaf) -> Part:
        """Return what a leaf asks for.

        Rows ascend within a role, so both sides of a pair stand at the same place whatever the micro-batches.
        """
        if leaf.role == "ranked":
            return self._ranked(leaf)
        roles = SAMPLED if leaf.role == "sampled" else (leaf.role,)
        return self._of(leaf, sorted((i for i, k in enumerate(self.keys) if k.role in roles), key=self._place))

    def _place(self, index: int) -> tuple[int, int]:
        """Return what a response is sorted by: its row, then its place among the row's."""
        key = self.keys[index]
        return key.row, _PLACES.get(key.role, 0)

    def _ranked(self, leaf: Leaf) -> Part:
        """Return a leaf of ranked lists: rows ascend, the responses of each from best to worst."""
        lists: dict[int, list[int]] = {}
        for i in sorted(range(len(self.keys)), key=self._place):
            if self.keys[i].role in _PLACES:
                lists.setdefault(self.keys[i].row, []).append(i)
        counts = torch.tensor([len(found) for found in lists.values()])
        prompt = torch.repeat_interleave(torch.arange(len(counts)), counts).to(self.scored["policy"].token.device)
        if leaf.kind is RankedValues:
            scores = [score for row, found in lists.items() for score in self._list_scores(row, found)]
            return RankedValues(self._tensor(np.array(scores)), prompt)
        logps = cast(Logps, self._of(leaf._replace(kind=Logps), [i for found in lists.values() for i in found]))
        return RankedLogps(logps.total, logps.length, prompt)

    def _list_scores(self, row: int, index: Sequence[int]) -> list[float]:
        """Return the data's scores of a list where they agree with its order, else the places from its end."""
        given = [self.rows[row].scores.get(self.keys[i].role, math.nan) for i in index]
        if given[0] > given[-1] and all(better >= worse for better, worse in pairwise(given)):
            return given
        return [float(place) for place in reversed(range(len(index)))]

    def _of(self, leaf: Leaf, index: Sequence[int]) -> Logps | TokenLogps | Values:
        """Return what a leaf asks for of some responses, given by their places in `keys`."""
        if leaf.quantity in self.scored:
            return self._scored(leaf, index)
        if leaf.kind is Values:
            number = self._score if leaf.quantity == "score" else self._drawn
            return Values(self._tensor(np.array([number(self.keys[i]) for i in index])))
        length = self.scored["policy"].length[torch.tensor(index, dtype=torch.int64)]
        known = [self._known(leaf.quantity, self.keys[i], int(n)) for i, n in zip(index, length, strict=True)]
        if leaf.kind is TokenLogps:
            return TokenLogps(self._tensor(np.concatenate([*known, np.zeros(0)])), length)
        return Logps(self._tensor(np.array([values.sum(dtype=np.float64) for values in known])), length)

    def _scored(self, leaf: Leaf, index: Sequence[int]) -> Logps | TokenLogps | Values:
        tokens = self.scored[leaf.quantity]
        at = torch.tensor(index, dtype=torch.int64, device=tokens.token.device)
        if leaf.kind is Values:  # at the end of the response
            return Values(tokens.token[tokens.length.long().cumsum(0)[at] - 1])
        if leaf.kind is Logps:
            return Logps(tokens.sums()[at], tokens.length[at])
        parts = tokens.token.split(tokens.length.long().tolist())
        return TokenLogps(torch.cat([tokens.token[:0], *(parts[i] for i in index)]), tokens.length[at])

    def _known(self, quantity: str, key: ResponseKey, n: int) -> NDArray[Any]:
        """Return a quantity of every token of a response that no model is asked for: stored or drawn."""
        if quantity in self.given.sampled:
            return cast(NDArray[np.float32], self.given.sampled[quantity][key.role][key.row])
        if quantity == "reference":
            return cast(NDArray[np.float32], self.given.references[key.role][key.row])
        return uniform(n, *self._stream(key))

    def _drawn(self, key: ResponseKey) -> float:
        return float(uniform(1, *self._stream(key))[0])

    def _score(self, key: ResponseKey) -> float:
        return self.rows[key.row].scores[key.role]

    def _stream(self, key: ResponseKey) -> tuple[int, str, int, int, str]:
        """Name a response's random numbers: the same whatever the micro-batches, others at every step."""
        seed, step = self.given.stream
        return seed, "noise", step, self.rows[key.row].row, key.role

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.scored["policy"].token.detach())


def _mean(parts: Sequence[Tensor]) -> Tensor:
    whole = torch.cat([part.reshape(-1) for part in parts]).double()
    return whole.mean() if len(whole) else whole.new_full((), float("nan"))


def _role_mean(parts: Sequence[_Part], role: str) -> Tensor:
    return _mean([part.totals[[i for i, key in enumerate(part.keys) if key.role == role]] for part in parts])
