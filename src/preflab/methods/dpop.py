"""DPOP (Smaug): DPO-positive."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class DPOPHyperparameters(Hyperparameters):
    """Hyper-parameters of DPOP."""

    beta: float = tie(0.3, grid=(0.1, 0.3))
    penalty: float = hyper(
        50.0,
        domain=NON_NEGATIVE,
        grid=(50.0,),
        unit="",
        doc="Weight of the fall of the chosen likelihood below the reference; 0 is DPO.",
        log_scale=True,
    )


def dpop_loss(batch: ReferencedPair, *, beta: float, penalty: float) -> LossOutput:
    """DPO with a penalty inside the sigmoid where the chosen response has become less likely than under the reference.

    loss = -log sigma(beta * (delta - penalty * max(0, -log pi/ref (chosen))))
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    Equal to DPO while the chosen log-ratio is not negative.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        penalty: weight of the penalty, [0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2.

    References:
        Pal et al., Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive, 2024, arXiv:2402.13228,
        eq. 3.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    fall = beta * F.relu(-chosen_ratio)
    loss = -F.logsigmoid(chosen - rejected - penalty * fall)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def dpop_at_reference(batch: ReferencedPair, *, beta: float, penalty: float) -> float:
    """log(2)."""
    return math.log(2)


DPOP = Method(
    name="dpop",
    title="DPOP",
    summary="DPO that is punished when the chosen response becomes less likely than it was.",
    inputs=ReferencedPair,
    loss=dpop_loss,
    hyperparameters=DPOPHyperparameters,
    loss_at_reference=dpop_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Pal et al., 2024",
        title="Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive",
        arxiv="2402.13228",
        equation="3",
        claim="DPO can lower the likelihood of the better answer even as the margin grows; DPOP does not, and its "
        "Smaug-72B was the first open model above 80 % on the Open LLM Leaderboard.",
        bibtex="""@misc{pal2024smaug,
  title = {Smaug: Fixing Failure Modes of Preference Optimisation with {DPO}-Positive},
  author = {Pal, Arka and Karkhanis, Deep and Dooley, Samuel and Roberts, Manley and Naidu, Siddartha and White, Colin},
  year = {2024},
  eprint = {2402.13228},
  archivePrefix = {arXiv}
}""",
        note="No learning rate of its own is known here; DPO's stand in.",
    ),
)
