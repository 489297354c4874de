"""TDPO1: DPO with a term for the drift of whole token distributions."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned, log_ratios
from preflab.methods._papers import TDPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, Pair, ReferencedPair


class TDPO1Inputs(NamedTuple):
    """Two responses under policy and frozen reference, and the sum over their tokens of KL(reference || policy)."""

    policy: Pair
    reference: Pair
    divergence: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class TDPO1Hyperparameters(Hyperparameters):
    """Hyper-parameters of TDPO1."""

    beta: float = tie(0.1, grid=(0.1,))


def tdpo1_loss(batch: TDPO1Inputs, *, beta: float) -> LossOutput:
    """Logistic loss of a margin that counts the drift of every token distribution along both responses.

    loss = -log sigma(beta * (D - (K(rejected) - K(chosen))))
    D = log pi/ref (chosen) - log pi/ref (rejected)
    K(y) = sum over the tokens of y of KL(ref || pi) over the whole vocabulary, after the tokens before

    Both divergences get gradients: the drift is allowed along the chosen response and held back along the rejected one.

    Args:
        batch: sequence log-probs and KL divergences, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * (log-ratio + K), detached. At policy == reference the loss is log 2.

    References:
        Zeng et al., Token-level Direct Preference Optimization, 2024, arXiv:2404.11999, objective of TDPO1.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.reference))
    aligned(batch.policy.chosen, *batch.divergence)
    drift = batch.divergence.rejected.total - batch.divergence.chosen.total
    loss = -F.logsigmoid(beta * (chosen_ratio - rejected_ratio - drift))
    chosen = beta * (chosen_ratio + batch.divergence.chosen.total)
    rejected = beta * (rejected_ratio + batch.divergence.rejected.total)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def tdpo1_at_reference(batch: TDPO1Inputs, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


TDPO1 = Method(
    name="tdpo1",
    title="TDPO1",
    summary="DPO that also compares how far the token distributions drift along the two responses.",
    inputs=TDPO1Inputs,
    loss=tdpo1_loss,
    hyperparameters=TDPO1Hyperparameters,
    loss_at_reference=tdpo1_at_reference,
    learning_rates=(5e-6,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        TDPO_PAPER,
        equation="objective of TDPO1",
        claim="A better balance between alignment and diversity than DPO.",
        note="It needs the reference model at every step, so a run costs one more forward per batch. "
        "The authors advise it for low learning rates.",
    ),
)
