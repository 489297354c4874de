import dataclasses

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.ranking import POOLED, group_intervals, rank_methods, rank_pooled
from preflab.report.tables import ACCURACY, REWARD, Group, StudyTables, completed, headline_metric, measure


def toy(responses, cells=None, pairs=None):
    """Return completed tables of cells named start/method/seed."""
    names = dict.fromkeys([row["cell"] for row in responses] + [row["cell"] for row in pairs or []])
    rows = []
    for name in names:
        start, method, seed = name.split("/")
        size, seed = (10, int(seed)) if method else (0, -1)
        rows.append({"cell": name, "start": start, "method": method, "size": size, "seed": seed, "status": "done",
                     "selected": True})  # fmt: skip
    frame = pd.DataFrame(rows) if cells is None else cells
    return completed(StudyTables(cells=frame, responses=pd.DataFrame(responses), pairs=pd.DataFrame(pairs or [])))


def responses(cell, rewards, rows=None, prompts=None, split="test"):
    rows = range(len(rewards)) if rows is None else rows
    prompts = [f"p{row}" for row in rows] if prompts is None else prompts
    return [
        {"cell": cell, "split": split, "row": row, "prompt": prompt, "reward": reward}
        for row, prompt, reward in zip(rows, prompts, rewards, strict=True)
    ]


def test_measure_stacks_seeds_and_keeps_items_aligned_whatever_their_order():
    tables = toy(
        responses("s/m/0", [1.0, 2.0, 3.0])
        + responses("s/m/1", [6.0, 5.0, 4.0], rows=[2, 1, 0])
        + responses("s//0", [0.0, 0.0, 9.0])
    )
    found = measure(tables, "test", "reward")
    assert found.values[Group("s", "m", 10)].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert found.values[Group("s", "", 0)].tolist() == [[0.0, 0.0, 9.0]]
    assert (found.rows, found.clusters) == ((0, 1, 2), ("p0", "p1", "p2"))
    assert found.seeds[Group("s", "m", 10)] == (0, 1)


def test_measure_keeps_only_items_that_every_cell_answered():
    tables = toy(responses("s/a/0", [1.0, 2.0, 3.0, 4.0]) + responses("s/b/0", [1.0, 2.0, np.nan, 4.0]))
    assert measure(tables, "test", "reward").rows == (0, 1, 3)


def test_a_cell_with_few_answers_is_left_out_and_named_instead_of_shrinking_everyone():
    tables = toy(responses("s/a/0", [1.0] * 10) + responses("s/b/0", [1.0] * 3))
    found = measure(tables, "test", "reward")
    assert len(found.rows) == 10
    assert found.incomplete == {"s/b/0": "answered 3 of 10 items"}


def test_repeated_prompts_become_clusters_and_missing_prompts_their_own_row():
    tables = toy(responses("s/a/0", [1.0, 2.0, 3.0], prompts=["x", "x", ""]))
    assert measure(tables, "test", "reward").clusters == ("x", "x", 2)


def test_unselected_unfinished_and_other_splits_do_not_count():
    rows = responses("s/a/0", [1.0]) + responses("s/b/0", [1.0]) + responses("s/c/0", [1.0], split="ood")
    tables = toy(rows)
    cells = tables.cells.copy()
    cells.loc[cells["method"] == "b", "selected"] = False
    assert list(measure(toy(rows, cells), "test", "reward").values) == [Group("s", "a", 10)]
    cells.loc[cells["method"] == "a", "status"] = "diverged"
    assert not measure(toy(rows, cells), "test", "reward").values


def test_accuracy_is_the_share_of_pairs_with_a_positive_margin_over_the_reference():
    pairs = [
        {"cell": "s/m/0", "split": "test", "row": row, "chosen_total": c, "rejected_total": r, "chosen_length": 2,
         "rejected_length": 2, "reference_chosen_total": -10.0, "reference_rejected_total": -10.0}
        for row, (c, r) in enumerate([(-9.0, -12.0), (-12.0, -11.0), (-10.0, -10.0), (-20.0, -30.0)])
    ]  # fmt: skip
    tables = toy([], pairs=pairs)
    assert headline_metric(tables) is ACCURACY
    assert measure(tables, "test", "accuracy").values[Group("s", "m", 10)].tolist() == [[1.0, 0.0, 0.5, 1.0]]
    assert measure(tables, "test", "margin").values[Group("s", "m", 10)].tolist() == [[3.0, -1.0, 0.0, 10.0]]
    changes = [measure(tables, "test", f"{role}_change").values[Group("s", "m", 10)] for role in ("chosen", "rejected")]
    assert (changes[0] - changes[1]).tolist() == [[3.0, -1.0, 0.0, 10.0]]
    assert measure(tables, "test", "accuracy").values[Group("s", "", 0)].tolist() == [[0.5] * 4]


def test_reward_is_the_headline_as_soon_as_one_response_has_one():
    assert headline_metric(toy(responses("s/a/0", [np.nan, 0.0]))) is REWARD


def test_empty_tables_are_completed_with_every_column():
    tables = completed(StudyTables())
    assert {"cell", "selected", "edge"} <= set(tables.cells.columns)
    assert not measure(tables, "test", "reward").values


def test_bare_names_of_reward_parts_are_understood():
    frame = pd.DataFrame([{"cell": "a", "right": 1.0}])
    assert "reward_right" in completed(StudyTables(responses=frame)).responses


def build(scores, n=60):
    rng = np.random.default_rng(0)
    items = rng.normal(0, 0.2, n)
    rows = []
    for cell, mean in scores.items():
        rows += responses(cell, mean + items + rng.normal(0, 0.05, n))
    return measure(toy(rows), "test", "reward")


def test_ranking_orders_methods_tells_them_apart_and_measures_gains():
    found = build({"s//0": 0.2, "s/a/0": 0.5, "s/a/1": 0.5, "s/b/0": 0.8, "s/b/1": 0.8, "s/c/0": 0.1, "s/c/1": 0.1})
    ranking = rank_methods(found, "s", 10)
    assert [row.method for row in ranking.rows] == ["b", "a", "c"]
    assert ranking.settled
    assert ranking.rows[0].gain.difference.estimate == pytest.approx(0.6, abs=0.02)
    assert ranking.rows[2].gain.difference.high < 0
    assert ranking.rows[1].behind.difference.estimate == pytest.approx(0.3, abs=0.02)
    assert ranking.rows[0].probability_best == 1.0


def test_equal_methods_are_contenders():
    ranking = rank_methods(build({"s/a/0": 0.5, "s/b/0": 0.5, "s/c/0": 0.1}), "s", 10)
    assert {row.method for row in ranking.contenders} == {"a", "b"}
    assert not ranking.settled


def test_a_single_method_is_not_settled_because_nothing_was_compared():
    assert not rank_methods(build({"s/a/0": 0.5}), "s", 10).settled


def test_pooled_ranking_leaves_out_a_method_that_lacks_a_start_point():
    found = build({"s/a/0": 0.5, "t/a/0": 0.7, "s/b/0": 0.9})
    ranking = rank_pooled(found, 10)
    assert [row.method for row in ranking.rows] == ["a"]
    assert ranking.rows[0].overall.estimate == pytest.approx(0.6, abs=0.06)
    assert ranking.unranked == {"b": "no result from t"}
    assert ranking.start == POOLED


def test_methods_with_different_seeds_are_compared_on_the_common_ones():
    ranking = rank_methods(build({"s/a/0": 0.9, "s/a/1": 0.9, "s/b/1": 0.5}), "s", 10)
    assert ranking.rows[1].behind.n_seeds == 1
    assert ranking.rows[0].over_seeds.df == 1
    assert np.isnan(ranking.rows[1].over_seeds.low)


def test_intervals_of_amounts_stay_above_zero_and_scale_with_their_mean():
    rng = np.random.default_rng(3)
    rows = []
    for method, level in (("a", 0.1), ("b", 1.0), ("c", 10.0), ("d", 100.0)):
        for seed in range(2):
            values = level * (1 + 0.2 * rng.normal()) * rng.gamma(2, 0.5, 40)
            rows += [{**row, "kl_k3": row["reward"]} for row in responses(f"s/{method}/{seed}", values)]
    intervals = group_intervals(measure(toy(rows), "test", "kl_k3"))
    widths = [interval.half_width / interval.estimate for interval in intervals.values()]
    assert all(interval.low >= 0 for interval in intervals.values())
    assert max(widths) < 4 * min(widths)


def test_reward_models_are_not_called_gold(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), prompts=5))
    assert analyse(tables).metric.label == "Gold reward"
    scored = dataclasses.replace(tables, study={**tables.study, "reward_model": "org/reward"})
    assert analyse(scored).metric.label == "Reward" and "org/reward" in analyse(scored).metric.meaning


def test_kl_per_token_is_taken_response_by_response(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), seeds=1, prompts=20))
    analysis = analyse(tables)
    behaviour = next(b for g, b in analysis.behaviour["test"].items() if g.method)
    own = analysis.tables.responses.merge(analysis.tables.cells.query("method == 'dpo' and selected")["cell"])
    own = own[(own["split"] == "test") & (own["n_tokens"] > 0)]
    own = own.merge(analysis.tables.cells[["cell", "size"]], on="cell").query("size == @behaviour.group.size")
    assert behaviour.kl_token.estimate == pytest.approx((own["kl_k3"] / own["n_tokens"]).mean())
    assert behaviour.reward.estimate == pytest.approx(own["reward"].mean())
