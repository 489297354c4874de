"""`preflab diagnose` as a user calls it: models, adapters, folders over time; a page; errors in a sentence."""

import json
import re

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
    assert len(probes) == 20 * 7

    before = {path: path.stat().st_mtime_ns for path in out.glob("artefacts/*/*/manifest.json")}
    again = preflab(*words, cache=tmp_path)
    assert "scoring" not in again.stderr and "try:" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ("vocabulary", 2, "its vocabulary differs from the start point's"),
        ("base", 2, "an adapter for"),
        ("empty", 2, "no checkpoint here"),
        ("missing", 2, "no such folder"),
        ("prompt", 3, "a diagnosis needs at least two prompts"),
        ("sft", 3, "a diagnosis needs pairs"),
        ("none", 2, "name at least one model"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(world, tmp_path, wrong, code, said):
    folder, model, data = world
    checkpoint, rows = folder / "run" / "checkpoint-9", data.read_text().splitlines()
    if wrong == "vocabulary":
        checkpoint = tmp_path / "other"
        moved(model, checkpoint, 0.1)
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.add_tokens(["new"])
        tokenizer.save_pretrained(checkpoint)
    elif wrong == "base":
        checkpoint = tmp_path / "adapter"
        moved(model, tmp_path / "another", 0.1)
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "another")
        get_peft_model(base, LoraConfig(r=2, target_modules="all-linear")).save_pretrained(checkpoint)
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
    models = [] if wrong == "none" else [checkpoint]
    done = preflab("diagnose", model, *models, "--data", tmp_path / "rows.jsonl", "--out", tmp_path / "out",
                   cache=tmp_path, check=code)  # fmt: skip
    assert said in done.stderr and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "diagnosis.json").exists()
