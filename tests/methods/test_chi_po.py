"""chi_po: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import CHI_PO

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
