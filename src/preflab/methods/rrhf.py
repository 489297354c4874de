"""RRHF: rank responses to align with human feedback, on pairs."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class RRHFHyperparameters(Hyperparameters):
    """Hyper-parameters of RRHF."""

    weight: float = hyper(
        1.0,
        domain=NON_NEGATIVE,
        grid=(1.0, 100.0),
        unit="",
        doc="Weight of the ranking term beside the likelihood term; 0 is fine-tuning per response.",
        log_scale=True,
    )


def rrhf_loss(batch: Pair, *, weight: float) -> LossOutput:
    """Hinge without a margin on the log-probs per token, plus the likelihood of the better response.

    loss = weight * max(0, m(rejected) - m(chosen)) - m(chosen)
    m(y) = log pi(y) / |y|

    With n ranked responses the paper sums the hinge over all pairs and fine-tunes on the best one; a pair has one of
    each.

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        weight: weight of the ranking term, [0, inf).

    Returns:
        loss [pair], nats/token; rewards [pair] = log-prob per token, detached.

    References:
        Yuan et al., RRHF: Rank Responses to Align Language Models with Human Feedback without tears, 2023,
        arXiv:2304.05302, objective.
    """
    aligned(*batch)
    chosen, rejected = batch.chosen.mean, batch.rejected.mean
    loss = weight * F.relu(rejected - chosen) - chosen
    return LossOutput(loss, chosen.detach(), rejected.detach())


RRHF = Method(
    name="rrhf",
    title="RRHF",
    summary="Fine-tunes on the better response and, where the worse one is likelier per token, pushes it below.",
    inputs=Pair,
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
        bibtex="""@inproceedings{yuan2023rrhf,
  title = {{RRHF}: Rank Responses to Align Language Models with Human Feedback without tears},
  author = {Yuan, Zheng and Yuan, Hongyi and Tan, Chuanqi and Wang, Wei and Huang, Songfang and Huang, Fei},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {36},
  year = {2023},
  eprint = {2304.05302},
  archivePrefix = {arXiv}
}""",
        note="The likelihood is per token here and in the authors' code; their script weighs the ranking term by 1, "
        "their code defaults to 100.",
    ),
)
