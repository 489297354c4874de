"""`preflab diagnose` as a user calls it: models, adapters, folders over time; a page; errors in a sentence."""

import json
import re
import shutil

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.e2e.test_study import preflab
from tests.tiny import write_tiny_world
from transformers import AutoModelForCausalLM, AutoTokenizer


def moved(model, folder, amount):
    """Save a model whose weights were moved at random."""
    changed = AutoModelForCausalLM.from_pretrained(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += amount * torch.randn_like(parameter)
    changed.save_pretrained(folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnose")
    model, data = write_tiny_world(folder)
    moved(model, folder / "run" / "checkpoint-9", 0.01)
    moved(model, folder / "run" / "checkpoint-100", 0.1)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "run" / "checkpoint-100")
    adapter = get_peft_model(
        AutoModelForCausalLM.from_pretrained(model),
        LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False),
    )
    adapter.save_pretrained(folder / "adapter")
    return folder, model, data


def test_models_adapters_and_checkpoints_over_time_on_one_page(world, tmp_path):
    folder, model, data = world
    out = tmp_path / "out"
    words = ["diagnose", model, folder / "run", folder / "adapter", "--data", data, "--rows", "20", "--prompts", "6",
             "--gradients", "2", "--out", out]  # fmt: skip
    done = preflab(*words, "--json", cache=tmp_path)
    found = json.loads(done.stdout)
    assert [each["checkpoint"] for each in found["diagnoses"]] == ["checkpoint-9", "checkpoint-100", "adapter"]
    page = (out / "diagnosis.html").read_text()
    assert "default-src 'none'" in page and "<script" not in page and not re.search(r"https?://(?!www\.w3\.org)", page)
    index = json.loads((out / "diagnosis.json").read_text())
    probes = pd.read_parquet(out / index["checkpoints"][0]["artefact"] / "probes.parquet")
    assert set(probes["role"]) == {"chosen", "rejected", "mismatched", "greedy", "sampled", "shuffled", "repeated"}
    assert (probes["role"] == "chosen").sum() == 20

    # A line added to the file moves no result to another row.
    longer = tmp_path / "longer.jsonl"
    longer.write_text("\n" + data.read_text())
    same = json.loads(preflab(*[longer if word == data else word for word in words], "--json", cache=tmp_path).stdout)
    assert [each["code"] for each in same["diagnoses"]] == [each["code"] for each in found["diagnoses"]]

    before = {path: path.stat().st_mtime_ns for path in out.glob("artefacts/*/*/manifest.json")}
    again = preflab(*words, cache=tmp_path)
    assert "scoring" not in again.stderr and "try:" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_broken_checkpoint_and_a_padded_vocabulary_do_not_stop_the_others(world, tmp_path):
    folder, model, data = world
    broken = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    broken.save_pretrained(tmp_path / "broken")
    padded = AutoModelForCausalLM.from_pretrained(folder / "run" / "checkpoint-9")
    padded.resize_token_embeddings(64)
    padded.save_pretrained(tmp_path / "padded")
    models = [tmp_path / "broken", tmp_path / "padded", folder / "run" / "checkpoint-9"]
    done = preflab("diagnose", model, *models, "--data", data, "--rows", "12", "--prompts", "4", "--gradients", "1",
                   "--out", tmp_path / "out", "--json", cache=tmp_path)  # fmt: skip
    first, second, third = json.loads(done.stdout)["diagnoses"]
    assert first["code"] == "broken" and first["remedies"]
    assert second["headline"] == third["headline"]
    assert "broken" in (tmp_path / "out" / "diagnosis.html").read_text()


def test_gradients_without_memory_cost_nothing_else_of_a_checkpoint(world, tmp_path, monkeypatch):
    folder, model, data = world
    words = ["diagnose", model, folder / "run" / "checkpoint-9", "--data", data, "--rows", "8", "--prompts", "2"]
    words += ["--out", tmp_path / "out"]

    def no_memory(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    with monkeypatch.context() as patch:
        patch.setattr("preflab.studies.diagnosis.gradient_records", no_memory)
        done = preflab(*words, "--json", cache=tmp_path)
    assert done.stderr.count("not enough memory for gradients") == 2  # the start point's too
    (found,) = json.loads(done.stdout)["diagnoses"]
    assert found["code"] != "broken" and not any("Gradients" in line for line in found["evidence"])
    assert "There was not enough memory for its gradients." in (tmp_path / "out" / "diagnosis.html").read_text()
    again = preflab(*words, "--json", cache=tmp_path)
    assert "scoring" not in again.stderr and "gradients of 8 pairs" in again.stderr
    assert any("Gradients" in line for line in json.loads(again.stdout)["diagnoses"][0]["evidence"])


def test_a_held_out_split_of_a_folder_is_chosen_by_name(world, tmp_path):
    folder, model, data = world
    rows, split = data.read_text().splitlines(), tmp_path / "data"
    split.mkdir()
    (split / "train.jsonl").write_text("\n".join(rows[:40]) + "\n")
    (split / "test.jsonl").write_text("\n".join(rows[40:]) + "\n")
    words = ["diagnose", model, folder / "adapter", "--prompts", "2", "--gradients", "0", "--rows", "60"]
    for name, chosen in (("train", rows[:40]), ("test", rows[40:])):
        preflab(*words, "--data", split, "--split", name, "--out", tmp_path / name, cache=tmp_path)
        index = json.loads((tmp_path / name / "diagnosis.json").read_text())
        prompts = {json.loads(row)["prompt"][0]["content"] for row in chosen}
        assert {row["prompt"].removeprefix("User: ") for row in index["rows"]} == prompts
    wrong = preflab(*words, "--data", data, "--split", "test", "--out", tmp_path / "x", cache=tmp_path, check=2)
    assert "pairs.jsonl is one file, which has no splits" in wrong.stderr
    missing = preflab(
        *words, "--data", split, "--split", "validation", "--out", tmp_path / "x", cache=tmp_path, check=3
    )
    assert "validation" in missing.stderr and "Traceback" not in missing.stderr


def test_an_adapter_of_unknown_base_and_another_template_are_said(world, tmp_path):
    folder, model, data = world
    adapter = tmp_path / "adapter"
    shutil.copytree(folder / "adapter", adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(adapter)
    preflab("diagnose", model, adapter, "--data", data, "--rows", "8", "--prompts", "2", "--gradients", "0", "--out",
            tmp_path / "out", cache=tmp_path)  # fmt: skip
    page = (tmp_path / "out" / "diagnosis.html").read_text()
    assert "does not say which base it is for" in page and "brings another chat template" in page


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ("twice", 2, "named twice"),
        ("pickled", 2, "pickled weights are not loaded"),
        ("rows", 3, "--exclude empty_response"),
        ("vocabulary", 2, "its vocabulary differs from the start point's"),
        ("base", 2, "an adapter for"),
        ("empty", 2, "no checkpoint here"),
        ("missing", 2, "no such folder"),
        ("prompt", 3, "a diagnosis needs at least two prompts"),
        ("sft", 3, "a diagnosis needs pairs"),
        ("none", 2, "name at least one model"),
        ("context", 2, "lower --max-tokens or --max-new-tokens"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(world, tmp_path, wrong, code, said):
    folder, model, data = world
    checkpoint, rows = folder / "run" / "checkpoint-9", data.read_text().splitlines()
    if wrong == "vocabulary":
        checkpoint = tmp_path / "other"
        moved(model, checkpoint, 0.1)
        tokenizer = AutoTokenizer.from_pretrained(model)
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        words = backend["model"]["vocab"]
        words["word0"], words["word1"] = words["word1"], words["word0"]
        tokenizer.save_pretrained(checkpoint)
        (checkpoint / "tokenizer.json").write_text(json.dumps(backend))
    elif wrong == "base":
        checkpoint = tmp_path / "adapter"
        moved(model, tmp_path / "another", 0.1)
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "another")
        get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(checkpoint)
    elif wrong == "pickled":
        checkpoint = tmp_path / "pickled"
        checkpoint.mkdir()
        shutil.copy(folder / "adapter" / "adapter_config.json", checkpoint)
        torch.save({}, checkpoint / "adapter_model.bin")
    elif wrong == "rows":
        rows[0] = json.dumps({**json.loads(rows[0]), "chosen": [{"role": "assistant", "content": ""}]})
    elif wrong == "empty":
        checkpoint = tmp_path / "empty"
        checkpoint.mkdir()
    elif wrong == "missing":
        checkpoint = tmp_path / "missing"
    elif wrong == "prompt":
        rows = rows[:1]
    elif wrong == "sft":
        rows = [
            json.dumps({key: json.loads(row)[key] for key in ("prompt", "chosen")} | {"rejected": None}) for row in rows
        ]
        rows = [row.replace('"chosen"', '"completion"').replace(', "rejected": null', "") for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows) + "\n")
    options = ["--max-new-tokens", 10**6] if wrong == "context" else []
    models = [] if wrong == "none" else [checkpoint] * (2 if wrong == "twice" else 1)
    done = preflab("diagnose", model, *models, "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "out",
                   *options, cache=tmp_path, check=code)  # fmt: skip
    assert said in done.stderr and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "diagnosis.json").exists()
