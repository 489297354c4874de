"""Robust DPO: an unbiased estimate of the clean DPO loss under random label flips."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of Robust DPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    label_noise: float = hyper(
        0.1,
        domain=Domain(0.0, 0.5, low_open=False, high_open=True),
        grid=(0.1,),
        unit="",
        doc="Share of labels believed to be swapped; 0 is DPO.",
    )


def robust_dpo_loss(batch: ReferencedPair, *, beta: float, label_noise: float) -> LossOutput:
    """DPO's loss corrected so that its expectation over swapped labels is the loss on clean labels.

    loss = (-(1 - e) * log sigma(beta * delta) + e * log sigma(-beta * delta)) / (1 - 2 e)
    e = label_noise
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    With m = beta * delta and e the label noise this is softplus(-m) - e / (1 - 2 e) * m: linear and unbounded below in
    m, so the loss can be negative and a pair is pushed harder than in DPO.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        label_noise: share of swapped labels, [0, 0.5).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2.

    References:
        Chowdhury, Kini and Natarajan, Provably Robust DPO, 2024, arXiv:2403.00409, objective. TRL's `robust` loss is
        the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    margin = chosen - rejected
    clean = (1 - label_noise) * F.logsigmoid(margin) - label_noise * F.logsigmoid(-margin)
    loss = -clean / (1 - 2 * label_noise)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def robust_dpo_at_reference(batch: ReferencedPair, *, beta: float, label_noise: float) -> float:
    """log(2)."""
    return math.log(2)


ROBUST_DPO = Method(
    name="robust_dpo",
    title="Robust DPO",
    summary="DPO on noisy labels whose expected loss equals DPO's on clean ones.",
    inputs=ReferencedPair,
    loss=robust_dpo_loss,
    hyperparameters=RobustDPOHyperparameters,
    loss_at_reference=robust_dpo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Chowdhury, Kini and Natarajan, 2024",
        title="Provably Robust DPO: Aligning Language Models with Noisy Feedback",
        arxiv="2403.00409",
        equation="objective",
        claim="The loss is unbiased under labels that are flipped at a known rate.",
        bibtex="""@inproceedings{chowdhury2024provably,
  title = {Provably Robust {DPO}: Aligning Language Models with Noisy Feedback},
  author = {Chowdhury, Sayak Ray and Kini, Anush and Natarajan, Nagarajan},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year = {2024},
  eprint = {2403.00409},
  archivePrefix = {arXiv}
}""",
        note="Unlike cDPO it pushes pairs apart more, not less; the loss is unbounded below. No learning rate of "
        "its own is known here; DPO's stand in.",
    ),
)
