"""dpop: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import DPOP

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "penalty": 50.0}, "pair 1", 0.598139, -0.04502, 0.04502),
    ({"beta": 0.1, "penalty": 50.0}, "pair 2", 5.304979, -5.07467, 0.0995),
)
NO_PEER = "trl 1.16.0 has no DPOP"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(DPOP, *golden)
