"""wpo: golden values from the equation, a peer's value, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import DPO, WPO, Pair, ReferencedPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.119628, -0.009, 0.009),
    ({"beta": 0.1}, "pair 2", 0.170871, -0.01149, 0.01149),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type sigmoid and use_weighting",
    {"beta": 0.01},
    0.08791270434281011,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(WPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = WPO.loss(fixed_batch(WPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


def test_the_weight_is_bounded_by_one(fixed_batch):
    """Per token one nat above the collision log-prob on both sides: exp(2) becomes 1, and DPO's loss remains."""
    batch = fixed_batch(WPO.inputs, "pair 1")
    low = Pair(*(part._replace(total=(part.total - part.length).detach()) for part in batch.policy))
    expected = DPO.loss(ReferencedPair(batch.policy, batch.reference), beta=0.1).loss
    torch.testing.assert_close(WPO.loss(batch._replace(collision=low), beta=0.1).loss, expected)


def test_a_collision_of_other_pairs_is_refused(fixed_batch):
    batch = fixed_batch(WPO.inputs, "pair 1")
    two = type(batch.collision)(*(type(part)(*(values.repeat(2) for values in part)) for part in batch.collision))
    with pytest.raises(ValueError, match="one number of examples"):
        WPO.loss(batch._replace(collision=two), beta=0.1)
