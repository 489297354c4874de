"""`preflab.train`: one model from Python, also in a script that guards nothing, with rows that are in memory."""

import json
import subprocess
import sys

import pytest
import torch
from tests.e2e.test_study import environment
from tests.tiny import write_tiny_world
from transformers import AutoModelForCausalLM

import preflab
from preflab.core.errors import ConfigError, DataError

SETTINGS = {
    "data.validation": 6, "data.test": 8, "data.max_tokens": 32, "train.batch_size": 4, "train.monitor_rows": 4,
    "train.token_budget": 256, "evaluate.n_prompts": 6, "evaluate.max_new_tokens": 6, "run.workers": 1,
}  # fmt: skip

SCRIPT = """
import json
import preflab, sys
from pathlib import Path
assert "torch" not in sys.modules
print("script runs")
rows = [json.loads(line) for line in Path({data!r}).read_text().splitlines()]
trained = preflab.train({model!r}, rows, method="ipo", learning_rate=1e-2, tau=0.5, set={settings!r})
print(trained.metrics.to_json(orient="records"))
print(trained.save("saved"))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_tiny_world(tmp_path_factory.mktemp("world"))


def test_a_script_without_a_guard_trains_once_and_the_same_call_again_reads_what_is_there(world, tmp_path, monkeypatch):
    model, data = map(str, world)
    (tmp_path / "script.py").write_text(SCRIPT.format(model=model, data=data, settings=SETTINGS))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path, env=environment(tmp_path / "cache"), capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, metrics, saved = done.stdout.splitlines()
    assert said == "script runs"
    assert {row["split"] for row in json.loads(metrics)} == {"test"}
    assert all(row["score_low"] <= row["score"] <= row["score_high"] for row in json.loads(metrics))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "cache"))
    rows = [json.loads(line) for line in world[1].read_text().splitlines()]
    before = sorted(tmp_path.glob("runs/*/artefacts/train/*"))
    again = preflab.train(model, rows, method="ipo", learning_rate=1e-2, tau=0.5, set=SETTINGS)
    assert len(before) == 1 and sorted(tmp_path.glob("runs/*/artefacts/train/*")) == before
    hyperparameters = again.study.cells.set_index("method").loc["ipo", "hyperparameters"]
    assert hyperparameters["tau"] == 0.5
    ids = torch.tensor([[5, 6, 7]])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / saved)
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, again.model(ids).logits)
    assert again.tokenizer.chat_template and again.report().exists()


def test_what_cannot_be_meant_is_refused_before_the_work(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "cache"))
    model, data = map(str, world)
    with pytest.raises(ConfigError, match=r"preflab\.train\(\).*bata"):
        preflab.train(model, data, bata=0.1)
    with pytest.raises(ConfigError, match="are 2 trainings"):
        preflab.train(model, data, beta=[0.1, 0.2], set=SETTINGS)
    with pytest.raises(ConfigError, match="save_pretrained"):
        preflab.train(torch.nn.Linear(1, 1), data)
    with pytest.raises(DataError, match="element 1 is str"):
        preflab.train(model, {"train": []})
    with pytest.raises(DataError, match="cannot be written as JSON"):
        preflab.train(model, [{"prompt": object()}])
    assert not list(tmp_path.glob("runs/*/artefacts/train"))
