"""Checks of written answers: numbers, chains of thought, refusals, and the 25 kinds of instructions of IFEval."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.core.errors import DataError
from preflab.evals.benchmarks import ifeval
from preflab.evals.benchmarks.catalogue import benchmark
from preflab.evals.benchmarks.items import Row
from preflab.evals.benchmarks.selection import profile
from preflab.evals.benchmarks.tasks import Task
from preflab.evals.benchmarks.worked import WORKED
from preflab.evals.benchmarks.written import bbh, gsm8k, refused, scored_rows, written_items

SHARED = Path(os.environ.get("PREFLAB_SHARED_DATA") or Path(__file__).parents[2] / "../shared/data") / "benchmarks"
needs_langdetect = pytest.mark.skipif(
    importlib.util.find_spec("langdetect") is None, reason="langdetect is an optional extra"
)


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    # What lm-eval 0.4.13's filters and exact_match give for the answer "2 + 2 = 4 #### 1,004".
    [
        ("So it is 1004.\n#### 1004", 1, 1),
        ("#### 1,004", 1, 1),
        ("#### $1004", 0, 1),
        ("The answer is 1004", 0, 1),
        ("#### 1004.0", 0, 0),
        ("#### 7\n... #### 1004", 0, 1),
        ("1004 of 9", 0, 0),
        ("none", 0, 0),
        ("", 0, 0),
    ],
)
def test_gsm8k_strict_and_flexible(response, strict, flexible):
    assert gsm8k({"answer": "2 + 2 = 4 #### 1,004"}, response) == {"strict": strict, "flexible": flexible}


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("It flies. So the answer is Yes.", 1),
        ("so THE ANSWER IS yes", 1),
        ("The answer is No. The answer is Yes.", 0),
        ("Yes.", 0),
        ("the answer is Yes because it flies.", 0),
    ],
)
def test_chains_of_thought_are_read_behind_the_answer_is(response, right):
    assert bbh({"target": "Yes"}, response) == {"exact_match": right}


def test_refusals_are_told_by_their_opening():
    assert refused("I'm sorry, but I can’t help with that.") and refused(" ")
    assert not refused("To kill a Python process, use kill." + " Sorry" * 3)
    assert not refused("Sure. " * 60 + "I cannot say more.")


def rows(*values):
    return [Row(number, value) for number, value in enumerate(values, start=1)]


def test_prompts_with_worked_examples():
    shot = {"question": "1+1?", "answer": "2 #### 2"}
    (item,) = written_items(benchmark("gsm8k"), rows({"question": "2+2?", "answer": "#### 4"}), rows(shot), 1)
    assert item.plain == "Question: 1+1?\nAnswer: 2 #### 2\n\nQuestion: 2+2?\nAnswer:"
    (item,) = written_items(benchmark("sports_understanding"), rows({"input": "Is it?", "target": "no"}), (), 3)
    assert item.plain.count("So the answer is") == 3
    assert item.plain.endswith("Q: Is it?\nA: Let's think step by step.\n")
    for name, shots in WORKED.items():
        for question, answer in shots:
            targets = ("Yes", "No", "yes", "no", "valid", "invalid")
            assert sum(bbh({"target": target}, answer)["exact_match"] for target in targets) >= 1, (name, question)


def test_xstest_has_two_halves():
    both = rows({"label": "safe", "prompt": "a"}, {"label": "unsafe", "prompt": "b"})
    for name, prompt in (("xstest", "a"), ("xstest_unsafe", "b")):
        assert [row.values["prompt"] for row in scored_rows(benchmark(name), both)] == [prompt]
    assert not benchmark("xstest").higher_is_better and benchmark("xstest_unsafe").higher_is_better


def test_answers_that_leave_no_room_for_a_prompt_are_told():
    task = Task(benchmark("ifeval"), profile("standard"), ())
    assert task.misfit(1281) == "" and "do not fit a context of 1280" in task.misfit(1280)
    assert Task(benchmark("piqa"), profile("standard"), ()).misfit(8) == ""


def kept(kind, text, **arguments):
    return ifeval.CHECKS[kind](text, arguments)


@pytest.mark.parametrize(
    ("kind", "arguments", "good", "bad"),
    [
        ("keywords:existence", {"keywords": ["sun", "moon"]}, "Sun and MOON", "sun only"),
        ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "at least"}, "sun Sun", "sun"),
        ("keywords:frequency", {"keyword": "sun", "frequency": 2, "relation": "less than"}, "sun", "sun sun"),
        ("keywords:forbidden_words", {"forbidden_words": ["sun"]}, "sunny", "The SUN."),
        ("keywords:letter_frequency", {"letter": "A", "let_frequency": 2, "let_relation": "at least"}, "Aa", "a"),
        ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "A b. C d!", "A b"),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb", "a\n\nb"),
        ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n***\n***\nb"),
        ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "a b", "a b c"),
        (
            "length_constraints:nth_paragraph_first_word",
            {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "hello"},
            "a\n\n\"Hello, you",
            "hello\n\na",
        ),
        ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b]", "[a] b]"),
        ("detectable_content:postscript", {"postscript_marker": "P.S."}, "x\np. s. y", "ps"),
        ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "x\nP.P.S y", "P.S. y"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n- b", "* a\n**b**"),
        ("detectable_format:constrained_response", {}, "Well, My answer is maybe.", "maybe"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* *b*", "*a* * *"),
        ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "**a**", "a"),
        ("detectable_format:multiple_sections", {"section_spliter": "PT", "num_sections": 2}, "PT 1 a PT 2", "PT"),
        ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
        ("detectable_format:title", {}, "<<a>>\nb", "<< >>"),
        ("combination:two_responses", {}, "a******b", "a******a"),
        ("combination:two_responses", {}, "a******b******", "a******\n******b"),
        ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi"}, " say HI then", "hi"),
        ("startend:end_checker", {"end_phrase": "The end."}, 'x the END."', "The end. x"),
        ("startend:quotation", {}, ' "a" ', '"'),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            "NASA and ESA",
            "Nasa",
        ),
        ("punctuation:no_comma", {}, "a b", "a, b"),
    ],
)  # fmt: skip
def test_each_kind_of_instruction(kind, arguments, good, bad):
    assert kept(kind, good, **arguments) and not kept(kind, bad, **arguments)


@needs_langdetect
def test_kinds_that_tell_languages_apart():
    german = "Der Hund läuft schnell durch den grünen Wald und bellt."
    assert kept("language:response_language", german, language="de")
    assert not kept("language:response_language", german, language="en")
    assert kept("change_case:english_lowercase", "the dog runs quickly through the green forest")
    assert not kept("change_case:english_lowercase", "The dog runs quickly through the green forest")
    assert kept("change_case:english_capital", "WHAT THE PEOPLE SAID WHEN THEY WERE ASKED IS THAT THEY LIKE IT THERE")
    assert kept("language:response_language", "1234", language="fr")  # nothing to tell a language by


def test_loose_checks_forgive_a_first_line_and_asterisks():
    values = {"instruction_id_list": ["startend:quotation", "punctuation:no_comma"], "kwargs": [{}, {}]}
    found = ifeval.check(values, 'Sure, here it is:\n"yes"')
    assert found == {"prompt_strict": 0, "prompt_loose": 1, "instruction_strict": 0, "instruction_loose": 1}
    assert ifeval.check(values, "  ")["instruction_loose"] == 0
    with pytest.raises(DataError, match="unknown kind"):
        ifeval.check({"instruction_id_list": ["a:b"], "kwargs": [{}]}, "x")


@given(st.text(max_size=60))
def test_strict_never_passes_where_loose_fails(text):
    plain = {"startend:quotation", "punctuation:no_comma", "detectable_format:json_format", "detectable_format:title"}
    values = {"instruction_id_list": sorted(plain), "kwargs": [{}] * len(plain)}
    found = ifeval.check(values, text)
    assert found["instruction_strict"] <= found["instruction_loose"]
    assert found["prompt_strict"] <= found["prompt_loose"]


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("One. Two! Three?", 3),
        ("Dr. Smith met Mr. J. Doe. They left.", 2),
        ("He said e.g. this. Then that", 2),
        ("Wait... what?", 2),
        ("1. First point.\n\n2. Second point.", 2),
        ("No end", 1),
        ("", 0),
        ("It cost 3.50 dollars. Fine.", 2),
    ],
)
def test_sentences(text, n):
    assert ifeval.sentences(text) == n


@needs_langdetect
def test_every_row_of_the_real_file_is_read():
    path = SHARED / "ifeval.jsonl"
    if not path.exists():
        pytest.skip("ifeval.jsonl is not at hand; set PREFLAB_SHARED_DATA to the folder that holds benchmarks/")
    kinds = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        kinds |= set(values["instruction_id_list"])
        if not any("language" in kind or "english" in kind for kind in values["instruction_id_list"]):
            assert set(ifeval.check(values, "A short answer.").values()) <= {i / n for n in (1, 2, 3) for i in range(4)}
    assert kinds == set(ifeval.CHECKS) and len(kinds) == 25
