"""fdpo_forward_kl: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import FDPO_FORWARD_KL

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "clamp": 80.0}, "pair 1", 0.582517, -0.01624, 0.12001),
    ({"beta": 0.1, "clamp": 80.0}, "pair 2", 0.830611, -0.15337, 0.00764),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with f_divergence_type forward_kl",
    {"beta": 0.1, "clamp": 80.0},
    0.9624912230168888,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FDPO_FORWARD_KL, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = FDPO_FORWARD_KL.loss(fixed_batch(FDPO_FORWARD_KL.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
