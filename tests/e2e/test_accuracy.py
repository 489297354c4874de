"""`preflab data accuracy`: rewards, reward models and implicit rewards on pairs, and errors in a sentence."""

import json
import re

import pytest
import torch
from tests.e2e.test_diagnose import moved
from tests.e2e.test_study import preflab
from tests.tiny import write_tiny_world
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from preflab.data.read import read
from preflab.data.tokens import TokenSettings, tokenize
from preflab.models.load import load_model, load_tokenizer
from preflab.scoring.logps import separate_logps


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("accuracy")
    model, data = write_tiny_world(folder, n=12)
    moved(model, folder / "tuned", 0.1)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "tuned")
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(model, num_labels=1)
    LlamaForSequenceClassification(config).save_pretrained(folder / "judge")
    AutoTokenizer.from_pretrained(model).save_pretrained(folder / "judge")
    return folder, model, data


def test_every_kind_of_scorer_by_subset(world, tmp_path):
    folder, model, data = world
    reward = tmp_path / "own.py"
    reward.write_text("def short(prompt, response, meta):\n    return {'reward': -float(len(response))}\n")
    done = preflab(
        "data", "accuracy", data, f"{reward}:short", folder / "judge", folder / "tuned", "--reference", model, "--json",
        cache=tmp_path,
    )  # fmt: skip
    found = {each["scorer"]: each for each in json.loads(done.stdout)}
    tuned = str(folder / "tuned")
    assert list(found) == [f"{reward}:short", str(folder / "judge"), f"{tuned}, implicit reward",
                           f"{tuned}, implicit reward per token", f"{tuned}, log-prob per token"]  # fmt: skip
    assert {s["subset"] for s in found[f"{reward}:short"]["subsets"]} == {"family0", "family1"}

    examples = read(str(data), split="train").examples
    right = [len(e.chosen) < len(e.rejected) or 0.5 * (len(e.chosen) == len(e.rejected)) for e in examples]
    for subset in found[f"{reward}:short"]["subsets"]:
        own = [float(r) for r, e in zip(right, examples, strict=True) if e.family == subset["subset"]]
        assert subset["accuracy"]["estimate"] == pytest.approx(sum(own) / len(own))

    tokenizer = load_tokenizer(model)
    rows = tokenize(examples, tokenizer, TokenSettings("auto", 2048, 1536)).rows
    models = [load_model(place, dtype="float32", device="cpu") for place in (folder / "tuned", model)]
    gains = [
        [float((separate_logps(models[0], r.prompt, r.responses[role])
                - separate_logps(models[1], r.prompt, r.responses[role])).sum()) for role in ("chosen", "rejected")]
        for r in rows
    ]  # fmt: skip
    share = sum(chosen > rejected for chosen, rejected in gains) / len(gains)
    subsets = found[f"{tuned}, implicit reward"]["subsets"]
    assert sum(s["accuracy"]["estimate"] * s["pairs"] for s in subsets) / len(rows) == pytest.approx(share)

    shown = preflab("data", "accuracy", data, folder / "judge", cache=tmp_path).stdout
    assert re.search(r"family0 +6 +0", shown) and "mean of subsets" in shown


def test_bad_input(world, tmp_path):
    _, model, data = world
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "w1", "completion": "w2"}\n{"prompt": "w2", "completion": "w3"}\n')
    for words, code, said in [
        (("data", "accuracy", data), 2, "name at least one scorer"),
        (("data", "accuracy", prompts, model), 3, "needs pairs"),
        (("data", "accuracy", data, "nothing"), 2, "nothing"),
    ]:
        done = preflab(*words, cache=tmp_path, check=code)
        assert said in done.stderr and "Traceback" not in done.stderr
