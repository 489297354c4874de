"""alpha_po: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest
import torch

from preflab.methods import ALPHA_PO, Logps, Pair

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 2.5, "gamma_beta_ratio": 0.1, "alpha": 0.25, "clamp": 80.0}, "pair 1", 1.411087, -0.3438, 0.21531),
    ({"beta": 2.5, "gamma_beta_ratio": 0.1, "alpha": 0.25, "clamp": 80.0}, "pair 2", 2.951713, -0.45872, 0.25353),
)
NO_PEER = "trl 1.16.0 exponentiates sums unless the loss is simpo, and then normalises before"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(ALPHA_PO, *golden)


@pytest.mark.parametrize(
    ("chosen", "rejected", "alpha", "held"),
    [
        (-9.0, -1.0, 0.5, True),
        (-1.0, -9.0, 0.5, True),
        (-8.0, -1.0, 0.5, False),
        (-9.0, -9.0, -0.5, False),
        (-0.1, -0.1, 0.5, False),
    ],
)
def test_values_at_the_clamp_are_counted_on_either_side(chosen, rejected, alpha, held):
    """The exponent -alpha * mean is held above 4."""
    one = torch.ones(1, dtype=torch.float64)
    pair = Pair(Logps(chosen * one, one), Logps(rejected * one, one))
    output = ALPHA_PO.loss(pair, beta=1.0, gamma_beta_ratio=0.1, alpha=alpha, clamp=4.0)
    assert output.clamped.tolist() == [held]
