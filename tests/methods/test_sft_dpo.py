"""sft_dpo: golden values from the equation; what ties it to other methods is in test_limits.py."""

import pytest

from preflab.methods import SFT_DPO

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1, "gamma": 0.1}, "pair 1", 1.798139, -0.14502, 0.04502),
    ({"beta": 0.1, "gamma": 0.1}, "pair 2", 2.254355, -0.15744, 0.05744),
)
NO_PEER = "no package has it with a sum over tokens"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(SFT_DPO, *golden)
