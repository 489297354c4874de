"""A whole grid: one `preflab run`, start-up and report included, beside the same cells through TRL, one by one."""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks.compare import CURVE_TOLERANCE, gap_between
from benchmarks.engine import LORA, MICRO_BATCHES, commit, say
from benchmarks.jobs import BenchmarkError, Job, Result, environment, run_arm
from benchmarks.lengths import Row, write_rows
from benchmarks.measure import Usage, machine, run_measured, versions, wait_until_idle
from benchmarks.models import initial_adapter
from preflab.methods.trl import translate
from preflab.pocket.assets import model_path
from preflab.train.source import epoch_order

GRID: Final = {
    "sigmoid": (0.05, 0.1, 0.2),
    "hinge": (0.05, 0.1, 0.2),
    "ipo": (0.05, 0.1, 0.2),
    "sigmoid_norm": (1.0, 2.0, 4.0),
}
"""Loss of TRL's DPOTrainer to its values of beta; `preflab methods from-trl` says what each is here."""
GROWN: Final = {"sigmoid": 0.4, "hinge": 0.4, "ipo": 0.4, "sigmoid_norm": 8.0}
"""One more value of beta for every loss."""
SIZES: Final = (128, 256)
BATCH_SIZE: Final = 8
LEARNING_RATE: Final = 5e-4
SEED: Final = 0
PARTS: Final = {
    "preflab": "`preflab run` on the grid, from nothing",
    "grown": "`preflab run` again with one more beta for every method",
    "search": "TRL's fastest micro-batch and number of threads on one cell",
    "cells": "TRL, one process for each cell, one after another",
    "one": "TRL, all cells in one process, one after another",
    "two": "TRL, one process for each cell, two processes of one thread side by side",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as the finished study has it: what TRL must train, and the losses it must find."""

    name: str
    loss: Mapping[str, Any]
    rows: list[Row]
    losses: list[float]
    scored_tokens: int


def losses_of(betas: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return a grid as fields of TRL's DPOConfig, cell by cell."""
    return [{"loss_type": [loss], "beta": beta} for loss, values in betas.items() for beta in values]


def document(betas: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the study file of a grid."""
    methods: dict[str, dict[str, Any]] = {}
    for loss in losses_of(betas):
        same = translate("dpo", loss)
        for key, value in same.hyperparameters.items():
            found = methods.setdefault(same.method, {"learning_rate": LEARNING_RATE}).setdefault(key, [])
            if value not in found:
                found.append(value)
    return {
        "study": "grid",
        "models": {"base": "pocket:base"},
        "methods": methods,
        "sizes": list(SIZES),
        "seeds": [SEED],
        "data": {"train": "pocket:pairs", "validation": 32, "test": "pocket:test"},
        "train": {
            "batch_size": BATCH_SIZE,
            "schedule": "linear",
            "warmup_frac": 0.0,
            "lora": asdict(LORA),
            "monitor_points": 2,
            "monitor_rows": 16,
        },
        "evaluate": {"n_pairs": 32, "n_prompts": 16, "max_new_tokens": 16},
    }


class Grid:
    """The grid in a folder of its own.

    Args:
        folder: study, cache and whatever the arms leave behind; parts of one benchmark share it.
        out: folder of the results.
        trl_python: the interpreter that has TRL.
        wait_s: how long to wait before each command for other programs to leave the machine alone.
    """

    def __init__(self, folder: Path, *, out: Path, trl_python: Path, wait_s: float) -> None:
        self._folder, self._out, self._trl_python, self._wait_s = folder.resolve(), out, trl_python, wait_s
        self._folder.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)

    @property
    def study(self) -> Path:
        """Folder of the study."""
        return self._folder / "study"

    def preflab(self, part: str, betas: Mapping[str, Sequence[float]]) -> None:
        """Run the study as a user does, and add its wall time, memory and new cells to the results.

        Raises:
            BenchmarkError: the command failed, or cells are missing.
        """
        path = self._folder / f"{part}.yaml"
        path.write_text(json.dumps(document(betas)), encoding="utf-8")
        before = self._trained()
        command = [str(Path(sys.executable).with_name("preflab")), "run", str(path), "--out", str(self.study)]
        wait_until_idle(self._wait_s)
        done = run_measured(command, cwd=self._folder, env=environment(None, PREFLAB_CACHE=str(self._folder / "cache")))
        if done.code != 0:
            raise BenchmarkError(f"{' '.join(command)}: exit code {done.code}.\n{done.output[-2000:]}")
        after = self._trained()
        expected = len(losses_of(betas)) * len(SIZES)
        if len(after) != expected or not before <= after:
            raise BenchmarkError(
                f"{part}: {len(after)} cells trained, {len(before)} of them before; expected {expected}."
            )
        self._record(
            part,
            wall_s=done.wall_s,
            peak_bytes=done.peak_bytes,
            cells=len(after),
            new_cells=len(after - before),
            others_frac=done.others_frac,
        )

    def _trained(self) -> set[str]:
        return {path.parent.name for path in (self.study / "artefacts" / "train").glob("*/manifest.json")}

    def search(self) -> None:
        """Find TRL's fastest micro-batch and number of threads on the first cell of the smaller size."""
        cell = next(iter(self.cells()))
        for threads in range(1, (os.cpu_count() or 1) + 1):
            for micro in (m for m in MICRO_BATCHES if BATCH_SIZE % m == 0):
                (result,) = self._run([self._job(cell, threads=threads, micro_batch=micro)])
                self._record("search", threads=threads, micro_batch=micro, wall_s=result.wall_s, step_s=result.step_s)

    def trl(self, part: str) -> None:
        """Train every cell through TRL, check its losses against the study's, and add the wall time to the results.

        Raises:
            BenchmarkError: a cell is not the same.
        """
        threads, micro = self._best()
        cells = list(self.cells())
        wait_until_idle(self._wait_s)
        usage = Usage()
        if part == "one":
            found = self._run([self._job(cell, threads=threads, micro_batch=micro) for cell in cells])
        else:
            jobs = [self._job(cell, threads=1 if part == "two" else threads, micro_batch=micro) for cell in cells]
            with ThreadPoolExecutor(2 if part == "two" else 1) as pool:
                found = list(chain.from_iterable(pool.map(lambda job: self._run([job]), jobs)))
        wall_s, others_frac = usage.wall_s, usage.others_frac
        gaps = {cell.name: cell_gap(cell, result) for cell, result in zip(cells, found, strict=True)}
        self._record(
            part,
            wall_s=wall_s,
            peak_bytes=max(result.peak_bytes for result in found) * (2 if part == "two" else 1),
            cells=len(cells),
            threads=1 if part == "two" else threads,
            micro_batch=micro,
            training_s=sum(sum(result.step_s) for result in found),
            gaps=gaps,
            versions=found[0].versions,
            others_frac=others_frac,
        )

    def _best(self) -> tuple[int, int]:
        """Return TRL's fastest number of threads and micro-batch.

        Raises:
            BenchmarkError: nothing was searched.
        """
        found = [record["values"] for record in read(self._out) if record["part"] == "search"]
        if not found:
            raise BenchmarkError("no setting of TRL was searched; add `search` to --parts.")
        best = min(found, key=lambda values: sum(values["step_s"]))
        return best["threads"], best["micro_batch"]

    def cells(self) -> Iterator[Cell]:
        """Yield the cells of the finished study that the grid names, with rows in the order of training.

        Raises:
            BenchmarkError: the study has not run in this folder.
        """
        index = self.study / "index.json"
        if not index.exists():
            raise BenchmarkError("the study has not run in this folder; add `preflab` to --parts, or name --work.")
        records = [cell for cell in json.loads(index.read_text(encoding="utf-8"))["cells"] if cell["train"]]
        rows = self._rows()
        for loss in losses_of(GRID):
            same = translate("dpo", loss)
            for size in SIZES:
                (record,) = (
                    r
                    for r in records
                    if (r["method"], r["hyperparameters"], r["size"]) == (same.method, dict(same.hyperparameters), size)
                )
                log = pq.read_table(self.study / record["train"] / "log.parquet")
                order = epoch_order([s for s in SIZES if s <= size], seed=SEED, epoch=0)
                mine = [rows[i] for i in order]
                scored = sum(log["n_tokens"].to_pylist()) - sum(len(row.prompt) for row in mine)
                yield Cell(record["cell"], loss, mine, log["loss"].to_pylist(), scored)

    def _rows(self) -> list[Row]:
        (path,) = (self.study / "artefacts" / "data").glob("*/train.parquet")
        table = pq.read_table(path, columns=["prompt_ids", "chosen_ids", "rejected_ids"]).slice(0, max(SIZES))
        return [Row(*ids) for ids in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)]

    def _job(self, cell: Cell, *, threads: int, micro_batch: int) -> Job:
        adapter = self._folder / "adapter"
        if not adapter.exists():
            initial_adapter(model_path("base"), adapter, settings=LORA, dtype="float32", device="cpu", seed=SEED)
        scratch = Path(tempfile.mkdtemp(dir=self._folder))
        return Job(
            name=cell.name,
            model=str(model_path("base")),
            adapter=str(adapter),
            rows=str(write_rows(cell.rows, scratch / "rows.jsonl")),
            loss=cell.loss,
            batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            threads=threads,
            options={
                "tuned": True,
                "micro_batch": micro_batch,
                "cache": str(scratch / "cache"),
                "output": str(scratch / "out"),
                "save": str(scratch / "model"),
            },
        )

    def _run(self, jobs: Sequence[Job]) -> list[Result]:
        return run_arm("trl", jobs, python=self._trl_python)

    def _record(self, part: str, **values: Any) -> None:
        say(f"{part}: {values['wall_s']:.1f} s")
        record = {
            "part": part,
            "commit": commit(),
            "time": time.strftime("%Y-%m-%d %H:%M:%S"),
            "machine": machine("cpu"),
            "values": {"versions": versions(), **values},
        }
        with (self._out / "study.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record) + "\n")


def cell_gap(cell: Cell, result: Result) -> float:
    """Return the largest gap between a cell's loss curve and TRL's, in units of its first loss where that exceeds 1.

    Raises:
        BenchmarkError: another number of steps or scored tokens, or a gap above the tolerance.
    """
    unit = max(1.0, abs(cell.losses[0]))
    gap = gap_between(cell.losses, result.losses) / unit
    if cell.scored_tokens != result.scored_tokens or gap > CURVE_TOLERANCE:
        raise BenchmarkError(
            f"{cell.name}: not what TRL trains: loss curves within {gap:.1e} (at most {CURVE_TOLERANCE:g}), "
            f"{len(cell.losses)} and {len(result.losses)} steps, {cell.scored_tokens} and {result.scored_tokens} "
            "scored tokens; no time is kept."
        )
    return gap


def read(out: Path) -> list[dict[str, Any]]:
    """Return all records of a results folder."""
    path = out / "study.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def run(grid: Grid, parts: Sequence[str]) -> None:
    """Measure the parts asked for, in the order of `PARTS`; TRL's need what `preflab` and `search` leave.

    Raises:
        BenchmarkError: a part failed, or TRL trained something else.
    """
    for part in PARTS:
        if part not in parts:
            continue
        if part == "preflab":
            grid.preflab(part, GRID)
        elif part == "grown":
            grid.preflab(part, {loss: (*betas, GROWN[loss]) for loss, betas in GRID.items()})
        elif part == "search":
            grid.search()
        else:
            grid.trl(part)
