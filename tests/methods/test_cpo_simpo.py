"""cpo_simpo: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import CPO_SIMPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 10.0, "gamma_beta_ratio": 0.54, "alpha": 0.05}, "pair 1", 7.975371, -1.25579, 0.83302),
    ({"beta": 10.0, "gamma_beta_ratio": 0.54, "alpha": 0.05}, "pair 2", 12.987502, -1.25625, 0.83333),
)
PEER = (
    "trl 1.16.0, CPOTrainer.cpo_loss with loss_type simpo and simpo_gamma 5.4, plus 0.05 of the token mean of the NLL",
    {"beta": 10.0, "gamma_beta_ratio": 0.54, "alpha": 0.05},
    7.073230193478088,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(CPO_SIMPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = CPO_SIMPO.loss(fixed_batch(CPO_SIMPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)
