"""tr_dpo: golden values from the equation, a peer's value, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import DPO, TR_DPO, ReferencedPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.05, "alpha": 0.6, "tau": 512.0}, "pair 1", 0.644397, -0.02375, 0.02375),
    ({"beta": 0.05, "alpha": 0.6, "tau": 512.0}, "pair 2", 0.770957, -0.02687, 0.02687),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with loss_type sigmoid, given the reference of the moment",
    {"beta": 0.05, "alpha": 0.6, "tau": 512.0},
    0.7541825103028513,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(TR_DPO, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = TR_DPO.loss(fixed_batch(TR_DPO.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-9)


@pytest.mark.parametrize(("step", "share"), [(1, 0.0), (3, 0.0), (4, 0.6), (6, 0.0), (8, 0.6)])
def test_the_reference_moves_every_tau_steps(step, share):
    assert TR_DPO.reference_update(step, beta=0.05, alpha=0.6, tau=4.2) == share


def test_is_dpo_on_the_reference_of_the_moment(random_batch):
    batch = random_batch(TR_DPO.inputs, n=6, seed=4)
    expected = DPO.loss(ReferencedPair(batch.policy, batch.moving_reference), beta=0.3).loss
    torch.testing.assert_close(TR_DPO.loss(batch, beta=0.3, alpha=0.6, tau=512.0).loss, expected)
