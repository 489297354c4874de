"""Reward models with a value head, and as plain sequence classifiers."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import CONFIGS, random_rows, tiny_model, write_tiny_world
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from preflab.core.errors import ConfigError
from preflab.evals.value_heads import RewardModel, save_classifier


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(write_tiny_world(tmp_path_factory.mktemp("world"))[0])


def random_head(model):
    return torch.randn(model.get_output_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_classifier_gives_the_scores_of_the_value_head(name, tokenizer, tmp_path):
    model = tiny_model(name, dtype=torch.float32)
    head, rows = random_head(model), random_rows(5)
    judge = RewardModel(model, head, end_id=1, mean=0.25, std=2.0)
    expected = judge.scores(rows, "chosen", budget=100) * 2.0 + 0.25
    save_classifier(model, head, tokenizer, tmp_path)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    found = []
    for row in rows:
        ids = torch.from_numpy(np.concatenate([row.prompt, row.responses["chosen"]]))
        with torch.no_grad():
            found.append(float(classifier(input_ids=ids[None]).logits[0, 0]))
    assert classifier.num_labels == 1 and np.std(expected) > 0.1
    assert found == pytest.approx(expected, abs=2e-4)


def test_an_end_token_that_pads_is_not_recorded_as_padding(tokenizer, tmp_path):
    model = tiny_model(dtype=torch.float32)
    save_classifier(model, random_head(model), tokenizer, tmp_path / "own")
    assert json.loads((tmp_path / "own" / "config.json").read_text())["pad_token_id"] == tokenizer.pad_token_id
    tokenizer.pad_token = tokenizer.eos_token
    save_classifier(tiny_model(dtype=torch.float32), random_head(model), tokenizer, tmp_path / "shared")
    assert json.loads((tmp_path / "shared" / "config.json").read_text()).get("pad_token_id") is None


def test_a_head_with_a_bias_has_no_place(tokenizer, tmp_path):
    model = tiny_model(dtype=torch.float32)
    with pytest.raises(ConfigError, match="no place for a head of 33 weights"):
        save_classifier(model, torch.zeros(33), tokenizer, tmp_path)
