"""`preflab pocket toy` as a user calls it: a page, continued by the same command, errors in a sentence."""

import json
import re

import pandas as pd
from tests.e2e.test_study import preflab

METHODS = "methods={dpo: {beta: [0.1, 0.3]}, sft_dpo: }"
SMALL = [word for pair in (METHODS, "steps=40", "seeds=2", "widths=[8,12]", "fit.steps=50") for word in ("--set", pair)]


def test_a_small_toy_study_from_command_to_page(tmp_path):
    out = tmp_path / "toy"
    found = json.loads(preflab("pocket", "toy", "--out", out, *SMALL, "--json", cache=tmp_path).stdout)
    assert {claim["code"] for claim in found["claims"]} >= {"falls_first", "follows_theory", "remedies_help"}
    page = (out / "toy.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and not re.search(r"https?://(?!www\.w3\.org)", page)
    assert "DPO, beta=0.3" in page and "Does it hang on width and step size?" in page
    index = json.loads((out / "toy.json").read_text())
    assert len(index["runs"]) == 3 * 4 * 2
    curves = pd.read_parquet(out / index["runs"][0]["artefact"] / "curves.parquet")
    assert sorted(curves["seed"].unique()) == [0, 1] and curves["step"].max() == 40

    before = {path: path.stat().st_mtime_ns for path in out.glob("artefacts/*/*/manifest.json")}
    again = preflab("pocket", "toy", "--out", out, *SMALL, "--set", "methods.kto={}", cache=tmp_path)
    assert "24 of 32 runs" in again.stderr  # what is there already
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_errors_are_one_sentence(tmp_path):
    wrong = preflab("pocket", "toy", "--set", "steps=none", "--out", tmp_path / "toy", cache=tmp_path, check=2)
    assert wrong.stderr.startswith("error: ") and "steps" in wrong.stderr and "Traceback" not in wrong.stderr
    assert not (tmp_path / "toy").exists()


def test_a_fit_that_is_not_finite_is_one_sentence(tmp_path):
    words = [*SMALL, "--set", "fit.learning_rate=1e30", "--out", tmp_path / "toy"]
    wrong = preflab("pocket", "toy", *words, cache=tmp_path, check=1)
    assert "use a smaller one" in wrong.stderr and "bug" not in wrong.stderr
