"""rso_hinge: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import RSO_HINGE

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.8, -0.1, 0.1),
    ({"beta": 0.1}, "pair 2", 1.3, -0.1, 0.1),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type hinge",
    {"beta": 0.1},
    1.225,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(RSO_HINGE, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = RSO_HINGE.loss(fixed_batch(RSO_HINGE.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
