"""rpo: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import RPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.01, "eta": 0.005}, "pair 1", 0.743197, -0.00995, 0.00495),
    ({"beta": 0.01, "eta": 0.005}, "pair 2", 0.77826, -0.01007, 0.00507),
)
NO_PEER = "trl 1.16.0 averages the likelihood over all tokens of the micro-batch"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(RPO, *golden)
