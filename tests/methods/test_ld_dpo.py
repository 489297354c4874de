"""ld_dpo: golden values, a peer's value, and what counts as surplus."""

import pytest
import torch

from preflab.methods import DPO, LD_DPO, Logps, Pair, ReferencedPair, ReferencedTokenPair, TokenLogps, TokenPair

# Derived in float64 from the equation, every token of a response with an equal share of its total; gradients by central
# differences. hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.5}, "pair 1", 0.605676, -0.045429, 0.037858),
    ({"beta": 0.1, "alpha": 0.5}, "pair 2", 0.835343, -0.056627, 0.04719),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type sigmoid and ld_alpha 0.5",
    {"beta": 0.1, "alpha": 0.5},
    0.8076317627391553,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(LD_DPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = LD_DPO.loss(fixed_batch(LD_DPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


def ratios(values, lengths):
    return TokenLogps(torch.tensor(values, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64))


def test_only_tokens_past_the_shorter_response_are_weighed():
    """Chosen has 3 tokens against 2 and 1 against 2: one surplus token, then one on the other side."""
    chosen, rejected = ratios([1.0, 2.0, 4.0, 8.0], [3, 1]), ratios([0.0, 0.0, 1.0, 3.0], [2, 2])
    zeros = TokenPair(*(part._replace(token=torch.zeros_like(part.token)) for part in (chosen, rejected)))
    output = LD_DPO.loss(ReferencedTokenPair(TokenPair(chosen, rejected), zeros), beta=1.0, alpha=0.25)
    assert output.chosen_reward.tolist() == [1 + 2 + 0.25 * 4, 8.0]
    assert output.rejected_reward.tolist() == [0.0, 1 + 0.25 * 3]


def test_is_dpo_when_all_tokens_count(random_batch):
    batch = random_batch(ReferencedTokenPair, n=6, seed=4)
    sides = [Pair(*(Logps(part.sums(), part.length) for part in side)) for side in batch]
    expected = DPO.loss(ReferencedPair(*sides), beta=0.3).loss
    torch.testing.assert_close(LD_DPO.loss(batch, beta=0.3, alpha=1.0).loss, expected)


def test_cuts_the_longer_response_at_weight_zero():
    long, short = ratios([-1.0, -2.0, -50.0], [3]), ratios([-1.0, -2.0], [2])
    other = ratios([-3.0, -4.0], [2])
    zeros = ratios([0.0, 0.0], [2])
    with_tail = ReferencedTokenPair(TokenPair(long, other), TokenPair(ratios([0.0] * 3, [3]), zeros))
    without = ReferencedTokenPair(TokenPair(short, other), TokenPair(zeros, zeros))
    cut, plain = (LD_DPO.loss(batch, beta=0.1, alpha=0.0).loss for batch in (with_tail, without))
    torch.testing.assert_close(cut, plain)
