"""TR-DPO: DPO with a reference that follows the policy."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, Pair, ReferencedPair


class MovingReferencedPair(NamedTuple):
    """Two responses to the same prompt under the policy and under a reference that follows it."""

    policy: Pair
    moving_reference: Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class TRDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of TR-DPO."""

    beta: float = tie(0.05, grid=(0.05,))
    alpha: float = hyper(
        0.6,
        domain=Domain(0.0, 1.0, low_open=True, high_open=False),
        grid=(0.6, 1.0),
        unit="",
        doc="Share of the policy in an updated reference: below 1 a soft update, at 1 a hard one.",
    )
    tau: float = hyper(
        512.0,
        domain=Domain(1.0, math.inf, low_open=False, high_open=True),
        grid=(512.0,),
        unit="step",
        doc="Optimizer steps between updates, rounded; a run shorter than that is DPO.",
        log_scale=True,
    )


def tr_dpo_loss(batch: MovingReferencedPair, *, beta: float, alpha: float, tau: float) -> LossOutput:
    """DPO whose reference is moved towards the policy every tau steps.

    loss = -log sigma(beta * (log pi/ref (chosen) - log pi/ref (rejected)))
    ref <- alpha * pi + (1 - alpha) * ref, weight by weight, after every tau-th step

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: share of the policy in an updated reference, (0, 1].
        tau: optimizer steps between updates, [1, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio against the reference of the moment, detached. At policy ==
        reference, such as after a hard update, the loss is log 2.

    References:
        Gorbatovski et al., Learn Your Reference Model for Real Good Alignment, 2024, arXiv:2404.09656, objective.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.moving_reference))
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    return LossOutput(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def tr_dpo_at_reference(batch: MovingReferencedPair, *, beta: float, alpha: float, tau: float) -> float:
    """log(2)."""
    return math.log(2)


def tr_dpo_update(step: int, *, beta: float, alpha: float, tau: float) -> float:
    """Alpha after every tau-th step, 0 after the others."""
    return alpha if step % round(tau) == 0 else 0.0


TR_DPO = Method(
    name="tr_dpo",
    title="TR-DPO",
    summary="DPO whose reference follows the policy, so that the tie does not hold it to the start point for ever.",
    inputs=MovingReferencedPair,
    loss=tr_dpo_loss,
    hyperparameters=TRDPOHyperparameters,
    loss_at_reference=tr_dpo_at_reference,
    reference_update=tr_dpo_update,
    learning_rates=(1e-6,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Gorbatovski et al., 2024",
        title="Learn Your Reference Model for Real Good Alignment",
        arxiv="2404.09656",
        equation="objective",
        claim="Moving the reference along lessens over-optimisation and does better than DPO in dialogue, "
        "summarisation, AlpacaEval 2 and Arena-Hard.",
        bibtex="""@inproceedings{gorbatovski2025learn,
  title = {Learn Your Reference Model for Real Good Alignment},
  author = {Gorbatovski, Alexey and Shaposhnikov, Boris and Malakhov, Alexey and Surnachev, Nikita and
            Aksenov, Yaroslav and Maksimov, Ian and Balagansky, Nikita and Gavrilov, Daniil},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2404.09656},
  archivePrefix = {arXiv}
}""",
        note="The paper's soft update (alpha 0.6) and hard update (every 512 steps) are one rule here, as in TRL 1.16, "
        "whose defaults combine both. Log-probs of a moving reference cannot be scored once: a run costs one more "
        "forward per batch, and checkpoints hold the reference. An adapter is mixed in by what it adds to the weights.",
    ),
)
