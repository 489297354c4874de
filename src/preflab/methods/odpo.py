"""ODPO: DPO with an offset for how much better the better response is."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned, log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, Pair, ReferencedPair, ValuePair


class ScoredPair(NamedTuple):
    """Two responses to the same prompt under policy and frozen reference, and the scores that the data give them."""

    policy: Pair
    reference: Pair
    score: ValuePair


@dataclass(frozen=True, slots=True, kw_only=True)
class ODPOHyperparameters(Hyperparameters):
    """Hyper-parameters of ODPO."""

    beta: float = tie(0.5, grid=(0.05, 0.5, 0.7))
    alpha: float = hyper(1.0, domain=NON_NEGATIVE, grid=(0.5, 1.0), unit="", doc="Weight of the offset; 0 is DPO.")


def odpo_loss(batch: ScoredPair, *, beta: float, alpha: float) -> LossOutput:
    """DPO whose margin must exceed an offset that grows with the difference of the two scores.

    loss = -log sigma(beta * (log pi/ref (chosen) - log pi/ref (rejected)) - alpha * log(s(chosen) - s(rejected)))

    Args:
        batch: sequence log-probs, float32 [pair], nats, response tokens only; scores, float32 [pair].
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: weight of the offset, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is
        log(1 + (s(chosen) - s(rejected))^alpha): log 2 at a difference of 1.

    Raises:
        ValueError: a chosen response has no larger score than its rejected one.

    References:
        Amini et al., Direct Preference Optimization with an Offset, 2024, arXiv:2402.10571, objective with f = log.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.reference))
    aligned(batch.policy.chosen, *batch.score)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = -F.logsigmoid(chosen - rejected - alpha * torch.log(_difference(batch)))
    return LossOutput(loss, chosen.detach(), rejected.detach())


def _difference(batch: ScoredPair) -> Tensor:
    difference = batch.score.chosen.value - batch.score.rejected.value
    if bool((difference <= 0).any()):
        raise ValueError("ODPO needs a larger score for every chosen response than for its rejected one.")
    return difference


def odpo_at_reference(batch: ScoredPair, *, beta: float, alpha: float) -> float:
    """Mean of log(1 + (s(chosen) - s(rejected))^alpha)."""
    return float(torch.log1p(_difference(batch).double() ** alpha).mean())


ODPO = Method(
    name="odpo",
    title="ODPO",
    summary="DPO that asks a larger margin of pairs whose scores lie further apart.",
    inputs=ScoredPair,
    loss=odpo_loss,
    hyperparameters=ODPOHyperparameters,
    loss_at_reference=odpo_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Amini et al., 2024",
        title="Direct Preference Optimization with an Offset",
        arxiv="2402.10571",
        equation="objective with f = log",
        claim="Outperforms DPO, most where there are few pairs.",
        bibtex="""@inproceedings{amini2024direct,
  title = {Direct Preference Optimization with an Offset},
  author = {Amini, Afra and Vieira, Tim and Cotterell, Ryan},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2024},
  year = {2024},
  eprint = {2402.10571},
  archivePrefix = {arXiv}
}""",
        note="A difference below 1 gives a negative offset, so the scale of the scores matters. The authors' code at "
        "c4a01be9 keeps ties in two of three data sets, where they get loss 0; here they are an error.",
    ),
)
