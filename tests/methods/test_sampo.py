"""sampo: golden values from the equation, and what the equation says at chosen points."""

import pytest
import torch

from preflab.methods import DPO, SAMPO, Logps, Pair, ReferencedPair, TokenLogps, TokenPair
from preflab.methods.sampo import SampledPair

# Derived in float64 from the equation, terms without gradient held; gradients by central differences.
# hyper-parameters, batch, loss, d loss/d log pi(chosen), d loss/d log pi(rejected)
GOLDENS = (
    ({"beta": 0.1}, "pair 1", 0.613282, -0.04584, 0.03056),
    ({"beta": 0.1}, "pair 2", 0.816604, -0.05581, 0.0372),
)
NO_PEER = "no package of the index has it; the authors' code draws other tokens for the reference"


@pytest.mark.parametrize("golden", GOLDENS)
def test_golden_values(golden, check_golden):
    check_golden(SAMPO, *golden)


def tokens(values, lengths):
    return TokenLogps(torch.tensor(values, dtype=torch.float64), torch.tensor(lengths, dtype=torch.float64))


def test_the_tokens_with_the_smallest_numbers_count():
    """Chosen has 3 tokens against 2 and 1 against 2: one token of the first chosen and of the second rejected go."""
    chosen, rejected = tokens([1.0, 2.0, 4.0, 8.0], [3, 1]), tokens([16.0, 32.0, 64.0, 128.0], [2, 2])
    zeros = TokenPair(*(part._replace(token=torch.zeros_like(part.token)) for part in (chosen, rejected)))
    noise = TokenPair(tokens([0.9, 0.3, 0.5, 0.99], [3, 1]), tokens([0.2, 0.1, 0.7, 0.4], [2, 2]))
    output = SAMPO.loss(SampledPair(TokenPair(chosen, rejected), zeros, noise), beta=1.0)
    assert output.chosen_reward.tolist() == [2.0 + 4.0, 8.0]
    assert output.rejected_reward.tolist() == [16.0 + 32.0, 128.0]


def test_is_dpo_on_equal_lengths(random_batch):
    batch = random_batch(SampledPair, n=5, seed=2)
    same = SampledPair(*(TokenPair(side.chosen, side.chosen) for side in batch))
    policy, reference = (Pair(*(Logps(part.sums(), part.length) for part in side)) for side in same[:2])
    expected = DPO.loss(ReferencedPair(policy, reference), beta=0.3).loss
    torch.testing.assert_close(SAMPO.loss(same, beta=0.3).loss, expected)
