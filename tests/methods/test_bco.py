"""bco: golden values from the equation, a peer's value, and what the equation says at chosen points."""

import math

import pytest
import torch

from preflab.methods import BCO, Logps, Moments, Pair
from preflab.methods.bco import TrackedPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 1.288793, -0.0475, 0.0475),
    ({"beta": 0.1}, "pair 2", 1.541914, -0.05374, 0.05374),
)
PEER = (
    "trl 0.24.0, DPOTrainer.dpo_loss with loss_type bco_pair, its first step",
    {"beta": 0.1},
    1.5084773671070038,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(BCO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = BCO.loss(fixed_batch(BCO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


def test_the_shift_is_the_mean_of_all_rewards_so_far():
    """Two steps of two pairs: rewards 1, 0 and 3, 2, then 5, 4 and 7, 6; after the second the mean of the eight."""

    def step(chosen, rejected, tracked):
        zero = torch.zeros(2, dtype=torch.float64)
        policy = Pair(*(Logps(torch.tensor(side, dtype=torch.float64), zero + 1) for side in (chosen, rejected)))
        return BCO.loss(TrackedPair(policy, Pair(Logps(zero, zero + 1), Logps(zero, zero + 1)), tracked), beta=1.0)

    first = step([1.0, 3.0], [0.0, 2.0], Moments())
    assert first.state == (Moments(mean=1.5, n=4),)
    second = step([5.0, 7.0], [4.0, 6.0], *first.state)
    assert second.state == (Moments(mean=3.5, n=8),)
    expected = [math.log1p(math.exp(-(c - 3.5))) + math.log1p(math.exp(r - 3.5)) for c, r in ((5, 4), (7, 6))]
    assert second.loss.tolist() == pytest.approx(expected)
