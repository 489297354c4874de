"""LN-DPO: DPO on log-ratios averaged over tokens."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class LNDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of LN-DPO."""

    beta: float = hyper(
        5.0,
        domain=POSITIVE,
        grid=(2.0, 3.0, 5.0),
        unit="token/nat",
        doc="Strength of the tie to the reference, per token. Not comparable with the beta of DPO (per response).",
        log_scale=True,
    )


def ln_dpo_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """DPO with each log-ratio divided by the length of its response.

    loss = -log sigma(beta * (log pi/ref (chosen) / |chosen| - log pi/ref (rejected) / |rejected|))

    Args:
        batch: sequence log-probs, float32 [pair], nats, with lengths in tokens; response tokens only.
        beta: strength of the tie to the reference, token/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio per token, detached. At policy == reference the loss is
        log 2.

    References:
        Ahrabian et al., A Practical Analysis of Human Alignment with *PO, 2024, arXiv:2407.15229, definition of LN-DPO.
        The same objective is `dpo_norm` in Tülu 3 (arXiv:2411.15124, beta 5) and `sigmoid_norm` in TRL.
    """
    aligned(*batch.policy, *batch.reference)
    chosen = beta * (batch.policy.chosen.mean - batch.reference.chosen.mean)
    rejected = beta * (batch.policy.rejected.mean - batch.reference.rejected.mean)
    return LossOutput(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def ln_dpo_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


LN_DPO = Method(
    name="ln_dpo",
    title="LN-DPO",
    summary="DPO on log-ratios per token, which removes the incentive to win the margin by length.",
    inputs=ReferencedPair,
    loss=ln_dpo_loss,
    hyperparameters=LNDPOHyperparameters,
    loss_at_reference=ln_dpo_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Ahrabian et al., 2024",
        title="A Practical Analysis of Human Alignment with *PO",
        arxiv="2407.15229",
        equation="definition of LN-DPO",
        claim="At their best settings DPO, LN-DPO and SimPO are about equal; over a whole grid LN-DPO is "
        "steadier than DPO, with shorter answers.",
        bibtex="""@inproceedings{ahrabian2025practical,
  title = {A Practical Analysis of Human Alignment with *{PO}},
  author = {Ahrabian, Kian and Lin, Xihui and Patra, Barun and Chaudhary, Vishrav and Benhaim, Alon and
            Pujara, Jay and Song, Xia},
  booktitle = {Findings of the Association for Computational Linguistics: NAACL 2025},
  pages = {8013--8021},
  year = {2025},
  eprint = {2407.15229},
  archivePrefix = {arXiv}
}""",
        note="Default beta and learning rate are those of Tülu 3, which trains the same objective (arXiv:2411.15124); "
        "the rest of the grid is the range in common use. Another method of this name (latent noise) is unrelated.",
    ),
)
