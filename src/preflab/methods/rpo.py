"""RPO: regularised preference optimisation, DPO with an SFT loss as adversarial regulariser."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class RPOHyperparameters(Hyperparameters):
    """Hyper-parameters of RPO."""

    beta: float = tie(0.01, grid=(0.01, 0.1))
    eta: float = hyper(
        0.005,
        domain=NON_NEGATIVE,
        grid=(0.005, 0.2),
        unit="",
        doc="Weight of the summed log-likelihood of the chosen response; 0 is DPO.",
        log_scale=True,
    )


def rpo_loss(batch: ReferencedPair, *, beta: float, eta: float) -> LossOutput:
    """DPO plus the summed negative log-likelihood of a baseline policy's response, here the chosen one.

    loss = -log sigma(beta * delta) - eta * log pi(chosen)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        eta: weight of the likelihood term, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2 plus
        the likelihood term.

    References:
        Liu et al., Provably Mitigating Overoptimization in RLHF, 2024, arXiv:2405.16436, objective.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    loss = -F.logsigmoid(chosen - rejected) - eta * batch.policy.chosen.total
    return LossOutput(loss, chosen.detach(), rejected.detach())


def rpo_at_reference(batch: ReferencedPair, *, beta: float, eta: float) -> float:
    """log(2) - eta * mean of log ref(chosen)."""
    return math.log(2) - eta * float(batch.reference.chosen.total.mean())


RPO = Method(
    name="rpo",
    title="RPO",
    summary="DPO with a small summed likelihood term, derived as a guard against over-optimisation.",
    inputs=ReferencedPair,
    loss=rpo_loss,
    hyperparameters=RPOHyperparameters,
    loss_at_reference=rpo_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(),
    source=Source(
        paper="Liu et al., 2024",
        title="Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial Regularizer",
        arxiv="2405.16436",
        equation="objective",
        claim="A likelihood term is an adversarial regulariser in disguise, which provably limits over-optimisation.",
        bibtex="""@inproceedings{liu2024provably,
  title = {Provably Mitigating Overoptimization in {RLHF}: Your {SFT} Loss is Implicitly an Adversarial Regularizer},
  author = {Liu, Zhihan and Lu, Miao and Zhang, Shenao and Liu, Boyi and Guo, Hongyi and Yang, Yingxiang and
            Blanchet, Jose and Wang, Zhaoran},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2405.16436},
  archivePrefix = {arXiv}
}""",
        note="The derivation gives the weight eta * beta; the authors' configurations give it as one number, as here. "
        "Names collide: iterative reasoning preference optimisation, whose likelihood term is per token, is also "
        "called RPO (dpo_nll here).",
    ),
)
