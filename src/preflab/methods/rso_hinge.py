"""RSO hinge: SLiC's hinge on log-ratios to the reference."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RSOHingeHyperparameters(Hyperparameters):
    """Hyper-parameters of RSO hinge."""

    beta: float = tie(0.05, grid=(0.05,))


def rso_hinge_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Hinge loss of the margin between the implicit rewards.

    loss = max(0, 1 - beta * delta)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair]; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 1.

    References:
        Liu et al., Statistical Rejection Sampling Improves Preference Optimization, 2023, arXiv:2309.06657, objective.
        TRL's `hinge` loss in DPO is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = F.relu(1 - (chosen - rejected))
    return LossOutput(loss, chosen.detach(), rejected.detach())


def rso_hinge_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """1."""
    return 1.0


RSO_HINGE = Method(
    name="rso_hinge",
    title="RSO hinge",
    summary="Pushes a pair apart until its reward margin is one, and then leaves it alone.",
    inputs=ReferencedPair,
    loss=rso_hinge_loss,
    hyperparameters=RSOHingeHyperparameters,
    loss_at_reference=rso_hinge_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Liu et al., 2023",
        title="Statistical Rejection Sampling Improves Preference Optimization",
        arxiv="2309.06657",
        equation="objective",
        claim="With pairs drawn by rejection sampling from the optimal policy it outperforms SLiC and DPO.",
        bibtex="""@inproceedings{liu2024statistical,
  title = {Statistical Rejection Sampling Improves Preference Optimization},
  author = {Liu, Tianqi and Zhao, Yao and Joshi, Rishabh and Khalman, Misha and Saleh, Mohammad and Liu, Peter J. and
            Liu, Jialu},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  eprint = {2309.06657},
  archivePrefix = {arXiv}
}""",
        note="Only the loss; the paper's rejection sampling of responses is a way to make data. SLiC-HF's hinge has "
        "no reference. No learning rate of its own is known here; DPO's stand in.",
    ),
)
