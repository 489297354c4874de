"""A reward model from a folder scores a study's answers, on prompts of another distribution that have no responses."""

import json

import pandas as pd
import pytest
from tests.e2e.test_study import preflab
from tests.evals.test_reward_models import save_reward_model
from tests.tiny import WORDS, write_tiny_world

from preflab.data.read import read
from preflab.evals.reward_models import load_reward_model

STUDY = """
study: tiny
models: {{base: {model}}}
methods:
  dpo: {{learning_rate: [1e-2, 1e-3]}}
  rloo: {{learning_rate: 1e-2}}
sizes: [12]
data: {{train: {data}, validation: 6, test: 8, ood: {ood}, max_tokens: 32}}
train: {{batch_size: 4, monitor_rows: 4, monitor_points: 2, token_budget: 256, lora: {{r: 4}}}}
online: {{samples: 2}}
evaluate: {{reward: {reward}, n_prompts: 6, max_new_tokens: 6}}
run: {{workers: 1}}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    model, data = write_tiny_world(folder)
    ood = folder / "ood.jsonl"
    prompts = [[{"role": "user", "content": " ".join([*WORDS[i : i + 6], "word1"])}] for i in range(6)]
    ood.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    reward = save_reward_model(model, folder / "reward")
    file = folder / "study.yaml"
    file.write_text(STUDY.format(model=model, data=data, ood=ood, reward=reward))
    preflab("run", file, "--out", folder / "study", cache=folder)
    return folder / "study"


def test_answers_to_prompts_alone_are_scored_as_the_reward_model_does(study):
    judge = load_reward_model(study.parent / "reward", device="cpu")
    prompts = {e.row: e.prompt for e in read(study.parent / "ood.jsonl", kind="prompts").examples}
    cells = [c for c in json.loads((study / "index.json").read_text())["cells"] if c["evaluate"]]
    assert {c["method"] for c in cells} == {"", "dpo", "rloo"}
    for cell in cells:
        found = pd.read_parquet(study / cell["evaluate"] / "responses.parquet").query("split == 'ood'")
        pairs = pd.read_parquet(study / cell["evaluate"] / "pairs.parquet")
        assert len(found) == 6 and set(pairs["split"]) == {"test"} and found["chosen_reward"].isna().all()
        asked = [(prompts[row], text) for row, text in zip(found["row"], found["response"], strict=True)]
        assert found["reward"].tolist() == pytest.approx(judge.scores(asked, batch_size=3), abs=1e-4)


def test_own_answers_learn_from_the_same_scores(study):
    cell = next(c for c in json.loads((study / "index.json").read_text())["cells"] if c["method"] == "rloo")
    answers = pd.read_parquet(study / cell["train"] / "answers.parquet")
    assert answers["reward"].tolist() == answers["gold"].tolist() and answers["reward"].std() > 0


def test_the_report_has_the_protocol_and_calls_no_model_gold(study):
    facts = json.loads(preflab("report", study, "--json", cache=study.parent).stdout)
    assert facts["metric"]["label"] == "Reward"
    ood = {b["method"]: b for b in facts["behaviour"] if b["split"] == "ood"}
    assert ood["dpo"]["win_start"]["wins"] + ood["dpo"]["win_start"]["ties"] + ood["dpo"]["win_start"]["losses"] == 6
    assert ood["dpo"]["win_chosen"] is None and ood["dpo"]["kl_token"] and ood["dpo"]["reward"] and ood[""]["length"]
    test = {b["method"]: b for b in facts["behaviour"] if b["split"] == "test"}
    assert test["dpo"]["win_chosen"]["rate"]["n"] == 6
    page = (study / "report.html").read_text()
    assert "How much depends on the setting" in page and "KL per token" in page
