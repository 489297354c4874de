"""robust_dpo: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import ROBUST_DPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "label_noise": 0.1}, "pair 1", 0.573139, -0.05752, 0.05752),
    ({"beta": 0.1, "label_noise": 0.1}, "pair 2", 0.891855, -0.06994, 0.06994),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type robust and label_smoothing 0.1",
    {"beta": 0.1, "label_noise": 0.1},
    0.852762441306678,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(ROBUST_DPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = ROBUST_DPO.loss(fixed_batch(ROBUST_DPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
