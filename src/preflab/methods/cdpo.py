"""cDPO: conservative DPO, with label smoothing."""

import math
from dataclasses import dataclass

import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class CDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of cDPO."""

    beta: float = tie(0.1, grid=(0.01, 0.05, 0.1))
    label_noise: float = hyper(
        0.1,
        domain=Domain(0.0, 0.5, low_open=False, high_open=True),
        grid=(0.1, 0.2),
        unit="",
        doc="Share of labels believed to be swapped; 0 is DPO.",
    )


def cdpo_loss(batch: ReferencedPair, *, beta: float, label_noise: float) -> LossOutput:
    """Cross-entropy of the preference model with labels that are wrong with a known rate.

    loss = -(1 - label_noise) * log sigma(beta * delta) - label_noise * log sigma(-beta * delta)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    With m = beta * delta this is softplus(-m) + label_noise * m, because log sigma(-m) = log sigma(m) - m. The minimum
    over m lies at log((1 - e) / e) instead of infinity, e the label noise: noise bounds how far a pair can be pushed.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        label_noise: share of swapped labels, [0, 0.5).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is log 2.

    References:
        Mitchell, A note on DPO with noisy preferences and relationship to IPO, 2023, https://ericmitchell.ai/cdpo.pdf,
        objective.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    margin = chosen - rejected
    loss = -(1 - label_noise) * F.logsigmoid(margin) - label_noise * F.logsigmoid(-margin)
    return LossOutput(loss, chosen.detach(), rejected.detach())


def cdpo_at_reference(batch: ReferencedPair, *, beta: float, label_noise: float) -> float:
    """log(2)."""
    return math.log(2)


CDPO = Method(
    name="cdpo",
    title="cDPO",
    summary="DPO that allows for a known share of swapped labels, so that no pair is pushed apart without end.",
    inputs=ReferencedPair,
    loss=cdpo_loss,
    hyperparameters=CDPOHyperparameters,
    loss_at_reference=cdpo_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Mitchell, 2023",
        title="A note on DPO with noisy preferences and relationship to IPO",
        arxiv="",
        equation="objective",
        claim="With labels that are wrong at a known rate, the model stops at the margin that this rate implies.",
        bibtex="""@misc{mitchell2023note,
  title = {A note on {DPO} with noisy preferences and relationship to {IPO}},
  author = {Mitchell, Eric},
  year = {2023},
  url = {https://ericmitchell.ai/cdpo.pdf}
}""",
        url="https://ericmitchell.ai/cdpo.pdf",
        note="Published as a note without an arXiv id. HALOs' default noise is 0.2; TRL spells it label_smoothing. No "
        "learning rate of its own is known here; DPO's stand in. TRL 1.16.0 ignores label_smoothing in its sigmoid "
        "loss: its value on a fixed batch is DPO's.",
    ),
)
