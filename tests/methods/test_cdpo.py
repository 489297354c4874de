"""cdpo: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import CDPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "label_noise": 0.1}, "pair 1", 0.618139, -0.03502, 0.03502),
    ({"beta": 0.1, "label_noise": 0.1}, "pair 2", 0.824355, -0.04744, 0.04744),
)
PEER = (
    "trl 1.16.0, CPOTrainer.cpo_loss with loss_type sigmoid and label_smoothing 0.1, given log-ratios",
    {"beta": 0.1, "label_noise": 0.1},
    0.8021374413066781,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(CDPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = CDPO.loss(fixed_batch(CDPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
