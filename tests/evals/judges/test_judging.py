"""Replies are kept and never paid for twice; several calls at once; a preview sends nothing."""

import json

import pytest
from tests.evals.judges.stub import Answer, Stub, says, shown_to

from preflab.core.errors import ConfigError
from preflab.evals.judges.budget import Budget, BudgetReached, Limits, Tokens
from preflab.evals.judges.client import ChatClient, Server
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered
from preflab.evals.judges.judging import Judge, preview
from preflab.evals.judges.replies import ReplyCache


def requests(n: int) -> list[ChatRequest]:
    return [ChatRequest("test/1", (("user", f"question {i}"),), max_tokens=4) for i in range(n)]


def echo(body, number):
    return says(shown_to(body), first_token={"m": -0.5, "M": -1.0})


def judge(stub: Stub, folder, *, concurrency=4, **limits) -> Judge:
    asker = ChatClient(Server(stub.url, "judge", retries=0), Budget(Limits(**limits)), sleep=lambda s: None)
    return Judge(asker, ReplyCache(folder), concurrency)


def test_replies_come_in_the_order_of_the_requests_and_equal_ones_are_asked_once(tmp_path):
    asked = requests(20)
    with Stub(echo) as stub:
        replies = judge(stub, tmp_path).ask_all([*asked, *asked[:5]])
        assert [reply.text for reply in replies] == [f"question {i}" for i in [*range(20), *range(5)]]
        assert len(stub.seen) == 20


def test_the_second_time_nothing_is_sent(tmp_path):
    with Stub(echo) as stub:
        first = judge(stub, tmp_path).ask_all(requests(5))
        second = judge(stub, tmp_path, requests=0).ask_all(requests(5))
        assert first == second
        assert first[0].first_token == {"m": -0.5, "M": -1.0} and first[0].tokens == Tokens(10, 5)
        assert len(stub.seen) == 5


def test_no_more_calls_are_open_than_allowed(tmp_path):
    def slow(body, number):
        return Answer(body=echo(body, number).body, hang_s=0.03)

    with Stub(slow) as stub:
        judge(stub, tmp_path, concurrency=3).ask_all(requests(9))
        assert stub.most_open == 3
    with Stub(echo) as stub, pytest.raises(ConfigError, match="at least 1"):
        judge(stub, tmp_path, concurrency=0)


def test_another_server_model_prompt_version_or_setting_is_another_question(tmp_path):
    cache, request = ReplyCache(tmp_path), requests(1)[0]
    keys = {
        cache.key(Server("http://127.0.0.1:1/v1", "a"), request),
        cache.key(Server("http://127.0.0.1:2/v1", "a"), request),
        cache.key(Server("http://127.0.0.1:1/v1", "b"), request),
        cache.key(Server("http://127.0.0.1:1/v1", "a"), ChatRequest("test/2", request.messages, 4)),
        cache.key(Server("http://127.0.0.1:1/v1", "a"), ChatRequest("test/1", request.messages, 5)),
        cache.key(Server("http://127.0.0.1:1/v1", "a"), ChatRequest("test/1", request.messages, 4, 1.0)),
        cache.key(Server("http://127.0.0.1:1/v1", "a"), ChatRequest("test/1", request.messages, 4, 0.0, 5)),
    }
    assert len(keys) == 7
    patient = Server("http://127.0.0.1:1/v1/", "a", key_env="KEY", timeout_s=1, retries=0)
    assert cache.key(patient, request) in keys


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace("yes", "no!"),
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: "\x00" * 50,
    ],
)
def test_a_damaged_entry_is_asked_again(tmp_path, damage):
    cache, reply = ReplyCache(tmp_path), Reply("yes", "stop", "", None, "m", None)
    cache.put("ab" * 32, reply)
    assert cache.get("ab" * 32) == reply
    (path,) = tmp_path.rglob("*.json")
    path.write_text(damage(path.read_text()))
    assert cache.get("ab" * 32) is None
    cache.put("ab" * 32, reply)
    assert cache.get("ab" * 32) == reply


def test_an_entry_under_anothers_name_is_not_taken(tmp_path):
    cache = ReplyCache(tmp_path)
    cache.put("ab" * 32, Reply("yes", "stop", "", None, "m", None))
    (path,) = tmp_path.rglob("*.json")
    path.rename(path.with_name("ac" + "ab" * 31 + ".json")).rename(tmp_path / "ab" / f"{'ab' * 31}cd.json")
    assert cache.get("ab" * 31 + "cd") is None


def test_failed_calls_are_not_kept(tmp_path):
    with Stub(lambda body, number: Answer(500) if number == 0 else says("yes")) as stub:
        assert judge(stub, tmp_path).ask_all(requests(1)) == [Unanswered("status 500")]
        assert judge(stub, tmp_path).ask_all(requests(1))[0].text == "yes"


def test_what_was_judged_before_the_cap_is_kept(tmp_path):
    with Stub(echo) as stub:
        with pytest.raises(BudgetReached, match="run the same command again"):
            judge(stub, tmp_path, requests=3, concurrency=1).ask_all(requests(5))
        assert len(stub.seen) == 3
        judge(stub, tmp_path, requests=2).ask_all(requests(5))
        assert len(stub.seen) == 5


def test_an_error_stops_the_calls_that_have_not_begun(tmp_path):
    with Stub(lambda body, number: Answer(401)) as stub:
        with pytest.raises(ConfigError):
            judge(stub, tmp_path, concurrency=1).ask_all(requests(50))
        assert len(stub.seen) < 25  # some may begin until the first error is seen


def test_progress_counts_calls_that_are_made(tmp_path):
    told = []
    with Stub(echo) as stub:
        judge(stub, tmp_path).ask_all(requests(2))
        judge(stub, tmp_path).ask_all(requests(5), lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_preview_says_what_would_leave_and_sends_nothing(tmp_path):
    asked = requests(10)
    with Stub(echo) as stub:
        judge(stub, tmp_path).ask_all(asked[:4])
        server = Server(stub.url, "judge")
        limits = Limits(prompt_price=1e6, completion_price=2e6)
        shown = preview([*asked, *asked], server, ReplyCache(tmp_path), limits, examples=2)
        assert len(stub.seen) == 4
    assert shown["requests"] == {"wanted": 10, "cached": 4, "to_send": 6}
    assert shown["estimated_prompt_tokens"] == 6 * asked[0].estimate.prompt
    assert shown["most_completion_tokens"] == 24
    assert shown["most_cost"] == shown["estimated_prompt_tokens"] + 48
    assert (shown["host"], shown["stays_on_this_machine"], shown["key_from"]) == ("127.0.0.1", True, None)
    assert [body["messages"][0]["content"] for body in shown["examples"]] == ["question 4", "question 7"]
    json.dumps(shown)


def test_preview_names_another_machine_and_the_variable_of_the_key_without_reading_it(tmp_path, monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    shown = preview(
        requests(1), Server("https://judge.example/v1", "j", key_env="JUDGE_KEY"), ReplyCache(tmp_path), Limits()
    )
    assert (shown["host"], shown["stays_on_this_machine"], shown["key_from"]) == ("judge.example", False, "JUDGE_KEY")
    assert shown["most_cost"] is None
