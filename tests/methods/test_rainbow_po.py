"""rainbow_po: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import RAINBOW_PO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 10.0, "alpha": 0.25, "gamma": 0.1}, "pair 1", 2.219232, -1.11413, 0.74276),
    ({"beta": 10.0, "alpha": 0.25, "gamma": 0.1}, "pair 2", 7.104988, -1.24897, 0.83265),
)
NO_PEER = "no package has it"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(RAINBOW_PO, *golden)
