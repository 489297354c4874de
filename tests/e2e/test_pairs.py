"""`preflab data pairs` as a user calls it, on the pocket world: curations, origins, noise, stops, and a study on it."""

import json
import re

import pytest
from peft import LoraConfig, get_peft_model
from tests.evals.test_reward_models import save_reward_model
from transformers import AutoModelForCausalLM

from preflab.cli.main import run
from preflab.data.check import check
from preflab.data.read import read
from preflab.pocket.assets import data_path, model_path
from preflab.pocket.rewards import gold_reward
from preflab.studies import answers

N = 24
COMMON = ["--prompts", "prompts.jsonl", "--batch-size", "8", "--max-new-tokens", "40"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One cache for the module: answers are sampled once, as for a user who tries one curation after another."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def folder(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFLAB_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    lines = data_path("pairs").read_text().splitlines(keepends=True)
    (tmp_path / "prompts.jsonl").write_text("".join(lines[:N]))
    return tmp_path


def make(name, *more, samples=4, reward="pocket"):
    """Run the command; return exit code, rows and account."""
    sized = [] if samples is None else ["--samples", str(samples)]
    code = run(["data", "pairs", "pocket:base", *COMMON, *sized, "--reward", reward, "--out", name, *map(str, more)])
    if code:
        return code, [], {}
    with open(name) as stream:
        rows = [json.loads(line) for line in stream]
    with open(f"{name}.about") as stream:
        return 0, rows, json.load(stream)


CURATIONS = {
    "best-worst": [],
    "threshold": ["--high", 0.7, "--low", 0.5],
    "rejection": ["--beta", 0.3, "--accepted", 4],
    "random-gap": ["--min-gap", 0.1, "--max-gap", 0.4],
}


@pytest.mark.parametrize("curation", CURATIONS)
def test_every_curation_gives_pairs_that_a_study_can_read(curation):
    code, rows, account = make(f"{curation}.jsonl", "--curation", curation, *CURATIONS[curation])
    assert code == 0
    dataset = read(f"{curation}.jsonl")
    assert dataset.kind == "paired" and check(dataset) == ()
    for row in rows:
        assert row["score_chosen"] > row["score_rejected"]
        for side in ("chosen", "rejected"):
            scored = gold_reward((), row[side], row["meta"])["reward"]
            assert row[f"score_{side}"] == pytest.approx(scored)
        assert row["meta"]["pair"] | {"shared_prefix": 0} == {
            "chosen_from": "model", "rejected_from": "model", "curation": curation, "swapped": False,
            "shared_prefix": 0,
        }  # fmt: skip
        assert row["family"] and "check" in row["meta"]
    answered = account["answers"]["model"]
    assert answered["n"] == N * 4 and account["prompts"]["used"] == N
    assert account["pairs"]["n"] == len(rows)
    # Every prompt has a pair or a reason, but for those whose drawn pairs were left out one by one.
    lost = sum(account["prompts_without_pair"].values())
    assert account["pairs"]["prompts"] + lost == N or account["pairs_left_out"]["tied"]


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [("data", "model"), ("model", "data"), ("data", "data"), ("model", "other"), ("data", "other")],
)
def test_sides_come_from_where_they_were_asked_for(chosen, rejected):
    other = ["--other", "pocket:instruct"] if "other" in (chosen, rejected) else []
    code, rows, account = make("s.jsonl", "--chosen", chosen, "--rejected", rejected, *other)
    assert code == 0 and len(rows) > 12
    assert {(r["meta"]["pair"]["chosen_from"], r["meta"]["pair"]["rejected_from"]) for r in rows} == {
        (chosen, rejected)
    }
    assert set(account["answers"]) == {chosen, rejected}


def test_the_datas_own_responses_are_those_of_the_row():
    own = {e.prompt[0].content: {e.chosen, e.rejected} for e in read(data_path("pairs")).examples}
    for row in make("s.jsonl", "--chosen", "data", "--rejected", "data")[1]:
        assert {row["chosen"], row["rejected"]} == own[row["prompt"][0]["content"]]


def test_noise_swaps_labels_and_leaves_the_pairs(folder):
    clean = make("clean.jsonl")[1]
    noisy, noisier = (make(f"{share}.jsonl", "--noise", share)[1] for share in (0.2, 0.5))

    def swapped(rows):
        return {row["prompt"][0]["content"] for row in rows if row["meta"]["pair"]["swapped"]}

    assert 0 < len(swapped(noisy)) < len(swapped(noisier)) < len(clean)
    assert swapped(noisy) < swapped(noisier)
    for a, b in zip(clean, noisy, strict=True):
        turned = (b["rejected"], b["chosen"]) if b["meta"]["pair"]["swapped"] else (b["chosen"], b["rejected"])
        assert turned == (a["chosen"], a["rejected"])
        assert (b["score_chosen"] < b["score_rejected"]) == b["meta"]["pair"]["swapped"]


def test_siblings_share_their_beginning():
    tree = ["--curation", "siblings", "--simulations", 8, "--step-tokens", 3]
    code, rows, account = make("sib.jsonl", *tree, samples=None)
    assert code == 0
    assert account["pairs"]["shared_prefix"]["min"] >= 3
    independent = make("ind.jsonl")[2]["pairs"]["shared_prefix"]["mean"]
    assert account["pairs"]["shared_prefix"]["mean"] > independent + 2
    long = make("long.jsonl", *tree, "--min-prefix", 6, samples=None)[1]
    assert 0 < len(long) < len(rows)
    assert min(row["meta"]["pair"]["shared_prefix"] for row in long) >= 6


def test_the_most_similar_pairs_can_be_left_out(capsys):
    every = make("all.jsonl")[1]
    code, rows, account = make("ches.jsonl", "--ches-below", 0.75)
    assert code == 0
    assert len(rows) == round(0.75 * len(every)) == len(every) - account["pairs_left_out"]["high_ches"]
    assert all(isinstance(row["meta"]["pair"]["ches"], float) for row in rows)
    assert f"{len(every) - len(rows)} pairs left out: high_ches" in capsys.readouterr().out


def test_the_same_command_does_nothing_and_another_curation_samples_nothing(monkeypatch, capsys):
    first = make("pairs.jsonl")
    monkeypatch.setattr(answers, "transformers_sampler", None)
    monkeypatch.setattr(answers.Checkpoint, "load", None)
    assert make("pairs.jsonl")[1:] == first[1:]
    assert "already made by this command; nothing to do" in capsys.readouterr().err
    assert make("gap.jsonl", "--curation", "random-gap")[0] == 0


def test_a_stopped_command_continues_where_it_was(tmp_path, monkeypatch):
    whole = make("whole.jsonl")[1]
    monkeypatch.setenv("PREFLAB_CACHE", str(tmp_path / "empty"))
    original, calls = answers.transformers_sampler, []

    def counted(*args, stop_at, **more):
        sample = original(*args, **more)

        def wrapped(*asked):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            return sample(*asked)

        return wrapped

    monkeypatch.setattr(answers, "transformers_sampler", lambda *a, **k: counted(*a, stop_at=6, **k))
    assert make("stopped.jsonl")[0] == 5
    assert not (tmp_path / "stopped.jsonl").exists()
    monkeypatch.setattr(answers, "transformers_sampler", lambda *a, **k: counted(*a, stop_at=0, **k))
    assert make("stopped.jsonl")[1] == whole
    assert len(calls) == 6 + (3 * 4 - 5)


def test_a_users_reward_and_a_reward_model_score_too(tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def short(prompt, response, meta):\n    return {'reward': -len(response)}\n")
    rows = make("own.jsonl", reward=f"{own}:short")[1]
    assert rows and all(row["score_chosen"] == -len(row["chosen"]) for row in rows)
    judge = save_reward_model(model_path("base"), tmp_path / "judge")
    rows = make("judge.jsonl", reward=str(judge))[1]
    assert rows and all(row["score_chosen"] > row["score_rejected"] for row in rows)


def test_an_adapter_answers_with_the_base_that_it_records(tmp_path, capsys):
    base = AutoModelForCausalLM.from_pretrained(model_path("base"))
    config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    words = ["--prompts", "prompts.jsonl", "--rows", "4", "--max-new-tokens", "20", "--reward", "pocket"]
    assert run(["data", "pairs", "adapter", *words, "--out", "a.jsonl", "--min-gap", "5"]) == 3
    assert "no pair came of it" in capsys.readouterr().err  # answered, and the gap is out of reach
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(
        json.dumps(settings | {"base_model_name_or_path": "/nowhere"})
    )
    assert run(["data", "pairs", "adapter", *words, "--out", "a.jsonl"]) == 2
    assert "/nowhere: no such folder" in capsys.readouterr().err


def test_constraint_prompts_are_answered_and_scored(capsys):
    assert run(["data", "constraints", "--out", "form.jsonl", "--n", "20", "--most", "3"]) == 0
    assert run(["data", "constraints", "--out", "form.jsonl", "--n", "20", "--most", "3"]) == 0  # again: the same
    assert run(["data", "constraints", "--out", "form.jsonl", "--n", "7", "--most", "3"]) == 2
    assert run(["data", "check", "form.jsonl"]) == 3  # no pairs, and it says so
    assert run(["data", "check", "form.jsonl", "--kind", "prompts"]) == 0
    words = ["data", "pairs", "pocket:instruct", "--prompts", "form.jsonl", "--reward", "constraints"]
    assert run([*words, "--max-new-tokens", "48", "--out", "form_pairs.jsonl"]) == 0
    for row in read("form_pairs.jsonl").examples:
        assert row.meta["constraints"] and row.scores["chosen"] > row.scores["rejected"]
    assert run([*words, "--chosen", "data", "--out", "x.jsonl"]) == 3
    assert "these rows hold no responses" in capsys.readouterr().err


def test_solutions_of_the_data_are_what_a_verifier_of_mathematics_asks_for(tmp_path):
    rows = [{"question": f"What is {i} plus 1?", "answer": f"{i} and 1 make\n#### {i + 1}"} for i in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = [
        "data",
        "pairs",
        "pocket:instruct",
        "--prompts",
        "sums.jsonl",
        "--columns",
        "prompt=question,completion=answer",
    ]
    more = [
        "--template",
        "chat",
        "--reward",
        "last-number",
        "--chosen",
        "data",
        "--max-new-tokens",
        "40",
        "--out",
        "math.jsonl",
    ]
    assert run([*words, *more]) == 0
    for row in read("math.jsonl").examples:
        assert row.meta["answer"] == row.chosen and row.scores == {"chosen": 1.0, "rejected": 0.0}


def test_a_study_tries_its_reward_before_the_training(tmp_path, capsys):
    make("train.jsonl", "--noise", 0.1)
    (tmp_path / "own.py").write_text("def right(prompt, response, meta):\n    return {'reward': meta['nothing']}\n")
    study = (
        "study: on-pairs\nmodels: {base: 'pocket:base'}\nmethods: {dpo: {learning_rate: 5e-4}}\n"
        "data: {train: train.jsonl, validation: 4, test: 4}\nevaluate: {reward: own.py:right, n_prompts: 4}\n"
    )
    (tmp_path / "study.yaml").write_text(study)
    assert run(["plan", "study.yaml"]) == 3
    err = capsys.readouterr().err
    assert re.search(
        r"evaluate.reward: on row \d+ of data.validation: the reward 'own.py:right' fails with KeyError", err
    )


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--samples", "1"], 2, "--samples: one answer makes no pair"),
        (["--noise", "1.5"], 2, r"--noise: must be in [0, 1]; got 1.5"),
        (["--ches-below", "1"], 2, "--ches-below: must be in (0, 1)"),
        (["--rows", "0"], 2, "--rows: must be at least 1; got 0"),
        (["--chosen", "other"], 2, "--other names the model"),
        (["--curation", "siblings", "--chosen", "data"], 2, "both sides are of one tree"),
        (["--curation", "rejection", "--chosen", "data"], 2, "draws both sides from one pool"),
        (["--simulations", "8"], 2, "--simulations: belongs to --curation siblings"),
        (["--max-new-tokens", "600"], 2, "its context has 512 positions"),
        (["--reward", "constraints"], 3, "prompts.jsonl: row 1: the reward 'constraints' needs meta.constraints"),
        (["--min-gap", "1.5"], 3, "no pair came of it.\n8 prompts without a pair: out_of_range"),
    ],
)
def test_what_cannot_be_meant_ends_in_a_sentence(more, code, message, capsys):
    given = {"--prompts": "prompts.jsonl", "--reward": "pocket", "--rows": "8", "--max-new-tokens": "30"}
    given |= dict(zip(more[::2], more[1::2], strict=True))
    words = [word for pair in given.items() for word in pair]
    assert run(["data", "pairs", "pocket:base", *words, "--out", "x.jsonl"]) == code
    assert message in capsys.readouterr().err


def test_a_file_that_is_in_the_way_stays(tmp_path, capsys):
    (tmp_path / "mine.jsonl").write_text("mine\n")
    assert make("mine.jsonl")[0] == 2
    assert "already there, and not as this command left it" in capsys.readouterr().err
    assert (tmp_path / "mine.jsonl").read_text() == "mine\n"
