"""bco_unpaired: golden values from the equation, a peer's value, and what the equation says at chosen points."""

import math

import pytest
import torch

from preflab.methods import BCO_UNPAIRED, Logps, Moments, Referenced
from preflab.methods.bco_unpaired import TrackedGroups

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 1.288793, -0.0475, 0.0475),
    ({"beta": 0.1}, "pair 2", 1.541914, -0.05374, 0.05374),
)
PEER = (
    "trl 0.24.0, BCOTrainer.bco_loss, its first step",
    {"beta": 0.1},
    0.7542386835535019,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(BCO_UNPAIRED, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = BCO_UNPAIRED.loss(fixed_batch(BCO_UNPAIRED.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


def test_the_larger_group_does_not_move_the_threshold():
    """Three desirable responses with reward 3 and one undesirable with reward -1: the shift is 1, not their mean 2."""

    def group(*rewards):
        total = torch.tensor(rewards, dtype=torch.float64)
        return Referenced(Logps(total, torch.ones_like(total)), Logps(torch.zeros_like(total), torch.ones_like(total)))

    batch = TrackedGroups(group(3.0, 3.0, 3.0), group(-1.0), Moments(), Moments())
    output = BCO_UNPAIRED.loss(batch, beta=1.0)
    assert output.loss.tolist() == pytest.approx([math.log1p(math.exp(-2.0))] * 4)
    assert output.state == (Moments(mean=3.0, n=3), Moments(mean=-1.0, n=1))


def test_a_group_that_is_missing_keeps_its_mean():
    none = Logps(torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64))
    one = Logps(torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    batch = TrackedGroups(Referenced(one, one), Referenced(none, none), Moments(), Moments(mean=-4.0, n=2))
    output = BCO_UNPAIRED.loss(batch, beta=1.0)
    assert output.state[1] == Moments(mean=-4.0, n=2)
    assert output.loss.tolist() == pytest.approx([math.log1p(math.exp(-2.0))])


def test_the_loss_at_the_reference_follows_what_came_before():
    """One desirable response after one with reward 4: their mean is 2, half of it the shift; none of the other kind."""
    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    chosen, rejected = Referenced(Logps(one, one), Logps(one, one)), Referenced(Logps(none, none), Logps(none, none))
    batch = TrackedGroups(chosen, rejected, Moments(mean=4.0, n=1), Moments(mean=6.0, n=1))
    expected = math.log1p(math.exp((4.0 / 2 + 6.0) / 2))
    assert BCO_UNPAIRED.loss_at_reference(batch, beta=1.0) == pytest.approx(expected)
    assert BCO_UNPAIRED.loss(batch, beta=1.0).loss.tolist() == pytest.approx([expected])
