import json

import pytest

from preflab.core.errors import ConfigError, DataError
from preflab.evals import constraints
from preflab.evals.constraints import BY_KIND, CONSTRAINTS, MOST, constraint_prompts, constraint_reward

KEPT = [
    ({"kind": "words_at_least", "n": 3}, "one two-fold three", "one two"),
    ({"kind": "words_at_most", "n": 2}, "don't stop", "one two three"),
    ({"kind": "words_at_most", "n": 2}, "one", " "),
    ({"kind": "sentences_exactly", "n": 2}, "One is 1.5 metres. Two!", "One. Two. Three."),
    ({"kind": "sentences_at_most", "n": 2}, "One.", "One. Two.\nThree"),
    ({"kind": "bullets_exactly", "n": 2}, "Look:\n* one\n- two", "* one"),
    ({"kind": "paragraphs_exactly", "n": 2}, "One.\n\nTwo\nthree.", "One.\nTwo."),
    ({"kind": "json"}, ' {"a": [1]}\n', "```json\n{}\n```"),
    ({"kind": "json"}, "{}", "[1]"),
    ({"kind": "in_quotes"}, '"Yes."', 'He said "yes"'),
    ({"kind": "contains", "word": "river"}, "A River runs.", "Two rivers run."),
    ({"kind": "contains_times", "word": "river", "n": 2}, "River, river", "river"),
    ({"kind": "without", "word": "the"}, "Other things.", "The end."),
    ({"kind": "starts_with", "phrase": "As you asked,"}, "as you asked, no", "No, as you asked,"),
    ({"kind": "ends_with", "phrase": "That is all."}, "Yes. THAT IS ALL.\n", "That is all. Bye"),
    ({"kind": "postscript"}, "Yes.\nP.S. Come soon.", "P.S. Come soon.\nYes."),
    ({"kind": "lower_case"}, "yes, 1.", "Yes"),
    ({"kind": "upper_case"}, "YES, 1.", "YEs"),
    ({"kind": "no_commas"}, "Yes.", "Yes, no."),
    ({"kind": "title"}, "<<A walk>>\nYes", "<A walk>"),
    ({"kind": "highlighted", "n": 2}, "*one* and *two three*", "*one* and * two*"),
    ({"kind": "placeholders", "n": 1}, "Dear [name]", "Dear []"),
    ({"kind": "digits"}, "7 up", "seven up"),
    ({"kind": "ends_in_question"}, "Why?", "Why? So."),
]


@pytest.mark.parametrize(("asked", "kept", "broken"), KEPT, ids=lambda value: str(value)[:30])
def test_constraint_holds_for_the_one_and_not_for_the_other(asked, kept, broken):
    meta = {"constraints": [asked]}
    assert constraint_reward("", kept, meta) == {"reward": 1.0, "all": 1.0}
    assert constraint_reward("", broken, meta) == {"reward": 0.0, "all": 0.0}


def test_every_kind_is_tried_above():
    assert {asked["kind"] for asked, _, _ in KEPT} == set(BY_KIND)


def test_reward_is_the_share_of_constraints_kept():
    meta = {"constraints": [{"kind": "no_commas"}, {"kind": "lower_case"}, {"kind": "digits"}]}
    assert constraint_reward("", "Yes.", meta) == {"reward": pytest.approx(1 / 3), "all": 0.0}


def write(asked):
    """Keep all constraints of a prompt, mechanically: a writer with nothing to say."""
    by = {each["kind"]: each for each in asked}
    words = ["word"] * 12
    words += [by["contains"]["word"]] if "contains" in by else []
    words += [by["contains_times"]["word"]] * 3 if "contains_times" in by else []
    words += ["*x*"] * by.get("highlighted", {"n": 0})["n"] + ["[x]"] * by.get("placeholders", {"n": 0})["n"]
    words += ["7"] * ("digits" in by) + ["<<x>>"] * ("title" in by)
    words += ["word"] * (by.get("words_at_least", {"n": 0})["n"])
    most = by.get("words_at_most", {"n": 999})["n"]
    if len(words) + 10 > most:
        words = words[12:]
    body = " ".join(words)
    if "json" in by:
        body = json.dumps({"a": body})
    lines = by.get("bullets_exactly", by.get("paragraphs_exactly", {"n": 1}))["n"]
    parts = [body, *["a"] * (lines - 1)]
    text = "\n".join(f"* {part}" for part in parts) if "bullets_exactly" in by else "\n\n".join(parts)
    start, end = by.get("starts_with", {"phrase": ""})["phrase"], by.get("ends_with", {"phrase": ""})["phrase"]
    # The last sentence runs into the closing phrase; an opening that ends in a full stop is a sentence of its own.
    fill = by.get("sentences_exactly", {"n": 0})["n"] - 1 - start.endswith(".")
    text = "a. " * fill + (f"{text} {end}" if end else text if "json" in by else f"{text}.")
    if start:
        text = f"{start}\n{text}" if "bullets_exactly" in by else f"{start} {text}"
    if "postscript" in by:
        text += "\nP.S. a"
    if "ends_in_question" in by:
        text = text.rstrip(".") + "?"
    if "in_quotes" in by:
        text = f'"{text}"'
    return text.lower() if "lower_case" in by else text.upper() if "upper_case" in by else text


def test_every_prompt_can_be_answered():
    for row in constraint_prompts(1500, most=MOST, seed=3):
        asked = row["meta"]["constraints"]
        text = write(asked)
        broken = [each for each in asked if not BY_KIND[each["kind"]].holds(text, each)]
        assert broken == [], (row["prompt"][0]["content"], text)


def test_prompts_differ_and_shorter_lists_begin_longer_ones():
    rows = list(constraint_prompts(200, most=4, seed=0))
    assert len({row["prompt"][0]["content"] for row in rows}) == 200
    assert rows[:50] == list(constraint_prompts(50, most=4, seed=0))
    assert rows[:50] != list(constraint_prompts(50, most=4, seed=1))
    assert [len(row["meta"]["constraints"]) for row in rows[:5]] == [1, 2, 3, 4, 1]
    assert rows[1]["family"] == "2 constraints"


def test_a_prompt_asks_for_each_thing_once_and_says_every_constraint():
    for row in constraint_prompts(300, most=MOST, seed=1):
        asked = row["meta"]["constraints"]
        groups = [BY_KIND[each["kind"]].group for each in asked]
        assert len(set(groups)) == len(groups)
        assert all(BY_KIND[each["kind"]].ask(each) in row["prompt"][0]["content"] for each in asked)


def test_there_are_at_least_twenty_kinds():
    assert len(CONSTRAINTS) == len(BY_KIND) >= 20


def test_impossible_sizes_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="--most: must be from 1 to 6"):
        list(constraint_prompts(1, most=7, seed=0))
    with pytest.raises(ConfigError, match="--n: must be at least 1"):
        list(constraint_prompts(0, most=1, seed=0))
    monkeypatch.setattr(constraints, "TOPICS", ("Say hello.",))
    with pytest.raises(ConfigError, match=r"after \d+ prompts, 1000 draws gave no new one"):
        list(constraint_prompts(1000, most=1, seed=0))


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "needs meta.constraints"),
        ({"constraints": []}, "needs meta.constraints"),
        ({"constraints": [{"kind": "no_comma"}]}, "unknown kind 'no_comma'. Did you mean 'no_commas'"),
        ({"constraints": ["no_commas"]}, "unknown kind None"),
        ({"constraints": [{"kind": "words_at_least"}]}, "words_at_least with arguments that do not fit"),
    ],
)
def test_rows_without_sound_constraints_are_refused(meta, message):
    with pytest.raises(DataError, match=message):
        constraint_reward("", "x", meta)
