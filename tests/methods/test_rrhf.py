"""rrhf: golden values, and which responses of a list are compared."""

import pytest
import torch

from preflab.methods import RRHF, Ranked, RankedLogps, RankedValues

# Derived in float64 from the equation; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"rank_weight": 1.0}, "pair 1", 12.25, -1.125, 0.08333),
    ({"rank_weight": 1.0}, "pair 2", 14.75, -1.125, 0.08333),
)
NO_PEER = "no package of the index has it; the authors publish code only"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(RRHF, *golden)


def ranked(means, scores, prompt):
    total = torch.tensor(means, dtype=torch.float64)
    places = torch.tensor(prompt)
    policy = RankedLogps(total, torch.ones_like(total), places)
    return Ranked(policy, RankedValues(torch.tensor(scores, dtype=torch.float64), places))


def test_only_fine_tuning_is_left_where_the_order_is_right():
    batch = ranked([-1.0, -2.0, -3.0, -5.0, -4.0], [3.0, 2.0, 1.0, 1.0, 0.0], [0, 0, 0, 1, 1])
    assert RRHF.loss(batch, rank_weight=7.0).loss.tolist() == pytest.approx([1.0, 5.0 + 7.0 * 1.0])


def test_every_pair_of_a_list_is_compared_but_equals():
    """Means -3, -1, -2, scores 2, 1, 1: the first is above the others by score and below them by 2 and 1."""
    batch = ranked([-3.0, -1.0, -2.0], [2.0, 1.0, 1.0], [0, 0, 0])
    assert RRHF.loss(batch, rank_weight=10.0).loss.tolist() == pytest.approx([3.0 + 10.0 * (2.0 + 1.0)])
