"""How much scores depend on settings."""

import dataclasses

import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.grids import grid_table
from preflab.report.tables import StudyTables

SCORES = (0.1, 0.2, 0.3, 0.4, 0.9)


def cells(scores, *, method="dpo", seeds=2):
    """One cell per setting and seed; seeds lie 0.02 around the setting's score, None is divergence with the last."""
    rows = []
    for k, score in enumerate(scores):
        for seed in range(seeds):
            diverged = score is None and seed == seeds - 1
            value = None if diverged else (0.8 if score is None else score) + 0.02 * (seed - (seeds - 1) / 2)
            status = "diverged" if diverged else "done"
            rows.append({"cell": f"{method}{k}{seed}", "start": "base", "method": method, "size": 64,
                         "setting": f"lr {k}", "seed": seed,
                         "status": status, "validation": value, "selected": k == 0})  # fmt: skip
    return pd.DataFrame(rows)


def shown(*frames):
    table = grid_table(analyse(StudyTables(cells=pd.concat(frames, ignore_index=True))))
    return None if table is None else [[cell.text for cell in row] for row in table.rows]


def test_settings_are_summed_up_over_means_of_seeds():
    assert shown(cells(SCORES)) == [
        ["dpo from base", "5", "0.900", "0.300", "0.200 to 0.400", "0.140", "0.600"],
    ]


def test_a_setting_that_diverged_with_one_seed_counts_as_none():
    analysis = analyse(StudyTables(cells=cells((*SCORES, None))))
    (row,) = grid_table(analysis).rows
    assert (row[1].text, row[1].note, row[2].text) == ("5", "1 more did not", "0.900")


def test_one_setting_is_no_grid():
    assert shown(cells((0.5,))) is None


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
