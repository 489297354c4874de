import json
import shutil

import pytest
import torch
from tests.tiny import write_tiny_world
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from preflab.core.errors import ConfigError
from preflab.data.examples import Message
from preflab.evals.reward_models import check_reward_model, load_reward_model
from preflab.studies.scorers import Scorer


def save_reward_model(model, folder, *, outputs=1):
    """Save a tiny classifier with the tokenizer of a tiny model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=outputs)
        for parameter in classifier.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    classifier.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("rewards")
    model, _ = write_tiny_world(root)
    return save_reward_model(model, root / "reward")


def asked():
    from tests.tiny import WORDS

    prompts = [(Message("user", " ".join(WORDS[i : i + 1 + i % 3])),) for i in range(7)]
    return [(prompt, " ".join(WORDS[2 * i : 2 * i + 1 + i])) for i, prompt in enumerate(prompts)]


def test_a_score_is_read_at_the_last_token_whatever_the_batch(folder):
    """Against the classifier's own head on the hidden state of each row alone, without any padding."""
    judge = load_reward_model(folder, device="cpu")
    tokenizer, model = judge.tokenizer, judge.model
    found = judge.scores(asked(), batch_size=4)
    expected = []
    for (turn,), response in asked():
        messages = [{"role": "user", "content": turn.content}, {"role": "assistant", "content": response}]
        ids = tokenizer(tokenizer.apply_chat_template(messages, tokenize=False), add_special_tokens=False)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        with torch.no_grad():
            hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state
            expected.append(float(model.score(hidden[0, -1])[0]))
    assert found == pytest.approx(expected, abs=1e-5)
    assert len(set(expected)) == len(expected)


def test_a_language_model_or_another_classifier_is_refused(folder, tmp_path):
    model, _ = write_tiny_world(tmp_path)
    with pytest.raises(ConfigError, match="a reward model is a sequence classifier with one output; this is Llama"):
        check_reward_model(model)
    with pytest.raises(ConfigError, match="this classifier has 2"):
        check_reward_model(save_reward_model(model, tmp_path / "two", outputs=2))
    assert len(check_reward_model(folder)) == 64


def test_pickles_and_code_of_its_own_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "code" / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "theirs.Model"}}))
    with pytest.raises(ConfigError, match=r"evaluate\.reward: .*runs Python code of its own; if you trust it"):
        Scorer(str(tmp_path / "code"), "evaluate.reward", "cpu")
    assert Scorer(str(tmp_path / "code"), "evaluate.reward", "cpu", allow_remote_code=True).is_model
    shutil.copytree(folder, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ConfigError, match="Pickled weights are not loaded"):
        Scorer(str(tmp_path / "pickled"), "evaluate.reward", "cpu")
