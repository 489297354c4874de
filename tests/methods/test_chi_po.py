"""chi_po: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest
import torch

from preflab.methods import CHI_PO, Logps, Pair, ReferencedPair

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.05, "reward_bound": 10.0, "clamp": 80.0}, "pair 1", 0.59029, -0.08289, 0.03049),
    ({"beta": 0.05, "reward_bound": 10.0, "clamp": 80.0}, "pair 2", 0.974736, -0.04259, 0.2612),
)
NO_PEER = "no package has it"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(CHI_PO, *golden)


@pytest.mark.parametrize(
    ("chosen", "rejected", "held"),
    [
        (2.0, 0.0, True),
        (0.0, 2.0, True),
        (1.0, 0.0, False),
        (0.9, -60.0, True),
        (-60.0, 0.9, True),
        (0.5, 0.5, False),
        (0.0, -30.0, False),
        (-30.0, -30.0, False),
        (0.0, -50.0, True),
    ],
)
def test_values_at_the_clamp_and_margins_at_the_bound_are_counted(chosen, rejected, held):
    """The exponent is held above 1, the margin outside +-4: at beta 0.1 a log-ratio of -60 gives -6, -30 gives -3."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    policy = Pair(Logps(chosen * one, one), Logps(rejected * one, one))
    batch = ReferencedPair(policy, Pair(Logps(zero, one), Logps(zero, one)))
    assert CHI_PO.loss(batch, beta=0.1, reward_bound=2.0, clamp=1.0).clamped.tolist() == [held]
