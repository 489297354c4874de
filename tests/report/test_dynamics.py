"""Likelihoods during training: means over validation rows, counted by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from preflab.report.dynamics import dynamics, pairs_seen

STEPS = (0, 2, 4)
CHOSEN = {"b": [[-4.0, -6.0], [-1.0, -5.0], [-3.0, -8.0]], "a": [[-2.0, -2.0], [-3.0, -2.5], [-4.0, -3.0]]}
"""`[step][row]` of two cells; the likeliest evaluation of b is its second, that of a its first."""


def _monitors(unseen=("b",)):
    rows = [
        {"cell": cell, "step": step, "chosen_total": chosen, "chosen_length": 2, "rejected_total": -5.0 - k,
         "rejected_length": 5, "mismatched_total": -10.0 if cell in unseen else None, "mismatched_length": 4}
        for cell, values in CHOSEN.items() for k, (step, own) in enumerate(zip(STEPS, values, strict=True))
        for chosen in own
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _log(cells="ba"):
    return pd.DataFrame([{"cell": cell, "step": s, "n_rows": 16} for cell in cells for s in range(1, 5)])


def test_means_margins_and_falls_are_those_counted_by_hand():
    found = dynamics(_monitors(), _log(), {"b": 2.0, "a": None})
    assert found["cell"].tolist() == ["b"] * 3 + ["a"] * 3  # in the order of the study
    b = found[found["cell"] == "b"].set_index("step")
    assert b["chosen_total"].tolist() == [-5.0, -3.0, -5.5] and b["chosen_mean"].tolist() == [-2.5, -1.5, -2.75]
    assert b["rejected_mean"].tolist() == [-1.0, -1.2, -1.4] and b["unseen_mean"].tolist() == [-2.5] * 3
    assert b["margin"].tolist() == [0.0, 3.0, 1.5]  # (3 + 1) / 2 + 1, (1 - 2) / 2 + 2
    assert b["accuracy"].tolist() == [0.5, 1.0, 0.75]  # margins 3 and 0 at the end: one right, one tie
    assert b["margin_se"][2] == pytest.approx(1.0)  # margins 4 and 2
    assert b["peak_step"].tolist() == [0, 2, 2] and b["chosen_fall"].tolist() == [0.0, 0.0, 2.5]
    assert b["chosen_fall_se"][4] == pytest.approx(0.5)  # falls 2 and 3
    assert b["pairs_seen"].tolist() == [0, 32, 64] and b["n"].tolist() == [2, 2, 2]
    assert b["kept"].tolist() == [True, True, False]
    a = found[found["cell"] == "a"]
    assert a["kept"].all() and a["peak_step"].tolist() == [0, 0, 0] and a["unseen_total"].isna().all()


def test_rows_may_come_in_any_order_of_steps_and_cells_without_a_log_are_left_out():
    monitors = _monitors()
    shuffled = monitors.iloc[[*range(4, 6), *range(4), *range(6, 12)]]
    pd.testing.assert_frame_equal(dynamics(shuffled, _log(), {}), dynamics(monitors, _log(), {}))
    assert set(dynamics(monitors, _log("a"), {})["cell"]) == {"a"}
    assert dynamics(monitors, pd.DataFrame(), {}).empty and dynamics(pd.DataFrame(), _log(), {}).empty


def test_a_row_without_a_number_leaves_the_falls_but_not_the_step():
    monitors = _monitors().query("cell == 'b'").reset_index(drop=True)
    monitors.loc[2, "chosen_total"] = np.nan
    found = dynamics(monitors, _log(), {}).set_index("step")
    assert found["chosen_total"].tolist() == [-5.0, -5.0, -5.5]
    assert found["chosen_fall"].tolist() == [0.0, 0.0, 3.0] and found["chosen_fall_se"].isna().all()
    assert found["accuracy"][2] == 1.0  # of the one that is known


def test_a_study_that_followed_no_unseen_answers_has_none():
    monitors = _monitors().drop(columns=["mismatched_total", "mismatched_length"])
    assert "unseen_total" not in dynamics(monitors, _log(), {})


def test_pairs_seen_after_a_step_that_the_log_does_not_have_are_not_known():
    assert pairs_seen([0, 1, 4], _log("a")) == [0.0, 16.0, 64.0]
    assert math.isnan(pairs_seen([9], _log("a"))[0])
