"""`preflab.load_study`: the numbers of the report as data frames, its figures, and the notebook of the recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from tests.report.on_disk import write_study
from tests.report.synthetic import HOSTILE, Shape, make

import preflab
from preflab.core.errors import ConfigError
from preflab.report.analysis import analyse
from preflab.report.columns import TABLES
from preflab.report.load import load_tables

NOTEBOOK = Path(__file__).parents[2] / "recipes" / "notebook.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small study on disk, its texts hostile."""
    shape = Shape(methods=("dpo", "ipo"), starts=("base", "sft"), sizes=(64, 256), seeds=2, prompts=12, texts=HOSTILE)
    return write_study(tmp_path_factory.mktemp("study"), make(shape))


@pytest.fixture(scope="module")
def study(folder):
    return preflab.load_study(str(folder))


def test_importing_preflab_costs_nothing_and_a_study_needs_no_torch(folder):
    code = (
        "import sys, preflab; assert not {'pandas', 'numpy', 'torch'} & set(sys.modules); "
        f"preflab.load_study({str(folder)!r}).ranking(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_frames_have_the_documented_columns_and_the_cells_of_the_study(study, folder):
    for name in TABLES:
        assert set(TABLES[name]) <= set(getattr(study.data, name).columns), name
    index = json.loads((folder / "index.json").read_text())
    assert study.cells["cell"].tolist() == [cell["cell"] for cell in index["cells"]]
    for frame in (study.pairs, study.responses, study.dynamics):
        assert set(frame["cell"]) <= set(study.cells["cell"]) and len(frame)
    assert study.log["loss"].dtype == float and study.benchmarks.empty


def test_a_ranking_has_the_numbers_of_the_analysis(study, folder):
    found = study.ranking("test", "sft")
    rows = analyse(load_tables(folder)).ranking("test", "sft").rows
    assert found["method"].tolist() == [row.method for row in rows]
    assert found["score"].tolist() == [row.overall.estimate for row in rows]
    assert (found["score_low"] < found["score"]).all() and (found["score"] < found["score_high"]).all()
    assert found["behind"].isna().tolist() == [True, False]
    assert set(study.ranking()["start"]) == {"all start points", "base", "sft"}


def test_tables_and_figures_are_those_of_the_report(study, tmp_path):
    tables = study.tables
    label = analyse(load_tables(study.path)).metric.label
    assert tables["ranking-test-sft"][label].tolist()[:2] == study.ranking("test", "sft")["score"].tolist()
    figure = study.figures["ranking"]
    assert figure._repr_svg_().startswith("<?xml") and "var(--" not in figure._repr_svg_()
    assert figure.figure.axes and figure.save(tmp_path / "ranking.png").stat().st_size > 10_000
    assert len(repr(figure)) < 1000


def test_what_a_notebook_shows_is_escaped(study):
    shown = study._repr_html_()
    assert study.name in repr(study) or str(study.path) in repr(study)
    assert "<script" not in shown and "<img" not in shown and shown.count("<table") == 1


def test_the_report_and_the_summary_are_the_commands(study, tmp_path):
    assert study.report(tmp_path / "page.html").read_text().startswith("<!doctype html>")
    assert study.summary()["answer"]["headline"] in repr(study)


def test_a_damaged_study_warns_and_a_folder_without_one_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="no study here"):
        preflab.load_study(tmp_path)
    index = json.loads((folder / "index.json").read_text())
    index["cells"][-1]["evaluate"] = "artefacts/evaluate/gone"
    (tmp_path / "index.json").write_text(json.dumps(index))
    (tmp_path / "artefacts").symlink_to(folder / "artefacts")
    with pytest.warns(UserWarning, match="damaged files, such as artefacts"):
        damaged = preflab.load_study(tmp_path)
    assert len(damaged.damages) > 2


def test_the_notebook_of_the_recipes_runs_on_a_study(folder, tmp_path, monkeypatch):
    """Its code cells one after the other, as a notebook runs them, in a folder with a study at the place it names."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/demo").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text())
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    space: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
    assert isinstance(space["ranking"], pd.DataFrame) and (tmp_path / "ranking.pdf").exists()
