"""nca: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import NCA

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.01}, "pair 1", 1.381319, -0.00246, 0.00249),
    ({"beta": 0.01}, "pair 2", 1.393838, -0.00254, 0.00252),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type nca_pair",
    {"beta": 0.01},
    1.3920033433096417,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(NCA, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = NCA.loss(fixed_batch(NCA.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
