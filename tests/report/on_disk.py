"""An invented study as a folder on disk, laid out and signed as the store does it, without the hours of training.

`python -m tests.report.on_disk FOLDER CELLS` writes one of about that many cells.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tests.report.synthetic import HOSTILE, Shape, make

from preflab.report.tables import StudyTables
from preflab.store.artefacts import write_manifest

LARGE = Shape(sizes=(256, 1024, 4096), seeds=13, prompts=128)
"""8 methods, 3 start points, 3 sizes, 13 seeds and two second settings: about 1,000 cells."""
SMALL = Shape(methods=("dpo", "ipo", "simpo", "orpo"), sizes=(256, 1024), seeds=3, prompts=128)
"""About 100 cells."""


def write_study(folder: Path, tables: StudyTables) -> Path:
    """Write tables as the folder of a finished study and return it."""
    cells = []
    rng = np.random.default_rng(0)
    kinds = ("pairs", "responses", "snapshots", "log")
    parts = {name: dict(tuple(getattr(tables, name).groupby("cell"))) for name in kinds}
    for cell in tables.cells.replace({np.nan: None}).to_dict("records"):
        place = cell["cell"]
        row = dict(cell, train=None, evaluate=None, diagnose=None, gradients=None, judge=None, benchmarks={})
        if place in parts["pairs"]:
            row["evaluate"] = f"artefacts/evaluate/{place}"
            measured = [name for name in ("pairs", "responses", "snapshots") if place in parts[name]]
            files = {name: parts[name][place].drop(columns="cell") for name in measured}
            _artefact(folder / row["evaluate"], files)
        if cell["method"]:
            row["train"] = f"artefacts/train/{place}"
            row["validation"] = float(rng.normal(0.6, 0.02)) if cell["status"] == "done" else None
            steps = [0, 16, 32, 48, int(cell["n_steps"])]
            log = parts["log"].get(place, _log(int(cell["n_steps"]))).drop(columns="cell", errors="ignore")
            _artefact(folder / row["train"], {"monitor": _monitor(steps, rng), "log": log.assign(n_rows=16)})
        cells.append(row)
    index = {"schema_version": 1, "study": tables.study, "cells": cells}
    (folder / "index.json").write_text(json.dumps(index, default=_plain, allow_nan=False), encoding="utf-8")
    plan = {"study": tables.study.get("name"), "workers": 1, "stages": []}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (folder / "events.jsonl").touch()
    return folder


def _artefact(folder: Path, files: dict[str, pd.DataFrame]) -> None:
    folder.mkdir(parents=True)
    for name, table in files.items():
        table.to_parquet(folder / f"{name}.parquet")
    write_manifest(folder, {"stage": folder.parent.name}, {})


def _monitor(steps: list[int], rng: np.random.Generator, n: int = 64) -> pd.DataFrame:
    """Return log-probs of `n` pairs and of one unseen answer each, at every step."""
    base = pd.DataFrame({"step": np.repeat(steps, n)})
    for k, column in enumerate(("chosen", "rejected", "mismatched")):
        start = np.tile(-36 - k + rng.normal(0, 6, n), len(steps))
        base[f"{column}_total"] = start - (k + 1) * base["step"] / 20 + rng.normal(0, 0.5, len(base)) * (base.step > 0)
        base[f"{column}_length"] = 24
    return base


def _log(n_steps: int) -> pd.DataFrame:
    steps = np.arange(1, n_steps + 1)
    return pd.DataFrame({"step": steps, "loss": 0.69, "grad_norm": 1.0, "learning_rate": 3e-4, "tokens": 70 * 16})


def _plain(value: object) -> object:
    value = value.item() if hasattr(value, "item") else str(value)
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    shape = LARGE if int(sys.argv[2]) > 300 else SMALL
    Path(sys.argv[1]).mkdir(parents=True)
    print(write_study(Path(sys.argv[1]), make(Shape(**{**vars(shape), "texts": HOSTILE}))))
