"""fdpo_alpha: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import FDPO_ALPHA

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.5, "clamp": 80.0}, "pair 1", 0.594349, -0.02718, 0.07388),
    ({"beta": 0.1, "alpha": 0.5, "clamp": 80.0}, "pair 2", 0.829412, -0.09294, 0.02074),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with f_divergence_type alpha_divergence, in float32",
    {"beta": 0.1, "alpha": 0.5, "clamp": 80.0},
    0.8331769108772278,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FDPO_ALPHA, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = FDPO_ALPHA.loss(fixed_batch(FDPO_ALPHA.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-06)
