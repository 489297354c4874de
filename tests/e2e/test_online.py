"""Methods that learn from their own answers, as a user calls them: a reward model, four methods, one page."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.e2e.test_study import preflab
from tests.tiny import write_tiny_world

from preflab.evals.reward_models import load_reward_model
from preflab.store.artefacts import read_artefact
from preflab.studies.prepare import read_split

STUDY = """
study: tiny
models: {{base: {model}}}
methods:
  dpo: {{learning_rate: 1e-2}}
  ppo: {{learning_rate: 1e-2, passes: 2}}
  rloo: {{learning_rate: 1e-2}}
  grpo: {{learning_rate: 1e-2}}
  online_dpo: {{learning_rate: 1e-2}}
sizes: [12]
data: {{train: {data}, validation: 6, test: 8, max_tokens: 32}}
train: {{batch_size: 4, monitor_rows: 6, monitor_points: 3, token_budget: 256, lora: {{r: 4}}}}
online: {{samples: 2}}
reward_model: {{learning_rate: 1e-2, batch_size: 4, epochs: 4}}
evaluate: {{n_prompts: 6, max_new_tokens: 6}}
run: {{workers: 2}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("online")
    model, data = write_tiny_world(folder)
    study = folder / "study.yaml"
    study.write_text(STUDY.format(model=model, data=data))
    return study


def right_order(last):
    """Share of the pairs of a monitor that are in the right order."""
    return (last["chosen_score"] > last["rejected_score"]).mean()


def test_a_reward_model_judges_what_four_methods_learn_from(world, tmp_path):
    planned = preflab("plan", world, "--out", tmp_path / "study", "--json", cache=tmp_path)
    kinds = [stage["kind"] for stage in json.loads(planned.stdout)["stages"]]
    assert kinds.count("reward_model") == 1 and kinds.count("train") == 5
    preflab("run", world, "--out", tmp_path / "study", cache=tmp_path)
    study = tmp_path / "study"
    cells = {c["method"]: c for c in json.loads((study / "index.json").read_text())["cells"]}
    assert {c["status"] for c in cells.values()} == {"done"}
    assert cells["dpo"]["judge"] is None and cells["ppo"]["judge"] == cells["grpo"]["judge"] is not None
    for name in ("ppo", "rloo", "grpo", "online_dpo"):
        answers = pd.read_parquet(study / cells[name]["train"] / "answers.parquet")
        assert len(answers) == 12 * 2 and answers["reward"].std() > 0 and answers["gold"].isna().all()
        assert answers.loc[answers["round"] == 0, "kl_k1"].abs().max() < 1e-4
        assert cells[name]["sampled_tokens"] == answers["n_tokens"].sum() > 0
    assert cells["ppo"]["n_steps"] == 6 and cells["rloo"]["n_steps"] == 3
    # The same prompts get the same random numbers, so the first answers are those of the start point for everyone.
    first = [
        pd.read_parquet(study / cells[n]["train"] / "answers.parquet").query("round == 0")["reward"].tolist()
        for n in ("ppo", "rloo", "grpo")
    ]
    assert first[0] == pytest.approx(first[1], abs=1e-4)
    assert first[0] == pytest.approx(first[2], abs=1e-4)
    page = (study / "report.html").read_text()
    assert "Learning from rewards" in page and "a reward model trained on the same pairs" in page
    assert "Own answers" in page and "reward models" in page
    assert "Reward models on validation pairs" in page and "from base, seed 0" in page

    # The reward model that left the study says the same of the texts of the validation pairs.
    exported = preflab("export-reward", study, tmp_path / "judge", "--json", cache=tmp_path)
    judge = load_reward_model(tmp_path / "judge", device="cpu")
    (data,) = study.glob("artefacts/data/*")
    pairs = read_split(read_artefact(data), "validation").examples
    last = pd.read_parquet(study / cells["ppo"]["judge"] / "monitor.parquet").query("step == step.max()")
    for role in ("chosen", "rejected"):
        scores = judge.scores([(pair.prompt, getattr(pair, role)) for pair in pairs], batch_size=4)
        assert scores == pytest.approx(last[f"{role}_score"].tolist(), abs=1e-4) and np.std(scores) > 0.01
    assert json.loads(exported.stdout)["accuracy"] == right_order(last)
    again = preflab("export-reward", study, tmp_path / "judge", cache=tmp_path, check=2)
    assert "is there already; name a new folder" in again.stderr
    other = preflab("export-reward", study, tmp_path / "other", "--seed", "7", cache=tmp_path, check=2)
    assert "no reward model fits; there are: --start base --seed 0 --size 12" in other.stderr

    before = {path: path.stat().st_mtime_ns for path in study.glob("artefacts/*/*/manifest.json")}
    preflab("run", world, "--out", study, "--set", "methods.rloo.beta=[0.05,0.2]", cache=tmp_path)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("online.reward=goldd", "online.reward: unknown reward 'goldd'"),
        ("online.round=6", "online.round: must be a multiple of train.batch_size (4); got 6"),
        ("online.samples=1", "online.samples"),
        (
            "train={schedule: wsd, batch_size: 4}; sizes=[8, 12]; online.round=8",
            "a smaller size would end inside a round",
        ),
        ("methods.online_kto={learning_rate: 1e-3}", "own answers give the log-probs of a pair"),
        ("methods.ppo.passes=1.5", "methods.ppo.passes: must be in whole numbers"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(world, tmp_path, change, said):
    changes = [word for part in change.split("; ") for word in ("--set", part)]
    done = preflab("plan", world, "--out", tmp_path / "study", *changes, cache=tmp_path, check=2)
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_reward_model_needs_pairs(world, tmp_path):
    rows = [json.loads(line) for line in (world.parent / "pairs.jsonl").read_text().splitlines()]
    data = tmp_path / "answers.jsonl"
    data.write_text("".join(json.dumps({"prompt": r["prompt"], "completion": r["chosen"]}) + "\n" for r in rows))
    words = ["--set", f"data.train={data}", "--set", "methods={rloo: {learning_rate: 1e-2}}"]
    done = preflab("plan", world, "--out", tmp_path / "study", *words, cache=tmp_path, check=2)
    assert "a reward model, which needs pairs to learn from" in done.stderr
