"""TDPO2: DPO with a term for the drift of whole token distributions."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned, log_ratios
from preflab.methods._papers import TDPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, Pair, ReferencedPair


class TDPO2Inputs(NamedTuple):
    """Two responses under policy and frozen reference, and the sum over their tokens of KL(reference || policy)."""

    policy: Pair
    reference: Pair
    divergence: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class TDPO2Hyperparameters(Hyperparameters):
    """Hyper-parameters of TDPO2."""

    beta: float = tie(0.1, grid=(0.1,))
    alpha: float = hyper(
        0.5, domain=NON_NEGATIVE, grid=(0.5,), unit="", doc="Weight of the difference in drift; 0 is DPO."
    )


def tdpo2_loss(batch: TDPO2Inputs, *, beta: float, alpha: float) -> LossOutput:
    """TDPO1 with a weight, whose chosen divergence is a constant for the gradient.

    loss = -log sigma(beta * (D - alpha * (K(rejected) - K(chosen))))
    D = log pi/ref (chosen) - log pi/ref (rejected)
    K(y) = sum over the tokens of y of KL(ref || pi) over the whole vocabulary, after the tokens before

    K(chosen) is a constant for the gradient, so that nothing pushes the policy away from the reference there.

    Args:
        batch: sequence log-probs and KL divergences, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: weight of the difference in drift, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * (log-ratio + K), detached. At policy == reference the loss is log 2.

    References:
        Zeng et al., Token-level Direct Preference Optimization, 2024, arXiv:2404.11999, objective of TDPO2.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.reference))
    aligned(batch.policy.chosen, *batch.divergence)
    drift = alpha * (batch.divergence.rejected.total - batch.divergence.chosen.total.detach())
    loss = -F.logsigmoid(beta * (chosen_ratio - rejected_ratio - drift))
    chosen = beta * (chosen_ratio + batch.divergence.chosen.total)
    rejected = beta * (rejected_ratio + batch.divergence.rejected.total)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def tdpo2_at_reference(batch: TDPO2Inputs, *, beta: float, alpha: float) -> float:
    """log(2)."""
    return math.log(2)


TDPO2 = Method(
    name="tdpo2",
    title="TDPO2",
    summary="DPO that holds back the drift of the token distributions along rejected responses.",
    inputs=TDPO2Inputs,
    loss=tdpo2_loss,
    hyperparameters=TDPO2Hyperparameters,
    loss_at_reference=tdpo2_at_reference,
    learning_rates=(5e-6,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        TDPO_PAPER,
        equation="objective of TDPO2",
        claim="A better balance between alignment and diversity than DPO and TDPO1.",
        note="It needs the reference model at every step, so a run costs one more forward per batch. "
        "The authors advise it for high learning rates.",
    ),
)
