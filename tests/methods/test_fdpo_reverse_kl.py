"""fdpo_reverse_kl: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import FDPO_REVERSE_KL

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.598139, -0.04502, 0.04502),
    ({"beta": 0.1}, "pair 2", 0.854355, -0.05744, 0.05744),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with f_divergence_type reverse_kl",
    {"beta": 0.1},
    0.8246374413066779,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FDPO_REVERSE_KL, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = FDPO_REVERSE_KL.loss(fixed_batch(FDPO_REVERSE_KL.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
