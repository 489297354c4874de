"""What a study computes, counted: nothing twice, nothing for padding, no process too many."""

import dataclasses
import json
import multiprocessing.process
from collections import Counter

import pytest
import torch
from tests.e2e.test_study import preflab
from tests.tiny import random_rows, tiny_model, write_tiny_world
from torch.utils._python_dispatch import TorchDispatchMode

from preflab.methods import CPO, DPO, IPO, KTO, ORPO, SIMPO
from preflab.methods.needs import roles_of, stored_roles
from preflab.models.policies import LoraSettings, LoraStack
from preflab.scoring.flat import n_tokens
from preflab.scoring.logps import score
from preflab.studies import calibrate
from preflab.train.lockstep import drive
from preflab.train.step import Given, gradient

ROLES = ("chosen", "rejected", "mismatched")
ROWS = random_rows(8, roles=ROLES)


class Products(TorchDispatchMode):
    """Counts the rows that are multiplied with matrices of each shape."""

    def __init__(self):
        super().__init__()
        self.rows = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket is torch.ops.aten.mm:
            x, matrix = args
            self.rows[tuple(matrix.shape)] += len(x)
        return func(*args, **(kwargs or {}))


def names(methods):
    return "+".join(method.name for method in methods)


@pytest.mark.parametrize("methods", [(DPO,), (SIMPO,), (CPO,), (ORPO,), (KTO,), (DPO, IPO, SIMPO)], ids=names)
@pytest.mark.parametrize("budget", [1000, 60])
def test_a_step_computes_each_token_once_and_the_head_at_responses_alone(methods, budget):
    model = tiny_model()
    policy = LoraStack.fresh(model, LoraSettings(2, 4.0, "all-linear"), [0] * len(methods))
    known = score(tiny_model(), ROWS, ROLES, budget=1000)
    runs = {}
    for cell, method in enumerate(methods):
        references = {role: known[role] for role in stored_roles(method)}
        hyper = dataclasses.asdict(method.hyperparameters())
        runs[cell] = gradient(ROWS, Given(references=references), method, hyper, budget=budget)
    inner, hidden, vocabulary, layers = 48, 32, 61, 2
    with Products() as products:
        drive(policy, runs)
    tokens = layers * sum(n_tokens(row, roles_of(method)) for method in methods for row in ROWS)
    answers = sum(len(row.responses[role]) for method in methods for role in roles_of(method) for row in ROWS)
    # A batch that is coupled and too large is computed once without a graph and once with one.
    forwards = 2 if budget == 60 and any(method.couples_batch for method in methods) else 1
    # Forward: gate and up go from hidden to inner, down goes back. Backward: the other way round.
    assert products.rows[hidden, inner] == tokens * (2 * forwards + 1)
    assert products.rows[inner, hidden] == tokens * (forwards + 2)
    assert products.rows[hidden, vocabulary] == answers * forwards
    assert products.rows[vocabulary, hidden] == answers


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, data = write_tiny_world(folder)
    (folder / "study.yaml").write_text(f"""
study: counted
models: {{base: {model}}}
methods:
  dpo: {{beta: [0.1, 0.5], learning_rate: 1e-2}}
  ipo: {{learning_rate: 1e-2}}
  simpo: {{learning_rate: 1e-2}}
sizes: [8, 24]
seeds: 2
data: {{train: {data}, validation: 6, test: 8, max_tokens: 32}}
train: {{batch_size: 4, monitor_rows: 4, monitor_points: 2, token_budget: 2048, lora: {{r: 4}}}}
evaluate: {{n_prompts: 6, max_new_tokens: 6}}
run: {{workers: 2}}
""")
    return folder / "study.yaml"


def test_a_study_scores_each_response_once_and_starts_its_workers_alone(study, tmp_path, monkeypatch):
    started = []
    start = multiprocessing.process.BaseProcess.start
    monkeypatch.setattr(
        multiprocessing.process.BaseProcess, "start", lambda self: (started.append(type(self)), start(self))[1]
    )
    # Times taken beside other programs (other tests) are taken again once the machine is quieter: here it never is.
    monkeypatch.setattr(calibrate.psutil, "cpu_percent", lambda interval: 100)

    def run(name, *changes):
        started.clear()
        words = [word for change in changes for word in ("--set", change)]
        preflab("run", study, "--out", tmp_path / name, *words, cache=tmp_path / "cache")
        (manifest,) = [json.loads(p.read_text()) for p in (tmp_path / name).glob("artefacts/reference/*/manifest.json")]
        return manifest["info"]["responses_scored"], len(started)

    # Both responses of 24 training rows, 6 of validation and 8 of the test split.
    assert run("first") == ((24 + 6 + 8) * 2, 1 + 2)  # a probe and two workers for 16 cells
    assert run("again") == (0, 2)
    assert run("larger", "sizes=[8, 32]")[0] == 8 * 2
