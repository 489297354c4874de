"""How far a study is and what it has found so far, read from its folder; works beside the process that runs it."""

import contextlib
import json
import math
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError
from preflab.stats.intervals import seed_interval
from preflab.store.artefacts import MANIFEST
from preflab.store.ledger import RUN, Ledger, is_locked, seconds_of

PLAN = "plan.json"
INDEX = "index.json"
_STALE_S = 120.0
_TROUBLED = ("diverged", "failed")


def study_status(study: Path) -> dict[str, Any]:
    """Return how far a study is, what runs now, how every method stands, and what went wrong.

    Keys: schema_version, study, state (running, stopped, complete), command, folder, done, total, stages (per kind),
    running, last_sign_s, seconds_spent, seconds_left, methods, troubled, failed, bytes, free_bytes, last_event, report.
    `methods` and `troubled` come from the index, which a running study writes every half minute.

    Raises:
        ConfigError: the folder holds no planned study.
    """
    plan = _document(study / PLAN)
    if plan is None or not isinstance(plan.get("stages"), list):
        raise ConfigError(
            f"{study}: no study here (no readable {PLAN}); run it with `preflab run`, or name its folder under runs/."
        )
    stages = plan["stages"]
    for stage in stages:
        stage["done"] = (study / stage["folder"] / MANIFEST).exists()
    ledger = Ledger(study)
    events = ledger.events()
    locked = is_locked(study)
    # What a killed run last said is no sign of life of the next one.
    told = {p["task"]: p for p in ledger.progress() if locked and time.time() - p["at"] < _STALE_S}
    run = told.pop(RUN, None)
    kinds = Counter(stage["kind"] for stage in stages)
    done = Counter(stage["kind"] for stage in stages if stage["done"])
    failed = _failed(events)
    # Before validation decides, the plan does not know all evaluations; the process that runs the study does.
    left = run["left_s"] if run else sum(s["seconds"] for s in stages if not s["done"]) / plan["workers"]
    cells = (_document(study / INDEX) or {}).get("cells", [])
    signs = [p["at"] for p in (*told.values(), *([run] if run else []))]
    commands = [event["command"] for event in events if event["event"] == "run"]
    return {
        "schema_version": 1,
        "study": plan["study"],
        "state": "running" if locked else "complete" if not left and not failed else "stopped",
        "command": commands[-1] if commands else None,
        "folder": str(study),
        "done": run["done"] if run else sum(done.values()),
        "total": run["total"] if run else len(stages),
        "stages": {kind: {"done": done[kind], "total": total} for kind, total in kinds.items()},
        "running": list(told.values()),
        "last_sign_s": round(max(0.0, time.time() - max(signs)), 1) if signs else None,
        "seconds_spent": round(_spent(events, running=locked), 1),
        "seconds_left": round(left, 1),
        "methods": _methods(cells),
        "troubled": [
            {key: cell[key] for key in ("start", "method", "setting", "size", "seed", "status", "step", "cause")}
            for cell in cells
            if cell["status"] in _TROUBLED
        ],
        "failed": failed,
        "bytes": _bytes(study),
        "free_bytes": shutil.disk_usage(study).free,
        "last_event": events[-1] if events else None,
        "report": str(study / "report.html") if (study / "report.html").exists() else None,
    }


def _document(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _failed(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the failures of the latest run."""
    starts = [i for i, event in enumerate(events) if event["event"] == "run"]
    latest = events[starts[-1] :] if starts else events
    return [{"label": e["label"], "error": e["error"]} for e in latest if e["event"] == "failed"]


def _spent(events: Sequence[dict[str, Any]], *, running: bool) -> float:
    """Return the seconds of the latest run so far; of one that was killed, until its last event."""
    starts = [event for event in events if event["event"] == "run"]
    if not starts:
        return 0.0
    end = time.time() if running else seconds_of(events[-1]["time"])
    return max(0.0, end - seconds_of(starts[-1]["time"]))


def _methods(cells: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one record per start point and method: cells by status, and the setting that leads on validation."""
    groups = defaultdict(list)
    for cell in cells:
        if cell["method"]:
            groups[cell["start"], cell["method"]].append(cell)
    return [
        {
            "start": start,
            "method": method,
            "cells": len(mine),
            "trained": sum(bool(cell["train"]) for cell in mine),
            "evaluated": sum(bool(cell["evaluate"]) for cell in mine),
            **{state: sum(cell["status"] == state for cell in mine) for state in (*_TROUBLED, "stopped")},
            "best": _best(mine),
        }
        for (start, method), mine in groups.items()
    ]


def _best(cells: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the setting with the highest mean validation score at the largest size that has one, over its seeds."""
    scores = defaultdict(list)
    for cell in cells:
        if cell["validation"] is not None and math.isfinite(cell["validation"]):
            scores[cell["size"], cell["setting"]].append(float(cell["validation"]))
    if not scores:
        return None
    largest = max(size for size, _ in scores)
    found = {setting: values for (size, setting), values in scores.items() if size == largest}
    setting = max(found, key=lambda name: sum(found[name]) / len(found[name]))
    interval = seed_interval(found[setting])
    return {
        "setting": setting,
        "size": largest,
        "seeds": len(found[setting]),
        "validation": interval.estimate,
        "half_width": None if math.isnan(interval.low) else interval.half_width,
    }


def _bytes(folder: Path) -> int:
    """Return the size of all files; what vanishes while a study works does not count."""
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total
