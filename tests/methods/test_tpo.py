"""tpo: golden values from the equation, a peer's value, and what the equation says at chosen points."""

import pytest

from preflab.methods import TPO

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "alpha": 0.5}, "pair 1", 0.954355, -0.04256, 0.04256),
    ({"beta": 0.1, "alpha": 0.5}, "pair 2", 1.698139, -0.05498, 0.05498),
)
PEER = (
    "trl 1.16.0, TPOTrainer._compute_loss with loss_type sigmoid",
    {"beta": 0.01, "alpha": 1.0},
    2.292524713976199,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(TPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = TPO.loss(fixed_batch(TPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)
