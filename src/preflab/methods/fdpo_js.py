"""f-DPO (Jensen-Shannon): DPO under another divergence."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import F_DPO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class FDPOJSHyperparameters(Hyperparameters):
    """Hyper-parameters of f-DPO (Jensen-Shannon)."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))


def fdpo_js_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """DPO whose tie to the reference is the Jensen-Shannon divergence.

    loss = -log sigma(beta * (g(l_chosen) - g(l_rejected)))
    g(l) = log sigma(l)
    l_y = log pi/ref (y)

    With f(u) = u log u - (1 + u) log((1 + u) / 2), f'(e^l) = log(2 e^l / (1 + e^l)) = log 2 + log sigma(l), and the
    constant cancels.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * g(log-ratio), detached. At policy == reference the loss is log 2.

    References:
        Wang et al., Beyond Reverse KL, 2023, arXiv:2309.16240, objective. TRL's `f_divergence_type` is the
        same up to a constant of g, which cancels.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * F.logsigmoid(chosen_ratio), beta * F.logsigmoid(rejected_ratio)
    loss = -F.logsigmoid(chosen - rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def fdpo_js_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


FDPO_JS = Method(
    name="fdpo_js",
    title="f-DPO (Jensen-Shannon)",
    summary="DPO under the Jensen-Shannon divergence instead of the reverse KL divergence.",
    inputs=ReferencedPair,
    loss=fdpo_js_loss,
    hyperparameters=FDPOJSHyperparameters,
    loss_at_reference=fdpo_js_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=replace(
        F_DPO_PAPER,
        equation="objective",
        claim="Which divergence ties the policy to the reference trades alignment against the diversity of answers.",
        note="No learning rate of its own is known here; DPO's stand in.",
    ),
)
