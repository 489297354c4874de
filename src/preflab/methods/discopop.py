"""DiscoPOP: the log-ratio modulated loss found by a language model."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from preflab.core.domains import Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoPOPHyperparameters(Hyperparameters):
    """Hyper-parameters of DiscoPOP."""

    beta: float = tie(0.05, grid=(0.05,))
    tau: float = hyper(
        0.05,
        domain=Domain(0.0, 1.0, low_open=True, high_open=False),
        grid=(0.05,),
        unit="",
        doc="Width of the blend between the logistic and the exponential loss.",
        log_scale=True,
    )


def discopop_loss(batch: ReferencedPair, *, beta: float, tau: float) -> LossOutput:
    """Blend of the logistic and the exponential loss, which changes over where the margin changes sign.

    loss = (1 - g) * (-log sigma(m)) + g * exp(-m)
    m = beta * delta, g = sigma(m / tau)
    delta = log pi/ref (chosen) - log pi/ref (rejected)

    The second term is computed as exp(log sigma(m / tau) - m), which is finite for every margin because tau is at most
    1. Far on the right only exp(-m) is left, far on the left only -m.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        tau: width of the blend, (0, 1].

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio, detached. At policy == reference the loss is (log 2 + 1) /
        2.

    References:
        Lu et al., Discovering Preference Optimization Algorithms with and for Large Language Models, 2024,
        arXiv:2406.08414, eq. 5 (LRML). TRL's `discopop` is the same.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    chosen, rejected = beta * chosen_ratio, beta * rejected_ratio
    margin = chosen - rejected
    logistic = torch.sigmoid(-margin / tau) * -F.logsigmoid(margin)
    exponential = torch.exp(F.logsigmoid(margin / tau) - margin)
    loss = logistic + exponential
    return LossOutput(loss, chosen.detach(), rejected.detach())


def discopop_at_reference(batch: ReferencedPair, *, beta: float, tau: float) -> float:
    """(log(2) + 1) / 2."""
    return (math.log(2) + 1) / 2


DISCOPOP = Method(
    name="discopop",
    title="DiscoPOP",
    summary="A loss found by search: logistic for pairs in the wrong order, exponential for pairs in the right one.",
    inputs=ReferencedPair,
    loss=discopop_loss,
    hyperparameters=DiscoPOPHyperparameters,
    loss_at_reference=discopop_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Lu et al., 2024",
        title="Discovering Preference Optimization Algorithms with and for Large Language Models",
        arxiv="2406.08414",
        equation="5",
        claim="Found by a language model that proposes objectives; the best of those found, also on tasks it was "
        "not searched on.",
        bibtex="""@inproceedings{lu2024discovering,
  title = {Discovering Preference Optimization Algorithms with and for Large Language Models},
  author = {Lu, Chris and Holt, Samuel and Fanconi, Claudio and Chan, Alex J. and Foerster, Jakob and
            van der Schaar, Mihaela and Lange, Robert Tjarko},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2406.08414},
  archivePrefix = {arXiv}
}""",
        note="Not convex: the loss has a local maximum near a margin of zero.",
    ),
)
