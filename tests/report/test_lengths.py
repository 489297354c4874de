"""What the report says about lengths."""

import dataclasses

import numpy as np
import pytest
from tests.report.test_robustness import world

from preflab.report.analysis import analyse
from preflab.report.lengths import context, matched_table, settings_figure


def longer_is_better(tables, method):
    """Return tables in which a method's answers are longer in half of its answers, and better by their length alone."""
    responses = tables.responses.copy()
    mine = responses["cell"].str.startswith(method) & (responses["row"] % 2 == 0)
    responses.loc[mine, "n_tokens"] = 20
    responses.loc[mine, "reward"] += 0.3
    return dataclasses.replace(tables, responses=responses)


def test_a_lead_that_is_length_alone_is_gone_on_equally_long_answers():
    tables = longer_is_better(world({"wordy": (0.5,), "terse": (0.5,)}, noise=0.001), "wordy")
    table = matched_table(analyse(tables), "sft")
    (row,) = table.rows
    assert row[0].text == "terse"
    assert row[1].value == pytest.approx(0.15, abs=0.01) and row[1].low > 0
    assert row[2].value == pytest.approx(0.0, abs=0.01)
    assert row[3].value == pytest.approx(0.5)


def test_settings_are_drawn_only_where_every_setting_was_evaluated():
    grid = {"dpo": (0.5, 0.6), "ipo": (0.4, 0.5)}
    assert settings_figure(analyse(world(grid)), "sft").svg.count("<svg") == 1
    assert settings_figure(analyse(world(grid, evaluated=False)), "sft") is None


def test_a_study_without_answers_or_of_one_method_has_no_such_table():
    assert matched_table(analyse(world({"dpo": (0.5,)})), "sft") is None
    tables = world({"dpo": (0.5,), "ipo": (0.6,)})
    bare = dataclasses.replace(tables, responses=tables.responses.assign(n_tokens=np.nan))
    assert context(analyse(bare), "sft") is None


def test_one_matched_prompt_has_no_interval_and_turns_no_order():
    tables = world({"wordy": (0.5,), "terse": (0.45,)}, noise=0.001)
    responses = tables.responses.assign(n_tokens=10.0)
    wordy, matched = responses["cell"].str.startswith("wordy"), responses["row"] == responses["row"].min()
    responses.loc[wordy & ~matched, "n_tokens"] = 30.0
    responses.loc[wordy & matched, "reward"] -= 0.2
    (row,) = matched_table(analyse(dataclasses.replace(tables, responses=responses)), "sft").rows
    assert row[1].value > 0 > row[2].value and np.isnan(row[2].low)
    assert row[4].text == ""
