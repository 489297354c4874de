"""Tables and figures as files: the numbers of the page, text that stays text, the same bytes every time."""

import html
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from preflab.core.errors import ConfigError
from preflab.report.analysis import analyse
from preflab.report.cells import Cell, Table, measured
from preflab.report.figures import ranking_figure
from preflab.report.files import parts, write_files
from preflab.report.page import render
from preflab.report.typeset import as_csv, as_latex, as_markdown, latex
from preflab.stats.intervals import seed_interval

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@pytest.fixture(scope="module")
def written(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return folder, json.loads(write_files(small, folder).read_text())


def test_every_table_and_figure_of_the_page_is_there_in_every_format(small, written):
    folder, index = written
    page = html.unescape(render(small))
    for part in (*index["tables"], *index["figures"]):
        assert part["caption"] in page
        assert all((folder / place).stat().st_size > 0 for place in part["files"].values())
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there == {"index.json"} | {
        p for kind in ("tables", "figures") for e in index[kind] for p in e["files"].values()
    }
    # Every figure of the page keeps its drawing.
    assert len(index["figures"]) == page.count("<figure>")
    assert {"winners", "cost", "starts-test", "ranking-test-base", "ranking-test-all-start-points"} <= {
        entry["name"] for entry in index["tables"]
    }


def test_csv_and_parquet_hold_the_numbers_of_the_analysis(small, written):
    ranking = analyse(small).ranking("test", "sft")
    for found in (pd.read_csv(written[0] / "tables/ranking-test-sft.csv"),
                  pd.read_parquet(written[0] / "tables/ranking-test-sft.parquet")):  # fmt: skip
        label = found.columns[1]
        for place, row in enumerate(ranking.rows):
            overall = found.iloc[place][[label, f"{label} low", f"{label} high"]].to_numpy(dtype=float)
            assert overall == pytest.approx([row.overall.estimate, row.overall.low, row.overall.high], rel=1e-14)
        assert found["Gain over start"].notna().sum() == len(ranking.rows)


def test_the_same_study_gives_the_same_bytes(small, written, tmp_path):
    write_files(small, tmp_path)
    for path in written[0].rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(written[0])).read_bytes(), path.name


def test_figures_are_whole_files_with_colours_of_their_own(written):
    for path in (written[0] / "figures").glob("*.svg"):
        text = path.read_text()
        assert ET.fromstring(text).tag.endswith("svg")
        assert "var(--" not in text and "<script" not in text
    for path in (written[0] / "figures").glob("*.pdf"):
        assert path.read_bytes().startswith(b"%PDF") and b"CreationDate" not in path.read_bytes()
    for path in (written[0] / "figures").glob("*.png"):
        data = path.read_bytes()
        assert data.startswith(b"\x89PNG") and int.from_bytes(data[16:20], "big") == 2000


def test_names_in_any_script_are_drawn_without_a_word(synthetic, tmp_path):
    tables = synthetic.make(synthetic.Shape(methods=("dpo", "ipo"), starts=("sft",), seeds=2, prompts=6))
    cards = {**tables.study["cards"], "dpo": {"title": "方法 \U0001f999 $x^2$ \x07 <b>"}}
    figure = ranking_figure(analyse(replace(tables, study={**tables.study, "cards": cards})))
    for ending in ("svg", "pdf", "png"):  # warnings are errors here
        figure.save(tmp_path / f"x.{ending}")
    text = (tmp_path / "x.svg").read_text()
    assert "方法 \U0001f999 $x^2$" in "".join(ET.fromstring(text).itertext()) and "<b>" not in text
    assert "方法" in figure.svg


def test_a_figure_refuses_an_unknown_kind_of_file(small, tmp_path):
    figure = next(iter(parts(analyse(small)).figures.values()))
    with pytest.raises(ConfigError, match=r"x\.jpg: a figure is written as"):
        figure.save(tmp_path / "x.jpg")
    assert not list(tmp_path.iterdir())


def test_a_frame_has_bounds_beside_numbers_and_notes_that_are_not_bounds():
    interval = seed_interval([0.2, 0.4])
    one = measured("0.3", interval, "-0.97 to 1.57")
    rows = [[Cell("a", "by hand", "text"), one, Cell("2 of 3", "late", value=2)],
            [Cell("b", kind="text"), Cell("–"), Cell("–")]]  # fmt: skip
    found = Table("A table.", [("Name", ""), ("Score", "mean"), ("Score", "runs")], rows).frame()
    assert list(found) == ["Name", "Name note", "Score", "Score low", "Score high", "Score (runs)", "Score (runs) note"]
    assert found.iloc[0].tolist() == ["a", "by hand", interval.estimate, interval.low, interval.high, 2.0, "late"]
    assert found.iloc[1, [2, 3, 4, 5]].isna().all()


@given(TEXTS, TEXTS)
def test_markdown_shows_any_text_as_it_is(caption, text):
    source = as_markdown("t", Table(caption, [("Name", ""), ("Value", "")], [[Cell("x", kind="text"), Cell(text)]]))
    page = MarkdownIt("commonmark").enable("table").render(source)
    shown = [html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", page, re.S)]
    assert len(shown) == 2 and "".join(shown[1].split()) == "".join(_line(text).split())


@given(TEXTS)
def test_latex_has_no_command_of_a_text(text):
    bare = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\$(?:-|\\pm|\\times|\\to|\\leq|\\geq|\\pi|\\beta)\$", "", latex(text))
    assert not set(bare.replace("~", "")) & set("\\{}$&#^_%\n")


def test_a_latex_row_never_begins_with_a_bracket():
    text = as_latex("t", Table("A", [("Name", ""), ("V", "")], [[Cell("[2pt]", kind="text"), Cell("1", value=1)]]))
    assert "\n{}[2pt] & 1 \\\\\n" in text and r"\label{tab:t}" in text and r"\begin{tabular}{lr}" in text


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1+cmd|' /C calc'!A0", "-2+3", "\t=1"])
def test_a_spreadsheet_takes_no_text_for_a_formula(text):
    table = Table("A", [("Name", ""), ("V", "")], [[Cell(text, kind="text"), Cell("−0.5", value=-0.5)]])
    row = pd.read_csv(io.StringIO(as_csv("t", table)))
    assert row["Name"][0] == f"'{text}" and row["V"][0] == -0.5


def test_a_column_in_which_nothing_was_measured_is_empty():
    rows = [[Cell("a", kind="text"), Cell("–"), Cell("2 of 3")], [Cell("b", kind="text"), Cell("–"), Cell("–")]]
    assert as_csv("t", Table("A", [("N", ""), ("V", ""), ("W", "")], rows)) == "N,V,W\na,,2 of 3\nb,,\n"


def test_missing_numbers_are_empty_and_signed_texts_stay():
    rows = [[Cell("+0.3", kind="text"), Cell("–", value=math.inf)], [Cell("x", kind="text"), Cell("1", value=1)]]
    assert as_csv("t", Table("A", [("N", ""), ("V", "")], rows)) == "N,V\n+0.3,\nx,1.0\n"


def _line(text):
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text)
