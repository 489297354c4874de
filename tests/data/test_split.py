"""Splits are made on prompts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.core.errors import DataError
from preflab.data.examples import Example, Message
from preflab.data.prompts import fingerprint
from preflab.data.split import split_by_prompt

prompts = st.lists(st.text("abcAB \n", max_size=6), min_size=1, max_size=40)


def rows(texts):
    return [Example(i, text, f"good {i}", f"bad {i}") for i, text in enumerate(texts, 1)]


@given(prompts, st.integers(0, 3), st.integers(0, 3), st.integers(0, 10), st.randoms())
def test_no_prompt_is_in_two_splits_and_order_does_not_matter(texts, validation, test, seed, random):
    examples = rows(texts)
    keys = {fingerprint(example) for example in examples}
    if len(keys) <= validation + test:
        with pytest.raises(DataError, match="too few"):
            split_by_prompt(examples, validation=validation, test=test, seed=seed)
        return
    splits = split_by_prompt(examples, validation=validation, test=test, seed=seed)
    found = {name: {fingerprint(example) for example in part} for name, part in splits.items()}
    assert len(found["test"]) == test
    assert len(found["validation"]) == validation
    assert sum(map(len, found.values())) == len(keys)
    assert sorted(e.row for part in splits.values() for e in part) == list(range(1, len(texts) + 1))
    shuffled = list(examples)
    random.shuffle(shuffled)
    again = split_by_prompt(shuffled, validation=validation, test=test, seed=seed)
    assert {name: {e.row for e in part} for name, part in again.items()} == {
        name: {e.row for e in part} for name, part in splits.items()
    }


def test_the_test_split_does_not_depend_on_the_size_of_validation():
    examples = rows(map(str, range(50)))
    few = split_by_prompt(examples, validation=2, test=10, seed=0)
    many = split_by_prompt(examples, validation=30, test=10, seed=0)
    assert few["test"] == many["test"]
    assert {e.row for e in few["validation"]} <= {e.row for e in many["validation"]}


def test_added_rows_leave_most_prompts_in_their_split():
    before = split_by_prompt(rows(map(str, range(200))), validation=0, test=20, seed=0)["test"]
    after = split_by_prompt(rows(map(str, range(220))), validation=0, test=20, seed=0)["test"]
    assert len({e.prompt for e in before} & {e.prompt for e in after}) >= 14


def test_another_seed_holds_out_other_prompts():
    examples = rows(map(str, range(50)))
    first, second = (split_by_prompt(examples, validation=0, test=10, seed=seed)["test"] for seed in (0, 1))
    assert {e.row for e in first} != {e.row for e in second}


def test_a_user_turn_and_its_text_are_the_same_prompt_but_a_system_turn_makes_another():
    text = Example(1, "Why  is it?", "a", "b")
    turn = Example(2, (Message("user", "why is it?"),), "a", "b")
    told = Example(3, (Message("system", "Be brief."), Message("user", "why is it?")), "a", "b")
    assert fingerprint(text) == fingerprint(turn) != fingerprint(told)


def test_rows_without_a_prompt_are_told_apart_by_their_text():
    examples = [Example(i, "", f"text {i}", None) for i in range(1, 11)]
    splits = split_by_prompt(examples, validation=2, test=3, seed=0)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [5, 2, 3]


def test_too_few_prompts_give_the_numbers():
    with pytest.raises(DataError) as caught:
        split_by_prompt(rows("ab"), validation=1, test=1, seed=0)
    assert str(caught.value) == (
        "the data have 2 different prompts, too few to hold out 1 for validation and 1 for test and keep any for "
        "training. Lower data.validation and data.test (on the command line: --set data.validation=N), or bring more "
        "data."
    )
