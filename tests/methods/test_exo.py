"""exo: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import EXO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "label_noise": 0.001}, "pair 1", 2.422015, -0.166, 0.166),
    ({"beta": 0.1, "label_noise": 0.001}, "pair 2", 3.286512, -0.17618, 0.17618),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type exo_pair and label_smoothing 0.001",
    {"beta": 0.1, "label_noise": 0.001},
    3.1586013314481693,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(EXO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = EXO.loss(fixed_batch(EXO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-07)
