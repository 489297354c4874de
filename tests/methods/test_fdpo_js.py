"""fdpo_js: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import FDPO_JS

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.644397, -0.01278, 0.03473),
    ({"beta": 0.1}, "pair 2", 0.754222, -0.03872, 0.00631),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with f_divergence_type js_divergence",
    {"beta": 0.1},
    0.7422855334156507,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FDPO_JS, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = FDPO_JS.loss(fixed_batch(FDPO_JS.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
