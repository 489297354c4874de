"""What the report says about settings, in worlds where the answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.equal_budgets import equal_budgets
from preflab.report.page import render
from preflab.report.robustness import context, robustness, safest
from preflab.report.settings import VALIDATION
from preflab.report.tables import StudyTables

PROMPTS, START = 40, 0.4


def world(methods, *, seeds=3, evaluated=True, noise=0.01):
    """Invent a study of one start point.

    Args:
        methods: method to the true score of every setting, None for one that diverges with its last seed.
        seeds: trainings of every setting.
        evaluated: whether unselected settings have test scores.
        noise: standard deviation of a seed's score.
    """
    rng = np.random.default_rng(0)
    cells = [_cell("start-sft", "", "", -1, validation=None, size=0)]
    responses = [_responses("start-sft", START, rng, 0.0)]
    for method, scores in methods.items():
        best = max(range(len(scores)), key=lambda k: -1 if scores[k] is None else scores[k])
        for k, score in enumerate(scores):
            for seed in range(seeds):
                name, bad = f"{method}-{k}-{seed}", score is None and seed == seeds - 1
                rate = 1e-4 * 10**k
                scored = not bad and (evaluated or k == best)
                more = {"status": "diverged" if bad else "done", "validation": None if bad else score or 0.9}
                cells.append(_cell(name, method, f"learning_rate={rate:g}", seed, selected=k == best,
                                   learning_rate=rate, evaluate_s=1.0 if scored else None, **more))  # fmt: skip
                if scored:
                    responses.append(_responses(name, 0.9 if score is None else score, rng, noise))
    return StudyTables(cells=pd.DataFrame(cells), responses=pd.concat(responses, ignore_index=True))


def _cell(name, method, setting, seed, *, size=64, selected=True, status="done", **more):
    return {"cell": name, "start": "sft", "method": method, "setting": setting, "hyperparameters": {}, "size": size,
            "seed": seed, "status": status, "selected": selected, "tokens": 1000, "edge": False, **more}  # fmt: skip


def _responses(cell, score, rng, noise):
    rewards = score + noise * rng.standard_normal() + np.linspace(-0.1, 0.1, PROMPTS)
    return pd.DataFrame({"cell": cell, "split": "test", "row": range(PROMPTS), "family": "", "response": "x",
                         "prompt": [f"p{k}" for k in range(PROMPTS)], "reward": rewards, "n_tokens": 5,
                         "kl_k3": 1.0})  # fmt: skip


SAFE, LUCKY = (0.5, 0.51, 0.52, 0.53), (0.2, 0.2, 0.2, 0.7)


@pytest.fixture(scope="module")
def analysis():
    return analyse(world({"safe": SAFE, "lucky": LUCKY}))


def test_the_safest_method_is_the_one_with_the_best_middle_setting(analysis):
    line, budgets = context(analysis, "sft")["sentences"]
    assert line.startswith("If you cannot search, safe from sft is the safest on test prompts: its middle setting")
    assert "Where validation searches the whole grid, lucky leads" in line
    assert "The orders differ: lucky, safe at their best, safe, lucky in the middle." in line
    assert budgets == (
        "After equally many settings tried at random, on test prompts: with one setting safe leads (all others are "
        "told apart below it); with the best of 4 lucky leads (all others are told apart below it)."
    )


def test_best_of_k_starts_at_the_mean_setting_and_ends_at_the_chosen_one(analysis):
    found = robustness(analysis, "sft", "test").methods["lucky"]
    assert found.expected[0].estimate == pytest.approx(np.mean(LUCKY), abs=0.02)
    assert found.expected[-1].estimate == pytest.approx(found.chosen.estimate)
    assert found.chosen.estimate == pytest.approx(0.7, abs=0.02)
    assert found.median.low < found.median.estimate < found.median.high


def test_settings_that_beat_the_start_point_are_counted_by_mean_and_by_test(analysis):
    found = robustness(analysis, "sft", "test").methods
    assert (found["safe"].better, found["safe"].clearly) == (4, 4)
    assert (found["lucky"].better, found["lucky"].clearly) == (1, 1)


def test_a_setting_that_diverged_leaves_its_user_with_the_start_point():
    analysis = analyse(world({"dpo": (0.5, None, 0.6)}))
    found = robustness(analysis, "sft", "test").methods["dpo"]
    assert sorted(found.found.grid.means) == pytest.approx([START, 0.5, 0.6], abs=0.02)
    assert found.expected[0].estimate == pytest.approx((START + 0.5 + 0.6) / 3, abs=0.02)
    assert found.expected[1].estimate == pytest.approx((0.6 + 0.6 + 0.5) / 3, abs=0.02)  # kept only alone
    (table, *_) = context(analysis, "sft")["blocks"][0]["tables"]
    assert table.rows[0][1].note.startswith("1 of 9 runs diverged (")
    beaten = [title for title, _ in table.head].index("Beat the start point")
    assert table.rows[0][beaten].text == "2 of 3"


def test_without_test_scores_of_all_settings_validation_scores_are_shown_and_the_page_says_so():
    analysis = analyse(world({"dpo": (0.5, None, 0.6), "ipo": (0.4, 0.5, 0.7)}, evaluated=False))
    found = context(analysis, "sft")
    assert found["validation_only"]
    assert robustness(analysis, "sft", "test") is None
    grid = robustness(analysis, "sft", VALIDATION).methods["dpo"].found
    assert grid.labels == ("learning_rate=0.0001", "learning_rate=0.01") and grid.diverged == ("learning_rate=0.001",)
    assert "evaluate.settings=all" in render(analysis.tables)


def test_what_validation_scores_cannot_show_is_not_spoken_of():
    methods = {"dpo": (0.5, 0.6), "ipo": (0.4, 0.5)}
    whole, scarce = (context(analyse(world(methods, evaluated=evaluated)), "sft") for evaluated in (True, False))
    assert "the draws of settings, seeds and prompts." in whole["sentences"][0]
    assert "the draws of settings and seeds." in scarce["sentences"][0]
    assert "intervals over seeds and prompts. Dashed: the start point." in whole["figures"][0].caption
    assert "intervals over seeds." in scarce["figures"][0].caption and "Dashed" not in scarce["figures"][0].caption
    titles = [[title for title, _ in found["blocks"][0]["tables"][0].head] for found in (whole, scarce)]
    # Two settings have no best of three, and the start point has no validation score.
    assert set(titles[0]) - set(titles[1]) == {"Beat the start point"} and "Best of 3" not in titles[0]


def test_unequal_grids_are_said_to_be_unequal_and_to_what_they_can_be_compared():
    found = context(analyse(world({"dpo": (0.5, 0.6, 0.7), "ipo": (0.4, 0.5)})), "sft")
    assert found["budgets"].startswith("Unequal tuning budgets from sft: dpo 3 settings in 9 runs; ipo 2 settings in")
    assert "compare the expected best of 2" in found["budgets"]
    fixed = context(analyse(world({"dpo": (0.5, 0.6, 0.7), "ipo": (0.4, 0.5), "kto": (0.4,), "cpo": (0.3,)})), "sft")
    assert "ipo 2 settings in 6 runs; kto and cpo 1 setting in 3 runs. A larger grid finds" in fixed["budgets"]
    assert "compare one random setting" in fixed["budgets"]
    equal = context(analyse(world({"dpo": (0.5, 0.6), "ipo": (0.4, 0.5)})), "sft")
    assert equal["budgets"].startswith("Equal tuning budgets: 2 settings, 6 runs for every method from sft; ")


def test_methods_are_compared_after_as_many_settings_as_the_smaller_grid_has():
    found = analyse(world({"wide": (0.1, 0.2, 0.3, 0.9), "narrow": (0.5, 0.52)}))
    one, two = equal_budgets(robustness(found, "sft", "test").scores)
    assert (one.k, one.best, two.k) == (1, "narrow", 2)
    # Half of the pairs of the wide grid hold its best setting, the others end at 0.2, 0.3 and 0.3.
    gap = two.behind["narrow"].difference
    assert two.best == "wide" and gap.estimate == pytest.approx((3 * 0.9 + 0.2 + 0.3 + 0.3) / 6 - 0.52, abs=0.02)
    table = context(found, "sft")["blocks"][0]["tables"][1]
    assert [title for title, _ in table.head][3] == "Best of 2: behind the best"
    assert table.rows[1][3].value == pytest.approx(gap.estimate)


def test_a_best_setting_at_the_end_of_the_grid_is_told():
    tables = world({"wide": (0.1, 0.2, 0.3, 0.9), "narrow": (0.5, 0.52)})
    cells = tables.cells.assign(edge=tables.cells["method"] == "wide")
    (line,) = context(analyse(replace(tables, cells=cells)), "sft")["edges"]
    assert line == "from sft: wide (learning_rate 0.1, the highest)"


def test_the_end_of_a_level_stretch_is_told_and_is_no_reason_to_widen_a_grid():
    tables = world({"wide": (0.1, 0.9), "level": (0.8, 0.8)}, seeds=5)
    found = analyse(replace(tables, cells=tables.cells.assign(edge=tables.cells["selected"])))
    (line,) = context(found, "sft")["edges"]
    assert line == (
        "from sft: wide (learning_rate 0.001, the highest) and level (learning_rate 0.0001, the lowest; the next value "
        "is as good)"
    )
    (warning,) = [each for each in found.findings if each.code == "grid_edge"]
    assert "for wide;" in warning.text


def test_a_method_that_cannot_be_compared_is_named_with_the_reason():
    tables = world({"dpo": (0.5, 0.6), "ipo": (0.4, 0.5), "kto": (0.3, 0.4)})
    cells, kto = tables.cells.copy(), tables.cells["method"] == "kto"
    cells.loc[cells["cell"] == "ipo-0-1", ["status", "evaluate_s"]] = ["failed", None]
    cells.loc[kto, ["status", "validation", "evaluate_s"]] = ["diverged", None, None]
    found = context(analyse(replace(tables, cells=cells)), "sft")
    assert found["left_out"] == [
        "Not compared here, from sft on test prompts: ipo (1 failed, of 6 runs) and kto (6 diverged, of 6 runs)."
    ]
    assert context(analyse(tables), "sft")["left_out"] == []


def test_an_edge_without_a_name_is_told_by_its_method():
    tables = world({"wide": (0.1, 0.9), "level": (0.8, 0.8)})
    cells = tables.cells.assign(learning_rate=1e-4, edge=tables.cells["selected"] & (tables.cells["method"] == "wide"))
    assert context(analyse(replace(tables, cells=cells)), "sft")["edges"] == ["from sft: wide"]


def test_a_study_without_grids_has_no_such_section():
    assert context(analyse(world({"dpo": (0.5,), "ipo": (0.6,)})), "sft") is None


def test_one_method_has_its_numbers_and_no_order_to_be_stable():
    found = context(analyse(world({"dpo": (0.5, 0.6)})), "sft")
    assert found["sentences"] == []
    assert [table.caption.split()[0] for table in found["blocks"][0]["tables"]] == ["Scores", "What"]


def test_one_seed_gives_intervals_over_prompts_only_and_no_stability_over_seeds():
    found = robustness(analyse(world({"dpo": (0.5, 0.6), "ipo": (0.4, 0.5)}, seeds=1)), "sft", "test")
    assert set(found.stability["best"].first) == {"settings", "items", "all"}
    assert found.methods["dpo"].median.low < found.methods["dpo"].median.high


def test_the_page_has_the_section_with_its_figures_and_escapes_names():
    page = render(world({"<b>dpo": (0.5, 0.6, 0.7), "ipo": (0.4, 0.5)}))
    section = page.partition('<section id="robustness"')[2].partition("</section>")[0]
    assert section.count("<svg") == 4 and "<b>dpo" not in page and "&lt;b&gt;dpo" in section


def test_the_answer_names_the_safer_method_where_the_leader_needs_a_search(analysis):
    assert safest(analysis, "sft", "lucky").startswith(
        "Without a search over settings safe is safer: its middle setting"
    )
    assert safest(analysis, "sft", "safe").startswith("It is also the safest without a search over settings")
    assert safest(analyse(world({"dpo": (0.5,), "ipo": (0.6,)})), "sft", "ipo") == ""
