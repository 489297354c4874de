"""The section on learning from rewards."""

import dataclasses

import numpy as np
import pandas as pd

from preflab.report.analysis import analyse
from preflab.report.rewards import reliability_table
from preflab.report.wording import MISSING


def test_reliability_is_read_from_the_last_scores_of_each_reward_model(synthetic):
    tables = synthetic.make(synthetic.Shape(methods=("ppo", "rloo"), starts=("base",), seeds=2, prompts=5))
    cells = tables.cells[tables.cells["method"] != ""]
    # Log-odds 1.0986 say 75 %: three of four pairs are right with seed 0, and all are ties with seed 1.
    margins = {0: np.array([1, 1, 1, -1]) * np.log(3), 1: np.zeros(4)}
    verdicts = [
        pd.DataFrame({"cell": c.cell, "judge": f"judge {c.seed}", "chosen_score": margins[c.seed], "rejected_score": 0})
        for c in cells.itertuples()
    ]
    table = reliability_table(analyse(dataclasses.replace(tables, verdicts=pd.concat(verdicts, ignore_index=True))))
    assert table is not None
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[:4] == ["from base, seed 0", "4", "75.0\u00a0%", "0.0\u00a0%"]
    assert first[6:] == [MISSING, MISSING, "75\u00a0%", MISSING, MISSING]
    assert second[2:6] == ["50.0\u00a0%", "0.0\u00a0%", "0.000", "0.693"]
    assert table.head[8][0] == "Says 70\u00a0%–80\u00a0%" and table.rows[0][8].note == "of 4"


def test_a_study_without_reward_models_has_no_such_table(small):
    assert reliability_table(analyse(small)) is None
