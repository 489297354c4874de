"""Answers of a model for judges, through the command, on a tiny random model."""

import json
import os
from pathlib import Path

import pytest
from tests.evals.judges.stub import Stub, says, shown_to
from tests.tiny import write_tiny_world

from preflab.cli.main import run
from preflab.evals.judges.answers import read_answers, read_questions
from preflab.evals.judges.mt_bench import answer_temperature
from preflab.studies import answer_files

ASKED = {"writing": ("word1 word2", "word3"), "math": ("word4", "word5 word6"), "stem": ("word7", "word8")}
REFERENCES = {"math": ["word9", ""]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_tiny_world(tmp_path_factory.mktemp("world"))[0]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFLAB_BENCHMARKS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    rows = [
        {"question_id": 81 + k, "category": name, "turns": turns}
        | ({"reference": REFERENCES[name]} if name in REFERENCES else {})
        for k, (name, turns) in enumerate(ASKED.items())
    ]
    write(answer_files.QUESTIONS, rows)
    return tmp_path


def write(name: str, rows: list[dict]) -> None:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def answer(model, *words, expect=0, out="tiny.jsonl"):
    assert run(["judge", "answer", str(model), "--out", out, "--max-new-tokens", "5", *words]) == expect
    return [json.loads(line) for line in Path(out).read_text().splitlines()] if expect == 0 else []


@pytest.fixture
def asked(monkeypatch):
    """What was asked for: conversations as texts with roles, and their temperature, call by call."""
    calls: list[tuple[list[list[str]], float]] = []
    sampled = answer_files.sampled

    def spy(answerer, examples, origin, say, *, temperature):
        calls.append(([[f"{m.role}: {m.content}" for m in each.prompt] for each in examples], temperature))
        return sampled(answerer, examples, origin, say, temperature=temperature)

    monkeypatch.setattr(answer_files, "sampled", spy)
    return calls


def test_two_turns_at_the_temperature_of_their_category(model, asked):
    rows = answer(model)
    assert [(row["id"], row["category"], row["temperature"], row["seed"]) for row in rows] == [
        ("81", "writing", 0.7, 0),
        ("82", "math", 0.0, 0),
        ("83", "stem", 0.1, 0),
    ]
    assert [temperature for _, temperature in asked] == [0.7, 0.0, 0.1] * 2
    for row, ((first,), _), ((second,), _) in zip(rows, asked[:3], asked[3:], strict=True):
        assert len(row["response"]) == len(row["truncated"]) == 2
        assert first == [f"user: {row['prompt'][0]}"]
        assert second == [*first, f"assistant: {row['response'][0]}", f"user: {row['prompt'][1]}"]


def test_the_file_goes_to_the_judge_as_it_is_and_an_unknown_reference_is_not_shown(model, capsys):
    answer(model)
    capsys.readouterr()
    with Stub(lambda body, number: says("[[5]]")) as stub:
        assert run(["judge", "mt-bench", "tiny.jsonl", "--server", stub.url, "--model", "s", "--json"]) == 0
        shown = [shown_to(body) for body in stub.seen]
    found = json.loads(capsys.readouterr().out)
    (tiny,) = found["models"]
    assert (tiny["contender"], tiny["n"], tiny["score"]["estimate"]) == ("tiny", 6, 5.0)
    assert set(tiny["categories"]) == set(ASKED)
    assert len(found["warnings"]) == 2 and all("can be gamed" in sentence for sentence in found["warnings"])
    second = [text for text in shown if "word5 word6" in text]
    assert len(second) == 3 and all("<reference1-" in text and "<reference2-" not in text for text in second)


def test_reference_answers_of_a_file_take_the_place_of_the_questions_own(model):
    write(answer_files.REFERENCES, [{"question_id": 83, "choices": [{"turns": ["word10", "word11"]}]}])
    assert [row.get("reference") for row in answer(model)] == [None, None, ["word10", "word11"]]


def committed(cache: str) -> int:
    return len(list(Path(cache).rglob("manifest.json")))


def test_a_stopped_command_continues_with_the_same_answers(model, monkeypatch):
    whole = answer(model, out="whole.jsonl")
    account = json.loads(Path("whole.jsonl.about").read_text())
    assert account["answers"] == committed("cache") == 6
    assert account["temperatures"] == {"writing": 0.7, "math": 0.0, "stem": 0.1}
    monkeypatch.setenv("PREFLAB_CACHE", "other")
    sampled, calls = answer_files.sampled, iter(range(6))

    def stopped(*given, **how):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return sampled(*given, **how)

    with monkeypatch.context() as patch:
        patch.setattr(answer_files, "sampled", stopped)
        answer(model, expect=5)
    assert not Path("tiny.jsonl").exists() and committed("other") == 4
    kept = {path: path.stat().st_mtime_ns for path in Path("other").rglob("manifest.json")}
    assert answer(model) == whole
    assert json.loads(Path("tiny.jsonl.about").read_text()) == account
    assert committed("other") == 6 and all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_another_seed_changes_what_is_sampled_and_nothing_greedy(model, capsys):
    first = {row["category"]: row["response"] for row in answer(model)}
    second = {row["category"]: row["response"] for row in answer(model, "--seed", "1", out="other.jsonl")}
    assert first["math"] == second["math"] and first["writing"] != second["writing"]
    answer(model, "--seed", "1", expect=2)
    assert "already there with other content" in capsys.readouterr().err


CONVERSATION = [
    {"role": "user", "content": "word3"},
    {"role": "assistant", "content": "word4"},
    {"role": "user", "content": "word5"},
]


@pytest.mark.parametrize(
    ("given", "said"),
    [("word1", ["user: word1"]), (CONVERSATION, ["user: word3", "assistant: word4", "user: word5"])],
)
def test_own_prompts_are_answered_once_each(model, asked, given, said):
    write("prompts.jsonl", [{"prompt": given}] * 2)
    (row,) = answer(model, "--prompts", "prompts.jsonl")
    assert row["prompt"] == given and isinstance(row["response"], str)
    assert asked == [([said], 0.7)]
    (item,) = read_answers(Path("tiny.jsonl")).items.values()
    assert len(item.turns) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "tiny.txt"], 2, "must end in .jsonl"),
        (["--out", "t.jsonl", "--batch-size", "0"], 2, "--batch-size: must be at least 1"),
        (["--out", "t.jsonl", "--prompts", "p.jsonl", "--data-dir", "."], 2, "leave it out with --prompts"),
        (["--out", "t.jsonl", "--prompts", "none.jsonl"], 3, "no such file"),
        (["--out", "t.jsonl", "--data-dir", "empty"], 3, "question.jsonl there"),
        # Two turns of 2 + 1 words, with <user>, <bot> twice and <eos> between them: 8 of 2,048 positions.
        (["--out", "t.jsonl", "--max-new-tokens", "1021"], 2, "prompt 81 with such answers could outgrow the 2048"),
    ],
)
def test_what_cannot_be_is_one_sentence(model, capsys, words, code, said):
    Path("empty").mkdir()
    assert run(["judge", "answer", str(model), *words]) == code
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err


def test_the_longest_answers_that_fit_are_named(model, capsys):
    run(["judge", "answer", str(model), "--out", "t.jsonl", "--max-new-tokens", "1021"])
    assert "at most 1020 fit" in capsys.readouterr().err


def test_fastchats_temperatures():
    # FastChat, fastchat/llm_judge/common.py, temperature_config; 0.7 for others in gen_model_answer.py.
    found = {name: answer_temperature(name) for name in ("writing", "roleplay", "extraction", "math", "coding",
                                                         "reasoning", "stem", "humanities", "")}  # fmt: skip
    assert list(found.values()) == [0.7, 0.7, 0.0, 0.0, 0.0, 0.0, 0.1, 0.1, 0.7]


def test_mt_benchs_own_files_can_be_read():
    shared = os.environ.get("PREFLAB_SHARED_DATA") or Path(__file__).parents[3] / "../shared/data"
    folder = Path(shared) / "benchmarks"
    if not (folder / answer_files.QUESTIONS).exists():
        pytest.skip("MT-Bench's questions are not on this machine")
    alone = read_questions(folder / answer_files.QUESTIONS)
    asked = answer_files.mt_bench(folder)
    assert len(alone) == len(asked) == 80
    assert {each.temperature for each in asked} == {0.0, 0.1, 0.7}
    assert sum("reference" in each.row for each in asked) == 30
