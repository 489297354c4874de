"""Stop texts: where a row ends, whatever its batch."""

import numpy as np
import pytest
import torch
from tests.tiny import tiny_model
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from preflab.sampling.generate import GenerationSettings, generate
from preflab.sampling.stops import TextStops, before_stop

WORDS = ["<pad>", "</s>", *(chr(ord("a") + k % 26) for k in range(26)), *(f"x{k}" for k in range(33))]


@pytest.fixture(scope="module")
def tokenizer():
    backend = Tokenizer(WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<pad>"))
    backend.pre_tokenizer, backend.decoder = WhitespaceSplit(), Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="</s>")


def test_a_row_ends_with_the_token_that_completes_a_stop(tokenizer):
    stops = TextStops(tokenizer, ("cd",), n_prompt=2)
    ids = torch.tensor([[9, 9, *tokenizer.convert_tokens_to_ids(list("abc"))] for _ in range(2)])
    assert stops(ids, None).tolist() == [False, False]
    longer = torch.cat([ids, torch.tensor([tokenizer.convert_tokens_to_ids(["d", "e"])]).T], dim=1)
    assert stops(longer, None).tolist() == [True, False]
    assert stops(torch.cat([longer, longer[:, -1:]], dim=1), None).tolist() == [True, False]
    assert stops.ended == {0: 4}


def test_a_stop_in_the_prompt_ends_nothing(tokenizer):
    stops = TextStops(tokenizer, ("a",), n_prompt=1)
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(["a", "b"])])
    assert stops(ids, None).tolist() == [False]


def test_text_up_to_the_first_stop():
    assert before_stop("so 4 Q: next\n\n", ("\n\n", "Q:")) == "so 4 "
    assert before_stop("so 4", ("Q:",)) == "so 4"


def test_answers_do_not_depend_on_their_batch(tokenizer):
    model = tiny_model(dtype=torch.float32)
    prompts = [np.array([5, 9, 17]), np.array([30]), np.array([44, 2, 8, 12])]
    free = GenerationSettings(max_new_tokens=24, batch_size=3, seed=0, greedy=True)
    told = dict(end_ids=[1], pad_id=0, tokenizer=tokenizer)
    written = generate(model, prompts, list("abc"), settings=free, **told)
    # A word that the first answer holds somewhere in its middle stops it there.
    word = WORDS[int(written[0].tokens[6])]
    found = {}
    for batch in (1, 3):
        settings = GenerationSettings(max_new_tokens=24, batch_size=batch, seed=0, greedy=True, stops=(word,))
        found[batch] = generate(model, prompts, list("abc"), settings=settings, **told)
    for alone, together, whole in zip(found[1], found[3], written, strict=True):
        np.testing.assert_array_equal(alone.tokens, together.tokens)
        np.testing.assert_array_equal(alone.tokens, whole.tokens[: len(alone.tokens)])
        text = tokenizer.decode(whole.tokens, skip_special_tokens=True)
        assert alone.truncated is (word not in text and whole.truncated)
    assert len(found[1][0].tokens) <= 7
