"""apo_zero: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import APO_ZERO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.950042, -0.02494, 0.02494),
    ({"beta": 0.1}, "pair 2", 1.074813, -0.02494, 0.02475),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type apo_zero",
    {"beta": 0.1},
    1.0558578718466654,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(APO_ZERO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = APO_ZERO.loss(fixed_batch(APO_ZERO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
