"""BCO on pairs: binary classifier optimisation."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios, running_mean
from preflab.methods._papers import BCO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, Moments, Pair, ReferencedPair


class TrackedPair(NamedTuple):
    """Two responses to the same prompt under policy and frozen reference, and the mean of all rewards so far."""

    policy: Pair
    reference: Pair
    rewards: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class BCOHyperparameters(Hyperparameters):
    """Hyper-parameters of BCO."""

    beta: float = tie(0.01, grid=(0.01, 0.1))


def bco_loss(batch: TrackedPair, *, beta: float) -> LossOutput:
    """Binary cross-entropy of a classifier whose logit is the reward, shifted by the mean of all rewards so far.

    loss = -log sigma(r(chosen) - d) - log sigma(-(r(rejected) - d))
    r(y) = beta * log pi/ref (y)
    d = mean of the rewards of all responses up to and with this batch, a constant for the gradient

    The shift moves the threshold of the classifier to where the rewards are, which tightens
    the bound that the loss is of DPO's. Every response since the first step counts alike.

    Args:
        batch: sequence log-probs, float32 [pair], nats, response tokens only; the rewards' mean so far.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. In the first step at policy == reference every
        reward and the shift are 0 and the loss is 2 log 2.

    References:
        Jung et al., Binary Classifier Optimization for Large Language Model Alignment, 2024, arXiv:2404.04656,
        objective with reward shift.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.reference))
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    tracked = running_mean(batch.rewards, torch.cat([chosen, rejected]))
    loss = -F.logsigmoid(chosen - tracked.mean) - F.logsigmoid(tracked.mean - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach(), (tracked,))


def bco_at_reference(batch: TrackedPair, *, beta: float) -> float:
    """2 log(2) in the first step; later -log sigma(-d) - log sigma(d) with d = n mean / (n + 2 pairs)."""
    n = batch.rewards.n
    shift = n * batch.rewards.mean / (n + 2 * len(batch.reference.chosen.total))
    return math.log1p(math.exp(shift)) + math.log1p(math.exp(-shift))


BCO = Method(
    name="bco",
    title="BCO",
    summary="Trains a classifier of good and bad responses with a moving threshold; the two sides do not see each "
    "other.",
    inputs=TrackedPair,
    loss=bco_loss,
    hyperparameters=BCOHyperparameters,
    loss_at_reference=bco_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True, batch_split=False),
    source=replace(
        BCO_PAPER,
        equation="objective with reward shift",
        claim="The classifier's cross-entropy bounds DPO's loss from above, so single labels are enough to align.",
        note="The paper estimates the shift by a moving average; here every response since the first step counts "
        "alike. TRL 1.16's `bco_pair` has no shift: with d = 0 it is another loss. Earlier trainers "
        "averaged one mean per micro-batch, so their shift depended on gradient accumulation; here every "
        "response counts once.",
    ),
)
