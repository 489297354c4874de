"""`preflab eval` and `preflab compare` as a user calls them: any model, tables, a page, and errors in a sentence."""

import json
import os
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from peft import LoraConfig, get_peft_model
from tests.e2e.test_diagnose import moved
from tests.e2e.test_study import preflab
from tests.tiny import write_tiny_world
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = ("piqa", "boolq", "gsm8k")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    model, _ = write_tiny_world(folder)
    moved(model, folder / "tuned", 0.1)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "tuned")
    moved(model, folder / "bare", 0.1)
    adapter = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
    )
    adapter.save_pretrained(folder / "adapter")
    data = folder / "data"
    data.mkdir()
    rows = {
        "piqa_validation.jsonl": [
            {"goal": f"w{i}", "sol1": f"w{i + 1}", "sol2": "w3", "label": i % 2} for i in range(12)
        ],
        "boolq_validation.jsonl": [
            {"question": f"w{i}", "passage": f"w{i // 2} w5", "answer": i % 3 == 0} for i in range(10)
        ],
        "gsm8k_test.jsonl": [{"question": f"w{i}", "answer": f"w1 #### {i}"} for i in range(8)],
    }
    for name, found in rows.items():
        (data / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    return folder, model, data


def words(world, *models, names=NAMES, out):
    return [*models, "--benchmarks", *names, "--data-dir", world[2], "--out", out, "--batch-size", "3"]


def test_models_from_anywhere_on_one_page_and_nothing_is_scored_twice(world, tmp_path):
    folder, model, _ = world
    out = tmp_path / "out"
    arguments = words(world, model, folder / "tuned", folder / "adapter", names=(*NAMES, "mmlu"), out=out)
    done = preflab("eval", *arguments, "--json", cache=tmp_path)
    found = json.loads(done.stdout)
    assert "mmlu: mmlu_test.jsonl not in" in found["missing"][0] and "--import hub" in found["missing"][0]
    scores = pd.DataFrame(found["scores"])
    assert set(scores["benchmark"]) == set(NAMES) and scores["model"].nunique() == 3
    assert ((scores["low"] <= scores["estimate"]) & (scores["estimate"] <= scores["high"])).all()
    assert set(scores[scores["benchmark"] == "boolq"]["interval"]) == {"clusters"}  # two questions to each passage
    differences = pd.DataFrame(found["differences"])
    assert len(differences) == 6 and (differences["p_holm"] >= differences["p"]).all()
    page = (out / "benchmarks.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and not re.search(r"https?://(?!www\.w3\.org)", page)
    assert (out / "scores.csv").exists() and (out / "differences.csv").exists()

    again = preflab("eval", *arguments, cache=tmp_path)
    assert "loading" not in again.stderr
    assert "PIQA, acc_norm" in again.stdout and "not told apart" in again.stdout


def test_results_of_two_evaluations_are_compared_and_other_keys_refused(world, tmp_path):
    folder, model, data = world
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    preflab("eval", *words(world, model, names=("piqa",), out=first), cache=tmp_path)
    preflab("eval", *words(world, folder / "tuned", names=("piqa",), out=second), cache=tmp_path)
    both = preflab("compare", first, second, "--out", tmp_path / "both", "--json", cache=tmp_path)
    (row,) = json.loads(both.stdout)["differences"]
    assert row["won"] + row["lost"] <= 12 and row["test"] == "McNemar"

    other = folder / "other"
    shutil.copytree(data, other, dirs_exist_ok=True)
    lines = (other / "piqa_validation.jsonl").read_text().splitlines()
    (other / "piqa_validation.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    preflab("eval", *words((folder, model, other), model, names=("piqa",), out=third), cache=tmp_path)
    refused = preflab("compare", first, third, "--out", tmp_path / "x", cache=tmp_path, check=2)
    assert "differ in the items and the text of the prompts" in refused.stderr


def test_bad_input_is_one_sentence(world, tmp_path):
    folder, model, data = world

    def said(*arguments, code=2):
        done = preflab(*arguments, "--out", tmp_path / "out", cache=tmp_path, check=code)
        lines = done.stderr.strip().splitlines()
        assert len([line for line in lines if line.startswith("error:")]) == 1 and "Traceback" not in done.stderr
        return lines[-1]

    assert "name a model" in said("eval")
    assert "two models or more" in said("compare", model)
    assert "no such folder" in said("eval", model, "--data-dir", tmp_path / "none")
    assert "no such benchmark" in said("eval", model, "--data-dir", data, "--benchmarks", "pika")
    assert "no benchmark is at hand" in said("eval", model, "--data-dir", data, "--benchmarks", "mmlu")
    assert "none of the models" in said("eval", model, "--data-dir", data, "--allow-remote-code", "x")
    assert "no such folder" in said("eval", tmp_path / "nothing", "--data-dir", data)

    assert "no tokenizer" in said("eval", folder / "bare", "--data-dir", data)

    pickled = tmp_path / "pickled"
    shutil.copytree(model, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "Pickled weights are not loaded" in said("eval", pickled, "--data-dir", data, "--benchmarks", "piqa")

    remote = tmp_path / "remote"
    shutil.copytree(model, remote)
    config = json.loads((remote / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "own.Config"}, "model_type": "own"}
    (remote / "config.json").write_text(json.dumps(config))
    (remote / "own.py").write_text("raise RuntimeError('ran')")
    line = said("eval", remote, "--data-dir", data, "--benchmarks", "piqa")
    assert "--allow-remote-code" in line


@pytest.mark.skipif(os.name != "posix", reason="the command is killed by a signal")
def test_benchmarks_of_a_study(world, tmp_path):
    folder, model, data = world
    pairs = folder / "pairs.jsonl"
    study = tmp_path / "study.yaml"
    study.write_text(f"""
study: s
models: {{base: {model}}}
methods: {{dpo: {{beta: 0.1, learning_rate: 0.01}}}}
seeds: 2
data: {{train: {pairs}, validation: 4, test: 8}}
train: {{batch_size: 8, monitor_points: 2}}
evaluate: {{n_prompts: 4, max_new_tokens: 4, benchmarks: {{names: [piqa, gsm8k, hellaswag], data_dir: {data}}}}}
diagnose: null
run: {{workers: 1}}
""")
    out = tmp_path / "run"
    done = preflab("run", study, "--out", out, cache=tmp_path)
    assert "Not run: hellaswag" in done.stderr + done.stdout
    index = json.loads((out / "index.json").read_text())
    for cell in index["cells"]:
        assert set(cell["benchmarks"]) == {"piqa", "gsm8k"}
        table = pd.read_parquet(out / cell["benchmarks"]["piqa"] / "items.parquet")
        assert len(table) == 12 and table["acc_norm"].isin([0.0, 1.0]).all()
    page = Path(out / "report.html").read_text()
    assert "Benchmarks won and lost" in page and "PIQA" in page
