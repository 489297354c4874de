"""lm-eval and the native scorer on the same items: the same log-likelihoods, and right and wrong on the same ones.

Runs where lm-eval is installed, or where `PREFLAB_LM_EVAL_PYTHON` names an interpreter that has it.
"""

import importlib.util
import json
import math
import os
import sys

import numpy as np
import pytest
from tests.tiny import write_tiny_world

from preflab.evals.benchmarks.catalogue import named
from preflab.evals.benchmarks.lm_eval_backend import score_with_lm_eval, scorer_name, supports
from preflab.evals.benchmarks.selection import Profile
from preflab.evals.benchmarks.tasks import prepare
from preflab.models.checkpoints import lone_checkpoint
from preflab.models.load import end_token_ids, load_tokenizer

PYTHON = os.environ.get("PREFLAB_LM_EVAL_PYTHON") or sys.executable
needs_lm_eval = pytest.mark.skipif(
    sys.executable == PYTHON and importlib.util.find_spec("lm_eval") is None,
    reason="lm-eval is an optional extra; PREFLAB_LM_EVAL_PYTHON may name an interpreter that has it",
)


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm-eval")
    model, _ = write_tiny_world(folder)
    four = [f"w{k}" for k in range(4)]
    arc = [
        {"question": f"w{i} w7", "choices": {"text": four, "label": list("ABCD")}, "answerKey": "ABCD"[i % 4]}
        for i in range(5)
    ]
    write(folder, "arc_challenge_validation.jsonl", arc)
    pool = [{"query": f"Question: w{i} w9\nAnswer:", "choices": four, "gold": i % 4} for i in range(40)]
    write(folder, "arc_challenge_train.jsonl", pool)
    sentences = [
        {"sentence": f"w{i} met _ and w3", "option1": "w1", "option2": "w2", "answer": "12"[i % 2]} for i in range(5)
    ]
    write(folder, "winogrande_validation.jsonl", sentences)
    write(folder, "winogrande_train.jsonl", [{**row, "sentence": f"w8 {row['sentence']}"} for row in sentences])
    asked = [{"question": f"w{i}", "subject": f"s{i % 2}", "choices": four, "answer": i % 4} for i in range(6)]
    write(folder, "mmlu_test.jsonl", asked)
    write(folder, "mmlu_dev.jsonl", [{**row, "question": f"w9 {k}"} for row in asked for k in range(2)])
    targets = {"choices": ["w1", "w2", "w3"], "labels": [1, 0, 1]}
    one = {"choices": ["w1", "w2"], "labels": [1, 0]}
    truths = [{"question": f"w{i}", "mc1_targets": one, "mc2_targets": targets} for i in range(4)]
    write(folder, "truthfulqa_mc.jsonl", truths)
    write(folder, "boolq_validation.jsonl", [{"question": "w1", "passage": f"w{i}", "answer": True} for i in range(4)])
    numbers = [{"question": f"w{i}", "answer": f"w1 #### {i}"} for i in range(4)]
    write(folder, "gsm8k_test.jsonl", numbers)
    write(folder, "gsm8k_train.jsonl", [{"question": f"w9 w{i}", "answer": f"w1 #### {i}"} for i in range(9)])
    return folder, model


@needs_lm_eval
@pytest.mark.parametrize("shots", [False, True])
def test_both_scorers_agree_item_by_item(world, shots):
    folder, model = world
    names = ("arc_challenge", "winogrande", "mmlu", "truthfulqa", "boolq", "gsm8k")
    profile = Profile("test", None, shots=shots, longest=8)
    # The tiny model takes 2,048 tokens, so that nothing is cut.
    benchmarks = [b for b in named(names) if not shots or b.name in ("winogrande", "gsm8k")]
    tasks, absent = prepare(benchmarks, profile, folder)
    assert not absent and len(tasks) == len(benchmarks)
    checkpoint = lone_checkpoint(str(model))
    tokenizer = load_tokenizer(model)
    loaded = checkpoint.load(dtype="float32", device="cpu")
    for task in tasks:
        own = task.run(
            loaded, tokenizer, template="none", end_ids=end_token_ids(model, tokenizer), context=math.inf,
            budget=512, batch_size=4,
        )  # fmt: skip
        theirs = score_with_lm_eval(
            checkpoint, task, chat=False, dtype="float32", device="cpu", batch_size=4, python=PYTHON
        )
        assert [each["item"] for each in own] == [each["item"] for each in theirs]
        for ours, other in zip(own, theirs, strict=True):
            for metric in task.benchmark.metrics:
                assert ours[metric] == pytest.approx(other[metric], abs=1e-4), (task.benchmark.name, metric)
            if "response" in ours:
                assert ours["prompt"] == other["prompt"] and ours["response"] == other["response"]
            elif task.benchmark.name != "truthfulqa":
                np.testing.assert_allclose(ours["logps"], other["logps"], atol=1e-3)


def test_what_lm_eval_has_and_what_is_missing():
    assert supports(*named(["mmlu"])) and not supports(*named(["hhh"]))
    if importlib.util.find_spec("lm_eval") is None:
        with pytest.raises(ValueError, match=r"pip install 'preflab\[lm-eval\]'"):
            scorer_name()
