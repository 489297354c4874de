"""fdpo_forward_kl: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest
import torch

from preflab.methods import FDPO_FORWARD_KL, Logps, Pair

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "clamp": 80.0}, "pair 1", 0.582517, -0.01624, 0.12001),
    ({"beta": 0.1, "clamp": 80.0}, "pair 2", 0.830611, -0.15337, 0.00764),
)
PEER = (
    "trl 1.16.0, DPOTrainer._compute_loss with f_divergence_type forward_kl",
    {"beta": 0.1, "clamp": 80.0},
    0.9624912230168888,
)


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(FDPO_FORWARD_KL, *golden)


def test_agrees_with_peer(fixed_batch):
    _, hyperparameters, mean_loss = PEER
    output = FDPO_FORWARD_KL.loss(fixed_batch(FDPO_FORWARD_KL.inputs, "peer"), **hyperparameters)
    assert output.loss.mean().item() == pytest.approx(mean_loss, rel=1e-09)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_value_at_the_clamp_is_counted_on_either_side(side, fixed_batch):
    """The log-ratio of one response falls to -2 in one pair of three; at exactly the clamp nothing is held."""
    batch = fixed_batch(FDPO_FORWARD_KL.inputs, "peer")
    totals = {role: getattr(batch.reference, role).total.clone() for role in ("chosen", "rejected")}
    totals[side] -= torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    policy = Pair(*(Logps(totals[role], getattr(batch.reference, role).length) for role in ("chosen", "rejected")))
    output = FDPO_FORWARD_KL.loss(batch._replace(policy=policy), beta=0.1, clamp=1.0)
    assert output.clamped.tolist() == [True, False, False]
