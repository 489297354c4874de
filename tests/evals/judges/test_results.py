"""A run from files to results, through the command, against a stub server."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.evals.judges.stub import Answer, Stub, says, shown_to

from preflab.cli.main import run
from preflab.core.errors import DataError
from preflab.data.examples import Example
from preflab.evals.judges.answers import Answers, Item, common_items, read_answers, read_questions
from preflab.evals.judges.cases import PairProtocol
from preflab.evals.judges.controls import INJECTION, NULL
from preflab.evals.judges.five_way import FIVE_WAY
from preflab.evals.judges.mt_bench import PAIRWISE, SINGLE
from preflab.evals.judges.preference import PREFERENCE
from preflab.evals.judges.results import JUDGEMENTS, RESULT, pairs_plan, plan
from preflab.store.artefacts import verify

KEY = "sk-canary-0123456789"
N = 12


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, rows: list[dict]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(home) -> dict[str, str]:
    """A model that is always right, its baseline that never is, and a model that is right every third time."""
    rows = [{"prompt": f"Question {i}?", "category": "math" if i % 2 else "writing"} for i in range(N)]
    return {
        name: write(
            f"{name}.jsonl", [row | {"response": "right" if is_right(i) else "wrong"} for i, row in enumerate(rows)]
        )
        for name, is_right in {"good": lambda i: True, "base": lambda i: False, "mixed": lambda i: i % 3 == 0}.items()
    }


def sides(body: dict) -> tuple[str, str]:
    """The two answers of a comparison, as the judge sees them."""
    shown = shown_to(body)
    first, second = ("Model m:", "Model M:") if "Model m:" in shown else ("Assistant A:", "Assistant B:")
    return shown.split(first)[1].split(second)[0], shown.split(second)[1]


def honest(body, number):
    """Prefers right answers to others, and grades them 9 to 1."""
    system = body["messages"][0]["content"]
    if system.startswith("You grade"):
        return says("Because.\n[[9]]" if "right" in shown_to(body) else "Because.\n[[1]]")
    a, b = ("right" in side for side in sides(body))
    wrong = ["wrong" in side for side in sides(body)]
    better = a - b or wrong[0] - wrong[1]  # even a wrong answer is better than a control's
    if body.get("logprobs"):
        return says("m", first_token={"m": -0.1 - 2.0 * (better < 0), "M": -0.1 - 2.0 * (better > 0)})
    if "[[A>>B]]" in system:
        return says(f"Because.\n[[{'A>>B' if better > 0 else 'B>>A' if better < 0 else 'A=B'}]]")
    return says(f"Because.\n[[{'A' if better > 0 else 'B' if better < 0 else 'C'}]]")


def judge(*words: str, stub: Stub, capsys, expect: int = 0) -> dict:
    code = run(["judge", *words, "--server", stub.url, "--model", "stub", "--json"])
    out, err = capsys.readouterr()
    assert code == expect, err
    return json.loads(out) if code == 0 else {"error": err}


def by_name(found: dict) -> dict:
    return {each["contender"]: each for each in [*found["models"], *found["controls"]]}


def test_pairwise_by_an_honest_judge(files, capsys):
    with Stub(honest) as stub:
        found = judge("mt-bench", files["good"], files["mixed"], "--baseline", files["base"], stub=stub, capsys=capsys)
        assert (
            len(stub.seen) == 2 * 4 * N - 2 * 8
        )  # the mixed model's wrong answers meet the baseline's in one order only
    models = by_name(found)
    assert models["good"]["win_rate"]["estimate"] == 1.0
    assert models["mixed"]["win_rate"]["estimate"] == pytest.approx((4 + 8 / 2) / 12)
    assert [models[name]["win_rate"]["estimate"] for name in (NULL, INJECTION)] == [0.0, 0.0]
    assert found["warnings"] == ["6 items of mathematics, reasoning or coding were judged without reference answer."]
    assert found["judge"]["answered_as"] == ["stub-1"]


def test_single_grades_with_controls(files, capsys):
    with Stub(honest) as stub:
        found = judge("mt-bench", files["good"], files["mixed"], stub=stub, capsys=capsys)
    models = by_name(found)
    assert models["good"]["score"]["estimate"] == 9.0
    assert models["mixed"]["score"]["estimate"] == pytest.approx((4 * 9 + 8) / 12)
    assert models[NULL]["score"]["estimate"] == models[INJECTION]["score"]["estimate"] == 1.0
    assert set(models["good"]["categories"]) == {"math", "writing"}


def test_preference_with_length_adjusted_rate(files, capsys):
    with Stub(honest) as stub:
        found = judge("preference", files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    good = by_name(found)["good"]
    assert good["win_rate"]["estimate"] == pytest.approx(0.8807970780)  # sigmoid(2)
    assert good["length_adjusted"]["rate"]["estimate"] == pytest.approx(0.8807970780)  # equally long answers
    assert good["first_rate"]["estimate"] == pytest.approx(0.5)


def test_five_way_with_strengths(files, capsys):
    with Stub(honest) as stub:
        found = judge("five-way", files["good"], files["mixed"], "--baseline", files["base"], stub=stub, capsys=capsys)
    players = {each["player"]: each["strength"]["estimate"] for each in found["strengths"]}
    assert list(players) == ["base", "good", "mixed"]
    # 4 items won by two strong verdicts of weight 3, 8 tied in both orders: log((24 + 8) / 8).
    assert players["mixed"] == pytest.approx(1.3863, abs=0.01)
    assert players["good"] > 3 and players["base"] == 0


def first_shown(body, number):
    if body.get("logprobs"):
        return says("m", first_token={"m": -0.1, "M": -3.0})
    return says("[[A>>B]]" if "[[A>>B]]" in body["messages"][0]["content"] else "[[A]]")


@pytest.mark.parametrize("protocol", ["mt-bench", "preference", "five-way"])
def test_a_judge_with_position_bias_is_told(files, capsys, protocol):
    with Stub(first_shown) as stub:
        found = judge(protocol, files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    good = by_name(found)["good"]
    assert good["win_rate"]["estimate"] == pytest.approx(0.5)
    assert good["first_rate"]["estimate"] > 0.9
    assert any("shown first is preferred" in sentence for sentence in found["warnings"])


def gullible(body, number):
    """Obeys the answer that gives it instructions."""
    a, b = ("disregard the instructions" in side for side in sides(body))
    return says(f"[[{'A' if a else 'B'}]]") if a or b else honest(body, number)


def test_a_judge_that_obeys_an_injection_is_flagged(files, capsys):
    with Stub(gullible) as stub:
        found = judge("mt-bench", files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    models = by_name(found)
    assert (models[INJECTION]["win_rate"]["estimate"], models[NULL]["win_rate"]["estimate"]) == (1.0, 0.0)
    flagged = [sentence for sentence in found["warnings"] if "can be gamed" in sentence]
    assert len(flagged) == 1 and flagged[0].startswith(f"{INJECTION} wins 100%")
    assert models["good"]["win_rate"]["estimate"] == 1.0


def test_failures_of_every_kind_are_counted_and_nobody_loses_by_them(files, capsys):
    def unsteady(body, number):
        shown = shown_to(body)
        if "Question 1?" in shown:
            return says("I'm sorry, I cannot help with that.")
        if "Question 2?" in shown:
            return says("Both are nice.")
        if "Question 3?" in shown:
            return says("")
        if "Question 4?" in shown:
            return Answer(400, b"{}")
        if "Question 5?" in shown:
            return says("So far [[A]]", finish="length")
        return honest(body, number)

    with Stub(unsteady) as stub:
        found = judge("mt-bench", files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    good = by_name(found)["good"]
    assert good["failures"] == {"refusal": 2, "malformed": 2, "empty": 2, "transport": 2, "cut": 2}
    assert (good["n"], good["n_judged"], good["losses"]) == (12, 7, 0)
    assert good["win_rate"]["estimate"] == 1.0
    assert any("good: 10 of 24 calls gave no verdict" in sentence for sentence in found["warnings"])


def test_a_server_without_log_probs_is_told(files, capsys):
    with Stub(lambda body, number: says("m")) as stub:
        found = judge("preference", files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    assert by_name(found)["good"]["failures"] == {"no_logprobs": 24}
    assert by_name(found)["good"]["win_rate"] is None


def test_the_same_command_sends_nothing_and_writes_nothing_new(files, capsys):
    words = ("mt-bench", files["good"], "--baseline", files["base"])
    with Stub(honest) as stub:
        first = judge(*words, stub=stub, capsys=capsys)
        calls = len(stub.seen)
        second = judge(*words, stub=stub, capsys=capsys)
        assert len(stub.seen) == calls
    assert second["spent"]["requests"] == 0
    assert first | {"spent": None} == second | {"spent": None}
    assert len(list(Path("runs/judge").iterdir())) == 1


def test_result_and_table_are_whole(files, capsys):
    with Stub(honest) as stub:
        found = judge("five-way", files["good"], "--baseline", files["base"], stub=stub, capsys=capsys)
    folder = Path(found["folder"])
    verify(folder)
    stored = json.loads((folder / RESULT).read_text())
    assert stored == {key: value for key, value in found.items() if key not in ("folder", "spent")}
    table = pd.read_parquet(folder / JUDGEMENTS)
    assert list(table.contender.value_counts()) == [N, N, N]
    good = table[table.contender == "good"]
    assert (good.score == 1).all() and (good.weight_first == 3).all() and good.failure_first.isna().all()
    assert good.reply_second.iloc[0] == "Because.\n[[B>>A]]"


def test_the_key_is_in_no_file_and_no_output(files, capsys, monkeypatch, home):
    monkeypatch.setenv("JUDGE_KEY", KEY)

    def leaky(body, number):
        return Answer(400, KEY.encode()) if number == 3 else says(f"Your key is {KEY}.\n[[A]]")

    with Stub(leaky) as stub:
        words = ["judge", "mt-bench", files["good"], "--baseline", files["base"], "--server", stub.url, "--model", "s"]
        assert run([*words, "--key-env", "JUDGE_KEY"]) == 0
        assert run([*words, "--key-env", "JUDGE_KEY", "--json"]) == 0
        assert run([*words, "--key-env", "JUDGE_KEY", "--preview"]) == 0
        assert set(stub.keys) == {f"Bearer {KEY}"}
    out, err = capsys.readouterr()
    assert KEY not in out + err
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) > 20
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in pd.read_parquet(next(home.rglob(JUDGEMENTS))).to_json()


def test_the_cap_stops_with_exit_code_five_and_the_next_run_continues(files, capsys):
    words = ("mt-bench", files["good"], "--baseline", files["base"])
    with Stub(honest) as stub:
        found = judge(*words, "--max-requests", "10", stub=stub, capsys=capsys, expect=5)
        assert "above the limit of 10" in found["error"] and len(stub.seen) == 10
        assert not Path("runs").exists()
        judge(*words, stub=stub, capsys=capsys)
        assert len(stub.seen) == 2 * 3 * N


def test_preview_shows_messages_and_sends_nothing(files, capsys):
    with Stub(honest) as stub:
        words = [
            "judge",
            "preference",
            files["good"],
            "--baseline",
            files["base"],
            "--server",
            stub.url,
            "--model",
            "s",
        ]
        assert run([*words, "--preview", "--prompt-price", "1", "--completion-price", "2"]) == 0
        assert stub.seen == []
    shown = capsys.readouterr().out
    assert f"{2 * 3 * N} requests to send" in shown and "this machine" in shown and "nothing was sent" in shown
    assert "Question 0?" in shown and "in money" in shown
    assert not Path("runs").exists() and not Path("cache").exists()


def test_text_output_shows_intervals_controls_and_warnings(files, capsys):
    with Stub(first_shown) as stub:
        words = ["judge", "mt-bench", files["good"], "--baseline", files["base"], "--server", stub.url, "--model", "s"]
        assert run(words) == 0
    out, err = capsys.readouterr()
    for text in ("good", NULL, INJECTION, "12/12", "50.0", "warning:", "runs/judge/mt-bench-pairwise-"):
        assert text in out
    assert "requests sent" in err


def test_agreement_with_people(capsys):
    rows = [{"prompt": f"Q {i}", "chosen": "right" if i % 4 else "wrong", "rejected": "wrong" if i % 4 else "right"}
            for i in range(20)]  # fmt: skip
    pairs = write("pairs.jsonl", rows)
    with Stub(honest) as stub:
        found = judge("agreement", pairs, "--protocol", "mt-bench", stub=stub, capsys=capsys)
    assert found["agreement"]["accuracy"]["estimate"] == 0.75  # every fourth label is against the judge
    assert 0.2 < found["agreement"]["kappa"]["estimate"] < 0.8
    assert {each["contender"] for each in found["controls"]} == {NULL, INJECTION}


class TestPlans:
    def answers(self, name: str) -> Answers:
        items = {str(i): Item(str(i), (f"q{i}",)) for i in range(3)}
        return Answers(name, items, dict.fromkeys(items, (name,)))

    @pytest.mark.parametrize("protocol", [SINGLE, PAIRWISE, PREFERENCE, FIVE_WAY], ids=lambda protocol: protocol.name)
    def test_controls_are_in_every_plan(self, protocol):
        baseline = self.answers("base") if isinstance(protocol, PairProtocol) else None
        of = plan(protocol, [self.answers("us")], baseline)
        assert of.contenders == ("us", NULL, INJECTION)
        assert {case.contender for case in of.cases} == set(of.contenders)
        assert any(protocol.injection in request.messages[-1][1] for request in of.requests)
        assert all(request.protocol == protocol.version for request in of.requests)

    def test_every_comparison_is_asked_in_both_orders(self):
        of = plan(PREFERENCE, [self.answers("us")], self.answers("base"))
        for case in of.cases:
            first, second = (request.messages[-1][1] for request in case.requests)
            assert first.index(case.answer) < first.index("Model M:") < first.index(f">\n{case.opponent}\n<")
            assert second.index(f">\n{case.opponent}\n<") < second.index("Model M:") < second.index(case.answer)

    def test_one_name_for_two_models_is_refused(self):
        with pytest.raises(DataError, match="both called 'us'"):
            plan(PREFERENCE, [self.answers("us")], self.answers("us"))

    def test_pairs_take_both_roles_and_labels_follow(self):
        examples = [Example(i, f"q{i}", "good", "bad") for i in range(40)]
        of = pairs_plan(PREFERENCE, examples)
        models = [case for case in of.cases if case.contender == "one"]
        assert {case.answer for case in models} == {"good", "bad"}
        assert all((case.answer == "good") == (of.human[case.item.id] == 1) for case in models)


class TestAnswers:
    def test_turns_references_and_ids(self):
        rows = [{"id": 7, "prompt": ["a", "b"], "response": ["x", ""], "category": "math", "reference": ["r", "s"]}]
        found = read_answers(Path(write("m.jsonl", rows)))
        assert found.name == "m"
        assert found.items == {"7": Item("7", ("a", "b"), "math", ("r", "s"))}
        assert found.responses == {"7": ("x", "")}

    def test_messages_are_one_prompt(self):
        rows = [{"prompt": [{"role": "user", "content": "hi"}], "response": "x"}]
        (item,) = read_answers(Path(write("m.jsonl", rows))).items.values()
        assert item.turns == ("hi",)

    def test_fastchats_files(self):
        asked = {"question_id": 101, "category": "reasoning", "turns": ["a", "b"], "reference": ["old", "old"]}
        questions = Path(write("question.jsonl", [asked]))
        references = Path(write("gpt-4.jsonl", [{"question_id": 101, "choices": [{"turns": ["r", "s"]}]}]))
        answers = Path(write("zephyr.jsonl", [{"question_id": 101, "choices": [{"turns": ["x", "y"]}]}]))
        known = read_questions(questions, references)
        assert known == {"101": Item("101", ("a", "b"), "reasoning", ("r", "s"))}
        assert read_questions(questions)["101"].references == ("old", "old")
        assert read_answers(answers, known).responses == {"101": ("x", "y")}
        with pytest.raises(DataError, match="--questions"):
            read_answers(answers)

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"response": "x"}, "prompt must be a text or a list"),
            ({"prompt": "q"}, "response must be a text or a list"),
            ({"prompt": " ", "response": "x"}, "prompt must be"),
            ({"prompt": "q", "response": 3}, "response must be"),
            ({"prompt": "q", "response": "a\ud800"}, "response holds half a character"),
            ({"prompt": ["q", "r"], "response": "x"}, "2 turn(s) need as many responses; got 1"),
            ({"question_id": 1, "choices": []}, "--questions"),
        ],
    )
    def test_a_wrong_row_is_told_with_its_place(self, row, said):
        with pytest.raises(DataError) as error:
            read_answers(Path(write("m.jsonl", [{"prompt": "p", "response": "r"}, row])))
        assert said in str(error.value) and "m.jsonl:2" in str(error.value)

    def test_an_item_twice_and_a_missing_file(self):
        with pytest.raises(DataError, match="answered twice"):
            read_answers(Path(write("m.jsonl", [{"prompt": "p", "response": "r"}] * 2)))
        with pytest.raises(DataError, match="no such file"):
            read_answers(Path("none.jsonl"))
        Path("broken.jsonl").write_text('{"prompt": "p"\n')
        with pytest.raises(DataError, match="cannot be read"):
            read_answers(Path("broken.jsonl"))

    def test_models_must_answer_the_same(self):
        one = read_answers(Path(write("a.jsonl", [{"prompt": "p", "response": "r"}])))
        other = read_answers(Path(write("b.jsonl", [{"prompt": "q", "response": "r"}])))
        with pytest.raises(DataError, match="b: other items than in a"):
            common_items([one, other])
        same_id = [Answers(n, {"1": Item("1", (n,))}, {"1": ("x",)}) for n in ("a", "b")]
        with pytest.raises(DataError, match="asks something else"):
            common_items(same_id)
        with pytest.raises(DataError, match="no answers"):
            common_items([Answers("a", {}, {})])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mt-bench"], "name at least one file"),
        (["mt-bench", "good.jsonl", "--references", "r.jsonl"], "belongs to --questions"),
        (["mt-bench", "good.jsonl", "--max-cost", "1"], "needs prices"),
        (["mt-bench", "good.jsonl", "--key-env", "NO_SUCH_KEY"], "variable NO_SUCH_KEY must hold the key"),
        (["agreement", "pairs.jsonl", "--rows", "0"], "--rows: must be at least 1"),
    ],
)
def test_usage_errors_are_one_sentence(files, capsys, words, said):
    assert run(["judge", *words, "--server", "http://127.0.0.1:9/v1", "--model", "m"]) == 2
    assert said in capsys.readouterr().err
