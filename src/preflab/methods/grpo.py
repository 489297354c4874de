"""GRPO: PPO without a value head, each answer judged against its group."""

from dataclasses import dataclass

import torch

from preflab.core.domains import NON_NEGATIVE, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import clip_range, passes_over_answers
from preflab.methods._ops import aligned_tokens, clipped_surrogate, per_prompt
from preflab.methods._types import Credit, Episodes, LossOutput, Method, ReferencedAnswers

_EPSILON = 1e-4
"""Added to a group's deviation: answers with equal rewards have no advantage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GRPOHyperparameters(Hyperparameters):
    """Hyper-parameters of GRPO."""

    beta: float = hyper(
        0.04,
        domain=NON_NEGATIVE,
        grid=(0.001, 0.04),
        unit="",
        doc="Weight of the divergence from the reference, estimated at every token (k3).",
        log_scale=True,
    )
    clip: float = clip_range()
    passes: float = passes_over_answers(1, grid=(1, 2))


def grpo_loss(batch: ReferencedAnswers, *, beta: float, clip: float, passes: float) -> LossOutput:
    """Clipped policy gradient of the standardised reward, with a penalty for divergence from the reference.

    loss = -mean_t (min(ratio_t A, clip(ratio_t, 1 - clip, 1 + clip) A) - beta k3_t)
    ratio_t = exp(log pi - log pi_sampling), k3_t = exp(log ref - log pi) - (log ref - log pi) - 1

    Args:
        batch: log-probs and advantages of sampled answers, float32 [token], nats.
        beta: weight of the penalty, [0, inf).
        clip: largest change of a token's probability that is rewarded, (0, 1).
        passes: how often each batch of answers is used, [1, inf).

    Returns:
        loss [response]; no implicit rewards.

    References:
        Shao et al., DeepSeekMath, 2024, arXiv:2402.03300, eq. 3 and 4.
    """
    policy, behaviour, reference, advantage = (part.sampled for part in batch)
    aligned_tokens(policy, behaviour, reference, advantage)
    gap = reference.token - policy.token
    gain = clipped_surrogate(policy, behaviour, advantage, clip) - beta * (gap.exp() - gap - 1)
    none = policy.token.new_zeros(0)
    return LossOutput(policy._replace(token=-gain).sums() / policy.length, none, none)


def grpo_credit(episodes: Episodes, *, beta: float, clip: float, passes: float) -> Credit:
    """Reward of an answer, standardised over the answers to its prompt; alike for all of its tokens."""
    prompt, reward = episodes.prompt, episodes.reward
    n = torch.bincount(prompt).to(reward)
    centred = reward - (per_prompt(reward, prompt) / n)[prompt]
    deviation = (per_prompt(centred**2, prompt) / (n - 1)).sqrt()
    return Credit((centred / (deviation + _EPSILON)[prompt])[episodes.behaviour.response])


GRPO = Method(
    name="grpo",
    title="GRPO",
    summary="Reinforces the policy's own answers by their reward, standardised over the answers to the prompt.",
    inputs=ReferencedAnswers,
    loss=grpo_loss,
    hyperparameters=GRPOHyperparameters,
    learning_rates=(1e-6,),
    credit=grpo_credit,
    source=Source(
        paper="Shao et al., 2024",
        title="DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        arxiv="2402.03300",
        equation="3",
        claim="Lifts mathematical reasoning beyond supervised fine-tuning with less memory than PPO.",
        bibtex="""@misc{shao2024deepseekmath,
  title = {{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models},
  author = {Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and Bi, Xiao and Zhang, Haowei
            and Zhang, Mingchuan and Li, Y. K. and Wu, Y. and Guo, Daya},
  year = {2024},
  eprint = {2402.03300},
  archivePrefix = {arXiv}
}""",
        note="Each answer counts by the mean over its tokens, as in the paper; TRL's default is another mean.",
    ),
)
