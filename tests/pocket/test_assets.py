import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from preflab.core.errors import ConfigError
from preflab.core.ids import file_digest
from preflab.data.check import check
from preflab.data.read import read
from preflab.pocket import assets
from preflab.pocket.language import words_of
from preflab.pocket.rewards import gold_reward
from preflab.pocket.tasks import FAMILIES

ROOT = Path(assets.__file__).parent / "assets"
MANIFEST = json.loads((ROOT / "manifest.json").read_text())
PAIRED = [name for name in assets.DATA if name != "sft"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path))


@pytest.fixture(scope="module", params=assets.MODELS)
def loaded(request):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = assets.model_path(request.param)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_models_load_in_float32_and_count_about_a_million_parameters(loaded):
    model, tokenizer = loaded
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert 0.8e6 < model.num_parameters() < 1.2e6
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.config.pad_token_id == tokenizer.pad_token_id
    assert len(tokenizer) == model.config.vocab_size


@pytest.mark.parametrize(
    "text",
    [
        "Sure, the answer is 19. I hope this helps.",
        "Which one is a fruit? A: hammer, B: apple, C: river.",
        "Words it never saw: naïve “quotes”, tabs\tand\nnew  lines ☃.",
        "Don't (ever) <b>stop</b>...",
    ],
)
def test_tokenizer_gives_back_any_text(loaded, text):
    _, tokenizer = loaded
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_token_id not in ids


def test_shipped_texts_take_one_token_a_word(loaded):
    _, tokenizer = loaded
    rows = read(assets.data_path("test")).examples[:100]
    for row in rows:
        text = row.prompt[0].content
        n_marks = sum(not ch.isalnum() and not ch.isspace() for ch in text)
        assert len(tokenizer(text, add_special_tokens=False)["input_ids"]) == len(words_of(text)) + n_marks


def test_chat_template_renders_turns_and_refuses_unknown_roles(loaded):
    _, tokenizer = loaded
    messages = [{"role": "system", "content": "Hello."}, {"role": "user", "content": "What is 1 plus 1?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|system|>Hello.<|end|><|user|>What is 1 plus 1?<|end|><|assistant|>"
    with pytest.raises(Exception, match="knows system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


def test_files_are_those_of_the_manifest_and_small():
    files = {p.relative_to(ROOT).as_posix(): p for p in ROOT.rglob("*") if p.is_file() and p.name != "manifest.json"}
    assert {name: file_digest(path) for name, path in files.items()} == MANIFEST["files"]
    assert sum(path.stat().st_size for path in files.values()) < 6_000_000


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_load_without_a_problem(name):
    dataset = read(assets.data_path(name))
    assert dataset.kind == "paired"
    assert dataset.problems == () == check(dataset)
    assert set(Counter(row.family for row in dataset.examples)) == set(FAMILIES)
    for row in dataset.examples[:50]:
        pair = row.meta["pair"]
        assert gold_reward(row.prompt, row.chosen, row.meta)["reward"] == pytest.approx(pair["chosen_reward"], abs=1e-4)


def test_sft_set_loads_as_demonstrations():
    dataset = read(assets.data_path("sft"))
    assert dataset.kind == "sft"
    assert len(dataset.examples) >= 2000
    assert dataset.problems == () == check(dataset)


def test_sizes_are_what_a_study_needs():
    sizes = {name: len(read(assets.data_path(name)).examples) for name in assets.DATA}
    assert min(sizes["pairs"], sizes["pairs_long"]) >= 2048
    assert min(sizes["validation"], sizes["test"], sizes["ood"]) >= 200


def test_no_prompt_is_shared_between_training_and_held_out_files():
    def prompts(name):
        return {row.prompt for row in read(assets.data_path(name)).examples}

    training = set().union(*(prompts(name) for name in assets.DATA if name.startswith(("pairs", "sft"))))
    held_out = [prompts(name) for name in ("validation", "test", "ood")]
    assert not any(training & each for each in held_out)
    assert len(set().union(*held_out)) == sum(map(len, held_out))


def test_world_speaks_at_least_a_thousand_words():
    words = {
        word.lower()
        for name in assets.DATA
        for row in read(assets.data_path(name)).examples
        for text in (row.prompt[0].content, row.chosen or "", row.rejected or "")
        for word in words_of(text)
        if word.isalpha()
    }
    assert len(words) >= 1000


def test_start_points_leave_room_both_ways():
    for name, splits in MANIFEST["start_points"].items():
        for family, row in splits["test"].items():
            assert 0.2 <= row["right"] <= 0.8, (name, family)


def test_unpacking_twice_gives_the_same_file_and_leaves_nothing_else(tmp_path):
    first = assets.data_path("sft")
    stamp = first.stat().st_mtime_ns
    assert assets.data_path("sft") == first
    assert first.stat().st_mtime_ns == stamp
    assert [p.name for p in first.parent.iterdir()] == ["sft.jsonl"]
    assert first.is_relative_to(tmp_path)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"pocket:bass: no such pocket model\. Did you mean 'base'"):
        assets.model_path("bass")
    with pytest.raises(ConfigError, match=r"pocket:pair: no such pocket data set\. Did you mean 'pairs'"):
        assets.data_path("pair")
