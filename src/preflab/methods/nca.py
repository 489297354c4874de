"""NCA: noise contrastive alignment of scored responses."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import target_temperature, tie
from preflab.methods._ops import aligned_lists, ends, log_softmax_per_prompt, per_prompt
from preflab.methods._papers import NCA_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedRanked


@dataclass(frozen=True, slots=True, kw_only=True)
class NCAHyperparameters(Hyperparameters):
    """Hyper-parameters of NCA."""

    beta: float = tie(0.01, grid=(0.01,))
    temperature: float = target_temperature()


def nca_loss(batch: ReferencedRanked, *, beta: float, temperature: float) -> LossOutput:
    """Noise contrastive estimation of the optimal policy: each response against the reference, by its absolute reward.

    loss = -sum over i of q_i * log sigma(r_i) - (1 / n) * sum over i of log sigma(-r_i)
    r_i = beta * log pi/ref (y_i), q = softmax(score / temperature) over the n responses to the prompt

    Of a pair only the chosen response is a target: -log sigma(r_chosen) - log sigma(-r_chosen) / 2 - log
    sigma(-r_rejected) / 2. Its gradient in r_chosen is sigma(r) - 1 + sigma(r) / 2, which vanishes at sigma(r) = 2/3:
    the chosen reward is drawn to log 2, not to infinity.

    Args:
        batch: sequence log-probs, float32 [response], nats, best first for each prompt; response tokens only; scores.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        temperature: of the targets, in units of the score, (0, inf).

    Returns:
        loss [prompt], nats; rewards [prompt] of the best and the worst response, beta * log-ratio, detached. At policy
        == reference the loss is 2 log 2, whatever n.

    References:
        Chen et al., Noise Contrastive Alignment of Language Models with Explicit Rewards, 2024, arXiv:2402.05369,
        objective. TRL's `nca_pair` is the same on pairs.
    """
    aligned_lists(*batch)
    prompt = batch.policy.prompt
    reward = beta * (batch.policy.total - batch.reference.total)
    target = log_softmax_per_prompt(batch.score.value / temperature, prompt).exp()
    n = torch.bincount(prompt)[prompt]
    loss = per_prompt(-target * F.logsigmoid(reward) - F.logsigmoid(-reward) / n, prompt)
    best, worst = ends(prompt)
    return LossOutput(loss, reward[best].detach(), reward[worst].detach())


def nca_at_reference(batch: ReferencedRanked, *, beta: float, temperature: float) -> float:
    """2 log(2)."""
    return 2 * math.log(2)


NCA = Method(
    name="nca",
    title="NCA",
    summary="Judges each response against the reference on its own, which keeps the chosen likelihood from falling.",
    inputs=ReferencedRanked,
    loss=nca_loss,
    hyperparameters=NCAHyperparameters,
    loss_at_reference=nca_at_reference,
    learning_rates=(5e-6,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        NCA_PAPER,
        equation="objective",
        claim="Optimising absolute likelihoods keeps the chosen likelihood from falling, which helps in "
        "mathematics and coding.",
        note="Its learning rate is for LoRA. Targets are softmax(score / temperature), as in the authors' code "
        "at f47b2a16; their published temperature makes the best response the only target.",
    ),
)
