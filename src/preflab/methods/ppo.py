"""PPO: proximal policy optimisation with a value head."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from preflab.core.domains import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, Hyperparameters, hyper
from preflab.core.sources import Source
from preflab.methods._hyper import clip_range, passes_over_answers
from preflab.methods._ops import aligned_tokens, clipped_surrogate
from preflab.methods._types import Credit, Episodes, LossOutput, Method, TokenLogps, ValuedAnswers


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOHyperparameters(Hyperparameters):
    """Hyper-parameters of PPO."""

    beta: float = hyper(
        0.05,
        domain=NON_NEGATIVE,
        grid=(0.02, 0.05),
        unit="reward/nat",
        doc="What a nat of divergence from the reference costs, taken off the reward at every token.",
        log_scale=True,
    )
    clip: float = clip_range()
    value_clip: float = hyper(
        0.2, domain=POSITIVE, grid=(0.2,), unit="reward", doc="Largest change of a token's value that is rewarded."
    )
    value_weight: float = hyper(
        0.1, domain=NON_NEGATIVE, grid=(0.1,), unit="1/reward", doc="Weight of the value head's loss."
    )
    gae_lambda: float = hyper(
        0.95,
        domain=UNIT_INTERVAL,
        grid=(0.95, 1.0),
        unit="",
        doc="How far advantages look ahead: 0 trusts the value head after one token, 1 only the reward at the end.",
    )
    passes: float = passes_over_answers(4, grid=(1, 4))


def ppo_loss(
    batch: ValuedAnswers,
    *,
    beta: float,
    clip: float,
    value_clip: float,
    value_weight: float,
    gae_lambda: float,
    passes: float,
) -> LossOutput:
    """Clipped policy gradient of the advantages, and the clipped squared error of the values.

    loss = -sum_t min(ratio_t A_t, clip(ratio_t, 1 - clip, 1 + clip) A_t)
           + value_weight * sum_t max((v_t - R_t)^2, (clip(v_t, v_old - value_clip, v_old + value_clip) - R_t)^2) / 2

    Args:
        batch: log-probs, values, advantages and returns of sampled answers, float32 [token].
        beta: cost of divergence from the reference, reward/nat, [0, inf); it is in the advantages.
        clip: largest change of a token's probability that is rewarded, (0, 1).
        value_clip: largest change of a token's value that is rewarded, reward, (0, inf).
        value_weight: weight of the value head's loss, [0, inf).
        gae_lambda: how far advantages look ahead, [0, 1]; it is in the advantages.
        passes: how often each batch of answers is used, [1, inf).

    Returns:
        loss [response]; no implicit rewards.

    References:
        Schulman et al., Proximal Policy Optimization Algorithms, 2017, arXiv:1707.06347, eq. 7 and 9; for language
        models Ouyang et al., 2022, arXiv:2203.02155, appendix C.
    """
    policy, behaviour, advantage, value, old, returns = (part.sampled for part in batch)
    aligned_tokens(policy, behaviour, advantage, value, old, returns)
    near = torch.clamp(value.token, old.token - value_clip, old.token + value_clip)
    error = torch.maximum((value.token - returns.token) ** 2, (near - returns.token) ** 2) / 2
    token = value_weight * error - clipped_surrogate(policy, behaviour, advantage, clip)
    none = policy.token.new_zeros(0)
    return LossOutput(policy._replace(token=token).sums(), none, none)


def ppo_credit(
    episodes: Episodes,
    *,
    beta: float,
    clip: float,
    value_clip: float,
    value_weight: float,
    gae_lambda: float,
    passes: float,
) -> Credit:
    """Generalised advantage estimation (Schulman et al., 2016, arXiv:1506.02438, eq. 16) without discount.

    Every token costs beta times its log-ratio to the reference; the last one earns the answer's reward. Advantages are
    standardised over all tokens of the batch of answers; returns are advantages before that plus values.
    """
    assert episodes.value is not None
    length = episodes.behaviour.length.long()
    last = length.cumsum(0) - 1
    reward = beta * (episodes.reference.token - episodes.behaviour.token)
    reward = reward.index_add(0, last, episodes.reward)
    raw = _gae(TokenLogps(reward, episodes.behaviour.length), episodes.value.token, gae_lambda)
    spread = raw.std(correction=0)
    advantage = (raw - raw.mean()) / (spread + 1e-8)
    return Credit(advantage, raw + episodes.value.token)


def _gae(reward: TokenLogps, value: Tensor, gae_lambda: float) -> Tensor:
    """Return the advantage of every token, [token]; behind the last token of an answer lies nothing."""
    lengths = reward.length.long().tolist()
    rewards, values = (pad_sequence(list(x.split(lengths)), batch_first=True) for x in (reward.token, value))
    following = torch.cat([values[:, 1:], values.new_zeros(len(values), 1)], dim=1)
    change = rewards + following - values
    found = torch.zeros_like(change)
    ahead = change.new_zeros(len(change))
    for t in reversed(range(change.shape[1])):
        ahead = change[:, t] + gae_lambda * ahead
        found[:, t] = ahead
    inside = torch.arange(change.shape[1])[None] < reward.length.long()[:, None]
    return found[inside]


PPO = Method(
    name="ppo",
    title="PPO",
    summary="Reinforces the policy's own answers token by token, by advantages over what a value head expects.",
    inputs=ValuedAnswers,
    loss=ppo_loss,
    hyperparameters=PPOHyperparameters,
    learning_rates=(1e-6, 3e-6),
    credit=ppo_credit,
    source=Source(
        paper="Schulman et al., 2017",
        title="Proximal Policy Optimization Algorithms",
        arxiv="1707.06347",
        equation="7 and 9",
        claim="Learns as stably as trust-region methods with a first-order optimizer, from fewer samples than others.",
        bibtex="""@misc{schulman2017proximal,
  title = {Proximal Policy Optimization Algorithms},
  author = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg},
  year = {2017},
  eprint = {1707.06347},
  archivePrefix = {arXiv}
}""",
        note="The value head is a linear layer on the policy's own last hidden states, zero at first. The loss of an "
        "answer is the sum over its tokens, which makes it the gradient of the expected reward; TRL averages over the "
        "tokens of a minibatch, which differs by a factor per batch.",
    ),
)
