"""APO-down: anchored preference optimisation for data worse than the model."""

from dataclasses import dataclass, replace

import torch

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import APO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class APODownHyperparameters(Hyperparameters):
    """Hyper-parameters of APO-down."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))


def apo_down_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Lowers both likelihoods, the rejected one more.

    loss = sigma(beta * log pi/ref (chosen)) + sigma(-beta * delta)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    The paper's equation is this minus 1, which makes no difference to training.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair]; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 1.

    References:
        D'Oosterlinck et al., Anchored Preference Optimization and Contrastive Revisions, 2024, arXiv:2408.06266, eq. 8.
        TRL's `apo_down` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def apo_down_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """1."""
    return 1.0


APO_DOWN = Method(
    name="apo_down",
    title="APO-down",
    summary="Lowers both responses, the rejected one more, for data in which even the chosen one is worse than the "
    "model.",
    inputs=ReferencedPair,
    loss=apo_down_loss,
    hyperparameters=APODownHyperparameters,
    loss_at_reference=apo_down_at_reference,
    learning_rates=(2e-7,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        APO_PAPER,
        equation="8",
        claim="On contrastive revisions the anchored objectives improve Llama-3-8B-Instruct by 7.65 % on "
        "MixEval-Hard and close 45 % of the gap to GPT-4-turbo.",
        note="The chosen likelihood falls by design.",
    ),
)
