"""R-DPO: DPO regularised by length."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of R-DPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    alpha: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.05, 0.1, 0.5, 1.0),
        unit="1/token",
        doc="Penalty per token by which the chosen response is longer; 0 is DPO.",
        log_scale=True,
    )


def r_dpo_loss(batch: ReferencedPair, *, beta: float, alpha: float) -> LossOutput:
    """DPO whose margin is credited with the extra length of the chosen response, so that length need not be learnt.

    loss = -log sigma(beta * delta + alpha * (|chosen| - |rejected|))
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    The optimal policy of the penalised reward r - alpha |y| has the log-ratio (r - alpha |y|) / beta, so r = beta * log
    pi/ref + alpha |y| up to the prompt's constant, and a Bradley-Terry model of r has this margin: a longer chosen
    response is partly explained by its length and pushed less.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: penalty per token of extra length, 1/token, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is -log
        sigma(alpha * (|chosen| - |rejected|)).

    References:
        Park et al., Disentangling Length from Quality in Direct Preference Optimization, 2024, arXiv:2403.19159,
        eq. 9.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    longer = batch.policy.chosen.length - batch.policy.rejected.length
    loss = -F.logsigmoid(chosen - rejected + alpha * longer)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def r_dpo_at_reference(batch: ReferencedPair, *, beta: float, alpha: float) -> float:
    """Mean of -log sigma(alpha * (|chosen| - |rejected|))."""
    longer = batch.policy.chosen.length - batch.policy.rejected.length
    return float(-F.logsigmoid(alpha * longer).mean())


R_DPO = Method(
    name="r_dpo",
    title="R-DPO",
    summary="DPO that explains preferences by length first, so that the policy does not learn to write ever longer "
    "answers.",
    inputs=ReferencedPair,
    loss=r_dpo_loss,
    hyperparameters=RDPOHyperparameters,
    loss_at_reference=r_dpo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Park et al., 2024",
        title="Disentangling Length from Quality in Direct Preference Optimization",
        arxiv="2403.19159",
        equation="9",
        claim="Keeps DPO from buying its margin with length, at the same quality.",
        bibtex="""@inproceedings{park2024disentangling,
  title = {Disentangling Length from Quality in Direct Preference Optimization},
  author = {Park, Ryan and Rafailov, Rafael and Ermon, Stefano and Finn, Chelsea},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2024},
  year = {2024},
  eprint = {2403.19159},
  archivePrefix = {arXiv}
}""",
        note="The sign of the length term differs between tools: the derivation gives plus, as here, in SimPO's "
        "comparison and in SamPO's code (lenN_lambda); alpha-DPO's code subtracts it.",
    ),
)
