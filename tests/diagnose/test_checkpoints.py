"""Verdicts follow from tables alone: each pattern of changes has its name."""

import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.checkpoints import changes, diagnose_checkpoints, distinct

ROLES = ("chosen", "rejected", "mismatched", "greedy", "sampled", "shuffled", "repeated")


def probes(name="a", n=30, **moved):
    """Rows whose roles moved by a number of nats, give or take half a nat."""
    rng = np.random.default_rng(0)
    frames = []
    for role in ROLES:
        change = moved.get(role, 0.0) + rng.normal(0, 0.5, n)
        frames.append(pd.DataFrame({
            "checkpoint": name, "row": range(n), "role": role, "prompt": [f"p{i}" for i in range(n)], "length": 10,
            "start_total": -20.0, "total": -20.0 + change, "first_change": change / 4, "tail_change": 3 * change / 4,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def samples(text="one two three four", kl=1.0, name="a", n=12):
    frames = [
        pd.DataFrame({
            "checkpoint": who, "kind": kind, "text": text if who else "one two three four",
            "n_tokens": 6 + np.arange(n) % 2,
            "entropy": 1.0, "kl_exact": kl + 0.1 * (np.arange(n) % 3),
        })
        for who in ("", name) for kind in ("greedy", "sampled")
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)


NO_GRADIENTS = pd.DataFrame(columns=["checkpoint", "grad_chosen", "grad_rejected", "cosine"])


def verdict(moved, **sampled):
    (found,) = diagnose_checkpoints(probes(**moved), samples(**sampled), NO_GRADIENTS)
    return found


@pytest.mark.parametrize(
    ("moved", "code"),
    [
        ({}, "unchanged"),
        ({"chosen": -3, "rejected": -9}, "displacement"),
        ({"chosen": 3, "rejected": -3}, "learning"),
        ({"rejected": -5}, "suppression"),
        ({"chosen": -5}, "reversed"),
        ({"chosen": -5, "rejected": -9, "repeated": 4}, "displacement"),
    ],
)
def test_each_pattern_has_its_name(moved, code):
    found = verdict(moved)
    assert found.code == code
    assert bool(found.remedies) == (code != "learning")


@pytest.mark.parametrize("role", ["repeated", "shuffled"])
def test_strings_that_mean_nothing_are_a_collapse_far_from_the_start_point(role):
    moved = {"chosen": -5, "rejected": -9, role: 4}
    found = verdict(moved, kl=12.0)
    assert found.code == "collapse" and "had mostly made models of the pocket world worse" in found.evidence[0]
    assert "seldom" in verdict(moved).evidence[0]


def test_answers_that_repeat_themselves_are_a_collapse():
    assert verdict({"chosen": 3}, text="no no no no no no no no").code == "collapse"


def test_a_verdict_says_where_the_probability_went():
    found = verdict({"chosen": -3, "rejected": -9, "greedy": 4, "mismatched": -6})
    assert any(line.startswith("More likely now: the start point's greedy answers (+4") for line in found.evidence)
    assert any(line.startswith("Less likely now: answers to other prompts (-") for line in found.evidence)
    lost = verdict({"chosen": -3, "rejected": -9})
    assert any("no probe stands for" in line for line in lost.evidence)


def test_evidence_names_a_shared_direction():
    gradients = pd.DataFrame(
        {"checkpoint": "a", "grad_chosen": [1.0, 2.0], "grad_rejected": [3.0, 6.0], "cosine": [0.8, 0.9]}
    )
    (found,) = diagnose_checkpoints(probes(), samples(), gradients)
    text = " ".join(found.evidence)
    assert "3.0 times" in text and "moves the other with it" in text


def test_rows_of_one_prompt_count_once():
    frame = probes(chosen=1.0)
    frame.loc[frame["row"] < 20, "prompt"] = "same"
    alone, shared = changes(probes(chosen=1.0))["chosen"], changes(frame)["chosen"]
    assert shared.n == 11 and alone.n == 30


def test_distinct_does_not_depend_on_how_many_answers_there_are():
    texts = ["a b a b", "c d e"]
    assert distinct(texts) == distinct(texts * 5) == pytest.approx((2 / 3 + 1) / 2)
    assert distinct([""]) == 1.0


def test_a_checkpoint_without_finite_log_probs_is_broken_and_the_others_are_judged():
    broken = probes("bad")
    broken.loc[3, "total"] = np.nan
    both = pd.concat([broken, probes("good", chosen=3, rejected=-3)])
    drawn = pd.concat([samples(name="bad"), samples(name="good")]).drop_duplicates()
    bad, good = diagnose_checkpoints(both, drawn, NO_GRADIENTS)
    assert bad.code == "broken" and "1 of 210" in bad.headline and bad.remedies
    assert good.code == "learning"
