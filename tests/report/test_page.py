import html
import html.parser
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from preflab.report.page import render, source, ticks, write_report
from preflab.report.samples import visible
from preflab.report.summary import summary
from preflab.report.tables import StudyTables

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
    """The structure of a page: elements with attributes, text outside script and style, and whether tags balance."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.scripts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)

    def find(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))  # no-break spaces become plain ones


@pytest.fixture(scope="module")
def text(small):
    return render(small)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_page_is_balanced_and_has_every_section(page):
    assert page.open == []
    ids = [attrs["id"] for attrs in page.find("section")]
    assert ids == ["answer", "ranking", "starts", "effects", "likelihood", "properties", "behaviour", "lengths",
                   "responses", "curves", "trouble", "cost", "fairness", "provenance"]  # fmt: skip
    # Others than those of the navigation lead to a section again.
    targets = list(dict.fromkeys(attrs["href"] for attrs in page.find("a") if attrs["href"] != "#answer"))
    assert targets == [f"#{name}" for name in ids if name != "answer"]


def test_ids_are_unique_and_references_point_to_them(text, page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]+)\)", text) + [a["xlink:href"][1:] for a in page.find("use")]
    assert set(references) <= set(ids)
    assert references


def test_the_first_screen_answers_the_question(page, small):
    heading = page.words.index(" may be as good") if " may be as good" in page.words else page.words.index("Use ")
    assert heading < 900
    assert "95 % interval" in page.words
    assert "What to try next" in page.words


def test_nothing_on_the_page_can_reach_the_network(text, page):
    urls = set(re.findall(r"https?://[^\s\"'<>)]+", text))
    # Names of vocabularies, and where the chart library says it comes from.
    assert urls <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "https://github.com/leeoniya/uPlot"}
    policy = next(a["content"] for a in page.find("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy and "style-src 'sha256-" in policy and "unsafe" not in policy
    assert not page.find("img") and not page.find("link") and not page.find("iframe")
    for _, attrs in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attrs)


def test_only_the_hashed_script_and_the_data_are_scripts(text, page):
    kinds = [attrs.get("type") for attrs in page.find("script")]
    assert kinds == ["application/json", "application/json", None]
    assert source(page.scripts[-1]) in text
    assert source(re.search(r"<style>(.*?)</style>", text, re.S)[1]) in text


def test_hostile_text_stays_text(text, page, synthetic):
    assert "<img src=x" not in text and "<script>document" not in text
    data = json.loads(page.scripts[0])
    assert data["items"][0]["prompt"] == synthetic.HOSTILE[0]
    assert synthetic.HOSTILE[0] in "".join(page.text)
    assert "49" not in data["items"][2]["prompt"]
    assert data["items"][3]["prompt"].endswith("\u2400\u241b[31mred")


def test_hostile_names_stay_text(synthetic):
    shape = synthetic.Shape(methods=("$x_1$<b>", "dpo"), starts=("<script>alert(1)</script>",), prompts=10, seeds=1)
    tables = synthetic.make(shape)
    study = dict(tables.study) | {"name": "<img src=x onerror=alert(1)>", "command": "`<b>`</pre>", "notes": ["<i>"]}
    page = Page(render(StudyTables(tables.cells, tables.pairs, tables.responses, tables.dynamics, tables.log, study)))
    assert len(page.find("script")) == 3
    assert not page.find("b") or all(attrs == {} for attrs in page.find("b"))
    assert not page.find("img") and not page.find("i")
    assert "$x_1$<b>" in page.words


def test_tables_have_captions_and_headers_with_scope(page):
    assert len(page.find("caption")) == len(page.find("table")) > 5
    assert all(attrs.get("scope") in ("row", "col") for attrs in page.find("th"))
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in page.find("svg"))


def test_the_same_tables_give_the_same_bytes(synthetic, tmp_path):
    shape = synthetic.Shape(methods=("dpo", "ipo"), starts=("base",), prompts=8)
    first = write_report(synthetic.make(shape), tmp_path / "a.html")
    second = write_report(synthetic.make(shape), tmp_path / "deep" / "b.html")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "deep"]


def test_numbers_of_the_summary_are_on_the_page(page, small):
    found = summary(small)
    json.dumps(found, allow_nan=False)
    assert found["schema_version"] == 1
    top = next(r for r in found["rankings"] if (r["split"], r["start"]) == ("test", "all start points"))["rows"][0]
    assert f"{top['overall']['estimate']:.3f}" in page.words
    assert found["answer"]["headline"] in page.words
    assert {row["split"] for row in found["behaviour"]} == {"test", "ood"}
    assert found["diverged"][0]["cause"] == "gradient norm is inf"
    assert found["cells"]["diverged"] == 2


def test_diverged_and_clamped_cells_and_provenance_are_listed(page):
    expected = (
        "gradient norm is inf", "a clamp held 37 of 3,072 examples",
        "preflab run study.yaml", "0123456789abcdef", "torch 2.13.0", "pocket:pairs",
        "empty response 3", "2401.00001", "study: synthetic", "SFT run feeds all seeds", "1,024",
    )  # fmt: skip
    assert [words for words in expected if words not in page.words] == []


@pytest.fixture
def no_figures(monkeypatch):
    """Pages without figures, for tests of everything else: drawing takes most of the time."""
    names = ("ranking", "sizes", "frontier", "lengths")
    monkeypatch.setattr("preflab.report.page._figures", lambda *_: dict.fromkeys(names) | {"likelihoods": []})


def partial(tables, **changes):
    return replace(tables, **changes)


def test_a_study_without_anything_gives_a_page_that_says_so():
    page = Page(render(StudyTables()))
    assert "No answer yet" in page.words and "Partial report" in page.words
    assert "No cell is planned or finished." in page.words
    assert not page.find("svg")


@pytest.fixture(scope="module")
def tiny(synthetic):
    return synthetic.make(synthetic.Shape(methods=("dpo", "ipo"), starts=("base",), prompts=8))


@pytest.mark.parametrize(
    "name", ["pairs", "responses", "snapshots", "dynamics", "log", "study", "probes", "samples", "gradients", "alike"]
)
def test_every_table_may_be_missing(tiny, name):
    page = Page(render(partial(tiny, **{name: {} if name == "study" else pd.DataFrame()})))
    assert page.open == []
    ids = {attrs["id"] for attrs in page.find("section")}
    gone = {"responses": {"responses"}, "dynamics": {"likelihood"}, "probes": {"effects"}, "samples": {"effects"}}
    gone = gone.get(name, set())
    assert not ids & gone
    assert ("Partial report" in page.words) == (name in ("responses", "dynamics"))


def test_the_page_says_what_each_method_did_to_the_model(page, small):
    found = summary(small)["effects"]
    assert {(e["start"], e["method"], e["size"]) for e in found} == {
        (start, method, size)
        for start in ("base", "sft")
        for method in ("dpo", "simpo", "slic_hf")
        for size in (64, 256)
    }
    strongest = next(e for e in found if (e["method"], e["size"], e["start"]) == ("simpo", 256, "base"))
    assert strongest["code"] == "displacement" and strongest["agreement"] == "displacement in 2 of 2 seeds"
    assert strongest["headline"] in page.words and strongest["evidence"][0] in page.words
    assert "paraphrase" in strongest["changes"] and "Where the probability went, from base" in page.words
    one = next(e for e in found if (e["method"], e["start"], e["size"]) == ("slic_hf", "base", 256))
    assert one["n_diverged"] == 0 and len(one["codes"]) == 1  # its diverged seed was not selected


def test_seeds_that_diverged_are_counted_beside_verdicts(small):
    cells = small.cells.copy()
    cells.loc[cells["status"] == "diverged", "selected"] = True
    found = {(e["start"], e["method"], e["size"]): e for e in summary(partial(small, cells=cells))["effects"]}
    assert found["base", "slic_hf", 256]["agreement"].endswith("divergence in 1")
    cells.loc[cells["method"] == "dpo", "status"] = "diverged"
    found = summary(partial(small, cells=cells))["effects"]
    dpo = next(e for e in found if e["method"] == "dpo")
    assert dpo["headline"] == "Training diverged with every seed." and dpo["code"] == "divergence"
    assert "divergence in 2 of 2 seeds" in Page(render(partial(small, cells=cells))).words


def test_only_start_points_evaluated_is_a_partial_report(small):
    cells = small.cells.copy()
    cells.loc[cells["method"] != "", ["status", "selected"]] = ["pending", False]
    page = Page(render(partial(small, cells=cells)))
    assert "No answer yet" in page.words
    assert "cells are not trained yet" in page.words


def test_all_cells_diverged_is_reported(small):
    cells = small.cells.copy()
    cells.loc[cells["method"] != "", ["status", "selected", "cause"]] = ["diverged", False, "loss is nan"]
    page = Page(render(partial(small, cells=cells)))
    assert "loss is nan" in page.words and "No answer yet" in page.words


@pytest.mark.parametrize("reward", [True, False])
def test_a_single_cell_with_one_seed_and_one_prompt_renders(synthetic, reward):
    shape = synthetic.Shape(methods=("dpo",), starts=("base",), seeds=1, prompts=1, reward=reward)
    page = Page(render(synthetic.make(shape)))
    assert "no interval" in page.words or reward is False
    assert "nan" not in page.words.lower().split()


def test_without_reward_the_headline_is_preference_accuracy(synthetic):
    page = Page(
        render(synthetic.make(synthetic.Shape(methods=("dpo", "ipo"), starts=("sft",), prompts=20, reward=False)))
    )
    assert "preference accuracy" in page.words
    assert "Gold reward" not in page.words
    assert "v-score-from" not in {attrs.get("id") for attrs in page.find("input")}
    assert "Methods disagree where their words differ." in page.words


def test_long_foreign_and_broken_text_is_shown_and_capped(synthetic, tmp_path, no_figures):
    texts = ("x" * 50_000, "مرحبا بالعالم", "日本語のテキスト", "a\u202eb", "")
    shape = synthetic.Shape(methods=("dpo",), starts=("base",), seeds=1, prompts=10, texts=texts)
    path = write_report(synthetic.make(shape), tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    data = json.loads(Page(text).scripts[0])
    prompts = [item["prompt"] for item in data["items"]]
    assert prompts[0].endswith("… (47,000 more characters)")
    assert prompts[1:3] == list(texts[1:3])
    assert len(text) < 700_000


def test_a_large_study_stays_under_five_megabytes(synthetic, monkeypatch, no_figures):
    monkeypatch.setattr("preflab.report.samples.MAX_BYTES", 60_000)
    shape = synthetic.Shape(methods=("dpo", "ipo"), starts=("base",), prompts=80, texts=("long " * 500,) * 80)
    page = Page(render(synthetic.make(shape)))
    data = json.loads(page.scripts[0])
    assert 0 < len(data["items"]) < 20
    assert f"{len(data['items'])} of 160 prompts" in page.words


def test_command_words_between_backticks_become_code_and_nothing_else():
    assert ticks("run `a<b` & c") == "run <code>a&lt;b</code> &amp; c"


def test_a_failed_write_leaves_no_file(monkeypatch, tmp_path, synthetic):
    monkeypatch.setattr("preflab.report.page.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(StudyTables(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_importing_the_report_imports_neither_torch_nor_matplotlib():
    code = "import sys, preflab.report.page; print(*sorted({'torch','transformers','matplotlib'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == ""


DRIVER = """
const say = (name, value) => { document.body.dataset[name] = value; };
const find = (id) => document.getElementById(id);
const place = () => find("v-place").textContent;
const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const set = (id, value) => {
  const node = find(id);
  if (node.type === "checkbox") node.checked = value; else node.value = value;
  node.dispatchEvent(new Event("input")); node.dispatchEvent(new Event("change"));
};
const rows = () => [...document.querySelectorAll("#v-table tbody tr")];
const at = () => document.activeElement.closest("tr").dataset.prompt;
say("first", place()); say("rows", rows().length);
rows()[0].querySelector(".open").focus();
press("j"); press("j"); press("k");
say("keys", String(at() === rows()[1].dataset.prompt));
press("s"); press("n");
say("star", rows()[1].querySelector(".star").getAttribute("aria-pressed"));
document.activeElement.value = "a <b>note</b>"; document.activeElement.dispatchEvent(new Event("change"));
set("v-starred", true); say("starred", place()); set("v-starred", false);
set("v-query", "onerror");
say("found", place()); say("marks", document.querySelectorAll("#viewer mark").length);
set("v-query", "no such words"); say("none", place()); set("v-query", "");
set("v-disagree", true); say("disagree", place()); set("v-disagree", false);
set("v-score-from", "0.9"); say("high", place()); set("v-score-from", "");
set("v-start", "base");
say("columns", document.querySelectorAll("#v-table thead th").length);
find("v-columns").querySelector("button").click();
say("added", document.querySelectorAll("#v-table thead th").length);
set("v-diff", true);
const cell = document.querySelector("#v-table tbody td:nth-child(4) .words");
say("changes", document.querySelectorAll("#v-table :is(ins, del)").length);
find("v-more").click(); say("more", rows().length);
say("hash", location.hash);
say("images", document.querySelectorAll("#viewer :is(img, script, i, iframe)").length);
const texts = ["a b c", "", "b c d ", " a  b", "c c c a", "x\\ny z", "<b>a</b> b"];
say("diffs", String(texts.every((from) => texts.every((to) => {
  const runs = wordDiff(from, to), side = (kind) => runs.filter((run) => run[0] !== kind).map((run) => run[1]).join("");
  return side("ins") === from && side("del") === to;
}))));
say("least", JSON.stringify(wordDiff("the cat sat", "the dog sat")));
const marks = openMarks("another study");
const file = {preflab: "marks", marks: [{prompt: "test.1", star: true, note: "n", x: 1}, null, 3]};
say("read", marks.read(JSON.stringify(file)));
say("kept", String(openMarks("another study").of("test.1").star));
find("c-chart").focus(); press("End");
say("values", find("c-values").textContent);
const series = find("c-methods").querySelectorAll("button").length;
find("c-methods").querySelector("button").click();
say("fewer", String(find("c-values").textContent === "" && series > 1));
say("toggled", find("c-methods").querySelector("button").getAttribute("aria-pressed"));
say("canvas", document.querySelectorAll("#c-chart canvas").length);
find("theme").click(); find("theme").click();
say("paper", getComputedStyle(document.body).backgroundColor);
say("copies", document.querySelectorAll(".copy button").length);
say("table", csv([["a", 'b "c"'], [1, "d,e"]]) + markdown([["a|b"], ["c\\nd"]]));
say("current", document.querySelectorAll("#contents [aria-current]").length);
try { marks.read("[]"); say("refused", "no"); } catch { say("refused", "yes"); }
"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a chromium to run the page's script")
def test_the_matrix_works_in_a_browser_and_hostile_text_does_nothing(text, tmp_path):
    path = tmp_path / "report.html"
    policy = re.search(r"script-src '([^']+)'", text).group(1)
    allowed = f"{policy}' '{source(DRIVER)}"
    path.write_text(
        text.replace(policy, allowed).replace("</body>", f"<script>{DRIVER}</script></body>"), encoding="utf-8"
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
               "--disable-background-networking", "--disable-component-update", "--disable-sync",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    body = re.search(r"<body[^>]*>", dom).group(0)
    seen = {name: html.unescape(value) for name, value in re.findall(r'data-(\w+)="([^"]*)"', body)}
    n = {name: int(value.split()[0]) for name, value in seen.items() if re.match(r"\d+ of 60 prompts", value)}
    assert (n["first"], n["starred"], n["none"], seen["rows"]) == (60, 1, 0, "20")
    assert (seen["keys"], seen["star"]) == ("true", "true")
    assert 0 < n["found"] < 60 and int(seen["marks"]) >= n["found"]
    assert 0 < n["disagree"] < 60 and 0 < n["high"] < 60
    assert int(seen["added"]) == int(seen["columns"]) + 1 == 6
    assert int(seen["changes"]) > 0 and seen["more"] == "40" and seen["images"] == "0"
    assert seen["hash"].startswith("#r=") and "start=base" in seen["hash"] and "diff=1" in seen["hash"]
    assert seen["diffs"] == "true"
    least = [["same", "the "], ["del", "cat "], ["ins", "dog "], ["same", "sat"]]
    assert json.loads(seen["least"]) == least
    assert (seen["read"], seen["kept"], seen["refused"]) == ("1", "true", "yes")
    assert seen["values"].startswith("training pairs seen ") and "DPO" in seen["values"]
    assert (seen["fewer"], seen["toggled"], seen["canvas"], seen["current"]) == ("true", "false", "1", "1")
    assert seen["paper"] == "rgb(20, 23, 27)"
    assert int(seen["copies"]) == 2 * text.count("<table>")
    assert seen["table"] == 'a,"b ""c"""\n1,"d,e"\n| a\\|b |\n| --- |\n| c d |\n'
    assert "<title>synthetic · preflab report</title>" in dom


def test_data_recorded_by_file_becomes_a_table():
    data = {
        "source": {"train": "a.jsonl", "test": "b.jsonl"}, "n_rows": {"train": 1200, "test": 30}, "kind": "paired",
        "excluded": {"train": {"empty_response": 2}}, "truncated": {"train": {"chosen": 0, "rejected": 3}},
    }  # fmt: skip
    page = Page(render(StudyTables(study={"data": data, "machine": {"n_cpus": 2, "memory_bytes": 2**34}})))
    assert len(page.find("table")) == 1
    for words in ("a.jsonl 1,200 empty response 2 rejected 3", "2 cores, 16.0 GiB of memory", "2 rows were left out"):
        assert words in page.words


def test_text_that_is_no_unicode_is_replaced(tmp_path):
    assert visible("broken \ud800 surrogate") == "broken ? surrogate"
    path = write_report(StudyTables(study={"name": "a\ud800b"}), tmp_path / "report.html")
    assert "Study <b>a?b</b>" in path.read_text(encoding="utf-8")


def test_a_half_finished_study_says_so_in_the_headline(tiny, no_figures):
    cells = tiny.cells.copy()
    cells.loc[cells["method"] == "ipo", ["status", "selected"]] = ["pending", False]
    page = Page(render(partial(tiny, cells=cells)))
    assert "So far: " in page.words and " so far " in page.words
    assert "2 cells are not trained yet." in page.words


def test_nan_rewards_in_some_responses_do_not_break_the_ranking(small):
    responses = small.responses.copy()
    responses.loc[responses["row"] % 7 == 0, "reward"] = np.nan
    found = summary(partial(small, responses=responses))
    assert {r["n_items"] for r in found["rankings"]} == {25}
