"""How far a study is and what it has found so far, read from its folder; works beside the process that runs it."""

import contextlib
import math
import os
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from preflab.core.errors import ConfigError, StoreError
from preflab.report.index import INDEX, Damage, load_index
from preflab.stats.intervals import seed_interval
from preflab.store.artefacts import MANIFEST
from preflab.store.documents import is_there, read_document
from preflab.store.ledger import RUN, Ledger, is_locked, seconds_of

PLAN = "plan.json"
_STALE_S = 120.0
_TROUBLED = ("diverged", "failed")


def study_status(study: Path) -> dict[str, Any]:
    """Return how far a study is, what runs now, how every method stands, and what went wrong.

    Keys: schema_version, study, state (running, stopped, complete), command, folder, done, total, stages (per kind),
    running, last_sign_s, seconds_spent, seconds_left, methods, troubled, failed, bytes, free_bytes, last_event, report,
    damages (of plan and index; the files of artefacts are checked by the report).
    `methods` and `troubled` come from the index, which a running study writes every half minute.

    Raises:
        ConfigError: the folder holds no planned study.
        StoreError: its plan cannot be read.
    """
    plan = _plan(study)
    stages = plan["stages"]
    for stage in stages:
        stage["done"] = os.path.exists(study / stage["folder"] / MANIFEST)
    ledger = Ledger(study)
    events = _events(ledger)
    locked = is_locked(study)
    # What a killed run last said is no sign of life of the next one.
    told = {p["task"]: p for p in _signs(ledger) if locked and time.time() - p["at"] < _STALE_S}
    run = told.pop(RUN, None)
    kinds = Counter(stage["kind"] for stage in stages)
    done = Counter(stage["kind"] for stage in stages if stage["done"])
    failed = _failed(events)
    # Before validation decides, the plan does not know all evaluations; the process that runs the study does.
    left = run["left_s"] if run else sum(s["seconds"] for s in stages if not s["done"]) / plan["workers"]
    cells, damages = _cells(study)
    signs = [p["at"] for p in (*told.values(), *([run] if run else []))]
    # Of a run that was killed before validation decided, the plan does not hold every stage.
    finished = all(stage["done"] for stage in stages) and not plan.get("undecided")
    commands = [str(event["command"]) for event in events if event["event"] == "run"]
    return {
        "schema_version": 1,
        "study": plan["study"],
        "state": "running" if locked else "complete" if finished and not failed else "stopped",
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
            {key: cell.get(key) for key in ("start", "method", "setting", "size", "seed", "status", "step", "cause")}
            for cell in cells
            if cell["status"] in _TROUBLED
        ],
        "failed": failed,
        "bytes": _bytes(study),
        "free_bytes": shutil.disk_usage(study).free,
        "damages": [asdict(damage) for damage in damages],
        "last_event": events[-1] if events else None,
        "report": str(study / "report.html") if (study / "report.html").exists() else None,
    }


def _plan(study: Path) -> dict[str, Any]:
    path = study / PLAN
    if not is_there(path):
        raise ConfigError(
            f"{study}: no study here (no {PLAN}); run it with `preflab run`, or name its folder under runs/."
        )
    again = "run the study again: it writes the plan anew and trains nothing twice"
    try:
        plan = read_document(path)
    except StoreError as error:
        raise StoreError(f"{error}; {again}.") from error
    stages = plan.get("stages")
    whole = isinstance(stages, list) and all(_has(s, kind=str, label=str, folder=str, seconds=_NUMBER) for s in stages)
    if not whole or not _has(plan, study=str, workers=int) or plan["workers"] < 1:
        raise StoreError(f"{path}: is no plan of a study; name another folder, or {again}.")
    return plan


_NUMBER = (int, float)


def _has(found: Any, **kinds: type | tuple[type, ...]) -> bool:
    """Return whether something is a record with values of these types, none of them longer than a file name."""
    return isinstance(found, dict) and all(
        isinstance(value := found.get(key), kind) and (not isinstance(value, str) or len(value) < 250)
        for key, kind in kinds.items()
    )


def _cells(study: Path) -> tuple[Sequence[Mapping[str, Any]], Sequence[Damage]]:
    """Return the cells of the index, and what is damaged of it; none where it is not written yet."""
    try:
        index = load_index(study)
    except ConfigError:
        return (), ()
    except StoreError as error:
        return (), (Damage(INDEX, str(error).removeprefix(f"{study / INDEX}: "), "how every method stands"),)
    return index.cells, index.damages


def _events(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the events that are what a run writes."""
    found = []
    for event in ledger.events():
        if not isinstance(event, dict) or not _TOLD.get(event.get("event"), set()) <= set(event):
            continue
        with contextlib.suppress(KeyError, TypeError, ValueError):
            seconds_of(event["time"])
            found.append(event)
    return found


_TOLD: Mapping[Any, set[str]] = {"run": {"command"}, "failed": {"label", "error"}}


def _signs(ledger: Ledger) -> list[dict[str, Any]]:
    """Return what running stages last said, as far as it is what they write."""
    counts: dict[str, Any] = {"at": _NUMBER, "done": int, "total": int}
    return [
        said
        for said in ledger.progress()
        if _has(said, task=str, **counts)
        and (_has(said, left_s=_NUMBER) if said["task"] == RUN else _has(said, label=str, what=str))
    ]


def _failed(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the failures of the latest run."""
    starts = [i for i, event in enumerate(events) if event["event"] == "run"]
    latest = events[starts[-1] :] if starts else events
    return [{"label": str(e["label"]), "error": str(e["error"])} for e in latest if e["event"] == "failed"]


def _spent(events: Sequence[dict[str, Any]], *, running: bool) -> float:
    """Return the seconds of the latest run so far; of one that was killed, until its last event."""
    starts = [event for event in events if event["event"] == "run"]
    if not starts:
        return 0.0
    end = time.time() if running else seconds_of(events[-1]["time"])
    return max(0.0, end - seconds_of(starts[-1]["time"]))


def _methods(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
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
            "trained": sum(bool(cell.get("train")) for cell in mine),
            "evaluated": sum(bool(cell.get("evaluate")) for cell in mine),
            **{state: sum(cell["status"] == state for cell in mine) for state in (*_TROUBLED, "stopped")},
            "best": _best(mine),
        }
        for (start, method), mine in groups.items()
    ]


def _best(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the setting with the highest mean validation score at the largest size that has one, over its seeds."""
    scores = defaultdict(list)
    for cell in cells:
        if cell.get("validation") is not None:
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
