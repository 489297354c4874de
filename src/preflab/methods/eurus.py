"""Eurus: the reward modelling objective of UltraInteract, on implicit rewards."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class EurusHyperparameters(Hyperparameters):
    """Hyper-parameters of Eurus."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))


def eurus_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Bradley-Terry loss of the pair plus a direct loss on the sign of each reward.

    loss = -log sigma(r_chosen - r_rejected) - log sigma(r_chosen) - log sigma(-r_rejected)
    r_y = beta * log pi/ref (y)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is 3 log 2.

    References:
        Yuan et al., Advancing LLM Reasoning Generalists with Preference Trees, 2024, arXiv:2404.02078, section 3.2,
        L_BT + L_DR.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = -F.logsigmoid(chosen - rejected) - F.logsigmoid(chosen) - F.logsigmoid(-rejected)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def eurus_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """3 log(2)."""
    return 3 * math.log(2)


EURUS = Method(
    name="eurus",
    title="Eurus",
    summary="DPO that also fixes the sign of both rewards, so that the chosen response cannot become less likely for "
    "free.",
    inputs=ReferencedPair,
    loss=eurus_loss,
    hyperparameters=EurusHyperparameters,
    loss_at_reference=eurus_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Yuan et al., 2024",
        title="Advancing LLM Reasoning Generalists with Preference Trees",
        arxiv="2404.02078",
        equation="objective",
        claim="For reward models: pushing the rewards of right answers up and of wrong ones down, not only apart, "
        "helps on hard problems.",
        bibtex="""@inproceedings{yuan2025advancing,
  title = {Advancing {LLM} Reasoning Generalists with Preference Trees},
  author = {Yuan, Lifan and Cui, Ganqu and Wang, Hanbin and Ding, Ning and Wang, Xingyao and Deng, Jia and
            Shan, Boji and Chen, Huimin and Xie, Ruobing and Lin, Yankai and others},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2404.02078},
  archivePrefix = {arXiv}
}""",
        note="The paper trains a reward model with a linear head by this objective; here the reward is DPO's implicit "
        "one.",
    ),
)
