"""What `preflab status` reads from a study's folder."""

import json
import time

import pytest

from preflab.cli.progress import print_status
from preflab.core.errors import ConfigError, StoreError
from preflab.report.status import study_status
from preflab.store.ledger import RUN, Ledger, study_lock


def _cell(method="dpo", setting="beta=0.1", seed=0, status="done", validation=None, **fields):
    return {"cell": f"{method}{setting}{seed}", "start": "sft", "method": method, "setting": setting, "size": 64,
            "seed": seed, "status": status, "step": None, "cause": "", "train": "artefacts/train/x", "evaluate": None,
            "validation": validation, **fields}  # fmt: skip


@pytest.fixture
def study(tmp_path):
    stages = [{"kind": "train", "label": f"t{k}", "folder": f"artefacts/train/{k}", "seconds": 10.0} for k in range(4)]
    (tmp_path / "plan.json").write_text(json.dumps({"study": "s", "workers": 2, "stages": stages}))
    for k in range(3):
        (tmp_path / f"artefacts/train/{k}").mkdir(parents=True)
        (tmp_path / f"artefacts/train/{k}/manifest.json").write_text("{}")
    Ledger(tmp_path).append("run", command="preflab run s.yaml")
    return tmp_path


def _index(study, cells):
    (study / "index.json").write_text(json.dumps({"schema_version": 1, "study": {}, "cells": cells}))


def test_stages_that_are_there_are_counted_and_the_rest_is_shared_by_the_workers(study):
    found = study_status(study)
    assert (found["done"], found["total"], found["state"]) == (3, 4, "stopped")
    assert found["seconds_left"] == 5.0
    assert found["command"] == "preflab run s.yaml"
    assert found["methods"] == []  # no index yet


@pytest.mark.parametrize("lacks", ["a stage of no time", "what validation decides on"])
def test_a_study_that_lacks_something_is_not_complete(study, lacks):
    plan = json.loads((study / "plan.json").read_text())
    if lacks == "a stage of no time":
        plan["stages"][3]["seconds"] = 0.0
    else:
        plan |= {"stages": plan["stages"][:3], "undecided": {"evaluate": 6}}
    (study / "plan.json").write_text(json.dumps(plan))
    assert study_status(study)["state"] == "stopped"
    plan |= {"stages": plan["stages"][:3], "undecided": {}}
    (study / "plan.json").write_text(json.dumps(plan))
    assert study_status(study)["state"] == "complete"


def test_a_foreign_study_cannot_steer_the_terminal(study, capsys):
    Ledger(study).append("run", command="\x1b[2J\x1b]0;owned\x07")
    plan = json.loads((study / "plan.json").read_text()) | {"study": "\x1b[31mred"}
    (study / "plan.json").write_text(json.dumps(plan))
    print_status(study_status(study))
    said = capsys.readouterr().out
    assert "red" in said and "\x1b" not in said and "\x07" not in said


def test_a_running_study_says_how_far_it_is_and_when_it_last_spoke(study):
    ledger = Ledger(study)
    with study_lock(study):
        ledger.report_progress(RUN, {"done": 3, "total": 9, "left_s": 77.0})
        ledger.report_progress("train-3", {"label": "t3", "what": "steps", "done": 1, "total": 8})
        found = study_status(study)
    assert (found["state"], found["done"], found["total"], found["seconds_left"]) == ("running", 3, 9, 77.0)
    assert [each["label"] for each in found["running"]] == ["t3"]
    assert found["last_sign_s"] < 5


def test_what_a_killed_run_last_said_counts_for_nothing(study):
    ledger = Ledger(study)
    ledger.report_progress(RUN, {"done": 1, "total": 1, "left_s": 0.0})
    path = study / "progress" / f"{RUN}.json"
    assert study_status(study)["total"] == 4  # nothing holds the lock
    path.write_text(json.dumps(json.loads(path.read_text()) | {"at": time.time() - 3600}))
    with study_lock(study):
        assert study_status(study)["total"] == 4


def test_the_leading_setting_is_that_with_the_highest_mean_over_its_seeds(study):
    scores = {"beta=0.1": (0.5, 0.7), "beta=0.3": (0.65, 0.67)}
    cells = [_cell(setting=name, seed=k, validation=v) for name, values in scores.items() for k, v in enumerate(values)]
    _index(study, [*cells, _cell(method="ipo"), _cell(method="ipo", seed=1, status="diverged", cause="loss is nan")])
    dpo, ipo = study_status(study)["methods"]
    assert (dpo["best"]["setting"], dpo["best"]["seeds"]) == ("beta=0.3", 2)
    assert dpo["best"]["validation"] == pytest.approx(0.66)
    # Student's t with one degree of freedom: 12.706 * sd / sqrt(2), sd = 0.02 / sqrt(2).
    assert dpo["best"]["half_width"] == pytest.approx(12.7062 * 0.01, rel=1e-4)
    assert (ipo["best"], ipo["diverged"]) == (None, 1)


def test_the_terminal_page_holds_everything_that_matters(study, capsys):
    _index(study, [_cell(validation=0.5), _cell(method="ipo", status="diverged", step=7, cause="loss is [red]nan")])
    print_status(study_status(study))
    text = " ".join(capsys.readouterr().out.split())
    for part in ("s: stopped", "3 of 4 stages", "0.500 (1 seed) beta=0.1", "ipo on sft, 64 rows, seed 0",
                 "at step 7: loss is [red]nan", "continue preflab run s.yaml"):  # fmt: skip
        assert part in text


def test_a_folder_without_a_plan_is_no_study(tmp_path):
    with pytest.raises(ConfigError, match="no study here"):
        study_status(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"study": "s", "workers": 0, "stages": []}'])
def test_a_plan_that_cannot_be_one_is_named_with_the_way_out(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(StoreError, match=r"plan\.json: .*run the study again"):
        study_status(tmp_path)
