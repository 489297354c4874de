"""f-DPO (forward KL): DPO under another divergence."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import largest_exponent, tie
from preflab.methods._ops import bounded_exp, log_ratios
from preflab.methods._papers import F_DPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class FDPOForwardKLHyperparameters(Hyperparameters):
    """Hyper-parameters of f-DPO (forward KL)."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    clamp: float = largest_exponent("TRL 1.16 has no bound here.")


def fdpo_forward_kl_loss(batch: ReferencedPair, *, beta: float, clamp: float) -> LossOutput:
    """DPO whose tie to the reference is the forward KL divergence.

    loss = -log sigma(beta * (g(l_chosen) - g(l_rejected)))
    g(l) = -exp(-l)
    l_y = log pi/ref (y)

    With f(u) = -log u, f'(e^l) = -e^-l. The reward falls without bound as a response becomes unlikely and is bounded
    above by zero.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        clamp: largest exponent, nats, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * g(log-ratio), detached. At policy == reference the loss is log 2.

    References:
        Wang et al., Beyond Reverse KL, 2023, arXiv:2309.16240, objective. TRL's `f_divergence_type` is the
        same up to a constant of g, which cancels.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen_exp, chosen_clamped = bounded_exp(-chosen_ratio, clamp)
    rejected_exp, rejected_clamped = bounded_exp(-rejected_ratio, clamp)
    chosen, rejected = -beta * chosen_exp, -beta * rejected_exp
    loss = -F.logsigmoid(chosen - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach(), clamped=chosen_clamped | rejected_clamped)


def fdpo_forward_kl_at_reference(batch: ReferencedPair, *, beta: float, clamp: float) -> float:
    """log(2)."""
    return math.log(2)


FDPO_FORWARD_KL = Method(
    name="fdpo_forward_kl",
    title="f-DPO (forward KL)",
    summary="DPO under the forward KL divergence instead of the reverse KL divergence.",
    inputs=ReferencedPair,
    loss=fdpo_forward_kl_loss,
    hyperparameters=FDPOForwardKLHyperparameters,
    loss_at_reference=fdpo_forward_kl_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        F_DPO_PAPER,
        equation="objective",
        claim="Which divergence ties the policy to the reference trades alignment against the diversity of answers.",
        note="No learning rate of its own is known here; DPO's stand in.",
    ),
)
