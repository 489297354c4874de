"""RLOO: REINFORCE whose baseline is the mean reward of the other answers to the same prompt."""

from dataclasses import dataclass

import torch

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._ops import aligned_tokens, per_prompt
from preflab.methods._types import Answers, Credit, Episodes, LossOutput, Method


@dataclass(frozen=True, slots=True, kw_only=True)
class RLOOHyperparameters(Hyperparameters):
    """Hyper-parameters of RLOO."""

    beta: float = hyper(
        0.05,
        domain=NON_NEGATIVE,
        grid=(0.03, 0.05, 0.1),
        unit="reward/nat",
        doc="What a nat of divergence from the reference costs, taken off the reward of the answer.",
        log_scale=True,
    )


def rloo_loss(batch: Answers, *, beta: float) -> LossOutput:
    """Policy gradient of the reward, each answer against the others to its prompt.

    loss = -advantage * sum_t ratio_t, ratio_t = exp(log pi - log pi_sampling), whose gradient is that of log pi where
    the policy is the one that sampled

    Args:
        batch: log-probs and advantages of sampled answers, float32 [token], nats.
        beta: cost of divergence from the reference, reward/nat, [0, inf); it is in the advantages.

    Returns:
        loss [response], reward; no implicit rewards.

    References:
        Ahmadian et al., Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in
        LLMs, 2024, arXiv:2402.14740, section 3.2.
    """
    policy, behaviour, advantage = (part.sampled for part in batch)
    aligned_tokens(policy, behaviour, advantage)
    ratio = (policy.token - behaviour.token).exp()
    none = policy.token.new_zeros(0)
    return LossOutput(policy._replace(token=-ratio * advantage.token).sums(), none, none)


def rloo_credit(episodes: Episodes, *, beta: float) -> Credit:
    """Reward of an answer, less what its divergence costs, less the mean of that over the other answers to its prompt.

    The advantage is the answer's, alike for all of its tokens.
    """
    ratio = episodes.behaviour.sums() - episodes.reference.sums()
    value = episodes.reward - beta * ratio
    n = torch.bincount(episodes.prompt)[episodes.prompt]
    others = (per_prompt(value, episodes.prompt)[episodes.prompt] - value) / (n - 1)
    return Credit((value - others)[episodes.behaviour.response])


RLOO = Method(
    name="rloo",
    title="RLOO",
    summary="Reinforces the policy's own answers by their reward over the mean of the other answers to the prompt.",
    inputs=Answers,
    loss=rloo_loss,
    hyperparameters=RLOOHyperparameters,
    learning_rates=(1e-6,),
    credit=rloo_credit,
    source=Source(
        paper="Ahmadian et al., 2024",
        title="Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        arxiv="2402.14740",
        equation="section 3.2",
        claim="Beats PPO, RAFT and DPO while it needs fewer models in memory and fewer settings.",
        bibtex="""@inproceedings{ahmadian2024back,
  title = {Back to Basics: Revisiting {REINFORCE} Style Optimization for Learning from Human Feedback in {LLM}s},
  author = {Ahmadian, Arash and Cremer, Chris and Gall{\\'e}, Matthias and Fadaee, Marzieh and Kreutzer, Julia and
            Pietquin, Olivier and {\\"U}st{\\"u}n, Ahmet and Hooker, Sara},
  booktitle = {Annual Meeting of the Association for Computational Linguistics},
  year = {2024},
  eprint = {2402.14740},
  archivePrefix = {arXiv}
}""",
        note="Each batch of answers is used once, so that the policy is the one that sampled.",
    ),
)
