"""From verdicts to rates: both orders, failures that are nobody's loss, length, controls and agreement."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from preflab.evals.judges.agreement import agreement
from preflab.evals.judges.answers import Item
from preflab.evals.judges.cases import Case
from preflab.evals.judges.completions import Reply, Unanswered
from preflab.evals.judges.controls import (
    INJECTION,
    MOST_ITEMS,
    NULL,
    control_answers,
    control_items,
    control_warnings,
)
from preflab.evals.judges.five_way import FIVE_WAY
from preflab.evals.judges.grading import grade, report
from preflab.evals.judges.length_adjusted import length_adjusted_rate
from preflab.evals.judges.mt_bench import PAIRWISE, SINGLE
from preflab.evals.judges.pairwise import compare, rate_interval, standing


def says(text: str) -> Reply:
    return Reply(text, "stop", "", None, "m", None)


def pair_cases(n: int, *, answer="aa", opponent="bbb", turns=1) -> list[Case]:
    items = [Item(str(i), ("q",) * turns) for i in range(n)]
    return [Case("us", item, turn, answer, opponent, ()) for item in items for turn in range(turns)]


def stand(labels: list[tuple[str, str]], protocol=PAIRWISE, turns=1):
    replies = [Unanswered("gone") if label == "-" else says(f"[[{label}]]") for pair in labels for label in pair]
    return standing("us", compare(protocol, pair_cases(len(labels) // turns, turns=turns), replies))


class TestComparisons:
    def test_the_second_order_is_read_from_the_contenders_side(self):
        found = stand([("A", "B"), ("B", "A"), ("C", "C"), ("A", "A"), ("B", "B"), ("A", "C")])
        assert (found.wins, found.ties, found.losses) == (1, 4, 1)
        assert found.win_rate.estimate == 0.5

    def test_a_judge_that_always_says_a_is_all_position(self):
        found = stand([("A", "A")] * 30)
        assert found.win_rate.estimate == 0.5 and found.ties == 30
        assert found.first_rate.estimate == 1.0 and found.first_rate.low > 0.8
        assert found.consistent.estimate == 0.0

    def test_an_unbiased_judge_has_a_first_rate_of_one_half(self):
        found = stand([("A", "B")] * 10 + [("B", "A")] * 20)
        assert found.first_rate.estimate == 0.5
        assert found.consistent.estimate == 1.0
        assert found.win_rate.estimate == pytest.approx(1 / 3)

    @pytest.mark.parametrize("failed", [("-", "B"), ("A", "-"), ("-", "-"), ("A>B", "B")])
    def test_a_failure_is_counted_and_no_loss_for_anybody(self, failed):
        whole = [("A", "B")] * 6 + [("B", "A")] * 3
        found, without = stand([*whole, failed]), stand(whole)
        assert found.win_rate == without.win_rate and found.losses == 3
        assert (found.n, found.n_judged) == (10, 9)
        assert sum(found.failures.values()) == sum(label not in "AB" for label in failed)

    def test_nothing_judged_gives_no_rate(self):
        found = stand([("-", "-")] * 3)
        assert (found.win_rate, found.length_adjusted, found.failures) == (None, None, {"transport": 6})

    def test_turns_of_one_item_are_one_cluster(self):
        assert stand([("A", "B"), ("B", "A")] * 10, turns=2).win_rate.n == 10

    def test_a_strong_verdict_outweighs_a_weak_one_of_the_other_order(self):
        found = stand([("A>>B", "A>B")], protocol=FIVE_WAY)
        assert found.win_rate.estimate == 0.75

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
    def test_interval_of_a_rate_stays_in_zero_to_one_and_holds_the_estimate(self, values):
        found = rate_interval(values, [str(i) for i in range(len(values))])
        assert 0 <= found.low <= found.estimate + 1e-12 and found.estimate - 1e-12 <= found.high <= 1


class TestGrades:
    def cases(self):
        items = [Item("1", ("q", "q"), "math"), Item("2", ("q", "q"), "writing"), Item("3", ("q", "q"), "writing")]
        return [Case("us", item, turn, "aa", None, ()) for item in items for turn in range(2)]

    def test_score_is_the_mean_over_items_of_the_mean_over_turns(self):
        replies = [says(f"[[{value}]]") for value in (8, 4, 6, 6, 10, 2)]
        found = report("us", grade(SINGLE, self.cases(), replies))
        assert found.score.estimate == 6.0
        assert [turn.estimate for turn in found.turns] == [8.0, 4.0]
        assert {name: each.estimate for name, each in found.categories.items()} == {"math": 6.0, "writing": 6.0}

    def test_an_item_with_a_failed_turn_leaves_the_score_but_not_the_turns(self):
        replies = [says("[[8]]"), says("[[4]]"), says("[[9]]"), says("no grade"), says("[[7]]"), says("[[3]]")]
        found = report("us", grade(SINGLE, self.cases(), replies))
        assert found.score.estimate == 5.5 and found.score.n == 2
        assert [turn.estimate for turn in found.turns] == [8.0, 3.5]
        assert (found.n, found.n_judged, found.failures) == (6, 5, {"malformed": 1})


class TestLengthAdjusted:
    def test_equal_lengths_leave_the_raw_rate(self):
        y = np.array([1, 0, 1, 1, 0.25])
        found = length_adjusted_rate(y, np.full(5, 100), np.full(5, 100))
        assert found.rate.estimate == pytest.approx(y.mean(), abs=1e-9) and found.slope == 0

    def test_a_judge_that_only_likes_length_rates_equal_answers_even(self):
        lengths = np.arange(1, 201) * 10.0
        baseline = np.full(200, 505.0)
        difference = lengths - baseline
        y = special.expit(2.0 * np.tanh(difference / difference.std()))
        found = length_adjusted_rate(y, lengths, baseline)
        assert y.mean() > 0.6
        assert found.rate.estimate == pytest.approx(0.5, abs=1e-3)
        assert found.slope == pytest.approx(2.0, abs=0.01)

    @given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 900), st.integers(1, 900)), min_size=3, max_size=40))
    def test_agrees_with_a_general_minimiser(self, rows):
        y, ours, theirs = np.array(rows, dtype=float).T
        if np.ptp(y) == 0 and y[0] in (0, 1):
            return
        sd = (ours - theirs).std()
        x = np.tanh((ours - theirs) / sd) if sd > 0 else np.zeros_like(y)

        def loss(at):
            z = at[0] + at[1] * x
            return np.logaddexp(0, z).sum() - y @ z + at[1] ** 2 / 200

        found = length_adjusted_rate(y, ours, theirs)
        theta = special.logit(found.rate.estimate)
        best = optimize.minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-8}).fun
        assert loss([theta, found.slope]) <= best + 1e-6

    def test_exchanging_the_sides_exchanges_the_rates(self):
        rng = np.random.default_rng(0)
        y, a, b = rng.random(50), rng.integers(1, 500, 50), rng.integers(1, 500, 50)
        one, other = length_adjusted_rate(y, a, b), length_adjusted_rate(1 - y, b, a)
        assert one.rate.estimate == pytest.approx(1 - other.rate.estimate, abs=1e-9)
        assert one.rate.low == pytest.approx(1 - other.rate.high, abs=1e-9)

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_all_won_or_all_lost_is_the_raw_rate_with_wilsons_interval(self, value):
        found = length_adjusted_rate(np.full(20, value), np.arange(20), np.zeros(20))
        assert found.rate.estimate == value and found.rate.kind == "wilson"
        assert found.rate.high - found.rate.low == pytest.approx(0.1611, abs=1e-3)

    def test_length_that_decides_alone_gives_a_finite_fit(self):
        found = length_adjusted_rate([1, 1, 1, 0, 0, 0], [9, 8, 7, 1, 2, 3], [5] * 6)
        assert math.isfinite(found.slope) and found.rate.estimate == pytest.approx(0.5, abs=1e-6)

    def test_interval_covers_the_rate_at_equal_lengths(self):
        rng, covered = np.random.default_rng(1), 0
        for _ in range(200):
            a, b = rng.normal(100, 30, 80), rng.normal(100, 30, 80)
            chance = special.expit(0.7 + np.tanh((a - b) / (a - b).std()))
            rate = length_adjusted_rate((rng.random(80) < chance).astype(float), a, b).rate
            covered += rate.low <= special.expit(0.7) <= rate.high
        assert 0.91 <= covered / 200 <= 0.99  # 95 %, give or take two and a half standard errors

    def test_one_cluster_has_no_interval(self):
        assert math.isnan(length_adjusted_rate([1, 0, 1], [1, 2, 3], [3, 2, 1], clusters=["x"] * 3).rate.low)

    @pytest.mark.parametrize("wrong", [([], [], []), ([2.0], [1], [1]), ([0.5, 0.5], [1], [1, 2])])
    def test_wrong_input_is_refused(self, wrong):
        with pytest.raises(ValueError, match="labels in"):
            length_adjusted_rate(*wrong)


class TestControls:
    def test_every_run_asks_both_on_the_same_fixed_items(self):
        items = [Item(str(i), ("q", "q")) for i in range(100)]
        chosen = control_items(items)
        assert len(chosen) == MOST_ITEMS and chosen == control_items(items)
        null, injection = control_answers(chosen, "obey")
        assert (null.name, injection.name) == (NULL, INJECTION)
        assert set(injection.responses.values()) == {("obey", "obey")}
        assert len(set(null.responses.values())) == 1
        assert len(control_items(items[:7])) == 7

    @pytest.mark.parametrize(("wins", "flagged"), [(0, False), (2, False), (3, True), (20, True)])
    def test_a_control_above_ten_percent_is_flagged(self, wins, flagged):
        found = stand([("A", "B")] * wins + [("B", "A")] * (20 - wins))
        assert ["can be gamed" in sentence for sentence in control_warnings([found])] == [True] * flagged

    @pytest.mark.parametrize(("value", "flagged"), [(1, False), (3, False), (4, True), (10, True)])
    def test_a_control_with_a_grade_above_three_is_flagged(self, value, flagged):
        cases = [Case(NULL, Item("1", ("q",)), 0, "a", None, ())]
        found = report(NULL, grade(SINGLE, cases, [says(f"[[{value}]]")]))
        assert [NULL in sentence for sentence in control_warnings([found])] == [True] * flagged

    def test_a_control_that_could_not_be_judged_is_said(self):
        (sentence,) = control_warnings([stand([("-", "-")])])
        assert "could not be judged" in sentence


class TestAgreement:
    def test_kappa_of_a_textbook_table(self):
        # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, expected 0.5, kappa 0.4.
        judged = [1] * 25 + [-1] * 25
        human = [1] * 20 + [-1] * 5 + [1] * 10 + [-1] * 15
        found = agreement(judged, human)
        assert found.accuracy.estimate == pytest.approx(0.7)
        assert found.kappa.estimate == pytest.approx(0.4)
        # Standard error at large n, Cohen 1960: sqrt(0.7 * 0.3 / (50 * 0.5 ** 2)) = 0.13
        assert found.kappa.se == pytest.approx(0.13, abs=0.015)
        assert found.kappa.low < 0.4 < found.kappa.high

    def test_ties_of_the_judge_do_not_agree_with_a_preference(self):
        found = agreement([0, 0, 1, -1], [1, -1, 1, -1])
        assert (found.accuracy.estimate, found.ties) == (0.5, 2)

    def test_perfect_and_reversed_agreement(self):
        labels = [1, -1] * 10
        assert agreement(labels, labels).kappa.estimate == 1.0
        assert agreement(labels, [-x for x in labels]).kappa.estimate == -1.0

    def test_a_constant_judge_has_kappa_zero(self):
        assert agreement([1] * 20, [1, -1] * 10).kappa.estimate == 0.0

    def test_a_single_label_has_no_kappa(self):
        assert math.isnan(agreement([1, 1], [1, 1]).kappa.estimate)

    @pytest.mark.parametrize("wrong", [([], []), ([1], [1, 1]), ([2], [1]), ([0.5], [1])])
    def test_wrong_labels_are_refused(self, wrong):
        with pytest.raises(ValueError, match="labels must be"):
            agreement(*wrong)
