"""LD-DPO: length-desensitised DPO."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from preflab.core.domains import UNIT_INTERVAL, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned_tokens
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedTokenPair, TokenLogps


@dataclass(frozen=True, slots=True, kw_only=True)
class LDDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of LD-DPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    alpha: float = hyper(
        0.5,
        domain=UNIT_INTERVAL,
        grid=(0.5,),
        unit="",
        doc="Weight of the tokens past the shorter response's length: 1 is DPO, 0 cuts the longer response.",
    )


def ld_dpo_loss(batch: ReferencedTokenPair, *, beta: float, alpha: float) -> LossOutput:
    """DPO in which the tokens of the longer response past the shorter one's length count less.

    loss = -log sigma(beta * (l(chosen) - l(rejected)))
    l(y) = sum over t < n of d_t + alpha * sum over t >= n of d_t
    d_t = log pi/ref of token t, n = min(|chosen|, |rejected|)

    Args:
        batch: token log-probs, float32 [token], nats, with lengths in tokens; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: weight of the surplus tokens, [0, 1].

    Returns:
        loss [pair], nats; rewards [pair] = beta * l, detached. At policy == reference the loss is log 2.

    References:
        Liu et al., Length Desensitization in Direct Preference Optimization, 2024, arXiv:2409.06411, objective.
        TRL's `ld_alpha` in its DPO trainer is the same.
    """
    aligned_tokens(*batch.policy, *batch.reference)
    shorter = torch.minimum(batch.policy.chosen.length, batch.policy.rejected.length)
    chosen = beta * _ratio(batch.policy.chosen, batch.reference.chosen, shorter, alpha)
    rejected = beta * _ratio(batch.policy.rejected, batch.reference.rejected, shorter, alpha)
    return LossOutput(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def _ratio(policy: TokenLogps, reference: TokenLogps, shorter: Tensor, alpha: float) -> Tensor:
    """Return the weighted log-ratio of each response, [pair], nats."""
    surplus = policy.position >= shorter[policy.response]
    weight = torch.where(surplus, alpha, 1.0).to(policy.token.dtype)
    return policy.sums(weight) - reference.sums(weight)


def ld_dpo_at_reference(batch: ReferencedTokenPair, *, beta: float, alpha: float) -> float:
    """log(2)."""
    return math.log(2)


LD_DPO = Method(
    name="ld_dpo",
    title="LD-DPO",
    summary="DPO in which tokens past the shorter response's length count less, against longer and longer answers.",
    inputs=ReferencedTokenPair,
    loss=ld_dpo_loss,
    hyperparameters=LDDPOHyperparameters,
    loss_at_reference=ld_dpo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Liu et al., 2024",
        title="Length Desensitization in Direct Preference Optimization",
        arxiv="2409.06411",
        equation="objective",
        claim="Answers 10 to 40 % shorter than DPO's, with better scores on MT-Bench and AlpacaEval 2.",
        bibtex="""@misc{liu2024length,
  title = {Length Desensitization in Direct Preference Optimization},
  author = {Liu, Wei and Bai, Yang and Han, Chengcheng and Weng, Rongxiang and Xu, Jun and Cao, Xuezhi and
            Wang, Jingang and Cai, Xunliang},
  year = {2024},
  eprint = {2409.06411},
  archivePrefix = {arXiv}
}""",
        note="No learning rate of its own is known here; DPO's stand in.",
    ),
)
