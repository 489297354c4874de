"""InfoNCA: the contrastive loss of scored responses that is DPO on pairs."""

from dataclasses import dataclass, replace

import torch

from preflab.core.domains import Hyperparameters
from preflab.methods._hyper import target_temperature, tie
from preflab.methods._ops import aligned_lists, ends, log_softmax_per_prompt, per_prompt
from preflab.methods._papers import NCA_PAPER
from preflab.methods._types import Invariances, LossOutput, Method, ReferencedRanked


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoNCAHyperparameters(Hyperparameters):
    """Hyper-parameters of InfoNCA."""

    beta: float = tie(0.01, grid=(0.01,))
    temperature: float = target_temperature()


def infonca_loss(batch: ReferencedRanked, *, beta: float, temperature: float) -> LossOutput:
    """Cross-entropy between targets from the scores and the softmax of the rewards over the responses to a prompt.

    loss = -sum over i of q_i * log p_i
    p = softmax(r), r_i = beta * log pi/ref (y_i), q = softmax(score / temperature), over the responses to the prompt

    Of a pair whose better response is the only target it is -log sigma(r_chosen - r_rejected): DPO.

    Args:
        batch: sequence log-probs, float32 [response], nats, best first for each prompt; response tokens only; scores.
        beta: strength of the tie to the reference, 1/nat, (0, inf).
        temperature: of the targets, in units of the score, (0, inf).

    Returns:
        loss [prompt], nats; rewards [prompt] of the best and the worst response, beta * log-ratio, detached. At policy
        == reference p is uniform and the loss is log n for n responses.

    References:
        Chen et al., Noise Contrastive Alignment of Language Models with Explicit Rewards, 2024, arXiv:2402.05369,
        objective.
    """
    aligned_lists(*batch)
    prompt = batch.policy.prompt
    reward = beta * (batch.policy.total - batch.reference.total)
    target = log_softmax_per_prompt(batch.score.value / temperature, prompt).exp()
    loss = per_prompt(-target * log_softmax_per_prompt(reward, prompt), prompt)
    best, worst = ends(prompt)
    return LossOutput(loss, reward[best].detach(), reward[worst].detach())


def infonca_at_reference(batch: ReferencedRanked, *, beta: float, temperature: float) -> float:
    """Mean of log(n) over the prompts, n responses each."""
    return float(torch.bincount(batch.reference.prompt).double().log().mean())


INFONCA = Method(
    name="infonca",
    title="InfoNCA",
    summary="Matches the policy's preferences among several responses to targets from scores; on pairs it is DPO.",
    inputs=ReferencedRanked,
    loss=infonca_loss,
    hyperparameters=InfoNCAHyperparameters,
    loss_at_reference=infonca_at_reference,
    learning_rates=(5e-6,),
    invariances=Invariances(constant_shift=True),
    source=replace(
        NCA_PAPER,
        equation="objective",
        claim="Where responses carry explicit rewards, training on those beats methods that see preferences alone.",
        note="Its learning rate is for LoRA. Targets are softmax(score / temperature), as in the authors' code "
        "at f47b2a16; their published temperature makes the best response the only target.",
    ),
)
