"""The Eurus objective for a reward model: preferences, and the sign of every score."""

import math

import torch.nn.functional as F

from preflab.methods._ops import aligned
from preflab.methods._types import LossOutput, Method
from preflab.methods.bradley_terry import ScoredPair
from preflab.methods.eurus import EURUS


def eurus_reward_loss(batch: ScoredPair) -> LossOutput:
    """Logistic loss of the difference of two scores, and of each score against zero.

    loss = -log sigma(r(chosen) - r(rejected)) - log sigma(r(chosen)) - log sigma(-r(rejected))

    Args:
        batch: scores, float32 [pair].

    Returns:
        loss [pair], nats; rewards [pair] = the scores, detached. A head that says zero of both has 3 log 2.

    References:
        Yuan et al., Advancing LLM Reasoning Generalists with Preference Trees, 2024, arXiv:2404.02078, section 3.2,
        L_BT + L_DR.
    """
    chosen, rejected = batch.value
    aligned(chosen, rejected)
    loss = -F.logsigmoid(chosen.value - rejected.value) - F.logsigmoid(chosen.value) - F.logsigmoid(-rejected.value)
    return LossOutput(loss, chosen.value.detach(), rejected.value.detach())


def eurus_reward_at_reference(batch: ScoredPair) -> float:
    """3 log(2): a head begins at zero."""
    return 3 * math.log(2)


EURUS_REWARD = Method(
    name="eurus_reward",
    title="Eurus reward model",
    summary="Fits scores of responses to preferences, with good responses above zero and bad ones below.",
    inputs=ScoredPair,
    loss=eurus_reward_loss,
    loss_at_reference=eurus_reward_at_reference,
    learning_rates=(9e-6,),
    source=EURUS.source,
)
