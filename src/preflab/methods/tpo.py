"""TPO: triple preference optimisation, a gold response beside the pair."""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, Logps, LossOutput, Method


class Triple(NamedTuple):
    """Three responses to the same prompt: a better and a worse one to compare, and a gold one to learn."""

    chosen: Logps
    rejected: Logps
    gold: Logps


@dataclass(frozen=True, slots=True, kw_only=True)
class TPOHyperparameters(Hyperparameters):
    """Hyper-parameters of TPO."""

    beta: float = hyper(
        0.01, domain=POSITIVE, grid=(0.01, 0.1), unit="1/nat", doc="Scale of the log-prob margin.", log_scale=True
    )
    alpha: float = hyper(
        1.0,
        domain=NON_NEGATIVE,
        grid=(0.05, 0.5, 1.0),
        unit="",
        doc="Weight of the likelihood of the gold response; 0 removes it.",
    )


def tpo_loss(batch: Triple, *, beta: float, alpha: float) -> LossOutput:
    """Logistic loss of the pair without a reference, plus the likelihood of a third, gold response.

    loss_i = -log sigma(beta * (log pi(chosen) - log pi(rejected))) - alpha * log pi(gold) / (mean gold length)

    Args:
        batch: sequence log-probs, float32 [triple], nats, with lengths in tokens; response tokens only.
        beta: scale of the margin, 1/nat, (0, inf).
        alpha: weight of the likelihood term, [0, inf).

    Returns:
        loss [triple]; rewards [triple] = beta * log-prob, detached. Averaged over the batch the likelihood term is the
        mean over its gold tokens, so an example's loss depends on the lengths beside it. At equal chosen and rejected
        log-probs the first term is log 2.

    References:
        Saeidi et al., Triple Preference Optimization, 2024, arXiv:2405.16681, objective.
    """
    aligned(*batch)
    chosen, rejected = beta * batch.chosen.total, beta * batch.rejected.total
    nll = -batch.gold.total / batch.gold.length.mean()
    return LossOutput(-F.logsigmoid(chosen - rejected) + alpha * nll, chosen.detach(), rejected.detach())


TPO = Method(
    name="tpo",
    title="TPO",
    summary="Learns a gold response and the preference between two others in one step, without a reference.",
    inputs=Triple,
    loss=tpo_loss,
    hyperparameters=TPOHyperparameters,
    loss_at_reference=None,
    learning_rates=(5e-7, 1e-6),
    invariances=Invariances(batch_split=False),
    source=Source(
        paper="Saeidi et al., 2024",
        title="Triple Preference Optimization: Achieving Better Alignment using a Single Step Optimization",
        arxiv="2405.16681",
        equation="objective",
        claim="Outperforms DPO and SimPO on instructions and reasoning, in one step.",
        bibtex="""@misc{saeidi2024triple,
  title = {Triple Preference Optimization: Achieving Better Alignment using a Single Step Optimization},
  author = {Saeidi, Amir and Verma, Shivanshu and RRV, Aswin and Rasul, Kashif and Baral, Chitta},
  year = {2024},
  eprint = {2405.16681},
  archivePrefix = {arXiv}
}""",
        note="The likelihood term is a token mean of the batch, as in the authors' code at 2042d94a. Their data take "
        "the best, second and worst scored of several responses as gold, chosen and rejected. Names collide: tree "
        "preference optimisation is also called TPO.",
    ),
)
