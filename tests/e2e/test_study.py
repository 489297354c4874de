"""The installed command on a tiny random model: plan, run, stop, kill, continue, grow, report."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from tests.tiny import write_tiny_world

from preflab.cli.main import run
from preflab.methods import ALL
from preflab.store.artefacts import write_manifest
from preflab.store.ledger import study_lock

PREFLAB = Path(sys.executable).parent / "preflab"

STUDY = """
study: tiny
models: {{base: {model}, instruct: {model}}}
starts: [base, sft]
methods:
  dpo: {{beta: [0.1, 0.5], learning_rate: 1e-2}}
  kto: {{learning_rate: 1e-2}}
sizes: [12]
seeds: 2
data: {{train: {data}, validation: 6, test: 8, max_tokens: 32}}
sft: {{learning_rate: 1e-2}}
train: {{batch_size: 4, monitor_rows: 4, monitor_points: 3, monitor_prompts: 2, token_budget: 256}}
evaluate: {{n_prompts: 6, max_new_tokens: 6}}
run: {{workers: 2, checkpoint_every_s: 0}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, data = write_tiny_world(folder)
    study = folder / "study.yaml"
    study.write_text(STUDY.format(model=model, data=data))
    return study


def environment(cache):
    return {**os.environ, "PREFLAB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


class Done(NamedTuple):
    stdout: str
    stderr: str


def preflab(*words, cache, check=0):
    """Run a command line in this process: what the installed command does after its imports."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("PREFLAB_CACHE", str(cache))
        code = run([str(word) for word in words])
    assert code == check, out.getvalue() + err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def installed(*words, cache, check=0, cwd=None):
    done = subprocess.run(
        [PREFLAB, *map(str, words)], capture_output=True, text=True, env=environment(cache), timeout=280, cwd=cwd
    )
    assert done.returncode == check, done.stdout + done.stderr
    return done


FILES = {
    "train": ("log", "monitor", "snapshots"),
    "evaluate": ("pairs", "responses", "tokens", "snapshots"),
    "diagnose": ("probes", "samples"),
    "gradients": ("gradients",),
}


def contents(study):
    """Return everything a study measured, without the times."""
    index = json.loads((study / "index.json").read_text())
    tables = {}
    for cell in index["cells"]:
        for stage in ("train", "evaluate", "diagnose", "gradients"):
            cell.pop(f"{stage}_s")
        for stage, names in FILES.items():
            for name in names if cell[stage] else ():
                path = study / cell[stage] / f"{name}.parquet"
                if path.exists():
                    tables[cell["cell"], name] = pd.read_parquet(path)
        if cell["train"]:
            manifest = json.loads((study / cell["train"] / "manifest.json").read_text())
            tables[cell["cell"], "weights"] = {k: v for k, v in manifest["files"].items() if k.endswith(".safetensors")}
    return index["cells"], tables


def assert_same(a, b):
    assert a[0] == b[0]
    assert a[1].keys() == b[1].keys()
    for key, value in a[1].items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, b[1][key], check_exact=True)
        else:
            assert value == b[1][key], key


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    """The uninterrupted run."""
    cache = tmp_path_factory.mktemp("cache")
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = installed("run", world, "--out", out, cache=cache)
    return out, cache, done


def test_a_whole_study_ends_with_the_path_of_its_report(whole):
    out, _, done = whole
    assert done.stdout.strip() == str(out / "report.html")
    html = (out / "report.html").read_text(encoding="utf-8")
    for word in ("DPO", "KTO", "sft", "Content-Security-Policy"):
        assert word in html
    assert not re.search(r"""(src|href)=["']?https?://""", html.replace('href="https://arxiv.org', ""))


def test_every_cell_is_done_and_one_setting_per_group_is_selected(whole):
    cells = pd.DataFrame(json.loads((whole[0] / "index.json").read_text())["cells"])
    trained = cells[cells["method"] != ""]
    assert len(trained) == 2 * (2 + 1) * 2
    assert set(cells["status"]) == {"done"}
    selected = trained[trained["selected"]].groupby(["start", "method", "size"])
    assert (selected["setting"].nunique() == 1).all() and (selected.size() == 2).all()
    assert trained[trained["selected"]]["evaluate"].notna().all()
    assert trained[~trained["selected"]]["evaluate"].isna().all()  # the test split is scored for final cells only


def test_reference_log_probs_are_scored_once_for_all_studies(world, whole, tmp_path):
    """Another beta, learning rate, seed and output folder: zero reference forwards."""
    _, cache, _ = whole
    out = tmp_path / "other"
    changes = ["methods.dpo={beta: 0.9, learning_rate: 3e-3}", "seeds=[7]", "starts=[base]"]
    preflab("run", world, "--out", out, *[w for c in changes for w in ("--set", c)], cache=cache)
    scored = [
        json.loads(p.read_text())["info"]["responses_scored"] for p in out.glob("artefacts/reference/*/manifest.json")
    ]
    assert scored == [0]


def test_running_again_changes_nothing_and_a_grown_grid_costs_only_its_new_cells(world, whole):
    out, cache, _ = whole
    before = {p: p.stat().st_mtime_ns for p in out.glob("artefacts/*/*/manifest.json")}
    preflab("run", world, "--out", out, cache=cache)
    assert {p: p.stat().st_mtime_ns for p in out.glob("artefacts/*/*/manifest.json")} == before
    preflab("run", world, "--out", out, "--set", "methods.simpo={learning_rate: 1e-2}", cache=cache)
    after = {p: p.stat().st_mtime_ns for p in out.glob("artefacts/*/*/manifest.json")}
    assert before.items() <= after.items()
    new = [p.parts[-3] for p in after if p not in before]
    assert sorted(set(new)) == ["diagnose", "evaluate", "train"] and new.count("train") == 2 * 2
    preflab("run", world, "--out", out, cache=cache)  # back to the study of the other tests


def test_a_study_that_is_killed_and_stopped_continues_by_the_same_command_to_the_same_result(world, whole, tmp_path):
    out, _, _ = whole
    stopped, cache = tmp_path / "stopped", tmp_path / "cache"  # the reference stage is stopped and continued too
    stops = ((1, 4, "*", signal.SIGKILL), (2, 10, "*", signal.SIGINT), (3, 3, "diagnose", signal.SIGKILL))
    for runs, n, kind, how in stops:
        with subprocess.Popen(
            [PREFLAB, "run", world, "--out", stopped],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(cache),
            start_new_session=True,
        ) as process:
            wait_for_artefacts(process, stopped, n, runs=runs, kind=kind)
            assert process.poll() is None, "the study ended before it could be stopped"
            process.send_signal(how)  # the parent alone: its workers must follow, or the pipe stays open
            process.communicate(timeout=60)
            assert process.returncode == (-9 if how == signal.SIGKILL else 5)
    preflab("run", world, "--out", stopped, cache=cache)
    assert_same(contents(stopped), contents(out))


def wait_for_artefacts(process, study, n, *, runs=1, kind="*"):
    """Wait until the study has so many artefacts of a kind and ran so often, the last time by this process."""
    deadline, events = time.monotonic() + 120, study / "events.jsonl"
    while process.poll() is None and time.monotonic() < deadline:
        begun = events.read_text().count('"event": "run"') if events.exists() else 0
        if begun >= runs and len(list(study.glob(f"artefacts/{kind}/*/manifest.json"))) >= n:
            return
        time.sleep(0.05)


def test_a_damaged_artefact_is_built_again(world, whole):
    out, cache, _ = whole
    before = contents(out)
    cell = next(c for c in before[0] if c["method"] == "kto")
    path = out / cell["evaluate"] / "responses.parquet"
    whole_bytes = path.read_bytes()
    data = bytearray(whole_bytes)
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    preflab("run", world, "--out", out, cache=cache)
    assert path.read_bytes() == whole_bytes
    assert_same(contents(out), before)


def test_a_study_from_before_unseen_answers_were_followed_still_has_its_report(whole, tmp_path):
    out, cache, _ = whole
    old = shutil.copytree(out, tmp_path / "old")
    for path in old.glob("artefacts/train/*/monitor.parquet"):
        table = pd.read_parquet(path)
        table[[name for name in table if "mismatched" not in name]].to_parquet(path)
        artefact = json.loads((path.parent / "manifest.json").read_text())
        write_manifest(path.parent, artefact["spec"], artefact["info"])
    (old / "report.html").unlink()
    preflab("report", old, cache=cache)
    page = (old / "report.html").read_text()
    assert ">chosen</text>" in page and ">unseen</text>" not in page
    assert ">unseen</text>" in (out / "report.html").read_text()


def test_a_study_from_before_its_cells_were_diagnosed_still_has_its_report(whole, tmp_path):
    out, cache, _ = whole
    old = shutil.copytree(out, tmp_path / "old", ignore=shutil.ignore_patterns("diagnose"))
    index = json.loads((old / "index.json").read_text())
    for cell in index["cells"]:
        for name in ("diagnose", "gradients"):
            del cell[name], cell[f"{name}_s"]
    del index["sha256"]
    (old / "index.json").write_text(json.dumps(index))
    summary = json.loads(preflab("report", old, "--json", cache=cache).stdout)
    assert summary["effects"] == [] and not any("diagnosed" in line for line in summary["missing"])
    assert 'id="effects"' not in (old / "report.html").read_text()
    assert 'id="effects"' in (out / "report.html").read_text()


def test_a_diagnosis_says_what_the_evaluation_measured_and_can_be_had_later(world, whole, tmp_path):
    """With whole weights and with adapters; a study without a diagnosis keeps everything when it gets one."""
    _, cache, _ = whole
    asked = ["diagnose={rows: 7, prompts: 3, gradients: 2}"]
    for name, lora, first in (("whole", "null", ["diagnose=null"]), ("adapters", "{r: 2}", asked)):
        out, before = tmp_path / name, {}
        words = ["methods={dpo: {learning_rate: 1e-2}}", "seeds=1", "starts=[base]", f"train.lora={lora}"]
        for more in (first, asked) if first != asked else (asked,):
            before = {p: p.stat().st_mtime_ns for p in out.glob("artefacts/*/*/manifest.json")}
            preflab("run", world, "--out", out, *[w for word in words + more for w in ("--set", word)], cache=cache)
        after = {p: p.stat().st_mtime_ns for p in out.glob("artefacts/*/*/manifest.json")}
        assert before.items() <= after.items()
        assert not before or {p.parts[-3] for p in after if p not in before} == {"diagnose", "gradients"}
        cells, tables = contents(out)
        for cell in (cell for cell in cells if cell["method"]):
            probes, pairs, samples, responses, gradients = (
                tables[cell["cell"], name] for name in ("probes", "pairs", "samples", "responses", "gradients")
            )
            chosen = probes[probes["role"] == "chosen"].merge(pairs[pairs["split"] == "test"], on="row")
            assert len(chosen) == 7 and len(gradients) == 2
            assert chosen["total"].to_numpy() == pytest.approx(chosen["chosen_total"].to_numpy(), abs=1e-4)
            assert chosen["start_total"].to_numpy() == pytest.approx(chosen["reference_chosen_total"], abs=1e-4)
            answers = samples.merge(responses, on=["row"], suffixes=("", "_evaluated"))
            assert len(answers) == 3 and (answers["text"] == answers["response"]).all()
            assert answers["policy_total"].to_numpy() == pytest.approx(answers["policy_total_evaluated"], abs=1e-4)
            assert answers["kl_k3"].to_numpy() == pytest.approx(answers["kl_k3_evaluated"], abs=1e-3)
            assert (answers["kl_exact"] > 0).all()


def test_a_diagnosis_that_fails_stops_nothing_else(world, whole, tmp_path):
    """The only thing missing is one artefact of an evaluation: its diagnosis fails, the others stand."""
    _, cache, _ = whole
    out = tmp_path / "failing"
    words = ["methods={dpo: {learning_rate: 1e-2}}", "seeds=2", "starts=[base]"]
    words = ["run", world, "--out", out, *[w for word in words for w in ("--set", word)]]
    preflab(*words, "--set", "diagnose=null", cache=cache)
    first = next(cell for cell in contents(out)[0] if cell["method"])
    manifest = out / first["evaluate"] / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["files"]["tokens.parquet"]
    manifest.write_text(json.dumps(document))
    (manifest.parent / "tokens.parquet").unlink()
    done = preflab(*words, cache=cache, check=4)
    assert "tokens.parquet" in done.stderr and "Traceback" not in done.stderr
    cells = [cell for cell in contents(out)[0] if cell["method"]]
    assert [cell["diagnose"] is None for cell in cells] == [cell["cell"] == first["cell"] for cell in cells]
    summary = json.loads(preflab("report", out, "--json", cache=cache).stdout)
    assert "1 cell is not diagnosed." in summary["missing"] and len(summary["effects"][0]["codes"]) == 1


def test_start_points_can_be_added_later(world, whole, tmp_path):
    _, cache, _ = whole
    out = tmp_path / "growing"
    small = ["--set", "methods={kto: {learning_rate: 1e-2}}", "--set", "seeds=1"]
    preflab("run", world, "--out", out, *small, "--set", "starts=[base]", cache=cache)
    preflab("run", world, "--out", out, *small, cache=cache)
    cells = pd.DataFrame(json.loads((out / "index.json").read_text())["cells"])
    assert set(cells["start"]) == {"base", "sft"} and set(cells["status"]) == {"done"}


def test_a_change_of_families_alone_is_evaluated_again(world, whole, tmp_path):
    _, cache, _ = whole
    data = Path(re.search(r"train: (\S+),", world.read_text())[1])
    renamed = tmp_path / "renamed.jsonl"
    renamed.write_text(data.read_text().replace("family0", "riddles"))
    out = tmp_path / "study"
    small = ["--set", "methods={kto: {learning_rate: 1e-2}}", "--set", "seeds=1", "--set", "starts=[base]"]
    preflab("run", world, "--out", out, *small, cache=cache)
    before = {p: p.stat().st_mtime_ns for p in out.glob("artefacts/train/*/manifest.json")}
    preflab("run", world, "--out", out, *small, "--set", f"data.train={renamed}", cache=cache)
    assert {p: p.stat().st_mtime_ns for p in out.glob("artefacts/train/*/manifest.json")} == before  # same tokens
    assert set(contents(out)[1][contents(out)[0][0]["cell"], "pairs"]["family"]) == {"riddles", "family1"}


def rows_of(world):
    lines = Path(re.search(r"train: (\S+),", world.read_text())[1]).read_text().splitlines()
    return [json.loads(line) for line in lines]


def write_unpaired(world, path):
    rows = rows_of(world)
    with path.open("w") as stream:
        for i, row in enumerate(rows):
            side = ("chosen", "rejected")[i % 2]
            stream.write(
                json.dumps({"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}) + "\n"
            )


def test_unpaired_data_feeds_kto_with_a_grid_and_is_refused_for_pairs(world, whole, tmp_path):
    _, cache, _ = whole
    data, out = tmp_path / "unpaired.jsonl", tmp_path / "kto"
    write_unpaired(world, data)
    model = re.search(r"base: ([^,]+),", world.read_text())[1]
    sets = ["data={validation: 8, test: 12}", "train={batch_size: 4}", "evaluate={n_prompts: 4, max_new_tokens: 4}"]
    sets = [w for s in [*sets, f"data.train={data}"] for w in ("--set", s)]
    grid = ["--set", "methods.kto={learning_rate: [1e-3, 1e-2]}"]
    preflab("train", model, data, "--method", "kto", *sets, *grid, "--out", out, cache=cache)
    cells, tables = contents(out)
    assert [c["status"] for c in cells] == ["done"] * 3 and sum(c["selected"] for c in cells) == 2
    pairs = next(t for (cell, name), t in tables.items() if name == "pairs")
    assert pairs[["chosen_total", "rejected_total"]].notna().all(axis=1).sum() >= 3
    (effect,) = json.loads(preflab("report", out, "--json", cache=cache).stdout)["effects"]
    assert effect["changes"]["margin"]["total"]["n"] >= 3 and {"chosen", "rejected", "greedy"} <= set(effect["changes"])
    refused = preflab("train", model, data, "--method", "dpo", *sets, "--out", tmp_path / "x", cache=cache, check=2)
    assert "methods.dpo: needs pairs of responses, but data.train is unpaired" in refused.stderr


def test_what_the_data_give_beside_pairs_reaches_the_methods_that_ask(world, whole, tmp_path):
    """Scores, gold responses, live and moving references, state and mixtures, through the installed command."""
    _, cache, _ = whole
    rows = rows_of(world)
    model = re.search(r"base: ([^,]+),", world.read_text())[1]
    study, data = tmp_path / "study.yaml", tmp_path / "scored.jsonl"

    def write(names, changed):
        data.write_text("".join(json.dumps({**row, **changed(row)}) + "\n" for row in rows))
        methods = ", ".join(f"{name}: {{learning_rate: 1e-3}}" for name in names)
        study.write_text(
            f"study: scored\nmodels: {{base: {model}}}\ndata: {{train: {data}, validation: 8, test: 12}}\n"
            f"methods: {{{methods}}}\ntrain: {{batch_size: 8}}\nevaluate: {{n_prompts: 4, max_new_tokens: 4}}\n"
        )

    write(["odpo"], lambda row: {})
    refused = preflab("run", study, "--out", tmp_path / "x", cache=cache, check=2)
    assert "methods.odpo: needs columns score_chosen and score_rejected" in refused.stderr
    write(["tpo"], lambda row: {})
    refused = preflab("run", study, "--out", tmp_path / "x", cache=cache, check=2)
    assert "methods.tpo: needs a third response for every row, in a column gold" in refused.stderr
    names = ["odpo", "tpo", "tdpo2", "tr_dpo", "wpo", "sampo", "beta_dpo", "mpo", "dpo+sft"]
    write(names, lambda row: {"score_chosen": 2, "score_rejected": 0.5, "gold": row["chosen"]})
    preflab("run", study, "--out", tmp_path / "scored", cache=cache)
    cells, _ = contents(tmp_path / "scored")
    assert {c["method"]: c["status"] for c in cells if c["method"]} == {
        **dict.fromkeys(names[:-1], "done"),
        "dpo_plus_sft": "done",
    }

    def lists(row):
        texts = [row[role][-1]["content"] for role in ("chosen", "rejected")]
        return {"responses": [texts[1], texts[0], texts[0] + " " + texts[1]], "scores": [0, 2, 1]}

    rows = [{"prompt": row["prompt"], **lists(row)} for row in rows]
    write(["rrhf", "nca", "dpo_pl", "dpo"], lambda row: {})
    listed = preflab("run", study, "--out", tmp_path / "listed", cache=cache)
    assert "up to 3 responses: rrhf, nca, dpo_pl see all of them" in " ".join(listed.stderr.split())
    assert all(cell["status"] == "done" for cell in contents(tmp_path / "listed")[0])


@pytest.mark.slow
def test_every_method_runs_as_a_study(world, tmp_path):
    """Pairs with scores and gold responses feed all of them; the report is written."""
    cache = tmp_path / "cache"
    model = re.search(r"base: ([^,]+),", world.read_text())[1]
    study, data = tmp_path / "study.yaml", tmp_path / "pairs.jsonl"
    more = [{"score_chosen": 2, "score_rejected": 0.5, "gold": row["chosen"]} for row in rows_of(world)]
    data.write_text("".join(json.dumps({**row, **m}) + "\n" for row, m in zip(rows_of(world), more, strict=True)))
    methods = ", ".join(f"{method.name}: {{learning_rate: 1e-3}}" for method in ALL)
    study.write_text(
        f"study: all\nmodels: {{base: {model}}}\ndata: {{train: {data}, validation: 8, test: 12}}\n"
        f"methods: {{{methods}}}\ntrain: {{batch_size: 8}}\nevaluate: {{n_prompts: 4, max_new_tokens: 4}}\n"
    )
    preflab("run", study, "--out", tmp_path / "all", cache=cache)
    cells, _ = contents(tmp_path / "all")
    assert {c["method"]: c["status"] for c in cells if c["method"]} == {method.name: "done" for method in ALL}


def test_demonstrations_feed_sft(world, whole, tmp_path):
    _, cache, _ = whole
    data, out = tmp_path / "sft.jsonl", tmp_path / "sft"
    rows = rows_of(world)
    data.write_text("".join(json.dumps({"messages": r["prompt"] + r["chosen"]}) + "\n" for r in rows))
    model = re.search(r"base: ([^,]+),", world.read_text())[1]
    sets = ["train={batch_size: 4}", "evaluate={n_prompts: 4, max_new_tokens: 4}", "data.validation=8", "data.test=12"]
    sets = [w for s in sets for w in ("--set", s)]
    done = preflab("train", model, data, "--method", "sft", *sets, "--out", out, cache=cache)
    assert [c["status"] for c in contents(out)[0]] == ["done", "done"]
    assert "There is no diagnosis: the first 32 test rows do not hold" in " ".join(done.stderr.split())


def test_a_second_run_of_a_running_study_is_refused_and_its_status_is_not(world, whole):
    out, cache, _ = whole
    with study_lock(out):  # what a running study holds
        refused = preflab("run", world, "--out", out, cache=cache, check=75)
        assert f"process {os.getpid()}" in refused.stderr
        status = json.loads(preflab("status", out, "--json", cache=cache).stdout)
    assert status["stages"]["train"] == {"done": 12, "total": 12} and status["seconds_left"] == 0


def test_divergence_is_a_result(world, whole, tmp_path):
    _, cache, _ = whole
    out = tmp_path / "diverging"
    changes = [
        "methods={dpo: {learning_rate: [1e-3, 1e30]}, kto: {learning_rate: 1e30}}",
        "starts=[base]",
        "sizes=12",
        "train.max_grad_norm=0",
        "train.epochs=4",
    ]
    preflab("run", world, "--out", out, *[w for c in changes for w in ("--set", c)], cache=cache)
    cells = pd.DataFrame(json.loads((out / "index.json").read_text())["cells"]).query("method != ''")
    wild = cells["learning_rate"] == 1e30
    assert set(cells[wild]["status"]) == {"diverged"} and cells[wild]["step"].notna().all()
    assert set(cells[~wild]["status"]) == {"done"} and cells[~wild]["selected"].all()
    assert "diverged" in (out / "report.html").read_text(encoding="utf-8")
    summary = json.loads(preflab("report", out, "--json", cache=cache).stdout)
    found = {effect["method"]: effect for effect in summary["effects"]}
    assert found["kto"]["agreement"] == "divergence in 2 of 2 seeds" and len(found["dpo"]["codes"]) == 2


def test_plan_and_report_as_json(world, whole):
    out, cache, _ = whole
    plan = json.loads(preflab("plan", world, "--out", out, "--json", cache=cache).stdout)
    assert plan["cells"] == 12 and all(stage["done"] for stage in plan["stages"])
    assert plan["seconds_left"] == 0
    summary = json.loads(preflab("report", out, "--json", cache=cache).stdout)
    assert summary["schema_version"] == 1


def test_the_method_of_the_docs_goes_through_plan_training_continuing_and_report(world, whole, tmp_path, monkeypatch):
    _, cache, _ = whole
    page = (Path(__file__).parents[2] / "docs/methods.md").read_text(encoding="utf-8")
    code, *_ = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("cut_dpo.py").write_text(code)
    assert "Cut DPO" in preflab("methods", "show", "cut_dpo.py:METHOD", cache=cache).stdout
    settings = "methods={cut_dpo.py:METHOD: {enough: [1.0, 3.0], learning_rate: 1e-2}}"
    words = ["run", world, "--out", "mine", "--set", settings, "--set", "starts=[base]", "--set"]
    assert "4 cells" in preflab("plan", *words[1:2], *words[4:], "sizes=8", cache=cache).stdout
    with subprocess.Popen(
        [PREFLAB, *map(str, words), "sizes=8"],
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        wait_for_artefacts(process, Path("mine"), 4)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    preflab(*words, "sizes=8", cache=cache)
    cells = pd.DataFrame(json.loads(Path("mine/index.json").read_text())["cells"]).query("method != ''")
    assert set(cells["method"]) == {"cut_dpo"} and set(cells["status"]) == {"done"} and len(cells) == 4
    assert "DPO up to a margin" in Path("mine/report.html").read_text(encoding="utf-8")
    train = ["train", *re.search(r"base: ([^,]+),.*train: ([^,]+),", world.read_text(), re.DOTALL).groups()]
    refused = preflab(*train, "--method", "cut_dpo.py:METHOD", "--out", "one", cache=cache, check=2)
    assert "methods.cut_dpo: learning_rate is missing; this method publishes none" in refused.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["methods.dpo.beta=0"], ["methods.dpo.beta: must be in (0, inf); got 0"]),
        (["methods.dpoo={}"], ["'dpoo': unknown", "Did you mean 'dpo'"]),
        (["methods.dpo.betta=1"], ["methods.dpo.betta: unknown", "beta"]),
        (["sizes=4000"], ["4000 rows asked for", "after splits and exclusions"]),
        (["train.epochs=0"], ["train.epochs: input should be greater than or equal to 1; got 0"]),
        (["models.base=nowhere/else"], ["nowhere/else: no such folder"]),
        (["evaluate.reward=gold"], ["unknown reward 'gold'", "pocket"]),
        (["seeds=[1, 1]"], ["repeats a value"]),
        (["starts=[base, stf]"], ["starts.1"]),
        (["data.validation=0"], ["data.validation"]),
        (["data.max_tokens=100000"], ["its context has", "lower data.max_tokens"]),
    ],
)
def test_an_invalid_study_is_refused_with_one_sentence(world, whole, tmp_path, changes, words):
    sets = [w for c in changes for w in ("--set", c)]
    done = preflab("plan", world, "--out", tmp_path / "x", *sets, cache=whole[1], check=2)
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_bad_rows_stop_before_training_and_say_what_to_declare(world, whole, tmp_path):
    data = Path(re.search(r"train: (\S+),", world.read_text())[1])
    bad = tmp_path / "bad.jsonl"
    rows = data.read_text().splitlines()
    rows[4] = json.dumps({**json.loads(rows[4]), "chosen": [{"role": "assistant", "content": ""}]})
    bad.write_text("\n".join(rows) + "\n")
    done = preflab("run", world, "--out", tmp_path / "x", "--set", f"data.train={bad}", cache=whole[1], check=3)
    assert "exclude: [empty_response]" in done.stderr and "5" in done.stderr
    sets = ["--set", f"data.train={bad}", "--set", "data.exclude=[empty_response]"]
    plan = json.loads(preflab("plan", world, "--out", tmp_path / "x", *sets, "--json", cache=whole[1]).stdout)
    assert plan["data"]["excluded"] == {"empty_response": 1}
