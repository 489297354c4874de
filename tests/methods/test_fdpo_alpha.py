"""fdpo_alpha: golden values and a peer's value; what ties it to other methods is in test_limits.py."""

import pytest
import torch

from preflab.methods import FDPO_ALPHA, Logps, Pair

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


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_value_at_the_clamp_is_counted_on_either_side(side, fixed_batch):
    """The log-ratio of one response falls to -2 in one pair of three; at exactly the clamp nothing is held."""
    batch = fixed_batch(FDPO_ALPHA.inputs, "peer")
    totals = {role: getattr(batch.reference, role).total.clone() for role in ("chosen", "rejected")}
    totals[side] -= torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    policy = Pair(*(Logps(totals[role], getattr(batch.reference, role).length) for role in ("chosen", "rejected")))
    output = FDPO_ALPHA.loss(batch._replace(policy=policy), beta=0.1, alpha=1.0, clamp=1.0)
    assert output.clamped.tolist() == [True, False, False]
