"""A study from its configuration to its report: plan, run, index, report, under the study's lock."""

import importlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preflab.store.artefacts import write_json
from preflab.store.ledger import RUN, Ledger, seconds_of, study_lock
from preflab.studies.config import StudyConfig
from preflab.studies.index import write_index
from preflab.studies.plan import Plan, make_plan
from preflab.studies.run import Runner, State, Watcher
from preflab.studies.stages import Stage
from preflab.studies.study_file import dump

PLAN = "plan.json"
RESOLVED = "study.resolved.yaml"
REPORT = "report.html"
_INDEX_EVERY_S = 30.0
_TELL_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended.

    Args:
        state: what is done and what failed.
        report: path of the report.
        models: folders of the trained models.
        n_diverged: cells that diverged, which is a result.
        said: the answer of the report, and what to try next, a sentence each.
    """

    state: State
    report: Path
    models: tuple[Path, ...]
    n_diverged: int
    said: tuple[str, ...]


def execute(
    config: StudyConfig, folder: Path, *, command: str, planned: Callable[[Plan], None], watch: Watcher
) -> Finished:
    """Run a study, or what is missing of it, and write its report.

    Args:
        config: the study.
        folder: where it lives.
        command: what was typed, for the report.
        planned: called once with the plan, before the work.
        watch: called while it runs.

    Raises:
        StudyLocked: another process runs this study.
        KeyboardInterrupt: after checkpoints and a partial index are written.
    """
    with study_lock(folder):
        plan = make_plan(config, folder)
        (folder / RESOLVED).write_text(dump(config), encoding="utf-8")
        write_plan(plan)
        planned(plan)
        ledger, indexed, told = Ledger(folder), 0.0, 0.0
        ledger.append("run", command=command)
        began = time.monotonic()

        def watch_and_index(state: State) -> None:
            """Keep the index fresh, so that the part that is done can be reported at any time, and say how far."""
            nonlocal indexed, told
            if time.monotonic() - indexed > _INDEX_EVERY_S:
                write_index(plan, state, command=command, wall_s=_wall_s(ledger) + time.monotonic() - began)
                indexed = time.monotonic()
            if time.monotonic() - told > _TELL_EVERY_S:
                ledger.report_progress(RUN, {"done": len(state.done), "total": state.total, "left_s": state.left_s})
                told = time.monotonic()
            watch(state)

        # The report's libraries take a second to import, which is free while workers compute.
        threading.Thread(target=_import_report, daemon=True).start()
        runner = Runner(plan, watch_and_index)
        try:
            state = runner.run()
        finally:
            ledger.end_progress(RUN)
            ledger.append("ran", seconds=round(time.monotonic() - began, 1))
            write_index(plan, runner.state, command=command, wall_s=_wall_s(ledger))
            write_plan(plan)  # evaluations that followed a selection are known now
        from preflab.report.load import load_tables
        from preflab.report.page import answered, write_page

        tables = load_tables(folder)
        n_diverged = int((tables.cells["status"] == "diverged").sum())
        trained = tables.cells[(tables.cells["status"] == "done") & (tables.cells["method"] != "")]
        models = tuple(folder / str(name) / "model" for name in trained["train"])
        page, verdict = answered(tables)
        first = verdict.next_steps[:1]
        said = (verdict.headline, *first, *([verdict.grow] if any("`--set " in step for step in first) else []))
        return Finished(state, write_page(page, folder / REPORT), models, n_diverged, said)


def _import_report() -> None:
    for name in ("preflab.report.page", "matplotlib.figure"):
        importlib.import_module(name)


def write_plan(plan: Plan) -> None:
    """Write `plan.json`: every stage with its label, estimate and folder, for `status` and other readers."""
    write_json(plan.folder / PLAN, plan_json(plan))


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON."""
    known = plan.explorer.known().stages
    ids = {stage.id for stage in known}
    undecided = [stage for stage in plan.explorer.known(guess=True).stages if stage.id not in ids]
    left = [stage for stage in [*known, *undecided] if plan.explorer.find(stage.spec) is None]
    return {
        "schema_version": 1,
        "study": plan.config.study,
        "folder": str(plan.folder),
        "data": dict(plan.data.info),
        "cells": len(plan.cells),
        "workers": plan.workers,
        "token_budget": plan.sizing.token_budget,
        "most_fused": plan.sizing.most_fused,
        "worker_bytes": round(plan.sizing.memory),
        "recompute": plan.sizing.recompute,
        "stages": [_stage_json(plan, stage) for stage in known],
        "undecided": dict(Counter(stage.kind for stage in undecided)),
        "seconds_left": round(plan.wall_s(left), 1),
        "notes": list(plan.notes),
    }


def _stage_json(plan: Plan, stage: Stage) -> dict[str, Any]:
    return {
        "kind": stage.kind,
        "label": stage.label,
        "id": stage.id,
        "folder": str(plan.store.path(stage.spec).relative_to(plan.folder)),
        "done": plan.explorer.find(stage.spec) is not None,
        "train_tokens": round(stage.work.train_tokens),
        "score_tokens": round(stage.work.score_tokens),
        "generate_tokens": round(stage.work.generate_tokens),
        "seconds": round(plan.seconds(stage), 1),
    }


def _wall_s(ledger: Ledger) -> float:
    """Return the seconds of all runs of the study together; a run that was killed ends with its last event."""
    total, began, last = 0.0, None, 0.0
    for event in ledger.events():
        if event["event"] == "run":
            total += last - began if began is not None else 0.0
            began = seconds_of(event["time"])
        elif event["event"] == "ran":
            total, began = total + event["seconds"], None
        last = seconds_of(event["time"])
    return total
