"""Methods on sampled answers: their credit and their losses against plain loops over single answers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preflab.core.domains import specs
from preflab.core.errors import ConfigError
from preflab.methods import (
    BRADLEY_TERRY,
    DPO,
    EURUS_REWARD,
    GRPO,
    ONLINE,
    PPO,
    RLOO,
    Answers,
    Episodes,
    ReferencedAnswers,
    TokenLogps,
    ValuedAnswers,
    find,
    validate,
)
from preflab.methods._trial import picked, random_input, remade, trial
from preflab.methods._types import Sampled
from preflab.methods.cards import card_text

LENGTHS = (3, 1, 4, 2)
PROMPT = torch.tensor([0, 0, 1, 1])


def settings(method, **changed):
    values = method.hyperparameters(**changed)
    return {name: getattr(values, name) for name in specs(method.hyperparameters)}


def tokens(seed, scale=1.0):
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=sum(LENGTHS))) * scale
    return TokenLogps(values, torch.tensor(LENGTHS, dtype=torch.float64))


def episodes(reward=(1.0, 0.0, 0.3, 0.7), value=True):
    return Episodes(
        torch.tensor(reward, dtype=torch.float64), PROMPT, tokens(1), tokens(2), tokens(3) if value else None
    )


def per_answer(values):
    return np.split(values.detach().numpy(), np.cumsum(LENGTHS)[:-1])


@pytest.mark.parametrize("method", ONLINE, ids=lambda m: m.name)
def test_each_is_declared_as_others_are_and_passes_a_strangers_trial(method):
    validate(method)
    trial(method)
    text = card_text(method)
    assert "sampled" in text and "arXiv" in text and method.is_online
    assert find(method.name) is method


@pytest.mark.parametrize("method", ONLINE, ids=lambda m: m.name)
def test_gradients_are_those_of_the_loss_and_answers_may_come_in_any_order(method):
    batch = random_input(method.inputs, n=5, seed=3)
    wanted = [batch.policy.sampled.token, *([batch.value.sampled.token] if "value" in batch._fields else [])]

    def loss(*values):
        changed = batch._replace(policy=Sampled(batch.policy.sampled._replace(token=values[0])))
        if len(values) > 1:
            changed = changed._replace(value=Sampled(batch.value.sampled._replace(token=values[1])))
        return method.loss(changed, **settings(method)).loss

    assert torch.autograd.gradcheck(loss, wanted)
    order = torch.tensor([3, 0, 4, 1, 2])
    there = method.loss(remade(batch, lambda _, part: picked(part, order)), **settings(method)).loss
    torch.testing.assert_close(there, loss(*wanted)[order])


@pytest.mark.parametrize("method", ONLINE, ids=lambda m: m.name)
def test_where_the_policy_is_the_one_that_sampled_the_gradient_is_the_policy_gradient(method):
    """d loss / d log pi = -advantage at every token, over the answer's length where the loss is a mean."""
    batch = random_input(method.inputs, n=5, seed=4)
    own = batch.policy.sampled
    same = batch._replace(behaviour=Sampled(own._replace(token=own.token.detach())))
    if "reference" in batch._fields:
        same = same._replace(reference=same.behaviour)  # its penalty has no slope there
    (slope,) = torch.autograd.grad(method.loss(same, **settings(method)).loss.sum(), own.token)
    expected = -batch.advantage.sampled.token
    if method is GRPO:
        expected = expected / own.length[own.response]
    torch.testing.assert_close(slope, expected.to(slope))


def test_rloo_credit_is_the_reward_over_the_mean_of_the_others():
    found = per_answer(RLOO.credit(episodes(value=False), beta=0.3).advantage)
    ours, theirs = per_answer(tokens(1).token), per_answer(tokens(2).token)
    worth = [r - 0.3 * (a.sum() - b.sum()) for r, a, b in zip((1.0, 0.0, 0.3, 0.7), ours, theirs, strict=True)]
    expected = [worth[0] - worth[1], worth[1] - worth[0], worth[2] - worth[3], worth[3] - worth[2]]
    for values, one in zip(found, expected, strict=True):
        assert values == pytest.approx(one)


@given(rewards=st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_credit_within_a_group_sums_to_zero(rewards):
    length = torch.ones(6, dtype=torch.float64)
    flat = TokenLogps(torch.zeros(6, dtype=torch.float64), length)
    given_ = Episodes(torch.tensor(rewards, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1]), flat, flat, None)
    for method in (RLOO, GRPO):
        sums = method.credit(given_, **settings(method)).advantage.reshape(2, 3).sum(1)
        assert sums.abs().max() < 1e-6


def test_grpo_credit_is_standardised_in_its_group_and_nothing_where_rewards_are_equal():
    found = per_answer(GRPO.credit(episodes((1.0, 0.0, 0.5, 0.5), value=False), **settings(GRPO)).advantage)
    one = 0.5 / (math.sqrt(0.5) + 1e-4)  # deviation of (1, 0) with n - 1 is sqrt(1/2)
    assert [values[0] for values in found] == pytest.approx([one, -one, 0.0, 0.0])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_ppo_credit_against_a_loop_over_tokens(gae_lambda):
    beta = 0.2
    credit = PPO.credit(episodes(), **settings(PPO, beta=beta, gae_lambda=gae_lambda))
    raw, returns = [], []
    parts = zip((1.0, 0.0, 0.3, 0.7), *(per_answer(tokens(i).token) for i in (1, 2, 3)), strict=True)
    for reward, ours, theirs, value in parts:
        earned = beta * (theirs - ours)
        earned[-1] += reward
        advantages = []
        for t in range(len(ours)):
            total = 0.0
            for later in range(t, len(ours)):
                after = value[later + 1] if later + 1 < len(ours) else 0.0
                total += gae_lambda ** (later - t) * (earned[later] + after - value[later])
            advantages.append(total)
        raw += advantages
        returns += [a + v for a, v in zip(advantages, value, strict=True)]
        if gae_lambda == 1.0:
            assert advantages[0] + value[0] == pytest.approx(earned.sum())  # what was earned until the end
    assert credit.returns.tolist() == pytest.approx(returns)
    assert credit.advantage.tolist() == pytest.approx(list((np.array(raw) - np.mean(raw)) / np.std(raw)))


def answer(policy, behaviour, advantage, **more):
    made = {"policy": policy, "behaviour": behaviour, "advantage": advantage, **more}
    length = torch.tensor([float(len(policy))], dtype=torch.float64)
    return {name: Sampled(TokenLogps(torch.tensor(v, dtype=torch.float64), length)) for name, v in made.items()}


def test_goldens_by_hand():
    """Two tokens: one whose probability doubled beyond the clip range of 0.2, one that halved; advantages 1 and -1."""
    half, double = math.log(0.5), math.log(2.0)
    ratios = answer([double - 3, half - 3], [-3.0, -3.0], [1.0, -1.0])
    # min(2 * 1, 1.2 * 1) = 1.2; min(0.5 * -1, 0.8 * -1) = -0.8
    assert float(RLOO.loss(Answers(**ratios), **settings(RLOO)).loss) == pytest.approx(-(2.0 - 0.5))
    valued = answer(
        [double - 3, half - 3], [-3.0, -3.0], [1.0, -1.0], value=[0.0, 1.0], old_value=[0.5, 1.0], returns=[1.0, 1.0]
    )
    # Values: clipped to 0.3, error max(1, 0.49) = 1 and 0; weight 0.1 over 2.
    assert float(PPO.loss(ValuedAnswers(**valued), **settings(PPO)).loss) == pytest.approx(-(1.2 - 0.8) + 0.1 / 2)
    tied = answer([double - 3, half - 3], [-3.0, -3.0], [1.0, -1.0], reference=[-3.0, -3.0])
    penalty = (0.5 - half - 1) + (2.0 - double - 1)
    expected = -((1.2 - 0.8) - 0.04 * penalty) / 2
    assert float(GRPO.loss(ReferencedAnswers(**tied), **settings(GRPO)).loss) == pytest.approx(expected)


def test_bradley_terry_is_the_logistic_loss_of_a_difference():
    validate(BRADLEY_TERRY)
    batch = random_input(BRADLEY_TERRY.inputs, n=3)
    gap = (batch.value.chosen.value - batch.value.rejected.value).detach()
    torch.testing.assert_close(BRADLEY_TERRY.loss(batch).loss.detach(), torch.log1p(torch.exp(-gap)))
    flat = batch._replace(value=batch.value._replace(rejected=batch.value.chosen))
    assert float(BRADLEY_TERRY.loss(flat).loss.detach().mean()) == pytest.approx(BRADLEY_TERRY.loss_at_reference(flat))


def test_the_eurus_reward_model_also_wants_the_right_signs():
    validate(EURUS_REWARD)
    batch = random_input(EURUS_REWARD.inputs, n=3)
    good, bad = (side.value.detach() for side in batch.value)
    # Three logistic losses, written with log1p(exp(.)).
    expected = sum(torch.log1p(torch.exp(-x)) for x in (good - bad, good, -bad))
    torch.testing.assert_close(EURUS_REWARD.loss(batch).loss.detach(), expected)
    zero = batch._replace(value=type(batch.value)(*(side._replace(value=0 * side.value) for side in batch.value)))
    assert float(EURUS_REWARD.loss(zero).loss.detach().mean()) == pytest.approx(EURUS_REWARD.loss_at_reference(zero))


def test_any_method_for_pairs_can_learn_from_own_answers_and_others_say_why_not():
    online = find("online_simpo")
    assert online.own_answers and online.is_online and online.loss is find("simpo").loss
    assert find("online_dpo").hyperparameters is DPO.hyperparameters
    for name in ("online_kto", "online_ppo", "online_tr_dpo", "online_nca"):
        with pytest.raises(ConfigError, match="own answers give the log-probs of a pair"):
            find(name)
    with pytest.raises(ConfigError, match="learns from its own answers"):
        find("dpo+online_dpo")


@pytest.mark.parametrize("bad", [0, 1.5, -1, float("inf")])
def test_passes_are_whole_numbers(bad):
    with pytest.raises(ConfigError, match=r"passes: must be in whole numbers in \[1, inf\)"):
        PPO.hyperparameters(passes=bad)
