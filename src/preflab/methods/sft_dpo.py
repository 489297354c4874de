"""SFT-DPO: DPO plus the likelihood of the chosen response."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import THREED_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of SFT-DPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    gamma: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.01, 0.1, 1.0),
        unit="",
        doc="Weight of the summed log-likelihood of the chosen response; 0 is DPO. Values as searched in "
        "arXiv:2410.08847; the paper gives none.",
        log_scale=True,
    )


def sft_dpo_loss(batch: ReferencedPair, *, beta: float, gamma: float) -> LossOutput:
    """DPO with a likelihood term, so that the chosen gradient never vanishes.

    loss = -log sigma(beta * delta) - gamma * log pi(chosen)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        gamma: weight of the likelihood term, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2 plus
        the likelihood term.

    References:
        Yan et al., 3D-Properties: Identifying Challenges in DPO and Charting a Path Forward, 2024, arXiv:2406.07327,
        eq. 7.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = -F.logsigmoid(chosen - rejected) - gamma * batch.policy.chosen.total
    return LossOutput(loss, chosen.detach(), rejected.detach())


def sft_dpo_at_reference(batch: ReferencedPair, *, beta: float, gamma: float) -> float:
    """log(2) - gamma * mean of log ref(chosen)."""
    return math.log(2) - gamma * float(batch.reference.chosen.total.mean())


SFT_DPO = Method(
    name="sft_dpo",
    title="SFT-DPO",
    summary="DPO with a summed likelihood term that keeps the chosen response likely.",
    inputs=ReferencedPair,
    loss=sft_dpo_loss,
    hyperparameters=SFTDPOHyperparameters,
    loss_at_reference=sft_dpo_at_reference,
    learning_rates=(5e-7, 5e-6),
    invariances=Invariances(),
    source=replace(
        THREED_PAPER,
        equation="7",
        claim="A likelihood term lessens the fall of the chosen likelihood and the spread to unseen answers.",
        note="The printed equation has the likelihood inside the outer minus; the gradient below it fixes the sign. "
        "Sum over tokens, as log pi reads; RPO and DPO with NLL differ in name, weight and length normalisation.",
    ),
)
