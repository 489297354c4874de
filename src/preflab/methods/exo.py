"""EXO: efficient exact optimisation, from preferences."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class EXOHyperparameters(Hyperparameters):
    """Hyper-parameters of EXO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    label_noise: float = hyper(
        1e-3,
        domain=Domain(0.0, 0.5, low_open=True, high_open=True),
        grid=(1e-3,),
        unit="",
        doc="Smoothing of the preference label; the loss is infinite at 0.",
        log_scale=True,
    )


def exo_loss(batch: ReferencedPair, *, beta: float, label_noise: float) -> LossOutput:
    """Reverse KL divergence from the smoothed label to the policy's preference probability.

    loss = q * (log q - log(1 - e)) + (1 - q) * (log(1 - q) - log e)
    q = sigma(beta * delta), e = label_noise
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    DPO is the forward direction KL(label || q); this is KL(q || label), so it vanishes at q = 1 - e and is about
    log(1/e) where the pair is ordered wrongly.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        label_noise: smoothing of the label, (0, 0.5).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is -log 2 -
        (log(1 - e) + log e) / 2.

    References:
        Ji et al., Towards Efficient Exact Optimization of Language Model Alignment, 2024, arXiv:2402.00856, eq. 16.
        TRL's `exo_pair` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    margin = chosen - rejected
    log_q, log_not_q = F.logsigmoid(margin), F.logsigmoid(-margin)
    right = log_q.exp() * (log_q - math.log1p(-label_noise))
    wrong = log_not_q.exp() * (log_not_q - math.log(label_noise))
    loss = right + wrong
    return LossOutput(loss, chosen.detach(), rejected.detach())


def exo_at_reference(batch: ReferencedPair, *, beta: float, label_noise: float) -> float:
    """-log(2) - (log(1 - label_noise) + log(label_noise)) / 2."""
    return -math.log(2) - (math.log1p(-label_noise) + math.log(label_noise)) / 2


EXO = Method(
    name="exo",
    title="EXO",
    summary="Fits the preference in the mode-seeking direction: reverse instead of forward KL to the label.",
    inputs=ReferencedPair,
    loss=exo_loss,
    hyperparameters=EXOHyperparameters,
    loss_at_reference=exo_at_reference,
    learning_rates=(1e-6,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Ji et al., 2024",
        title="Towards Efficient Exact Optimization of Language Model Alignment",
        arxiv="2402.00856",
        equation="16",
        claim="DPO minimises the forward KL to the optimal policy; EXO minimises the reverse one, in the "
        "direction of RL, and scores better.",
        bibtex="""@inproceedings{ji2024towards,
  title = {Towards Efficient Exact Optimization of Language Model Alignment},
  author = {Ji, Haozhe and Lu, Cheng and Niu, Yilin and Ke, Pei and Wang, Hongning and Zhu, Jun and Tang, Jie and
            Huang, Minlie},
  booktitle = {Proceedings of the 41st International Conference on Machine Learning},
  year = {2024},
  eprint = {2402.00856},
  archivePrefix = {arXiv}
}""",
        note="The form for preference pairs; the form for ranked lists with a reward model is another objective.",
    ),
)
