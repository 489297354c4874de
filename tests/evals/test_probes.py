"""Probes: what is measured equals what plain forwards of the model give."""

import numpy as np
import pytest
import torch
from tests.tiny import random_rows, tiny_model

from preflab.data.examples import TokenRow
from preflab.data.mismatched import add_mismatched
from preflab.evals.probes import (
    add_probes,
    answer_states,
    describe_answers,
    gradient_sizes,
    probe_records,
    similarities,
    summary,
)
from preflab.sampling.generate import GenerationSettings, generate
from preflab.scoring.logps import prove, score


@pytest.fixture(scope="module")
def models():
    pair = tiny_model("llama", seed=0), tiny_model("llama", seed=1)
    for model in pair:
        prove(model)
        model.requires_grad_(False)
    return pair


def answers(model, rows, *, greedy):
    settings = GenerationSettings(max_new_tokens=6, batch_size=32, seed=0, greedy=greedy)
    keys = [row.prompt.tobytes().hex() for row in rows]
    return generate(model, [row.prompt for row in rows], keys, end_ids=[1], pad_id=0, settings=settings)


def logits(model, row, tokens):
    ids = torch.from_numpy(np.concatenate([row.prompt, tokens]))[None]
    with torch.no_grad():
        return model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)


def test_every_pair_gets_its_probes():
    rows = random_rows(5, seed=3)
    answer = [np.array([7, 1])] * 5
    found = add_probes(add_mismatched(rows, blocks=(), max_tokens=40), greedy=answer, sampled=answer)
    others = {tuple(ids) for row in rows for ids in row.responses.values()}
    for before, row in zip(rows, found, strict=True):
        chosen = before.responses["chosen"]
        assert set(row.responses) >= {"chosen", "rejected", "mismatched", "greedy", "sampled"}
        if "shuffled" in row.responses:
            assert sorted(row.responses["shuffled"]) == sorted(chosen) and row.responses["shuffled"][-1] == chosen[-1]
        if "repeated" in row.responses:
            assert set(row.responses["repeated"][:-1]) <= {chosen[0]} and len(row.responses["repeated"]) == len(chosen)
        assert tuple(row.responses["mismatched"]) in others
        assert not np.array_equal(row.responses["mismatched"], chosen)


def test_a_probe_that_equals_a_response_of_the_pair_is_left_out():
    rows = [
        TokenRow(i, np.array([i + 2, 9]), {"chosen": np.array([7, 1]), "rejected": np.array([8, 1])}) for i in (0, 1)
    ]
    seen, unseen = np.array([8, 1]), np.array([5, 1])
    first, _ = add_probes(add_mismatched(rows, blocks=()), greedy=[seen] * 2, sampled=[unseen] * 2)
    # One word has one order and one repetition, and the other row lends a response that this one has too.
    assert set(first.responses) == {"chosen", "rejected", "sampled"}


def test_rows_with_one_response_and_prompts_nobody_asked_have_the_probes_that_they_can_have():
    full, other = random_rows(2, seed=4)
    rows = [
        TokenRow(1, full.prompt, {"chosen": full.responses["chosen"]}),
        TokenRow(2, other.prompt, {"rejected": other.responses["rejected"]}),
    ]
    first, second = add_probes(rows, greedy=[np.array([7, 1]), None], sampled=[None, None])
    assert {"chosen", "greedy"} <= set(first.responses) and "sampled" not in first.responses
    assert set(second.responses) == {"rejected"}


def test_a_record_of_a_probe_stands_beside_the_start_points_log_probs(models):
    model, start = models
    rows = random_rows(3, seed=11, roles=("chosen", "rejected", "greedy"))
    rows.append(TokenRow(9, rows[0].prompt, {"chosen": rows[1].responses["chosen"]}))
    known = score(start, rows, ("chosen", "rejected", "mismatched", "paraphrase", "greedy", "sampled", "shuffled",
                                "repeated"), budget=40)  # fmt: skip
    found = probe_records(model, rows, known, budget=40)
    assert [(r["row"], r["role"], r["prompt"]) for r in found[-2:]] == [(3, "greedy", 2), (9, "chosen", 0)]
    for record in found:
        row = next(row for row in rows if row.row == record["row"])
        tokens = row.responses[record["role"]]
        taken = torch.from_numpy(tokens)[:, None]
        assert record["total"] == pytest.approx(float(logits(model, row, tokens).gather(-1, taken).sum()))
        assert record["start_total"] == pytest.approx(float(logits(start, row, tokens).gather(-1, taken).sum()))
        assert record["first_change"] + record["tail_change"] == pytest.approx(record["total"] - record["start_total"])


def test_greedy_answers_take_the_likeliest_token(models):
    rows = random_rows(4, seed=5)
    found = answers(models[0], rows, greedy=True)
    for row, answer in zip(rows, found, strict=True):
        np.testing.assert_array_equal(logits(models[0], row, answer.tokens).argmax(-1), answer.tokens)


def test_answers_are_described_by_what_both_models_say_at_every_position(models):
    model, start = models
    rows = random_rows(4, seed=6)
    found = answers(model, rows, greedy=False)
    described = describe_answers(model, start, rows, found, budget=60)
    states = answer_states(model, rows, found, budget=60)
    assert describe_answers(model, start, rows, found, budget=60, states=states) == described
    for row, answer, got in zip(rows, found, described, strict=True):
        ours, theirs = logits(model, row, answer.tokens), logits(start, row, answer.tokens)
        taken = torch.from_numpy(answer.tokens)[:, None]
        ratio = (ours - theirs).gather(-1, taken)
        assert got["policy_total"] == pytest.approx(float(ours.gather(-1, taken).sum()))
        assert got["start_total"] == pytest.approx(float(theirs.gather(-1, taken).sum()))
        assert got["entropy"] == pytest.approx(float(-(ours.exp() * ours).sum(-1).mean()))
        assert got["kl_exact"] == pytest.approx(float((ours.exp() * (ours - theirs)).sum()))
        assert 0 < got["distinct"] <= 1
        assert got["kl_k1"] == pytest.approx(float(ratio.sum()))
        assert got["kl_k3"] == pytest.approx(float(((-ratio).exp() - 1 + ratio).sum()))


def test_ches_is_that_of_the_models_own_hidden_states(models):
    rows = random_rows(3, seed=7)

    def states(row, role):
        tokens = row.responses[role]
        ids = torch.from_numpy(np.concatenate([row.prompt, tokens]))[None]
        with torch.no_grad():
            hidden = models[0].get_decoder()(input_ids=ids).last_hidden_state[0]
        return hidden[len(row.prompt) - 1 : -1]

    for row, got in zip(rows, similarities(models[0], rows, budget=40), strict=True):
        chosen, rejected = states(row, "chosen"), states(row, "rejected")
        assert got["ches"] == pytest.approx(float(chosen.sum(0) @ rejected.sum(0) - chosen.sum(0) @ chosen.sum(0)))
        assert got["ches_mean"] == pytest.approx(float(chosen.mean(0) @ (rejected.mean(0) - chosen.mean(0))))


def test_equal_responses_have_one_gradient_and_a_ches_of_zero(models):
    row = random_rows(1, seed=8)[0]
    same = TokenRow(1, row.prompt, {"chosen": row.responses["chosen"], "rejected": row.responses["chosen"]})
    (found,) = gradient_sizes(models[0], [same])
    assert found["cosine"] == pytest.approx(1) and found["grad_chosen"] == pytest.approx(found["grad_rejected"])
    assert not any(p.requires_grad for p in models[0].parameters())
    assert similarities(models[0], [same], budget=40)[0]["ches"] == pytest.approx(0, abs=1e-9)


def test_gradient_norms_are_those_of_a_plain_backward_per_token(models):
    row = random_rows(1, seed=9)[0]
    (found,) = gradient_sizes(models[0], [row])
    model = tiny_model("llama", seed=0)
    ids = torch.from_numpy(np.concatenate([row.prompt, row.responses["rejected"]]))[None]
    scores = model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
    scores.gather(-1, torch.from_numpy(row.responses["rejected"])[:, None]).mean().backward()
    norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
    assert found["grad_rejected"] == pytest.approx(float(norm), rel=1e-6)


def test_a_summary_splits_a_change_into_its_first_token_and_the_rest():
    found = summary(np.array([-1.0, -2.0, -3.0], np.float32), np.array([-2.0, -2.5, -1.0], np.float32))
    assert found == {"length": 3, "total": -6.0, "start_total": -5.5, "first_change": 1.0, "tail_change": -1.5}
