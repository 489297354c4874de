"""Cal-DPO: DPO with calibrated implicit rewards."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class CalDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of Cal-DPO."""

    beta: float = hyper(
        0.002,
        domain=POSITIVE,
        grid=(0.0003, 0.0005, 0.002),
        unit="1/nat",
        doc="Sets the targets of the log-ratios, +-1/(2 beta); it does not scale the logistic term.",
        log_scale=True,
    )


def cal_dpo_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Logistic loss of the plain log-ratio margin plus the squared distance of each log-ratio from its target.

    loss = -log sigma(delta) + (log pi/ref (chosen) - t)^2 + (log pi/ref (rejected) + t)^2
    t = 1 / (2 beta)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: sets the targets +-1/(2 beta), 1/nat, (0, inf).

    Returns:
        loss [pair]; rewards [pair] = log-ratio, detached. At policy == reference the loss is log 2 + 1 / (2 beta^2).

    References:
        Xiao et al., Cal-DPO: Calibrated Direct Preference Optimization for Language Model Alignment, 2024,
        arXiv:2412.14516, objective.
    """
    chosen, rejected = log_ratios(batch)
    target = 1 / (2 * beta)
    loss = -F.logsigmoid(chosen - rejected) + (chosen - target) ** 2 + (rejected + target) ** 2
    return LossOutput(loss, chosen.detach(), rejected.detach())


def cal_dpo_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2) + 1 / (2 beta^2)."""
    return math.log(2) + 1 / (2 * beta**2)


CAL_DPO = Method(
    name="cal_dpo",
    title="Cal-DPO",
    summary="DPO whose log-ratios are also drawn to fixed targets, so that rewards have a scale.",
    inputs=ReferencedPair,
    loss=cal_dpo_loss,
    hyperparameters=CalDPOHyperparameters,
    loss_at_reference=cal_dpo_at_reference,
    learning_rates=(3e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Xiao et al., 2024",
        title="Cal-DPO: Calibrated Direct Preference Optimization for Language Model Alignment",
        arxiv="2412.14516",
        equation="objective",
        claim="Contrastive losses look at relative values alone; calibrating implicit rewards to the scale of "
        "true ones improves them.",
        bibtex="""@inproceedings{xiao2024caldpo,
  title = {{Cal-DPO}: Calibrated Direct Preference Optimization for Language Model Alignment},
  author = {Xiao, Teng and Yuan, Yige and Zhu, Huaisheng and Li, Mingxiao and Honavar, Vasant G.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2412.14516},
  archivePrefix = {arXiv}
}""",
        note="There is no beta inside the sigmoid. The authors' code at 646a7545 halves the two squares, which "
        "the equation and arXiv:2502.01237 do not; its beta of 0.002 belongs to that form.",
    ),
)
