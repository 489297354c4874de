"""Verdicts follow from tables alone: each pattern of changes has its name."""

import numpy as np
import pandas as pd
import pytest

from preflab.diagnose.checkpoints import agreement, changes, commonest, diagnose, kl_per_token

ROLES = ("chosen", "rejected", "mismatched", "greedy", "sampled", "shuffled", "repeated")
NO_GRADIENTS = pd.DataFrame(columns=["of", "grad_chosen", "grad_rejected", "cosine"])


def probes(n=30, **moved):
    """Rows whose roles moved by a number of nats, give or take half a nat, a quarter of it on the first token."""
    rng = np.random.default_rng(0)
    frames = []
    for role in ROLES:
        change = moved.get(role, 0.0) + rng.normal(0, 0.5, n)
        frames.append(pd.DataFrame({
            "row": range(n), "role": role, "prompt": [f"p{i}" for i in range(n)], "length": 10,
            "start_total": -20.0, "total": -20.0 + change, "first_change": change / 4, "tail_change": 3 * change / 4,
        }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def samples(kl=1.0, distinct=1.0, texts=None, n=12):
    """Answers of six or seven tokens; KL in nats per answer."""
    frames = []
    for of in ("start", "checkpoint"):
        own = texts if texts and of == "checkpoint" else [f"answer {i}" for i in range(n)]
        for kind in ("greedy", "sampled"):
            frames.append(pd.DataFrame({
                "of": of, "kind": kind, "text": own, "n_tokens": 6 + np.arange(n) % 2, "truncated": False,
                "distinct": distinct if of == "checkpoint" else 1.0, "entropy": 1.0,
                "kl_exact": 0.0 if of == "start" else kl + 0.1 * (np.arange(n) % 3),
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def verdict(moved, **sampled):
    return diagnose("a", probes(**moved), samples(**sampled), NO_GRADIENTS)


@pytest.mark.parametrize(
    ("moved", "code"),
    [
        ({}, "unchanged"),
        ({"chosen": -3, "rejected": -9}, "displacement"),
        ({"chosen": 3, "rejected": -3}, "learning"),
        ({"rejected": -5}, "suppression"),
        ({"chosen": -5}, "reversed"),
        ({"chosen": 20, "rejected": 20}, "imitation"),
        ({"chosen": -20, "rejected": -20}, "retreat"),
        ({"chosen": -5, "rejected": -9, "repeated": 4}, "displacement"),
    ],
)
def test_each_pattern_has_its_name(moved, code):
    found = verdict(moved)
    assert found.code == code
    assert bool(found.remedies) == (code != "learning")


def test_a_margin_that_neither_side_explains_is_a_separation():
    frame = probes()
    noise = pd.Series(np.tile([-8.0, 8.0], 15))
    for role, more in (("chosen", 1.0), ("rejected", -1.0)):
        frame.loc[frame["role"] == role, "total"] = (-20 + noise + more).to_numpy()
    assert diagnose("a", frame, samples(), NO_GRADIENTS).code == "separation"


def test_a_change_of_a_hundredth_of_a_nat_per_token_is_none_however_many_rows_show_it():
    frame = probes(n=2000, chosen=-0.05, rejected=-0.1)
    assert changes(frame)["margin"].total.low > 0
    assert diagnose("a", frame, samples(), NO_GRADIENTS).code == "unchanged"


@pytest.mark.parametrize("role", ["repeated", "shuffled"])
def test_strings_that_mean_nothing_are_a_collapse_far_from_the_start_point(role):
    moved = {"chosen": -5, "rejected": -9, role: 4}
    found = verdict(moved, kl=12.0)
    assert found.code == "collapse" and "most models with more than 1 had become worse" in found.evidence[0]
    assert "few models with less than 1 had become worse" in verdict(moved).evidence[0]


def test_what_the_chosen_response_shares_with_degenerate_strings_does_not_count():
    frame = probes()
    repeated = frame["role"] == "repeated"
    frame.loc[repeated, ["total", "first_change"]] += 5.0  # on the first token, which is the chosen one's
    assert abs(changes(frame)["repeated"].total.estimate) < 0.5


def test_answers_that_repeat_themselves_or_each_other_are_a_collapse():
    assert "repeat themselves" in verdict({"chosen": 3}, distinct=0.3).headline
    same = verdict({"chosen": 3}, texts=["no"] * 12)
    assert same.code == "collapse" and "same answer" in same.headline


def test_a_verdict_says_where_the_probability_went():
    found = verdict({"chosen": -3, "rejected": -9, "greedy": 4, "mismatched": -6, "sampled": -8})
    assert any(line.startswith("More likely now: the start point's greedy answers (+4") for line in found.evidence)
    # Samples of the start point can only lose, whatever training does: that is a KL, and no finding.
    assert any(line.startswith("Less likely now: answers to other prompts (-") for line in found.evidence)
    assert not any("samples (-" in line for line in found.evidence)
    assert "7.9 the other way" in found.evidence[0] or "8.0 the other way" in found.evidence[0]
    lost = verdict({"chosen": -3, "rejected": -9})
    assert any("No unseen answer clearly gained" in line for line in lost.evidence)


def test_evidence_names_a_shared_direction_beside_the_start_points():
    gradients = pd.DataFrame({
        "of": ["start", "start", "checkpoint", "checkpoint"], "grad_chosen": [1.0, 1.0, 1.0, 2.0],
        "grad_rejected": [2.0, 2.0, 3.0, 6.0], "cosine": [0.1, 0.1, 0.8, 0.9],
    })  # fmt: skip
    found = diagnose("a", probes(), samples(), gradients)
    assert "3.0 times the chosen side's (start point 2.0" in found.evidence[-1]
    assert "moves the other with it" in found.evidence[-1]


def test_rows_of_one_prompt_count_once():
    frame = probes(chosen=1.0)
    frame.loc[frame["row"] < 20, "prompt"] = "same"
    alone, shared = changes(probes(chosen=1.0))["chosen"], changes(frame)["chosen"]
    assert shared.total.n == 11 and alone.total.n == 30


def test_kl_per_token_weighs_answers_by_their_length():
    own = pd.DataFrame({"kind": ["sampled", "sampled", "greedy"], "kl_exact": [1.0, 9.0, 99.0], "n_tokens": [1, 9, 1]})
    assert kl_per_token(own) == 1.0


@pytest.mark.parametrize("where", ["probes", "samples", "weights"])
def test_numbers_that_are_not_finite_are_a_verdict(where):
    frame, drawn = probes(), samples()
    if where == "probes":
        frame.loc[3, "total"] = np.nan
    elif where == "samples":
        drawn.loc[drawn["of"] == "checkpoint", "kl_exact"] = np.inf
    else:
        frame, drawn = frame.iloc[:0], drawn[drawn["of"] == "start"]
    found = diagnose("a", frame, drawn, NO_GRADIENTS)
    assert found.code == "broken" and found.remedies


def test_samples_alone_show_that_everything_gets_the_same_answer():
    drawn = samples(texts=["no"] * 12)
    found = diagnose("a", probes(chosen=3), drawn[drawn["kind"] == "sampled"], NO_GRADIENTS)
    assert found.code == "collapse" and "same answer" in found.headline


def test_gradients_of_one_side_alone_are_no_evidence():
    gradients = pd.DataFrame({"of": ["start"], "grad_chosen": [1.0], "grad_rejected": [1.0], "cosine": [0.9]})
    assert not any("Gradients" in line for line in diagnose("a", probes(), samples(), gradients).evidence)


def test_rows_of_unpaired_data_lend_each_other_their_sides():
    frame = probes(chosen=3.0, rejected=-2.0)
    desirable = frame["row"] % 2 == 0
    alone = frame[~((frame["role"] == "chosen") & ~desirable) & ~((frame["role"] == "rejected") & desirable)]
    found, both = changes(alone), changes(frame)
    for role in ("chosen", "rejected"):
        assert found[role].total.n == 15
    sides = [alone[alone["role"] == role] for role in ("chosen", "rejected")]
    rose, fell = ((side["total"] - side["start_total"]).to_numpy() for side in sides)
    assert found["margin"].total.estimate == pytest.approx(float((rose - fell).mean()))
    assert found["margin"].total.n == 15 and both["margin"].total.n == 30
    assert diagnose("a", alone, samples(), NO_GRADIENTS).code == "learning"


def test_the_verdict_on_most_seeds_counts_and_the_worst_of_as_many():
    assert commonest(("learning", "learning", "collapse")) == "learning"
    assert commonest(("learning", "displacement")) == commonest(("displacement", "learning")) == "displacement"
    assert agreement(("learning",)) == "learning, one seed"
    assert agreement(("displacement",) * 3) == "displacement in 3 of 3 seeds"
    assert agreement(("learning", "collapse", "learning"), 1) == (
        "learning in 2 of 4 seeds, collapse in 1, divergence in 1"
    )
    assert agreement((), 2) == "divergence in 2 of 2 seeds"
