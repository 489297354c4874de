"""AOT on pairs: alignment via optimal transport."""

import math
from dataclasses import dataclass, replace

import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import log_ratios
from preflab.methods._papers import AOT_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedPair


@dataclass(frozen=True, slots=True, kw_only=True)
class AOTHyperparameters(Hyperparameters):
    """Hyper-parameters of AOT (paired)."""

    beta: float = tie(0.01, grid=(0.01,))


def aot_loss(batch: ReferencedPair, *, beta: float) -> LossOutput:
    """Logistic loss of the margins of the policy against those of the reference, quantile by quantile of the batch.

    loss_i = -log sigma(beta * (u_(i) - v_(i)))
    u = log pi(chosen) - log pi(rejected), v = the same under ref, (i) the i-th smallest of the optimizer batch

    A batch of one is DPO. Sorting ties the pairs of a batch together, so the whole optimizer batch is sorted, whatever
    its micro-batches.

    Args:
        batch: sequence log-probs, float32 [pair], nats; response tokens only.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats, in order of quantiles, not of pairs; rewards [pair] = beta * log-ratio, detached. At policy
        == reference the loss is log 2.

    References:
        Melnyk et al., Distributional Preference Alignment of LLMs via Optimal Transport, 2024, arXiv:2406.05882, paired
        variant. TRL's `aot` is the same within a micro-batch.
    """
    chosen_ratio, rejected_ratio = log_ratios(batch)
    policy = batch.policy.chosen.total - batch.policy.rejected.total
    reference = batch.reference.chosen.total - batch.reference.rejected.total
    loss = -F.logsigmoid(beta * (policy.sort().values - reference.sort().values))
    return LossOutput(loss, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach())


def aot_at_reference(batch: ReferencedPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


AOT = Method(
    name="aot",
    title="AOT (paired)",
    summary="Compares the distributions of margins over the batch instead of single pairs.",
    inputs=ReferencedPair,
    loss=aot_loss,
    hyperparameters=AOTHyperparameters,
    loss_at_reference=aot_at_reference,
    learning_rates=(3e-7, 5e-7, 7e-7, 1e-6),
    invariances=Invariances(permutation=False, constant_shift=True, batch_split=False),
    source=replace(
        AOT_PAPER,
        equation="paired variant",
        claim="Aligning whole reward distributions gives the leading 7B models of its time on open benchmarks and "
        "AlpacaEval.",
        note="TRL sorts within each micro-batch, so accumulation changes its result; here the whole optimizer batch "
        "is sorted. No learning rate of its own is known here; DPO's stand in.",
    ),
)
