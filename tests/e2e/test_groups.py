"""Cells that train side by side in a study: the same results, kept through stops, and out-of-memory that halves."""

import json
import signal
import subprocess

import numpy as np
import pandas as pd
import pytest
from tests.e2e.test_study import (
    PREFLAB,
    assert_same,
    contents,
    environment,
    installed,
    preflab,
    wait_for_artefacts,
)
from tests.tiny import write_tiny_world

LORA = """data: {{train: {data}, validation: 6, test: 8, max_tokens: 32}}
train: {{batch_size: 4, monitor_rows: 4, monitor_points: 2, token_budget: 2048, lora: {{r: 4}}}}
evaluate: {{n_prompts: 6, max_new_tokens: 6}}
run: {{workers: 2, checkpoint_every_s: 0}}
"""

STUDY = (
    """
study: lora
models: {{base: {model}}}
methods:
  tr_dpo: {{learning_rate: 1e-2, tau: 2}}
  {methods}
sizes: [8, 24]
"""
    + LORA
)

OWN = '''
import inspect
import os
import pathlib
from dataclasses import replace

from preflab.methods import DPO, ReferencedPair

ATTEMPTS = pathlib.Path({folder!r})


def loss(batch: ReferencedPair, *, beta: float):
    """DPO on a machine that runs out of memory, or whose worker is killed, as often as `trouble` says."""
    # Not in the trial that every method from a file goes through.
    if any(frame.function == "drive" for frame in inspect.stack()):
        trouble = words(ATTEMPTS / "trouble")
        if trouble:
            (ATTEMPTS / "trouble").write_text(",".join(trouble[1:]))
            if trouble[0] == "killed":
                os._exit(9)
            raise MemoryError("no room")
    return DPO.loss(batch, beta=beta)


def words(path):
    return [word for word in path.read_text().split(",") if word]


UNLUCKY = replace(DPO, name="unlucky", loss=loss)
'''


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    model, data = write_tiny_world(folder)
    (folder / "own.py").write_text(OWN.format(folder=str(folder)))
    (folder / "trouble").write_text("")
    methods = "dpo: {beta: [0.1, 0.5], learning_rate: 1e-2}\n  simpo: {learning_rate: 1e-2}"
    (folder / "study.yaml").write_text(STUDY.format(model=model, data=data, methods=methods))
    own = f"{folder}/own.py:UNLUCKY: {{learning_rate: 1e-2}}"
    (folder / "unlucky.yaml").write_text(STUDY.format(model=model, data=data, methods=own))
    return folder


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
    cache, out = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("runs") / "whole"
    installed("run", world / "study.yaml", "--out", out, cache=cache)
    return out, cache


def infos(study, kind="train"):
    manifests = [json.loads(p.read_text()) for p in study.glob(f"artefacts/{kind}/*/manifest.json")]
    return [m["info"] | {"method": m["spec"]["params"].get("method")} for m in manifests]


def test_cells_of_one_start_point_train_in_groups_and_say_so(whole):
    found = pd.DataFrame(infos(whole[0]))
    assert (found["status"] == "done").all()
    alone = found["method"] == "tr_dpo"  # its reference moves, and is a model of its own
    assert found[alone]["fused"].isna().all() and (found[~alone]["fused"] == 3).all()
    groups = json.loads((whole[0] / "schedule.json").read_text())["groups"]
    assert sorted(map(len, groups)) == [3, 3]  # one for each worker


def test_cells_trained_one_by_one_end_alike(world, whole, tmp_path):
    out, cache = whole
    preflab("run", world / "study.yaml", "--out", tmp_path, "--set", "run.fuse=1", cache=cache)
    assert all("fused" not in info for info in infos(tmp_path))
    cells, tables = contents(tmp_path)
    expected_cells, expected = contents(out)
    assert [c["cell"] for c in cells] == [c["cell"] for c in expected_cells]
    for (cell, name), table in tables.items():
        if name in ("log", "monitor", "pairs"):
            numbers = table.select_dtypes("number")
            np.testing.assert_allclose(numbers, expected[cell, name][numbers.columns], rtol=2e-3, atol=2e-3)


def test_a_group_that_is_killed_continues_to_the_same_bits(world, whole, tmp_path):
    out, cache = whole
    for runs, n, how in ((1, 3, signal.SIGKILL), (2, 5, signal.SIGTERM)):
        with subprocess.Popen(
            [PREFLAB, "run", world / "study.yaml", "--out", tmp_path / "stopped"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(cache),
            start_new_session=True,
        ) as process:
            wait_for_artefacts(process, tmp_path / "stopped", n, runs=runs)
            process.send_signal(how)
            process.communicate(timeout=60)
            assert process.returncode == (-9 if how == signal.SIGKILL else 5)
    preflab("run", world / "study.yaml", "--out", tmp_path / "stopped", cache=cache)
    assert_same(contents(tmp_path / "stopped"), contents(out))


def test_a_grown_grid_trains_its_new_cells_alone(world, whole, tmp_path):
    out, cache = whole
    before = {p.parent.name for p in out.glob("artefacts/train/*/manifest.json")}
    preflab("run", world / "study.yaml", "--out", out, "--set", "methods.simpo.beta=[2.0, 3.0]", cache=cache)
    new = {p.parent.name for p in out.glob("artefacts/train/*/manifest.json")} - before
    assert len(new) == 2
    preflab("run", world / "study.yaml", "--out", out, cache=cache)


@pytest.mark.parametrize(
    ("trouble", "halvings"),
    [(["memory"], 1), (["killed"], 0), (["killed", "killed"], 1), (["memory", "memory"], 2)],
    ids=["once", "a worker died", "a worker died alone", "twice"],
)
def test_what_runs_out_of_memory_begins_again_with_half_the_budget(world, whole, tmp_path, trouble, halvings):
    (world / "trouble").write_text(",".join(trouble))
    preflab("run", world / "unlucky.yaml", "--out", tmp_path, "--set", "sizes=[8]", cache=whole[1])
    assert (world / "trouble").read_text() == ""
    found = {info["method"]: info for info in infos(tmp_path)}
    assert all(info["status"] == "done" for info in found.values())
    assert found["unlucky"].get("halvings", 0) == halvings
    assert found["unlucky"].get("recomputed", 0) == (halvings == 2)
    assert found["tr_dpo"].get("halvings", 0) == 0
    events = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert ("out of memory" in events) == bool(halvings)
    assert ("ran out of memory and were computed again" in (tmp_path / "report.html").read_text()) == bool(halvings)


def test_what_never_fits_fails_with_a_sentence_and_the_study_goes_on(world, whole, tmp_path):
    (world / "trouble").write_text(",".join(["memory"] * 200))
    done = preflab("run", world / "unlucky.yaml", "--out", tmp_path, "--set", "sizes=[8]", cache=whole[1], check=4)
    (world / "trouble").write_text("")
    assert "out of memory at the smallest token budget" in done.stderr
    assert {"done"} == {info["status"] for info in infos(tmp_path) if info["method"] == "tr_dpo"}
