"""apo_down: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import APO_DOWN

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.975145, 0.00019, 0.02475),
    ({"beta": 0.1}, "pair 2", 1.049463, 0.00049, 0.02445),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type apo_down",
    {"beta": 0.1},
    1.0341160384503725,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(APO_DOWN, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = APO_DOWN.loss(fixed_batch(APO_DOWN.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
