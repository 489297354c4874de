"""Answers on the way through a training are those of the model as it was then."""

import json

import pandas as pd
import pytest
from tests.tiny import write_tiny_world

from preflab.cli.main import run

STUDY = """
study: watched
models: {{base: {model}}}
methods:
  dpo: {{learning_rate: 1e-2}}
  rloo: {{learning_rate: 1e-2}}
sizes: [8, 16]
seeds: [3, 1]
data: {{train: {data}, validation: 6, test: 8, max_tokens: 32}}
train: {{
  batch_size: 4, schedule: constant, warmup_frac: 0, monitor_rows: 4, monitor_points: 3, monitor_prompts: 3,
  token_budget: 256, {lora}
}}
evaluate: {{n_prompts: 6, max_new_tokens: 6, reward: "{reward}"}}
diagnose: null
run: {{workers: 1}}
"""

REWARD = """
def reward(prompt, response, meta):
    return {"reward": float(len(response))}
"""


@pytest.mark.parametrize("lora", ["", "lora: {r: 2}"], ids=["full", "lora"])
def test_a_step_answers_as_the_model_that_stops_there(lora, tmp_path, monkeypatch):
    """The first half of a run at a constant rate is the whole run of half the rows."""
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "cache"))
    model, data = write_tiny_world(tmp_path)
    (tmp_path / "reward.py").write_text(REWARD)
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(model=model, data=data, lora=lora, reward=f"{tmp_path / 'reward.py'}:reward"))
    assert run(["run", str(study), "--out", str(tmp_path / "out")]) == 0
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    cells = {(c["method"], c["size"], c["seed"]): tmp_path / "out" / c["evaluate"] for c in index["cells"]}
    for method in ("dpo", "rloo"):
        assert not (cells[method, 16, 3] / "snapshots.parquet").exists()  # the lowest seed's cells alone
        watched = pd.read_parquet(cells[method, 16, 1] / "snapshots.parquet")
        assert set(watched["step"]) == {2} and len(watched) == 3
        final = pd.read_parquet(cells[method, 8, 1] / "responses.parquet")
        expected = final[final["split"] == "test"].head(3).reset_index(drop=True)
        columns = ["split", "row", "response", "n_tokens", "truncated", "reward"]
        pd.testing.assert_frame_equal(watched[columns], expected[columns])
        last = pd.read_parquet(cells[method, 16, 1] / "responses.parquet").head(3)
        assert last["response"].tolist() != expected["response"].tolist()
