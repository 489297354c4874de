"""APO-zero: anchored preference optimisation for data better than the model."""

from dataclasses import dataclass, replace

import torch

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import APO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class APOZeroHyperparameters(Hyperparameters):
    """Hyper-parameters of APO-zero."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))


def apo_zero_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Raises the chosen and lowers the rejected likelihood, each against the reference.

    loss = sigma(-beta * log pi/ref (chosen)) + sigma(beta * log pi/ref (rejected))

    It is KTO with a baseline of zero on both responses of a pair; 1 - sigma(x) is written sigma(-x), which keeps its
    digits. The paper's equation is this minus 1.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair]; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 1.

    References:
        D'Oosterlinck et al., Anchored Preference Optimization and Contrastive Revisions, 2024, arXiv:2408.06266, eq. 7.
        TRL's `apo_zero` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = torch.sigmoid(-chosen) + torch.sigmoid(rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def apo_zero_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """1."""
    return 1.0


APO_ZERO = Method(
    name="apo_zero",
    title="APO-zero",
    summary="Anchors both responses to the reference: chosen up, rejected down, for data better than the model.",
    inputs=ReferencedPair,
    loss=apo_zero_loss,
    hyperparameters=APOZeroHyperparameters,
    loss_at_reference=apo_zero_at_reference,
    learning_rates=(2e-7,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        APO_PAPER,
        equation="7",
        claim="On contrastive revisions the anchored objectives improve Llama-3-8B-Instruct by 7.65 % on "
        "MixEval-Hard and close 45 % of the gap to GPT-4-turbo.",
        note="Names collide: adversarial preference optimisation is also called APO.",
    ),
)
