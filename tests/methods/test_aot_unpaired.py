"""aot_unpaired: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import AOT_UNPAIRED

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.598139, -0.04502, 0.04502),
    ({"beta": 0.1}, "pair 2", 0.854355, -0.05744, 0.05744),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type aot_unpaired",
    {"beta": 0.1},
    0.8124247647692543,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(AOT_UNPAIRED, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = AOT_UNPAIRED.loss(fixed_batch(AOT_UNPAIRED.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
