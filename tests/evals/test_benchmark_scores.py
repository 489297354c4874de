"""Choices scored as the model itself scores them; scores with intervals; paired differences; a run that continues."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from tests.tiny import CONFIGS, tiny_model

from preflab.core.errors import DataError
from preflab.evals.benchmarks.catalogue import benchmark
from preflab.evals.benchmarks.choices import score_choices
from preflab.evals.benchmarks.items import ChoiceItem, Option, Row, WrittenItem
from preflab.evals.benchmarks.scores import corrected, difference, score
from preflab.evals.benchmarks.writing import write_answers
from preflab.scoring import options
from preflab.scoring.logps import prove, separate_logps
from preflab.scoring.options import Choice, option_logps
from preflab.stats.proportions import detectable_difference, mcnemar_p, mcnemar_power


class Letters:
    """A tokenizer of one token per character."""

    eos_token_id, pad_token_id, chat_template = 1, 0, None

    def encode(self, text, add_special_tokens=True):
        return [2 + ord(letter) % 59 for letter in text]

    def decode(self, ids, **_):
        return "".join(chr(64 + int(i)) for i in ids)

    def batch_decode(self, rows, **_):
        return [self.decode(row) for row in rows]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_options_get_the_model_s_own_log_probs(name):
    model = tiny_model(name)
    prove(model)
    generator = np.random.default_rng(0)
    choices = [
        Choice(generator.integers(0, 61, n), tuple(generator.integers(0, 61, k) for k in lengths))
        for n, lengths in [(7, (3, 1, 4)), (2, (1, 1)), (11, (5,))]
    ]
    found = option_logps(model, choices, budget=24)
    for choice, logps in zip(choices, found, strict=True):
        own = [float(separate_logps(model, choice.prompt, option).sum()) for option in choice.options]
        np.testing.assert_allclose(logps, own, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_worked_examples_are_read_once_and_change_nothing(name, monkeypatch):
    monkeypatch.setattr(options, "_WORTH", 4)
    model = tiny_model(name)
    prove(model)
    generator = np.random.default_rng(1)
    shots, others = generator.integers(0, 61, 12), generator.integers(0, 61, 9)
    questions = [np.concatenate([lead, generator.integers(0, 61, n)]) for lead, n in
                 [(shots, 3), (others, 2), (shots, 0), (shots, 5), (others, 4), (shots[:2], 1)]]  # fmt: skip
    choices = [Choice(q, tuple(generator.integers(0, 61, k) for k in (2, 1, 3))) for q in questions]
    read = []
    original = options.score
    monkeypatch.setattr(options, "score", lambda *a, **k: read.extend(a[1]) or original(*a, **k))
    found = option_logps(model, choices, budget=64)
    assert sorted(len(row.prompt) for row in read) == [3, 9, 12] and sum(len(row.responses) for row in read) == 18
    for choice, logps in zip(choices, found, strict=True):
        own = [float(separate_logps(model, choice.prompt, option).sum()) for option in choice.options]
        np.testing.assert_allclose(logps, own, rtol=1e-5)


def items():
    return [
        ChoiceItem(
            Row(1, {"a": 1}), "", (Option("what is ", " red", "red"), Option("what is ", " blue", "blue")), (1,)
        ),
        ChoiceItem(Row(2, {"a": 2}), "", (Option("Ann", " ran", "Ann"), Option("Eve", " ran", "Eve")), (0,)),
    ]


def test_records_hold_what_the_metrics_come_from():
    model, tokenizer = tiny_model(), Letters()
    found = score_choices(model, tokenizer, benchmark("piqa"), items(), context=math.inf, budget=64)
    for record, item in zip(found, items(), strict=True):
        own = []
        for option in item.options:
            # Spaces at the end of a context belong to what follows, as in lm-eval's encoding of pairs.
            context = option.context.rstrip()
            rest = option.context[len(context) :] + option.continuation
            prompt, response = (np.array(tokenizer.encode(text)) for text in (context, rest))
            own.append(float(separate_logps(model, prompt, response).sum()))
        np.testing.assert_allclose(record["logps"], own, rtol=1e-5)
        assert record["answer"] == int(np.argmax(own)) and record["item"] == item.row.id and not record["cut"]
        lengths = [len(option.text) for option in item.options]
        assert record["acc"] == float(np.argmax(own) == item.correct[0])
        assert record["acc_norm"] == float(np.argmax(np.array(own) / lengths) == item.correct[0])


def test_a_prompt_beyond_the_context_loses_its_beginning_and_says_so():
    model = tiny_model("gpt2")
    (long, short) = items()
    long = ChoiceItem(long.row, "", tuple(Option("x" * 80, o.continuation, o.text) for o in long.options), (1,))
    first, second = score_choices(model, Letters(), benchmark("piqa"), [long, short], context=64, budget=256)
    assert first["cut"] and not second["cut"]
    prompt = np.array(Letters().encode("x" * (64 - len(" red"))))
    own = separate_logps(model, prompt, np.array(Letters().encode(" red"))).sum()
    np.testing.assert_allclose(first["logps"][0], float(own), rtol=1e-5)


def records(values, clusters=None):
    return [
        {"item": str(i), "cluster": "" if clusters is None else clusters[i], "acc_norm": float(value), "mc2": value}
        for i, value in enumerate(values)
    ]


def test_scores_have_wilson_or_clustered_intervals():
    values = [1, 0, 1, 1, 0, 1, 1, 1]
    found = score(benchmark("piqa"), records(values))
    known = binomtest(6, 8).proportion_ci(method="wilson")
    assert found.interval.kind == "wilson"
    np.testing.assert_allclose([found.interval.low, found.interval.high], known)
    clustered = score(benchmark("piqa"), records(values, ["a", "a", "b", "b", "c", "c", "d", "d"]))
    assert (clustered.interval.kind, clustered.interval.n) == ("clusters", 4)
    with pytest.raises(DataError, match="no item was scored"):
        score(benchmark("piqa"), [])


def test_differences_are_paired_and_corrected():
    base, ours = [0] * 12 + [1] * 8, [1] * 10 + [0] * 2 + [1] * 7 + [0]
    found = difference(benchmark("piqa"), records(ours), records(base))
    assert (found.won, found.lost, found.test) == (10, 1, "McNemar")
    assert found.p == pytest.approx(binomtest(1, 11).pvalue)
    assert found.interval.estimate == pytest.approx(9 / 20)
    one, other = corrected([found, difference(benchmark("piqa"), records(base), records(base))])
    assert (one.p_adjusted, one.verdict) == (pytest.approx(2 * found.p), "better")
    assert other.verdict == "not told apart"
    shares = difference(benchmark("truthfulqa"), records([0.5, 0.7, 0.9]), records([0.4, 0.5, 0.2]))
    assert shares.test == "sign flip" and shares.p == pytest.approx(2 / 8)
    with pytest.raises(DataError, match="not of the same items"):
        difference(benchmark("piqa"), records(ours), records(base[1:]))


def test_no_disagreement_is_no_certainty():
    found = difference(benchmark("piqa"), records([1] * 100), records([1] * 100))
    assert found.p == 1 and found.interval.estimate == 0
    # Bonett and Price: p = q = 1/102, so z sqrt(2/102/102) with z = 1.96.
    assert found.interval.high == pytest.approx(1.959964 * math.sqrt(2) / 102) == -found.interval.low
    assert found.detectable > 0.03


def test_fewer_refusals_are_better():
    told = [{"item": str(i), "cluster": "", "refused": value} for i, value in enumerate([0.0] * 10)]
    before = [{**record, "refused": 1.0} for record in told]
    (found,) = corrected([difference(benchmark("xstest"), told, before)])
    assert found.interval.estimate == -1 and found.verdict == "better" and (found.won, found.lost) == (10, 0)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_sign_test(won, lost):
    expected = 1.0 if won + lost == 0 else binomtest(min(won, lost), won + lost).pvalue
    assert mcnemar_p(won, lost) == pytest.approx(expected)


def test_power_of_mcnemar_is_what_simulation_finds():
    n, gap, discordant = 100, 0.12, 0.3
    generator = np.random.default_rng(0)
    share = (discordant + gap) / (2 * discordant)
    split = generator.multinomial(n, [discordant * share, discordant * (1 - share), 1 - discordant], size=20_000)
    found = np.mean([mcnemar_p(int(won), int(lost)) <= 0.05 for won, lost, _ in split])
    assert mcnemar_power(n, gap, discordant) == pytest.approx(found, abs=4 * math.sqrt(0.25 / 20_000))
    needed = detectable_difference(n, discordant)
    assert mcnemar_power(n, needed, discordant) >= 0.8 > mcnemar_power(n, needed - 2e-4, discordant)
    assert math.isnan(detectable_difference(10, 0.1))
    assert mcnemar_power(50, 0.0, 0.4) <= 0.05
    with pytest.raises(ValueError, match="discordant"):
        mcnemar_power(10, 0.5, 0.2)


def test_a_stopped_run_of_written_answers_continues_to_the_same_records():
    model = tiny_model(dtype=torch.float32)
    asked = [WrittenItem(Row(i, {"answer": "#### 1", "i": i}), "", f"Question: {'x' * i}\nAnswer:") for i in range(11)]
    settings = dict(chat=False, end_ids=[1], context=math.inf, longest=5, batch_size=2)
    whole = write_answers(model, Letters(), benchmark("gsm8k"), asked, **settings)
    assert [record["item"] for record in whole] == [item.row.id for item in asked]

    class Killed(Exception):
        pass

    kept = []

    def keep(found):
        kept[:] = found
        raise Killed

    with pytest.raises(Killed):
        write_answers(model, Letters(), benchmark("gsm8k"), asked, **settings, kept=keep)
    assert 0 < len(kept) < len(asked)
    seen = []
    again = write_answers(
        model, Letters(), benchmark("gsm8k"), asked, **settings, known=kept, progress=lambda *p: seen.append(p)
    )
    assert again == whole and seen[0] == (len(kept), 11) and seen[-1] == (11, 11)
