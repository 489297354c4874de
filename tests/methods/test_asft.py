"""asft: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import ASFT

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"lambda_asft": 0.1}, "pair 1", 1.683758, -0.1375, 0.00335),
    ({"lambda_asft": 0.1}, "pair 2", 1.970868, -0.1375, 0.00485),
)
NO_PEER = "no package has it"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(ASFT, *golden)
