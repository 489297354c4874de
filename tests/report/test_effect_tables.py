"""Whether alike pairs fall more is read off the table of CHES scores."""

import numpy as np
import pandas as pd
import pytest

from preflab.report.effect_tables import alike_table
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
    from preflab.report.analysis import analyse

    tables = synthetic.make(synthetic.Shape(methods=("dpo",), starts=("base",), prompts=12, diverged=False))
    (effect,) = analyse(tables).effects.values()
    assert effect.group == Group("base", "dpo", 1024) and effect.seeds == (0, 1)
    chosen = tables.probes[tables.probes["role"] == "chosen"].assign(change=lambda t: t["total"] - t["start_total"])
    np.testing.assert_allclose(effect.alike["change"], chosen.groupby("row")["change"].mean())
    means = chosen.groupby("cell")["change"].mean()
    assert effect.changes["chosen"].total.estimate == pytest.approx(means.mean())
    # Two seeds: the t interval has one degree of freedom, whose 97.5 % quantile is 12.706.
    half = 12.7062 * means.std(ddof=1) / np.sqrt(2)
    assert effect.changes["chosen"].total.half_width == pytest.approx(half, rel=1e-4)
