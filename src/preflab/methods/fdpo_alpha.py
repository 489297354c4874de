"""f-DPO (alpha): DPO under another divergence."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.methods._hyper import largest_exponent, tie
from preflab.methods._ops import bounded_exp, log_ratios
from preflab.methods._papers import F_DPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class FDPOAlphaHyperparameters(Hyperparameters):
    """Hyper-parameters of f-DPO (alpha)."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    alpha: float = hyper(
        0.5,
        domain=Domain(0.0, 1.0, low_open=True, high_open=False),
        grid=(0.3, 0.5, 0.7),
        unit="",
        doc="Which divergence: towards 0 it is reverse KL, at 1 forward KL.",
    )
    clamp: float = largest_exponent("TRL 1.16 uses the same.")


def fdpo_alpha_loss(batch: ReferencedPair, *, beta: float, alpha: float, clamp: float) -> LossOutput:
    """DPO whose tie to the reference is the alpha-divergence.

    loss = -log sigma(beta * (g(l_chosen) - g(l_rejected)))
    g(l) = -exp(-alpha * l) / alpha
    l_y = log pi/ref (y)

    With f(u) = (u^(1 - alpha) - (1 - alpha) u - alpha) / (alpha (alpha - 1)), f'(e^l) = (1 - e^(-alpha l)) / alpha, and
    the constant cancels. It tends to reverse KL as alpha goes to 0 and is forward KL at 1.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        alpha: which divergence, (0, 1].
        clamp: largest exponent, nats, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * g(log-ratio), detached. At policy == reference the loss is log 2.

    References:
        Wang et al., Beyond Reverse KL, 2023, arXiv:2309.16240, objective. TRL's `f_divergence_type` is the
        same up to a constant of g, which cancels.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen_exp, chosen_clamped = bounded_exp(-alpha * chosen_ratio, clamp)
    rejected_exp, rejected_clamped = bounded_exp(-alpha * rejected_ratio, clamp)
    chosen, rejected = -beta / alpha * chosen_exp, -beta / alpha * rejected_exp
    loss = -F.logsigmoid(chosen - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach(), clamped=chosen_clamped | rejected_clamped)


def fdpo_alpha_at_reference(batch: ReferencedPair, *, beta: float, alpha: float, clamp: float) -> float:
    """log(2)."""
    return math.log(2)


FDPO_ALPHA = Method(
    name="fdpo_alpha",
    title="f-DPO (alpha)",
    summary="DPO under the alpha-divergence instead of the reverse KL divergence.",
    inputs=ReferencedPair,
    loss=fdpo_alpha_loss,
    hyperparameters=FDPOAlphaHyperparameters,
    loss_at_reference=fdpo_alpha_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        F_DPO_PAPER,
        equation="objective",
        claim="Which divergence ties the policy to the reference trades alignment against the diversity of answers.",
        note="TRL's coefficient is 1 - alpha in these terms. No learning rate of its own is known here; DPO's stand "
        "in.",
    ),
)
