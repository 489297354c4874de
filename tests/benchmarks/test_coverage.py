import re

import numpy as np
import pytest
from benchmarks.coverage import TEMPLATE, Measured, measure, page
from benchmarks.coverage_cases import Case, cases

from preflab.stats.intervals import Interval


def interval(low, high):
    return Interval(0.0, low, high, 1.0, 10, np.inf, "items")


def test_every_case_has_a_place_on_the_page_and_every_place_a_case():
    places = re.findall("<<(.+)>>", TEMPLATE.read_text())
    assert places == [*dict.fromkeys(case.interval for case in cases()), "tests"]


def test_every_case_draws_an_interval_with_a_truth_it_may_hold():
    for case in cases():
        for found, truth in case.draw(np.random.default_rng(0)):
            assert isinstance(found, Interval) and np.isfinite(truth), case


def test_coverage_is_the_share_of_intervals_that_hold_the_truth():
    def draw(rng):
        return [(interval(-1, 1), 0.0 if rng.random() < 0.7 else 2.0)]

    found = measure(Case("x", "y", draw, 4000))
    assert found.coverage == pytest.approx(0.7, abs=4 * found.error)
    assert found.error == pytest.approx((0.21 / 4000) ** 0.5, rel=0.05)
    assert found.half_width == 1.0 and found.fails


def test_page_marks_what_fails():
    rows = [Measured(case, 0.9 if case.interval == "rank" else 0.94, 0.001, 1.0) for case in cases()]
    text = page(iter(rows), iter([("mcnemar_p", "20 items", 0.01)]))
    assert text.count("**90.0%**") == sum(each.case.interval == "rank" for each in rows)
    assert "| `mcnemar_p` | 20 items | 1.0% | 0.2% |" in text and "<<" not in text
