"""AOT on unpaired responses: alignment via optimal transport."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import AOT_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class AOTUnpairedHyperparameters(Hyperparameters):
    """Hyper-parameters of AOT (unpaired)."""

    beta: float = tie(0.01, grid=(0.01,))


def aot_unpaired_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Logistic loss of the chosen log-ratios against the rejected ones, quantile by quantile of the batch.

    loss_i = -log sigma(beta * (c_(i) - r_(i)))
    c = log pi/ref (chosen), r = log pi/ref (rejected), (i) the i-th smallest of the optimizer batch

    The best chosen response is compared with the best rejected one, the worst with the worst: which belong to one
    prompt does not matter. A batch of one is DPO.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats, in order of quantiles, not of pairs; rewards [pair] = beta * log-ratio, detached. At policy
        == reference the loss is log 2.

    References:
        Melnyk et al., Distributional Preference Alignment of LLMs via Optimal Transport, 2024, arXiv:2406.05882,
        unpaired variant. TRL's `aot_unpaired` is the same within a micro-batch.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    loss = -F.logsigmoid(beta * (chosen_ratio.sort().values - rejected_ratio.sort().values))
    return LossOutput(loss, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())


def aot_unpaired_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


AOT_UNPAIRED = Method(
    name="aot_unpaired",
    title="AOT (unpaired)",
    summary="Compares the distributions of chosen and rejected rewards over the batch.",
    inputs=ReferencedPair,
    loss=aot_unpaired_loss,
    hyperparameters=AOTUnpairedHyperparameters,
    loss_at_reference=aot_unpaired_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(permutation=False, constant_shift=True, batch_split=False),
    source=replace(
        AOT_PAPER,
        equation="unpaired variant",
        claim="Aligning whole reward distributions gives the leading 7B models of its time on open benchmarks and "
        "AlpacaEval.",
        note="The paper allows groups of different sizes by interpolating quantiles; here both have one response per "
        "pair. No learning rate of its own is known here; DPO's stand in.",
    ),
)
