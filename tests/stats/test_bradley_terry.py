import math

import evalica
import numpy as np
import pytest
from scipy import optimize

from preflab.stats.bradley_terry import strengths


def test_two_players_have_the_log_odds_of_their_wins():
    found = strengths([1] * 300 + [0] * 100, [0] * 300 + [1] * 100, np.ones(400), n_players=2)
    assert found[0].estimate == 0.0
    assert found[1].estimate == pytest.approx(math.log(3), abs=1e-3)
    # The standard error of log odds: sqrt(1/300 + 1/100) = 0.1155.
    assert found[1].se == pytest.approx(0.1155, rel=0.1)
    assert found[1].low < math.log(3) < found[1].high


def test_weights_are_repetitions():
    one = strengths([0, 1, 2, 0], [1, 2, 0, 2], [3, 1, 2, 5], n_players=3)
    other = strengths([0] * 3 + [1] + [2] * 2 + [0] * 5, [1] * 3 + [2] + [0] * 2 + [2] * 5, np.ones(11), n_players=3)
    assert [each.estimate for each in one] == pytest.approx([each.estimate for each in other])


def test_estimates_maximise_the_penalised_likelihood():
    rng = np.random.default_rng(0)
    won, lost = np.array([rng.permutation(5)[:2] for _ in range(60)]).T
    weights = rng.random(60) + 0.1
    found = strengths(won, lost, weights, n_players=5, anchor=2)

    def loss(s):
        return weights @ np.logaddexp(0, s[lost] - s[won]) + s @ s / 200

    best = optimize.minimize(loss, np.zeros(5), method="BFGS").x
    assert [each.estimate for each in found] == pytest.approx(best - best[2], abs=1e-4)
    assert found[2].estimate == found[2].low == found[2].high == 0.0


def test_strengths_with_ties_equal_evalica():
    rng = np.random.default_rng(1)
    pairs = np.array([rng.permutation(4)[:2] for _ in range(400)])
    outcomes = rng.choice(3, size=400, p=[0.5, 0.3, 0.2])
    names = {0: evalica.Winner.X, 1: evalica.Winner.Y, 2: evalica.Winner.Draw}
    theirs = evalica.bradley_terry(*pairs.T, [names[each] for each in outcomes], tolerance=1e-12, limit=10_000).scores
    won, lost, weights = [], [], []
    for (x, y), outcome in zip(pairs, outcomes, strict=True):
        for winner, loser, weight in (((x, y, 1.0),), ((y, x, 1.0),), ((x, y, 0.5), (y, x, 0.5)))[outcome]:
            won.append(winner), lost.append(loser), weights.append(weight)
    ours = strengths(won, lost, weights, n_players=4)
    # The prior, N(0, 10^2), is the difference.
    expected = [math.log(theirs[k] / theirs[0]) for k in range(4)]
    assert [each.estimate for each in ours] == pytest.approx(expected, abs=2e-3)


def test_a_player_who_won_everything_stays_finite():
    found = strengths([0] * 50, [1] * 50, np.ones(50), n_players=2, anchor=1)
    assert 3 < found[0].estimate < 30 and math.isfinite(found[0].high)


def test_items_are_drawn_whole():
    won, lost = [0, 0, 1, 1] * 20, [1, 1, 0, 0] * 20
    clusters = [i // 2 for i in range(80)]
    alone = strengths(won, lost, np.ones(80), n_players=2, anchor=1)[0]
    paired = strengths(won, lost, np.ones(80), n_players=2, anchor=1, clusters=clusters)[0]
    assert paired.n == 40 and paired.se == pytest.approx(math.sqrt(2) * alone.se, rel=0.15)


def test_the_same_seed_gives_the_same_interval():
    battles = ([0, 1, 0, 0], [1, 0, 1, 1], np.ones(4))
    assert strengths(*battles, n_players=2) == strengths(*battles, n_players=2)


@pytest.mark.parametrize(
    "wrong",
    [([], [], []), ([0], [0], [1]), ([0], [2], [1]), ([0], [1], [0]), ([0, 1], [1], [1]), ([-1], [1], [1])],
)
def test_battles_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match="battles"):
        strengths(*wrong, n_players=2)
