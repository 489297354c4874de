"""sppo_hard: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import SPPO_HARD

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.001}, "pair 1", 498002.0, -998.0, 998.0),
    ({"beta": 0.001}, "pair 2", 503005.0, -1002.0, 1004.0),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type sppo_hard",
    {"beta": 0.001},
    502257.9375,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(SPPO_HARD, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = SPPO_HARD.loss(fixed_batch(SPPO_HARD.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
