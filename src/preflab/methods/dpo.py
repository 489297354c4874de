"""DPO: direct preference optimisation."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned
from preflab.methods._papers import DPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOHyperparameters(Hyperparameters):
    """Hyper-parameters of DPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1, 0.5))


def dpo_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Logistic loss of the margin between the implicit rewards of the chosen and the rejected response.

    loss = -log sigma(beta * (log pi/ref (chosen) - log pi/ref (rejected)))

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2.

    References:
        Rafailov et al., Direct Preference Optimization, 2023, arXiv:2305.18290, eq. 7.
        TRL's `sigmoid` loss is the same.
    """
    aligned(*batch.policy, *batch.reference)
    chosen = beta * (batch.policy.chosen.total - batch.reference.chosen.total)
    rejected = beta * (batch.policy.rejected.total - batch.reference.rejected.total)
    return LossOutput(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def dpo_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


DPO = Method(
    name="dpo",
    title="DPO",
    summary="Fits a Bradley-Terry model of the preferences whose reward is the log-ratio of policy to reference.",
    inputs=ReferencedPair,
    loss=dpo_loss,
    hyperparameters=DPOHyperparameters,
    loss_at_reference=dpo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        DPO_PAPER,
        equation="7",
        claim="Solves the objective of RLHF without sampling or a reward model, and does as well as PPO or better "
        "in sentiment control, summarisation and single-turn dialogue.",
    ),
)
