"""beta-DPO: DPO with a strength chosen for each batch, and a filter of unusual pairs."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from preflab.core.domains import NON_NEGATIVE, Domain, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned, log_ratios, moving_average, standardised
from preflab.methods._types import Invariances, LossOutput, Method, Moments, Pair, ReferencedPair, Values

_MOMENTUM = 0.9
_LOWEST_BETA = 1e-3


class OneNumberPerPair(NamedTuple):
    """One random number for each pair."""

    chosen: Values


class FilteredPair(NamedTuple):
    """Two responses under policy and frozen reference, a random number per pair, and the log-ratio margins so far."""

    policy: Pair
    reference: Pair
    noise: OneNumberPerPair
    margins: Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class BetaDPOHyperparameters(Hyperparameters):
    """Hyper-parameters of beta-DPO."""

    beta: float = tie(0.1, grid=(0.1,))
    alpha: float = hyper(
        0.6,
        domain=NON_NEGATIVE,
        grid=(0.6,),
        unit="1/nat",
        doc="How much the batch's beta follows its margin; 0 keeps beta.",
    )
    rho: float = hyper(
        0.2,
        domain=Domain(0.0, 1.0, low_open=False, high_open=True),
        grid=(0.2,),
        unit="",
        doc="Share of each batch that is left out, pairs far from the usual margin first; 0 keeps all.",
    )


def beta_dpo_loss(batch: FilteredPair, *, beta: float, alpha: float, rho: float) -> LossOutput:
    """DPO on a part of the batch, with a beta that grows with the batch's margin.

    loss = -log sigma(b * D) * n / k on k of the n pairs, 0 on the others
    D = log pi/ref (chosen) - log pi/ref (rejected)
    b = max(0.001, beta * (1 + alpha * (mean of the k margins - m)))
    k = max(1, floor((1 - rho) * n)) pairs, drawn without replacement with weights exp(-((D - m) / s)^2 / 2)
    m, s = moving averages of the mean and the deviation of a batch's margins, momentum 0.9, begun at 0

    m and s already contain this batch; m, s, b and the draw are constants for the gradient. The factor n / k makes the
    mean of the losses the mean over the kept pairs. Drawing without replacement keeps the k largest of
    log(weight) - log(-log u), u uniform (Gumbel-top-k). While s is 0 all weights are equal.

    Args:
        batch: sequence log-probs, float32 [pair], nats, response tokens only; one uniform number per pair; the margins
            so far.
        beta: strength of the tie to the reference at the usual margin, 1/nat, (0, inf).
        alpha: how much beta follows the margin, 1/nat, [0, inf).
        rho: share of the batch that is left out, [0, 1).

    Returns:
        loss [pair], nats; rewards [pair] = beta * log-ratio with the beta of the setting, detached. At policy ==
        reference the mean loss is log 2.

    References:
        Wu et al., beta-DPO: Direct Preference Optimization with Dynamic beta, 2024, arXiv:2407.08639, objective.
    """
    chosen_ratio, rejected_ratio = log_ratios(ReferencedPair(batch.policy, batch.reference))
    aligned(batch.policy.chosen, batch.noise.chosen)
    margin = chosen_ratio - rejected_ratio
    tracked = moving_average(batch.margins, margin, _MOMENTUM)
    kept = _drawn(margin.detach(), tracked, batch.noise.chosen.value, _n_kept(len(margin), rho))
    mean = float(margin.detach()[kept].mean())
    strength = max(_LOWEST_BETA, beta * (1 + alpha * (mean - tracked.mean)))
    share = kept.to(margin.dtype) * (len(margin) / int(kept.sum()))
    loss = -F.logsigmoid(strength * margin) * share
    rewards = (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach()
    return LossOutput(loss, *rewards, (tracked,))


def _n_kept(n: int, rho: float) -> int:
    """Return how many of n pairs stay; 0.2 of 10 is 2 although `1 - 0.8` is a little less in floats."""
    return max(1, math.floor((1 - rho) * n + 1e-9))


def _drawn(margin: Tensor, tracked: Moments, uniform: Tensor, k: int) -> Tensor:
    """Return which pairs are kept, bool [pair]."""
    score = -0.5 * standardised(margin, tracked) ** 2 - torch.log(-torch.log(uniform))
    return torch.zeros_like(margin, dtype=torch.bool).index_fill(0, score.topk(k).indices, True)


def beta_dpo_at_reference(batch: FilteredPair, *, beta: float, alpha: float, rho: float) -> float:
    """log(2)."""
    return math.log(2)


BETA_DPO = Method(
    name="beta_dpo",
    title="beta-DPO",
    summary="DPO whose beta follows the margin of the batch, on the pairs whose margin is not unusual.",
    inputs=FilteredPair,
    loss=beta_dpo_loss,
    hyperparameters=BetaDPOHyperparameters,
    loss_at_reference=beta_dpo_at_reference,
    learning_rates=(5e-7,),
    invariances=Invariances(constant_shift=True, batch_split=False),
    source=Source(
        paper="Wu et al., 2024",
        title="beta-DPO: Direct Preference Optimization with Dynamic beta",
        arxiv="2407.08639",
        equation="objective",
        claim="The best beta depends on how informative the pairs are; a beta per batch and a filter improve DPO "
        "over models and data sets.",
        bibtex="""@inproceedings{wu2024beta,
  title = {beta-{DPO}: Direct Preference Optimization with Dynamic beta},
  author = {Wu, Junkang and Xie, Yuexiang and Yang, Zhengyi and Wu, Jiancan and Gao, Jinyang and Ding, Bolin and
            Wang, Xiang and He, Xiangnan},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2024},
  eprint = {2407.08639},
  archivePrefix = {arXiv}
}""",
        note="The margin is the plain log-ratio difference, as in the authors' code at 6f3abb8e; with beta "
        "inside it, as in a reward, alpha would be divided by beta. Their configuration files set alpha 0, "
        "which is DPO, the README alpha 0.6. In their code a deviation of 0 divides by zero; the filter "
        "there looks at the rank's share of the batch, here at the whole optimizer batch.",
    ),
)
