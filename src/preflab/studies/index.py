"""The study's index: what the report needs to find everything without knowing how stages are named or planned."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import preflab
from preflab.methods.cards import bibtex, card
from preflab.models.load import weights_digest
from preflab.store.artefacts import Artefact, write_json
from preflab.store.documents import sealed
from preflab.store.ledger import timestamp
from preflab.studies.cells import Cell, as_record
from preflab.studies.plan import Plan
from preflab.studies.run import State
from preflab.studies.scorers import names_model
from preflab.studies.search import Known
from preflab.studies.stages import Stage
from preflab.studies.study_file import dump

INDEX = "index.json"
_LIBRARIES = ("torch", "transformers", "peft", "datasets", "safetensors", "numpy", "scipy", "pyarrow")


def write_index(plan: Plan, state: State, *, command: str, wall_s: float) -> Path:
    """Write `index.json`: every cell with the folders of its artefacts, and the study's provenance."""
    known = plan.explorer.known(failed=state.failed)
    records = [_cell(plan, state, known, cell) for cell in plan.cells]
    notes = [*plan.notes, *_memory_notes(plan, known.stages)]
    starts = [_start(plan, start, seed) for start, seed in plan.layout.starts()]
    path = plan.folder / INDEX
    found = {"schema_version": 1, "study": _study(plan, command, wall_s, notes), "cells": starts + records}
    write_json(path, sealed(found))
    return path


def _cell(plan: Plan, state: State, known: Known, cell: Cell) -> dict[str, Any]:
    layout, find = plan.layout, plan.explorer.find
    stopped = known.stopped.get(cell.id)
    stages = [*layout.legs(cell), layout.train(cell)]
    # A setting that diverged before a rung goes no further: its leg is the last that there is of it.
    stage = stopped.leg if stopped else next((s for s in stages if plan.explorer.diverged(s.spec)), stages[-1])
    trained = find(stage.spec)
    selected = not layout.is_searched(cell) or known.selected.get(cell.group) == cell.setting
    final = _final(plan, layout.judge(stage) if selected else layout.judge_unselected(stage))
    validated = find(layout.validate(stage).spec) if layout.is_searched(cell) else None
    judge = find(stage.reads["reward_model"]) if "reward_model" in stage.reads else None
    return {
        **as_record(cell),
        **_status(stage, trained, state),
        **({"status": "stopped", "step": stage.spec.params["until"]} if stopped else {}),
        "selected": selected,
        "edge": selected and layout.grids[cell.method].on_edge(cell.setting),
        "train": _relative(plan, trained),
        **final,
        "judge": _relative(plan, judge),
        "judge_s": judge.info["seconds"] if judge else None,
        "validation": validated.info["value"] if validated else None,
        "needed": stopped.needed if stopped else None,
        "kept_step": trained.info.get("kept_step") if trained else None,
        "planned_steps": layout.n_steps(cell),
        "train_s": trained.info["seconds"] if trained else None,
    }


_FINAL = ("evaluate", "diagnose", "gradients")


def _final(plan: Plan, stages: Sequence[Stage]) -> dict[str, Any]:
    """Return the folders and seconds of the stages that a final cell or a start point has after its training."""
    done = [(stage, artefact) for stage in stages if (artefact := plan.explorer.find(stage.spec))]
    found = {stage.kind: artefact for stage, artefact in done if stage.kind in _FINAL}
    scored = {str(a.info["key"]["benchmark"]): a for stage, a in done if stage.kind == "benchmark"}
    return {
        "benchmarks": {name: _relative(plan, artefact) for name, artefact in scored.items()},
        "benchmarks_s": sum(artefact.info["seconds"] for artefact in scored.values()) if scored else None,
        **{kind: _relative(plan, found.get(kind)) for kind in _FINAL},
        **{f"{kind}_s": found[kind].info["seconds"] if kind in found else None for kind in _FINAL},
    }


def _status(stage: Stage, trained: Artefact | None, state: State) -> dict[str, Any]:
    if trained is not None:
        info = trained.info
        return {
            "status": info["status"],
            "step": info.get("step"),
            "cause": info.get("cause", ""),
            "tokens": info.get("tokens"),
            "n_steps": info.get("n_steps"),
            "examples": info.get("examples"),
            "clamped": info.get("clamped"),
            "sampled_tokens": info.get("sampled_tokens"),
        }
    if stage.id in state.failed:
        return {"status": "failed", "step": None, "cause": state.failed[stage.id].splitlines()[0]}
    return {"status": "pending", "step": None, "cause": ""}


def _start(plan: Plan, start: str, sft_seed: int | None) -> dict[str, Any]:
    layout = plan.layout
    final = _final(plan, layout.judge_start(start, sft_seed))
    seed = -1 if sft_seed is None or plan.config.sft.seeds == 1 else sft_seed
    return {
        "cell": f"start-{start}" + (f"-{seed}" if seed >= 0 else ""),
        "start": start,
        "method": "",
        "setting": "",
        "hyperparameters": {},
        "learning_rate": None,
        "size": 0,
        "seed": seed,
        "status": "done" if final["evaluate"] else "pending",
        "step": None,
        "cause": "",
        "selected": True,
        "edge": False,
        "train": None,
        **final,
        "validation": None,
        "train_s": None,
    }


def _study(plan: Plan, command: str, wall_s: float, notes: Sequence[str]) -> dict[str, Any]:
    grids, reward = plan.layout.grids, plan.config.evaluate.reward
    return {
        "name": plan.config.study,
        "command": command,
        "config_yaml": dump(plan.config),
        "created": timestamp(),
        "wall_s": round(wall_s, 1),
        "versions": {"preflab": preflab.__version__, "python": platform.python_version()}
        | {name: version(name) for name in _LIBRARIES},
        "commit": _commit(),
        "reward_model": reward if reward and names_model(reward) else None,
        "machine": {
            "cpu": _cpu(),
            "n_cpus": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "threads": plan.config.numeric.threads,
            "workers": plan.workers,
        },
        "data": dict(plan.data.info),
        "models": {
            name: {"source": source, "folder": str(plan.bench.models[name]), "digest": _digest(plan, name)}
            for name, source in (("base", plan.config.models.base), ("instruct", plan.config.models.instruct))
            if source is not None
        },
        "numeric_policy": dict(plan.layout.numeric),
        "cards": {name: {**card(grid.method), "title": grid.title} for name, grid in grids.items()},
        "bibtex": bibtex(grid.method for grid in grids.values()),
        "notes": list(notes),
    }


def _memory_notes(plan: Plan, stages: Sequence[Stage]) -> list[str]:
    """Return a sentence on what was computed at a smaller token budget than the others."""
    found = [artefact for stage in stages if (artefact := plan.explorer.find(stage.spec))]
    smaller = [artefact for artefact in found if artefact.info.get("halvings")]
    if not smaller:
        return []
    return [
        f"{len(smaller)} of {len(found)} stages ran out of memory and were computed again at a smaller token budget: "
        "the same rows in smaller parts, which changes the last digits of their sums."
    ]


def _digest(plan: Plan, name: str) -> str:
    return weights_digest(plan.bench.models[name])


def _relative(plan: Plan, artefact: Artefact | None) -> str | None:
    return None if artefact is None else str(artefact.path.relative_to(plan.folder))


def _commit() -> str:
    """Return the git commit of the package's own checkout, or an empty text for an installed package."""
    folder = Path(preflab.__file__).parent
    try:
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def command_line() -> str:
    """Return the command that was typed, with the name of the program instead of its path."""
    return shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
