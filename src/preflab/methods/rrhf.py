"""RRHF: rank responses to align with human feedback."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned_lists, ends, per_prompt
from preflab.methods._types import Invariances, LossOutput, Method, Ranked


@dataclass(frozen=True, slots=True, kw_only=True)
class RRHFHyperparameters(Hyperparameters):
    """Hyper-parameters of RRHF."""

    rank_weight: float = hyper(
        1.0,
        domain=NON_NEGATIVE,
        grid=(1.0, 100.0),
        unit="",
        doc="Weight of the ranking term beside the likelihood term; 0 is fine-tuning per response.",
        log_scale=True,
    )


def rrhf_loss(batch: Ranked, *, rank_weight: float) -> LossOutput:
    """Hinge without a margin on the log-probs per token of all pairs, plus the summed likelihood of the best response.

    loss = rank_weight * (sum over score_i > score_j of max(0, m(y_j) - m(y_i))) - log pi(best)
    m(y) = log pi(y) / |y|

    Responses with equal scores are not compared. Of a pair it is
    rank_weight * max(0, m(rejected) - m(chosen)) - log pi(chosen).

    Args:
        batch: sequence log-probs, float32 [response], nats, with lengths in tokens, best first for each prompt;
            response tokens only; scores.
        rank_weight: weight of the ranking term, [0, inf).

    Returns:
        loss [prompt], nats; rewards [prompt] of the best and the worst response, log-prob per token, detached.
        Where the policy has the right order already, the loss is -log pi(best).

    References:
        Yuan et al., RRHF: Rank Responses to Align Language Models with Human Feedback without tears, 2023,
        arXiv:2304.05302, objective.
    """
    aligned_lists(*batch)
    mean, score, prompt = batch.policy.mean, batch.score.value, batch.policy.prompt
    compared = (prompt[:, None] == prompt[None, :]) & (score[:, None] > score[None, :])
    hinge = torch.where(compared, F.relu(mean[None, :] - mean[:, None]), 0.0).sum(dim=1)
    best, worst = ends(prompt)
    loss = rank_weight * per_prompt(hinge, prompt) - batch.policy.total[best]
    return LossOutput(loss, mean[best].detach(), mean[worst].detach())


RRHF = Method(
    name="rrhf",
    title="RRHF",
    summary="Fine-tunes on the best response and lowers worse ones where they are likelier per token than better ones.",
    inputs=Ranked,
    loss=rrhf_loss,
    hyperparameters=RRHFHyperparameters,
    loss_at_reference=None,
    learning_rates=(2e-5,),
    invariances=Invariances(),
    source=Source(
        paper="Yuan et al., 2023",
        title="RRHF: Rank Responses to Align Language Models with Human Feedback without tears",
        arxiv="2304.05302",
        equation="objective",
        claim="Comparable to PPO on Helpful and Harmless, with simpler code, fewer hyper-parameters and one or "
        "two models in memory.",
        bibtex="""@inproceedings{yuan2023rrhf,
  title = {{RRHF}: Rank Responses to Align Language Models with Human Feedback without tears},
  author = {Yuan, Zheng and Yuan, Hongyi and Tan, Chuanqi and Wang, Wei and Huang, Songfang and Huang, Fei},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {36},
  year = {2023},
  eprint = {2304.05302},
  archivePrefix = {arXiv}
}""",
        note="The likelihood is summed over tokens, as in the paper's equation; the authors' code at 24ec9e49 "
        "divides it by the padded length of the row, so weights of 1 (their script) and 100 (their default) "
        "belong to that form.",
    ),
)
