import dataclasses
import json

import pytest

from preflab.report.analysis import analyse
from preflab.report.page import render
from preflab.report.properties import properties_tables
from preflab.report.summary import summary


@pytest.fixture(scope="module")
def stopped(small):
    """The study in which SimPO stopped early: after step 16 of 64, with the weights of step 8."""
    mine = small.cells["method"] == "simpo"
    cells = small.cells.assign(planned_steps=64.0, kept_step=8.0)
    cells.loc[~mine, "kept_step"] = float("nan")
    cells.loc[mine, "n_steps"] = 16
    early = small.dynamics["cell"].isin(cells.loc[mine, "cell"])
    dynamics = small.dynamics[~early | (small.dynamics["step"] <= 16)]
    dynamics = dynamics.assign(kept=~(early & (dynamics["step"] > 8)), unseen_total=dynamics["chosen_total"] + 3)
    return dataclasses.replace(small, cells=cells, dynamics=dynamics)


def cell(table, method, title):
    (row,) = [row for row in table.rows if row[0].text == method]
    return row[[name for name, _ in table.head].index(title)]


def test_there_is_a_table_per_start_with_every_method_and_the_best_start_is_first(stopped):
    analysis = analyse(stopped)
    tables = properties_tables(analysis, 256)
    assert [table.caption.split(";")[0] for table in tables] == [
        "From base, 256 training pairs", "From sft, 256 training pairs",
    ]  # fmt: skip
    assert properties_tables(analysis, 64, "sft")[0].caption.startswith("From sft, 64 training pairs")
    assert [[row[0].text for row in table.rows] for table in tables] == [["DPO", "SimPO", "SLiC-HF"]] * 2
    # Changes are those of the test pairs, as in every other table; what needs the course of training names its pairs.
    facts = analysis.behaviour["test"]["base", "dpo", 256]
    drop = cell(tables[0], "DPO", "Drastic drop (P1)")
    assert (drop.value, drop.low) == (-facts.margin.estimate, -facts.margin.high)
    assert cell(tables[0], "DPO", "Chosen").value == facts.chosen_change.estimate
    notes = dict(tables[0].head)
    assert notes["Chosen"].endswith(f"; {facts.margin.n} test pairs")
    assert notes["Dispersion (P3)"].endswith(f"; {stopped.dynamics['n'].max():.0f} validation pairs")
    gain = analysis.ranking("test", "base").rows
    mine = next(row for row in gain if row.method == "dpo").gain.difference.estimate
    assert cell(tables[0], "DPO", "Gold reward gained").text == f"{mine:+.3f}".replace("-", "−")


def test_runs_that_stopped_and_runs_that_are_lost_are_named(stopped):
    table = properties_tables(analyse(stopped), 256)[0]
    kept = "2 runs; kept after 12\u00a0% of the steps (the first evaluation in 2)"
    assert cell(table, "SimPO", "Method").note.endswith(f"; {kept}")
    assert cell(table, "DPO", "Method").note.endswith("; 2 runs")
    assert cell(table, "SLiC-HF", "Method").note.endswith("; 1 run; 1 diverged")
    page = render(stopped)
    assert "What each method did to chosen, rejected and unseen responses" in page and "triangles mark" in page
    assert "25\u00a0%" in page  # of the planned steps, in the table of costs


def test_older_studies_lack_columns_and_not_the_table(small):
    table = properties_tables(analyse(small), 256)[0]
    titles = [title for title, _ in table.head]
    assert "Dispersion (P3)" not in titles and "Degradation (P2)" not in titles
    assert "Drastic drop (P1)" in titles and table.head[0][1] == "setting; runs"
    assert "triangles mark" not in render(small)


def test_a_method_that_diverged_everywhere_has_a_row_that_says_so(small):
    cells = small.cells.copy()
    mine = (cells["method"] == "slic_hf") & (cells["start"] == "base") & (cells["size"] == 256)
    cells.loc[mine, ["status", "selected"]] = ["diverged", False]
    table = properties_tables(analyse(dataclasses.replace(small, cells=cells)), 256)[0]
    assert table.rows[-1][0].note == "no setting to show: 2 of 2 cells diverged"


def test_the_summary_holds_the_numbers(stopped):
    found = json.loads(json.dumps(summary(stopped)))["properties"]
    (mine,) = [p for p in found if (p["start"], p["method"], p["size"]) == ("base", "simpo", 256)]
    assert mine["kept"] == [0.125, 0.125] and mine["drop"]["kind"] == "seeds" and mine["n_fall"] is None
