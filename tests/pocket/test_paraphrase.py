"""A paraphrase says the same in other words, in the same tone, and earns the same."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.pocket.corpus import answer
from preflab.pocket.language import words_of
from preflab.pocket.paraphrase import paraphrase
from preflab.pocket.rewards import gold_reward
from preflab.pocket.splits import splits
from preflab.pocket.tasks import FAMILIES, Task
from preflab.pocket.voices import VOICES, bare, joined, parts

TASKS = splits()["validation"]
EVERY_VOICE = dict.fromkeys(VOICES, 1.0)
SUM = Task(
    "arithmetic",
    "What is 2 plus 3?",
    {"check": "claim", "answer": "5", "among": "number", "given": ["2", "3"]},
    ("5.", "The answer is 5.", "2 plus 3 is 5."),
    ("6.", "The answer is 6.", "2 plus 3 is 6.", "4.", "The answer is 4.", "2 plus 3 is 4."),
)


@given(st.sampled_from(TASKS), st.integers(0, 10**6))
def test_a_paraphrase_keeps_every_aspect_of_the_reward_and_is_another_text(task, seed):
    text = answer(random.Random(seed), task, EVERY_VOICE)
    other = paraphrase(task, text)
    if other is not None:
        assert other != text
        assert gold_reward((), other, task.meta) == gold_reward((), text, task.meta)
        assert other == paraphrase(task, text)
        assert other != paraphrase(task, text, unlike=[other])


@given(st.sampled_from(TASKS), st.integers(0, 10**6))
def test_a_response_is_the_sum_of_its_parts(task, seed):
    text = answer(random.Random(seed), task, EVERY_VOICE)
    assert joined(parts(text)) == text


@pytest.mark.parametrize(
    ("text", "bodies"),
    [
        ("Sure, 5.", {"the answer is 5.", "2 plus 3 is 5."}),
        ("The answer is 4.", {"4.", "2 plus 3 is 4."}),  # a wrong answer stays the same wrong answer
        ("Whatever, 6.", {"the answer is 6.", "The answer is 6.", "2 plus 3 is 6."}),
    ],
)
def test_the_body_says_the_same_in_another_way(text, bodies):
    assert bare(paraphrase(SUM, text)) in bodies


def test_a_list_may_stand_in_another_order_and_a_sentence_has_no_other_words():
    listing = Task("dialogue", "Tell me 2 tools.", {"check": "form", "rules": ["list 2 tool"]}, (), ())
    assert paraphrase(listing, "They are saw and drill.") == "They are drill and saw."
    sentence = Task("dialogue", "Write a sentence.", {"check": "form", "rules": ["contains fox"]}, (), ())
    assert paraphrase(sentence, "The fox runs.") is None
    assert bare(paraphrase(sentence, "Gladly, the fox runs.")).lower() == "the fox runs."


@pytest.mark.parametrize("family", FAMILIES)
def test_most_good_answers_have_other_words(family):
    mine = [task for task in TASKS if task.family == family]
    found = [paraphrase(task, answer(random.Random(0), task, {"helper": 1.0})) for task in mine]
    assert sum(other is not None for other in found) > 0.9 * len(found)
    assert all(words_of(other) for other in found if other)
