"""The client against a server that misbehaves."""

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from tests.evals.judges.stub import Answer, Stub, says

from preflab.core.errors import ConfigError, RunError
from preflab.evals.judges.budget import Budget, BudgetReached, Limits, Tokens
from preflab.evals.judges.client import ChatClient, Server
from preflab.evals.judges.completions import ChatRequest, Reply, Unanswered, parse_reply

REQUEST = ChatRequest("test/1", (("system", "s"), ("user", "Is it so?")), max_tokens=20)
KEY = "sk-canary-0123456789"


def client(stub: Stub, *, waits=None, limits=None, **server) -> ChatClient:
    sleep = (waits if waits is not None else []).append
    budget = Budget(limits or Limits())
    return ChatClient(Server(stub.url, "judge", **server), budget, sleep=sleep, chance=lambda: 1.0)


def ask(behave, **options):
    with Stub(behave) as stub, client(stub, **options) as asker:
        return asker.ask(REQUEST), stub, asker


def sequence(*answers):
    return lambda body, number: answers[min(number, len(answers) - 1)]


def test_request_and_reply_are_chat_completions():
    reply, stub, _ = ask(sequence(says("yes", usage=(7, 3))))
    assert reply == Reply("yes", "stop", "", None, "stub-1", Tokens(7, 3))
    assert stub.seen == [
        {
            "path": "/v1/chat/completions",
            "model": "judge",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Is it so?"}],
            "max_tokens": 20,
            "temperature": 0.0,
        }
    ]
    assert stub.keys == [None]


@pytest.mark.parametrize(
    "broken",
    [
        Answer(429),
        Answer(500),
        Answer(503, b"<html>"),
        Answer(body=b'{"choices": ['),
        Answer(body=b"[]"),
        Answer(body=b'{"choices": []}'),
        Answer(body=b'{"choices": [{"message": {"content": 3}}]}'),
        Answer(body=b'{"error": {"message": "overloaded"}}'),
        Answer(body=b"\xff\xfe\x00"),
        Answer(body=b"[" * 100_000),
        Answer(body=b'{"choices"', cut=True),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[:20]!r}",
)
def test_passing_failure_is_asked_again(broken):
    waits = []
    reply, stub, _ = ask(sequence(broken, broken, says("yes")), waits=waits)
    assert reply.text == "yes"
    assert len(stub.seen) == 3
    assert waits == [1.0, 2.0]


def test_waits_double_up_to_a_minute_and_half_of_each_is_chance():
    waits = []
    with Stub(sequence(Answer(503))) as stub:
        server = Server(stub.url, "judge", retries=8)
        with ChatClient(server, sleep=waits.append, chance=lambda: 0.0) as asker:
            assert asker.ask(REQUEST) == Unanswered("status 503")
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


@pytest.mark.parametrize(("header", "low", "high"), [("7", 7, 7), ("3600", 60, 60), ("0", 1, 1), ("soon", 1, 1)])
def test_retry_after_is_honoured_up_to_a_minute(header, low, high):
    waits = []
    reply, _, _ = ask(sequence(Answer(429, headers={"retry-after": header}), says("yes")), waits=waits)
    assert reply.text == "yes"
    assert low <= waits[0] <= high


def test_retry_after_may_be_a_date():
    waits = []
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    ask(sequence(Answer(429, headers={"retry-after": date}), says("yes")), waits=waits)
    assert 20 < waits[0] <= 31


def test_timeout_is_asked_again_and_stays_counted_because_it_may_be_billed():
    reply, _, asker = ask(sequence(Answer(hang_s=0.4), says("yes", usage=(7, 3))), timeout_s=0.1)
    assert reply.text == "yes"
    assert asker.budget.requests == 2
    assert asker.budget.tokens == REQUEST.estimate + Tokens(7, 3)


def test_a_server_that_drips_runs_into_the_timeout():
    times = iter([0.0, 200.0])
    with Stub(sequence(says("yes"))) as stub:
        asker = ChatClient(Server(stub.url, "j", retries=0), sleep=lambda s: None, clock=lambda: next(times))
        assert asker.ask(REQUEST) == Unanswered("a timeout")
        asker.close()


def test_no_server_is_a_failure_that_says_so():
    with Stub(sequence(says("yes"))) as stub:
        url = stub.url
    with ChatClient(Server(url, "judge", retries=1), sleep=lambda s: None) as asker:
        found = asker.ask(REQUEST)
    assert isinstance(found, Unanswered) and found.cause.startswith("no connection")


def test_bad_request_is_not_repeated_and_told_in_one_line():
    found, stub, asker = ask(sequence(Answer(400, b'{"error": {"message": "prompt too\\n long\\u001b[31m"}}')))
    assert found == Unanswered("status 400 (prompt too  long [31m)")
    assert len(stub.seen) == 1
    assert asker.budget.tokens == Tokens(0, 0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401, b'{"error": {"message": "bad key"}}'), "refuses a request without key (--key-env): status 401"),
        (Answer(403), "status 403"),
        (Answer(404, b'{"error": "no such model"}'), "the model's name 'judge'"),
        (Answer(405), "check the address"),
        (Answer(307, headers={"location": "http://elsewhere.example/v1"}), "redirects are not followed (307"),
    ],
)
def test_what_no_other_request_can_mend_stops_the_run(answer, said):
    with pytest.raises(ConfigError) as error:
        ask(sequence(answer))
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_redirect_is_not_followed_even_on_the_same_machine(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with Stub(sequence(says("stolen"))) as other:
        there = Answer(302, headers={"location": f"{other.url}/chat/completions"})
        with pytest.raises(ConfigError, match="redirects"):
            ask(sequence(there), key_env="JUDGE_KEY")
        assert other.seen == []


def test_eight_failures_in_a_row_stop_the_run_and_a_success_starts_the_count_again():
    with Stub(lambda body, number: says("yes") if number == 7 else Answer(400)) as stub, client(stub) as asker:
        for number in range(15):
            assert isinstance(asker.ask(REQUEST), Reply if number == 7 else Unanswered)
        with pytest.raises(RunError, match="8 calls in a row failed, the last with status 400"):
            asker.ask(REQUEST)


def test_a_stopped_client_makes_no_more_calls_and_waits_no_longer():
    with Stub(sequence(Answer(503, headers={"retry-after": "60"}))) as stub, ChatClient(Server(stub.url, "j")) as asker:
        asker.stop()
        began = time.monotonic()
        assert asker.ask(REQUEST) == Unanswered("the run was stopped")
        assert time.monotonic() - began < 1
        assert stub.seen == []


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch, caplog):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = says(f"your key is {KEY}", refusal=f"{KEY}", first_token={KEY: -0.1})
    reply, stub, asker = ask(sequence(echo), key_env="JUDGE_KEY")
    assert stub.keys == [f"Bearer {KEY}"]
    assert reply.text == "your key is ***"
    for each in (reply, asker, asker.server, asker.budget, vars(asker)["_http"].headers, caplog.text):
        assert KEY not in repr(each)
    with pytest.raises(ConfigError) as error:
        ask(sequence(Answer(401, f"no such key: {KEY}".encode())), key_env="JUDGE_KEY")
    assert KEY not in str(error.value) and "refuses the key in JUDGE_KEY" in str(error.value)
    found, *_ = ask(sequence(Answer(400, f"no such key: {KEY}".encode())), key_env="JUDGE_KEY")
    assert found == Unanswered("status 400 (no such key: ***)")


@pytest.mark.parametrize("value", [None, "", "two words", "non-ascii-ü", "line\nbreak"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(monkeypatch, value):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("JUDGE_KEY", value)
    with pytest.raises(ConfigError, match="variable JUDGE_KEY must hold the key") as error:
        ChatClient(Server("https://judge.example/v1", "m", key_env="JUDGE_KEY"))
    assert not value or value not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "judge.example/v1",
        "ftp://judge.example",
        "https://me:secret@judge.example",
        "https://j.example/?key=secret",
        "http://",
    ],
)
def test_an_address_that_is_none_or_carries_secrets_is_refused_without_being_shown(url):
    with pytest.raises(ConfigError, match="must be http") as error:
        Server(url, "m")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("host", ["judge.example", "10.0.0.7", "localhost.example"])
def test_a_key_is_not_sent_over_plain_http_to_another_machine(host):
    with pytest.raises(ConfigError, match="plain http would send the key unencrypted"):
        Server(f"http://{host}/v1", "m", key_env="JUDGE_KEY")
    Server(f"https://{host}/v1", "m", key_env="JUDGE_KEY")
    Server(f"http://{host}/v1", "m")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_a_key_may_go_to_this_machine(host):
    assert Server(f"http://{host}:8000/v1", "m", key_env="JUDGE_KEY").is_loopback


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert ask(sequence(says("yes")))[0].text == "yes"


def test_half_characters_of_a_reply_become_question_marks():
    body = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    reply, *_ = ask(sequence(Answer(body=body)))
    assert reply.text == "a?b"
    reply.text.encode()


@pytest.mark.parametrize("logprob", ["NaN", "-Infinity", '"x"', "null"])
def test_log_probs_that_are_no_numbers_are_no_reply(logprob):
    token = f'{{"token": "m", "logprob": {logprob}}}'
    logprobs = f'{{"content": [{{"top_logprobs": [{token}]}}]}}'
    body = f'{{"choices": [{{"message": {{"content": "m"}}, "logprobs": {logprobs}}}]}}'
    with pytest.raises(ValueError):
        parse_reply(body.encode(), str)


class TestBudget:
    def test_requests_stop_before_the_one_too_many(self):
        with Stub(sequence(says("yes"))) as stub, client(stub, limits=Limits(requests=2)) as asker:
            asker.ask(REQUEST), asker.ask(REQUEST)
            with pytest.raises(BudgetReached, match="requests to 3, above the limit of 2"):
                asker.ask(REQUEST)
            assert len(stub.seen) == 2

    def test_repetitions_count_as_requests(self):
        with Stub(sequence(Answer(500))) as stub, client(stub, limits=Limits(requests=3)) as asker:
            with pytest.raises(BudgetReached):
                asker.ask(REQUEST)
            assert len(stub.seen) == 3

    def test_the_servers_count_takes_the_place_of_the_estimate(self):
        _, _, asker = ask(sequence(says("yes", usage=(1000, 10))))
        assert asker.budget.tokens == Tokens(1000, 10)

    def test_without_a_count_the_estimate_stays(self):
        _, _, asker = ask(sequence(says("yes", usage=None)))
        assert asker.budget.tokens == REQUEST.estimate

    def test_tokens_stop_before_the_call_that_could_exceed(self):
        limit = REQUEST.estimate.prompt + REQUEST.estimate.completion
        with Stub(sequence(says("yes", usage=(1, 0)))) as stub, client(stub, limits=Limits(tokens=limit)) as asker:
            asker.ask(REQUEST)
            with pytest.raises(BudgetReached, match="tokens"):
                asker.ask(REQUEST)
            assert len(stub.seen) == 1

    def test_cost_is_tokens_times_prices(self):
        limits = Limits(cost=1.0, prompt_price=2.0, completion_price=10.0)
        budget = Budget(limits)
        budget.reserve(Tokens(400_000, 10_000))
        assert budget.cost == pytest.approx(0.9)
        with pytest.raises(BudgetReached, match=r"cost to 1\.1, above the limit of 1"):
            budget.reserve(Tokens(100_000, 0))
        budget.settle(Tokens(400_000, 10_000), Tokens(0, 0))
        assert budget.cost == 0

    @pytest.mark.parametrize(
        "wrong",
        [{"requests": -1}, {"cost": 1.0}, {"prompt_price": 1.0}, {"tokens": float("nan")}, {"cost": float("inf")}],
    )
    def test_limits_that_mean_nothing_are_refused(self, wrong):
        with pytest.raises(ConfigError, match="spend cap"):
            Limits(**wrong)

    def test_the_estimate_is_bytes_over_three_and_a_frame(self):
        assert ChatRequest("t", (("user", "abcdef"), ("user", "")), 5).estimate == Tokens(2 + 8 + 8, 5)
