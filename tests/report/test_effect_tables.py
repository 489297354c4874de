"""Whether alike pairs fall more is read off the table of CHES scores."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.checkpoints import REMEDIES
from preflab.report.analysis import analyse
from preflab.report.effect_tables import alike_table, overview
from preflab.report.tables import Group


def pairs(change, scores):
    return pd.DataFrame({"change": change, "ches": np.multiply(scores, 10.0), "ches_mean": scores})


def test_alike_pairs_that_fall_more_give_a_rank_correlation_of_minus_one():
    scores = np.arange(8.0)
    table = alike_table("Method", [("DPO", pairs(-(scores**3), scores)), ("IPO", pairs(scores, scores))])
    (dpo, ipo) = table.rows
    assert [cell.text for cell in dpo[:4]] == ["DPO", "8", "−1.00", "−1.00"]
    assert ipo[2].text == "+1.00"
    # The four most alike pairs have the scores 4 to 7, the others 0 to 3.
    assert dpo[4].text == "−187.00" and dpo[5].text == "−9.00"
    assert table.head[0][0] == "Method" and len(table.head) == len(dpo)


def test_the_two_scores_may_say_different_things():
    frame = pairs([0.0, -1.0, -2.0, -3.0], [0.0, 1.0, 2.0, 3.0]).assign(ches=[3.0, 2.0, 1.0, 0.0])
    ((_, _, mean, raw, *_),) = alike_table("Checkpoint", [("a", frame)]).rows
    assert (mean.text, raw.text) == ("−1.00", "+1.00")


@pytest.mark.parametrize("scores", [[1.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
def test_pairs_without_two_halves_have_no_table(scores):
    assert alike_table("Method", [("DPO", pairs([-1.0] * len(scores), scores))]) is None


def test_the_change_of_a_pair_is_its_mean_over_seeds(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), prompts=12, diverged=False))
    (effect,) = analyse(tables).effects.values()
    assert effect.group == Group("base", "dpo", 1024) and effect.seeds == (0, 1)
    chosen = tables.probes[tables.probes["role"] == "chosen"].assign(change=lambda t: t["total"] - t["start_total"])
    np.testing.assert_allclose(effect.alike["change"], chosen.groupby("row")["change"].mean())
    unseen = tables.probes[tables.probes["role"] == "mismatched"]
    means = (unseen["total"] - unseen["start_total"]).groupby(unseen["cell"]).mean()
    assert effect.changes["mismatched"].total.estimate == pytest.approx(means.mean())
    # Two seeds: the t interval has one degree of freedom, whose 97.5 % quantile is 12.706.
    half = 12.7062 * means.std(ddof=1) / np.sqrt(2)
    assert effect.changes["mismatched"].total.half_width == pytest.approx(half, rel=1e-4)


def test_pairs_are_measured_once_and_every_table_shows_that(synthetic):
    analysis = analyse(synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), prompts=12, diverged=False)))
    ((group, effect),) = analysis.effects.items()
    facts = analysis.behaviour["test"][group]
    assert effect.changes["chosen"].total == facts.chosen_change
    assert effect.changes["margin"].total == facts.margin
    table = overview(analysis)
    row = dict(zip((title for title, _ in table.head), table.rows[0], strict=True))
    assert row["Rejected"].value == facts.rejected_change.estimate
    assert row["KL per token"].value == facts.kl_token.estimate
    notes = dict(table.head)
    assert notes["Chosen"].endswith(f"; {effect.n_pairs} test pairs")
    assert notes["Answers to other prompts"].endswith(" test rows")


def test_what_no_seed_shows_alone_all_seeds_may(synthetic):
    shape = synthetic.Shape(methods=("dpo",), starts=("base",), prompts=12, seeds=4, diverged=False)
    tables = synthetic.make(shape)
    seed = tables.pairs["cell"].map(tables.cells.set_index("cell")["seed"])
    # Every other pair moves by 2 nats more and less in turn: much for one seed, nothing for two.
    swing = 2 - 4 * ((seed + tables.pairs["row"]) % 2)
    pairs = tables.pairs.assign(
        chosen_total=tables.pairs["reference_chosen_total"] + (seed >= 0) * (swing - 0.6),
        rejected_total=tables.pairs["reference_rejected_total"] + (seed >= 0) * (swing - 8),
    )
    (effect,) = analyse(dataclasses.replace(tables, pairs=pairs)).effects.values()
    assert effect.codes == ("suppression",) * 4 and effect.code == "displacement"
    agreed, _, why = effect.headline.partition(". ")[0].partition(": ")
    assert agreed == "Displacement over all seeds; each alone, suppression in 4 of 4 seeds"
    assert why == "the chosen responses fell while the margin grew"
    assert effect.remedies == REMEDIES["displacement"]
