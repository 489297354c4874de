"""What a loss may ask for, what it returns, and how a method describes itself.

An input type is a NamedTuple of the types below, or of further NamedTuples. The names of its fields
say which response is meant (`chosen`, `rejected`, `mismatched`, `gold`, or `sampled`: every answer that the policy gave
to the prompt) and which quantity of it:

* `policy` (or no name): log-probs under the policy;
* `reference`: log-probs under the frozen reference, which is the start point;
* `moving_reference`: log-probs under a copy of the start point that follows the policy by `Method.reference_update`;
* `divergence`: KL(reference || policy) over the whole vocabulary at each completion position, nats;
* `collision`: log of the sum of the policy's squared probabilities at each completion position, nats, without gradient;
* `noise`: numbers drawn uniformly from (0, 1), as `TokenLogps` per token or as `Values` per response;
* `score`: what the data say about the response, as `Values`;
* `value`: what a value head says, per token as `TokenLogps`, or at the end of the response as `Values`;
* `behaviour`, `advantage`, `returns`, `old_value`: of sampled answers, per token as `TokenLogps`: log-probs and values
  of the policy that sampled them, and what `Method.credit` made of their rewards.

`RankedLogps` and `RankedValues` stand for all responses to a prompt, so their path names no response.

A field of type `Moments` asks for what the method returned as its state in the step before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source


class Logps(NamedTuple):
    """Log-probs of a batch of responses under one model; completion tokens only."""

    total: Tensor
    """Sum of token log-probs, float32 [response], nats."""
    length: Tensor
    """Completion tokens, float32 [response], at least 1."""

    @property
    def mean(self) -> Tensor:
        """Log-prob per token, float32 [response], nats/token."""
        return self.total / self.length


class Values(NamedTuple):
    """One number per response that is no sum over tokens: a score that the data give, or a random number."""

    value: Tensor
    """float32 [response]."""


class Moments(NamedTuple):
    """What a method remembers from one optimizer step to the next; a run begins with zeros."""

    mean: float = 0.0
    std: float = 0.0
    n: float = 0.0
    """How many values the mean stands for."""


class TokenLogps(NamedTuple):
    """Log-probs of every completion token of a batch of responses, laid end to end."""

    token: Tensor
    """float32 [token], nats."""
    length: Tensor
    """Completion tokens, float32 [response], at least 1; their sum is the number of tokens."""

    @property
    def response(self) -> Tensor:
        """Which response each token belongs to, int64 [token]."""
        counts = self.length.long()
        return torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)

    @property
    def position(self) -> Tensor:
        """Position of each token in its response, from 0, int64 [token]."""
        ends = self.length.long().cumsum(0)
        starts = (ends - self.length.long())[self.response]
        return torch.arange(len(self.token), device=starts.device) - starts

    def sums(self, weight: Tensor | float = 1.0) -> Tensor:
        """Return the weighted sum of the tokens of each response, float32 [response], nats.

        Args:
            weight: of each token, [token], or one for all.
        """
        return self.token.new_zeros(len(self.length)).index_add(0, self.response, self.token * weight)


class RankedLogps(NamedTuple):
    """Log-probs of all responses to each prompt of a batch: prompt after prompt, the best response first."""

    total: Tensor
    """Sum of token log-probs, float32 [response], nats."""
    length: Tensor
    """Completion tokens, float32 [response], at least 1."""
    prompt: Tensor
    """Which prompt a response belongs to, int64 [response], ascending from 0."""

    @property
    def mean(self) -> Tensor:
        """Log-prob per token, float32 [response], nats/token."""
        return self.total / self.length


class RankedValues(NamedTuple):
    """One number for each response of ranked lists, in the order of `RankedLogps`."""

    value: Tensor
    """float32 [response]."""
    prompt: Tensor
    """int64 [response]."""


class Chosen(NamedTuple):
    """Only the better response: what supervised fine-tuning needs."""

    chosen: Logps


class Pair(NamedTuple):
    """Two responses to the same prompt, better and worse; no reference model."""

    chosen: Logps
    rejected: Logps


class ReferencedPair(NamedTuple):
    """Two responses to the same prompt under the policy and under the frozen reference."""

    policy: Pair
    reference: Pair


class ValuePair(NamedTuple):
    """One number for each of two responses to the same prompt."""

    chosen: Values
    rejected: Values


class TokenPair(NamedTuple):
    """Two responses to the same prompt, token by token."""

    chosen: TokenLogps
    rejected: TokenLogps


class ReferencedTokenPair(NamedTuple):
    """Two responses to the same prompt, token by token, under the policy and under the frozen reference."""

    policy: TokenPair
    reference: TokenPair


class Ranked(NamedTuple):
    """All responses to a prompt, at least two, best first; a pair is a list of two."""

    policy: RankedLogps
    score: RankedValues
    """Higher is better. Where the data give no scores that agree with the order, the places from the end: 1 and 0 for
    a pair."""


class ReferencedRanked(NamedTuple):
    """All responses to a prompt, best first, under the policy and under the frozen reference."""

    policy: RankedLogps
    reference: RankedLogps
    score: RankedValues


class Referenced(NamedTuple):
    """One kind of response under the policy and under the frozen reference."""

    policy: Logps
    reference: Logps


class Unpaired(NamedTuple):
    """Desirable and undesirable responses that need not share prompts, and mismatched ones for a KL baseline.

    The three groups may have different sizes; with paired data they have one entry per pair.
    """

    chosen: Referenced
    rejected: Referenced
    mismatched: Referenced


class Sampled(NamedTuple):
    """Answers that the policy sampled, one number per token: log-probs, values, advantages."""

    sampled: TokenLogps


class Answers(NamedTuple):
    """Sampled answers under the policy, under the policy that sampled them, and what each token was worth."""

    policy: Sampled
    behaviour: Sampled
    advantage: Sampled


class ReferencedAnswers(NamedTuple):
    """Sampled answers, also under the frozen reference."""

    policy: Sampled
    behaviour: Sampled
    reference: Sampled
    advantage: Sampled


class ValuedAnswers(NamedTuple):
    """Sampled answers with a value head: its values now and when the answers were sampled, and what it should say."""

    policy: Sampled
    behaviour: Sampled
    advantage: Sampled
    value: Sampled
    old_value: Sampled
    returns: Sampled


class Episodes(NamedTuple):
    """Sampled answers with their rewards, before it is known what each token is worth."""

    reward: Tensor
    """float64 [response]."""
    prompt: Tensor
    """Which prompt a response answers, int64 [response], ascending from 0."""
    behaviour: TokenLogps
    """Under the policy that sampled them, float64."""
    reference: TokenLogps
    """Under the frozen reference, float64."""
    value: TokenLogps | None
    """What the value head said before each token, float64; None for methods without one."""


class Credit(NamedTuple):
    """What each token of sampled answers was worth."""

    advantage: Tensor
    """[token]."""
    returns: Tensor | None = None
    """What the value head should have said before each token, [token]."""


class LossOutput(NamedTuple):
    """What a loss returns: one value per example, never reduced."""

    loss: Tensor
    """float32 [example]; the engine minimises its mean over the optimizer batch.

    For `Unpaired` inputs the desirable examples come first, then the undesirable ones.
    """
    chosen_reward: Tensor
    """Implicit reward of the chosen responses, float32 [chosen], detached."""
    rejected_reward: Tensor
    """Implicit reward of the rejected responses, float32 [rejected], detached; empty where the method has none."""
    state: tuple[Moments, ...] = ()
    """What to remember: one for each `Moments` of the inputs, in the order of their fields."""
    clamped: Tensor | None = None
    """Where a declared clamp replaced a value, bool [example]; counted in the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariances:
    """Which changes of the input leave the loss unchanged; the contract suite tests exactly what is declared."""

    permutation: bool = True
    """Permuting the examples permutes the losses."""
    constant_shift: bool = False
    """Adding one constant per prompt to every total, policy and reference alike, changes nothing."""
    batch_split: bool = True
    """The loss of an example does not depend on the other examples of the batch."""


UNPUBLISHED: Final = Source(paper="unpublished", title="", arxiv="", equation="", bibtex="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A preference-optimisation objective: one pure function plus its hyper-parameters, described once.

    Args:
        name: identifier in study files, in the field's usual spelling.
        title: name for people.
        summary: one sentence that says what the objective does.
        inputs: the type of the loss's first argument; what the engine must provide is read from it.
        loss: `loss(batch, **hyperparameters) -> LossOutput`.
        hyperparameters: dataclass whose fields are the keyword arguments of `loss`.
        loss_at_reference: `loss_at_reference(batch, **hyperparameters) -> float`, same signature as `loss`: the mean
            loss over the examples of `batch` were the policy equal to the reference. It reads sizes, the reference's
            log-probs and what the data give at most, never the policy's log-probs, so it checks the engine rather than
            repeating the loss. The first line of its docstring is the formula that cards show. None where the loss has
            no such value: without a reference.
        learning_rates: to start from: published ones, mostly for full fine-tuning of 7B-class models, or DPO's where
            the method has none of its own, which its note says; a study must name one where there are none.
        invariances: what leaves the loss unchanged.
        source: the paper and equation.
        reference_update: `reference_update(step, **hyperparameters) -> float`, for inputs with a `moving_reference`:
            the share of the policy's weights that goes into the reference's after that many optimizer steps, in [0, 1].
        credit: `credit(episodes, **hyperparameters) -> Credit`, for inputs of `sampled` answers: what their rewards say
            about each token.
        own_answers: whether the responses of a pair are the best and the worst of the policy's own answers, by reward,
            and not the data's.
    """

    name: str
    title: str
    summary: str
    inputs: type[tuple[Any, ...]]
    loss: Callable[..., LossOutput]
    hyperparameters: type[Hyperparameters] = Hyperparameters
    loss_at_reference: Callable[..., float] | None = None
    learning_rates: tuple[float, ...] = ()
    invariances: Invariances = Invariances()
    source: Source = UNPUBLISHED
    reference_update: Callable[..., float] | None = None
    credit: Callable[..., Credit] | None = None
    own_answers: bool = False

    @property
    def is_online(self) -> bool:
        """Whether it learns from answers that the policy gives during training."""
        return self.own_answers or self.credit is not None

    @property
    def couples_batch(self) -> bool:
        """Whether an example's loss depends on the rest of the optimizer batch."""
        return not self.invariances.batch_split
