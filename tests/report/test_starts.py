"""What the report says about start points, sizes and families, in worlds where the answer is known."""

import dataclasses

import numpy as np
import pytest
from tests.report.synthetic import Shape, make

from preflab.report.analysis import analyse
from preflab.report.cells import Cell, Table, counted
from preflab.report.page import render
from preflab.report.starts import _enough_said, context, enough_data, family_changes, mean_without_sft, without_sft
from preflab.report.summary import summary
from preflab.report.tables import Group, Measure

FAMILIES = ("facts", "form")


def measure(means, *, seeds=4, items=60):
    """Return scores with known means: group to one mean, or to one mean per family."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 0.2, items)
    families = tuple(FAMILIES[k % 2] for k in range(items))
    values, drawn = {}, {}
    for group, mean in means.items():
        level = np.broadcast_to(mean, 2)[np.arange(items) % 2]
        rows = seeds if group.method else 1
        noise = rng.normal(0, 0.05, (rows, items)) + rng.normal(0, 0.005, (rows, 1))
        values[group], drawn[group] = level + difficulty + noise, tuple(range(rows))
    return Measure("test", values, drawn, tuple(range(items)), families, tuple(range(items)))


@pytest.fixture(scope="module")
def analysis():
    return analyse(make(Shape(methods=("dpo", "ipo"), starts=("base", "sft"), sizes=(256, 1024), diverged=False)))


def test_only_the_method_that_loses_without_sft_needs_it(analysis):
    scores = measure({
        Group("base", "dpo", 1024): 0.4, Group("sft", "dpo", 1024): 0.6,
        Group("base", "ipo", 1024): 0.6, Group("sft", "ipo", 1024): 0.6,
    })  # fmt: skip
    found = {each.group.method: each for each in without_sft(analysis, scores)}
    assert (found["dpo"].sign, found["ipo"].sign) == (-1, 0)
    assert found["dpo"].found.difference.low <= -0.2 <= found["dpo"].found.difference.high


def test_many_small_losses_without_sft_are_one_clear_one(analysis):
    scores = measure(
        {
            Group(start, method, 1024): 0.5 + 0.005 * (start == "sft")
            for start in ("base", "sft")
            for method in ("dpo", "ipo")
        }
    )
    mean = mean_without_sft(analysis, scores)
    alone = {each.group.method: each.found.difference for each in without_sft(analysis, scores)}
    assert mean.difference.estimate == pytest.approx(np.mean([gap.estimate for gap in alone.values()]))
    assert mean.difference.low <= -0.005 <= mean.difference.high
    one = measure({Group("base", "dpo", 1024): 0.4, Group("sft", "dpo", 1024): 0.6})
    assert mean_without_sft(analysis, one) is None


def test_the_methods_that_are_not_told_apart_are_one_sentence(analysis):
    group = {(start, method): Group(start, method, 1024) for start in ("base", "sft") for method in ("dpo", "ipo")}
    scores = measure({g: 0.6 for g in group.values()} | {Group("base", "", 0): 0.3, Group("sft", "", 0): 0.3})
    mean, level = context(dataclasses.replace(analysis, scores={"test": scores}), "sft")["survival"]
    assert mean.startswith("Mean of all methods: from base ") and mean.endswith(": not told apart.")
    assert level.startswith("From base and from sft no method is told apart (differences of ")
    low = measure({g: 0.3 if key == ("base", "dpo") else 0.6 for key, g in group.items()})
    said = context(dataclasses.replace(analysis, scores={"test": low}), "sft")["survival"]
    assert said[1].startswith("DPO needs SFT first: from base it ends 0.3")
    assert said[2].startswith("From base and from sft IPO is not told apart (differences of ")


def test_the_sizes_that_are_enough_are_said_in_sentences():
    def row(start, method, best, least):
        return [Cell(start), Cell(method), counted(best), counted(least), Cell("-"), Cell("-")]

    rows = [row("base", name, 1024, 1024) for name in ("A", "B", "C", "D", "E")]
    rows += [row("sft", "A", 1024, 256), row("sft", "B", 64, 64)]
    assert _enough_said(Table("", [], rows), 64) == [
        "1,024 pairs are clearly better than every smaller size in 5 of 7 combinations of method and start point.",
        "256 pairs are not told apart from the best size, 1,024, for A from sft.",
        "The smallest size, 64 pairs, has the highest mean for B from sft.",
    ]
    assert _enough_said(Table("", [], rows[:5]), 64) == [
        "1,024 pairs are clearly better than every smaller size for every method from every start point."
    ]


def test_a_curve_that_saturates_is_told_apart_before_and_not_after():
    scores = measure({Group("sft", "dpo", size): mean for size, mean in ((64, 0.3), (256, 0.599), (1024, 0.601))})
    found = {each.group.size: each for each in enough_data(scores, "sft", "dpo", (64, 256, 1024)) if not each.sign}
    assert min(found, default=1024) in (256, 1024)
    assert 64 not in found


def test_a_family_lost_is_not_hidden_by_one_won(analysis):
    scores = measure({Group("sft", "", 0): 0.5, Group("sft", "dpo", 1024): (0.7, 0.3)})
    found = {each.against: each for each in family_changes(analysis, scores, "sft")}
    assert {family: each.sign for family, each in found.items()} == {"facts": 1, "form": -1}
    assert found["facts"].found.difference.estimate == pytest.approx(0.2, abs=0.05)


def test_the_page_counts_what_the_tests_found(analysis):
    said = context(analysis, "sft")
    assert [block["title"] for block in said["won"]] == [
        "Won and lost by task family, from sft", "Won and lost by task family, from base"
    ]  # fmt: skip
    for start, block in zip(("sft", "base"), said["won"], strict=True):
        changes = family_changes(analysis, analysis.scores["test"], start)
        won = {each.against for each in changes if each.sign > 0 and each.group.method == "dpo"}
        line = next(line for line in block["lines"] if "DPO" in line or "all methods" in line)
        assert line.startswith(f"DPO: clear gains on {len(won)} of 4 families (") if won else "No clear gain" in line
        assert all(family in line for family in won)
    assert len(said["survival_each"]) == 2 and len(said["enough"].rows) == 4
    text = render(analysis.tables)
    assert all(part in text for part in ("Is SFT needed first?", "How many training pairs are enough?"))


def test_the_json_has_the_comparisons_of_the_page(analysis):
    found = summary(analysis.tables)["starts"]
    # A curve whose best size is the smaller one of two has no smaller size to compare.
    rising = sum(row[2].value == 1024 for row in context(analysis, "sft")["enough"].rows)
    assert {key: len(rows) for key, rows in found.items()} == {"without_sft": 2, "sizes": rising, "families": 16}
    said = family_changes(analysis, analysis.scores["test"], "base")[0]
    mine = next(row for row in found["families"] if row["start"] == "base" and row["against"] == said.against)
    assert mine["difference"]["estimate"] == pytest.approx(said.found.difference.estimate)
