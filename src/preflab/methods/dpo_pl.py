"""DPO for rankings: the Plackett-Luce model in place of Bradley-Terry."""

from dataclasses import dataclass, replace

import torch

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned_lists, ends, per_prompt
from preflab.methods._papers import DPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedRanked


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOPLHyperparameters(Hyperparameters):
    """Hyper-parameters of DPO (Plackett-Luce)."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1, 0.5))


def dpo_pl_loss(batch: ReferencedRanked, *, beta: float) -> LossOutput:
    """Negative log-likelihood of a whole ranking: the best of all, then the best of the rest, and so on.

    loss = sum over k of (log sum over j >= k of exp(r_j)) - r_k
    r_j = beta * log pi/ref (y_j), responses numbered from best to worst

    Of a pair it is log(1 + exp(r_2 - r_1)): DPO. Responses with equal scores count in the order in which the data have
    them.

    Args:
        batch: sequence log-probs, float32 [response], nats, best first for each prompt; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [prompt], nats; rewards [prompt] of the best and the worst response, beta * log-ratio, detached. At policy
        == reference all n! rankings are equally likely and the loss is log n!.

    References:
        Rafailov et al., Direct Preference Optimization, 2023, arXiv:2305.18290, appendix A.3.
    """
    aligned_lists(*batch)
    prompt = batch.policy.prompt
    reward = beta * (batch.policy.total - batch.reference.total)
    place = torch.arange(len(reward), device=reward.device)
    remaining = (prompt[:, None] == prompt[None, :]) & (place[None, :] >= place[:, None])
    normaliser = reward[None, :].masked_fill(~remaining, -torch.inf).logsumexp(dim=1)
    best, worst = ends(prompt)
    return LossOutput(per_prompt(normaliser - reward, prompt), reward[best].detach(), reward[worst].detach())


def dpo_pl_at_reference(batch: ReferencedRanked, *, beta: float) -> float:
    """Mean of log(n!) over the prompts, n responses each."""
    return float(torch.lgamma(torch.bincount(batch.reference.prompt).double() + 1).mean())


DPO_PL = Method(
    name="dpo_pl",
    title="DPO (Plackett-Luce)",
    summary="DPO for rankings of several responses; on pairs it is DPO.",
    inputs=ReferencedRanked,
    loss=dpo_pl_loss,
    hyperparameters=DPOPLHyperparameters,
    loss_at_reference=dpo_pl_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        DPO_PAPER,
        equation="appendix A.3",
        note="DPO's learning rates.",
        claim="The derivation of DPO holds for rankings of several answers as it does for pairs.",
    ),
)
