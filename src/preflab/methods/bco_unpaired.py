"""BCO on unpaired labels: binary classifier optimisation."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned, running_mean
from preflab.methods._papers import BCO_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, Moments, Referenced


class TrackedGroups(NamedTuple):
    """Desirable and undesirable responses that need not share prompts, and the mean reward of each kind so far."""

    chosen: Referenced
    rejected: Referenced
    desirable: Moments
    undesirable: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class BCOUnpairedHyperparameters(Hyperparameters):
    """Hyper-parameters of BCO (unpaired)."""

    beta: float = tie(0.01, grid=(0.01, 0.1))


def bco_unpaired_loss(batch: TrackedGroups, *, beta: float) -> LossOutput:
    """Binary cross-entropy of a classifier whose logit is the reward, shifted by the mean of all rewards so far.

    loss (desirable)   = -log sigma(r - d)
    loss (undesirable) = -log sigma(-(r - d))
    r = beta * log pi/ref, d = (mean reward of desirable responses + mean reward of undesirable ones) / 2

    Both means are over all responses up to and with this batch, constants for the gradient, 0 before the first. The
    average of the two does not depend on how many there are of each.

    Args:
        batch: sequence log-probs, float32 [chosen] and [rejected], nats, response tokens only; the means so far. Either
            group may be empty.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [chosen + rejected], nats, desirable first; rewards = beta * log-ratio, detached. In the first step at
        policy == reference the loss of each response is log 2.

    References:
        Jung et al., Binary Classifier Optimization for Large Language Model Alignment, 2024, arXiv:2404.04656,
        objective with reward shift.
    """
    for group in (batch.chosen, batch.rejected):
        aligned(*group)
    chosen = beta * (batch.chosen.policy.total - batch.chosen.reference.total)
    rejected = beta * (batch.rejected.policy.total - batch.rejected.reference.total)
    good, bad = running_mean(batch.desirable, chosen), running_mean(batch.undesirable, rejected)
    shift = (good.mean + bad.mean) / 2
    loss = torch.cat([-F.logsigmoid(chosen - shift), -F.logsigmoid(shift - rejected)])
    return LossOutput(loss, chosen.detach(), rejected.detach(), (good, bad))


def bco_unpaired_at_reference(batch: TrackedGroups, *, beta: float) -> float:
    """log(2) in the first step; later the mean of -log sigma(-d) and -log sigma(d), weighted by the group sizes."""
    n_chosen, n_rejected = len(batch.chosen.reference.total), len(batch.rejected.reference.total)
    shift = 0.0
    for moments, n in ((batch.desirable, n_chosen), (batch.undesirable, n_rejected)):
        shift += 0.5 * moments.n * moments.mean / max(moments.n + n, 1)
    total = n_chosen * math.log1p(math.exp(shift)) + n_rejected * math.log1p(math.exp(-shift))
    return total / (n_chosen + n_rejected)


BCO_UNPAIRED = Method(
    name="bco_unpaired",
    title="BCO (unpaired)",
    summary="Trains a classifier of desirable and undesirable responses with a moving threshold; needs no pairs.",
    inputs=TrackedGroups,
    loss=bco_unpaired_loss,
    hyperparameters=BCOUnpairedHyperparameters,
    loss_at_reference=bco_unpaired_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True, batch_split=False),
    source=replace(
        BCO_PAPER,
        equation="objective with reward shift",
        claim="The classifier's cross-entropy bounds DPO's loss from above, so single labels are enough to align.",
        note="The paper estimates the shift by a moving average; here every response since the first step counts "
        "alike. TRL's former trainer pools both classes into one mean, which follows the larger class. The "
        "optional re-weighting of undesirable prompts by a density ratio is not part of this method.",
    ),
)
