"""SLiC-HF: sequence likelihood calibration with human feedback."""

from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, POSITIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned
from preflab.methods._types import Invariances, LossOutput, Method, Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class SLiCHFHyperparameters(Hyperparameters):
    """Hyper-parameters of SLiC-HF."""

    delta: float = hyper(
        1.0,
        domain=POSITIVE,
        grid=(1.0, 5.0),
        unit="nat",
        doc="Margin of the summed log-probs at which a pair stops contributing.",
        log_scale=True,
    )
    lambda_ref: float = hyper(
        0.1,
        domain=NON_NEGATIVE,
        grid=(0.1, 0.5, 1.0, 10.0),
        unit="",
        doc="Weight of the summed log-likelihood of the reference response, here the chosen one; 0 removes it.",
        log_scale=True,
    )


def slic_hf_loss(batch: Pair, *, delta: float, lambda_ref: float) -> LossOutput:
    """Hinge on the margin between log-probs, plus the likelihood of the chosen response as a regulariser.

    loss = max(0, delta - log pi(chosen) + log pi(rejected)) - lambda_ref * log pi(chosen)

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        delta: margin of the hinge, nats, (0, inf).
        lambda_ref: weight of the likelihood term, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = log-prob, detached. Where the margin is half of delta, the loss is
        delta / 2 - lambda_ref * log pi(chosen); from a margin of delta on, only the second term is left.

    References:
        Zhao et al., SLiC-HF: Sequence Likelihood Calibration with Human Feedback, 2023, arXiv:2305.10425, objective.
        The regulariser may target the SFT reference or the best response; as in HALOs it is the chosen one here.
        TRL's `hinge` in DPO is another loss (normalised by the reference), and in CPO scales the margin by beta.
    """
    aligned(*batch)
    hinge = F.relu(delta - batch.chosen.total + batch.rejected.total)
    loss = hinge - lambda_ref * batch.chosen.total
    return LossOutput(loss, batch.chosen.total.detach(), batch.rejected.total.detach())


SLIC_HF = Method(
    name="slic_hf",
    title="SLiC-HF",
    summary="Pushes the pair apart until a fixed margin of log-prob is reached and keeps the chosen response likely.",
    inputs=Pair,
    loss=slic_hf_loss,
    hyperparameters=SLiCHFHyperparameters,
    loss_at_reference=None,
    learning_rates=(3e-7, 5e-7, 8e-7, 1e-6),
    invariances=Invariances(),
    source=Source(
        paper="Zhao et al., 2023",
        title="SLiC-HF: Sequence Likelihood Calibration with Human Feedback",
        arxiv="2305.10425",
        equation="objective",
        claim="A competitive and simpler alternative to PPO on TL;DR summarisation, able to use feedback given "
        "on another model's answers.",
        bibtex="""@misc{zhao2023slichf,
  title = {{SLiC-HF}: Sequence Likelihood Calibration with Human Feedback},
  author = {Zhao, Yao and Joshi, Rishabh and Liu, Tianqi and Khalman, Misha and Saleh, Mohammad and Liu, Peter J.},
  year = {2023},
  eprint = {2305.10425},
  archivePrefix = {arXiv}
}""",
        note="Both terms sum over tokens, as the objective reads and as HALOs first ran it; the response of the "
        "likelihood term is the chosen one. The hinge that peers offer under this name is normalised by a reference.",
    ),
)
