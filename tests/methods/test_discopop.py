"""discopop: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import DISCOPOP

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.05, "tau": 0.05}, "pair 1", 0.873792, -0.01534, 0.01534),
    ({"beta": 0.05, "tau": 0.05}, "pair 2", 0.789495, -0.01069, 0.01069),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type discopop",
    {"beta": 0.05, "tau": 0.05},
    0.8373407593753126,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(DISCOPOP, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = DISCOPOP.loss(fixed_batch(DISCOPOP.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
