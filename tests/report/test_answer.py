from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from preflab.report.analysis import analyse
from preflab.report.answer import answer
from preflab.report.tables import StudyTables
from preflab.stats.comparisons import holm


def shifted(tables, synthetic, method, amount):
    """Return tables in which one method's rewards are moved."""
    cells = tables.cells.loc[tables.cells["method"] == method, "cell"]
    responses = tables.responses.copy()
    responses.loc[responses["cell"].isin(cells), "reward"] += amount
    return replace(tables, responses=responses)


@pytest.fixture(scope="module")
def plain(synthetic):
    return synthetic.make(synthetic.Shape(methods=("dpo", "ipo", "kto"), starts=("sft",), prompts=60, diverged=False))


def test_a_clear_winner_is_recommended(plain, synthetic):
    verdict = answer(analyse(shifted(plain, synthetic, "kto", 0.3)))
    assert verdict.status == "settled"
    assert verdict.headline == "Use KTO, starting from sft"
    assert "beta=0.1, learning_rate=0.0003" in verdict.lead
    assert "0.001" in verdict.sure[0] and ": told apart" in verdict.sure[0]


def test_close_methods_are_said_to_be_open_with_what_would_settle_them(synthetic):
    verdict = answer(analyse(synthetic.make(synthetic.Shape(methods=("dpo", "ln_dpo"), starts=("sft",), prompts=60))))
    assert verdict.status == "open"
    assert "may be as good" in verdict.headline
    assert "not told apart" in verdict.sure[0]
    assert any("to settle" in step.lower() or "Do not chase" in step for step in verdict.next_steps)


def test_methods_that_do_not_beat_the_start_point_are_not_recommended(plain, synthetic):
    tables = plain
    for method in ("dpo", "ipo", "kto"):
        tables = shifted(tables, synthetic, method, -0.2)
    verdict = answer(analyse(tables))
    assert verdict.status == "no gain"
    assert verdict.headline == "No gain shown: no method is told apart above its start point, sft"
    assert verdict.sure[0].startswith("A true gain of 0.0") and "may well be there and missed" in verdict.sure[0]


def test_accuracy_is_settled_by_pairs_and_only_by_as_many_as_there_are(synthetic):
    shape = synthetic.Shape(methods=("dpo", "ln_dpo"), starts=("sft",), prompts=60, seeds=1, diverged=False)
    tables = synthetic.make(shape)
    tables = replace(tables, responses=tables.responses.drop(columns="reward"))

    def settle(rows):
        study = {**tables.study, "data": {"splits": {"test": rows}}}
        found = answer(analyse(replace(tables, study=study)))
        assert "on 60 test pairs" in found.lead.replace("\xa0", " ")
        return next(step for step in found.next_steps if step.startswith("To settle"))

    assert "`--set evaluate.n_pairs=" in settle(10**6) and "n_prompts" not in settle(10**6)
    assert "test pairs (the split holds 60)" in settle(60) and "evaluate." not in settle(60)


def test_one_method_and_one_seed_admit_what_they_do_not_know(synthetic):
    verdict = answer(analyse(synthetic.make(synthetic.Shape(methods=("dpo",), starts=("sft",), seeds=1, prompts=40))))
    assert verdict.status == "single"
    assert "one seed, so the interval covers the choice of prompts only" in verdict.lead
    assert any("at least three seeds" in step for step in verdict.next_steps)


def test_without_results_there_is_no_answer_and_no_crash():
    verdict = answer(analyse(StudyTables()))
    assert (verdict.status, verdict.winner) == ("nothing", None)


def test_open_cells_are_the_first_thing_to_do(plain):
    cells = plain.cells.copy()
    cells.loc[cells.index[-1], ["status", "selected"]] = ["pending", False]
    tables = StudyTables(cells, plain.pairs, plain.responses, plain.dynamics, plain.log, plain.study)
    verdict = answer(analyse(tables))
    assert verdict.next_steps[0].startswith("Finish the study: `preflab run study.yaml")
    assert analyse(tables).missing == ("1 cell is not trained yet.",)


def test_start_points_are_not_compared_by_accuracy_against_themselves(synthetic):
    shape = synthetic.Shape(methods=("dpo", "simpo"), starts=("base", "sft"), prompts=40, reward=False)
    verdict = answer(analyse(synthetic.make(shape)))
    assert "preference accuracy" in verdict.lead
    assert not any("Other start points" in line for line in verdict.sure)
    assert np.all(["points" in verdict.lead, "50.0" in verdict.lead])


def test_a_size_step_that_helped_suggests_more_data(plain, synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("sft",), sizes=(64, 256), prompts=60))
    big = tables.cells.loc[tables.cells["size"] == 256, "cell"]
    responses = tables.responses.copy()
    responses.loc[responses["cell"].isin(big), "reward"] += 0.2

    def step(rows):
        moved = replace(tables, responses=responses, study={**tables.study, "data": {"splits": {"train": rows}}})
        return next(line for line in answer(analyse(moved)).next_steps if "from 64 to 256 still brought" in line)

    assert "`--set 'sizes=[64,256,512]'`" in step(10_000)
    assert "`--set 'sizes=[64,256,300]'`" in step(300)
    assert step(256).startswith("Collect more pairs") and step(256).endswith("and the study used all it has.")


def test_what_the_winner_did_to_the_model_stands_beside_its_score(plain, synthetic):
    tables = shifted(plain, synthetic, "ipo", 0.3)
    assert answer(analyse(tables)).effect == (
        "IPO displaced the chosen responses (displacement in 2 of 2 seeds): they became less likely although the "
        "margin grew. Its own responses, and their score, say whether better ones took their place."
    )
    assert answer(analyse(shifted(plain, synthetic, "kto", 0.3))).effect == ""  # chosen rose
    assert answer(analyse(replace(tables, probes=tables.probes.iloc[:0]))).effect == ""  # nothing was diagnosed


def test_a_collapse_of_the_winner_with_a_single_seed_is_not_hidden(plain, synthetic):
    tables = shifted(plain, synthetic, "ipo", 0.3)
    (cell,) = tables.cells.loc[(tables.cells["method"] == "ipo") & (tables.cells["seed"] == 1), "cell"]
    samples = tables.samples.copy()
    samples.loc[samples["cell"] == cell, "text"] = "no"
    found = analyse(replace(tables, samples=samples))
    assert answer(found).effect == (
        "But look at what IPO did to the model: collapse in 1 of 2 seeds, displacement in 1. Read its responses before "
        "you use it."
    )
    assert found.findings[0].code == "harm" and found.findings[0].level == "warning"


def test_what_to_try_next_is_a_command_with_what_it_would_cost(synthetic):
    shape = synthetic.Shape(methods=("dpo", "ln_dpo"), starts=("sft",), prompts=60, seeds=2, diverged=False)
    tables = synthetic.make(shape)
    cells = tables.cells.copy()
    cells.loc[cells["method"] != "", ["train_s", "evaluate_s", "diagnose_s"]] = [110.0, 10.0, 0.0]
    study = {**tables.study, "machine": {"workers": 2}}
    found = answer(analyse(replace(tables, cells=cells, study=study)))
    steps = found.next_steps
    # One more seed of two methods, two minutes each, two workers.
    assert any("`--set seeds=3` (about 2 min here)" in step for step in steps)
    (settle,) = [step for step in steps if "To settle" in step or "Do not chase" in step]
    assert "Do not chase" in settle or ("--set " in settle and "(about " in settle)
    assert any("`--set 'sizes=[256,1024]'`" in step for step in steps)
    assert "behind `preflab run study.yaml --out runs/synthetic`" in found.grow


def test_a_grid_is_widened_beyond_its_edge_by_the_same_factor(plain):
    cells = plain.cells.copy()
    best = answer(analyse(plain)).winner.method
    mine = cells["method"] == best
    other = cells[mine].assign(cell=cells.loc[mine, "cell"] + "x", learning_rate=1e-4, selected=False, edge=False)
    cells.loc[mine, "edge"] = True
    steps = answer(analyse(replace(plain, cells=pd.concat([cells, other], ignore_index=True)))).next_steps
    (step,) = [step for step in steps if step.startswith("Widen the grid")]
    assert "its best learning_rate is the highest tried (0.0003)" in step
    assert f"--set 'methods.{best}.learning_rate=[0.0001,0.0003,0.0009]'`" in step


def test_the_leader_is_not_believed_for_having_been_picked_among_many(synthetic):
    methods = ("dpo", "ipo", "kto", "cpo", "simpo")
    tables = synthetic.make(synthetic.Shape(methods=methods, starts=("sft",), prompts=40, diverged=False))
    ranking = analyse(tables).leading
    assert [row.p_gain for row in ranking.rows] == pytest.approx(holm([row.gain.p for row in ranking.rows]))
    behind = [row.behind.p for row in ranking.rows[1:]]
    # Ten pairs of methods, four of them with the best one.
    assert [row.p_adjusted for row in ranking.rows[1:]] == pytest.approx(holm([*behind, *[1.0] * 6])[:4])
    one = replace(ranking.rows[0], p_gain=0.051)
    assert not one.gained and replace(one, p_gain=0.049).gained and replace(one, gain=None).gained
