"""alpha-DPO: SimPO whose target margin follows the reference."""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned, moving_average, standardised
from preflab.methods._types import Invariances, LossOutput, Method, Moments, Pair

_MOMENTUM = 0.9


class PairWithUsualGap(NamedTuple):
    """Two responses under policy and frozen reference, and the gaps between the two models so far."""

    policy: Pair
    reference: Pair
    gaps: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of alpha-DPO."""

    beta: float = hyper(
        2.5,
        domain=POSITIVE,
        grid=(2.5, 10.0),
        unit="token/nat",
        doc="Scale of the length-normalised log-probs.",
        log_scale=True,
    )
    gamma_beta_ratio: float = hyper(
        0.15,
        domain=NON_NEGATIVE,
        grid=(0.15, 0.4, 0.6),
        unit="nat/token",
        doc="Target margin of an average pair.",
    )
    alpha: float = hyper(
        0.05,
        domain=NON_NEGATIVE,
        grid=(0.05, 0.2),
        unit="nat/token",
        doc="How much the target grows with the pair's standardised gap; 0 is SimPO.",
    )


def alpha_dpo_loss(batch: PairWithUsualGap, *, beta: float, gamma_beta_ratio: float, alpha: float) -> LossOutput:
    """SimPO with a larger target margin for pairs on which the policy already beats the reference by more than usual.

    loss = -log sigma(beta * (p - gamma_beta_ratio - alpha * M))
    p = avg log pi(chosen) - avg log pi(rejected), avg = sum over tokens / tokens
    M = (g - m) / s, a constant for the gradient, with g = p - (the same p under ref)
    m, s = moving averages of the mean and the deviation of a batch's g, momentum 0.9, begun at 0

    m and s already contain this batch. While s is 0 (the first step at the reference, batches of one pair) M is 0.

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only; the gaps so far.
        beta: scale, token/nat, (0, inf).
        gamma_beta_ratio: target margin of an average pair, nat/token, [0, inf).
        alpha: weight of the standardised gap, nat/token, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * avg log pi, detached. At policy == reference in the first step it is
        SimPO's loss on the reference's log-probs: -log sigma(beta * (p - gamma_beta_ratio)).

    References:
        Wu et al., alpha-DPO: Adaptive Reward Margin is What Direct Preference Optimization Needs, 2024,
        arXiv:2410.10148, objective.
    """
    aligned(*batch.policy, *batch.reference)
    chosen, rejected = batch.policy.chosen.mean, batch.policy.rejected.mean
    gap = chosen - rejected - (batch.reference.chosen.mean - batch.reference.rejected.mean)
    tracked = moving_average(batch.gaps, gap, _MOMENTUM)
    target = gamma_beta_ratio + alpha * standardised(gap.detach(), tracked)
    loss = -F.logsigmoid(beta * (chosen - rejected - target))
    return LossOutput(loss, (beta * chosen).detach(), (beta * rejected).detach(), (tracked,))


def alpha_dpo_at_reference(batch: PairWithUsualGap, *, beta: float, gamma_beta_ratio: float, alpha: float) -> float:
    """Mean of -log sigma(beta * (p of ref - gamma_beta_ratio)) in the first step."""
    reference = batch.reference.chosen.mean - batch.reference.rejected.mean
    zero = reference - reference
    target = gamma_beta_ratio + alpha * standardised(zero, moving_average(batch.gaps, zero, _MOMENTUM))
    return float(-F.logsigmoid(beta * (reference - target)).mean())


ALPHA_DPO = Method(
    name="alpha_dpo",
    title="alpha-DPO",
    summary="SimPO whose target margin is larger for pairs on which the policy is further from the reference than "
    "usual.",
    inputs=PairWithUsualGap,
    loss=alpha_dpo_loss,
    hyperparameters=AlphaDPOHyperparameters,
    loss_at_reference=alpha_dpo_at_reference,
    learning_rates=(6e-7, 8e-7, 1e-6),
    invariances=Invariances(batch_split=False),
    source=Source(
        paper="Wu et al., 2024",
        title="alpha-DPO: Adaptive Reward Margin is What Direct Preference Optimization Needs",
        arxiv="2410.10148",
        equation="objective",
        claim="An adaptive margin scores above DPO and SimPO on AlpacaEval 2 and Arena-Hard.",
        bibtex="""@misc{wu2024alpha,
  title = {alpha-{DPO}: Adaptive Reward Margin is What Direct Preference Optimization Needs},
  author = {Wu, Junkang and Wang, Xue and Yang, Zhengyi and Wu, Jiancan and Gao, Jinyang and Ding, Bolin and
            Wang, Xiang and He, Xiangnan},
  year = {2024},
  eprint = {2410.10148},
  archivePrefix = {arXiv}
}""",
        note="Both margins are scaled by beta, as in the authors' code at f6a81023; there a deviation of 0 divides by "
        "zero. Names collide: f-DPO under an alpha-divergence is fdpo_alpha here.",
    ),
)
