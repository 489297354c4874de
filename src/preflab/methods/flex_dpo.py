"""Flex-DPO: DPO with a strength for each of the two responses."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.methods._ops import log_ratios
from preflab.methods._papers import THREED_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class FlexDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of Flex-DPO."""

    beta_chosen: float = hyper(
        0.1,
        domain=POSITIVE,
        grid=(0.1,),
        unit="1/nat",
        doc="Scale of the chosen log-ratio.",
        log_scale=True,
    )
    beta_rejected: float = hyper(
        0.08,
        domain=POSITIVE,
        grid=(0.01, 0.05, 0.08, 0.1, 0.15),
        unit="1/nat",
        doc="Scale of the rejected log-ratio; smaller slows its fall, equal to beta_chosen is DPO.",
        log_scale=True,
    )


def flex_dpo_loss(batch: ReferencedPair, *, beta_chosen: float, beta_rejected: float) -> LossOutput:
    """Logistic loss of a margin whose two log-ratios have their own strengths.

    loss = -log sigma(beta_chosen * log pi/ref (chosen) - beta_rejected * log pi/ref (rejected))

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta_chosen: scale of the chosen log-ratio, 1/nat, (0, inf).
        beta_rejected: scale of the rejected log-ratio, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = each beta * log-ratio, detached. At policy == reference the loss is log 2.

    References:
        Yan et al., 3D-Properties: Identifying Challenges in DPO and Charting a Path Forward, 2024, arXiv:2406.07327,
        section 4.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta_chosen * chosen_ratio, beta_rejected * rejected_ratio
    loss = -F.logsigmoid(chosen - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def flex_dpo_at_reference(batch: ReferencedPair, *, beta_chosen: float, beta_rejected: float) -> float:
    """log(2)."""
    return math.log(2)


FLEX_DPO = Method(
    name="flex_dpo",
    title="Flex-DPO",
    summary="DPO that slows the fall of the rejected response by a smaller beta of its own.",
    inputs=ReferencedPair,
    loss=flex_dpo_loss,
    hyperparameters=FlexDPOHyperparameters,
    loss_at_reference=flex_dpo_at_reference,
    learning_rates=(5e-7, 5e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        THREED_PAPER,
        equation="section 4",
        claim="Slowing the fall of the rejected likelihood lessens the fall of the chosen one and the spread to "
        "unseen answers.",
        note="The text calls the constants adaptive; they are fixed numbers.",
    ),
)
