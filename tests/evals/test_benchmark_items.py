"""Rows of benchmarks as prompts and options, subsets by content, and keys that say what differs."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflab.core.errors import ConfigError, DataError
from preflab.evals.benchmarks.catalogue import ALL, TWELVE, benchmark, named
from preflab.evals.benchmarks.choices import metrics
from preflab.evals.benchmarks.files import data_folder, missing, read_rows
from preflab.evals.benchmarks.imports import import_files
from preflab.evals.benchmarks.items import Row
from preflab.evals.benchmarks.keys import Key, check_comparable
from preflab.evals.benchmarks.questions import choice_items
from preflab.evals.benchmarks.selection import PROFILES, in_content_order, profile, shots_of, subset

ROWS = {
    "arc_challenge": {
        "question": "Which is warm?",
        "choices": {"text": ["ice", "fire"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "openbookqa": {
        "question_stem": "Fire is",
        "choices": {"text": ["cold", "warm"], "label": ["A", "B"]},
        "answerKey": "B",
    },
    "hellaswag": {
        "activity_label": "Cooking", "ctx_a": "She stirs.", "ctx_b": "the soup", "label": "1",
        "endings": ["boils [step] over.", "is  eaten."],
    },
    "winogrande": {"sentence": "Ann met Eve because _ was late.", "option1": "Ann", "option2": "Eve", "answer": "2"},
    "piqa": {"goal": "To cool tea", "sol1": "wait", "sol2": "boil it", "label": 0},
    "boolq": {"question": "is fire warm", "passage": "Fire is warm.", "answer": True},
    "mmlu": {"question": " What is 1+1? ", "subject": "basic_sums", "choices": ["1", "2", "3", "4"], "answer": 1},
}  # fmt: skip


def rows(*values):
    return [Row(number, value) for number, value in enumerate(values, start=1)]


def only(name, **more):
    (item,) = choice_items(benchmark(name), rows({**ROWS[name], **more}), (), 0)
    return item


def test_prompts_are_those_of_lm_eval():
    # Texts as lm-eval 0.4.13's templates render these rows.
    arc = only("arc_challenge")
    assert [option.context + option.continuation for option in arc.options] == [
        "Question: Which is warm?\nAnswer: ice",
        "Question: Which is warm?\nAnswer: fire",
    ]
    assert arc.correct == (1,)
    assert only("openbookqa").options[1][:2] == ("Fire is", " warm")
    hellaswag = only("hellaswag")
    assert hellaswag.options[0][:2] == ("Cooking: She stirs. The soup", " boils over.")
    assert hellaswag.options[1].continuation == " is eaten."
    winogrande = only("winogrande")
    assert [option[:2] for option in winogrande.options] == [
        ("Ann met Eve because Ann", " was late."),
        ("Ann met Eve because Eve", " was late."),
    ]
    assert winogrande.correct == (1,)
    assert only("piqa").options[0][:2] == ("Question: To cool tea\nAnswer:", " wait")
    assert only("boolq").options[1][:2] == ("Fire is warm.\nQuestion: is fire warm?\nAnswer:", " yes")
    mmlu = only("mmlu")
    opening = "The following are multiple choice questions (with answers) about basic sums.\n\n"
    assert mmlu.options[1][:2] == (opening + "What is 1+1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:", " B")
    assert (mmlu.cluster, mmlu.correct) == ("basic_sums", (1,))


def test_worked_examples_stand_in_front_with_blank_lines_between():
    pool = rows(*({"query": f"Question: {k}?\nAnswer:", "choices": ["a", "b"], "gold": 0} for k in range(5)))
    (item,) = choice_items(benchmark("arc_challenge"), rows(ROWS["arc_challenge"]), pool, 2)
    first, second = in_content_order(pool)[:2]
    assert item.options[0].context == (
        f"{first.values['query']} a\n\n{second.values['query']} a\n\nQuestion: Which is warm?\nAnswer:"
    )


def test_mmlu_takes_the_first_rows_of_the_subject():
    asked = {**ROWS["mmlu"], "question": "asked"}
    pool = rows(
        {**ROWS["mmlu"], "question": "other", "subject": "x"},
        {**ROWS["mmlu"], "question": "first"},
        {**ROWS["mmlu"], "question": "second"},
    )
    (item,) = choice_items(benchmark("mmlu"), rows(asked), pool, 1)
    text = item.options[0].context
    assert "first" in text and "second" not in text and "other" not in text


def test_a_scored_item_is_never_a_worked_example():
    pool = rows({"query": "Question: 1?\nAnswer:", "choices": ["a"], "gold": 0}, ROWS["arc_challenge"])
    with pytest.raises(DataError, match="also an item"):
        choice_items(benchmark("arc_challenge"), rows(ROWS["arc_challenge"]), pool, 1)
    with pytest.raises(DataError, match="needs 3 worked examples; the file has 1"):
        shots_of(pool[:1], 3, benchmark=benchmark("arc_challenge"), scored=())


def test_truthfulqa_puts_both_lists_of_options_behind_one_prompt():
    values = {
        "question": "Is fire warm?",
        "mc1_targets": {"choices": ["Yes.", "No."], "labels": [1, 0]},
        "mc2_targets": {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]},
    }
    (item,) = choice_items(benchmark("truthfulqa"), rows(values), (), 0)
    assert [option.text for option in item.options] == ["Yes.", "No.", "It is."]
    found = metrics(benchmark("truthfulqa"), item, np.log([0.3, 0.4, 0.1]))
    assert found == {"mc1": 0.0, "mc2": pytest.approx(0.4 / 0.8)}


def test_acc_norm_divides_by_characters():
    item = only("arc_challenge", choices={"text": ["ice", "a very warm fire"], "label": ["A", "B"]})
    assert metrics(benchmark("arc_challenge"), item, np.array([-3.0, -8.0])) == {"acc": 0.0, "acc_norm": 1.0}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(1, 10), st.randoms())
def test_a_subset_depends_on_content_alone_and_grows(numbers, n, random):
    found = rows(*({"n": number} for number in numbers))
    shuffled = rows(*random.sample([row.values for row in found], len(found)))
    small, large = subset(found, n), subset(found, n + 1)
    assert [row.id for row in subset(shuffled, n)] == [row.id for row in small]
    assert large[: len(small)] == small
    assert len({row.id for row in large}) == len(large)


def test_a_row_that_is_not_of_the_benchmark_is_named():
    with pytest.raises(DataError, match=r"arc_challenge_validation.jsonl, row 2: not a row of arc_challenge"):
        choice_items(benchmark("arc_challenge"), rows(ROWS["arc_challenge"], {"question": "x"}), (), 0)


def test_names_and_profiles():
    assert len(TWELVE) == 12 and [each.name for each in named(["thirteen", "piqa"])] == list(TWELVE)
    assert sum(each.thirteen for each in ALL) == 13
    assert [each.items for each in PROFILES] == [100, 500, None]
    assert profile("quick").shots_of(benchmark("arc_challenge")) == 0
    assert profile("paper").shots_of(benchmark("arc_challenge")) == 25
    with pytest.raises(ConfigError, match="Did you mean 'hellaswag'"):
        benchmark("helaswag")
    with pytest.raises(ConfigError, match="needs a judge"):
        benchmark("mt_bench")
    with pytest.raises(ConfigError, match="no such profile"):
        profile("fast")


def key(**parts):
    given = dict(benchmark="piqa", scorer="native 1", shots=0, template="", subset="s", prompts="p", longest=0,
                 tokenizer="t", numeric={"dtype": "float32"})  # fmt: skip
    return Key(**{**given, **parts})


def test_a_comparison_says_which_parts_of_the_keys_differ():
    check_comparable(key(), key(tokenizer="other"), ("a", "b"))
    with pytest.raises(ConfigError, match=r"piqa: the scores of a and b differ in the number of worked examples and"):
        check_comparable(key(), key(shots=5, prompts="q"), ("a", "b"))
    assert Key.from_json(json.loads(json.dumps(key().as_json()))) == key()


def test_files_are_found_read_and_missed_with_the_command_that_gets_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFLAB_BENCHMARKS", str(tmp_path))
    assert data_folder() == tmp_path
    with pytest.raises(ConfigError, match="no such folder"):
        data_folder(tmp_path / "none")
    assert "preflab data benchmarks --import hub" in missing(benchmark("piqa"), tmp_path, shots=0)
    (tmp_path / "piqa_validation.jsonl").write_text("")
    with pytest.raises(DataError, match="the file is empty"):
        read_rows(tmp_path, "piqa_validation.jsonl")
    (tmp_path / "piqa_validation.jsonl").write_text("{broken\n")
    with pytest.raises(DataError, match=r"piqa_validation.jsonl"):
        read_rows(tmp_path, "piqa_validation.jsonl")


def test_importing_from_a_folder_is_whole_and_replaces_nothing(tmp_path):
    source, data = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    (source / "piqa_validation.jsonl").write_text(json.dumps(ROWS["piqa"]) + "\n")
    said = []
    assert import_files(str(source), [benchmark("piqa")], data, say=said.append) == ["piqa_validation.jsonl"]
    assert said == ["piqa_validation.jsonl: 1 rows"]
    import_files(str(source), [benchmark("piqa")], data, say=said.append)  # the same again is fine
    (source / "piqa_validation.jsonl").write_text(json.dumps({**ROWS["piqa"], "label": 1}) + "\n")
    with pytest.raises(DataError, match="holds other rows already"):
        import_files(str(source), [benchmark("piqa")], data, say=said.append)
    (source / "piqa_validation.jsonl").write_text(json.dumps({"goal": "x"}) + "\n")
    with pytest.raises(DataError, match="not a row of piqa"):
        import_files(str(source), [benchmark("piqa")], tmp_path / "other", say=said.append)
    assert list((tmp_path / "other").iterdir()) == []
    with pytest.raises(ConfigError, match="a source is a folder"):
        import_files("nowhere", [benchmark("piqa")], data, say=said.append)
    with pytest.raises(ConfigError, match="pip install --no-deps bigbench"):
        import_files("bigbench", [benchmark("hhh")], data, say=said.append)
