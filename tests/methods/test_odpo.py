"""odpo: golden values from the equation, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import DPO, ODPO, ReferencedPair, ValuePair, Values

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.5, "alpha": 1.0}, "pair 1", 0.652168, -0.23954, 0.23954),
    ({"beta": 0.5, "alpha": 1.0}, "pair 2", 2.501782, -0.45903, 0.45903),
)
NO_PEER = "no package of the index has it; the authors publish code only"


LARGER = r"ODPO needs a larger score for every chosen response than for its rejected one\."


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(ODPO, *golden)


def test_scores_in_the_wrong_order_are_refused(fixed_batch):
    batch = fixed_batch(ODPO.inputs, "pair 1")
    tie = batch._replace(score=ValuePair(batch.score.chosen, batch.score.chosen))
    with pytest.raises(
        ValueError, match=r"^ODPO needs a larger score for every chosen response than for its rejected one\.$"
    ):
        ODPO.loss(tie, beta=0.5, alpha=1.0)


def test_at_a_score_difference_of_one_it_is_dpo(fixed_batch):
    batch = fixed_batch(ODPO.inputs, "pair 1")
    one = batch._replace(score=ValuePair(Values(batch.score.rejected.value + 1), batch.score.rejected))
    expected = DPO.loss(ReferencedPair(batch.policy, batch.reference), beta=0.5).loss
    torch.testing.assert_close(ODPO.loss(one, beta=0.5, alpha=1.0).loss, expected)


def test_a_score_of_other_pairs_is_refused(fixed_batch):
    batch = fixed_batch(ODPO.inputs, "pair 1")
    two = type(batch.score)(*(type(part)(*(values.repeat(2) for values in part)) for part in batch.score))
    with pytest.raises(ValueError, match="one number of examples"):
        ODPO.loss(batch._replace(score=two), beta=0.5, alpha=1.0)
