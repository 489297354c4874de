"""chi-PO: chi-squared preference optimisation."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import largest_exponent, tie
from preflab.methods._ops import bounded_exp, log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class ChiPOHyperparameters(Hyperparameters):
    """Hyper-parameters of chi-PO."""

    beta: float = tie(0.05, grid=(0.005, 0.05))
    reward_bound: float = hyper(
        10.0,
        domain=POSITIVE,
        grid=(10.0,),
        unit="nat",
        doc="Half the largest reward margin: the margin is clipped to +-2 times this value, with no gradient outside.",
    )
    clamp: float = largest_exponent()


def chi_po_loss(batch: ReferencedPair, *, beta: float, reward_bound: float, clamp: float) -> LossOutput:
    """DPO under a mixture of the chi-squared and the KL divergence, which punishes strong over-optimisation.

    loss = -log sigma(clip(beta * phi(l_chosen) - beta * phi(l_rejected), -2 R, 2 R))
    phi(l) = exp(l) + l, l_y = log pi/ref (y), R = reward_bound

    phi is f' of f(u) = u^2 / 2 + u log u at u = e^l, up to a constant.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        reward_bound: half the largest margin, nats, (0, inf).
        clamp: largest exponent, nats, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * phi, detached. At policy == reference the loss is log 2.

    References:
        Huang et al., Correcting the Mythos of KL-Regularization, 2024, arXiv:2407.13399, objective.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen_exp, chosen_clamped = bounded_exp(chosen_ratio, clamp)
    rejected_exp, rejected_clamped = bounded_exp(rejected_ratio, clamp)
    chosen, rejected = beta * (chosen_exp + chosen_ratio), beta * (rejected_exp + rejected_ratio)
    clamped = chosen_clamped | rejected_clamped | ((chosen - rejected).abs() > 2 * reward_bound)
    margin = (chosen - rejected).clamp(-2 * reward_bound, 2 * reward_bound)
    loss = -F.logsigmoid(margin)
    return LossOutput(loss, chosen.detach(), rejected.detach(), clamped=clamped)


def chi_po_at_reference(batch: ReferencedPair, *, beta: float, reward_bound: float, clamp: float) -> float:
    """log(2)."""
    return math.log(2)


CHI_PO = Method(
    name="chi_po",
    title="chi-PO",
    summary="DPO with one more term in the link, exp of the log-ratio, so that large departures from the reference "
    "cost more.",
    inputs=ReferencedPair,
    loss=chi_po_loss,
    hyperparameters=ChiPOHyperparameters,
    loss_at_reference=chi_po_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Huang et al., 2024",
        title="Correcting the Mythos of KL-Regularization: Direct Alignment without Overoptimization via Chi-Squared "
        "Preference Optimization",
        arxiv="2407.13399",
        equation="objective",
        claim="One changed line makes DPO provably robust to over-optimisation.",
        bibtex="""@inproceedings{huang2025correcting,
  title = {Correcting the Mythos of {KL}-Regularization: Direct Alignment without Overoptimization via Chi-Squared
           Preference Optimization},
  author = {Huang, Audrey and Zhan, Wenhao and Xie, Tengyang and Lee, Jason D. and Sun, Wen and
            Krishnamurthy, Akshay and Foster, Dylan J.},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2407.13399},
  archivePrefix = {arXiv}
}""",
        note="The bound R is the range of the true reward, which the paper leaves to the user; 10 is this project's "
        "default. No learning rate of its own is known here; DPO's stand in.",
    ),
)
