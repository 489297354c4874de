"""SamPO: DPO on as many tokens of the longer response as the shorter one has."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from preflab.core.domains import Hyperparameters
from preflab.core.sources import Source
from preflab.methods._hyper import tie
from preflab.methods._ops import aligned_tokens
from preflab.methods._types import Invariances, LossOutput, Method, TokenLogps, TokenPair


class SampledPair(NamedTuple):
    """Two responses token by token under policy and frozen reference, and a random number for each token."""

    policy: TokenPair
    reference: TokenPair
    noise: TokenPair


@dataclass(frozen=True, slots=True, kw_only=True)
class SamPOHyperparameters(Hyperparameters):
    """Hyper-parameters of SamPO."""

    beta: float = tie(0.1, grid=(0.1, 0.5))


def sampo_loss(batch: SampledPair, *, beta: float) -> LossOutput:
    """DPO in which a random part of the longer response's tokens counts, as many as the shorter one has.

    loss = -log sigma(beta * (l(chosen) - l(rejected)))
    l(y) = sum over n tokens of y, drawn without replacement, of log pi/ref, n = min(|chosen|, |rejected|)

    The tokens with the n smallest random numbers are those that are drawn; the same ones under policy and reference.

    Args:
        batch: token log-probs, float32 [token], nats, with lengths in tokens, response tokens only; a uniform random
            number for each token.
        beta: strength of the tie to the reference, 1/nat, (0, inf).

    Returns:
        loss [pair], nats; rewards [pair] = beta * l, detached. At policy == reference the loss is log 2.

    References:
        Lu et al., Eliminating Biased Length Reliance of Direct Preference Optimization via Down-Sampled KL Divergence,
        2024, arXiv:2406.10957, objective.
    """
    aligned_tokens(*batch.policy, *batch.reference, *batch.noise)
    shorter = torch.minimum(batch.policy.chosen.length, batch.policy.rejected.length)
    chosen = beta * _ratio(batch.policy.chosen, batch.reference.chosen, batch.noise.chosen, shorter)
    rejected = beta * _ratio(batch.policy.rejected, batch.reference.rejected, batch.noise.rejected, shorter)
    return LossOutput(-F.logsigmoid(chosen - rejected), chosen.detach(), rejected.detach())


def _ratio(policy: TokenLogps, reference: TokenLogps, noise: TokenLogps, n: Tensor) -> Tensor:
    """Return the log-ratio of each response over its drawn tokens, [pair], nats."""
    order = torch.argsort(noise.token)
    # Sorted by response and, within it, by random number, tokens stand where TokenLogps.position counts them.
    order = order[torch.argsort(noise.response[order], stable=True)]
    drawn = torch.zeros_like(noise.token).index_copy(0, order, (noise.position < n[noise.response]).to(noise.token))
    return policy.sums(drawn) - reference.sums(drawn)


def sampo_at_reference(batch: SampledPair, *, beta: float) -> float:
    """log(2)."""
    return math.log(2)


SAMPO = Method(
    name="sampo",
    title="SamPO",
    summary="DPO on equally many tokens of both responses, drawn at random, so that length alone earns nothing.",
    inputs=SampledPair,
    loss=sampo_loss,
    hyperparameters=SamPOHyperparameters,
    loss_at_reference=sampo_at_reference,
    learning_rates=(1e-6,),
    invariances=Invariances(constant_shift=True),
    source=Source(
        paper="Lu et al., 2024",
        title="Eliminating Biased Length Reliance of Direct Preference Optimization via Down-Sampled KL Divergence",
        arxiv="2406.10957",
        equation="objective",
        claim="Improves on DPO by 5 to 12 % by removing the part of the reward that is length.",
        bibtex="""@inproceedings{lu2024eliminating,
  title = {Eliminating Biased Length Reliance of Direct Preference Optimization via Down-Sampled {KL} Divergence},
  author = {Lu, Junru and Li, Jiazheng and An, Siyu and Zhao, Meng and He, Yulan and Yin, Di and Sun, Xing},
  booktitle = {Proceedings of the 2024 Conference on Empirical Methods in Natural Language Processing},
  year = {2024},
  eprint = {2406.10957},
  archivePrefix = {arXiv}
}""",
        note="The authors' code at 58e1765e draws other tokens for the reference than for the policy; the equation "
        "and this loss sum the log-ratios of the same ones. Draws differ from step to step and depend on the seed "
        "alone.",
    ),
)
