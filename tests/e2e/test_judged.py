"""`preflab judge --study`: the answers that a study sampled before a judge, and its report afterwards."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from tests.e2e.test_study import preflab
from tests.evals.judges.stub import Stub, says, shown_to
from tests.tiny import write_tiny_world

from preflab.evals.judges.controls import INJECTION, NULL
from preflab.stats.intervals import crossed_interval
from preflab.store.artefacts import verify
from preflab.store.ledger import study_lock

STUDY = """
study: tiny
models: {{base: {model}}}
starts: [base, sft]
methods:
  dpo: {{learning_rate: 1e-2}}
sizes: [12]
seeds: 2
data: {{train: {data}, validation: 6, test: 12, max_tokens: 32}}
sft: {{learning_rate: 1e-2, seeds: per_seed}}
train: {{batch_size: 4, monitor_rows: 4, monitor_points: 2, token_budget: 256}}
evaluate: {{n_prompts: 10, max_new_tokens: 6}}
diagnose: null
run: {{workers: 1}}
"""
LABELS = {"preference": ("Model m:", "Model M:"), "five-way": ("Assistant A:", "Assistant B:")}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, data = write_tiny_world(folder)
    (folder / "study.yaml").write_text(STUDY.format(model=model, data=data))
    preflab("run", folder / "study.yaml", "--out", folder / "tiny", cache=folder)
    return folder / "tiny"


@pytest.fixture
def study(ran, tmp_path):
    return shutil.copytree(ran, tmp_path / "tiny")


def preference_of(ours, theirs):
    """What the stub thinks of the answer shown first: an even digit of its length is better than an odd one."""
    better = (len(ours.strip()) % 2 == 0) - (len(theirs.strip()) % 2 == 0)
    return 0.5 + 0.4 * better


def behave(body, number):
    shown = shown_to(body)
    name = "preference" if "Model m:" in shown else "five-way"
    first, second = LABELS[name]
    blocks = [shown.split(first)[1].split(second)[0], shown.split(second)[1]]
    # The text between the tags.
    a, b = (block.split(">\n", 1)[1].rsplit("\n</", 1)[0] for block in blocks)
    p = preference_of(a, b)
    if name == "five-way":
        return says(f"[[{'A>B' if p > 0.5 else 'B>A' if p < 0.5 else 'A=B'}]]")
    return says("m", first_token={"m": np.log(p), "M": np.log(1 - p)})


def judge(study, *words, stub, protocol="preference", check=0):
    place = ("--study", study, "--server", stub.url, "--model", "stub")
    return preflab("judge", protocol, *place, *words, cache=study.parent / "cache", check=check)


def answers(study, cell):
    entry = next(each for each in json.loads((study / "index.json").read_text())["cells"] if each["cell"] == cell)
    table = pd.read_parquet(study / entry["evaluate"] / "responses.parquet")
    return table[table["split"] == "test"].set_index("row")["response"]


def test_every_method_against_its_own_start_point_with_seeds_pooled(study):
    cells = {each["cell"]: each for each in json.loads((study / "index.json").read_text())["cells"]}
    with Stub(behave) as stub:
        found = json.loads(judge(study, "--json", stub=stub).stdout)["results"]
    assert [each["study"]["start"] for each in found] == ["base", "sft"]
    for each in found:
        verify(study.parent / each["folder"])
        start, contenders = each["study"]["start"], each["study"]["contenders"]
        assert list(contenders) == ["dpo, seed 0", "dpo, seed 1"]
        rates = {}
        for model in each["models"]:
            cell, before = contenders[model["contender"]]["answers"]
            # A cell of the SFT start with seed k was trained from the SFT model with seed k.
            assert before == ("start-base" if start == "base" else f"start-sft-{cells[cell]['seed']}")
            both = zip(answers(study, cell), answers(study, before), strict=True)
            rates[model["contender"]] = np.array([preference_of(ours, theirs) for ours, theirs in both])
            assert model["win_rate"]["estimate"] == pytest.approx(rates[model["contender"]].mean())
            assert model["first_rate"]["estimate"] == pytest.approx(0.5)
        (pooled,) = each["pooled"]
        expected = crossed_interval(list(rates.values()))
        assert (pooled["contender"], pooled["n"], pooled["n_judged"]) == ("dpo", 20, 20)
        for name in ("estimate", "low", "high", "kind"):
            assert pooled["win_rate"][name] == pytest.approx(getattr(expected, name))
        assert expected.kind == "items+seeds"
        assert [each["contender"] for each in each["controls"]] == [NULL, INJECTION]


def test_the_report_shows_them_and_forgets_those_of_other_answers(study):
    def shown(check=0):
        preflab("report", study, cache=study.parent, check=check)
        return (study / "report.html").read_text().split('<section id="judged"')[1].split("</section>")[0]

    assert 'id="judged"' not in (study / "report.html").read_text()
    with Stub(behave) as stub:
        judge(study, stub=stub)
        judge(study, stub=stub, protocol="five-way")
    page = shown()
    assert page.count("<table>") == 4
    titles = ["From base, 10 test prompts, by stub (five-way)", "From sft, 10 test prompts, by stub (preference)"]
    for words in (*titles, "DPO", "Length-adjusted", "First shown", NULL, "20 of 20", "answered as stub-1"):
        assert words in page
    index = json.loads((study / "index.json").read_text())
    next(each for each in index["cells"] if each["cell"] == "start-base")["evaluate"] = "artefacts/evaluate/other"
    (study / "index.json").write_text(json.dumps(index))
    page = shown(check=3)  # the other answers are not there, and the index was changed by hand
    assert page.count("<table>") == 2 and page.count("has other answers since these were judged") == 2


def test_calls_without_verdict_leave_the_pool_and_are_counted(study):
    def unsteady(body, number):
        return says("I'm sorry, I cannot say.") if number == 3 else behave(body, number)

    with Stub(unsteady) as stub:
        found = json.loads(judge(study, "--json", "--concurrency", "1", stub=stub).stdout)["results"]
    pooled = found[0]["pooled"][0]
    assert pooled["failures"] == {"no_logprobs": 1}
    assert (pooled["n"], pooled["n_judged"]) == (20, 18)
    assert [each["n_judged"] for each in found[0]["models"][:2]] == [9, 10]


def test_the_cap_holds_over_start_points_and_the_next_run_continues(study):
    with Stub(behave) as stub:
        whole = json.loads(judge(study, "--preview", "--json", stub=stub).stdout)["requests"]["to_send"]
        assert stub.seen == [] and not (study / "judged").exists()
        judge(study, "--max-requests", whole - 1, stub=stub, check=5)
        assert len(stub.seen) == whole - 1
        # The first start point was done.
        assert len(json.loads((study / "judged/index.json").read_text())) == 1
        judge(study, stub=stub)
        assert len(stub.seen) == whole
        before = (study / "judged/index.json").read_bytes()
        judge(study, stub=stub)
        assert len(stub.seen) == whole and (study / "judged/index.json").read_bytes() == before


def test_what_cannot_be_is_one_sentence(study, tmp_path):
    with Stub(behave) as stub:
        assert (
            "no finished cell with answers to ood prompts" in judge(study, "--split", "ood", stub=stub, check=2).stderr
        )
        assert "leave files, --baseline and --out" in judge(study, "x.jsonl", stub=stub, check=2).stderr
        assert "no study here" in judge(tmp_path / "none", stub=stub, check=2).stderr
        with study_lock(study / "judged"):
            judge(study, stub=stub, check=75)
            judge(study, "--preview", stub=stub)
        place = ("--server", stub.url, "--model", "stub")
        assert "or a --study" in preflab("judge", "preference", "x.jsonl", *place, cache=tmp_path, check=2).stderr
        judge(study, stub=stub)
        (study / "judged/index.json").write_text("{")
        assert "index.json: is not whole JSON" in preflab("report", study, cache=tmp_path, check=3).stderr
        judge(study, stub=stub, check=3)
