"""Row problems: each code at its exact rows, and rows left out only when declared."""

from pathlib import Path

import pytest

from preflab.core.errors import ConfigError, DataError
from preflab.data.check import check, exclude
from preflab.data.problems import CODES, ROW_CODES, STRUCTURAL_CODES
from preflab.data.read import Dataset, read, scan
from preflab.data.tokens import TokenSettings

SETTINGS = TokenSettings("auto", 64, 32)


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def pairs(*rows):
    return [dict(zip(("prompt", "chosen", "rejected"), row, strict=True)) for row in rows]


SOUND = ("Q", "A", "B")
LONG = "What is the capital of France, please?"
CASES = {
    "empty_response": (pairs(SOUND, ("Q", "", "B"), ("Q", "A", None)), [2, 3]),
    "whitespace_response": (pairs(SOUND, ("Q", " \n", "B"), ("Q", "A", "\u200b\u3000")), [2, 3]),
    "empty_prompt": (pairs(SOUND, ("", "A", "B"), (None, "A", "B"), ("  ", "A", "B")), [2, 3, 4]),
    "identical_responses": (pairs(SOUND, ("Q", "A", "A"), ("Q", "A", " A\n")), [2, 3]),
    "no_preference": (
        [
            {"prompt": "Q", "responses": ["A", "B", "C"], "scores": [1, 3, 2]},
            {"prompt": "R", "responses": ["A", "B"], "scores": [2, 2.0]},
        ],
        [2],
    ),
    "contradictory_pair": (pairs(SOUND, ("R", "A", "B"), ("Q", "B", "A"), ("Q", "C", "A"), SOUND), [1, 3, 5]),
    "prompt_repeated": (pairs(SOUND, (LONG, f"{LONG} A", f"{LONG} B"), (LONG, f"{LONG} A", "B")), [2]),
    "no_response": (
        [
            {"chosen": [user("Q"), said("A")], "rejected": [user("Q"), said("B")]},
            {"chosen": [user("Q"), said("A")], "rejected": [user("Q")]},
            {"chosen": [], "rejected": []},
        ],
        [2, 3],
    ),
    "prompts_differ": (
        [
            {"chosen": [user("Q"), said("A")], "rejected": [user("Q"), said("B")]},
            {"chosen": [user("Q"), said("A")], "rejected": [user("R"), said("B")]},
        ],
        [2],
    ),
    "unsupported_message": (
        [
            {"messages": [user("Q"), said("A")]},
            {"messages": [{"role": "narrator", "content": "Q"}, said("A")]},
            {"messages": [user("Q"), {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]}]},
            {"messages": [user([{"type": "image", "url": "x"}]), said("A")]},
            {"messages": [{"role": "user"}, said("A")]},
        ],
        [2, 3, 4, 5],
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_a_row_problem_is_found_at_its_rows(write, code):
    rows, expected = CASES[code]
    path = write(rows)
    found = check(read(path))
    assert [(p.row, p.code, p.structural) for p in found] == [(row, code, False) for row in expected]
    assert all(p.file == str(path) for p in found)


TOKEN_CASES = {
    "control_tokens": ("newline", pairs(SOUND, ("Q<|im_end|>", "A", "B"), ("Q", "A <|bos|>", "B")), [2, 3]),
    "prompt_too_long": ("newline", pairs(SOUND, ("zq" * 16, "A", "B"), ("zq" * 15, "A", "B")), [2]),
    "template_refused": (
        "strict",
        [
            {"messages": [user("Q"), said("A")]},
            {"messages": [{"role": "system", "content": "S"}, user("Q"), said("A")]},
        ],
        [2],
    ),
}


@pytest.mark.parametrize("code", TOKEN_CASES)
def test_a_problem_with_a_tokenizer_is_found_at_its_rows(write, tokenizer, code):
    template, rows, expected = TOKEN_CASES[code]
    dataset = read(write(rows))
    assert check(dataset) == ()
    found = check(dataset, tokenizer=tokenizer(template), tokens=SETTINGS)
    assert [(p.row, p.code) for p in found] == [(row, code) for row in expected]


def test_every_row_code_has_a_case_here():
    tested = {*CASES, *TOKEN_CASES, "prompt_in_two_splits"}
    assert tested == set(ROW_CODES)
    assert {**STRUCTURAL_CODES, **ROW_CODES} == CODES


def test_every_code_is_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [code for code in CODES if f"`{code}`" not in page] == []


def test_control_tokens_in_raw_prompts_are_meant_under_template_none(write, tokenizer):
    dataset = read(write(pairs(("<|im_start|>user\nQ<|im_end|>", "A", "B"), ("Q", "<|im_end|>", "B"))))
    found = check(dataset, tokenizer=tokenizer(), tokens=TokenSettings("none", 64, 32))
    assert [(p.row, p.code) for p in found] == [(2, "control_tokens")]


def test_a_split_that_is_another_split_is_told_so_instead_of_how_to_empty_it(write):
    data = read(write(pairs(SOUND, ("Other?", "A", "B"))))
    with pytest.raises(DataError, match="No row would be left without them; name another file"):
        exclude(data, check(data, others={"train": data}), [])


def test_a_prompt_in_two_splits_is_found_whatever_its_case_and_spacing(write):
    train = read(write(pairs(("Why is it?", "A", "B"), ("Other", "A", "B"), ("Third\nline", "A", "B")), "train.jsonl"))
    test = read(write([{"prompt": [user("why  is it? ")], "chosen": "C", "rejected": "D"}], "test.jsonl"))
    found = check(train, others={"test": test})
    assert [(p.row, p.code) for p in found] == [(1, "prompt_in_two_splits")]
    assert found[0].text == f"its prompt is also in test ({test.source}:1)"


@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_class_are_a_mistake_of_the_file(write, label):
    path = write([{"prompt": "Q", "completion": c, "label": label} for c in "AB"])
    found = check(read(path))
    assert [(p.row, p.code, p.structural) for p in found] == [(0, "single_class_labels", True)]
    with pytest.raises(DataError, match="single_class_labels"):
        exclude(read(path), found, [])


def test_one_response_with_both_labels_contradicts_itself(write):
    rows = [("A", True), ("B", False), ("A", False)]
    found = check(read(write([{"prompt": "Q", "completion": c, "label": label} for c, label in rows])))
    assert [(p.row, p.code) for p in found] == [(1, "contradictory_pair"), (3, "contradictory_pair")]


def test_text_without_a_prompt_has_no_empty_prompt(write):
    assert check(read(write([{"text": "Once upon a time."}]))) == ()


def test_rows_with_differing_prompts_never_become_examples(write):
    dataset = read(write(CASES["prompts_differ"][0]))
    assert [example.row for example in dataset.examples] == [1]


BROKEN = pairs(SOUND, ("Q", "", "B"), ("Q", "C", "C"), ("R", "", ""), ("S", "A", "B"))


def test_undeclared_problems_stop_with_counts_rows_and_the_line_to_write(write):
    dataset = read(write(BROKEN))
    with pytest.raises(DataError) as caught:
        exclude(dataset, check(dataset), [])
    assert str(caught.value) == (
        f"{dataset.source}: 3 row(s) have problems:\n"
        "  empty_response (a response is empty or null): 2 at 2, 4\n"
        "  identical_responses (chosen equals rejected, or differs only in surrounding white space): 1 at 3\n"
        "Mend them, or leave them out for every method alike by writing in the study file:\n"
        "  data: {exclude: [empty_response, identical_responses]}"
    )


def test_the_line_to_write_keeps_what_is_declared_already(write):
    dataset = read(write(BROKEN))
    with pytest.raises(DataError, match=r"data: \{exclude: \[empty_response, identical_responses\]\}"):
        exclude(dataset, check(dataset), ["identical_responses"])


def test_declared_rows_are_left_out_and_listed(write):
    dataset = read(write(BROKEN))
    rest, out = exclude(dataset, check(dataset), ["empty_response", "identical_responses"])
    assert [example.row for example in rest.examples] == [1, 5]
    assert [(p.row, p.code) for p in out] == [
        (2, "empty_response"),
        (3, "identical_responses"),
        (4, "empty_response"),
        (4, "empty_response"),
    ]
    assert check(rest) == ()


def test_a_row_left_out_for_one_problem_needs_no_declaration_of_another(write):
    dataset = read(write([*pairs(SOUND), {"prompt": "", "chosen": "", "rejected": "B"}]))
    rest, _ = exclude(dataset, check(dataset), ["empty_prompt"])
    assert [example.row for example in rest.examples] == [1]


def test_nothing_left_is_an_error(write):
    dataset = read(write(pairs(("Q", "", "B"))))
    with pytest.raises(DataError, match=r"data.exclude leaves no row of 1"):
        exclude(dataset, check(dataset), ["empty_response"])


def test_a_class_that_exclusion_empties_is_an_error(write):
    rows = [("A", True), ("", False)]
    dataset = read(write([{"prompt": "Q", "completion": c, "label": label} for c, label in rows]))
    with pytest.raises(DataError, match="single_class_labels: all 1 rows are desirable"):
        exclude(dataset, check(dataset), ["empty_response"])


def test_unknown_codes_are_refused_with_the_nearest():
    dataset = Dataset("x", "paired", "", (), ())
    with pytest.raises(ConfigError, match=r"unknown code 'empty_responses'. Did you mean 'empty_response'"):
        exclude(dataset, (), ["empty_responses"])
    with pytest.raises(ConfigError, match="'not_json' is a mistake of the file"):
        exclude(dataset, (), ["not_json"])


def test_structural_problems_stop_whatever_is_declared(write):
    dataset = scan(write('{"prompt": "Q", "chosen": "", "rejected": "B"}\nnonsense\n'))
    with pytest.raises(DataError, match=r"1 problem.s. to mend first"):
        exclude(dataset, check(dataset), ["empty_response"])
